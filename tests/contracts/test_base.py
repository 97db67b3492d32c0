"""What the contracts share (relay.contracts.base), by itself."""

from __future__ import annotations

import pytest

from relay.contracts import base
from relay.contracts.escrow import CONTRACT
from tests.contracts.ledger import Ledger


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 6, 100])
def test_everything_is_read_page_by_page(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_PAGE", 2)
    ledger = Ledger("hk", CONTRACT)
    ledger.written = {b"a/%d" % number: b"v" for number in range(5)} | {b"b/1": b"w"}
    found = base.everything(ledger, b"a/", most)
    assert found == [(b"a/%d" % number, b"v") for number in range(min(most, 5))]
