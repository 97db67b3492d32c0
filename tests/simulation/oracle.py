"""What must hold of every journal, read from the database by a hand of its own.

`Observer` reads what is new on one node through its own connection, folds it and compares the
tables with the fold. It judges what one journal can show alone:

    one body       every size has one body; what is signed is committed, below the raised mark
    fold           tables of clients and packets equal the fold of the entries
    frozen         after misbehaviour nothing of that client is written but own answers
    expired        nor after the trusting period of its newest head
    recovery       nor while one is proposed; and none is completed before its delay
    heads          the consensus states of a client only grow, and none is lost or changed
    once           each contract ran once for each packet, and was called back once
    verbs          nothing both acknowledged and timed out, both received and expired

What takes two journals is judged by tests.simulation.pairs.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from relay.clients import decode_creation
from relay.errors import Malformed
from relay.fold import Fold
from relay.journal import Kind, parse_host_path
from relay.light.checkpoint import parse_body
from relay.light.states import decode_client_state, decode_consensus_state
from relay.light.types import ConsensusState
from relay.packet import ABSENT, ERROR_ACKNOWLEDGEMENT
from relay.packet_bytes import decode_acknowledgements, decode_packet
from relay.recovery import decode_proposal
from relay.store import ClientRow, Direction, PacketRow, PacketState, client_of_lineage
from tests.simulation.contracts import ACKED, ONWARD, RAN, TIMED, parse_key
from tests.simulation.money.records import PORTS, Records

PacketKey = tuple[str, Direction, int]
_COMMITMENT, _RECEIPT, _ACKNOWLEDGEMENT = 1, 2, 3


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry with the time of its batch. Exactly one of `kind` and `host` tells what it is."""

    index: int
    path: bytes
    value: bytes
    time: int
    host: tuple[Kind, str, bytes] | None
    client_id: str = ""
    kind: int = 0
    sequence: int = 0


def _columns(row: type[Any]) -> str:
    return ", ".join(f'"{field.name}"' for field in fields(row))


class Observer:
    """One node's journal as far as it was read."""

    def __init__(self, name: str, path: Path, mark_path: Path) -> None:
        self.name = name
        self.fold = Fold()
        self.values: dict[bytes, bytes] = {}
        self.runs: dict[tuple[bytes, str, int], int] = {}
        """(kind, client id, sequence) -> how often."""
        self.onward: list[tuple[bytes, str, int]] = []
        """(where it is recorded, client id, sequence) of packets sent from callbacks."""
        self.records: dict[str, Records] = {port: Records() for port in PORTS}
        """What contracts of money wrote, by port; judged by tests.simulation.money.oracle."""
        self.frozen: dict[str, int] = {}
        self.bodies: dict[int, bytes] = {}
        """Size -> body, as committed."""
        self.signed: dict[int, bytes] = {}
        self.recovered: dict[str, int] = {}
        self.deferred: list[tuple[str, int]] = []
        self._latest: dict[str, ConsensusState] = {}
        self._periods: dict[str, int] = {}
        """Client id -> trusting period, seconds."""
        self._recovering: dict[str, int] = {}
        """Client id -> from when its recovery may be completed."""
        self._next = 0
        self._time = 0
        self._mark_path = mark_path
        self._database = sqlite3.connect(path)

    def close(self) -> None:
        """Releases the database."""
        self._database.close()

    def _require(self, holds: bool, invariant: str, detail: str) -> None:
        if not holds:
            raise Broken(invariant, f"{self.name}: {detail}")

    # --- signatures

    def sign(self, body: bytes) -> None:
        """Told by a key of the node before it signs."""
        size = parse_body(body).size
        query = "select body from checkpoint where size = ?"
        row = self._database.execute(query, (size,)).fetchone()
        self._require(
            row is not None and bytes(row[0]) == body,
            "one body",
            f"signs a body of size {size} that is not committed",
        )
        self._require(
            self.signed.setdefault(size, body) == body, "one body", f"two bodies of size {size}"
        )
        mark = json.loads(self._mark_path.read_text()) if self._mark_path.exists() else {}
        self._require(
            mark.get("size", 0) >= size, "high-water mark", f"signs {size} above its mark {mark}"
        )

    # --- what is new

    def look(self) -> list[Entry]:
        """The entries since the last look, all judged by themselves."""
        found = self._database.execute(
            'select "index", path, value from entry where "index" >= ? order by "index"',
            (self._next,),
        ).fetchall()
        if not found:
            return []
        times = self._bodies(found[-1][0] + 1)
        entries = []
        for index, path, value in found:
            while times[0][0] <= index:
                times.pop(0)
            entries.append(self._take(index, bytes(path), bytes(value), times[0][1]))
        self._next = found[-1][0] + 1
        touched = sorted({key for entry in entries for key in self._touched(entry)})
        for key in touched:
            self._check_packet(key)
        self._check_clients()
        return entries

    def _bodies(self, size: int) -> list[tuple[int, int]]:
        query = "select size, time, body from checkpoint where size > ? order by size"
        rows = self._database.execute(query, (self._next,)).fetchall()
        self._require(
            bool(rows) and rows[-1][0] == size, "one body", f"no body covers the entries to {size}"
        )
        for row in rows:
            self._require(row[1] >= self._time, "one body", f"time goes back at size {row[0]}")
            self._time = row[1]
            self.bodies[row[0]] = bytes(row[2])
        return [(row[0], row[1]) for row in rows]

    def _take(self, index: int, path: bytes, value: bytes, time: int) -> Entry:
        self._require(path not in self.values, "once", f"path {path!r} is written twice")
        self.values[path] = value
        try:
            self.fold.apply(index, path, value)
        except Malformed as err:
            raise Broken("fold", f"{self.name}: entry {index}: {err}") from err
        host = parse_host_path(path)
        if host is not None:
            entry = Entry(index, path, value, time, host)
            self._take_host(entry, *host)
            return entry
        client_id, kind = path[:-9].decode(), path[-9]
        entry = Entry(
            index, path, value, time, None, client_id, kind, int.from_bytes(path[-8:], "big")
        )
        if kind != _ACKNOWLEDGEMENT:  # an own answer may come later: it accepts nothing
            self._judges(client_id, entry)
        if kind == _RECEIPT and value != ABSENT:
            self.deferred.append((client_id, entry.sequence))
        if kind == _ACKNOWLEDGEMENT:
            receipt = self.values.get(path[:-9] + b"\x02" + path[-8:])
            self._require(
                receipt is not None and receipt != ABSENT,
                "verbs",
                f"{client_id} {entry.sequence} is answered and was not received",
            )
            self.deferred.remove((client_id, entry.sequence))
        return entry

    def _take_host(self, entry: Entry, kind: Kind, owner: str, key: bytes) -> None:
        if kind is Kind.HEADER:
            client_id, state = client_of_lineage(owner)[0], decode_consensus_state(entry.value)
            self._judges(client_id, entry)
            latest = self._latest[client_id]
            self._require(
                state.height > latest.height and state.time >= latest.time,
                "heads",
                f"{client_id} goes back to {state.height}",
            )
            self._latest[client_id] = state
        elif kind is Kind.CLIENT:
            self._anchored(owner, entry.value)
        elif kind is Kind.RECOVERY:
            self._recovering[owner] = decode_proposal(entry.value).due
        elif kind is Kind.RECOVERED:
            due = self._recovering.pop(owner)
            if entry.value:
                self._require(entry.time >= due, "recovery", f"{owner} is recovered before {due}")
                self._anchored(owner, entry.value)
                self.recovered[owner] = entry.index
        elif kind is Kind.CLOSED:
            self._judges(owner, entry)
            path = owner.encode() + b"\x01" + key
            self._require(path in self.values, "verbs", f"{owner} closes what it never sent")
        elif kind is Kind.COMPLETE:
            self._judges(owner, entry)
        elif kind is Kind.MISBEHAVIOUR:
            self.frozen[owner] = entry.index
        elif kind is Kind.RECORD and owner in PORTS:
            self.records[owner].add(key, entry.value, entry.time)
        elif kind is Kind.RECORD and key.startswith(ONWARD):
            client_id, sequence = entry.value.split(b"\n")
            self.onward.append((key, client_id.decode(), int(sequence)))
        elif kind is Kind.RECORD:
            what, client_id_, sequence_, _ = parse_key(key)
            name = (what, client_id_, sequence_)
            self.runs[name] = self.runs.get(name, 0) + 1
            self._require(
                self.runs[name] == 1,
                "once",
                f"the contract {owner} was run again for {client_id_} {sequence_} ({what!r})",
            )

    def _anchored(self, client_id: str, creation: bytes) -> None:
        """A client begins, or begins anew."""
        state, anchor = decode_creation(creation)
        self._periods[client_id] = decode_client_state(state).trusting_period
        self._latest[client_id] = decode_consensus_state(anchor)
        self.frozen.pop(client_id, None)

    def _judges(self, client_id: str, entry: Entry) -> None:
        """A client that judges here must be one that can."""
        what = f"entry {entry.index} accepts something of {client_id}, which is"
        self._require(client_id not in self.frozen, "frozen", f"{what} frozen")
        self._require(client_id not in self._recovering, "recovery", f"{what} to be recovered")
        expires = self._latest[client_id].time + self._periods[client_id]
        self._require(entry.time < expires, "expired", f"{what} expired since {expires}")

    # --- tables

    def _touched(self, entry: Entry) -> list[PacketKey]:
        if entry.host is None:
            direction = Direction.OUT if entry.kind == _COMMITMENT else Direction.IN
            return [(entry.client_id, direction, entry.sequence)]
        kind, owner, key = entry.host
        if kind is Kind.CLOSED:
            return [(owner, Direction.OUT, int.from_bytes(key, "big"))]
        if kind is Kind.RECORD and owner not in PORTS and not key.startswith(ONWARD):
            what, client_id, sequence, _ = parse_key(key)
            return [(client_id, Direction.IN if what == RAN else Direction.OUT, sequence)]
        return []

    def row(self, key: PacketKey) -> PacketRow:
        """The row of a packet, which must be there."""
        found = self._database.execute(
            f"select {_columns(PacketRow)} from packet "
            "where client_id = ? and direction = ? and sequence = ?",
            (key[0], key[1].value, key[2]),
        ).fetchone()
        self._require(found is not None, "fold", f"packet {key} is missing from the table")
        values = list(found)
        values[1], values[4] = Direction(values[1]), PacketState(values[4])
        return PacketRow(*values)

    def proof_time(self, delivery: int) -> int:
        """The time of the head under which a kept delivery was proven."""
        query = "select client_id, height from delivery where number = ?"
        client_id, height = self._database.execute(query, (delivery,)).fetchone()
        state = self.fold.consensus[client_id, height][0]
        return decode_consensus_state(state).time

    def _check_packet(self, key: PacketKey) -> None:
        folded = self.fold.packets.get(key)
        self._require(folded is not None, "once", f"a contract ran for {key}, which nobody sent")
        assert folded is not None
        row = self.row(key)
        self._require(
            (row.state, row.index, row.closed_index)
            == (folded.state, folded.index, folded.closed_index),
            "fold",
            f"packet {key}: the table says {row.state}, the journal {folded.state}",
        )
        if decode_packet(bytes(row.packet)).payloads[0].destination_port in PORTS:
            return  # contracts of money count no runs: tests.simulation.money.oracle judges them
        client_id, _, sequence = key
        ran, acked, timed = (
            self.runs.get((kind, client_id, sequence), 0) for kind in (RAN, ACKED, TIMED)
        )
        acknowledgements = decode_acknowledgements(bytes(row.acknowledgements))
        failed = acknowledgements == (ERROR_ACKNOWLEDGEMENT,)
        if row.state in (PacketState.ACKNOWLEDGED, PacketState.TIMED_OUT) and row.error:
            ran_once = (0, 0)  # what a failed callback wrote was undone
        else:
            ran_once = (
                int(row.state is PacketState.ACKNOWLEDGED),
                int(row.state is PacketState.TIMED_OUT),
            )
        received = row.state in (PacketState.RECEIVED, PacketState.DEFERRED) and not failed
        if row.direction is Direction.IN:
            self._require(ran == int(received), "once", f"{key} is {row.state} and ran {ran} times")
        else:
            self._require(
                (acked, timed) == ran_once,
                "once",
                f"{key} is {row.state}; called back {acked} and {timed} times",
            )

    def _check_clients(self) -> None:
        rows = self._database.execute(f"select {_columns(ClientRow)} from client").fetchall()
        self._require(len(rows) == len(self.fold.clients), "fold", "clients differ")
        for values in rows:
            row = ClientRow(*values)
            folded = self.fold.clients[row.client_id]
            same = all(
                getattr(row, field.name) == getattr(folded, field.name) for field in fields(folded)
            )
            self._require(same, "fold", f"client {row.client_id}: {row} is not {folded}")

    def check_heads(self) -> None:
        """Every consensus state that ever was is still there, and as it was: the fold forgets
        none."""
        found = {
            (client_id, height): bytes(state)
            for client_id, height, state in self._database.execute(
                "select client_id, height, state from consensus"
            )
        }
        folded = {key: state for key, (state, _) in self.fold.consensus.items()}
        self._require(found == folded, "heads", "consensus states differ from the journal")

    def unsigned(self) -> list[int]:
        """Sizes that are committed and not signed, or whose signatures were not kept."""
        query = "select size from checkpoint where note = '' order by size"
        return [size for (size,) in self._database.execute(query)]

    def check_signed(self) -> None:
        """Every size that was committed is signed, and nothing else."""
        self._require(self.signed == self.bodies, "one body", "signed and committed bodies differ")
