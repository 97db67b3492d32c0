"""The client type `cometbft`: a light client of CometBFT 0.38 and 0.40.

    height = block height      root = app hash      hash = header hash      chain id = chain id

A raw header is, in the encoding of `relay.light.wire`:

    u8   version = 1
    data SignedHeader           protobuf, in its one encoding (`block`); votes for nil are left out
    u32  count, data each       the set that signed: SimpleValidator, in CometBFT's order
    u32  count, data each       the set that the trusted header announced, where the header skips
                                and it is another one than signed; count 0 where it is not shown

What is checked here, beside `relay.light.client`: every field of the header and the commit by the
rules of ValidateBasic; the commit is for this very header and height; it has one place for each
validator, and each vote stands at its validator's place under his address; votes count only for
the block. Each signature is over the vote that is rebuilt from the header's own fields, with the
time of that vote. Header times are compared to the nanosecond.

**State at height H is in the app hash of header H + 1.** A proof of what block H wrote is verified
under header H + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters.cometbft.light import proofs
from adapters.cometbft.light.block import (
    COMMIT,
    NOBODY,
    BlockCommit,
    BlockHeader,
    BlockId,
    CommitSig,
    Timestamp,
    decode_signed_header,
    encode_signed_header,
    header_hash,
    vote_sign_bytes,
)
from adapters.cometbft.light.sent import read_store_sent
from adapters.cometbft.light.validators import check_set as check_validators
from adapters.cometbft.light.validators import decode_validator, encode_validator, hash_set
from relay.errors import Malformed
from relay.light.membership import journal_root
from relay.light.sent import read_sent
from relay.light.types import (
    MAX_HEADER_BYTES,
    MAX_VALIDATORS,
    Claim,
    ClientState,
    ConsensusState,
    Header,
    Sent,
    Signature,
    Validator,
    ValidatorSet,
    Witness,
)
from relay.light.wire import Reader, Writer

_VERSION = 1
_MAX_SIGNED_HEADER = 64 * 1024
_MAX_VALIDATOR = 128


@dataclass(frozen=True, slots=True)
class CometHeader(Header):
    """A header of CometBFT with what its votes are rebuilt from."""

    block: BlockHeader = field(default_factory=BlockHeader)
    round: int = 0
    block_id: BlockId = field(default_factory=BlockId)


STORE_ROOT_BYTES = 32
"""Of the app hash of a chain of the Cosmos SDK; that of a replicated node has 40."""


class CometClient:
    """Implements `relay.light.types.ClientType`."""

    name = "cometbft"
    skips = True
    proves_absence = True
    equal_time = False
    strict_drift = True
    links = False

    def decode_header(self, raw: bytes) -> Header:
        """See ClientType. Raises Malformed."""
        if len(raw) > MAX_HEADER_BYTES:
            raise Malformed(f"a header is at most {MAX_HEADER_BYTES} bytes long")
        reader = Reader(raw, "cometbft header")
        if reader.u8() != _VERSION:
            raise Malformed("cometbft header: unknown version")
        block, commit = decode_signed_header(reader.data(_MAX_SIGNED_HEADER))
        validators, trusted = _read_set(reader), _read_set(reader)
        reader.end()
        if validators is None:
            raise Malformed("cometbft header: it shows no validator set")
        if trusted == validators:
            raise Malformed("cometbft header: one set is shown twice")
        return make_header(block, commit, validators, trusted)

    def encode_header(self, header: Header) -> bytes:
        """See ClientType. Raises Malformed for a header that has no encoding."""
        assert isinstance(header, CometHeader), "a header of this client type"
        commit = BlockCommit(header.height, header.round, header.block_id, _places(header))
        return encode_light_block(
            header.block, commit, header.validators, header.trusted_validators
        )

    def check_pinned(self, state: ClientState, header: Header) -> None:
        """See ClientType: this family has no parameters of its own."""
        if state.parameters:
            raise Malformed("a cometbft client pins no parameters")

    def succeeds(self, trusted: ConsensusState, untrusted_header: Header) -> bool:
        """See ClientType: every set is announced."""
        return False

    def hash_validators(self, validators: ValidatorSet) -> bytes:
        """See ClientType."""
        return hash_set(validators)

    def sign_bytes(self, header: Header, signer: Validator, signature: Signature) -> bytes:
        """See ClientType: the precommit for this header, at the time of this vote."""
        assert isinstance(header, CometHeader), "a header of this client type"
        time = Timestamp(signature.time, signature.nanos)
        return vote_sign_bytes(header.chain_id, header.height, header.round, header.block_id, time)

    def witness_of(self, signature: Signature, witnesses: Sequence[Witness]) -> Witness | None:
        """See ClientType: headers of CometBFT carry no co-signatures."""
        return None

    def cosign_bytes(self, header: Header, witness: Witness, signature: Signature) -> bytes:
        """See ClientType. Raises Malformed."""
        raise Malformed("headers of CometBFT carry no co-signatures")

    def verify_link(self, trusted: ConsensusState, untrusted_header: Header) -> None:
        """See ClientType: what leads from one header to the next is signed and nothing else."""

    def verify_membership(
        self, state: ClientState, consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]
    ) -> None:
        """See ClientType, and `proofs` for the kinds of proof."""
        proofs.verify(state, consensus, proof, claims)

    def narrow_membership(
        self,
        state: ClientState,
        consensus: ConsensusState,
        proof: bytes,
        claims: Sequence[Claim],
        wanted: Sequence[int],
    ) -> bytes:
        """See ClientType."""
        return proofs.narrow(consensus, state.proof_kind, proof, claims, wanted)

    def read_sent(self, consensus: ConsensusState, client_id: str, claims: Sequence[Claim]) -> Sent:
        """See TellsSent: a replicated node states what it has sent in its journal, as all nodes do
        (relay.light.sent); of a chain of the Cosmos SDK the store says it (`sent`)."""
        if len(consensus.root) == STORE_ROOT_BYTES:
            return read_store_sent(consensus, client_id, claims)
        journal_root(consensus.root)
        return read_sent(client_id, claims)


def make_header(
    block: BlockHeader,
    commit: BlockCommit,
    validators: ValidatorSet,
    trusted: ValidatorSet | None = None,
) -> CometHeader:
    """The header of a checked block header and commit. Raises Malformed."""
    if len(commit.signatures) != len(validators.validators):
        raise Malformed("cometbft header: the commit has not one place for each validator")
    signatures = []
    for place, validator in zip(commit.signatures, validators.validators, strict=True):
        if place == NOBODY:
            continue
        if place.address.hex().upper() != validator.name:
            raise Malformed("cometbft header: a vote stands at another validator's place")
        signatures.append(
            Signature(
                validator.name,
                validator.keys[0][0],
                place.signature,
                place.time.seconds,
                nanos=place.time.nanos,
            )
        )
    return CometHeader(
        chain_id=block.chain_id,
        height=block.height,
        time=block.time.seconds,
        nanos=block.time.nanos,
        root=block.app_hash,
        hash=header_hash(block),
        validators=validators,
        set_hash=block.validators_hash,
        next_set_hash=block.next_validators_hash,
        signatures=tuple(signatures),
        trusted_validators=trusted,
        block=block,
        round=commit.round,
        block_id=commit.block_id,
    )


def encode_light_block(
    block: BlockHeader,
    commit: BlockCommit,
    validators: ValidatorSet,
    trusted: ValidatorSet | None = None,
) -> bytes:
    """The raw header of its parts (module docstring). Raises Malformed."""
    check_validators(validators)
    writer = Writer().u8(_VERSION).data(encode_signed_header(block, commit), _MAX_SIGNED_HEADER)
    for shown in (validators.validators, trusted.validators if trusted else ()):
        writer.count(len(shown), MAX_VALIDATORS)
        for validator in shown:
            writer.data(encode_validator(validator), _MAX_VALIDATOR)
    return writer.done()


def _read_set(reader: Reader) -> ValidatorSet | None:
    """The set that follows; None where there is none."""
    count = reader.count(MAX_VALIDATORS)
    shown = ValidatorSet(tuple(decode_validator(reader.data(_MAX_VALIDATOR)) for _ in range(count)))
    if not count:
        return None
    check_validators(shown)
    return shown


def _places(header: CometHeader) -> tuple[CommitSig, ...]:
    votes = {signature.signer: signature for signature in header.signatures}
    if len(votes) != len(header.signatures):
        raise Malformed("cometbft header: a validator has one place")
    places = []
    for validator in header.validators.validators:
        vote = votes.pop(validator.name, None)
        if vote is None:
            places.append(NOBODY)
            continue
        time = Timestamp(vote.time, vote.nanos)
        places.append(CommitSig(COMMIT, bytes.fromhex(validator.name), time, vote.value))
    if votes:
        raise Malformed("cometbft header: a signer has no place in the set")
    return tuple(places)


COMETBFT = CometClient()
