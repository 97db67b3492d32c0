"""The values a light client works on. All frozen, all plain; `now` is always an argument.

Heights are u64 (for the `checkpoint` type: the tree size); times are integer seconds since 1970
UTC; every hash is 32 bytes unless said otherwise. Limits stand beside what they limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

MAX_VALIDATORS = 200
MAX_HEADER_BYTES = 256 * 1024
MAX_PROOF_BYTES = 4 * 1024 * 1024
MAX_INT = 2**63 - 1
"""Sequences, heights, times and amounts stay below 2^63, so that every database can hold them."""

MAX_ROOT_BYTES = 64
"""Bytes of a root: 32, or what a foreign header holds in its place."""
NANOS = 10**9

DAY = 86_400
DEFAULT_TRUSTING_PERIOD = 90 * DAY
DEFAULT_CLOCK_DRIFT = 10


@dataclass(frozen=True, slots=True)
class Validator:
    """One voice in a validator set. A person or institution may hold keys of several algorithms."""

    name: str
    """Printable ASCII, 1-64 characters, unique in its set; also the key name on signed notes."""
    power: int
    """Voting power, 1 to 2^32; foreign types have the limit of their chain."""
    keys: tuple[tuple[str, bytes], ...]
    """(algorithm, public key) pairs sorted by algorithm, each algorithm once, at least one."""

    def key(self, algorithm: str) -> bytes | None:
        """The public key of one algorithm, or None where this validator has none."""
        return next((key for name, key in self.keys if name == algorithm), None)


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """Validators in order of name, or in that of their own chain, whose hash it then is.

    The hash (relay.light.validators, or `ClientType.hash_validators`) covers every field.
    """

    validators: tuple[Validator, ...]
    source: bytes = b""
    """Where and by what rule the chain keeps this set, for families in which that varies."""

    @property
    def power(self) -> int:
        """Total voting power."""
        return sum(v.power for v in self.validators)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature over a header. `signer` and `key_id` are hints; a key that verifies counts."""

    signer: str
    algorithm: str
    """Empty where the header does not say: a co-signature of a witness known to the client only."""
    value: bytes
    time: int = 0
    """Seconds; used by witness cosignatures (cosignature/v1) and by chains with a time per vote."""
    key_id: bytes = b""
    """The four bytes that stand before the signature on a signed note."""
    nanos: int = 0
    """Nanoseconds beside `time`, where the chain's votes tell them."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A quorum rule. `strict`: power > n/d of the total; else: count >= ceil(n/d of the total)."""

    numerator: int = 2
    denominator: int = 3
    strict: bool = True


@dataclass(frozen=True, slots=True)
class Witness:
    """A party outside the validator set whose co-signature the client requires."""

    name: str
    algorithm: str
    key: bytes


@dataclass(frozen=True, slots=True)
class ClientState:
    """What a receiver pinned when it created a client. Nothing in it comes from what is proven."""

    client_type: str
    """Entry point name in `lianqiao.clients`, e.g. `checkpoint`."""
    chain_id: str
    """Id of the chain that is followed, e.g. `zj-medical/0` (checkpoint origin: id/epoch)."""
    algorithm: str = "ed25519"
    """The one signature algorithm that is counted."""
    tree_hash: str = "sha256"
    proof_kind: str = "rfc6962"
    threshold: Threshold = Threshold()
    trust_level: Threshold = field(default=Threshold(1, 3))
    """For types that skip headers: how much of the trusted set must have signed the new one."""
    trusting_period: int = DEFAULT_TRUSTING_PERIOD
    """Seconds after a header's time during which it can be built upon."""
    clock_drift: int = DEFAULT_CLOCK_DRIFT
    """Seconds by which a header may lie in the verifier's future."""
    assurance: str = "consensus proof"
    """In words, what a verified header means; shown by `connect` and `clients show`."""
    witnesses: tuple[Witness, ...] = ()
    witness_quorum: int = 0
    """How many of `witnesses` must have co-signed each header. 0: none required."""
    parameters: tuple[tuple[str, str], ...] = ()
    """(name, value) pairs, ascending by name, that the family pins beside: which contract of a
    chain is believed, where its validators are kept. Only its client type reads them."""


@dataclass(frozen=True, slots=True)
class ConsensusState:
    """What a client keeps of one verified header."""

    height: int
    time: int
    root: bytes
    """32 bytes; for foreign types what their headers hold, up to MAX_ROOT_BYTES."""
    set_hash: bytes
    """Hash of the validator set that signed this header."""
    next_set_hash: bytes
    """Hash of the set that signs what follows."""
    header_hash: bytes
    """Hash of the header (for `checkpoint`: SHA-256 of the note body)."""
    nanos: int = 0
    """Nanoseconds beside `time`, where the chain tells them: they count in the order of headers
    alone. Periods, drifts and timeouts are judged by whole seconds."""


@dataclass(frozen=True, slots=True)
class Header:
    """A decoded header: recomputed, not yet verified."""

    chain_id: str
    height: int
    time: int
    root: bytes
    hash: bytes
    """Recomputed from the fields by `ClientType.decode_header`, never read."""
    validators: ValidatorSet
    """The presented set; its hash is compared with `set_hash`, which the signed fields hold."""
    set_hash: bytes
    next_set_hash: bytes
    signatures: tuple[Signature, ...]
    cosignatures: tuple[Signature, ...] = ()
    body: bytes = b""
    """Exact bytes that were signed, where the type signs one body for all."""
    link: tuple[bytes, ...] = ()
    """For `checkpoint`: the consistency proof from the trusted height to this one."""
    link_height: int = 0
    """For `checkpoint`: the size that `link` starts from."""
    nanos: int = 0
    """Nanoseconds beside `time`, below 10^9."""
    trusted_validators: ValidatorSet | None = None
    """For types that skip: the set that the trusted header announced, where it is not the one that
    signed this header. A header that skips brings it along, so that it is verified by itself."""


@dataclass(frozen=True, slots=True)
class Claim:
    """That `value` is written at `path` (None: that nothing is, for types that prove absence)."""

    path: bytes
    value: bytes | None


LOG_PROOFS = frozenset({"rfc6962", "journal"})
"""Kinds of proof that show what was written and never that something was not."""


Range = tuple[int, int]
"""Numbers from the first, included, to the second, excluded."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a chain states of the packets that one of its clients has sent."""

    time: int
    """Seconds: every packet that was sent before then has a sequence below `next_sequence`."""
    next_sequence: int
    closed: tuple[Range, ...] = ()
    """Sequences that were acknowledged or had timed out by then."""
    skipped: tuple[Range, ...] = ()
    """Sequences that were passed over and never sent, ascending, apart from each other."""


@runtime_checkable
class TellsSent(Protocol):
    """A ClientType whose chains state what they have sent: it says how such a claim looks.

    Of chains of other types it is never known that nothing is missing, and contracts that ask
    whether something was revoked refuse with HEAD_STALE.
    """

    def read_sent(self, consensus: ConsensusState, client_id: str, claims: Sequence[Claim]) -> Sent:
        """What `claims` state of the packets sent by `client_id` of that chain. They are verified
        by the caller, under `consensus`, in their order.

        Raises Malformed for what is no statement, Invalid(COUNTERPARTY_MISMATCH) for one of
        another client.
        """
        ...


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the contract `escrow` of a family's ledgers can do beside plain locks."""

    nets: bool = True
    """Locks what a netting window comes to."""
    itemises: bool = True
    """Posts the rounding difference of a bill's lines by itself."""
    algorithms: tuple[str, ...] = ()
    """Of the signatures that it verifies; empty: all that a journal's ledger does."""


ABLE = Abilities()
"""Everything; a ClientType with fewer says so by its attribute `abilities`."""


class ClientType(Protocol):
    """One consensus family, pure. Supplied by `adapters/<family>/light.py` as `CLIENT`.

    What is common to all families (threshold, lineage of sets, monotonicity, trusting period,
    misbehaviour) stays in relay.light.client; a type supplies decoding, sign bytes and proofs.
    """

    name: str
    skips: bool
    """True where headers of a later set verify by overlap (trust level); False: each set change."""
    proves_absence: bool
    """True where a proof can show that nothing is written (unless the pinned kind is a log's)."""
    equal_time: bool
    """True where a higher header may carry the same time as the one before."""
    strict_drift: bool
    """True where a header of exactly `now` + clock drift is too far ahead already, as CometBFT's
    light client judges (light/verifier.go); False: only one beyond it."""
    links: bool
    """True where `verify_link` shows that all of the lower header's state is under the higher."""

    def decode_header(self, raw: bytes) -> Header:
        """The header in `raw`, its hash computed here. Raises Malformed, and nothing else."""
        ...

    def encode_header(self, header: Header) -> bytes:
        """The one encoding of `header`; `encode_header(decode_header(raw)) == raw`."""
        ...

    def check_pinned(self, state: ClientState, header: Header) -> None:
        """What the family itself asks of a client state, and of any header under it.

        Raises Malformed for a state that may not be pinned, Invalid for a header that does not
        keep to the pinned parameters.
        """
        ...

    def succeeds(self, trusted: ConsensusState, untrusted_header: Header) -> bool:
        """Whether the header itself shows that its set follows from the trusted header, although
        that did not announce it (the set is proven under the trusted state root, for instance)."""
        ...

    def hash_validators(self, validators: ValidatorSet) -> bytes:
        """The hash by which this chain's headers name a set (`set_hash`, `next_set_hash`)."""
        ...

    def sign_bytes(self, header: Header, signer: Validator, signature: Signature) -> bytes:
        """The exact bytes (or digest, as the algorithm asks) this signature must be over."""
        ...

    def witness_of(self, signature: Signature, witnesses: Sequence[Witness]) -> Witness | None:
        """The pinned witness whose co-signature this claims to be; None for a stranger's."""
        ...

    def cosign_bytes(self, header: Header, witness: Witness, signature: Signature) -> bytes:
        """The exact bytes that this co-signature must be over."""
        ...

    def verify_link(self, trusted: ConsensusState, untrusted_header: Header) -> None:
        """Checks that bind a header to a trusted one beside signatures (consistency proof).

        Raises Invalid(INVALID_CONSISTENCY).
        """
        ...

    def verify_membership(
        self, state: ClientState, consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]
    ) -> None:
        """Checks one proof for all claims, in order, under `consensus.root`.

        Raises Malformed, Invalid(INVALID_PROOF) or Refused(ABSENCE_NOT_PROVABLE). A proof that
        holds anything unused is refused.
        """
        ...

    def narrow_membership(
        self,
        state: ClientState,
        consensus: ConsensusState,
        proof: bytes,
        claims: Sequence[Claim],
        wanted: Sequence[int],
    ) -> bytes:
        """The proof for the claims at positions `wanted`, out of a verified one for all of them.

        Raises Malformed.
        """
        ...


def absence_provable(client_type: ClientType, state: ClientState) -> bool:
    """Whether a client of that state can be shown that nothing is written at a path."""
    return client_type.proves_absence and state.proof_kind not in LOG_PROOFS
