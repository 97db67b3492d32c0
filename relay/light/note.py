"""Signed notes, byte for byte (https://c2sp.org/signed-note v1.0).

    text, one or more lines, each ending in LF
    (an empty line)
    — <key name> <base64( 4-byte key id ‖ signature )>        one or more of these

A key id is the first four bytes of H(key name ‖ LF ‖ signature type ‖ public key). It tells which
key a line claims to be of and proves nothing. Types:

    what it signs            ed25519     any other algorithm
    checkpoint (validator)   0x01        0xff ‖ "lianqiao/checkpoint/" ‖ algorithm
    co-signature (witness)   0x04        0xff ‖ "lianqiao/cosignature/" ‖ algorithm

Stricter than the specification, so that decoding and encoding are inverse: printable ASCII names of
at most 64 characters, and base64 that encodes back to itself. Whoever writes a note puts its lines
in ascending order (`sort_signatures`); what order a reader demands is the reader's rule.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from relay.errors import Malformed
from relay.light.keys import MAX_SIGNATURE_BYTES
from relay.light.validators import check_name

MAX_NOTE_BYTES = 128 * 1024
MAX_TEXT_BYTES = 4096
MAX_SIGNATURES = 512

KEY_ID_BYTES = 4
_DASH = "— ".encode()


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line."""

    name: str
    """Key name."""
    key_id: bytes
    """Four bytes, a hint."""
    value: bytes
    """What follows the key id: 1 to 256 bytes."""


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note: decoded, nothing verified."""

    text: bytes
    """With its final LF."""
    signatures: tuple[NoteSignature, ...]


def checkpoint_key_id(name: str, algorithm: str, key: bytes) -> bytes:
    """Key id of a validator's signature lines (table in the module docstring)."""
    kind = b"\x01" if algorithm == "ed25519" else b"\xfflianqiao/checkpoint/" + algorithm.encode()
    return _key_id(name, kind, key)


def cosignature_key_id(name: str, algorithm: str, key: bytes) -> bytes:
    """Key id of a witness's signature lines (table in the module docstring)."""
    kind = b"\x04" if algorithm == "ed25519" else b"\xfflianqiao/cosignature/" + algorithm.encode()
    return _key_id(name, kind, key)


def decode_verifier_key(text: str) -> tuple[str, bytes]:
    """Name and Ed25519 key of a witness, `NAME+HASH+BASE64` as its operator publishes it (vkey of
    signed-note, type 0x04 of tlog-cosignature). Raises Malformed."""
    name, _, rest = text.partition("+")
    told, _, encoded = rest.partition("+")
    check_name(name)
    data = decode_base64(encoded, "a verifier key")
    if len(data) != 1 + 32 or data[:1] != b"\x04":
        raise Malformed("a witness's verifier key is of type 4, Ed25519 with a timestamp")
    if told != cosignature_key_id(name, "ed25519", data[1:]).hex():
        raise Malformed("a verifier key does not have the hash that it names: it was mistyped")
    return name, data[1:]


def sort_signatures(signatures: Sequence[NoteSignature]) -> tuple[NoteSignature, ...]:
    """The lines in the one order in which a note is encoded."""
    return tuple(sorted(signatures, key=encode_line))


def encode_note(note: Note) -> bytes:
    """The note's bytes, lines in the order given. Raises Malformed where it breaks a rule."""
    _check(note)
    return note.text + b"\n" + b"".join(encode_line(signature) for signature in note.signatures)


def decode_note(raw: bytes) -> Note:
    """The note in `raw`. Raises Malformed."""
    if len(raw) > MAX_NOTE_BYTES:
        raise Malformed(f"a note is at most {MAX_NOTE_BYTES} bytes long")
    end = raw.rfind(b"\n\n")  # where there is none, no text is left, which `_check` refuses
    if not raw.endswith(b"\n"):
        raise Malformed("a note is text, an empty line and signature lines")
    lines = raw[end + 2 :].split(b"\n")[:-1]
    note = Note(raw[: end + 1], tuple(decode_line(line) for line in lines))
    _check(note)
    return note


def encode_line(signature: NoteSignature) -> bytes:
    """One signature line with its LF; nothing is checked."""
    encoded = b64encode(signature.key_id + signature.value)
    return _DASH + signature.name.encode() + b" " + encoded + b"\n"


def decode_line(line: bytes) -> NoteSignature:
    """The signature in a line without its LF. Raises Malformed; `encode_note` holds its limits."""
    parts = line[len(_DASH) :].split(b" ")
    if not line.startswith(_DASH) or len(parts) != 2:
        raise Malformed("a signature line is a dash, a key name and base64")
    try:
        name, encoded = (part.decode("ascii") for part in parts)
    except UnicodeDecodeError as error:
        raise Malformed("a signature line holds more than ASCII") from error
    data = decode_base64(encoded, "a signature")
    return NoteSignature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def decode_base64(text: str, what: str) -> bytes:
    """Standard base64 with padding that encodes back to itself. Raises Malformed."""
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{what} is not base64") from error
    if b64encode(data).decode() != text:
        raise Malformed(f"{what} is not canonical base64")
    return data


def _key_id(name: str, kind: bytes, key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + kind + key).digest()[:KEY_ID_BYTES]


def _check(note: Note) -> None:
    if not 1 <= len(note.text) <= MAX_TEXT_BYTES or not note.text.endswith(b"\n"):
        raise Malformed(f"the text of a note is 1 to {MAX_TEXT_BYTES} bytes and ends its last line")
    try:
        text = note.text.decode()
    except UnicodeDecodeError as error:
        raise Malformed("the text of a note is not UTF-8") from error
    if any(c < " " and c != "\n" for c in text):
        raise Malformed("the text of a note holds a control character")
    if not 1 <= len(note.signatures) <= MAX_SIGNATURES:
        raise Malformed(f"a note has 1 to {MAX_SIGNATURES} signatures")
    for signature in note.signatures:
        check_name(signature.name)
        if len(signature.key_id) != KEY_ID_BYTES:
            raise Malformed("a key id is four bytes long")
        if not 1 <= len(signature.value) <= MAX_SIGNATURE_BYTES:
            raise Malformed(f"a signature is 1 to {MAX_SIGNATURE_BYTES} bytes long")
