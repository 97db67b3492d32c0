"""What a ledger's kind cannot do is refused by the relay, before anything is locked anywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.contracts.payloads import SignedInstruction
from relay.errors import Reason
from relay.light.types import ABLE, Abilities
from tests.contracts.money_flow import Flow
from tests.contracts.money_world import LINES, SZ, instruction, signed
from tests.contracts.test_netting import bound, opened
from tests.refusals import refused

EVM = Abilities(nets=False, algorithms=("secp256k1",))


def kind_of(flow: Flow, ledger: str, abilities: Abilities) -> None:
    for peer in flow.hub.peers.values():
        if peer.chain_id == ledger:
            peer.abilities = abilities


def unable(flow: Flow, given: SignedInstruction, hint: str) -> None:
    before = flow.key()
    error = refused(Reason.LEDGER_UNABLE, flow.instruct, given)
    assert hint in error.hint
    assert error.detail.startswith(SZ)
    assert flow.key() == before
    assert flow.hub.sent == []


def test_a_ledger_that_nets_no_windows() -> None:
    flow = opened()
    kind_of(flow, SZ, Abilities(nets=False))
    unable(flow, signed(bound("one")), "without a window")
    flow.instruct(signed(instruction("two")))
    assert len(flow.hub.sent) == 2


def test_a_ledger_that_posts_no_lines() -> None:
    flow = Flow()
    kind_of(flow, SZ, Abilities(itemises=False))
    unable(flow, signed(replace(instruction(), itemised=LINES)), "--total-only")
    flow.instruct(signed(instruction()))
    assert len(flow.hub.sent) == 2


def test_a_ledger_that_verifies_one_kind_of_key() -> None:
    """The other ledger's debtors sign as they like."""
    flow = Flow()
    algorithm = next(s.algorithm for s in signed().signatures if s.ledger == SZ)
    kind_of(flow, SZ, Abilities(algorithms=(f"not-{algorithm}",)))
    unable(flow, signed(), "keys new --algorithm")
    kind_of(flow, SZ, Abilities(algorithms=(algorithm,)))
    others = tuple(
        s if s.ledger == SZ else replace(s, algorithm="p256") for s in signed().signatures
    )
    refused(Reason.UNKNOWN_SIGNER, flow.instruct, replace(signed(), signatures=others))
    flow.instruct(signed())
    assert len(flow.hub.sent) == 2


def test_what_an_evm_ledger_says_of_itself() -> None:
    light = pytest.importorskip("adapters.evm.light")
    assert light.CLIENT.abilities == EVM
    from relay.light.checkpoint_client import CHECKPOINT

    assert getattr(CHECKPOINT, "abilities", ABLE) == ABLE
