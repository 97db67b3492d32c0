"""The map of tests and lines in a file, for the next run: measuring every test takes minutes.

Of a later run only those tests are measured again that are new, that failed, or whose file has
changed. Lines are kept by function: one that has not changed keeps its tests wherever it stands
now; one that has is shown to all tests that ran any line of it, and a new one to all that ran any
line of its file. So what is guessed is too many tests and never too few, but for what changed
elsewhere (fixtures).
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from tests.mutation.mutants import ROOT, functions, targets

Lines = dict[tuple[str, int], set[str]]


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it stood: its lines, and what it was."""

    name: str
    first: int
    last: int
    digest: str


def load(kept: Path) -> tuple[Lines, dict[str, float]]:
    """(tests by line, seconds by test) of what still holds; nothing where there is no file."""
    if not kept.exists():
        return defaultdict(set), {}
    body = json.loads(kept.read_text(encoding="utf-8"))
    tests = list(body["seconds"])
    fresh = {t for t in tests if body["files"].get(_file_of(t)) == _digest(_file_of(t))}
    fresh -= set(body["failed"])
    then: Lines = defaultdict(set)
    for file, line, numbers in body["lines"]:
        then[(file, line)] = {tests[n] for n in numbers} & fresh
    lines: Lines = defaultdict(set)
    for path in targets():
        file = path.relative_to(ROOT).as_posix()
        known = [Function(**one) for one in body["functions"].get(file, ())]
        carry(file, known, _table(path.read_bytes()), then, lines)
    return lines, {t: s for t, s in body["seconds"].items() if t in fresh}


def save(kept: Path, lines: Lines, seconds: dict[str, float], failed: list[str]) -> None:
    """Writes what `load` reads."""
    numbers = {test: number for number, test in enumerate(seconds)}
    body = {
        "files": {name: _digest(name) for name in sorted({_file_of(t) for t in seconds})},
        "functions": {
            path.relative_to(ROOT).as_posix(): [asdict(f) for f in _table(path.read_bytes())]
            for path in targets()
        },
        "seconds": seconds,
        "failed": failed,
        "lines": [
            [file, line, sorted(numbers[t] for t in tests if t in numbers)]
            for (file, line), tests in lines.items()
        ],
    }
    kept.write_text(json.dumps(body), encoding="utf-8")


def carry(
    file: str,
    known: Iterable[Function],
    present: Iterable[Function],
    then: Lines,
    lines: Lines,
) -> None:
    """Adds to `lines` what `then` says of one file, whose functions were `known`."""
    by_name = {function.name: function for function in known}
    whole = set().union(*(tests for (name, _), tests in then.items() if name == file))
    for function in present:
        old = by_name.get(function.name)
        before = range(old.first, old.last + 1) if old else range(0)
        ran = set().union(*(then.get((file, n), set()) for n in before)) if old else whole
        for offset in range(function.last - function.first + 1):
            same = old is not None and old.digest == function.digest
            found = then.get((file, before[offset]), set()) if same else ran
            lines[(file, function.first + offset)] |= found


def _table(source: bytes) -> list[Function]:
    text = source.decode().splitlines()
    found = []
    for name, node in functions(ast.parse(source)):
        first, last = node.lineno, node.end_lineno or node.lineno
        digest = sha256("\n".join(text[first - 1 : last]).encode()).hexdigest()
        found.append(Function(name, first, last, digest))
    return found


def _file_of(test: str) -> str:
    return test.split("::")[0]


def _digest(name: str) -> str:
    path = ROOT / name
    return sha256(path.read_bytes()).hexdigest() if path.exists() else ""
