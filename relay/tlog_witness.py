"""The texts of the C2SP witness protocol over HTTP (https://c2sp.org/tlog-witness).

    POST <prefix>/add-checkpoint      old <size>                      200  signature lines
                                      <base64 of a hash>, 0 to 63     409  the size that the witness
                                      (an empty line)                      wants, text/x.tlog.size
                                      <checkpoint, a signed note>     or why not

The protocol says nothing of validator sets: a log has keys that its witnesses know. So over HTTP no
preimage of a set travels, and a witness takes the set from what it knows of the chain.

Stricter than the specification, so that decoding and encoding are inverse: see relay.light.note.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import Malformed
from relay.light.note import MAX_NOTE_BYTES, decode_base64, decode_line
from relay.light.types import MAX_INT

PATH = "/add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"
HASH_BYTES = 32
MAX_PROOF = 63
MAX_REQUEST_BYTES = 32 + MAX_PROOF * 45 + 1 + MAX_NOTE_BYTES
MAX_LINES = 16
MAX_ANSWER_BYTES = MAX_LINES * 1024


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A head that is shown to a witness."""

    old_size: int
    """Where the proof starts."""
    proof: tuple[bytes, ...]
    """RFC 6962 consistency proof from there."""
    note: bytes
    """The checkpoint with its signatures."""


def encode_request(asked: AddCheckpoint) -> bytes:
    """The body of a request; nothing is checked."""
    hashes = b"".join(b64encode(one) + b"\n" for one in asked.proof)
    return b"old %d\n%s\n%s" % (asked.old_size, hashes, asked.note)


def decode_request(raw: bytes) -> AddCheckpoint:
    """What a request says; the note is not decoded. Raises Malformed."""
    if len(raw) > MAX_REQUEST_BYTES:
        raise Malformed(f"a request is at most {MAX_REQUEST_BYTES} bytes long")
    head, gap, note = raw.partition(b"\n\n")
    first, *hashes = head.split(b"\n")
    if not gap or not note:
        raise Malformed("a request is an old size, hashes, an empty line and a checkpoint")
    if not first.startswith(b"old "):
        raise Malformed("the first line of a request is: old SIZE")
    if len(hashes) > MAX_PROOF:
        raise Malformed(f"a proof has at most {MAX_PROOF} hashes")
    return AddCheckpoint(decode_size(first[4:]), tuple(_hash(line) for line in hashes), note)


def encode_size(size: int) -> bytes:
    """The body that answers 409."""
    return b"%d\n" % size


def decode_size(raw: bytes) -> int:
    """A size in decimal, without a line's end. Raises Malformed."""
    # int() alone would let signs, blanks and underscores through.
    if not (1 <= len(raw) <= 19 and raw.isdigit()) or (raw[:1] == b"0" and raw != b"0"):
        raise Malformed("a size is a decimal number without leading zeroes")
    if (size := int(raw)) > MAX_INT:
        raise Malformed("a size is below 2^63")
    return size


def decode_answer(raw: bytes) -> tuple[bytes, ...]:
    """The signature lines that answer 200, each with its LF. Raises Malformed."""
    lines = raw.split(b"\n")
    if lines.pop() or not 1 <= len(lines) <= MAX_LINES:
        raise Malformed(f"a witness answers 1 to {MAX_LINES} signature lines")
    for line in lines:
        decode_line(line)
    return tuple(line + b"\n" for line in lines)


def encode_answer(lines: Sequence[bytes]) -> bytes:
    """The body that answers 200, of lines with their LF."""
    return b"".join(lines)


def _hash(line: bytes) -> bytes:
    try:
        found = decode_base64(line.decode("ascii"), "a hash of the proof")
    except UnicodeDecodeError as error:
        raise Malformed("a hash of the proof is not base64") from error
    if len(found) != HASH_BYTES:
        raise Malformed(f"a hash of the proof is {HASH_BYTES} bytes long")
    return found
