"""The tables of clients, headers, deliveries and packets, and every proof that is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256

from sqlalchemy import Connection

from relay.contract import Contract
from relay.entries import distinct, entries_beside, needed
from relay.errors import LianqiaoError
from relay.fold import Fold
from relay.fsck.findings import Counts, Finding
from relay.fsck.rows import rows
from relay.light.client import check_same
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
from relay.paths import request_value
from relay.store import (
    BlockRow,
    ClientRow,
    ConsensusRow,
    DeliveryRow,
    Direction,
    PacketRow,
    PacketState,
    RequestRow,
    client_of_lineage,
)

MAX_DELIVERY = 2**62
"""Greatest number of a stored delivery: the next one is one more, and must fit."""

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


class Proofs:
    """Compares tables with the fold of the journal, and verifies what is stored beside them.

    `contracts` say which entries had to be proven beside a packet.
    """

    def __init__(
        self,
        connection: Connection,
        client_types: Mapping[str, ClientType],
        contracts: Mapping[str, Contract],
        fold: Fold,
        counts: Counts,
    ) -> None:
        self._connection = connection
        self._contracts = contracts
        self._types = client_types
        self._fold = fold
        self._counts = counts
        self._states: dict[str, tuple[ClientState, ClientType]] = {}
        """By lineage."""
        self._said: set[tuple[str, int, int]] = set()
        """(lineage, time, next sequence) of every proven statement."""
        self._claims: dict[int, frozenset[Claim]] = {}
        self._beside: dict[int, tuple[Claim, ...]] = {}
        """The claims in their order, where there are entries among them."""

    def check(self) -> Iterator[Finding]:
        """What is found, once the whole journal has been folded."""
        yield from self._clients()
        yield from self._headers()
        yield from self._deliveries()
        yield from self._complete()
        yield from self._packets()
        yield from self._requests()

    def _clients(self) -> Iterator[Finding]:
        seen = set()
        for row in rows(self._connection, ClientRow, "number"):
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

    def _headers(self) -> Iterator[Finding]:
        seen = set()
        for row in rows(self._connection, ConsensusRow, "index"):
            assert isinstance(row, ConsensusRow)
            self._counts.headers += 1
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

    def _deliveries(self) -> Iterator[Finding]:
        for row in rows(self._connection, DeliveryRow, "number"):
            assert isinstance(row, DeliveryRow)
            self._counts.proofs += 1
            where = f"delivery {row.number}"
            if not 0 < row.number <= MAX_DELIVERY:
                yield Finding(where, "has a number that leaves none for those that follow")
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

    def _requests(self) -> Iterator[Finding]:
        """Of a replicated chain: what is answered to a call that is asked again."""
        if not any(rows(self._connection, BlockRow, "height")):
            return
        seen = set()
        for row in rows(self._connection, RequestRow, "request_id"):
            assert isinstance(row, RequestRow)
            key = sha256(row.request_id.encode()).digest()
            seen.add(key)
            kept = request_value(bytes(row.body_hash), bytes(row.response))
            if self._fold.requests.get(key) != kept:
                yield Finding(f"request {key.hex()}", "differs from the journal")
        for key in sorted(set(self._fold.requests) - seen):
            yield Finding(f"request {key.hex()}", "is missing from the table")

    def _complete(self) -> Iterator[Finding]:
        """All that was taken to be complete was stated and proven to be."""
        for found in self._fold.complete:
            if found not in self._said:
                yield Finding(f"client {found[0]}", f"no proof says it is complete at {found[1]}")

    def _packets(self) -> Iterator[Finding]:
        seen = set()
        for row in rows(self._connection, PacketRow, "index"):
            assert isinstance(row, PacketRow)
            self._counts.packets += 1
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
