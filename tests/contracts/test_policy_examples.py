"""The policy documents in deploy/: they load as they are, and their README tells every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from relay import canonical
from relay.contracts import policy
from relay.contracts.policy import MAX_POLICY_BYTES
from relay.contracts.policy.values import Kind
from relay.contracts.recognition import CONTRACT as RECOGNITION
from tests.contracts.ledger import Ledger

FOLDER = Path(__file__).parents[2] / "deploy" / "policy"
README = (FOLDER / "README.md").read_text()
EXAMPLES = sorted(FOLDER.glob("*.example.json"))


def _document(path: Path) -> bytes:
    return canonical.encode(canonical.parse(path.read_bytes(), MAX_POLICY_BYTES))


def test_there_is_an_example_of_every_kind() -> None:
    assert [path.name.partition(".")[0] for path in EXAMPLES] == sorted(kind.value for kind in Kind)


def test_the_whole_set_loads_and_is_in_force() -> None:
    relay = Ledger("relay-1", RECOGNITION, now=1_800_000_000)
    for path in EXAMPLES:
        relay.call("policy.load", _document(path))
    lines = policy.index(relay)
    assert {line.kind for line in policy.in_force(lines, relay.now)} == set(Kind)
    current = policy.policy_at(relay, lines, relay.now)
    receiver = current.institutions["sh-h1"]
    rule = current.rule_for(receiver)
    assert rule is not None
    assert rule.catalogues == ("lab",)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_readme_names_every_field(path: Path) -> None:
    told = set(re.findall(r"`([a-z_]+)`", README))
    assert _names(canonical.parse(path.read_bytes(), MAX_POLICY_BYTES)) - told == set()


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for inner in value.values() for name in _names(inner)}
    if isinstance(value, list):
        return {name for inner in value for name in _names(inner)}
    return set()
