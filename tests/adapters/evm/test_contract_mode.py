"""Validators that a contract keeps, on a real EVM: each set is proven under the parent's state."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.evm.deploy import Deployed, deploy, transact
from adapters.evm.light import CLIENT
from adapters.evm.practice.chain import KEY
from adapters.evm.practice.seals import Sealer, header, ring
from adapters.evm.rpc import Rpc
from adapters.evm.sdk import Web3
from adapters.evm.sender import Sender
from relay.errors import Reason
from relay.light.client import anchor, verify_header
from relay.light.types import ConsensusState
from relay.registry import connect_chain
from tests.adapters.evm.ledger import SealedAnvil
from tests.adapters.evm.sealing import QBFT, state_of
from tests.refusals import refused
from tests.world import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class ContractAnvil(SealedAnvil):
    """Headers list nobody; who seals a block is what the contract said before it."""

    sets: dict[int, list[Sealer]]
    """From which block on."""

    def seal(self, number: int, parent: bytes, at: int, root: bytes) -> bytes:
        """See SealedAnvil."""
        found = [s for first, s in sorted(self.sets.items()) if first <= number]
        sealers = found[-1] if found else self.sealers
        return header(
            self.variant, sealers, listed=[], number=number, parent=parent, time=at, root=root
        )


class Kept:
    """A chain whose validators the contract keeps, and a receiver of its headers."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock(int(time.time()))
        self.anvil = ContractAnvil(self.clock)
        self.anvil.sets = {}
        key = path / "key.hex"
        key.write_text(KEY)
        self.rpc, self.sender = Rpc([self.anvil.address]), Sender(key, 10**12)
        self.contract: Deployed = deploy(self.rpc, self.sender, "Validators")
        self.change(self.anvil.sealers)
        source = f"contract:0x{self.contract.address.hex()}:0"
        address = "0x" + self.contract.address.hex()
        self.state = state_of(QBFT, validators=source)
        self.chain = connect_chain(
            "evm",
            {"address": self.anvil.address, "endpoint": address, "variant": QBFT,
             "validators": source},
        )  # fmt: skip
        self.chain._chain_id = "sz-money"  # type: ignore[attr-defined]  # no endpoint is here

    def change(self, sealers: Sequence[Sealer]) -> None:
        """A new set, which seals from the next block on."""
        listed = [Web3.to_checksum_address("0x" + s.address.hex()) for s in sealers]
        transact(
            self.rpc, self.sender, self.contract.address, "setValidators", [listed], "Validators"
        )
        height = int(self.anvil.ask("eth_blockNumber"), 16)
        self.anvil.sets[height + 1] = sorted(sealers, key=lambda s: s.address)
        self.anvil.mine()

    def first(self) -> ConsensusState:
        raw = self.chain.headers(0, self.chain.latest_height(), QBFT)[-1]
        return anchor(CLIENT, self.state, raw, self.clock.now)[0]

    def follow(self, trusted: ConsensusState, height: int) -> ConsensusState:
        for raw in self.chain.headers(trusted.height, height, QBFT):
            trusted = self.verify(trusted, raw)
        return trusted

    def verify(self, trusted: ConsensusState, raw: bytes) -> ConsensusState:
        decoded = CLIENT.decode_header(raw)
        return verify_header(CLIENT, self.state, trusted, decoded, self.clock.now)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.anvil.close()


def test_a_set_is_read_from_the_state_and_followed(kept: Kept) -> None:
    trusted = kept.first()
    others = ring(4, "next")
    kept.change([*kept.anvil.sealers[:3], others[0]])
    last = kept.anvil.mine()
    assert kept.follow(trusted, last).height == last  # one of four is new: by overlap
    step = trusted
    for height in range(trusted.height + 1, last + 1):
        step = kept.follow(step, height)
    assert step.height == last


def test_a_whole_new_set_is_followed_block_by_block_alone(kept: Kept) -> None:
    trusted = kept.first()
    kept.change(ring(4, "next"))
    last = kept.anvil.mine()
    refused(Reason.NOT_ENOUGH_TRUST, lambda: kept.follow(trusted, last))
    step = trusted
    for height in range(trusted.height + 1, last + 1):
        step = kept.follow(step, height)
    assert step.height == last


def test_who_is_not_in_the_contract_seals_nothing(kept: Kept) -> None:
    trusted = kept.first()
    kept.anvil.sets[trusted.height + 1] = ring(4, "usurper")
    kept.anvil.mine()
    raw = kept.chain.headers(trusted.height, trusted.height + 1, QBFT)[-1]
    refused(Reason.UNKNOWN_SIGNER, lambda: kept.verify(trusted, raw))


def test_a_proof_of_less_is_refused(kept: Kept) -> None:
    trusted = kept.first()
    height = kept.anvil.mine()
    raw = kept.chain.headers(trusted.height, height, QBFT)[-1]
    decoded = CLIENT.decode_header(raw)
    assert kept.verify(trusted, raw).height == height
    for link in (decoded.link[:-1], decoded.link[:1], (), (*decoded.link, decoded.link[-1])):
        refused(
            Reason.MALFORMED,
            lambda cut=link: CLIENT.decode_header(CLIENT.encode_header(replace(decoded, link=cut))),
        )
