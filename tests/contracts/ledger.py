"""A ledger in memory that runs one contract: dict, write-once, rollback, packets in a list.

It stands for the host (relay.host) and for nothing of the product: proofs, headers and clients'
cryptography are other tests' subject, so a packet here simply arrives. `Network` carries packets
between such ledgers as relayers would, with acknowledgements and timeouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from relay.contract import Contract, Deferred, Head
from relay.errors import LianqiaoError, NotFound, Reason, Refused
from relay.light.types import ABLE, Abilities
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload, check_packet
from relay.paths import record_path


@dataclass
class Peer:
    """One client of a ledger: whom it follows, its youngest head, as of when all is here."""

    chain_id: str
    counterparty: str
    height: int = 1
    time: int = 0
    frozen: bool = False
    abilities: Abilities = ABLE


@dataclass
class Ledger:
    """relay.contract.State over a dict; a step that raises is undone."""

    chain_id: str
    contract: Contract
    peers: dict[str, Peer] = field(default_factory=dict)
    written: dict[bytes, bytes] = field(default_factory=dict)
    sent: list[Packet] = field(default_factory=list)
    now: int = 0
    shown: dict[bytes, bytes] = field(default_factory=dict)
    """What is proven beside the packet that is received."""

    # --- relay.contract.State
    def get(self, key: bytes) -> bytes | None:
        assert 1 <= len(key) <= 512
        return self.written.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        keys = sorted(k for k in self.written if k.startswith(prefix) and k > after)
        return [(k, self.written[k]) for k in keys[:limit]]

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        key = max((k for k in self.written if k.startswith(prefix)), default=None)
        return None if key is None else (key, self.written[key])

    def put(self, key: bytes, value: bytes) -> None:
        assert 1 <= len(key) <= 512
        assert isinstance(value, bytes)
        if self.written.setdefault(key, value) != value:
            raise Refused(Reason.PATH_WRITTEN, "written with another value", key=key)

    def send(self, client_id: str, payload: Payload, timeout_timestamp: int) -> int:
        peer = self._peer(client_id)
        if peer.frozen:
            raise Refused(Reason.CLIENT_FROZEN, "frozen")
        if timeout_timestamp <= self.now:
            raise Refused(Reason.TIMEOUT_ELAPSED, "the timeout lies in the past")
        sequence = 1 + sum(p.source_client == client_id for p in self.sent)
        packet = Packet(sequence, client_id, peer.counterparty, timeout_timestamp, (payload,))
        check_packet(packet)
        assert payload.source_port == self.contract.port
        self.sent.append(packet)
        return sequence

    def acknowledge(self, client_id: str, sequence: int, acknowledgement: bytes) -> None:
        raise AssertionError("no contract here defers")

    def head(self, client_id: str) -> Head:
        peer = self._peer(client_id)
        return Head(client_id, peer.chain_id, peer.height, peer.time, peer.time, peer.abilities)

    def client_of(self, chain_id: str) -> str:
        for name, peer in self.peers.items():
            if peer.chain_id == chain_id and not peer.frozen:
                return name
        raise NotFound(Reason.CLIENT_NOT_FOUND, "no active client", chain_id=chain_id)

    def proven(self, path: bytes) -> bytes | None:
        return self.shown.get(path)

    def verify_membership(
        self, client_id: str, height: int, path: bytes, value: bytes, proof: bytes
    ) -> None:
        raise AssertionError("no contract here asks for proofs")

    def _peer(self, client_id: str) -> Peer:
        if client_id not in self.peers:
            raise NotFound(Reason.CLIENT_NOT_FOUND, "no such client")
        return self.peers[client_id]

    # --- the host's part
    @contextmanager
    def _step(self) -> Iterator[None]:
        written, sent = dict(self.written), list(self.sent)
        try:
            yield
        except BaseException:
            self.written, self.sent = written, sent
            raise

    def call(self, method: str, body: bytes) -> bytes:
        with self._step():
            return self.contract.call(method, body, self, self.now)

    def receive(self, packet: Packet, entries: dict[bytes, bytes] | None = None) -> bytes:
        """Runs a packet; raises what the contract raised, with its writes undone.

        `entries`: what is proven beside it, by path.
        """
        shown = entries or {}
        for path in self.contract.entries_needed(packet, packet.payloads[0]):
            if path not in shown:
                raise Refused(Reason.ENTRY_MISSING, "not proven beside the packet")
        with self._step(), self._seeing(shown):
            answer = self.contract.receive(packet, packet.payloads[0], self, self.now)
            assert not isinstance(answer, Deferred)
            assert answer not in (b"", ERROR_ACKNOWLEDGEMENT)
            return answer

    @contextmanager
    def _seeing(self, entries: dict[bytes, bytes]) -> Iterator[None]:
        self.shown = entries
        try:
            yield
        finally:
            self.shown = {}

    def entries(self, packet: Packet) -> dict[bytes, bytes]:
        """What travels with a packet that this ledger sent, by path."""
        payload = packet.payloads[0]
        return {
            record_path(self.contract.port, key): self.written[key]
            for key in self.contract.entries(packet, payload, self)
        }

    def end(self, packet: Packet, acknowledgement: bytes | None) -> None:
        """Tells the contract how a packet it sent ended; None: it timed out."""
        with self._step():
            if acknowledgement is None:
                self.contract.timeout(packet, packet.payloads[0], self, self.now)
            else:
                self.contract.acknowledge(
                    packet, packet.payloads[0], acknowledgement, self, self.now
                )

    def keys(self, prefix: str) -> list[str]:
        return [k.decode() for k, _ in self.scan(prefix.encode(), limit=10**6)]


class Network:
    """Ledgers joined pairwise by clients, and a relayer without opinions."""

    def __init__(self, ledgers: Iterable[Ledger]) -> None:
        self.ledgers = {ledger.chain_id: ledger for ledger in ledgers}
        self._done: dict[str, int] = dict.fromkeys(self.ledgers, 0)

    def connect(self, a: Ledger, b: Ledger, now: int) -> None:
        to_b, to_a = f"checkpoint-{len(a.peers)}", f"checkpoint-{len(b.peers)}"
        a.peers[to_b] = Peer(b.chain_id, to_a, time=now)
        b.peers[to_a] = Peer(a.chain_id, to_b, time=now)

    def pending(self, ledger: Ledger) -> list[Packet]:
        return ledger.sent[self._done[ledger.chain_id] :]

    def deliver(self) -> list[tuple[str, Packet, bytes]]:
        """Carries all until nothing moves; (destination, packet, acknowledgement) of each."""
        seen = []
        moving = True
        while moving:
            moving = False
            for ledger in self.ledgers.values():
                for packet in self.pending(ledger):
                    moving = True
                    self._done[ledger.chain_id] += 1
                    there = self.ledgers[ledger.peers[packet.source_client].chain_id]
                    try:
                        answer = there.receive(packet, ledger.entries(packet))
                    except LianqiaoError:
                        answer = ERROR_ACKNOWLEDGEMENT
                    seen.append((there.chain_id, packet, answer))
                    ledger.end(packet, answer)
        return seen

    def drop(self, ledger: Ledger) -> list[Packet]:
        """Everything pending at `ledger` times out."""
        packets = self.pending(ledger)
        self._done[ledger.chain_id] += len(packets)
        for packet in packets:
            ledger.end(packet, None)
        return packets

    def at(self, now: int) -> None:
        """Sets the time everywhere, and lets every client know a head of that time."""
        for ledger in self.ledgers.values():
            ledger.now = now
            for peer in ledger.peers.values():
                peer.time = now
