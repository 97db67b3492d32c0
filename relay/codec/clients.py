"""Client states, consensus states and views of clients."""

from __future__ import annotations

from lianqiao.relay.v1 import client_pb2 as pb
from relay.codec.fields import blob, digest, each, integer, malformed, member, name, present, text
from relay.light.states import MAX_PARAMETER_BYTES, MAX_PARAMETERS
from relay.light.types import (
    MAX_ROOT_BYTES,
    MAX_VALIDATORS,
    NANOS,
    ClientState,
    ConsensusState,
    Threshold,
    Witness,
)
from relay.views import ClientView, RecoveryView

MAX_KEY_BYTES = 256
MAX_ALGORITHM = 32
MAX_WITNESS_NAME = 64
MAX_ASSURANCE = 500
MAX_FRACTION = 2**32


def threshold_to_pb(threshold: Threshold) -> pb.Threshold:
    """Threshold as a message."""
    return pb.Threshold(
        numerator=threshold.numerator,
        denominator=threshold.denominator,
        strict=threshold.strict,
    )


def threshold_from_pb(message: pb.Threshold, where: str = "threshold") -> Threshold:
    """A fraction of (0, 1]; strictly more than the whole can never be reached and is refused."""
    denominator = integer(message.denominator, f"{where}.denominator", 1, MAX_FRACTION)
    numerator = integer(message.numerator, f"{where}.numerator", 1, denominator)
    if message.strict and numerator == denominator:
        raise malformed(where, "asks for more than all of the power")
    return Threshold(numerator, denominator, message.strict)


def witness_to_pb(witness: Witness) -> pb.Witness:
    """Witness as a message."""
    key = pb.PublicKey(algorithm=witness.algorithm, value=witness.key)
    return pb.Witness(name=witness.name, key=key)


def witness_from_pb(message: pb.Witness, where: str = "witness") -> Witness:
    """Witness of bounded size; its key is judged where it is pinned."""
    return Witness(
        name(message.name, f"{where}.name", MAX_WITNESS_NAME),
        name(message.key.algorithm, f"{where}.key.algorithm", MAX_ALGORITHM),
        blob(message.key.value, f"{where}.key.value", MAX_KEY_BYTES, least=1),
    )


def client_state_to_pb(state: ClientState) -> pb.ClientState:
    """ClientState as a message."""
    return pb.ClientState(
        client_type=state.client_type,
        chain_id=state.chain_id,
        algorithm=state.algorithm,
        tree_hash=state.tree_hash,
        proof_kind=state.proof_kind,
        threshold=threshold_to_pb(state.threshold),
        trust_level=threshold_to_pb(state.trust_level),
        trusting_period_seconds=state.trusting_period,
        clock_drift_seconds=state.clock_drift,
        assurance=state.assurance,
        witnesses=[witness_to_pb(w) for w in state.witnesses],
        witness_quorum=state.witness_quorum,
        parameters=[pb.Parameter(name=n, value=v) for n, v in state.parameters],
    )


def client_state_from_pb(message: pb.ClientState, where: str = "state") -> ClientState:
    """ClientState, every field stated: nothing that is pinned comes from a default."""
    for field in ("threshold", "trust_level"):
        if not message.HasField(field):
            raise malformed(f"{where}.{field}", "is missing")
    witnesses = each(message.witnesses, f"{where}.witnesses", MAX_VALIDATORS, witness_from_pb)
    return ClientState(
        client_type=name(message.client_type, f"{where}.client_type"),
        chain_id=name(message.chain_id, f"{where}.chain_id"),
        algorithm=name(message.algorithm, f"{where}.algorithm", MAX_ALGORITHM),
        tree_hash=name(message.tree_hash, f"{where}.tree_hash", MAX_ALGORITHM),
        proof_kind=name(message.proof_kind, f"{where}.proof_kind", MAX_ALGORITHM),
        threshold=threshold_from_pb(message.threshold, f"{where}.threshold"),
        trust_level=threshold_from_pb(message.trust_level, f"{where}.trust_level"),
        trusting_period=integer(
            message.trusting_period_seconds, f"{where}.trusting_period_seconds", low=1
        ),
        clock_drift=integer(message.clock_drift_seconds, f"{where}.clock_drift_seconds"),
        assurance=text(message.assurance, f"{where}.assurance", MAX_ASSURANCE),
        witnesses=witnesses,
        witness_quorum=integer(
            message.witness_quorum, f"{where}.witness_quorum", 0, len(witnesses)
        ),
        parameters=each(
            message.parameters, f"{where}.parameters", MAX_PARAMETERS, _parameter_from_pb
        ),
    )


def _parameter_from_pb(message: pb.Parameter, where: str = "parameter") -> tuple[str, str]:
    return (
        name(message.name, f"{where}.name", MAX_ALGORITHM),
        name(message.value, f"{where}.value", MAX_PARAMETER_BYTES),
    )


def consensus_to_pb(state: ConsensusState) -> pb.ConsensusState:
    """ConsensusState as a message."""
    return pb.ConsensusState(
        height=state.height,
        time_seconds=state.time,
        root=state.root,
        set_hash=state.set_hash,
        next_set_hash=state.next_set_hash,
        header_hash=state.header_hash,
        time_nanos=state.nanos,
    )


def consensus_from_pb(message: pb.ConsensusState, where: str = "latest") -> ConsensusState:
    """ConsensusState with hashes of 32 bytes, and a root of as many or what its chain has."""
    return ConsensusState(
        integer(message.height, f"{where}.height"),
        integer(message.time_seconds, f"{where}.time_seconds"),
        blob(message.root, f"{where}.root", MAX_ROOT_BYTES),
        digest(message.set_hash, f"{where}.set_hash"),
        digest(message.next_set_hash, f"{where}.next_set_hash"),
        digest(message.header_hash, f"{where}.header_hash"),
        integer(message.time_nanos, f"{where}.time_nanos", 0, NANOS - 1),
    )


def client_to_pb(view: ClientView, now: int) -> pb.Client:
    """ClientView as a message; `now` tells whether it has expired."""
    activity = pb.CLIENT_ACTIVITY_ACTIVE
    if view.expires <= now:
        activity = pb.CLIENT_ACTIVITY_EXPIRED
    if view.frozen:
        activity = pb.CLIENT_ACTIVITY_FROZEN
    return pb.Client(
        client_id=view.client_id,
        state=client_state_to_pb(view.state),
        latest=consensus_to_pb(view.latest),
        counterparty_client_id=view.counterparty_client_id,
        activity=activity,
        expire_time_seconds=view.expires,
        recovery=recovery_to_pb(view.recovery) if view.recovery else None,
        complete_time_seconds=view.complete_time,
    )


def recovery_to_pb(view: RecoveryView) -> pb.Recovery:
    """RecoveryView as a message."""
    return pb.Recovery(
        state=client_state_to_pb(view.state),
        propose_time_seconds=view.proposed,
        due_time_seconds=view.due,
    )


def recovery_from_pb(message: pb.Recovery, where: str = "recovery") -> RecoveryView:
    """RecoveryView."""
    present(message, "state")
    return RecoveryView(
        state=client_state_from_pb(message.state, f"{where}.state"),
        proposed=integer(message.propose_time_seconds, f"{where}.propose_time_seconds"),
        due=integer(message.due_time_seconds, f"{where}.due_time_seconds"),
    )


_FROZEN = {
    pb.CLIENT_ACTIVITY_ACTIVE: False,
    pb.CLIENT_ACTIVITY_EXPIRED: False,
    pb.CLIENT_ACTIVITY_FROZEN: True,
}


def client_from_pb(message: pb.Client, where: str = "client") -> ClientView:
    """ClientView. That it has expired follows from `expires` and the reader's own clock."""
    present(message, "state")
    present(message, "latest")
    counterparty = message.counterparty_client_id
    return ClientView(
        client_id=name(message.client_id, f"{where}.client_id"),
        state=client_state_from_pb(message.state, f"{where}.state"),
        latest=consensus_from_pb(message.latest, f"{where}.latest"),
        counterparty_client_id=(
            name(counterparty, f"{where}.counterparty_client_id") if counterparty else ""
        ),
        frozen=member(message.activity, f"{where}.activity", _FROZEN),
        expires=integer(message.expire_time_seconds, f"{where}.expire_time_seconds"),
        recovery=(
            recovery_from_pb(message.recovery, f"{where}.recovery")
            if message.HasField("recovery")
            else None
        ),
        complete_time=integer(message.complete_time_seconds, f"{where}.complete_time_seconds"),
    )
