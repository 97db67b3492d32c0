"""The tree and its heads: entries, bodies and their signatures, blocks, epochs, co-signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from sqlalchemy import Connection, func, select

from relay.epoch import Opening, decode_opening
from relay.errors import LianqiaoError
from relay.fold import Fold
from relay.fsck.findings import Counts, Finding, Progress
from relay.fsck.rows import rows
from relay.journal import Kind
from relay.light.checkpoint import parse_body, verify_cosignature
from relay.light.membership import entry_hash
from relay.signing import verify_note
from relay.store import BlockRow, CheckpointRow, tables
from relay.store.cosignatures import all_cosignatures
from relay.store.identity import load_set
from relay.tiles import Edge, Touched, extend

_CHECKPOINT = tables.table(tables.Checkpoint)
_ENTRY = tables.table(tables.Entry)
_TILE = tables.table(tables.Tile)
_CHUNK = 2000


class Journal:
    """Reads the whole journal once, folds it, and checks its heads by the way."""

    def __init__(
        self, connection: Connection, origin: str, fold: Fold, counts: Counts, progress: Progress
    ) -> None:
        self._connection = connection
        self._origin = origin
        self._fold = fold
        self._counts = counts
        self._progress = progress
        self._epochs: list[tuple[int, Opening]] = []
        """(index of the entry, what it opens), ascending."""
        self._odd: list[Finding] = []
        """What was found of blocks before their entries were read."""
        self._load_epochs()

    def check(self) -> Iterator[Finding]:
        total = self._connection.execute(select(func.count()).select_from(_ENTRY)).scalar_one()
        bodies: list[object] = list(rows(self._connection, CheckpointRow, "size"))
        if not bodies:
            bodies = self._ends_of_blocks()
        edge, tiles, at = Edge(), dict[tuple[int, int], bytes](), 0
        leaves: list[bytes] = []
        previous: CheckpointRow | None = None
        for index, path, value in self._entries():
            if index != self._counts.entries:
                yield Finding("journal", f"entry {self._counts.entries} is missing")
                return
            self._counts.entries += 1
            try:
                self._fold.apply(index, path, value)
            except (LianqiaoError, ValueError) as err:
                yield Finding(f"entry {index}", str(err))
            leaves.append(entry_hash(path, value))
            body = bodies[at] if at < len(bodies) else None
            if isinstance(body, BlockRow) and body.size == index + 1:
                edge, touched = extend(edge, leaves)
                _remember(tiles, touched)
                leaves, at = [], at + 1
                yield from self._block(body, edge)
            if isinstance(body, CheckpointRow) and body.size == index + 1:
                edge, touched = extend(edge, leaves)
                _remember(tiles, touched)
                leaves = []
                yield from self._body(body, edge, previous)
                yield from self._recoveries(body)
                yield from self._statements(body)
                previous, at = body, at + 1
            if index % _CHUNK == 0:
                self._progress("entries", index, total)
        if leaves or at != len(bodies):
            yield Finding("journal", "the last entries are under no checkpoint")
        yield from self._odd
        yield from self._tiles(tiles)

    def _entries(self) -> Iterator[tuple[int, bytes, bytes]]:
        query = select(_ENTRY.c.index, _ENTRY.c.path, _ENTRY.c.value).order_by(_ENTRY.c.index)
        for index, path, value in self._connection.execute(query).yield_per(_CHUNK):
            yield index, bytes(path), bytes(value)

    def _ends_of_blocks(self) -> list[object]:
        """The first block of each size of a replicated journal: those after it wrote nothing."""
        ends: dict[int, BlockRow] = {}
        previous: BlockRow | None = None
        for row in rows(self._connection, BlockRow, "height"):
            assert isinstance(row, BlockRow)
            found = ends.setdefault(row.size, row)
            if bytes(found.root) != bytes(row.root):
                self._odd.append(Finding(f"block {row.height}", "another root of the same size"))
            if previous is None and row.height:
                self._odd.append(Finding(f"block {row.height}", "the blocks before are missing"))
            if previous is not None and (
                row.height != previous.height + 1
                or row.time < previous.time
                or row.size < previous.size
            ):
                self._odd.append(Finding(f"block {row.height}", "does not follow the one before"))
            previous = row
        return [ends[size] for size in sorted(ends)]

    def _block(self, row: BlockRow, edge: Edge) -> Iterator[Finding]:
        self._counts.checkpoints += 1
        if bytes(row.root) != edge.root():
            yield Finding(f"block {row.height}", "does not hold the root of its entries")
        yield from self._recoveries(row)
        yield from self._statements(row)

    def _body(
        self, row: CheckpointRow, edge: Edge, previous: CheckpointRow | None
    ) -> Iterator[Finding]:
        self._counts.checkpoints += 1
        where = f"checkpoint {row.size}"
        try:
            body = parse_body(bytes(row.body))
        except LianqiaoError as err:
            yield Finding(where, str(err))
            return
        if (body.size, body.root) != (row.size, edge.root()):
            yield Finding(where, "the body does not hold the root of its entries")
        if body.origin != self._origin_of(row.size) or body.time != row.time:
            yield Finding(where, "the body names another origin or time than the table")
        if previous is not None and row.time < previous.time:
            yield Finding(where, "time went backwards")
        if previous is not None and row.set_hash != previous.next_set_hash:
            yield Finding(where, "signed by another set than was announced")
        encoded = load_set(self._connection, bytes(row.set_hash))
        if encoded is None:
            yield Finding(where, "the set that signed it is unknown")
            return
        try:
            verify_note(row.note, bytes(row.body), encoded)
        except LianqiaoError as err:
            yield Finding(where, str(err))

    def _load_epochs(self) -> None:
        """Which origin each size has: epochs are opened by entries."""
        paths = _ENTRY.c.path >= bytes((0, Kind.EPOCH)), _ENTRY.c.path < bytes((0, Kind.EPOCH + 1))
        query = select(_ENTRY.c.index, _ENTRY.c.value).where(*paths).order_by(_ENTRY.c.index)
        for index, value in self._connection.execute(query):
            with suppress(LianqiaoError):  # told of where the fold comes to that entry
                self._epochs.append((index, decode_opening(bytes(value))))

    def _origin_of(self, size: int) -> str:
        opened = (opening.origin for index, opening in self._epochs if size <= index)
        return next(opened, self._origin)

    def epochs(self) -> Iterator[Finding]:
        """Every epoch continues the head that it says, and the last is the one asked for."""
        for at, (index, opening) in enumerate(self._epochs):
            where = f"entry {index}"
            following = self._epochs[at + 1 :]
            if opening.next_origin != (following[0][1].origin if following else self._origin):
                yield Finding(where, "opens another epoch than the one that follows")
            query = select(_CHECKPOINT.c.body).where(_CHECKPOINT.c.size == opening.size)
            found = self._connection.execute(query).scalar()
            if found is None or parse_body(bytes(found)).root != opening.root:
                yield Finding(where, "the epoch continues a head that is not in this journal")

    def _recoveries(self, body: CheckpointRow | BlockRow) -> Iterator[Finding]:
        """No recovery is under a body from before it was due."""
        for index in list(self._fold.not_before):
            if body.time < self._fold.not_before.pop(index):
                yield Finding(f"entry {index}", "a client was recovered before it was due")

    def _statements(self, body: CheckpointRow | BlockRow) -> Iterator[Finding]:
        """Every statement of what was sent is of the time of its body."""
        for index in list(self._fold.stated):
            if body.time != self._fold.stated.pop(index):
                yield Finding(f"entry {index}", "a statement of another time than its head's")

    def _tiles(self, expected: Mapping[tuple[int, int], bytes]) -> Iterator[Finding]:
        found = {
            (level, number): bytes(hashes)
            for level, number, hashes in self._connection.execute(
                select(_TILE.c.level, _TILE.c.number, _TILE.c.hashes)
            )
        }
        for key in sorted(set(found) | set(expected)):
            if found.get(key) != expected.get(key):
                yield Finding(f"tile {key[0]}/{key[1]}", "differs from the entries")

    def cosignatures(self) -> Iterator[Finding]:
        """Every co-signature is over the body of its size."""
        bodies = dict[int, bytes]()
        for row in rows(self._connection, CheckpointRow, "size"):
            assert isinstance(row, CheckpointRow)
            bodies[row.size] = bytes(row.body)
        for one in all_cosignatures(self._connection):
            where = f"co-signature {one.size} {one.witness.name}"
            try:
                verify_cosignature(one.witness, bodies[one.size], one.value)
            except KeyError:
                yield Finding(where, "there is no head of that size")
            except LianqiaoError as err:
                yield Finding(where, str(err))


def _remember(tiles: dict[tuple[int, int], bytes], touched: list[Touched]) -> None:
    for level, number, hashes in touched:
        tiles[(level, number)] = hashes
