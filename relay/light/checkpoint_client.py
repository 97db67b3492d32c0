"""The client type `checkpoint`: following the journal of a lianqiao node by its signed heads.

    height = tree size      root = tree root      hash = SHA-256(body)      chain id = origin

A raw header is, in the encoding of `relay.light.wire`:

    u8   version = 1
    data note             the checkpoint (`relay.light.checkpoint`), validators' lines first, then
                          all others, each part in ascending order of line bytes
    data validator set    preimage of the body's `set` (`relay.light.validators`)
    u64  link height      the trusted size that the link starts from; 0 for an anchor
    u32  count, hashes    the consistency proof from there, 32 bytes each

A line whose name and key id are those of a validator of the presented set is a signature; every
other is taken for a witness's co-signature, which only the client's pinned witnesses can tell.
`encode_header(decode_header(raw)) == raw`: there is no second encoding of the same lines.

`select_signatures` drops what a client with one pinned algorithm would refuse: a body may carry
lines of several algorithms side by side, and each client is shown its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from relay.errors import Invalid, Malformed, Reason
from relay.light.checkpoint import cosign_bytes, parse_body, sign_bytes
from relay.light.membership import verify_membership
from relay.light.merkle import verify_consistency
from relay.light.narrow import narrow_membership
from relay.light.note import (
    MAX_NOTE_BYTES,
    Note,
    NoteSignature,
    checkpoint_key_id,
    cosignature_key_id,
    decode_note,
    encode_note,
    sort_signatures,
)
from relay.light.sent import read_sent
from relay.light.types import (
    MAX_INT,
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
from relay.light.validators import MAX_SET_BYTES, decode_set, encode_set, set_hash
from relay.light.wire import Reader, Writer

MAX_LINK_HASHES = 128
"""A consistency proof between sizes below 2^63 has at most 63 + 63 + 1 hashes."""

_VERSION = 1
_COSIGNATURE_BYTES = 72
"""Length of a cosignature/v1 value: eight bytes of time, 64 of signature."""


class CheckpointClient:
    """Implements `relay.light.types.ClientType`."""

    name = "checkpoint"
    skips = False
    proves_absence = False
    equal_time = True
    strict_drift = False
    links = True

    def decode_header(self, raw: bytes) -> Header:
        """See ClientType. Raises Malformed; the limits of its parts are those of a header too."""
        reader = Reader(raw, "checkpoint header")
        if reader.u8() != _VERSION:
            raise Malformed("checkpoint header: unknown version")
        note = decode_note(reader.data(MAX_NOTE_BYTES))
        validators = decode_set(reader.data(MAX_SET_BYTES))
        link_height = reader.u64()
        link = tuple(reader.fixed(32) for _ in range(reader.count(MAX_LINK_HASHES)))
        header = make_header(note, validators, link_height, link)
        if self.encode_header(header) != raw:
            raise Malformed("checkpoint header: lines are not in order, or something follows")
        return header

    def encode_header(self, header: Header) -> bytes:
        """See ClientType. Raises Malformed for a header that has no encoding."""
        signatures = sort_signatures([_line(header, s) for s in header.signatures])
        others = sort_signatures([_other_line(s) for s in header.cosignatures])
        note = encode_note(Note(header.body, signatures + others))
        return encode_header(note, header.validators, header.link_height, header.link)

    def check_pinned(self, state: ClientState, header: Header) -> None:
        """See ClientType: this family has no parameters of its own."""
        if state.parameters:
            raise Malformed("a checkpoint client pins no parameters")

    def succeeds(self, trusted: ConsensusState, untrusted_header: Header) -> bool:
        """See ClientType: every set is announced."""
        return False

    def hash_validators(self, validators: ValidatorSet) -> bytes:
        """See ClientType."""
        return set_hash(validators)

    def sign_bytes(self, header: Header, signer: Validator, signature: Signature) -> bytes:
        """See ClientType."""
        return sign_bytes(signature.algorithm, header.body)

    def witness_of(self, signature: Signature, witnesses: Sequence[Witness]) -> Witness | None:
        """See ClientType: by name and key id."""
        for witness in witnesses:
            if witness.name == signature.signer and signature.key_id == cosignature_key_id(
                witness.name, witness.algorithm, witness.key
            ):
                return witness
        return None

    def cosign_bytes(self, header: Header, witness: Witness, signature: Signature) -> bytes:
        """See ClientType."""
        return cosign_bytes(witness.algorithm, header.body, signature.time)

    def verify_link(self, trusted: ConsensusState, untrusted_header: Header) -> None:
        """See ClientType: the tree of the header extends the trusted one."""
        if untrusted_header.link_height != trusted.height:
            raise Invalid(
                Reason.INVALID_CONSISTENCY,
                f"the link starts at size {untrusted_header.link_height}, trusted is another",
                trusted=trusted.height,
            )
        verify_consistency(
            trusted.height,
            untrusted_header.height,
            trusted.root,
            untrusted_header.root,
            untrusted_header.link,
        )

    def verify_membership(
        self, state: ClientState, consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]
    ) -> None:
        """See ClientType and `relay.light.membership`."""
        if (state.tree_hash, state.proof_kind) != ("sha256", "rfc6962"):
            raise Invalid(Reason.INVALID_PROOF, "the client pins another kind of tree or proof")
        verify_membership(consensus.root, consensus.height, proof, claims)

    def narrow_membership(
        self,
        state: ClientState,
        consensus: ConsensusState,
        proof: bytes,
        claims: Sequence[Claim],
        wanted: Sequence[int],
    ) -> bytes:
        """See ClientType and `relay.light.narrow`."""
        return narrow_membership(consensus.height, proof, claims, wanted)

    def read_sent(self, consensus: ConsensusState, client_id: str, claims: Sequence[Claim]) -> Sent:
        """See TellsSent and `relay.light.sent`: one entry, under any later head."""
        return read_sent(client_id, claims)


def make_header(
    note: Note, validators: ValidatorSet, link_height: int = 0, link: Sequence[bytes] = ()
) -> Header:
    """The header of a decoded note and a presented set. Raises Malformed."""
    body = parse_body(note.text)
    if not body.size >= 1 or link_height > MAX_INT:
        raise Malformed("a checkpoint header has a size between 1 and 2^63 - 1")
    by_name = {validator.name: validator for validator in validators.validators}
    signatures, cosignatures = [], []
    for line in note.signatures:
        algorithm = _algorithm_of(line, by_name.get(line.name))
        if algorithm:
            signatures.append(Signature(line.name, algorithm, line.value, 0, line.key_id))
        else:
            cosignatures.append(_decode_other(line))
    return Header(
        chain_id=body.origin,
        height=body.size,
        time=body.time,
        root=body.root,
        hash=sha256(note.text).digest(),
        validators=validators,
        set_hash=body.set_hash,
        next_set_hash=body.next_set_hash,
        signatures=tuple(signatures),
        cosignatures=tuple(cosignatures),
        body=note.text,
        link=tuple(link),
        link_height=link_height,
    )


def encode_header(
    note: bytes, validators: ValidatorSet, link_height: int = 0, link: Sequence[bytes] = ()
) -> bytes:
    """The raw header of an encoded note (module docstring). Raises Malformed."""
    writer = Writer().u8(_VERSION).data(note, MAX_NOTE_BYTES)
    writer.data(encode_set(validators), MAX_SET_BYTES).u64(link_height)
    writer.count(len(link), MAX_LINK_HASHES)
    for value in link:
        writer.fixed(value, 32)
    return writer.done()


def select_signatures(header: Header, state: ClientState) -> Header:
    """The header with the lines alone that a client of this state counts."""
    return replace(
        header,
        signatures=tuple(s for s in header.signatures if s.algorithm == state.algorithm),
        cosignatures=tuple(
            s for s in header.cosignatures if CHECKPOINT.witness_of(s, state.witnesses)
        ),
    )


def _algorithm_of(line: NoteSignature, validator: Validator | None) -> str:
    """The algorithm of the validator's key whose id stands on the line; empty where none's does."""
    for algorithm, key in validator.keys if validator else ():
        if checkpoint_key_id(line.name, algorithm, key) == line.key_id:
            return algorithm
    return ""


def _line(header: Header, signature: Signature) -> NoteSignature:
    return NoteSignature(signature.signer, signature.key_id, signature.value)


def _decode_other(line: NoteSignature) -> Signature:
    if len(line.value) != _COSIGNATURE_BYTES:
        return Signature(line.name, "", line.value, 0, line.key_id)
    time = int.from_bytes(line.value[:8], "big")
    if time > MAX_INT:
        raise Malformed("a co-signature's time stays below 2^63")
    return Signature(line.name, "ed25519", line.value[8:], time, line.key_id)


def _other_line(signature: Signature) -> NoteSignature:
    stamp = signature.time.to_bytes(8, "big") if signature.algorithm == "ed25519" else b""
    return NoteSignature(signature.signer, signature.key_id, stamp + signature.value)


CHECKPOINT = CheckpointClient()
