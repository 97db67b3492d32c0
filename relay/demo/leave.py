"""What the demonstration leaves behind: a bundle a record, the delivered records, one trust file.

Each bundle shows a recognised record's whole way: that it was attested (the source's signed head
and the proof under it), that it was asked for, and what the relay answered. All are verified here
by the same function that `lianqiao verify` runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from relay.bundle import verify_bundle
from relay.contracts.payloads import Attestation
from relay.demo.stage import RELAY, SOURCE, Stage
from relay.demo.story import Case, Progress
from relay.record.parts import encode_record, verify_record
from relay.registry import client_types
from relay.views import Direction

PacketKey = tuple[str, int, Direction]
MAX_BUNDLES = 100
"""Bundles written for one run; a thousand records leave the first hundred."""


def leave(stage: Stage, cases: Sequence[Case], progress: Progress) -> list[tuple[Path, Path]]:
    """Writes and verifies bundles and records; (bundle, record) of each delivered one."""
    stage.trust_file.write_bytes(stage.node(RELAY).trust())
    delivered = [case for case in cases if case.fetched is not None][:MAX_BUNDLES]
    attested = _attestations(stage)
    kept = []
    for number, case in enumerate(delivered, 1):
        kept.append(_leave_one(stage, case, attested))
        progress("bundle", number, len(delivered))
    return kept


def _attestations(stage: Stage) -> dict[bytes, PacketKey]:
    """Commitment -> the packet on the relay that brought its attestation."""
    node, found = stage.node(RELAY), dict[bytes, PacketKey]()
    clients = {v.client_id for v in node.clients() if v.state.chain_id.startswith(f"{SOURCE}/")}
    for view in node.packets():
        if view.direction is not Direction.IN or view.client_id not in clients:
            continue
        for payload in view.packet.payloads:
            if b'"type":"attestation"' in payload.value:
                commitment = Attestation.decode(payload.value).commitment
                found[commitment] = (view.client_id, view.packet.sequence, Direction.IN)
    return found


def _leave_one(stage: Stage, case: Case, attested: dict[bytes, PacketKey]) -> tuple[Path, Path]:
    assert case.view is not None
    assert case.fetched is not None
    commitment = case.fetched.commitment
    request = _request_key(stage, case)
    raw = stage.node(RELAY).bundle_of([attested[commitment], request])
    name = case.name.removesuffix(".json")
    bundle = stage.directory / "bundles" / f"{name}.bundle"
    bundle.write_bytes(raw)
    record = stage.directory / "records" / f"{name}.record.json"
    record.write_bytes(encode_record(case.fetched.parts))
    verify_bundle(raw, stage.trust(), int(time.time()), client_types())
    verify_record(record.read_bytes(), commitment)
    return bundle, record


def _request_key(stage: Stage, case: Case) -> PacketKey:
    """The request as the relay received it: its client of the asking ledger, the same sequence."""
    assert case.view is not None
    sent = stage.node("sh-medical").client(case.view.client_id)
    return (sent.counterparty_client_id, case.view.sequence, Direction.IN)
