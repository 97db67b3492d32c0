"""How a bug is planted: an edit of the product's own source, made in this process.

A line is taken out or changed, and where the line is not there any more the planting fails, so that
no bug outlives the code it spoils (tests.simulation.planted, tests.simulation.money.planted).
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.simulation import harm


@dataclass(frozen=True, slots=True)
class Edit:
    """`old` becomes `new` in the source of `holder.name`."""

    holder: Any
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug."""

    name: str
    invariants: tuple[str, ...]
    within: int
    plant: tuple[Edit | harm.Swap, ...]


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The product with this bug."""
    with ExitStack() as stack:
        for one in bug.plant:
            replacement = _edited(one) if isinstance(one, Edit) else one.replacement
            before = inspect.getattr_static(one.holder, one.name)
            setattr(one.holder, one.name, replacement)
            stack.callback(setattr, one.holder, one.name, before)
            if inspect.ismodule(one.holder):
                _replace_everywhere(before, replacement, stack)
        yield


def _replace_everywhere(before: Any, replacement: Any, stack: ExitStack) -> None:
    """Also where the product has imported it by name, or keeps it in a table of calls."""
    for name, module in list(sys.modules.items()):
        if not name.startswith("relay."):
            continue
        tables = [v for v in vars(module).values() if isinstance(v, dict)]
        for table in (vars(module), *tables):
            for key in [key for key, value in table.items() if value is before]:
                table[key] = replacement
                stack.callback(table.__setitem__, key, before)


def _edited(edit: Edit) -> Callable[..., Any]:
    original = getattr(edit.holder, edit.name)
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(edit.old) != 1:
        raise LookupError(f"{edit.name} does not hold {edit.old!r} once: plant this bug anew")
    made: dict[str, Callable[..., Any]] = {}
    # Annotations stay unevaluated, as in the module that the lines come from.
    lines = "from __future__ import annotations\n" + source.replace(edit.old, edit.new)
    exec(lines, vars(inspect.getmodule(original)), made)
    return made[edit.name]
