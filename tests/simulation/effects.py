"""Which kinds of effects there are, read from the sources: what the table of points must meet.

commit ACTION        an action of relay.action_bytes, in a batch of a node
commit FUNCTION      a function that commits by `Store.run`, outside batches
file FUNCTION        a function that writes a file which must not be lost
call NAME            a method that another chain, or a witness, is asked by
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from relay import chain, cosigning, watch
from relay.action_bytes import _FORMS

RELAY = Path(__file__).parents[2] / "relay"
_STORES = ("store", "_store")


def all_kinds() -> set[str]:
    """Every kind, as above."""
    return {
        *(f"commit {form.type.__name__}" for form in _FORMS.values()),
        *(f"commit {where}" for where in _who(_commits)),
        *(f"file {where}" for where in _who(_writes_file)),
        *(f"call {name}" for module in (chain, watch, cosigning) for name in _methods(module)),
    }


def kind_of(seen: str) -> str:
    """The kind of an effect that was met (tests.simulation.fate.Single): who met it is left out."""
    way, *_, what = seen.split()
    # What a witness remembers is asked about as a commit: it decides what is signed.
    return f"{'file' if what.startswith('SeenHeads.') else way} {what}"


def _methods(module: ModuleType) -> Iterator[str]:
    for kind in vars(module).values():
        if getattr(kind, "_is_protocol", False) and kind.__module__ == module.__name__:
            yield from (name for name in vars(kind) if not name.startswith("_"))


def _who(does: Callable[[ast.expr, str], bool]) -> Iterator[str]:
    """Functions of the product, `Class.name` or `name`, that make such a call; of a class that
    makes it in one `_write`, the methods that call this."""
    for path in sorted(RELAY.rglob("*.py")):
        for scope in ast.parse(path.read_text()).body:
            inner = scope.body if isinstance(scope, ast.ClassDef) else [scope]
            owner = f"{scope.name}." if isinstance(scope, ast.ClassDef) else ""
            functions = {
                one.name: [node.func for node in ast.walk(one) if isinstance(node, ast.Call)]
                for one in inner
                if isinstance(one, ast.FunctionDef)
            }
            found = {n for n, calls in functions.items() if any(does(c, owner) for c in calls)}
            if owner and "_write" in found:
                found -= {"_write"}
                found |= {n for n, calls in functions.items() if any(map(_is_write, calls))}
            yield from (owner + name for name in found)


def _commits(called: ast.expr, owner: str) -> bool:
    if not isinstance(called, ast.Attribute) or called.attr != "run":
        return False
    of = called.value
    name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
    return name in _STORES or (name == "self" and owner == "Store.")


def _writes_file(called: ast.expr, _: str) -> bool:
    return isinstance(called, ast.Name) and called.id == "replace_file"


def _is_write(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr == "_write"
