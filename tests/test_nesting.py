"""Nesting is counted before a parser that recurses sees the text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from relay.nesting import loads, nests_deeper

DEEP = """
import sys
sys.setrecursionlimit(1_000_000)  # as some libraries do
from relay.canonical import decode, parse
from relay.errors import Malformed
from relay.nesting import loads
from relay.record.strict import text_of
for call in (decode, parse, lambda raw: loads(raw, 64), lambda raw: text_of(raw, "x")):
    for raw in (b"[" * 400_000, b'{"a":' * 200_000, b'[{"a":' * 100_000):
        try:
            call(raw)
        except (Malformed, ValueError):
            continue
        raise SystemExit("taken")
print("refused")
"""


@pytest.mark.parametrize(
    ("text", "deepest"),
    [
        ("1", 0),
        ("[]", 1),
        ('{"a":[{"b":[]}]}', 4),
        ('["[[[[[["]', 1),
        (r'["\"[[[[[["]', 1),
        (r'["\\",[[]]]', 3),
        ("[[]" * 3, 4),
        ('["[[[[[[', 1),
    ],
)
def test_the_deepest_level_is_counted_outside_strings(text: str, deepest: int) -> None:
    assert not nests_deeper(text, deepest)
    assert deepest == 0 or nests_deeper(text, deepest - 1)


def test_what_is_too_deep_is_no_value() -> None:
    assert loads(b"[[1]]", 2) == [[1]]
    with pytest.raises(ValueError, match="nested too deeply"):
        loads(b"[[1]]", 1)


def test_no_text_ends_the_process_whatever_the_interpreter_allows() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEEP], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


@pytest.mark.slow
def test_the_library_of_evm_chains_leaves_the_limit_as_it_was() -> None:
    pytest.importorskip("web3")
    code = (
        "import sys; before = sys.getrecursionlimit(); import adapters.evm.calls; "
        "print(sys.getrecursionlimit() == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.stdout == "True\n", done.stderr
