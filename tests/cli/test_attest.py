"""Handing records over: never more in one call than a node takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relay.cli.attest import _batches, catalogue_codes

MIB = 1024 * 1024


def record(kept: int, said: int) -> Any:
    return SimpleNamespace(
        kept=SimpleNamespace(parts=[SimpleNamespace(content=bytes(kept))]),
        attestation=SimpleNamespace(encode=lambda: bytes(said)),
    )


@pytest.mark.parametrize(
    ("count", "kept", "said", "sizes"),
    [
        (0, 1, 1, []),
        (1201, 10, 10, [500, 500, 201]),
        (7, 5 * MIB, 10, [3, 3, 1]),
        (3, 1, 4 * MIB, [1, 1, 1]),
        (2, 30 * MIB, 1, [1, 1]),
    ],
)
def test_calls_hold_few_records_and_bytes(
    count: int, kept: int, said: int, sizes: list[int]
) -> None:
    given = [("r", record(kept, said))] * count
    batches = list(_batches(given))
    assert [len(batch) for batch in batches] == sizes
    assert [one for batch in batches for one in batch] == given


def test_the_codes_of_the_shipped_catalogue_are_known() -> None:
    assert "http://loinc.org|2823-3" in catalogue_codes()
