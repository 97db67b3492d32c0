"""The demonstration's attacks: each against running nodes, each refused for its own reason."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.contracts.catalogue import shipped
from relay.demo.attacks import PLANS, Attack, Plan, run_attacks
from relay.demo.attacks.attacker import ORIGIN, Attacker
from relay.demo.delivery import deliver_all
from relay.demo.generator import generate
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.demo.story import (
    attest_all,
    cases_of_generated,
    introduce,
    request_all,
    wait_announced,
)
from relay.errors import Reason, Refused
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.client import consensus_of

pytestmark = pytest.mark.slow
"""Longer than a day's run should take; .ci/run has it."""

REASONS = {
    "changed-record": "RECORD_MISMATCH",
    "changed-original": "RECORD_MISMATCH",
    "changed-packet": "INVALID_PROOF",
    "changed-bundle": "INVALID_PROOF",
    "replayed-packet": "NOOP",
    "other-path": "INVALID_PROOF",
    "other-client": "COUNTERPARTY_MISMATCH",
    "forged-signature": "INVALID_SIGNATURE",
    "too-few-signers": "QUORUM_NOT_REACHED",
    "signer-twice": "DUPLICATE_SIGNER",
    "set-announced-by-few": "QUORUM_NOT_REACHED",
    "set-never-announced": "NOT_ENOUGH_TRUST",
    "set-exchanged": "VALIDATOR_SET_MISMATCH",
    "old-head": "HEIGHT_NOT_MONOTONIC",
    "two-heads": "CLIENT_FROZEN",
    "false-accusation": "NOT_MISBEHAVIOUR",
    "unregistered-hospital": "NOT_PERMITTED",
    "other-ledgers-attestation": "CHAIN_ID_MISMATCH",
    "other-ledgers-hospital": "SRC_AUTH/OTHER_LEDGER",
    "narrow-consent": "CONSENT/SCOPE",
    "forged-statement": "PERSON/CLINICIAN",
    "stale-head": "HEAD_STALE",
    "kept-back": "HEAD_STALE",
    "no-grant": "NO_GRANT",
    "others-grant": "NO_GRANT",
    "others-key": "UNAUTHENTICATED",
    "replayed-fetch": "UNAUTHENTICATED",
    "honest-path": "DELIVERED",
}


@dataclass(frozen=True)
class Attacked:
    """A stage after all attacks."""

    stage: Stage
    attacks: dict[str, Attack]
    told: list[tuple[str, int, int]]


def silent(step: str, done: int, of: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    directory = tmp_path_factory.mktemp("attacks") / "demo"
    told: list[tuple[str, int, int]] = []
    with Stage(directory, keep=True) as stage:
        stage.prepare()
        stage.start()
        relay = stage.processes[RELAY].address
        for name in (SOURCE, ASKING):
            stage.command("connect", "--node", stage.processes[name].address, "--relay", relay)
        now = int(time.time())
        introduce(stage, now)
        made = generate(json.loads(shipped()), seed=5, now=now, count=2, share=0)
        cases = cases_of_generated(made)
        attest_all(stage, cases, now, silent)
        wait_announced(stage, cases, silent)
        request_all(stage, cases, now, silent)
        deliver_all(stage, cases[1:], silent)
        attacks = run_attacks(stage, cases, lambda *step: told.append(step))
        yield Attacked(stage, {attack.name: attack for attack in attacks}, told)


def test_every_attack_has_its_names_and_its_reason() -> None:
    assert {plan.name: plan.expected for plan in PLANS} == REASONS
    assert len(PLANS) == len(REASONS)
    assert PLANS[-1].name == "honest-path"
    for plan in PLANS:
        assert plan.en
        assert plan.en.isascii()
        assert any("\u4e00" <= c <= "\u9fff" for c in plan.zh)
    for texts in ([p.en for p in PLANS], [p.zh for p in PLANS]):
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", REASONS)
def test_it_is_refused_for_its_own_reason(attacked: Attacked, name: str) -> None:
    attack = attacked.attacks[name]
    assert attack.answered == REASONS[name], attack.detail
    assert attack.ok
    assert attack.detail


def test_progress_counts_every_attack(attacked: Attacked) -> None:
    assert attacked.told == [("attack", n, len(PLANS)) for n in range(1, len(PLANS) + 1)]


def test_it_froze_a_throw_away_client_and_no_other(attacked: Attacked) -> None:
    frozen = []
    for name in (SOURCE, RELAY, ASKING):
        frozen += [(name, c) for c in attacked.stage.node(name).clients() if c.frozen]
    ((where, client),) = frozen
    assert (where, client.state.chain_id) == (ASKING, ORIGIN)
    assert client.counterparty_client_id == ""


def test_nothing_that_was_refused_is_believed(attacked: Attacked) -> None:
    """No packet of the attacker's was received, and no head of his is trusted."""
    relay = attacked.stage.node(RELAY)
    client = Attacker(attacked.stage).client_id
    received = [p.packet.sequence for p in relay.packets(client_id=client)]
    assert max(received) < 1000
    view = relay.client(client)
    (raw,) = attacked.stage.node(SOURCE).headers(0, view.latest.height)
    assert consensus_of(CHECKPOINT.decode_header(raw)) == view.latest
    granted = {d.decision.institution for d in relay.decisions() if d.decision.grant}
    assert granted == {"sh-h1"}


def test_an_answer_that_was_not_foreseen_is_told() -> None:
    """The rows would show it: a refusal for another reason, and no refusal at all."""

    def refused(_: Attacker) -> tuple[str, str]:
        raise Refused(Reason.CLIENT_EXPIRED, "too late")

    plans = (
        Plan("a", "a", "甲", "CLIENT_EXPIRED", refused),
        Plan("b", "b", "乙", "CLIENT_FROZEN", refused),
        Plan("c", "c", "丙", "CLIENT_FROZEN", lambda _: ("DONE", "taken")),
    )
    stage = Stage(Path("nowhere"), keep=False)
    done = run_attacks(stage, [], silent, plans)
    assert [(a.ok, a.answered, a.detail) for a in done] == [
        (True, "CLIENT_EXPIRED", "too late"),
        (False, "CLIENT_EXPIRED", "too late"),
        (False, "DONE", "taken"),
    ]
