"""The stored forms of what a client pins and of what it keeps: ClientState and ConsensusState.

Both are encoded by `relay.light.wire`, one encoding each, because they are journal entries: their
hash is under the checkpoint of the ledger that holds the client. `check_client_state` holds the
rules for a client state whichever way it came in; an empty policy is no policy, so thresholds must
ask for something.
"""

from __future__ import annotations

from relay.errors import Malformed
from relay.light.keys import MAX_KEY_BYTES, check_public_key
from relay.light.types import (
    DAY,
    MAX_INT,
    MAX_ROOT_BYTES,
    NANOS,
    ClientState,
    ConsensusState,
    Threshold,
    Witness,
)
from relay.light.validators import (
    MAX_ALGORITHM_BYTES,
    MAX_NAME_BYTES,
    check_algorithm_name,
    check_name,
)
from relay.light.wire import Reader, Writer

MAX_CHAIN_ID_BYTES = 128
MAX_WITNESSES = 32
MAX_ASSURANCE_BYTES = 512
MAX_TRUSTING_PERIOD = 3650 * DAY
MAX_CLOCK_DRIFT = 3600
MAX_THRESHOLD = 1_000_000
MAX_PARAMETERS = 16
MAX_PARAMETER_BYTES = 256

_VERSION = 1
_FOREIGN = 2
"""Version of a consensus state of chains with nanoseconds or another root."""
_WITH_PARAMETERS = 2
"""Version of a client state that pins parameters of its family; one without keeps version 1."""


def encode_client_state(state: ClientState) -> bytes:
    """The one encoding of a client state. Raises Malformed for one that breaks a rule."""
    _check_form(state)
    writer = Writer().u8(_WITH_PARAMETERS if state.parameters else _VERSION)
    writer.text(state.client_type, MAX_NAME_BYTES).text(state.chain_id, MAX_CHAIN_ID_BYTES)
    writer.text(state.algorithm, MAX_ALGORITHM_BYTES).text(state.tree_hash, MAX_ALGORITHM_BYTES)
    writer.text(state.proof_kind, MAX_ALGORITHM_BYTES)
    for threshold in (state.threshold, state.trust_level):
        writer.u32(threshold.numerator).u32(threshold.denominator).boolean(threshold.strict)
    writer.u64(state.trusting_period).u64(state.clock_drift)
    writer.text(state.assurance, MAX_ASSURANCE_BYTES)
    writer.count(len(state.witnesses), MAX_WITNESSES)
    for witness in state.witnesses:
        writer.text(witness.name, MAX_NAME_BYTES).text(witness.algorithm, MAX_ALGORITHM_BYTES)
        writer.data(witness.key, MAX_KEY_BYTES)
    writer.u32(state.witness_quorum)
    if state.parameters:
        writer.count(len(state.parameters), MAX_PARAMETERS)
        for name, value in state.parameters:
            writer.text(name, MAX_ALGORITHM_BYTES).text(value, MAX_PARAMETER_BYTES)
    return writer.done()


def decode_client_state(raw: bytes) -> ClientState:
    """The client state in `raw`. Raises Malformed; keys are judged by `check_client_state`."""
    reader = Reader(raw, "client state")
    version = reader.u8()
    if version not in (_VERSION, _WITH_PARAMETERS):
        raise Malformed("client state: unknown version")
    state = ClientState(
        client_type=reader.text(MAX_NAME_BYTES),
        chain_id=reader.text(MAX_CHAIN_ID_BYTES),
        algorithm=reader.text(MAX_ALGORITHM_BYTES),
        tree_hash=reader.text(MAX_ALGORITHM_BYTES),
        proof_kind=reader.text(MAX_ALGORITHM_BYTES),
        threshold=Threshold(reader.u32(), reader.u32(), reader.boolean()),
        trust_level=Threshold(reader.u32(), reader.u32(), reader.boolean()),
        trusting_period=reader.u64(),
        clock_drift=reader.u64(),
        assurance=reader.text(MAX_ASSURANCE_BYTES),
        witnesses=tuple(
            Witness(
                reader.text(MAX_NAME_BYTES),
                reader.text(MAX_ALGORITHM_BYTES),
                reader.data(MAX_KEY_BYTES),
            )
            for _ in range(reader.count(MAX_WITNESSES))
        ),
        witness_quorum=reader.u32(),
        parameters=_read_parameters(reader) if version == _WITH_PARAMETERS else (),
    )
    reader.end()
    _check_form(state)
    return state


def _read_parameters(reader: Reader) -> tuple[tuple[str, str], ...]:
    count = reader.count(MAX_PARAMETERS)
    if not count:
        raise Malformed("client state: a list of parameters that is empty is not written")
    return tuple(
        (reader.text(MAX_ALGORITHM_BYTES), reader.text(MAX_PARAMETER_BYTES)) for _ in range(count)
    )


def check_client_state(state: ClientState) -> None:
    """Every rule for a client state that is to be pinned.

    Raises Malformed, and Invalid(WEAK_KEY) for a witness key that may not be pinned.
    """
    _check_form(state)
    for witness in state.witnesses:
        check_public_key(witness.algorithm, witness.key)


def encode_consensus_state(consensus: ConsensusState) -> bytes:
    """The one encoding of a consensus state: 145 bytes, or the form of foreign chains.

    That second form has the nanoseconds and a root of another length; where the first can say it,
    it must. Raises Malformed.
    """
    if consensus.height > MAX_INT or consensus.time > MAX_INT:
        raise Malformed("consensus state: height and time stay below 2^63")
    if not 0 <= consensus.nanos < NANOS:
        raise Malformed("consensus state: nanoseconds stay below one second")
    plain = not consensus.nanos and len(consensus.root) == 32
    writer = Writer().u8(_VERSION if plain else _FOREIGN)
    writer.u64(consensus.height).u64(consensus.time)
    if plain:
        writer.fixed(consensus.root, 32)
    else:
        writer.u32(consensus.nanos).data(consensus.root, MAX_ROOT_BYTES)
    writer.fixed(consensus.set_hash, 32)
    return writer.fixed(consensus.next_set_hash, 32).fixed(consensus.header_hash, 32).done()


def decode_consensus_state(raw: bytes) -> ConsensusState:
    """The consensus state in `raw`. Raises Malformed."""
    reader = Reader(raw, "consensus state")
    version = reader.u8()
    if version not in (_VERSION, _FOREIGN):
        raise Malformed("consensus state: unknown version")
    height, time = reader.u64(), reader.u64()
    if height > MAX_INT or time > MAX_INT:
        raise Malformed("consensus state: height and time stay below 2^63")
    nanos = reader.u32() if version == _FOREIGN else 0
    root = reader.data(MAX_ROOT_BYTES) if version == _FOREIGN else reader.fixed(32)
    if nanos >= NANOS or (version == _FOREIGN and not nanos and len(root) == 32):
        raise Malformed("consensus state: not in its one encoding")
    consensus = ConsensusState(
        height, time, root, reader.fixed(32), reader.fixed(32), reader.fixed(32), nanos
    )
    reader.end()
    return consensus


def _check_form(state: ClientState) -> None:
    check_name(state.client_type)
    for name in (state.algorithm, state.tree_hash, state.proof_kind):
        check_algorithm_name(name)
    if not 1 <= len(state.chain_id) <= MAX_CHAIN_ID_BYTES or not all(
        "!" <= c <= "~" for c in state.chain_id
    ):
        raise Malformed("a chain id is 1-128 printable ASCII characters without space")
    _check_threshold(state.threshold)
    _check_threshold(state.trust_level)
    if not 1 <= state.trusting_period <= MAX_TRUSTING_PERIOD:
        raise Malformed("a trusting period lies between one second and ten years")
    if not 0 <= state.clock_drift <= MAX_CLOCK_DRIFT:
        raise Malformed("a clock drift lies between zero and one hour")
    if len(state.assurance) > MAX_ASSURANCE_BYTES or not all(
        " " <= c <= "~" for c in state.assurance
    ):
        raise Malformed("an assurance is at most 512 printable ASCII characters")
    _check_witnesses(state)
    _check_parameters(state.parameters)


def _check_threshold(threshold: Threshold) -> None:
    n, d = threshold.numerator, threshold.denominator
    if not 1 <= n <= d <= MAX_THRESHOLD or (threshold.strict and n == d):
        raise Malformed("a threshold n/d needs 1 <= n <= d, and n < d where it must be exceeded")


def _check_witnesses(state: ClientState) -> None:
    names = [witness.name for witness in state.witnesses]
    keys = {(witness.algorithm, witness.key) for witness in state.witnesses}
    if names != sorted(set(names)) or len(keys) != len(names):
        raise Malformed("witnesses must ascend by name, each name and key once")
    if len(names) > MAX_WITNESSES or not 0 <= state.witness_quorum <= len(names):
        raise Malformed("a witness quorum cannot exceed the pinned witnesses")
    for witness in state.witnesses:
        check_name(witness.name)
        check_algorithm_name(witness.algorithm)
        if not witness.key:
            raise Malformed("a witness key must not be empty")


def _check_parameters(parameters: tuple[tuple[str, str], ...]) -> None:
    names = [name for name, _ in parameters]
    if len(names) > MAX_PARAMETERS or names != sorted(set(names)):
        raise Malformed("parameters must ascend by name, each once, at most 16")
    for name, value in parameters:
        check_algorithm_name(name)
        if not 1 <= len(value) <= MAX_PARAMETER_BYTES or not all("!" <= c <= "~" for c in value):
            raise Malformed("a parameter is 1-256 printable ASCII characters without space")
