"""A share of the fuzzing every day, with inputs of the day; and what it would find."""

from __future__ import annotations

from datetime import date

import pytest

from relay.canonical import encode
from relay.errors import Malformed
from tests.fuzz.run import Found, Part, feed, run_part
from tests.fuzz.targets import Target, targets
from tests.vectors_dir import vectors

EVERYDAY = 120
"""Inputs for each decoder."""
NAMES = [target.name for target in targets()]


PUBLISHED = {
    "cometbft header": ("ibc", "lightclient-mbt-tendermint-rs"),
    "ics23 proof": ("ibc", "ics23"),
}
"""Decoders that are fed with vectors, and where those are."""
FED = [target for target in targets() if target.name != "cometbft tx proof"]
"""All but one: no published proof of that kind is small enough, it is fed with light blocks."""


@pytest.mark.parametrize("target", FED, ids=[target.name for target in FED])
def test_seeds_are_taken(target: Target) -> None:
    """What is mutated is true: else the first check would be all that is ever reached."""
    if target.name in PUBLISHED:
        vectors(*PUBLISHED[target.name])
    assert all(feed(target, raw) for raw in target.seeds())


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_are_decoded_or_refused(name: str) -> None:
    told = run_part(Part(name, date.today().toordinal(), EVERYDAY))
    assert not told.found, told.found
    assert told.inputs == EVERYDAY


def test_what_was_found() -> None:
    """Inputs that a decoder once took, or fell over."""
    row = {"equivalence": [], "source": "urn:zj-h1:lis|1004", "target": "http://loinc.org|5196-1"}
    rest = {"effective_from": 0, "kind": "conceptmap", "name": "zj-h1", "provenance": "tests"}
    odd = encode({**rest, "rows": [row], "version": 1})
    known = {"acknowledgements": "00000000", "claims": "00000000", "policy": odd.hex()}
    for name, raw in known.items():
        target = next(one for one in targets() if one.name == name)
        assert not feed(target, bytes.fromhex(raw))


def _spoiled(decode: object) -> Target:
    return Target("spoiled", decode, lambda: [b"x"])  # type: ignore[arg-type]


def test_another_error_is_found() -> None:
    with pytest.raises(Found, match="IndexError"):
        feed(_spoiled(lambda raw: raw[9]), b"short")


def test_an_input_that_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.SECONDS", 0.05)

    def forever(_: bytes) -> None:
        while True:
            pass

    with pytest.raises(Found, match="_Slow"):
        feed(_spoiled(forever), b"")


def test_a_second_encoding_is_found() -> None:
    target = Target("loose", bytes.strip, lambda: [b"x"], lambda value: value)
    with pytest.raises(Found, match="second encoding"):
        feed(target, b" x ")


def test_a_typed_refusal_is_none() -> None:
    def refuse(_: bytes) -> None:
        raise Malformed("no")

    assert not feed(_spoiled(refuse), b"")
