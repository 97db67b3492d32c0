"""Steps of the endpoint out of the chain's logs: a node that leaves one out, or invents one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from adapters.evm.chain import EvmChain
from adapters.evm.light.header import QBFT
from adapters.evm.light.validators import header_source
from adapters.evm.rpc import Rpc
from relay.chain import PacketStep
from relay.errors import Reason
from tests.adapters.evm.ledger import EvmLedger, install
from tests.adapters.evm.sealing import EPOCH
from tests.adapters.evm.test_endpoint import post
from tests.echo import ECHO
from tests.refusals import refused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Lying(Rpc):
    """Two nodes of one chain; the first lies about logs, and about the count where it invents."""

    def __init__(self, ledger: EvmLedger, how: str) -> None:
        self.first = ledger.anvil.address
        super().__init__([self.first, f"localhost:{self.first.rpartition(':')[2]}"])
        self.how = how

    def _lies(self) -> bool:
        return self._addresses[0] == self.first

    def ask(self, method: str, params: Any) -> Any:
        """See Rpc."""
        found = super().ask(method, params)
        if method != "eth_getLogs" or not self._lies() or not found:
            return found
        if self.how == "invents":
            again = dict(found[-1])
            step = int(again["topics"][1], 16) + 1
            again["topics"] = [again["topics"][0], f"0x{step:064x}", *again["topics"][2:]]
            return [*found, again]
        at = {"first": 0, "middle": len(found) // 2, "last": len(found) - 1}[self.how]
        return found[:at] + found[at + 1 :]

    def call(self, to: bytes, data: bytes, sender: bytes = bytes(20), height: Any = None) -> Any:
        """See Rpc."""
        from adapters.evm import calls

        done = super().call(to, data, sender, height)
        if self.how == "invents" and self._lies() and data == calls.encode("steps", []):
            count = int.from_bytes(done.data, "big") + 1
            return type(done)(False, count.to_bytes(32, "big"))
        return done


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvmLedger]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = EvmLedger(tmp_path_factory.mktemp("evm"), [ECHO])
        post(made, [b"one", b"two", b"three"])
        yield made
        made.close()


def chain_of(ledger: EvmLedger, rpc: Rpc) -> EvmChain:
    return EvmChain(rpc, ledger.endpoint.address, QBFT, header_source(EPOCH), None, 1)


def steps_of(chain: EvmChain) -> list[PacketStep]:
    return list(chain.packets("checkpoint-0", 0, 1000))


@pytest.mark.parametrize("how", ["first", "middle", "last"])
def test_a_node_that_leaves_a_step_out_is_asked_no_more(ledger: EvmLedger, how: str) -> None:
    rpc = Lying(ledger, how)
    chain = chain_of(ledger, rpc)
    error = refused(Reason.CHAIN_UNREACHABLE, steps_of, chain)
    assert "left out" in error.detail
    assert steps_of(chain) == steps_of(chain_of(ledger, ledger.rpc))


def test_a_step_that_a_node_invented_is_forgotten(ledger: EvmLedger) -> None:
    """It cannot be proven, so nothing comes of it; but the true one must not be missed for it."""
    rpc = Lying(ledger, "invents")
    chain = chain_of(ledger, rpc)
    true = steps_of(chain_of(ledger, ledger.rpc))
    assert len(steps_of(chain)) == len(true) + 1
    rpc.first = ""  # it is mended, or another one is asked
    post(ledger, [b"the true next one"])
    true = steps_of(chain_of(ledger, ledger.rpc))
    refused(Reason.CHAIN_UNREACHABLE, steps_of, chain)  # as a lane does, it is asked again
    found = steps_of(chain)
    assert found == true
    assert found[-1].packet.payloads[0].value == b"the true next one"
