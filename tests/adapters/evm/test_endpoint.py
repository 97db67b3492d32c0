"""The endpoint on a real EVM: packets both ways through its adapter, and attacks on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.evm.ledger import EvmLedger, install
from tests.echo import ECHO

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvmLedger]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = EvmLedger(tmp_path_factory.mktemp("evm"), [ECHO])
        yield made
        made.close()


def test_it_says_who_it_is(ledger: EvmLedger) -> None:
    assert ledger.chain.chain_id == "sz-money"
    status = ledger.chain.client("checkpoint-0")
    assert status.counterparty_client_id == ledger.on_hub == "evm-0"
    assert (status.algorithm, status.chain_id) == ("secp256k1", "hub/0")
    assert status.latest_height == ledger.anchor.height
