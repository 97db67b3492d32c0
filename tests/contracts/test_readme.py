"""proto/README.md shows one vector of each payload; here they are made again, byte for byte.

`python -m tests.contracts.test_readme` prints the blocks as they should stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from relay.canonical import decode
from relay.contracts.accounts import Cosigner, Limits, Terms, read_terms
from relay.contracts.codes import Reexamination
from relay.contracts.payloads import (
    ESCROW_PORT,
    RECOGNITION_PORT,
    REGISTRY_PORT,
    SETTLEMENT_PORT,
    Answer,
    Attestation,
    AttestedItem,
    BillLines,
    Consent,
    Cosignature,
    CutOff,
    Decision,
    DecisionAnswer,
    DecisionNotice,
    Fee,
    Instruction,
    ItemDecision,
    ItemOutcome,
    Leg,
    Lock,
    LockAnswer,
    Member,
    Money,
    NetLock,
    Notice,
    Outcome,
    OutcomeNotice,
    PublicKey,
    Quote,
    RecognitionRequest,
    Result,
    Role,
    SettlementDecision,
    Signature,
    SignedInstruction,
    Withdrawal,
)
from relay.contracts.terms_notice import TermsAnswer, TermsNotice
from relay.contracts.undelivered import payload_for
from relay.packet import payload_hash
from tests.contracts.money_flow import terms
from tests.contracts.money_world import HK, HUB, INSURER, OFFICER, examples
from tests.contracts.world import NOW, RECORD, World, attestation, digest, outcome, request

README = Path(__file__).resolve().parents[2] / "proto" / "README.md"
READERS: dict[str, Callable[[bytes], Any]] = {
    "attestation": Attestation.decode,
    "consent": Consent.decode,
    "request": RecognitionRequest.decode,
    "decision": Decision.decode,
    "notice": Notice.decode,
    "outcome": Outcome.decode,
    "outcome_notice": OutcomeNotice.decode,
    "answer": Answer.decode,
    "instruction": Instruction.decode,
    "itemised": Instruction.decode,
    "lock": Lock.decode,
    "net_lock": NetLock.decode,
    "cut_off": CutOff.decode,
    "lock_answer": LockAnswer.decode,
    "settlement_decision": SettlementDecision.decode,
    "decision_notice": DecisionNotice.decode,
    "decision_answer": DecisionAnswer.decode,
    "withdrawal": Withdrawal.decode,
    "terms_notice": TermsNotice.decode,
    "terms_answer": TermsAnswer.decode,
}

TERMS = read_terms(
    terms(
        "insurer", "HKD", "hk-insurer", INSURER, 2, limits={"daily": 90_000_000, "officer": 1_000},
        cosigners=[{"keys": [OFFICER.dated()], "officer": "hk-officer", "role": "officer"}],
    )
)  # fmt: skip


def made() -> dict[str, bytes]:
    """The vectors: what one run over both contracts sends."""
    world = World()
    decision = world.decide()
    again = ItemOutcome(
        1, Result.REEXAMINED, Reexamination.R6, digest("salted note"), Role.NURSE, NOW
    )
    report = outcome(again)
    world.report(report)
    seen = world.deliver()
    notice, told = (packet.payloads[0].value for packet in world.relay.sent)
    return {
        "attestation": attestation().encode(),
        "consent": request().consent.encode(),
        "request": request().encode(),
        "decision": decision.encode(),
        "notice": notice,
        "outcome": report.encode(),
        "outcome_notice": told,
        "answer": next(a for where, _, a in seen if where == "zj-medical"),
        **{name: value.encode() for name, value in examples().items()},
        "terms_notice": TermsNotice(HK, HUB, TERMS).encode(),
        "terms_answer": TermsAnswer(HUB, TERMS.account, TERMS.version, None).encode(),
    }


def block(name: str, raw: bytes) -> str:
    """How a vector stands in the README."""
    lines = [f"```json {name}", raw.decode(), "```", "", f"SHA-256 `{sha256(raw).hexdigest()}`"]
    if name in ("attestation", "request", "outcome"):
        payload = payload_for(RECOGNITION_PORT, REGISTRY_PORT, raw)
    elif name in ("notice", "outcome_notice"):
        payload = payload_for(REGISTRY_PORT, RECOGNITION_PORT, raw)
    elif name in ("lock", "net_lock", "decision_notice"):
        payload = payload_for(ESCROW_PORT, SETTLEMENT_PORT, raw)
    elif name == "terms_notice":
        payload = payload_for(SETTLEMENT_PORT, ESCROW_PORT, raw)
    else:
        return "\n".join(lines)
    return "\n".join([*lines[:-1], f"{lines[-1]}, payload hash `{payload_hash(payload).hex()}`"])


@pytest.mark.parametrize("name", READERS)
def test_the_readme_shows_what_the_program_makes(name: str) -> None:
    assert block(name, made()[name]) in README.read_text(encoding="utf-8")


def test_the_vectors_are_read() -> None:
    shown = re.findall(r"```json (\w+)\n(.*)\n```", README.read_text(encoding="utf-8"))
    assert sorted(name for name, _ in shown) == sorted(READERS)
    for name, text in shown:
        raw = text.encode()
        assert READERS[name](raw).encode() == raw
    body = decode(made()["attestation"])
    assert isinstance(body, dict)
    assert body["commitment"] == RECORD.hex()


@pytest.mark.parametrize(
    "kind",
    [
        Attestation, AttestedItem, Consent, RecognitionRequest, Decision, ItemDecision, Notice,
        PublicKey, Outcome, ItemOutcome, OutcomeNotice, Instruction, BillLines, Quote, Money, Leg,
        Fee,
        Signature, Cosignature, SignedInstruction, Lock, NetLock, CutOff, Member, LockAnswer,
        SettlementDecision, DecisionNotice, DecisionAnswer, Withdrawal,
        TermsNotice, TermsAnswer, Terms, Cosigner, Limits,
    ],
)  # fmt: skip
def test_every_member_is_documented(kind: type) -> None:
    text = README.read_text(encoding="utf-8")
    for field in dataclass_fields(kind):
        assert f"`{field.name}`" in text, f"{kind.__name__}.{field.name}"


if __name__ == "__main__":
    for title, value in made().items():
        print(block(title, value), end="\n\n")
