"""Heads, a node in one glance, and its policy documents."""

from __future__ import annotations

from lianqiao.relay.v1 import evidence_service_pb2 as pb
from lianqiao.relay.v1 import operator_service_pb2 as opb
from relay.codec.clients import MAX_ALGORITHM, witness_from_pb, witness_to_pb
from relay.codec.fields import MAX_NAME, blob, digest, each, integer, member, name, text
from relay.light.states import MAX_WITNESSES
from relay.light.types import Validator
from relay.powers import Power
from relay.trust import Anchor
from relay.views import HeadView, LaneView, PolicyView, StatusView, WitnessView

MAX_NOTE_BYTES = 256 * 1024
MAX_PORTS = 100
MAX_SETTINGS = 16
MAX_VALUE = 1024
ROLES = {opb.NODE_ROLE_LEDGER: "ledger", opb.NODE_ROLE_RELAY: "relay"}
_ROLES = {value: key for key, value in ROLES.items()}


def head_to_pb(view: HeadView) -> pb.GetHeadResponse:
    """HeadView as a message."""
    return pb.GetHeadResponse(
        origin=view.origin,
        size=view.size,
        root=view.root,
        time_seconds=view.time,
        note=view.note,
    )


def head_from_pb(message: pb.GetHeadResponse, where: str = "head") -> HeadView:
    """HeadView; what its note says is for relay.light to verify."""
    return HeadView(
        name(message.origin, f"{where}.origin"),
        integer(message.size, f"{where}.size"),
        digest(message.root, f"{where}.root"),
        integer(message.time_seconds, f"{where}.time_seconds"),
        blob(message.note, f"{where}.note", MAX_NOTE_BYTES),
    )


def status_to_pb(view: StatusView) -> opb.GetStatusResponse:
    """StatusView as a message."""
    message = opb.GetStatusResponse(
        chain_id=view.chain_id,
        role=_ROLES[view.role],
        version=view.version,
        clients=view.clients,
        packets_open=view.packets_open,
        outbox=view.outbox,
        ports=view.ports,
        signed_size=view.signed_size,
        witness_quorum=view.witness_quorum,
        witnesses=[_progress_to_pb(witness) for witness in view.witnesses],
        client_type=view.client_type,
        proof_kind=view.proof_kind,
        algorithm=view.algorithm,
    )
    if view.own_witness is not None:
        message.own_witness.CopyFrom(witness_to_pb(view.own_witness))
    if view.head is not None:
        message.origin, message.head_size = view.head.origin, view.head.size
        message.head_root, message.head_time_seconds = view.head.root, view.head.time
        message.head_note = view.head.note
    return message


def status_from_pb(message: opb.GetStatusResponse) -> StatusView:
    """StatusView; without a head where nothing is signed yet."""
    head = None
    if message.head_size:
        head = HeadView(
            name(message.origin, "origin"),
            integer(message.head_size, "head_size"),
            digest(message.head_root, "head_root"),
            integer(message.head_time_seconds, "head_time_seconds"),
            blob(message.head_note, "head_note", MAX_NOTE_BYTES),
        )
    return StatusView(
        chain_id=name(message.chain_id, "chain_id"),
        role=member(message.role, "role", ROLES),
        version=name(message.version, "version"),
        head=head,
        clients=integer(message.clients, "clients"),
        packets_open=integer(message.packets_open, "packets_open"),
        outbox=integer(message.outbox, "outbox"),
        ports=each(message.ports, "ports", MAX_PORTS, name),
        signed_size=integer(message.signed_size, "signed_size"),
        witness_quorum=integer(message.witness_quorum, "witness_quorum", high=MAX_WITNESSES),
        witnesses=each(message.witnesses, "witnesses", MAX_WITNESSES, _progress_from_pb),
        own_witness=(
            witness_from_pb(message.own_witness, "own_witness")
            if message.HasField("own_witness")
            else None
        ),
        client_type=name(message.client_type or "checkpoint", "client_type"),
        proof_kind=name(message.proof_kind or "rfc6962", "proof_kind"),
        algorithm=name(message.algorithm, "algorithm") if message.algorithm else "",
    )


def power_to_pb(power: Power) -> opb.Power:
    """Power as a message."""
    return opb.Power(algorithm=power.algorithm, key=power.key, power=power.power)


def power_from_pb(message: opb.Power, where: str) -> Power:
    """Power; what it may be is for relay.powers to say."""
    return Power(
        name(message.algorithm, f"{where}.algorithm"),
        blob(message.key, f"{where}.key", 64, least=1),
        integer(message.power, f"{where}.power"),
    )


def operator_to_pb(operator: Validator) -> opb.Operator:
    """Operator as a message."""
    ((algorithm, key),) = operator.keys
    return opb.Operator(name=operator.name, algorithm=algorithm, key=key)


def operator_from_pb(message: opb.Operator, where: str) -> Validator:
    """Operator; which keys may be is for relay.light to say."""
    algorithm = name(message.algorithm, f"{where}.algorithm")
    key = blob(message.key, f"{where}.key", 64, least=1)
    return Validator(name(message.name, f"{where}.name"), 1, ((algorithm, key),))


def _progress_to_pb(view: WitnessView) -> opb.WitnessProgress:
    return opb.WitnessProgress(
        witness=witness_to_pb(view.witness),
        address=view.address,
        size=view.size,
        reason=view.reason,
        detail=view.detail,
    )


def _progress_from_pb(message: opb.WitnessProgress, where: str) -> WitnessView:
    return WitnessView(
        witness_from_pb(message.witness, f"{where}.witness"),
        name(message.address, f"{where}.address"),
        integer(message.size, f"{where}.size"),
        text(message.reason, f"{where}.reason"),
        text(message.detail, f"{where}.detail"),
    )


def policy_to_pb(view: PolicyView) -> opb.Policy:
    """PolicyView as a message."""
    return opb.Policy(
        kind=view.kind,
        name=view.name,
        version=view.version,
        effective_time_seconds=view.effective_from,
        digest=view.digest,
        in_force=view.in_force,
    )


def policy_from_pb(message: opb.Policy, where: str = "policy") -> PolicyView:
    """PolicyView."""
    return PolicyView(
        name(message.kind, f"{where}.kind"),
        name(message.name, f"{where}.name"),
        integer(message.version, f"{where}.version", low=1),
        integer(message.effective_time_seconds, f"{where}.effective_time_seconds"),
        digest(message.digest, f"{where}.digest"),
        message.in_force,
    )


def lane_to_pb(view: LaneView) -> opb.Lane:
    """LaneView as a message."""
    return opb.Lane(
        client_id=view.client_id,
        adapter=view.adapter,
        address=view.address,
        reason=view.reason,
        detail=view.detail,
        settings=[opb.LaneSetting(name=key, value=value) for key, value in view.settings],
    )


def lane_from_pb(message: opb.Lane, where: str = "lane") -> LaneView:
    """LaneView."""
    return LaneView(
        name(message.client_id, f"{where}.client_id"),
        name(message.adapter, f"{where}.adapter"),
        name(message.address, f"{where}.address"),
        text(message.reason, f"{where}.reason", MAX_NAME),
        text(message.detail, f"{where}.detail"),
        each(message.settings, f"{where}.settings", MAX_SETTINGS, _setting_from_pb),
    )


def _setting_from_pb(message: opb.LaneSetting, where: str) -> tuple[str, str]:
    return name(message.name, f"{where}.name"), text(message.value, f"{where}.value", MAX_VALUE)


def anchor_from_pb(message: pb.Anchor, where: str = "anchor") -> tuple[str, Anchor]:
    """(chain id, what its reader trusts)."""
    witnesses = each(message.witnesses, f"{where}.witnesses", MAX_WITNESSES, witness_from_pb)
    quorum = integer(message.witness_quorum, f"{where}.witness_quorum", 0, len(witnesses))
    algorithm = name(message.algorithm or "ed25519", f"{where}.algorithm", MAX_ALGORITHM)
    height = integer(message.height, f"{where}.height", low=1)
    anchor = Anchor(height, tuple(witnesses), quorum, algorithm)
    return name(message.chain_id, f"{where}.chain_id"), anchor


def anchor_to_pb(chain_id: str, anchor: Anchor) -> pb.Anchor:
    """The same for the wire."""
    return pb.Anchor(
        chain_id=chain_id,
        height=anchor.height,
        witnesses=[witness_to_pb(witness) for witness in anchor.witnesses],
        witness_quorum=anchor.witness_quorum,
        algorithm=anchor.algorithm,
    )
