"""What a verifier trusts before he reads a bundle: for each chain, rules and one verified head.

`trust.json` holds, chain by chain, what a client pins (`relay.light.types.ClientState`) and an
anchor: a head that its reader compared with the ledger by other means (asked two operators, read
it in a newspaper, was there). Everything a bundle shows is judged from these; nothing in a bundle
is. The file is made by `lianqiao connect` or the demo and may be edited: any layout is read, but
every key must be there and no other.

    {"version": 1,
     "chains": [{"state":  {…every field of ClientState; parameters where there are any…},
                 "anchor": {height, time, root, set_hash, next_set_hash, header_hash}}, …]}

An anchor whose chain tells nanoseconds has them as `nanos` beside `time`.
Numbers that may exceed 2^53 are decimal strings; bytes are base64. Chains ascend by id, each once.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay import canonical
from relay.bundle_format import decimal, fields, integer, items, octets, text, write_octets
from relay.canonical import Json
from relay.errors import Malformed, NotFound, Reason
from relay.light.keys import MAX_KEY_BYTES
from relay.light.states import (
    MAX_ASSURANCE_BYTES,
    MAX_CHAIN_ID_BYTES,
    MAX_PARAMETER_BYTES,
    MAX_PARAMETERS,
    MAX_THRESHOLD,
    MAX_WITNESSES,
    check_client_state,
    encode_consensus_state,
)
from relay.light.types import (
    MAX_INT,
    MAX_ROOT_BYTES,
    NANOS,
    ClientState,
    ConsensusState,
    Threshold,
    Witness,
)
from relay.light.validators import MAX_ALGORITHM_BYTES, MAX_NAME_BYTES

MAX_TRUST_BYTES = 1024 * 1024
MAX_CHAINS = 256
VERSION = 1

_STATE = (
    "client_type",
    "chain_id",
    "algorithm",
    "tree_hash",
    "proof_kind",
    "threshold",
    "trust_level",
    "trusting_period",
    "clock_drift",
    "assurance",
    "witnesses",
    "witness_quorum",
)
_HASHES = ("root", "set_hash", "next_set_hash", "header_hash")


@dataclass(frozen=True, slots=True)
class TrustedChain:
    """One chain: how its headers are judged, and the head from which they follow."""

    state: ClientState
    anchor: ConsensusState

    @property
    def reader(self) -> Anchor:
        """The same as whoever makes a bundle for this trust needs it."""
        state = self.state
        return Anchor(self.anchor.height, state.witnesses, state.witness_quorum, state.algorithm)


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the trust of a bundle's reader begins, and whose signatures he counts: what the node
    that makes the bundle is told of one chain."""

    height: int
    """Of the trusted head."""
    witnesses: tuple[Witness, ...] = ()
    witness_quorum: int = 0
    algorithm: str = "ed25519"


@dataclass(frozen=True, slots=True)
class Trust:
    """All that a verifier trusts."""

    chains: tuple[TrustedChain, ...]

    def chain(self, chain_id: str) -> TrustedChain:
        """What is trusted of one chain. Raises NotFound(TRUST_MISSING)."""
        for chain in self.chains:
            if chain.state.chain_id == chain_id:
                return chain
        raise NotFound(
            Reason.TRUST_MISSING,
            f"the trust file says nothing about chain {chain_id!r}",
            hint="add the chain and a head that you compared with its operators",
            chain=chain_id,
        )


def encode_trust(trust: Trust) -> bytes:
    """The file, RFC 8785. Raises Malformed, or Invalid(WEAK_KEY) for a witness key."""
    chains = sorted(trust.chains, key=lambda chain: chain.state.chain_id)
    raw = canonical.encode({"version": VERSION, "chains": [_write_chain(c) for c in chains]})
    decode_trust(raw)  # what nobody could read is not written
    return raw


def decode_trust(raw: bytes) -> Trust:
    """The trust in a file, any layout. Raises Malformed, or Invalid(WEAK_KEY)."""
    top = fields(canonical.parse(raw, MAX_TRUST_BYTES), "trust file", "version", "chains")
    if top["version"] != VERSION or top["version"] is True:
        raise Malformed("trust file: unknown version", hint=f"this program reads {VERSION}")
    chains = tuple(_read_chain(c) for c in items(top["chains"], "chains", MAX_CHAINS))
    names = [chain.state.chain_id for chain in chains]
    if names != sorted(set(names)):
        raise Malformed("trust file: chains must ascend by chain_id, each once")
    return Trust(chains)


def _write_chain(chain: TrustedChain) -> Json:
    state, anchor = chain.state, chain.anchor
    return {
        "state": {
            "client_type": state.client_type,
            "chain_id": state.chain_id,
            "algorithm": state.algorithm,
            "tree_hash": state.tree_hash,
            "proof_kind": state.proof_kind,
            "threshold": _write_threshold(state.threshold),
            "trust_level": _write_threshold(state.trust_level),
            "trusting_period": state.trusting_period,
            "clock_drift": state.clock_drift,
            "assurance": state.assurance,
            "witnesses": [
                {"name": w.name, "algorithm": w.algorithm, "key": write_octets(w.key)}
                for w in state.witnesses
            ],
            "witness_quorum": state.witness_quorum,
            **({"parameters": dict(state.parameters)} if state.parameters else {}),
        },
        "anchor": {
            "height": str(anchor.height),
            "time": str(anchor.time),
            "root": write_octets(anchor.root),
            "set_hash": write_octets(anchor.set_hash),
            "next_set_hash": write_octets(anchor.next_set_hash),
            "header_hash": write_octets(anchor.header_hash),
            **({"nanos": anchor.nanos} if anchor.nanos else {}),
        },
    }


def _write_threshold(threshold: Threshold) -> Json:
    return {
        "numerator": threshold.numerator,
        "denominator": threshold.denominator,
        "strict": threshold.strict,
    }


def _read_chain(value: Json) -> TrustedChain:
    chain = fields(value, "chain", "state", "anchor")
    nanos = ("nanos",) if isinstance(chain["anchor"], dict) and "nanos" in chain["anchor"] else ()
    anchor = fields(chain["anchor"], "anchor", "height", "time", *_HASHES, *nanos)
    root, set_hash, next_set_hash, header_hash = (
        octets(anchor[name], name, MAX_ROOT_BYTES) for name in _HASHES
    )
    consensus = ConsensusState(
        height=decimal(anchor["height"], "height"),
        time=decimal(anchor["time"], "time"),
        root=root,
        set_hash=set_hash,
        next_set_hash=next_set_hash,
        header_hash=header_hash,
        nanos=integer(anchor["nanos"], "nanos", NANOS - 1) if nanos else 0,
    )
    encode_consensus_state(consensus)  # holds the lengths
    return TrustedChain(_read_state(chain["state"]), consensus)


def _read_state(value: Json) -> ClientState:
    more = ("parameters",) if isinstance(value, dict) and "parameters" in value else ()
    state = fields(value, "state", *_STATE, *more)
    decoded = ClientState(
        client_type=text(state["client_type"], "client_type", MAX_NAME_BYTES),
        chain_id=text(state["chain_id"], "chain_id", MAX_CHAIN_ID_BYTES),
        algorithm=text(state["algorithm"], "algorithm", MAX_ALGORITHM_BYTES),
        tree_hash=text(state["tree_hash"], "tree_hash", MAX_ALGORITHM_BYTES),
        proof_kind=text(state["proof_kind"], "proof_kind", MAX_ALGORITHM_BYTES),
        threshold=_read_threshold(state["threshold"], "threshold"),
        trust_level=_read_threshold(state["trust_level"], "trust_level"),
        trusting_period=integer(state["trusting_period"], "trusting_period", MAX_INT),
        clock_drift=integer(state["clock_drift"], "clock_drift", MAX_INT),
        assurance=text(state["assurance"], "assurance", MAX_ASSURANCE_BYTES),
        witnesses=tuple(
            _read_witness(w) for w in items(state["witnesses"], "witnesses", MAX_WITNESSES)
        ),
        witness_quorum=integer(state["witness_quorum"], "witness_quorum", MAX_WITNESSES),
        parameters=_read_parameters(state["parameters"]) if more else (),
    )
    check_client_state(decoded)
    return decoded


def _read_parameters(value: Json) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_PARAMETERS:
        raise Malformed("parameters: an object of 1 to 16 names, or left out")
    return tuple((n, text(value[n], n, MAX_PARAMETER_BYTES)) for n in sorted(value))


def _read_threshold(value: Json, what: str) -> Threshold:
    threshold = fields(value, what, "numerator", "denominator", "strict")
    if not isinstance(threshold["strict"], bool):
        raise Malformed(f"{what}: strict must be true or false")
    return Threshold(
        integer(threshold["numerator"], "numerator", MAX_THRESHOLD),
        integer(threshold["denominator"], "denominator", MAX_THRESHOLD),
        threshold["strict"],
    )


def _read_witness(value: Json) -> Witness:
    witness = fields(value, "witness", "name", "algorithm", "key")
    return Witness(
        text(witness["name"], "name", MAX_NAME_BYTES),
        text(witness["algorithm"], "algorithm", MAX_ALGORITHM_BYTES),
        octets(witness["key"], "key", MAX_KEY_BYTES),
    )
