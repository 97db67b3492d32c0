"""Checkpoints: the signed head of a journal, as a C2SP tlog-checkpoint, and what exactly is signed.

The body of the note, LF after each line, nothing else, in this order:

    <origin>                 chain id / epoch, e.g. zj-medical/0
    <size>                   number of entries, decimal
    <base64>                 root of the RFC 6962 tree over them, 32 bytes
    time <seconds>           integer seconds since 1970 UTC, decimal
    set <base64>             hash of the validator set that signs this size
    next <base64>            hash of the set that signs every greater size

Decimals have no leading zero and stay below 2^63; base64 is standard, padded and canonical. So a
body has one encoding, and `encode_body(parse_body(b)) == b`. There is one body per size, ever.

**What is signed.** Let *body* be those bytes, with the final LF.

    signature            ed25519                              p256, secp256k1
    of a validator       Ed25519 over body                    ECDSA over the digest SHA-256(body)
    of a witness         Ed25519 over "cosignature/v1" LF     ECDSA over the digest SHA-256(body)
                         "time " <seconds> LF body

* Ed25519 lines are those of C2SP: signed-note type 0x01, and cosignature/v1, type 0x04, whose value
  is the time as eight bytes, big-endian, and then the 64 bytes of the signature.
* An ECDSA value is r ‖ s, 64 bytes, with low s (`relay.light.keys`). A contract on an EVM chain
  recovers the signer of a secp256k1 line by `ecrecover(sha256(body), v, r, s)`, trying v = 27 and
  28, with the precompiles 0x02 and 0x01; there is no prefix and no second hash. The digest of a
  witness is that of the operators, so a contract needs one digest per checkpoint.
* An algorithm that is added later signs the body as its message, for both kinds.

The first line keeps signatures of two ledgers apart. A key that signs checkpoints signs nothing
else: that is the operator's duty, as with every key of this program.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Protocol

from relay.errors import Malformed
from relay.light import keys
from relay.light.note import (
    NoteSignature,
    checkpoint_key_id,
    cosignature_key_id,
    decode_base64,
)
from relay.light.types import MAX_INT, Witness

MAX_CHAIN_ID_BYTES = 64
MAX_EPOCH = 2**31 - 1


class Signer(Protocol):
    """What signs: `relay.keys.SigningKey`, a hardware token, a remote signer."""

    @property
    def algorithm(self) -> str:
        """Name of the signature algorithm."""
        ...

    @property
    def public(self) -> bytes:
        """Public key in the encoding of `relay.light.keys`."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in the format of `relay.light.keys`."""
        ...


@dataclass(frozen=True, slots=True)
class CheckpointBody:
    """The six fields that a checkpoint signs."""

    origin: str
    """Chain id and epoch, `id/epoch`."""
    size: int
    """Number of entries; 0 only before the first."""
    root: bytes
    """32 bytes."""
    time: int
    """Seconds since 1970 UTC; never below that of a smaller size."""
    set_hash: bytes
    """32 bytes; the set that signs this size."""
    next_set_hash: bytes
    """32 bytes; the set that signs every greater size."""


def make_origin(chain_id: str, epoch: int = 0) -> str:
    """`id/epoch`. Raises Malformed where either breaks its rule."""
    if not 1 <= len(chain_id) <= MAX_CHAIN_ID_BYTES or not all(
        "!" <= c <= "~" and c != "+" for c in chain_id
    ):
        raise Malformed("a chain id is 1-64 printable ASCII characters without space and plus")
    if not 0 <= epoch <= MAX_EPOCH:
        raise Malformed("an epoch lies between 0 and 2^31 - 1")
    return f"{chain_id}/{epoch}"


def split_origin(origin: str) -> tuple[str, int]:
    """(chain id, epoch) of an origin. Raises Malformed."""
    chain_id, _, epoch = origin.rpartition("/")
    if make_origin(chain_id, _decimal(epoch, "epoch")) != origin:
        raise Malformed("an origin is a chain id, a slash and an epoch")
    return chain_id, int(epoch)


def chain_name(chain_id: str) -> str:
    """The global id of a chain: what stands before the epoch, or all of it for a kind of chain
    that has none."""
    name, slash, epoch = chain_id.rpartition("/")
    return name if slash and epoch.isascii() and epoch.isdigit() else chain_id


def encode_body(body: CheckpointBody) -> bytes:
    """The one encoding of a body. Raises Malformed where a field breaks its rule."""
    split_origin(body.origin)
    if not 0 <= body.size <= MAX_INT or not 0 <= body.time <= MAX_INT:
        raise Malformed("size and time of a checkpoint lie between 0 and 2^63 - 1")
    for digest in (body.root, body.set_hash, body.next_set_hash):
        if len(digest) != 32:
            raise Malformed("a hash of a checkpoint is 32 bytes long")
    root, current, following = (
        b64encode(digest).decode() for digest in (body.root, body.set_hash, body.next_set_hash)
    )
    return (
        f"{body.origin}\n{body.size}\n{root}\ntime {body.time}\nset {current}\nnext {following}\n"
    ).encode()


def parse_body(raw: bytes) -> CheckpointBody:
    """The body in `raw`. Raises Malformed."""
    try:
        lines = raw.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("a checkpoint is ASCII text") from error
    if len(lines) != 7:
        raise Malformed("a checkpoint has six lines: origin, size, root, time, set, next")
    body = CheckpointBody(
        origin=lines[0],
        size=_decimal(lines[1], "size"),
        root=decode_base64(lines[2], "root"),
        time=_decimal(lines[3].removeprefix("time "), "time"),
        set_hash=decode_base64(lines[4].removeprefix("set "), "set"),
        next_set_hash=decode_base64(lines[5].removeprefix("next "), "next"),
    )
    if encode_body(body) != raw:  # labels and leading zeros too are held by this
        raise Malformed("a checkpoint that is not in its one encoding")
    return body


def sign_bytes(algorithm: str, body: bytes) -> bytes:
    """The message of a validator's signature (module docstring): the body, for every algorithm."""
    return body


def cosign_bytes(algorithm: str, body: bytes, time: int) -> bytes:
    """The message of a witness's signature; `time` (seconds) is part of it for ed25519 alone."""
    if algorithm != "ed25519":
        return body
    return b"cosignature/v1\ntime %d\n" % time + body


def sign_body(name: str, signer: Signer, body: bytes) -> NoteSignature:
    """The signature line of validator `name` over an encoded body."""
    key_id = checkpoint_key_id(name, signer.algorithm, signer.public)
    return NoteSignature(name, key_id, signer.sign(sign_bytes(signer.algorithm, body)))


def cosign_body(name: str, signer: Signer, body: bytes, time: int) -> NoteSignature:
    """The signature line of witness `name`; `time` is when it saw the head, seconds."""
    key_id = cosignature_key_id(name, signer.algorithm, signer.public)
    value = signer.sign(cosign_bytes(signer.algorithm, body, time))
    stamp = time.to_bytes(8, "big") if signer.algorithm == "ed25519" else b""
    return NoteSignature(name, key_id, stamp + value)


def verify_cosignature(witness: Witness, body: bytes, value: bytes) -> int:
    """When `witness` saw the head, seconds (0 where its algorithm does not sign the time).

    `value` is what follows the key id on its line. Raises Invalid(INVALID_SIGNATURE).
    """
    time = 0
    if witness.algorithm == "ed25519":
        time, value = int.from_bytes(value[:8], "big"), value[8:]
    keys.verify(witness.algorithm, witness.key, cosign_bytes(witness.algorithm, body, time), value)
    return time


def _decimal(text: str, what: str) -> int:
    # int() alone would let underscores and signs through, and fails for thousands of digits. Zeros
    # before a number and digits of other scripts encode to something else.
    if not 1 <= len(text) <= 19 or not text.isdecimal():
        raise Malformed(f"{what} of a checkpoint is not a decimal number")
    return int(text)
