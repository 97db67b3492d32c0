"""fsck finds every planted corruption, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from relay.chain import Item, Step
from relay.fsck import fsck
from relay.query import get_packet
from relay.store import Direction
from tests.databases import sqlite_url
from tests.echo import ECHO
from tests.world import TYPES, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, url_of=sqlite_url)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    client_id, _ = made.connect("zj", "hub")
    for value in (b"one", b"fail", b"defer"):
        body = f"{client_id}\n{made.clock() + 600}\n".encode() + value
        made.nodes["zj"].call("echo", "send", body)
    made.relay_once("zj", "hub")
    made.relay_once("hub", "zj")
    made.nodes["zj"].call("echo", "send", f"{client_id}\n{made.clock() + 5}\nlate".encode())
    made.clock.advance(10)
    late = get_packet(made.nodes["zj"].store, client_id, 4, Direction.OUT).packet
    made.deliver("zj", "hub", [Item(Step.EXPIRE, late)])
    made.relay_once("hub", "zj")
    return made


def _found(world: World, name: str) -> list[str]:
    node = world.nodes[name]
    return [f.where for f in fsck(node.store, TYPES, node.origin)[1]]


def test_a_sound_node_has_no_findings_and_everything_was_looked_at(world: World) -> None:
    for node in world.nodes.values():
        checked, findings = fsck(node.store, TYPES, node.origin)
        assert findings == []
        assert checked.entries == node.head.size
        assert checked.packets == 4
        assert checked.proofs >= 2


CORRUPTIONS = [
    ("hub", "update entry set value = x'00' where \"index\" = 5", "checkpoint"),
    ("hub", "update entry set path = x'00ff' where \"index\" = 5", "checkpoint"),
    ("hub", 'delete from entry where "index" = 3', "journal"),
    ("hub", "update tile set hashes = zeroblob(length(hashes))", "tile"),
    ("hub", "delete from checkpoint where size = (select max(size) from checkpoint)", "journal"),
    ("hub", "update checkpoint set time = time + 1 where size = 2", "checkpoint"),
    ("hub", "update checkpoint set note = replace(note, 'time', 'timr') where size = 2", "check"),
    ("hub", "update checkpoint set set_hash = x'00' where size = 2", "checkpoint"),
    ("hub", "delete from validator_set", "checkpoint"),
    ("hub", "update client set counterparty = 'checkpoint-7'", "client"),
    ("hub", "update client set latest_height = 1", "client"),
    ("zj", "update client set next_sequence = 9", "client"),
    ("hub", "update client set frozen = 3", "client"),
    ("hub", "update client set state = x'00'", "client"),
    ("hub", "delete from client", "client"),
    ("hub", "delete from consensus", "header"),
    ("hub", 'update consensus set "index" = 0', "header"),
    ("hub", "update consensus set header = x'00'", "header"),
    ("hub", "update delivery set proof = x'00'", "delivery"),
    ("hub", "update delivery set claims = x'00'", "delivery"),
    ("hub", "update delivery set height = 1", "delivery"),
    (
        "hub",
        "insert into delivery select 9223372036854775807, client_id, height, proof, claims, time, "
        "sent from delivery limit 1",
        "delivery 9223372036854775807",
    ),
    ("hub", "update checkpoint set body = x'00' where size = 2", "checkpoint"),
    ("hub", "update packet set packet = x'00' where sequence = 1", "packet"),
    ("hub", "update packet set acknowledgements = x'00' where sequence = 1", "packet"),
    ("hub", "update entry set path = x'61' where \"index\" = 5", "entry"),
    ("hub", "delete from delivery", "packet"),
    ("zj", "delete from delivery", "packet"),
    ("hub", "update packet set state = 'expired' where sequence = 1", "packet"),
    ("hub", 'update packet set "index" = 1 where sequence = 1', "packet"),
    ("hub", "update packet set acknowledgements = x'' where sequence = 1", "packet"),
    ("zj", "update packet set state = 'sent' where sequence = 1", "packet"),
    ("zj", "update packet set closed_index = -1 where sequence = 1", "packet"),
    ("zj", "delete from packet where sequence = 1", "packet"),
    (
        "zj",
        "update packet set packet = (select packet from packet where sequence = 2) "
        "where sequence = 1",
        "packet",
    ),
    (
        "zj",
        "update packet set acknowledgements = (select acknowledgements from packet "
        "where sequence = 2) where sequence = 1",
        "packet",
    ),
    (
        "hub",
        "insert into packet select client_id, direction, 99, packet, state, acknowledgements, "
        '"index", time, delivery, closed_index, closed_time, closed_delivery, error from packet '
        "where sequence = 1",
        "packet",
    ),
]


@pytest.mark.parametrize(("name", "sql", "where"), CORRUPTIONS)
def test_a_planted_corruption_is_found(world: World, name: str, sql: str, where: str) -> None:
    with world.nodes[name].store.engine.begin() as connection:
        connection.execute(text("PRAGMA foreign_keys=OFF"))
        assert connection.execute(text(sql)).rowcount > 0
    found = _found(world, name)
    assert any(place.startswith(where) for place in found), found
