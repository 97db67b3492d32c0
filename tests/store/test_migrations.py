"""A database of any earlier version comes to this one with all that it holds, and goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, delete, insert, select
from sqlmodel import SQLModel

from relay import ticking
from relay.fsck import fsck
from relay.light.checkpoint import cosign_body
from relay.outbox import NEVER, Outbox, Waiting
from relay.packet import MAX_INT
from relay.query import list_packets
from relay.relayer import IN
from relay.steps import item_of
from relay.store import PacketState, Store, tables
from relay.store.cosignatures import Cosignature, all_cosignatures, save_cosignature
from relay.store.migrate import SCHEMA, _config, current_schema, migrate
from relay.store.statements import TABLES
from tests.databases import KINDS, UrlOf, url_of
from tests.echo import ECHO
from tests.witnessing import pinned, witness_key
from tests.world import TYPES, World

ZJ, HUB = "zj", "hub"
STATEMENTS = "0006"
"""From then on nodes state what they have sent."""
PROMISED: Mapping[tuple[str, str], int | bytes] = {
    ("client", "recovery"): 0,
    ("client", "recovered"): 0,
    ("client", "stated"): 0,
    ("client", "complete_time"): 0,
    ("client", "complete_sequence"): 0,
    ("delivery", "sent"): b"",
    ("outbox", "entries"): b"",
    ("outbox", "sequence"): 0,
}
"""What a row that was there before a column holds in it. A new column needs its line here."""
VERSIONS = sorted(one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions())
Rows = dict[str, list[dict[str, Any]]]


def _send(world: World, on: str, to: str, value: str) -> None:
    body = f"{world.clients[on, to]}\n{world.clock() + 9000}\n{value}".encode()
    world.nodes[on].call("echo", "send", body, f"request {value}")


def _network(path: Path, urls: UrlOf) -> World:
    """A relay of which every table holds something, also of what this kind of database or engine
    has no use for: packets that are done both ways, two that
    wait, one of them without hope, and an open one."""
    world = World(path, url_of=urls)
    world.node(ZJ, "ledger", [ECHO])
    hub = world.node(HUB, "relay", [ECHO])
    world.connect(ZJ, HUB)
    for number, (on, to) in enumerate([(ZJ, HUB), (HUB, ZJ), (ZJ, HUB)]):
        _send(world, on, to, f"done {number}")
    world.settle(HUB)
    for number in range(2):
        _send(world, ZJ, HUB, f"waits {number}")
    client_id, now = world.clients[HUB, ZJ], world.clock()
    steps = world.chain(ZJ).packets(world.clients[ZJ, HUB], 0, 1000)[-2:]
    waiting = [
        Waiting(step.cursor, item_of(step), step.height, 3, not_before, "CONTRACT_REFUSED: no")
        for step, not_before in zip(steps, (now + 3600, NEVER), strict=True)
    ]
    world.relayer(HUB).outbox.save(client_id, IN, cursor=steps[-1].cursor, waiting=waiting)
    _send(world, HUB, ZJ, "open")
    line = cosign_body(ZJ, witness_key(ZJ), hub.head.body, now)
    save_cosignature(hub.store, Cosignature(hub.head.size, pinned(ZJ)[0], line.value))
    lease = {"client_id": client_id, "holder": "here", "until": now}
    block = {"height": 1, "time": now, "size": hub.head.size, "root": bytes(32)}
    with hub.store.transaction() as tx:
        tx.connection.execute(insert(tables.table(tables.Lease)), [lease])
        tx.connection.execute(insert(tables.table(tables.Block)), [block])
    return world


def _rows(store: Store) -> Rows:
    """Everything in the tables of this version, by their names."""
    with store.read() as connection:
        return {
            name: [
                dict(row)
                for row in connection.execute(
                    select(table).order_by(*table.primary_key.columns)
                ).mappings()
            ]
            for name, table in SQLModel.metadata.tables.items()
        }


def _as_of(revision: str, rows: Rows, engine: Engine) -> Rows:
    """Makes an empty database a copy of `rows` as a program of that version would have written
    them; what it must hold once it is brought to this version."""
    config = _config()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    old = MetaData()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        old.reflect(connection)
        expected: Rows = {name: [] for name in rows}
        for name, table in old.tables.items():
            if name == "alembic_version" or not rows[name]:
                continue
            known = set(table.columns.keys())
            written = [{key: row[key] for key in row.keys() & known} for row in rows[name]]
            connection.execute(insert(table), written)
            added = [key for key in rows[name][0] if key not in known]
            promised = {key: PROMISED[name, key] for key in added}
            expected[name] = [row | promised for row in rows[name]]
    assert current_schema(engine) == revision
    return expected


def _same(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> bool:
    """The same values of the same types: SQLite would take a text for bytes."""
    kinds = [[(key, type(row[key])) for key in sorted(row)] for row in (*found, *expected)]
    return list(found) == list(expected) and kinds[: len(found)] == kinds[len(found) :]


def _cases() -> Iterator[Any]:
    for kind in KINDS:
        marks = [pytest.mark.slow] if kind == "postgresql" else []
        for revision in VERSIONS[:-1]:
            yield pytest.param(kind, revision, id=f"{kind}-{revision}", marks=marks)


@pytest.mark.parametrize(("kind", "revision"), list(_cases()))
def test_an_earlier_database_holds_what_it_held_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, revision: str
) -> None:
    urls = url_of(kind)
    with monkeypatch.context() as program:
        if revision < STATEMENTS:
            program.setattr(ticking, "state_sent", lambda *_: MAX_INT)
        world = _network(tmp_path, urls)
    rows = _rows(world.nodes[HUB].store)
    assert all(rows.values())
    world.nodes[HUB].close()
    url = urls(tmp_path / "hub.old.db")
    store = Store(url)
    expected = _as_of(revision, rows, store.engine)
    assert migrate(store.engine) == (revision, SCHEMA)
    found = _rows(store)
    for name in rows:
        assert _same(found[name], expected[name]), name
    stated = [row["stated"] for row in found["client"]]
    assert all(stated) if revision >= STATEMENTS else not any(stated)
    with store.reading() as tx:
        assert {kind.__name__: len(tx.all(kind)) for kind in TABLES} == {
            kind.__name__: len(found[table.name]) for kind, (table, _) in TABLES.items()
        }
    with store.read() as connection:
        assert len(all_cosignatures(connection)) == len(expected["cosignature"])
    letters = Outbox(store).letters()
    assert [one.waiting.dead for one in letters] == [False, True]
    assert [one.waiting.item.entries for one in letters] == [(), ()]
    # Where the sequence of what waits is unknown, nothing may be stated past it.
    known = revision >= STATEMENTS
    assert Outbox(store).lowest_waiting(world.clients[HUB, ZJ], IN) == (3 if known else 0)
    with store.transaction() as tx:  # this journal is not replicated
        tx.connection.execute(delete(tables.table(tables.Block)))
    assert fsck(store, TYPES, "hub/0")[1] == []
    store.close()
    _goes_on(world, url)


def _goes_on(world: World, url: str) -> None:
    """The node starts on it, and all that waited is done."""
    made = world.url_of
    world.url_of = lambda path: url if path.stem == HUB else made(path)
    hub = world.node(HUB, "relay", [ECHO])
    relayer = world.restart(HUB)
    done = relayer.clear(world.clients[HUB, ZJ], world.clock())
    assert (done.waiting, done.dead) == (1, 1)
    world.settle(HUB)
    for node in world.nodes.values():
        assert list_packets(node.store, state=PacketState.ACKNOWLEDGED)
        assert list_packets(node.store, state=PacketState.SENT) == []
        assert fsck(node.store, TYPES, node.origin)[1] == []
    assert hub.call("echo", "put", b"a\n\nx") is not None
    world.close()
