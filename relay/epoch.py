"""A new epoch: how a chain goes on when entries that were signed are lost for good.

A database restored from an old copy ends below the high-water mark. Its node stays stopped, since
whatever it wrote next would be a second history of sizes that were signed before. Where the missing
entries cannot be had from anywhere, the operators open the next epoch:

1. the mark of the old epoch is closed: nothing is signed under that origin again, whatever copy of
   the database is restored later;
2. one entry, the opening, says which head the new epoch continues from, and how far the old one
   had been signed. It is sealed by the first body of the origin `id/(epoch + 1)`;
3. the node starts under the new epoch and signs that body, by a mark of its own.

A copy of the whole machine takes the database and its mark back together. Then the node starts, and
signs a second history without noticing. Counterparties that know the first refuse it
(INVALID_CONSISTENCY), and where both have a head of one size, that freezes their clients. Its
operators end that epoch too, and say so (`forked`): whoever followed either history goes on from
the head that is here, by a recovery of his own. Without them a counterparty waits until its client
expires: no node takes another's word for a history that contradicts what it has verified.

The tree goes on: entries, receipts, sequences and the paths that are written once all stay, and the
sizes of the new epoch follow those of the head it continues from. A body that was committed above
that head and never signed is dropped; its entries are covered by the first body of the new epoch.

For its counterparties the new origin is another chain until each of them has recovered its client
to it (relay.recovery, by its own operators and after a delay): `Opening` is what they compare, and
`opening_path` under the new head proves it. Sequences that were used in the lost entries are passed
over on this side first (`Node.skip_sequences`).

The value of the entry, by relay.light.wire:

    u8 version = 1, text old origin, u64 size and 32 bytes root of the head it continues from,
    u64 the greatest size that the old epoch had signed
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.errors import Malformed, NotFound, Reason, Refused
from relay.journal import Kind, host_path
from relay.light.checkpoint import make_origin, parse_body, split_origin
from relay.light.wire import Reader, Writer
from relay.packet import be64
from relay.signing import HighWaterMark
from relay.store import Store
from relay.store.identity import last_checkpoint, last_signed, write_epoch

_VERSION = 1
_MAX_ORIGIN = 128


@dataclass(frozen=True, slots=True)
class Opening:
    """What an epoch continues from."""

    origin: str
    """Of the epoch before."""
    size: int
    """Of the head that the new epoch continues from: the newest that is left."""
    root: bytes
    """Of that head."""
    signed: int
    """The greatest size that the epoch before had signed; what lies between is lost."""

    @property
    def next_origin(self) -> str:
        """Of the new epoch."""
        return next_origin(self.origin)


def next_origin(origin: str) -> str:
    """The origin of the epoch after that of `origin`."""
    chain_id, epoch = split_origin(origin)
    return make_origin(chain_id, epoch + 1)


def opening_path(origin: str) -> bytes:
    """Where the opening of the epoch of `origin` is written; nothing is for the first epoch."""
    chain_id, epoch = split_origin(origin)
    return host_path(Kind.EPOCH, chain_id, be64(epoch))


def encode_opening(opening: Opening) -> bytes:
    """The entry's value. Raises Malformed."""
    writer = Writer().u8(_VERSION).text(opening.origin, _MAX_ORIGIN).u64(opening.size)
    return writer.fixed(opening.root, 32).u64(opening.signed).done()


def decode_opening(raw: bytes) -> Opening:
    """The opening in an entry's value. Raises Malformed."""
    reader = Reader(raw, "opening of an epoch")
    if reader.u8() != _VERSION:
        raise Malformed("opening of an epoch: unknown version")
    opening = Opening(reader.text(_MAX_ORIGIN), reader.u64(), reader.fixed(32), reader.u64())
    reader.end()
    split_origin(opening.origin)
    return opening


def open_epoch(
    store: Store, origin: str, mark: HighWaterMark, now: int, *, forked: bool = False
) -> Opening:
    """Ends the epoch of `origin`, whose mark is `mark`, and begins the next.

    `mark` is behind the journal where it was lost itself: then nobody knows what was signed.
    `forked`: its operators say that another history was signed under `origin`, which neither this
    database nor this mark knows of. Repeat it after a crash. No node may run on the store. Raises
    Refused(CONFLICT) where nothing that was signed is lost and it is not forked,
    Refused(WRONG_CHAIN) where the store holds another origin, and
    NotFound(HEIGHT_NOT_FOUND) where it holds no signed head at all.
    """
    with store.read() as connection:
        head, last = last_signed(connection), last_checkpoint(connection)
    if head is None or last is None:
        raise NotFound(
            Reason.HEIGHT_NOT_FOUND,
            "no signed head is left to continue from",
            hint="restore any backup of this database, however old",
        )
    body, path = parse_body(head.body), opening_path(next_origin(origin))
    if body.origin == origin and parse_body(last.body).origin == next_origin(origin):
        with store.reading() as tx:  # it was done, and whoever did it was not told
            return decode_opening(tx.get(path) or b"")
    if body.origin != origin:
        raise Refused(
            Reason.WRONG_CHAIN,
            f"the journal continues as {body.origin}, not as {origin}",
            hint="correct `epoch` in the configuration",
        )
    whole = mark.size >= head.size and not mark.is_beyond(last.size, last.body)
    if whole and not forked:
        raise Refused(
            Reason.CONFLICT,
            f"everything that {origin} has signed is in this database",
            hint="an epoch is opened for entries that are lost; start the node as it is. Where two "
            "histories were signed (this one and its mark were taken back together): --forked",
        )
    mark.close()
    opening = Opening(origin, body.size, body.root, mark.closed_at)
    write_epoch(store, opening.next_origin, path, encode_opening(opening), now=now)
    return opening
