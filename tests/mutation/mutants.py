"""The mutants: every way in which one check of a module can be taken out, inverted or weakened.

A mutant is named by what it changes, not by a line number: `file::function::check -> change #n`,
so that the list of explained survivors outlives edits elsewhere in the file.

| kind | what becomes of the check |
| --- | --- |
| `never` | the condition of an `if` (statement, expression, comprehension) is False: deleted |
| `invert` | the condition is negated |
| `drop` | one operand of an `and` or `or` is taken out |
| `edge` | `<` becomes `<=`, `>` becomes `>=`, and back: the bound moves by one |
| `skip` | a call whose result nobody uses, such as `check_…` or `verify_…`, is not made |
| `result` | a returned condition is negated |
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = (
    "relay/light/*.py",
    "relay/packet*.py",
    "relay/bundle*.py",
    "relay/channel.py",
    "relay/contracts/**/*.py",
    "adapters/*/light.py",
    "adapters/*/light/*.py",
    "adapters/evm/books/*.py",
)
_EDGES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one function. `line` is where the changed check stands today."""

    file: str
    function: str
    kind: str
    check: str
    number: int
    """Tells checks of one text in one function apart."""
    line: int
    last_line: int
    first_line: int
    """First line of the function, decorators included."""
    change: Callable[[ast.AST], None]
    """Applies the change to a fresh copy of the function's tree."""

    @property
    def name(self) -> str:
        """The stable name, as the list of survivors has it."""
        return f"{self.file}::{self.function}::{self.kind}::{self.check} #{self.number}"


def targets() -> list[Path]:
    """The files whose checks are mutated, in order."""
    found = {p for pattern in TARGETS for p in ROOT.glob(pattern) if p.name != "__init__.py"}
    return sorted(found)


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of one file, in order of their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    file = path.relative_to(ROOT).as_posix()
    found: list[Mutant] = []
    for qualname, function in functions(tree):
        seen: dict[tuple[str, str], int] = {}
        for index, node in enumerate(ast.walk(function)):
            for kind, text, change in _changes(node):
                number = seen[(kind, text)] = seen.get((kind, text), 0) + 1
                first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
                line, last = _lines(node)
                whole = _at(index, change)
                found.append(Mutant(file, qualname, kind, text, number, line, last, first, whole))
    return found


def _lines(node: ast.AST) -> tuple[int, int]:
    """The first and last line of the check itself: of an `if`, its condition and not its body."""
    if isinstance(node, ast.If):
        return node.lineno, node.test.end_lineno or node.lineno
    if isinstance(node, ast.comprehension):  # it has no place of its own, its parts have
        return node.target.lineno, node.ifs[-1].end_lineno or node.target.lineno
    assert isinstance(node, ast.expr | ast.stmt)
    return node.lineno, node.end_lineno or node.lineno


def mutated_code(path: Path, mutant: Mutant) -> ast.Module:
    """The module's tree with this one change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for qualname, function in functions(tree):
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        if qualname == mutant.function and first == mutant.first_line:
            names = {id(inner): _loaded(inner) for inner in _inner(function)}
            mutant.change(function)
            for inner in _inner(function):
                inner.body.insert(0, _mention(names[id(inner)]))
            return ast.fix_missing_locations(tree)
    raise LookupError(f"{mutant.name} is not there")


def _inner(function: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [one for one in ast.walk(function) if isinstance(one, kinds) and one is not function]


def _loaded(function: ast.AST) -> list[str]:
    names = [one for one in ast.walk(function) if isinstance(one, ast.Name)]
    return sorted({one.id for one in names if isinstance(one.ctx, ast.Load)})


def _mention(names: list[str]) -> ast.If:
    """Never runs. A function within another keeps what it takes from it although the change may
    have taken out the one place that used it: only then can its code be exchanged."""
    mentioned: list[ast.stmt] = [ast.Expr(ast.Name(name, ast.Load())) for name in names]
    return ast.If(ast.Constant(value=False), mentioned or [ast.Pass()], [])


def functions(
    node: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(qualified name, function) of all functions of a module and of its classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if not _is_protocol(child):
                yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(b, ast.Name) and b.id == "Protocol" for b in node.bases)


def _at(index: int, change: Callable[[ast.AST], None]) -> Callable[[ast.AST], None]:
    def apply(function: ast.AST) -> None:
        change(list(ast.walk(function))[index])

    return apply


_Change = tuple[str, str, Callable[[ast.AST], None]]


def _changes(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.If | ast.IfExp):
        text = _text(node.test)
        if not _typing_only(text):
            yield "never", text, _set("test", ast.Constant(value=False))
            yield "invert", text, _negate("test")
    elif isinstance(node, ast.comprehension):
        for position, test in enumerate(node.ifs):
            yield "never", _text(test), _filter(position)
    elif isinstance(node, ast.BoolOp):
        for position, value in enumerate(node.values):
            yield "drop", f"{_text(value)} of {_text(node)}", _drop(position)
    elif isinstance(node, ast.Compare):
        for position, op in enumerate(node.ops):
            if type(op) in _EDGES:
                yield "edge", f"{_text(node)} @{position}", _edge(position)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "skip", _text(node), _set("value", ast.Constant(value=None))
    elif isinstance(node, ast.Return) and _is_judgement(node.value):
        yield "result", _text(node), _negate("value")


def _is_judgement(value: ast.AST | None) -> bool:
    """Whether a returned expression says yes or no."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in ("all", "any", "bool")
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.op, ast.Not)
    return isinstance(value, ast.Compare | ast.BoolOp)


def _typing_only(text: str) -> bool:
    return text == "TYPE_CHECKING"


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def _set(field: str, value: ast.expr) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, field, copy.deepcopy(value))


def _negate(field: str) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        setattr(node, field, ast.UnaryOp(op=ast.Not(), operand=getattr(node, field)))

    return change


def _filter(position: int) -> Callable[[ast.AST], None]:
    """A comprehension's filter is deleted by letting everything pass."""

    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.comprehension)
        node.ifs[position] = ast.Constant(value=True)

    return change


def _drop(position: int) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.BoolOp)
        del node.values[position]
        if len(node.values) == 1:  # `x and x` keeps the node's place in the tree
            node.values.append(copy.deepcopy(node.values[0]))

    return change


def _edge(position: int) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.Compare)
        node.ops[position] = _EDGES[type(node.ops[position])]()

    return change
