"""Puts one mutant into this process: the code of the function object is exchanged in place.

Whoever has imported the function by name runs the mutant too; nothing is written to disk, and no
module is loaded twice.
"""

from __future__ import annotations

import ast
import gc
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tests.mutation.mutants import ROOT, Mutant, mutated_code


def apply(mutant: Mutant) -> None:
    """From here on this process runs the mutant. Raises LookupError where it cannot be put in."""
    path = ROOT / mutant.file
    module = importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
    whole = _named(_compiled(path, mutated_code(path, mutant)), mutant)
    function = _function(module, mutant.function)
    inner = zip(_codes(function.__code__), _codes(whole), strict=False)
    _exchange({old: new for old, new in inner if old.co_qualname == new.co_qualname})
    function.__code__ = whole


def _compiled(path: Path, tree: ast.Module) -> CodeType:
    return compile(tree, str(path), "exec")


def _named(compiled: CodeType, mutant: Mutant) -> CodeType:
    wanted = [c for c in _codes(compiled) if c.co_qualname == mutant.function]
    wanted = [c for c in wanted if c.co_firstlineno == mutant.first_line]
    if len(wanted) != 1:
        raise LookupError(f"{mutant.name}: {len(wanted)} functions of that name")
    return wanted[0]


def _exchange(codes: dict[CodeType, CodeType]) -> None:
    """Functions that the outer one has made already, such as those in a table, change too."""
    if not codes:
        return
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and found.__code__ in codes:
            found.__code__ = codes[found.__code__]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _function(module: Any, qualname: str) -> FunctionType:
    holder = module
    for name in qualname.split("."):
        holder = inspect.getattr_static(holder, name)
    while not isinstance(holder, FunctionType):
        for inner in ("fget", "__func__", "__wrapped__", "func"):
            found = getattr(holder, inner, None)
            if found is not None:
                holder = found
                break
        else:
            raise LookupError(f"{qualname} is no function")
    while hasattr(holder, "__wrapped__"):  # contextmanager and its like
        holder = holder.__wrapped__
    return holder
