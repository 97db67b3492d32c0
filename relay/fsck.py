"""Checks a whole node, offline: the tree, the signatures, the tables, every stored proof.

`fsck` uses the verifiers that the node itself uses, and trusts nothing that it can recompute:

1. every entry is in the tree, and the root of every body is the root of its size;
2. every body is signed by the set in force, times never decrease, sets follow announcements,
   and co-signatures are over the bodies of their sizes;
3. the tables of clients and packets equal the fold over the entries;
4. every stored header is signed, and every stored proof proves its claims under that header;
5. every stored packet and acknowledgement is what its commitment on the journal says;
6. the books of each contract that can be asked add up (relay.audit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from relay.audit import audit, audited
from relay.contract import Contract
from relay.entries import distinct, entries_beside, needed
from relay.epoch import Opening, decode_opening
from relay.errors import LianqiaoError
from relay.fold import Fold
from relay.journal import Kind
from relay.light.checkpoint import parse_body, verify_cosignature
from relay.light.client import check_same
from relay.light.membership import entry_hash
from relay.light.quorum import verify_commit
from relay.light.states import decode_client_state, decode_consensus_state
from relay.light.types import Claim, ClientState, ClientType, TellsSent
from relay.packet import (
    acknowledgement_commitment,
    acknowledgement_path,
    commitment_path,
    packet_commitment,
)
from relay.packet_bytes import decode_acknowledgements, decode_claims, decode_packet
from relay.signing import verify_note
from relay.store import (
    BlockRow,
    CheckpointRow,
    ClientRow,
    ConsensusRow,
    DeliveryRow,
    Direction,
    PacketRow,
    PacketState,
    Store,
    Transaction,
    client_of_lineage,
    tables,
)
from relay.store.cosignatures import all_cosignatures
from relay.store.identity import load_set
from relay.store.transaction import columns, make_row
from relay.tiles import Edge, Touched, extend

_CHECKPOINT = tables.table(tables.Checkpoint)
_ENTRY = tables.table(tables.Entry)
_TILE = tables.table(tables.Tile)
_CHUNK = 2000
_NO_CONTRACTS: Mapping[str, Contract] = {}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at."""

    entries: int
    checkpoints: int
    headers: int
    proofs: int
    packets: int
    books: tuple[str, ...] = ()
    """Ports of contracts whose own records were added up (relay.audit)."""


Progress = Callable[[str, int, int], None]
"""(what, done, of)"""


def _quiet(_what: str, _done: int, _of: int) -> None:
    return None


def fsck(
    store: Store,
    client_types: Mapping[str, ClientType],
    origin: str,
    progress: Progress = _quiet,
    contracts: Mapping[str, Contract] = _NO_CONTRACTS,
) -> tuple[Checked, list[Finding]]:
    """Checks everything; (how much, findings). An empty list means that all is as it should be.

    `contracts` say which entries had to be proven beside a packet.
    """
    with store.read() as connection:
        return check(connection, client_types, origin, progress, contracts)


def check(
    connection: Connection,
    client_types: Mapping[str, ClientType],
    origin: str,
    progress: Progress = _quiet,
    contracts: Mapping[str, Contract] = _NO_CONTRACTS,
) -> tuple[Checked, list[Finding]]:
    """`fsck` on a connection, so that what is not committed yet can be checked too."""
    run = _Run(connection, client_types, origin, progress, contracts)
    findings = [*run.tree(), *run.epochs(), *run.cosignatures(), *run.clients(), *run.headers()]
    findings += [*run.deliveries(), *run.complete(), *run.packets(), *run.books()]
    return run.checked(), findings


class _Run:
    def __init__(
        self,
        connection: Connection,
        client_types: Mapping[str, ClientType],
        origin: str,
        progress: Progress,
        contracts: Mapping[str, Contract],
    ) -> None:
        self._connection = connection
        self._contracts = contracts
        self._types = client_types
        self._origin = origin
        self._progress = progress
        self._fold = Fold()
        self._counts = dict.fromkeys(("entries", "checkpoints", "headers", "proofs", "packets"), 0)
        self._states: dict[str, tuple[ClientState, ClientType]] = {}
        """By lineage."""
        self._epochs: list[tuple[int, Opening]] = []
        """(index of the entry, what it opens), ascending."""
        self._load_epochs()
        self._odd: list[Finding] = []
        """What was found of blocks before their entries were read."""
        self._said: set[tuple[str, int, int]] = set()
        """(lineage, time, next sequence) of every proven statement."""
        self._claims: dict[int, frozenset[Claim]] = {}
        self._beside: dict[int, tuple[Claim, ...]] = {}
        """The claims in their order, where there are entries among them."""

    def checked(self) -> Checked:
        return Checked(**self._counts, books=tuple(audited(self._reading, self._contracts)))

    def _rows(self, kind: type, order: str) -> Iterator[object]:
        names = columns(kind)
        key = next(c for c in names if c.name == order)
        for row in self._connection.execute(select(*names).order_by(key)):
            yield make_row(kind, row)

    # --- 1, 2

    def tree(self) -> Iterator[Finding]:
        total = self._connection.execute(select(func.count()).select_from(_ENTRY)).scalar_one()
        bodies: list[object] = list(self._rows(CheckpointRow, "size"))
        if not bodies:
            bodies = self._ends_of_blocks()
        edge, tiles, at = Edge(), dict[tuple[int, int], bytes](), 0
        leaves: list[bytes] = []
        previous: CheckpointRow | None = None
        for index, path, value in self._entries():
            if index != self._counts["entries"]:
                yield Finding("journal", f"entry {self._counts['entries']} is missing")
                return
            self._counts["entries"] += 1
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
        for row in self._rows(BlockRow, "height"):
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
        self._counts["checkpoints"] += 1
        if bytes(row.root) != edge.root():
            yield Finding(f"block {row.height}", "does not hold the root of its entries")
        yield from self._recoveries(row)
        yield from self._statements(row)

    def _body(
        self, row: CheckpointRow, edge: Edge, previous: CheckpointRow | None
    ) -> Iterator[Finding]:
        self._counts["checkpoints"] += 1
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
        for row in self._rows(CheckpointRow, "size"):
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

    # --- 3

    def clients(self) -> Iterator[Finding]:
        seen = set()
        for row in self._rows(ClientRow, "number"):
            assert isinstance(row, ClientRow)
            seen.add(row.client_id)
            folded = self._fold.clients.get(row.client_id)
            kept = None if folded is None else {n: getattr(folded, n) for n in _CLIENT_FIELDS}
            if kept != {n: getattr(row, n) for n in _CLIENT_FIELDS}:
                yield Finding(f"client {row.client_id}", "differs from the fold of the journal")
            client_type = self._types.get(row.client_type)
            if client_type is None:
                yield Finding(f"client {row.client_id}", f"type {row.client_type} is not installed")
                continue
        for lineage, encoded in self._fold.pinned.items():
            state = decode_client_state(encoded)
            if state.client_type in self._types:
                self._states[lineage] = (state, self._types[state.client_type])
        for client_id in sorted(set(self._fold.clients) - seen):
            yield Finding(f"client {client_id}", "is on the journal and not in the table")

    # --- 4

    def headers(self) -> Iterator[Finding]:
        seen = set()
        for row in self._rows(ConsensusRow, "index"):
            assert isinstance(row, ConsensusRow)
            self._counts["headers"] += 1
            key = (row.client_id, row.height)
            seen.add(key)
            where = f"header {row.client_id} {row.height}"
            if self._fold.consensus.get(key) != (bytes(row.state), row.index):
                yield Finding(where, "differs from the fold of the journal")
            if row.client_id in self._states:
                try:
                    self._header(row)
                except LianqiaoError as err:
                    yield Finding(where, str(err))
        for client_id, height in sorted(set(self._fold.consensus) - seen):
            yield Finding(f"header {client_id} {height}", "is missing from the table")

    def _header(self, row: ConsensusRow) -> None:
        state, client_type = self._states[row.client_id]
        header = client_type.decode_header(bytes(row.header))
        verify_commit(client_type, state, header)
        check_same(header, decode_consensus_state(bytes(row.state)))

    def deliveries(self) -> Iterator[Finding]:
        for row in self._rows(DeliveryRow, "number"):
            assert isinstance(row, DeliveryRow)
            self._counts["proofs"] += 1
            where = f"delivery {row.number}"
            kept = self._fold.consensus.get((row.client_id, row.height))
            if kept is None or row.client_id not in self._states:
                yield Finding(where, "was proven under a header that is not on the journal")
                continue
            state, client_type = self._states[row.client_id]
            try:
                claims, sent = decode_claims(bytes(row.claims)), decode_claims(bytes(row.sent))
                consensus = decode_consensus_state(kept[0])
                client_type.verify_membership(
                    state, consensus, bytes(row.proof), distinct([*sent, *claims])
                )
                if sent and isinstance(client_type, TellsSent):
                    counterparty = self._fold.clients[client_of_lineage(row.client_id)[0]]
                    said = client_type.read_sent(consensus, counterparty.counterparty, sent)
                    self._said.add((row.client_id, said.time, said.next_sequence))
                self._claims[row.number] = frozenset(claims)
                if any(claim.path[:1] == b"\0" for claim in claims):
                    self._beside[row.number] = claims
            except LianqiaoError as err:
                yield Finding(where, str(err))

    def complete(self) -> Iterator[Finding]:
        """All that was taken to be complete was stated and proven to be."""
        for found in self._fold.complete:
            if found not in self._said:
                yield Finding(f"client {found[0]}", f"no proof says it is complete at {found[1]}")

    # --- 6

    def books(self) -> Iterator[Finding]:
        chain_id = self._origin.rpartition("/")[0]

        for port, detail in audit(self._reading, self._contracts, chain_id):
            yield Finding(f"contract {port}", detail)

    def _reading(self) -> Transaction:
        return Transaction(self._connection, 0)

    # --- 5

    def packets(self) -> Iterator[Finding]:
        seen = set()
        for row in self._rows(PacketRow, "index"):
            assert isinstance(row, PacketRow)
            self._counts["packets"] += 1
            key = (row.client_id, row.direction, row.sequence)
            seen.add(key)
            where = f"packet {row.client_id} {row.direction} {row.sequence}"
            try:
                for detail in self._packet(key, row):
                    yield Finding(where, detail)
            except LianqiaoError as err:
                yield Finding(where, str(err))
        for client_id, direction, sequence in sorted(set(self._fold.packets) - seen):
            yield Finding(f"packet {client_id} {direction} {sequence}", "is missing from the table")

    def _packet(self, key: tuple[str, Direction, int], row: PacketRow) -> Iterator[str]:
        folded = self._fold.packets.get(key)
        if folded is None:
            yield "is in the table and not on the journal"
            return
        found = (row.state, row.index, row.closed_index)
        if found != (folded.state, folded.index, folded.closed_index):
            yield "differs from the fold of the journal"
        packet = decode_packet(bytes(row.packet))
        commitment = packet_commitment(packet)
        if folded.state is not PacketState.EXPIRED and folded.commitment != commitment:
            yield "the stored packet is not the committed one"
        acknowledgements = decode_acknowledgements(bytes(row.acknowledgements))
        if bool(acknowledgements) != bool(folded.acknowledgement) or (
            acknowledgements
            and acknowledgement_commitment(acknowledgements) != folded.acknowledgement
        ):
            yield "the stored acknowledgement is not the committed one"
        if row.direction is Direction.IN:
            claim = Claim(commitment_path(packet.source_client, packet.sequence), commitment)
            if claim not in self._claims.get(row.delivery, frozenset()):
                yield "was taken without a stored proof of its commitment"
            elif row.state is not PacketState.EXPIRED:
                kept = self._beside.get(row.delivery, ())
                beside = {entry.path for entry in entries_beside(kept, claim)}
                if not beside.issuperset(needed(self._contracts, packet)):
                    yield "was taken without a stored proof of an entry that it needs"
        elif row.state is PacketState.ACKNOWLEDGED:
            path = acknowledgement_path(packet.destination_client, packet.sequence)
            claim = Claim(path, folded.acknowledgement)
            if claim not in self._claims.get(row.closed_delivery, frozenset()):
                yield "was closed without a stored proof of its acknowledgement"


_CLIENT_FIELDS = (
    "state",
    "chain_id",
    "client_type",
    "counterparty",
    "frozen",
    "latest_height",
    "latest_time",
    "next_sequence",
    "recovery",
    "recovered",
    "stated",
    "complete_time",
    "complete_sequence",
    "floor",
    "number",
)


def _remember(tiles: dict[tuple[int, int], bytes], touched: list[Touched]) -> None:
    for level, number, hashes in touched:
        tiles[(level, number)] = hashes
