"""What must hold between two journals that follow each other.

    forged     nothing is received that was not sent, no head is believed that was not signed
    verbs      what one side closed is what the other side decided, and only that
    time       receipts lie before the timeout, sentinels at it or later, and a timeout is proven
               under a head that is not from before it
    complete   what is said to be here as of some time is here, all that was sent before it
    liars      a client is frozen only where its chain has signed two histories

A pair whose one side has signed two histories is *split*: nothing is required across it any more
but that it comes to rest, frozen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256

from relay.channel import CLOSED_BY_TIMEOUT
from relay.clients import decode_creation
from relay.journal import Kind
from relay.light.states import decode_consensus_state
from relay.packet import ABSENT
from relay.packet_bytes import decode_packet
from relay.sent import decode_complete
from relay.store import Direction, client_of_lineage
from tests.simulation.oracle import Broken, Entry, Observer
from tests.simulation.witnesses import Witnesses

_COMMITMENT, _RECEIPT = 1, 2


class Pairs:
    """All observers together."""

    def __init__(
        self,
        observers: Mapping[str, Observer],
        clients: Mapping[tuple[str, str], str],
        ends: Mapping[tuple[str, str], str],
        liars: Collection[str],
        hasty: str,
        witnesses: Witnesses,
    ) -> None:
        """`clients`: (on, of) -> client id, of those that carry packets. `ends`: (on, client id) ->
        of, of all. `liars`: nodes that have signed two histories (grows
        while the simulation runs). `hasty`: the node that does not look at its clock."""
        self._observers = observers
        self._ends = ends
        self._witnesses = witnesses
        self._clients = clients
        self._liars = liars
        self._hasty = hasty
        self._complete: dict[tuple[str, str], int] = {}
        """(on, client id) -> below which sequence everything was found to be here."""

    def look(self) -> int:
        """Reads what is new everywhere, then judges it; how many entries."""
        fresh = {name: observer.look() for name, observer in self._observers.items()}
        for name, entries in fresh.items():
            for entry in entries:
                self._judge(name, entry)
        return sum(len(entries) for entries in fresh.values())

    def other(self, name: str, client_id: str) -> tuple[Observer, bytes] | None:
        """(the other side's observer, its client id), or None for a split pair."""
        of = self._ends[name, client_id]
        if name in self._liars or of in self._liars:
            return None
        return self._observers[of], self._clients.get((of, name), "").encode()

    def pair(self, name: str, client_id: str) -> frozenset[str]:
        """The chain that keeps a client, and the one that the client follows."""
        return frozenset((name, self._ends[name, client_id]))

    def is_split(self, name: str, client_id: str) -> bool:
        """Whether a side of this client's pair has signed two histories."""
        return self.other(name, client_id) is None

    def _judge(self, name: str, entry: Entry) -> None:
        if entry.host is None:
            if entry.kind == _RECEIPT:
                self._judge_receipt(name, entry)
            return
        kind, owner, key = entry.host
        if kind is Kind.HEADER:
            self._judge_head(name, client_of_lineage(owner)[0], entry.value)
        elif kind is Kind.RECOVERED and entry.value:
            self._judge_head(name, owner, decode_creation(entry.value)[1])
        elif kind is Kind.CLOSED:
            self._judge_closing(name, owner, int.from_bytes(key, "big"), entry.value)
        elif kind is Kind.COMPLETE:
            self._judge_complete(name, owner, entry)
        elif kind is Kind.MISBEHAVIOUR and self._ends[name, owner] not in self._liars:
            raise Broken("liars", f"{name} froze {owner}, whose chain told one history only")

    def _judge_receipt(self, name: str, entry: Entry) -> None:
        where = f"{name}: {entry.client_id} {entry.sequence}"
        observer = self._observers[name]
        row = observer.row((entry.client_id, Direction.IN, entry.sequence))
        packet = decode_packet(bytes(row.packet))
        early = entry.time < packet.timeout_timestamp
        if entry.value == ABSENT and early and name != self._hasty:
            raise Broken("time", f"{where} was expired before its timeout")
        if entry.value != ABSENT and not early:
            raise Broken("time", f"{where} was received after its timeout")
        other = self.other(name, entry.client_id)
        if other is None:
            return
        sender, client_id = other
        sent = sender.values.get(client_id + b"\x01" + entry.sequence.to_bytes(8, "big"))
        if sent is None or entry.value not in (sent, ABSENT):
            raise Broken("forged", f"{where} was received and not sent like that")
        out = sender.row((client_id.decode(), Direction.OUT, entry.sequence))
        if bytes(out.packet) != bytes(row.packet):
            raise Broken("forged", f"{where} is another packet than was sent")

    def _judge_head(self, name: str, client_id: str, state: bytes) -> None:
        consensus, of = decode_consensus_state(state), self._ends[name, client_id]
        carries = self._clients.get((name, of)) == client_id
        if carries and self._witnesses.is_required_by(name, of):
            self._witnesses.check(f"{name}: {client_id}", consensus.header_hash)
        other = self.other(name, client_id)
        if other is None:
            return
        body = other[0].bodies.get(consensus.height)
        if body is None or sha256(body).digest() != consensus.header_hash:
            raise Broken("forged", f"{name}: {client_id} believes a head that was not signed")

    def _judge_closing(self, name: str, client_id: str, sequence: int, value: bytes) -> None:
        where = f"{name}: {client_id} {sequence}"
        observer = self._observers[name]
        row = observer.row((client_id, Direction.OUT, sequence))
        packet = decode_packet(bytes(row.packet))
        timed_out = value == CLOSED_BY_TIMEOUT
        if timed_out and observer.proof_time(row.closed_delivery) < packet.timeout_timestamp:
            raise Broken("time", f"{where} timed out by a proof from before its timeout")
        other = self.other(name, client_id)
        if other is None:
            return
        receiver, there = other
        number = sequence.to_bytes(8, "big")
        receipt = receiver.values.get(there + b"\x02" + number)
        answer = receiver.values.get(there + b"\x03" + number)
        if timed_out and receipt != ABSENT:
            raise Broken("verbs", f"{where} timed out and was not expired there")
        if not timed_out and (receipt in (None, ABSENT) or value[1:] != answer):
            raise Broken("verbs", f"{where} was acknowledged and not answered so there")

    def _judge_complete(self, name: str, client_id: str, entry: Entry) -> None:
        time, end = decode_complete(entry.value)
        other = self.other(name, client_id)
        if other is None:
            return
        sender, there = other[0], other[1].decode()
        here = self._observers[name].fold.packets
        first = self._complete.get((name, client_id), 1)
        self._complete[name, client_id] = end
        for sequence in range(first, end):
            found = here.get((client_id, Direction.IN, sequence))
            if found is None or found.closed_index >= entry.index:
                raise Broken("complete", f"{name}: {client_id} {sequence} is missing before {time}")
        if (there, Direction.OUT, end) in sender.fold.packets:
            sent = sender.row((there, Direction.OUT, end)).time
            if sent < time:
                raise Broken("complete", f"{name}: {client_id} {end} was sent before {time}")
