"""Attacks on delivery: a source hands a record to nobody but the hospital that was granted it."""

from __future__ import annotations

import os
from dataclasses import replace

from relay.demo.attacks.attacker import Attacker
from relay.demo.delivery import build_fetch
from relay.demo.hospitals import RECEIVERS
from relay.demo.stage import SOURCE
from relay.demo.story import RECEIVER
from relay.disclosure.asks import Fetch, Withheld

OTHER = RECEIVERS[1]
"""A hospital of the asking ledger that was granted nothing."""


def no_grant(attacker: Attacker) -> tuple[str, str]:
    """A fetch with a grant that the relay never gave."""
    case = attacker.record
    assert case.attested is not None
    commitment = case.attested.attestation.commitment
    return _fetch(attacker, build_fetch(attacker.stage, commitment, os.urandom(32), RECEIVER.id))


def others_grant(attacker: Attacker) -> tuple[str, str]:
    """A hospital uses the grant of another one, under its own name."""
    commitment, grant = _granted(attacker)
    return _fetch(attacker, build_fetch(attacker.stage, commitment, grant, OTHER.id))


def others_key(attacker: Attacker) -> tuple[str, str]:
    """A hospital uses the grant of another one, under that one's name."""
    commitment, grant = _granted(attacker)
    asked = build_fetch(attacker.stage, commitment, grant, RECEIVER.id)
    key = attacker.stage.key(OTHER.id)
    forged = replace(asked, algorithm=key.algorithm, key=key.public)
    return _fetch(attacker, replace(forged, signature=key.sign(forged.signing_bytes(SOURCE))))


def replayed(attacker: Attacker) -> tuple[str, str]:
    """A genuine fetch, overheard and sent a second time."""
    commitment, grant = _granted(attacker)
    asked = build_fetch(attacker.stage, commitment, grant, RECEIVER.id)
    word, detail = _fetch(attacker, asked)
    return _fetch(attacker, asked) if word == "DELIVERED" else (word, detail)


def _granted(attacker: Attacker) -> tuple[bytes, bytes]:
    """(commitment, grant) of a record that was recognised."""
    decision = attacker.delivered.decision
    assert decision is not None
    return decision.commitment, decision.grant


def _fetch(attacker: Attacker, asked: Fetch) -> tuple[str, str]:
    (answer,) = attacker.source.fetch_records([asked])
    if isinstance(answer, Withheld):
        return answer.reason, answer.detail
    return "DELIVERED", "the record was handed out"
