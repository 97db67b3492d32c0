"""What the demonstration leaves behind: a bundle a record, the delivered records, one trust file.

A bundle shows a delivered record's whole way on the relay that carried it: that it was attested
(under the source's signed head), that it was asked for (under the asking ledger's), what the relay
decided (under its own), and the grant with the source's answer. All of them are verified by the
command that a reader would use, in a process of its own that knows only these files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from relay.chain import MAX_BATCH, Step
from relay.client import NodeClient
from relay.contracts.payloads import Notice, fields
from relay.demo.side_by_side import side_by_side
from relay.demo.stage import ASKING, RELAY, SOURCE, Command, Stage
from relay.demo.story import Case, Progress, wait_answered
from relay.errors import Invalid, Reason
from relay.record.parts import encode_record, verify_record
from relay.views import Direction

PacketKey = tuple[str, int, Direction]
MIN_FILES, MAX_FILES = 32, 200
"""Bundles that one `lianqiao verify` is given: enough to be worth a process of its own."""
WRITERS = 3
"""Bundles that the relay is asked for at a time."""


@dataclass(frozen=True, slots=True)
class Left:
    """The files of one record."""

    bundle: Path
    record: Path


@dataclass(frozen=True, slots=True)
class Checked:
    """What verifying all bundles came to."""

    bundles: int = 0
    hops: int = 0
    """Signed heads with a Merkle proof under each."""
    signatures: int = 0
    claims: int = 0
    """Facts that the proofs showed."""


def leave(stage: Stage, cases: Sequence[Case], progress: Progress) -> tuple[list[Left], Checked]:
    """Writes the trust file, and bundle and record of each delivered case; verifies them all.

    While the relay makes the next bundles, `lianqiao verify` reads those before them. Raises
    Refused or Invalid where it refuses one.
    """
    stage.trust_file.write_bytes(stage.node(RELAY).trust())
    delivered = [case for case in cases if case.fetched is not None]
    keys = _Keys(stage, delivered)
    pairs = [(case, _files(stage, case)) for case in delivered]
    written, verifying = count(1), []

    def write(pair: tuple[Case, Left]) -> None:
        case, left = pair
        assert case.fetched is not None
        left.bundle.write_bytes(stage.node(RELAY).bundle_of(keys.of(case)))
        record = encode_record(case.fetched.parts)
        verify_record(record, case.fetched.commitment)
        left.record.touch(mode=0o600)
        left.record.write_bytes(record)
        progress("bundle", next(written), len(pairs))

    files = max(MIN_FILES, min(MAX_FILES, len(pairs) // 2))
    for start in range(0, len(pairs), files):
        lot = pairs[start : start + files]
        side_by_side(stage, write, lot, WRITERS)
        verifying.append(_verify(stage, [left for _, left in lot]))
    kept = [left for _, left in pairs]
    return kept, _checked(stage, kept, verifying, progress)


def _files(stage: Stage, case: Case) -> Left:
    base = stage.directory
    return Left(
        base / "bundles" / f"{case.stem}.bundle", base / "records" / f"{case.stem}.record.json"
    )


class _Keys:
    """The packets of each record, as the relay names them."""

    def __init__(self, stage: Stage, delivered: Sequence[Case]) -> None:
        self._source, self._asking = (_client_of(stage, name) for name in (SOURCE, ASKING))
        self._grants = _grants(stage.node(RELAY), self._source)
        sent = [(self._source, self._grants[_grant(case)]) for case in delivered]
        wait_answered(stage, RELAY, sent)

    def of(self, case: Case) -> list[PacketKey]:
        """Attestation, request, grant."""
        assert case.view is not None
        return [
            (self._source, case.packets[0].sequence, Direction.IN),
            (self._asking, case.view.sequence, Direction.IN),
            (self._source, self._grants[_grant(case)], Direction.OUT),
        ]


def _grant(case: Case) -> bytes:
    assert case.decision is not None
    return case.decision.grant


def _client_of(stage: Stage, ledger: str) -> str:
    """The relay's client of a ledger, by which their packets are named."""
    views = stage.node(RELAY).clients()
    (found,) = (
        view.client_id
        for view in views
        if view.state.chain_id == f"{ledger}/0" and view.counterparty_client_id
    )
    return found


def _grants(relay: NodeClient, client_id: str) -> dict[bytes, int]:
    """Grant -> sequence of the packet by which the relay told the source of it."""
    found, after = dict[bytes, int](), 0
    while steps := relay.steps(client_id, after, MAX_BATCH):
        after = steps[-1].cursor
        for step in steps:
            if step.step is Step.SEND:
                for payload in step.packet.payloads:
                    body = fields.document(payload.value)
                    if body.get("type") == "notice":
                        found[Notice.from_json(body).grant] = step.packet.sequence
    return found


# --- verified


def _verify(stage: Stage, lot: Sequence[Left]) -> Command:
    bundles = [str(left.bundle) for left in lot]
    return stage.begin_command(["verify", *bundles, "--trust", str(stage.trust_file), "--json"])


def _checked(
    stage: Stage, kept: Sequence[Left], verifying: Sequence[Command], progress: Progress
) -> Checked:
    checked = Checked()
    for command in verifying:
        told = json.loads(stage.end_command("verify", command))
        checked = _add(checked, told["bundles"])
        progress("verify", checked.bundles, len(kept))
    if kept:  # the very line that is printed
        bundle, record, trust = kept[0].bundle, kept[0].record, stage.trust_file
        stage.command("verify", str(bundle), "--trust", str(trust), "--record", str(record))
    return checked


def _add(before: Checked, bundles: Sequence[dict[str, object]]) -> Checked:
    if not all(bundle["verified"] for bundle in bundles):
        raise Invalid(Reason.INVALID_PROOF, "a bundle that the relay gave does not verify")
    hops = [hop for bundle in bundles for hop in bundle["hops"]]  # type: ignore[attr-defined]
    return Checked(
        before.bundles + len(bundles),
        before.hops + len(hops),
        before.signatures + sum(len(hop["signers"]) for hop in hops),
        before.claims + sum(len(hop["claims"]) for hop in hops),
    )
