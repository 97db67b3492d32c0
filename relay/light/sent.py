"""The statement of a lianqiao chain that says up to which packet a client of it had sent by when.

An entry of the chain's journal (relay.light.membership) of kind SENT:

    path   0x00 ‖ 14 ‖ len(client id) ‖ client id ‖ BE64(index of the entry)
    value  BE64(time) ‖ BE64(next sequence) ‖ BE64(lowest open sequence) ‖
           BE32(count of ranges), then BE64(first) ‖ BE64(end) for each range of skipped sequences

"By the end of the batch of `time`, the next sequence to be sent by this client was n; all below
`open` were acknowledged or had timed out; the ranges were passed over and never sent." Whoever
has received the rest knows everything that was sent before `time`.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import Invalid, Malformed, Reason
from relay.light.types import MAX_INT, Claim, Range, Sent
from relay.light.wire import Reader, Writer

KIND = 14
MAX_RANGES = 256
_NUMBER = 8


def sent_prefix(client_id: str) -> bytes:
    """What the paths of all statements of a client begin with."""
    owner = client_id.encode()
    return bytes((0, KIND, len(owner))) + owner


def sent_path(client_id: str, index: int) -> bytes:
    """Where the statement of a client that is entry `index` is written."""
    return sent_prefix(client_id) + index.to_bytes(_NUMBER, "big")


def encode_sent(time: int, next_sequence: int, open_: int, skipped: Sequence[Range] = ()) -> bytes:
    """The value of a statement. Raises Malformed."""
    writer = Writer().u64(time).u64(next_sequence).u64(open_).count(len(skipped), MAX_RANGES)
    for first, end in skipped:
        writer.u64(first).u64(end)
    return writer.done()


def decode_sent(raw: bytes) -> tuple[Sent, int]:
    """(what the statement says, the lowest open sequence). Raises Malformed.

    1 <= open <= next sequence; ranges are not empty, ascend, do not meet, and end by then.
    """
    reader = Reader(raw, "statement of what was sent")
    time, next_sequence, open_ = reader.u64(), reader.u64(), reader.u64()
    ranges = tuple((reader.u64(), reader.u64()) for _ in range(reader.count(MAX_RANGES)))
    reader.end()
    if not 1 <= open_ <= next_sequence <= MAX_INT or time > MAX_INT:
        raise Malformed("a statement has 1 <= open <= next sequence, below 2^63")
    last = 0
    for first, end in ranges:
        if not last < first < end <= next_sequence:
            raise Malformed("skipped sequences are ranges that ascend and end by the next sequence")
        last = end
    return Sent(time, next_sequence, ((1, open_),) if open_ > 1 else (), ranges), open_


def read_sent(client_id: str, claims: Sequence[Claim]) -> Sent:
    """What the one claim of a statement says, if it is one of that client.

    Raises Malformed, or Invalid(COUNTERPARTY_MISMATCH) for that of another client.
    """
    if len(claims) != 1 or claims[0].value is None:
        raise Malformed("a statement of what was sent is one entry")
    path = claims[0].path
    if path[:-_NUMBER] != sent_prefix(client_id):
        raise Invalid(
            Reason.COUNTERPARTY_MISMATCH,
            "this is no statement of the client on the other side",
            expected=client_id,
        )
    return decode_sent(claims[0].value)[0]
