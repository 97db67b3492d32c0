"""Headers and proofs of this node's own journal, as others verify them. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from relay.epoch import opening_path
from relay.errors import Malformed, NotFound, Reason, Refused
from relay.light.checkpoint_client import CHECKPOINT, encode_header
from relay.light.membership import encode_membership_proof
from relay.light.merkle import consistency_proof, multi_proof
from relay.light.note import (
    Note,
    NoteSignature,
    checkpoint_key_id,
    cosignature_key_id,
    decode_note,
    encode_note,
    sort_signatures,
)
from relay.light.types import ClientState, ClientType, ValidatorSet, Witness
from relay.light.validators import decode_set
from relay.store import CheckpointRow, Store, tables
from relay.store.cosignatures import AT_ONCE, Cosignature, Shown, cosignatures
from relay.store.heads import Heads
from relay.store.identity import load_set
from relay.store.statements import columns
from relay.tiles import TileCache

MAX_PATHS = 4096
MAX_SET_CHANGES = 256
_QUERY_PATHS = 500
"""Paths in one SQL statement; databases bound the number of parameters."""
_CHECKPOINT = tables.table(tables.Checkpoint)
_ENTRY = tables.table(tables.Entry)
_NODE_SIGNED = _CHECKPOINT.c.note != ""
# Asked for every delivery: what is said once is not built again each time.
_ONE = select(*columns(CheckpointRow)).where(
    _CHECKPOINT.c.size == bindparam("height"), _NODE_SIGNED
)
_CHANGES = (
    select(_CHECKPOINT.c.size)
    .where(
        _CHECKPOINT.c.size > bindparam("low"),
        _CHECKPOINT.c.size < bindparam("high"),
        _CHECKPOINT.c.set_hash != _CHECKPOINT.c.next_set_hash,
    )
    .order_by(_CHECKPOINT.c.size)
    .limit(MAX_SET_CHANGES)
)
_INDEXES = select(_ENTRY.c.path, _ENTRY.c.index).where(
    _ENTRY.c.path.in_(bindparam("paths", expanding=True))
)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Whose lines a client counts; it takes every other for a stranger's and refuses it."""

    algorithm: str
    witnesses: tuple[Witness, ...]


class Evidence:
    """What a node shows of its journal: heads, inclusion, consistency."""

    def __init__(self, store: Store, tiles: TileCache, shown: Heads = AT_ONCE) -> None:
        self._store = store
        self._tiles = tiles
        self._shown = shown

    @property
    def client_type(self) -> ClientType:
        """The type by which others follow this node."""
        return CHECKPOINT

    def client_state(self, origin: str) -> ClientState:
        """What a reader of this node's own evidence pins, but for its anchor."""
        return ClientState("checkpoint", origin)

    def latest_height(self) -> int:
        """The greatest size that is signed, and co-signed as this node's operator demands."""
        with self._store.read() as connection:
            return self._shown.newest(connection)

    def cosigned_height(self, witnesses: Sequence[Witness], quorum: int) -> int:
        """The greatest size that others are shown and `quorum` of these witnesses have co-signed;
        0 where there is none."""
        with self._store.read() as connection:
            newest = self._shown.newest(connection)
            if not quorum:
                return newest
            return Shown(tuple(witnesses), quorum).newest_within(connection, newest)

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[Witness] = (),
    ) -> list[bytes]:
        """See relay.chain.Chain.headers. Raises NotFound(HEIGHT_NOT_FOUND)."""
        counted = _Counted(algorithm, tuple(witnesses))
        with self._store.read() as connection:
            last = _checkpoint(connection, height)
            changes = []
            if 0 < trusted_height < height:
                changes = _set_changes(connection, trusted_height, height)
            raw, linked = [], trusted_height
            for row in [*changes, last]:
                raw.append(self._header(connection, row, linked, counted))
                linked = row.size if trusted_height else 0
        return raw

    def _header(
        self, connection: Connection, row: CheckpointRow, linked: int, counted: _Counted
    ) -> bytes:
        validators = decode_set(_set_of(connection, row))
        note = counted_lines(decode_note(row.note.encode()), validators, counted.algorithm)
        if not note.signatures:
            raise Refused(
                Reason.ALGORITHM_NOT_PINNED,
                f"this chain's heads are not signed by {counted.algorithm}",
                hint="ask for an algorithm of its validators' keys: lianqiao status shows them",
            )
        others = [
            cosignature_line(found)
            for found in cosignatures(connection, row.size, counted.witnesses)
        ]
        note = Note(note.text, note.signatures + sort_signatures(others))
        link: Sequence[bytes] = ()
        if 0 < linked < row.size:
            link = consistency_proof(linked, row.size, self._tiles.getter(connection))
        else:
            linked = 0
        return encode_header(encode_note(note), validators, linked, link)

    def first_height(self, origin: str) -> int:
        """The size of the first body of an epoch."""
        with self._store.read() as connection:
            query = select(_ENTRY.c.index).where(_ENTRY.c.path == opening_path(origin))
            return 1 + int(connection.execute(query).scalar_one_or_none() or 0)

    def announcements(self, low: int, high: int) -> list[int]:
        """Sizes between two, both excluded, whose heads announce another validator set."""
        with self._store.read() as connection:
            return [row.size for row in _set_changes(connection, low, high)]

    def signed(self, size: int) -> tuple[CheckpointRow, bytes]:
        """A signed head and the encoded set that signed it. Raises NotFound(HEIGHT_NOT_FOUND)."""
        with self._store.read() as connection:
            row = _checkpoint(connection, size)
            return row, _set_of(connection, row)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """One proof that all `paths` are written below `height`.

        Raises NotFound(PATH_NOT_FOUND), NotFound(HEIGHT_NOT_FOUND), Malformed(LIMIT_EXCEEDED).
        """
        if not 1 <= len(paths) <= MAX_PATHS:
            raise Malformed(f"a proof is for 1 to {MAX_PATHS} paths", reason=Reason.LIMIT_EXCEEDED)
        with self._store.read() as connection:
            size = self._shown.size_at(connection, height)
            indexes = _indexes(connection, paths)
            if any(index >= size for index in indexes):
                raise NotFound(Reason.PATH_NOT_FOUND, "a path is written after that height")
            ordered = sorted(set(indexes))
            hashes = multi_proof(ordered, size, self._tiles.getter(connection))
        return encode_membership_proof(indexes, hashes)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The RFC 9162 consistency proof between two signed sizes, 0 < old <= new."""
        with self._store.read() as connection:
            _checkpoint(connection, old)
            _checkpoint(connection, new)
            if not 0 < old <= new:
                raise Malformed("sizes must be 0 < old <= new")
            return consistency_proof(old, new, self._tiles.getter(connection))


def cosignature_line(cosignature: Cosignature) -> NoteSignature:
    """A stored co-signature as the line of a note."""
    witness = cosignature.witness
    key_id = cosignature_key_id(witness.name, witness.algorithm, witness.key)
    return NoteSignature(witness.name, key_id, cosignature.value)


def counted_lines(note: Note, validators: ValidatorSet, algorithm: str) -> Note:
    """The note with only as many validators' lines, of one algorithm, as make a quorum.

    Lines of others are kept. A client verifies every line that it is shown, so what is not needed
    is not sent.
    """
    ids: dict[tuple[str, bytes], int] = {}
    others: set[tuple[str, bytes]] = set()
    for validator in validators.validators:
        for name, key in validator.keys:
            key_id = (validator.name, checkpoint_key_id(validator.name, name, key))
            if name == algorithm:
                ids[key_id] = validator.power
            else:
                others.add(key_id)
    kept, power = [], 0
    for line in note.signatures:
        key_id = (line.name, line.key_id)
        if key_id in ids:
            if 3 * power > 2 * validators.power:
                continue
            power += ids[key_id]
        elif key_id in others:
            continue
        kept.append(line)
    return Note(note.text, tuple(kept))


def _set_of(connection: Connection, row: CheckpointRow) -> bytes:
    encoded = load_set(connection, row.set_hash)
    if encoded is None:
        raise NotFound(Reason.HEIGHT_NOT_FOUND, "the set of that height is not stored")
    return encoded


def _checkpoint(connection: Connection, height: int) -> CheckpointRow:
    found = connection.execute(_ONE, {"height": height}).one_or_none()
    if found is None:
        raise NotFound(
            Reason.HEIGHT_NOT_FOUND,
            f"no signed checkpoint of size {height}",
            hint="ask for the latest head, or for a height that a packet step names",
            height=height,
        )
    row = CheckpointRow(*found)
    return CheckpointRow(
        row.size, row.time, bytes(row.body), row.note, bytes(row.set_hash), bytes(row.next_set_hash)
    )


def _set_changes(connection: Connection, low: int, high: int) -> list[CheckpointRow]:
    """The heads between two sizes that announce another set than the one that signs them."""
    sizes = connection.execute(_CHANGES, {"low": low, "high": high}).scalars()
    return [_checkpoint(connection, size) for size in sizes]


def _indexes(connection: Connection, paths: Sequence[bytes]) -> list[int]:
    found: dict[bytes, int] = {}
    for start in range(0, len(paths), _QUERY_PATHS):
        part = list(paths[start : start + _QUERY_PATHS])
        rows = connection.execute(_INDEXES, {"paths": part})
        found |= {bytes(path): index for path, index in rows}
    missing = next((path for path in paths if path not in found), None)
    if missing is not None:
        raise NotFound(Reason.PATH_NOT_FOUND, "nothing is written at that path", path=missing.hex())
    return [found[path] for path in paths]
