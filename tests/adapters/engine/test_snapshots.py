"""State sync over the real gRPC ABCI, by peers who lie: nothing stays, and another can come."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from adapters.cometbft.engine import abci_pb2 as pb
from adapters.cometbft.engine import snapshots as module
from relay.actions import Call, CreateClient
from relay.store import tables
from relay.store.dump import _TABLES
from tests.adapters.cometbft.maker import raw_header
from tests.adapters.engine.chain import MAKERS
from tests.adapters.engine.replicas import Replica, asked
from tests.adapters.engine.test_connect import STATE
from tests.databases import UrlOf
from tests.echo import Echo

SMALL = 600
NOW = 1_800_000_100
OFFER, APPLY = pb.ResponseOfferSnapshot, pb.ResponseApplySnapshotChunk


@dataclass(frozen=True)
class Taken:
    """A snapshot as a peer shows it, and the app hash that the light client verified."""

    height: int
    chunks: tuple[bytes, ...]
    app_hash: bytes

    @property
    def hashes(self) -> bytes:
        return b"".join(sha256(chunk).digest() for chunk in self.chunks)

    @property
    def stream(self) -> bytes:
        return b"".join(zlib.decompress(chunk) for chunk in self.chunks)

    def holding(self, stream: bytes) -> Taken:
        """The same with other content, its hashes made to fit: what a lying peer offers."""
        parts = [stream[at : at + SMALL] for at in range(0, len(stream), SMALL)]
        return Taken(self.height, tuple(zlib.compress(part) for part in parts), self.app_hash)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that a little state has several."""
    monkeypatch.setattr(module, "CHUNK_BYTES", SMALL)


def _grown(path: Path, value: bytes) -> Taken:
    founder = Replica(path, [Echo()], interval=2)
    founder.init(time=NOW)
    header = raw_header(5, MAKERS, chain_id="zj")
    founder.block(1, [asked(CreateClient(STATE, header), 1, now=NOW)], NOW)
    answer = founder.block(
        2, [asked(Call("echo", "put", b"k\n\n" + value, "once"), 2, now=NOW)], NOW
    )
    founder.snapshots.wait()
    (shown,) = founder.abci.ListSnapshots(pb.RequestListSnapshots()).snapshots
    assert (shown.height, shown.format, shown.hash) == (2, 1, sha256(shown.metadata).digest())
    chunks = tuple(
        bytes(founder.abci.LoadSnapshotChunk(
            pb.RequestLoadSnapshotChunk(height=2, format=1, chunk=number)
        ).chunk)
        for number in range(shown.chunks)
    )  # fmt: skip
    missing = pb.RequestLoadSnapshotChunk(height=2, format=1, chunk=shown.chunks)
    assert founder.abci.LoadSnapshotChunk(missing).chunk == b""
    founder.stop()
    taken = Taken(2, chunks, bytes(answer.app_hash))
    assert taken.hashes == shown.metadata
    return taken


@pytest.fixture
def taken(tmp_path: Path) -> Taken:
    made = _grown(tmp_path / "founder.db", b"v")
    assert len(made.chunks) > 5
    return made


@pytest.fixture
def late(tmp_path: Path, urls: UrlOf) -> Iterator[Replica]:
    """A replica without a state, on each kind of database that the run is for."""
    made = Replica(tmp_path / "late.db", [Echo()], url=urls(tmp_path / "late.db"))
    yield made
    made.stop()


def offer(late: Replica, taken: Taken, **changed: Any) -> int:
    snapshot = pb.Snapshot(
        height=taken.height, format=1, chunks=len(taken.chunks),
        hash=sha256(taken.hashes).digest(), metadata=taken.hashes,
    )  # fmt: skip
    for name, value in changed.items():
        setattr(snapshot, name, value)
    asked_for = pb.RequestOfferSnapshot(snapshot=snapshot, app_hash=taken.app_hash)
    return int(late.abci.OfferSnapshot(asked_for).result)


def give(late: Replica, number: int, chunk: bytes) -> Any:
    return late.abci.ApplySnapshotChunk(
        pb.RequestApplySnapshotChunk(index=number, chunk=chunk, sender="peer")
    )


def give_all(late: Replica, chunks: Sequence[bytes]) -> list[int]:
    return [int(give(late, number, chunk).result) for number, chunk in enumerate(chunks)]


def untouched(late: Replica) -> None:
    """Nothing of a snapshot is left, in the database or beside it."""
    assert late.rows() == []
    assert late.info() == (0, b"")
    assert late.store.meta("chain_id") is None
    assert not list(late.path.with_suffix(".snapshots").glob(".incoming"))


def restored(late: Replica, taken: Taken) -> None:
    """The honest snapshot is taken, and the replica goes on from it."""
    assert offer(late, taken) == OFFER.ACCEPT
    assert set(give_all(late, taken.chunks)) == {APPLY.ACCEPT}
    assert late.info() == (2, taken.app_hash)
    assert b"".join(late.rows()) == taken.stream  # type: ignore[arg-type]
    assert late.fsck() == []
    answer = late.block(3, [asked(Call("echo", "put", b"l\n\nw"), 9, now=NOW)], NOW)
    assert answer.tx_results[0].code == 0


def test_a_snapshot_is_restored_in_any_order_of_its_chunks(late: Replica, taken: Taken) -> None:
    assert offer(late, taken) == OFFER.ACCEPT
    numbers = list(range(len(taken.chunks)))
    for number in [*numbers[::2], *numbers[1::2]]:
        assert give(late, number, taken.chunks[number]).result == APPLY.ACCEPT
    assert late.info() == (2, taken.app_hash)
    # whoever has a state takes no other
    assert offer(late, taken) == OFFER.REJECT
    late.restart()
    assert late.info() == (2, taken.app_hash)


def test_a_chain_program_that_brought_the_snapshot_has_begun(late: Replica, taken: Taken) -> None:
    """It asks for nothing before (a node that begins from a snapshot makes no handshake), and is
    not to be ended for that."""
    late.stop()
    late.start(begun=False)
    assert offer(late, taken) == OFFER.ACCEPT
    for number, chunk in enumerate(taken.chunks):
        assert not late.application.met
        assert give(late, number, chunk).result == APPLY.ACCEPT
    assert late.application.met
    assert late.check(asked(Call("echo", "put", b"l\n\nw"), 9, now=NOW)) == ""


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"format": 2}, OFFER.REJECT_FORMAT),
        ({"hash": bytes(32)}, OFFER.REJECT),
        ({"hash": b""}, OFFER.REJECT),
        ({"chunks": 0}, OFFER.REJECT),
        ({"chunks": 1_000_000}, OFFER.REJECT),
        ({"metadata": b""}, OFFER.REJECT),
        ({"metadata": bytes(31)}, OFFER.REJECT),
        ({"metadata": bytes(64)}, OFFER.REJECT),
    ],
)
def test_an_offer_that_does_not_hold_together(
    late: Replica, taken: Taken, changed: dict[str, Any], answer: int
) -> None:
    assert offer(late, taken, **changed) == answer
    assert give(late, 0, taken.chunks[0]).result == APPLY.REJECT_SNAPSHOT, "nothing was offered"
    untouched(late)
    restored(late, taken)


def test_more_chunks_than_any_chain_has(
    late: Replica, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CHUNKS", len(taken.chunks) - 1)
    assert offer(late, taken) == OFFER.REJECT
    untouched(late)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda chunk: b"",
        lambda chunk: chunk[:-1],
        lambda chunk: chunk + b"\0",
        lambda chunk: bytes((chunk[0] ^ 1,)) + chunk[1:],
        lambda chunk: b"x" * (4 << 20),
    ],
    ids=["empty", "truncated", "longer", "changed", "large"],
)
def test_a_chunk_that_was_not_offered_is_asked_of_another_peer(
    late: Replica, taken: Taken, wrong: Callable[[bytes], bytes]
) -> None:
    assert offer(late, taken) == OFFER.ACCEPT
    assert give(late, 0, taken.chunks[0]).result == APPLY.ACCEPT
    answer = give(late, 1, wrong(taken.chunks[1]))
    assert answer.result == APPLY.RETRY
    assert list(answer.refetch_chunks) == [1]
    assert list(answer.reject_senders) == ["peer"]
    assert give(late, 1, taken.chunks[2]).result == APPLY.RETRY
    assert give(late, len(taken.chunks), taken.chunks[0]).result == APPLY.RETRY
    assert late.rows() == []
    rest = [give(late, n, c).result for n, c in enumerate(taken.chunks) if n]
    assert set(rest) == {APPLY.ACCEPT}
    assert late.info() == (2, taken.app_hash)


def _row_at(
    taken: Taken, model: Any, change: Callable[[list[Any]], list[Any] | None], number: int = 0
) -> bytes:
    """The stream with one row of a table changed, or left out."""
    from io import BytesIO

    from relay.store.dump import _KINDS, _decode, _encode

    table = _TABLES.index(tables.table(model))
    stream, out, seen = BytesIO(taken.stream), bytearray(), 0
    while head := stream.read(2):
        row: list[Any] | None = [_decode(stream.read, kind) for _, kind in _KINDS[head[0]]]
        assert row is not None
        if head[0] == table:
            row, seen = change(row) if seen == number else row, seen + 1
        if row is not None:
            out += head + b"".join(_encode(value) for value in row)
    assert seen > number
    return bytes(out)


def _request(request_id: str) -> bytes:
    """A row that says what is answered to a call that was never asked."""
    from relay.store.dump import _encode

    row = (request_id, bytes(32), b"done", 1)
    return bytes((_TABLES.index(tables.table(tables.Request)), 4)) + b"".join(map(_encode, row))


def _rooted(name: str) -> int:
    return next(i for i, c in enumerate(tables.table(tables.Client).columns) if c.name == name)


def _other_value(row: list[Any], name: str, value: Any) -> list[Any]:
    row[_rooted(name)] = value
    return row


@pytest.mark.slow
@pytest.mark.parametrize(
    "lie",
    [
        lambda taken: taken.stream[:-1],
        lambda taken: taken.stream[: len(taken.stream) // 2],
        lambda taken: taken.stream + b"\0",
        lambda taken: taken.stream + taken.stream[-40:],
        lambda taken: taken.stream + taken.stream,
        lambda taken: b"\xff\x03" + taken.stream,
        lambda taken: taken.stream[:1] + b"\x09" + taken.stream[2:],
        lambda taken: taken.stream[:2] + b"\x07" + taken.stream[3:],
        lambda taken: taken.stream[:2] + b"\x01\xff\xff\xff\xff" + taken.stream[7:],
        lambda taken: b"",
        lambda taken: _row_at(taken, tables.Block, lambda row: None),
        lambda taken: _row_at(taken, tables.Entry, lambda row: None),
        lambda taken: _row_at(taken, tables.Entry, lambda row: [*row[:-1], b"another value"]),
        lambda taken: _row_at(taken, tables.Tile, lambda row: None),
        lambda taken: _row_at(taken, tables.Client, lambda row: None),
        lambda taken: _row_at(taken, tables.Client, lambda r: _other_value(r, "frozen", 1)),
        lambda taken: _row_at(taken, tables.Client, lambda r: _other_value(r, "state", b"\x01")),
        lambda taken: _row_at(
            taken, tables.Client, lambda r: _other_value(r, "counterparty", "checkpoint-9")
        ),
        lambda taken: _row_at(taken, tables.Client, lambda r: _other_value(r, "floor", 7)),
        lambda taken: _row_at(taken, tables.Client, lambda r: _other_value(r, "number", 7)),
        lambda taken: _row_at(
            taken, tables.Consensus, lambda row: [b"x" if type(v) is bytes else v for v in row]
        ),
        lambda taken: _row_at(taken, tables.Request, lambda row: None),
        lambda taken: _row_at(taken, tables.Request, lambda row: ["twice", *row[1:]]),
        lambda taken: _row_at(taken, tables.Request, lambda row: [*row[:2], b"other", row[3]]),
        lambda taken: _row_at(taken, tables.Request, lambda row: [row[0], bytes(32), *row[2:]]),
        lambda taken: taken.stream + _request("another"),
    ],
    ids=[
        "a byte short", "half", "a byte more", "a half row more", "twice", "an unknown table",
        "another width", "an unknown kind", "a length without bytes", "nothing", "no genesis block",
        "an entry less", "another value", "a tile less", "no client", "a client frozen",
        "a client's state", "a counterparty", "a floor", "a number", "a header",
        "no answer", "an answer to another", "another answer", "of another call", "an answer more",
    ],
)  # fmt: skip
def test_content_that_is_not_the_state_of_the_verified_hash(
    late: Replica, taken: Taken, lie: Callable[[Taken], bytes]
) -> None:
    """Hashes fit, since the liar makes them; the state does not, and nothing of it stays."""
    lying = taken.holding(lie(taken) or b"\0")
    assert offer(late, lying) == OFFER.ACCEPT
    answers = give_all(late, lying.chunks)
    assert answers[-1] == APPLY.REJECT_SNAPSHOT
    assert set(answers[:-1]) <= {APPLY.ACCEPT}
    untouched(late)
    restored(late, taken)


def test_the_state_of_another_chain_or_height(late: Replica, taken: Taken, tmp_path: Path) -> None:
    other = _grown(tmp_path / "other.db", b"another")
    assert other.app_hash != taken.app_hash
    for lying in (
        Taken(taken.height, other.chunks, taken.app_hash),
        Taken(taken.height + 1, taken.chunks, taken.app_hash),
        Taken(taken.height, taken.chunks, bytes(40)),
        Taken(taken.height, taken.chunks, b""),
    ):
        assert offer(late, lying) == OFFER.ACCEPT
        assert give_all(late, lying.chunks)[-1] == APPLY.REJECT_SNAPSHOT
        untouched(late)
    restored(late, taken)


@pytest.mark.parametrize(
    "chunk",
    [
        zlib.compress(bytes(SMALL + 1)),
        zlib.compress(bytes(50 << 20)),
        zlib.compress(b"x")[:-2],
        zlib.compress(b"x") + b"y",
        zlib.compress(b""),
        b"not compressed",
    ],
    ids=["a byte too long", "a bomb", "cut", "more behind", "empty", "other bytes"],
)
def test_chunks_that_are_no_compressed_rows(late: Replica, taken: Taken, chunk: bytes) -> None:
    lying = Taken(2, (*taken.chunks, chunk), taken.app_hash)
    assert offer(late, lying) == OFFER.ACCEPT
    assert give_all(late, lying.chunks)[-1] == APPLY.REJECT_SNAPSHOT
    untouched(late)
    restored(late, taken)


def test_a_chunk_that_was_offered_too_long(
    late: Replica, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CHUNK_BYTES", max(map(len, taken.chunks)))
    lying = Taken(2, (bytes(module.MAX_CHUNK_BYTES + 1), *taken.chunks), taken.app_hash)
    assert offer(late, lying) == OFFER.ACCEPT
    assert give(late, 0, lying.chunks[0]).result == APPLY.REJECT_SNAPSHOT
    untouched(late)
    restored(late, taken)


def test_a_second_offer_drops_the_first(late: Replica, taken: Taken) -> None:
    lying = taken.holding(taken.stream[:-1])
    assert offer(late, lying) == OFFER.ACCEPT
    assert give(late, 0, lying.chunks[0]).result == APPLY.ACCEPT
    restored(late, taken)


def test_a_disk_that_is_full_ends_it_for_now(
    late: Replica, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert offer(late, taken) == OFFER.ACCEPT
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert give(late, 0, taken.chunks[0]).result == APPLY.ABORT
    untouched(late)
    restored(late, taken)


def test_a_time_that_a_snapshot_lies_about_changes_nothing(late: Replica, taken: Taken) -> None:
    """Times of blocks are under no hash; what follows is judged by the new block's alone."""
    honest = Replica(late.path.with_name("honest.db"), [Echo()])
    late_time = 2**40
    lying = taken.holding(
        _row_at(taken, tables.Block, lambda row: [row[0], late_time, *row[2:]], 2)
    )
    for replica, shown in ((honest, taken), (late, lying)):
        assert offer(replica, shown) == OFFER.ACCEPT
        assert give_all(replica, shown.chunks)[-1] == APPLY.ACCEPT
    txs = [asked(Call("echo", "put", b"l\n\nw"), 9, now=NOW)]
    answers = [replica.block(3, txs, NOW + 1) for replica in (honest, late)]
    assert answers[0] == answers[1]
    assert answers[0].tx_results[0].code == 0
    honest.stop()
