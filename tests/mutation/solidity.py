"""`python -m tests.mutation.solidity`: each check of the contracts taken out in turn.

All mutants are compiled at once: behind each check that would refuse, the balance of an address of
its own is asked, and a mutant is switched on by one wei at its address when the chain (anvil)
starts. So solc runs once, and constructors and libraries are mutants as well. A check is one
alternative of a condition (`A || B` has two) behind which stands a revert or a reason, or the call
of a function that checks.

The tests of the contracts (TESTS) are run once without a mutant, and each call is traced: whose
balances it asks says which checks have refused there. Then each mutant is shown to those tests, by
a child for each test, until one fails. Which no test has met is named at once. Needs npm, for solc.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "adapters" / "evm" / "contracts"
FIRST = 0x6D7574616E740000
"""The address of mutant 0."""
SECONDS = 600
MOST_TESTS = 6
"""That a mutant is shown to: who has met a check and does not notice it is seldom the last."""
_HERE = "tests/adapters/evm/test_"
SOURCES = (
    "Canonical", "Checkpoint", "Endpoint", "Escrow", "Itemised", "Merkle", "Notices", "Reader",
    "Registry",
)  # fmt: skip
TESTS = (
    "endpoint_checks", "reader", "merkle", "notices", "endpoint_rules", "endpoint", "recovery",
    "escrow", "escrow_lines", "books",
)  # fmt: skip
_BEHIND = "nothing that a caller chooses lies behind his text in memory, so it fails below"
EXPLAINED: dict[str, str] = {
    "Canonical::expect::pos + length > raw.length": _BEHIND,
    "Canonical::_any::pos >= raw.length": _BEHIND,
    "Canonical::number::pos + count > t.raw.length": _BEHIND,
    "Canonical::octets::pos >= raw.length": _BEHIND,
    "Checkpoint::recover::s > HALF_N": (
        "s has 255 bits: of the high ones only 2^127 fit, and nobody finds a nonce that gives one"
    ),
    "Endpoint::_verify::row[i] == 0": "no leaf hashes to zero, so the root is another then",
}
"""A part of a mutant's name, and why no test can notice it."""
_IF = re.compile(r"\bif \(")
_REASON = re.compile(
    r'\s*\{?\s*(?:revert [\w.]+\(\)|return (?:"[A-Z_]+"|[A-Z_]+\.selector|NOOP|reason|'
    r"order\.amounts))\s*;"
)
_CALL = re.compile(
    r"^( +)((?:_check\w+|_verify\w*|_reserveGas|(?:Checkpoint|Merkle)\.verify\w+|t\.end)\(.*\);)$",
    re.M,
)
_FUNCTION = re.compile(r"\b(?:function|modifier) (\w+)|\b(constructor)\(")
_LIBRARY = """// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

library Mutant {{
    function alive(uint256 id) internal pure returns (bool) {{
        return _pure(_alive)(id);
    }}

    function _alive(uint256 id) private view returns (bool) {{
        return address(uint160({first} + id)).balance == 0;
    }}

    function _pure(function(uint256) view returns (bool) f)
        private
        pure
        returns (function(uint256) pure returns (bool) g)
    {{
        assembly {{
            g := f
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A check that one number takes out."""

    number: int
    contract: str
    line: int
    name: str
    """Contract, function and what is gone, without the line."""


def instrumented(contract: str, text: str, first: int) -> tuple[str, list[Mutant]]:
    """The source with each check behind its number, and its mutants, numbered from `first`."""
    found: list[Mutant] = []
    edits: list[tuple[int, int, str]] = []

    def note(place: int, what: str) -> int:
        names = [m.group(1) or m.group(2) for m in _FUNCTION.finditer(text, 0, place)]
        name = f"{contract}::{names[-1] if names else ''}::{' '.join(what.split())}"
        name += "" if all(m.name != name for m in found) else f" #{len(found)}"
        line = text.count("\n", 0, place) + 1
        found.append(Mutant(first + len(found), contract, line, name))
        return found[-1].number

    for start, end in _conditions(text):
        parts = [(part, note(at, part)) for at, part in _alternatives(text, start, end)]
        edits.append((start, end, " || ".join(f"(({p}) && Mutant.alive({n}))" for p, n in parts)))
    for call in _CALL.finditer(text):
        number = note(call.start(2), call.group(2))
        edits.append((call.start(2), call.end(2), f"if (Mutant.alive({number})) {call.group(2)}"))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    head = "pragma solidity 0.8.37;\n"
    return text.replace(head, f'{head}\nimport {{Mutant}} from "Mutant.sol";\n', 1), found


def _conditions(text: str) -> Iterator[tuple[int, int]]:
    """Where the condition of each check stands."""
    for opening in _IF.finditer(text):
        start, depth, pos = opening.end(), 1, opening.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[pos], 0)
            pos += 1
        if _REASON.match(text, pos):
            yield start, pos - 1


def _alternatives(text: str, start: int, end: int) -> list[tuple[int, str]]:
    """(place, text) of the parts of a condition that `||` joins at its top."""
    depth, at, found = 0, start, []
    for pos in range(start, end):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[pos], 0)
        if depth == 0 and text.startswith(" || ", pos):
            found.append((at, text[at:pos]))
            at = pos + 4
    return [*found, (at, text[at:end])]


def build(folder: Path) -> list[Mutant]:
    """Compiles all mutants into `folder`/artifacts.json."""
    mutants: list[Mutant] = []
    (folder / "src").mkdir()
    for file in sorted((CONTRACTS / "src").glob("*.sol")):
        text = file.read_text()
        if file.stem in SOURCES:
            text, found = instrumented(file.stem, text, len(mutants))
            mutants += found
        (folder / "src" / file.name).write_text(text)
    (folder / "src" / "Mutant.sol").write_text(_LIBRARY.format(first=hex(FIRST)))
    for name in ("build.mjs", "package.json", "package-lock.json"):
        shutil.copy(CONTRACTS / name, folder / name)
    modules = CONTRACTS / "node_modules"
    if not modules.exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit"], cwd=CONTRACTS, check=True)
    (folder / "node_modules").symlink_to(modules)
    subprocess.run(["node", "build.mjs"], cwd=folder, check=True, timeout=3600)
    return mutants


def anvil_of(folder: Path) -> Path:
    """anvil, which takes contracts that the questions have made too long."""
    from tests.adapters.evm.ledger import anvil_binary

    script = folder / "anvil"
    script.write_text(f'#!/bin/sh\nexec {anvil_binary()} --code-size-limit 131072 "$@"\n')
    script.chmod(0o755)
    return script


def run(folder: Path, mutant: int, tests: Sequence[str]) -> tuple[bool, str]:
    """(whether all passed, what pytest said) with one mutant; -1: with none, to write hits."""
    environment = {
        **os.environ,
        "LIANQIAO_MUTANT": hex(FIRST + mutant) if mutant >= 0 else "",
        "LIANQIAO_MUTANT_FOLDER": str(folder),
        "LIANQIAO_ANVIL": str(folder / "anvil"),
        "LIANQIAO_NEVER_SKIP": "1",
    }
    command = [
        sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "slow and not deep",
        "-p", "tests.mutation.solidity_plugin", "--tb=no", *(["-x"] if mutant >= 0 else []), *tests,
    ]  # fmt: skip
    seconds = SECONDS if mutant >= 0 else 20 * SECONDS
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False, "hangs"
    return done.returncode == 0, done.stdout


def covered(folder: Path) -> dict[int, list[str]]:
    """The tests in which each check refuses, quickest first."""
    passed, said = run(folder, -1, [f"{_HERE}{name}.py" for name in TESTS])
    if not (folder / "hits.json").exists():
        sys.exit(f"the tests do not run:\n{said[-3000:]}")
    hits = json.loads((folder / "hits.json").read_text())
    if not passed:
        for test in re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.M):
            print(f"fails without a mutant, so it shows nothing: {test}", flush=True)
            hits.pop(test, None)
    found: dict[int, list[str]] = {}
    for test, (_, numbers) in sorted(hits.items(), key=lambda item: float(item[1][0])):
        for number in numbers:
            found.setdefault(int(number), []).append(test)
    return found


def noticed(folder: Path, mutant: Mutant, tests: Sequence[str]) -> str:
    """The test that notices a mutant; empty where none does."""
    for test in tests[:MOST_TESTS]:
        if not run(folder, mutant.number, [test])[0]:
            return test
    return ""


def explained(mutant: Mutant) -> str:
    """Why no test can notice it; empty: it is a gap."""
    return next((why for part, why in EXPLAINED.items() if part in mutant.name), "")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.solidity")
    parser.add_argument("--only", default="", help="a contract, or a part of a mutant's name")
    parser.add_argument("--share", default="1/1", help="such as 3/40: the third of forty parts")
    parser.add_argument("--jobs", type=int, default=1, help="children side by side")
    parser.add_argument("--all", action="store_true", help="name those that are noticed, too")
    options = parser.parse_args()
    part, of = (int(n) for n in options.share.split("/"))
    lost = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        every = build(folder)
        anvil_of(folder)
        met = covered(folder)
        chosen = [m for m in every if options.only in m.name][part - 1 :: of]
        print(f"{len(chosen)} of {len(every)} mutants, {len(met)} met by tests", flush=True)
        started = time.monotonic()
        with ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(lambda m: (m, noticed(folder, m, met.get(m.number, []))), chosen)
            for mutant, test in found:
                why = explained(mutant)
                if not test and not why:
                    lost += 1
                    count = len(met.get(mutant.number, []))
                    print(f"SURVIVES ({count} tests) line {mutant.line}: {mutant.name}", flush=True)
                elif options.all or not test:
                    print(f"{mutant.name}\n    {test or why}", flush=True)
        print(f"{len(chosen)} mutants, {lost} survive, {time.monotonic() - started:.0f} s")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
