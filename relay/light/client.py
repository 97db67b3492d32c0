"""The life of a light client: anchored, updated, expired, frozen. Pure: `now` is an argument.

What is common to every family of ledgers is here: which header may follow a trusted one, which set
may sign it, for how long a header can be built upon. What differs (decoding, hashes, sign bytes,
proofs) comes from a `ClientType`. Nothing is read from a header that decides how it is judged:
algorithm, threshold, periods and witnesses are those of the pinned `ClientState`.

Three outcomes: verified; NotEnoughTrust (neither proven nor false: present an intermediate header);
Invalid (false: it may be evidence). Refused says that the client cannot judge now: it is expired
or frozen.

Trust starts with an operator who compares an anchor header with its ledger by other means; from
there every change of the validator set is inside a header that was verified itself.
"""

from __future__ import annotations

from relay.errors import Invalid, NotEnoughTrust, Reason, Refused
from relay.light.misbehaviour import (
    Evidence,
    Misbehaviour,
    decode_evidence,
    encode_evidence,
    verify_misbehaviour,
)
from relay.light.quorum import Commit, is_reached, overlap, verify_commit
from relay.light.states import check_client_state
from relay.light.types import ClientState, ClientType, ConsensusState, Header, ValidatorSet
from relay.light.validators import check_keys

__all__ = [
    "Commit",
    "Evidence",
    "Misbehaviour",
    "anchor",
    "check_active",
    "check_same",
    "consensus_of",
    "decode_evidence",
    "encode_evidence",
    "expires",
    "is_due_refresh",
    "verify_commit",
    "verify_header",
    "verify_misbehaviour",
]


def consensus_of(header: Header) -> ConsensusState:
    """What a client keeps of a header once it is verified."""
    return ConsensusState(
        height=header.height,
        time=header.time,
        root=header.root,
        set_hash=header.set_hash,
        next_set_hash=header.next_set_hash,
        header_hash=header.hash,
        nanos=header.nanos,
    )


def check_same(header: Header, consensus: ConsensusState) -> None:
    """Raises Invalid(HEAD_CONFLICT) unless `consensus` is exactly what `header` says."""
    if consensus_of(header) != consensus:
        raise Invalid(
            Reason.HEAD_CONFLICT,
            f"the header of height {header.height} is not the one that was verified",
            height=header.height,
        )


def anchor(
    client_type: ClientType, state: ClientState, raw_header: bytes, now: int
) -> tuple[ConsensusState, Header]:
    """The first trusted header of a new client: (what is kept of it, the header).

    1. the client state keeps its rules (Malformed, WEAK_KEY); 2. the header decodes (Malformed);
    3. chain id, presented set and pinned parameters match (CHAIN_ID_MISMATCH,
    VALIDATOR_SET_MISMATCH, and what the type's `check_pinned` raises); 4. no key of the set is
    weak (WEAK_KEY); 5. it is neither from the future nor past the trusting period
    (HEADER_FROM_FUTURE, CLIENT_EXPIRED); 6. where the type links, it carries no link
    (INVALID_CONSISTENCY): there is nothing before it; 7. its own set signed it
    (`relay.light.quorum`).

    NOTE: this shows that whoever made the set also signed. That the set is that of the ledger is
    what the operator trusts, and must compare by other means.
    """
    check_client_state(state)  # 1
    header = client_type.decode_header(raw_header)  # 2
    _check_identity(client_type, state, header)  # 3
    check_keys(header.validators)  # 4
    _check_not_from_future(client_type, state, header, now)  # 5
    consensus = consensus_of(header)
    _check_not_expired(state, consensus, now)
    if client_type.links and (header.link or header.link_height):  # 6
        raise Invalid(Reason.INVALID_CONSISTENCY, "an anchor links to no earlier header")
    verify_commit(client_type, state, header)  # 7
    return consensus, header


def verify_header(
    client_type: ClientType,
    state: ClientState,
    trusted: ConsensusState,
    untrusted_header: Header,
    now: int,
    trusted_set: ValidatorSet | None = None,
) -> ConsensusState:
    """What a client may keep of `untrusted_header`, built on `trusted`; raises if it may not.

    1. chain id: CHAIN_ID_MISMATCH
    2. the presented set is the one the header names: VALIDATOR_SET_MISMATCH; it keeps to the
       pinned parameters of its family: what the type's `check_pinned` raises
    3. height above the trusted one: HEIGHT_NOT_MONOTONIC. The trusted header itself is a no-op and
       returns `trusted`; another header of that height, properly signed: HEAD_CONFLICT (evidence)
    4. time above the trusted one, or equal where the type allows it: TIME_NOT_MONOTONIC
    5. `trusted` is within its trusting period: Refused(CLIENT_EXPIRED)
    6. not further than the clock drift ahead of `now` (for some types: not as far):
       HEADER_FROM_FUTURE
    7. lineage: the set is that which `trusted` announced, or the type shows that it succeeds. At
       the next height any other is wrong (VALIDATOR_SET_MISMATCH). Further ahead a type that skips
       asks that enough of `trusted_set` signed (trust level), else NOT_ENOUGH_TRUST; and that both
       sets are kept at one source (VALIDATOR_SET_MISMATCH). A type that does not skip:
       NOT_ENOUGH_TRUST. A set that the header itself brings along as the trusted one must be one
       that `trusted` names, needed or not (NOT_ENOUGH_TRUST: it may fit another trusted header)
    8. keys of a set that is new may be pinned: WEAK_KEY
    9. link (consistency proof): INVALID_CONSISTENCY
    10. enough of the set signed: `relay.light.quorum.verify_commit`, last, since all before it is
        cheap and the attacker chose the set

    `trusted_set` is the preimage of `trusted.next_set_hash`, or of `trusted.set_hash`, the set in
    force there; only types that skip need it, and only where the header brings none
    (`Header.trusted_validators`). Heights
    below the client's greatest are the caller's to refuse: he chooses `trusted`.
    """
    header = untrusted_header
    _check_identity(client_type, state, header)  # 1, 2
    if header.height == trusted.height:  # 3
        return _verify_same_height(client_type, state, trusted, header)
    if header.height < trusted.height:
        raise Invalid(
            Reason.HEIGHT_NOT_MONOTONIC,
            f"height {header.height} is not above the trusted {trusted.height}",
            height=header.height,
            trusted=trusted.height,
        )
    new, old = (header.time, header.nanos), (trusted.time, trusted.nanos)
    if new < old or (new == old and not client_type.equal_time):
        raise Invalid(  # 4
            Reason.TIME_NOT_MONOTONIC,
            f"time {header.time} goes back behind the trusted {trusted.time}",
            time=header.time,
            trusted=trusted.time,
        )
    _check_not_expired(state, trusted, now)  # 5
    _check_not_from_future(client_type, state, header, now)  # 6
    _check_lineage(client_type, state, trusted, header, trusted_set)  # 7
    if header.set_hash != trusted.set_hash:  # 8
        check_keys(header.validators)
    client_type.verify_link(trusted, header)  # 9
    verify_commit(client_type, state, header)  # 10
    return consensus_of(header)


def expires(state: ClientState, latest: ConsensusState) -> int:
    """The second from which nothing may be built on `latest` any more."""
    return latest.time + state.trusting_period


def check_active(state: ClientState, latest: ConsensusState, frozen: bool, now: int) -> None:
    """Raises Refused(CLIENT_FROZEN) or Refused(CLIENT_EXPIRED); an active client passes."""
    if frozen:
        raise Refused(
            Reason.CLIENT_FROZEN,
            f"the client of {state.chain_id} was frozen for misbehaviour",
            hint="its ledger signed two histories; recovery takes the operators of this side",
        )
    _check_not_expired(state, latest, now)


def is_due_refresh(state: ClientState, latest: ConsensusState, now: int) -> bool:
    """True once a third of the trusting period has passed since `latest`."""
    return now >= latest.time + state.trusting_period // 3


def _check_identity(client_type: ClientType, state: ClientState, header: Header) -> None:
    if header.chain_id != state.chain_id:
        raise Invalid(
            Reason.CHAIN_ID_MISMATCH,
            f"the header is of {header.chain_id!r}, the client follows {state.chain_id!r}",
        )
    if client_type.hash_validators(header.validators) != header.set_hash:
        raise Invalid(
            Reason.VALIDATOR_SET_MISMATCH, "the presented set is not the one the header names"
        )
    client_type.check_pinned(state, header)


def _verify_same_height(
    client_type: ClientType, state: ClientState, trusted: ConsensusState, header: Header
) -> ConsensusState:
    if header.hash == trusted.header_hash:
        return trusted
    if header.set_hash != trusted.set_hash:
        raise Invalid(
            Reason.VALIDATOR_SET_MISMATCH, "this height was signed by another validator set"
        )
    # Only a conflict that the set really signed is evidence; anyone can write an unsigned one.
    verify_commit(client_type, state, header)
    raise Invalid(
        Reason.HEAD_CONFLICT,
        f"two headers of height {header.height} are validly signed",
        hint="submit both as misbehaviour: the client must be frozen",
        height=header.height,
    )


def _check_not_expired(state: ClientState, trusted: ConsensusState, now: int) -> None:
    if now >= expires(state, trusted):
        raise Refused(
            Reason.CLIENT_EXPIRED,
            f"the trusted header of {state.chain_id} is older than the trusting period",
            hint="recover the client: its operators compare a fresh header by other means",
            height=trusted.height,
            expired=expires(state, trusted),
        )


def _check_not_from_future(
    client_type: ClientType, state: ClientState, header: Header, now: int
) -> None:
    latest = max([header.time, *(signature.time for signature in header.cosignatures)])
    limit = now + state.clock_drift
    if latest > limit or (client_type.strict_drift and header.time == limit):
        raise Invalid(
            Reason.HEADER_FROM_FUTURE,
            f"time {latest} lies more than {state.clock_drift} s ahead of {now}",
            hint="compare the clocks of both sides",
        )


def _check_lineage(
    client_type: ClientType,
    state: ClientState,
    trusted: ConsensusState,
    header: Header,
    trusted_set: ValidatorSet | None,
) -> None:
    shown = header.trusted_validators
    named = (trusted.next_set_hash, trusted.set_hash)
    if shown is not None and client_type.hash_validators(shown) not in named:
        raise NotEnoughTrust(
            f"the header of height {header.height} is built on another one than is trusted",
            hint="present it with the set that the trusted header announced",
            height=header.height,
            trusted=trusted.height,
        )
    if header.set_hash == trusted.next_set_hash or client_type.succeeds(trusted, header):
        return
    trusted_set = trusted_set if shown is None else shown
    if header.height == trusted.height + 1:
        raise Invalid(
            Reason.VALIDATOR_SET_MISMATCH, "the next height is signed by a set never announced"
        )
    if not client_type.skips or trusted_set is None:
        raise NotEnoughTrust(
            f"the set that signed height {header.height} was not announced by a verified header",
            hint="present the headers that announce each change of the set, in order",
            height=header.height,
            trusted=trusted.height,
        )
    if client_type.hash_validators(trusted_set) not in named:
        raise RuntimeError("trusted_set must be the preimage of a set of the trusted header")
    if trusted_set.source != header.validators.source:
        raise Invalid(
            Reason.VALIDATOR_SET_MISMATCH, "the set is kept elsewhere than the trusted one was"
        )
    names = overlap(state.algorithm, trusted_set, header)
    if not is_reached(state.trust_level, trusted_set, names):
        raise NotEnoughTrust(
            f"too few validators of height {trusted.height} signed height {header.height}",
            hint="present a header between these heights",
            height=header.height,
            trusted=trusted.height,
            overlap=len(names),
        )
