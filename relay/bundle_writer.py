"""Makes bundles and trust files out of what a node has kept. Read-only.

A packet has two ends. What this node wrote is proven under its own head. What the other chain
wrote came in a delivery, whose header and proof were kept as they came: the proof is narrowed to
this packet, and the headers lead on from the anchor at which this node's client began. Where the
other chain can be asked, it gives a shorter way from the anchor: one header and one link.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

from relay.bundle_format import (
    MAX_BUNDLE_BYTES,
    MAX_HEADERS,
    Bundle,
    BundleClaim,
    BundlePacket,
    ClaimKind,
    Hop,
    claim_of,
    encode_bundle,
)
from relay.chain import Chain
from relay.clients import decode_creation
from relay.entries import distinct, entries_beside
from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.journal import Kind, host_path
from relay.light.client import consensus_of
from relay.light.states import decode_client_state, decode_consensus_state
from relay.light.types import Claim
from relay.node import Node
from relay.packet import Packet, be64
from relay.packet_bytes import decode_acknowledgements, decode_claims, decode_packet
from relay.query import get_delivery, packet_row
from relay.store import (
    ConsensusRow,
    Direction,
    PacketRow,
    PacketState,
    Transaction,
    client_of_lineage,
)
from relay.store.lookups import all_clients, header_rows, weigh_headers
from relay.travelling import travelling
from relay.trust import Anchor, Trust, TrustedChain

MAX_PACKETS = 64
PacketKey = tuple[str, int, Direction]
"""(client id, sequence, direction) on this node."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one delivery shows of one packet."""

    packet: int
    kind: ClaimKind
    delivery: int

    @property
    def claim(self) -> BundleClaim:
        return BundleClaim(self.kind, self.packet)


class BundleWriter:
    """Bundles of one node's packets, and the trust file that goes with them."""

    def __init__(
        self, node: Node, remote: Callable[[str], Chain | None] = lambda client_id: None
    ) -> None:
        """`remote` gives the chain behind a client where it can be asked."""
        self._node = node
        self._remote = remote
        self._evidence = node.evidence()

    def trust(self) -> Trust:
        """What this node itself trusts: each client as it was pinned, and its own first head."""
        first = self._evidence.headers(0, self._first())[-1]
        state, shown = self._evidence.client_state(self._node.origin), self._node.shown
        own = TrustedChain(
            replace(state, witnesses=shown.witnesses, witness_quorum=shown.quorum),
            consensus_of(self._evidence.client_type.decode_header(first)),
        )
        with self._node.store.reading() as tx:
            others = {row.chain_id: self._pinned(tx, row.lineage) for row in all_clients(tx)}
        chains = {**others, self._node.origin: own}
        return Trust(tuple(chains[chain_id] for chain_id in sorted(chains)))

    def bundle(
        self, keys: Sequence[PacketKey], anchors: Mapping[str, Anchor] | None = None
    ) -> bytes:
        """The bundle of some packets: who sent them, and what became of them here.

        `anchors`: chain -> where the reader's trust begins and whose co-signatures he counts,
        where that is not as in `trust()`. Of this node's own heads those of the witnesses asked for
        are carried, and no others, since readers refuse what is unused. Raises
        NotFound(PACKET_NOT_FOUND), NotFound(HEIGHT_NOT_FOUND),
        Malformed(LIMIT_EXCEEDED), Refused(BUNDLE_INCOMPLETE).
        """
        if not 1 <= len(keys) <= MAX_PACKETS:
            raise Malformed(
                f"a bundle is about 1 to {MAX_PACKETS} packets", reason=Reason.LIMIT_EXCEEDED
            )
        known = anchors or {}
        with self._node.store.reading() as tx:
            rows = [packet_row(tx.connection, *key) for key in dict.fromkeys(keys)]
        packets = tuple(_about(row) for row in rows)
        own: list[BundleClaim] = []
        foreign: list[tuple[str, _Shown]] = []
        reader = known.get(self._node.origin) or self._own_reader()
        height = self._own_height(reader)
        for index, row in enumerate(rows):
            own.extend(BundleClaim(kind, index) for kind in _own_kinds(row))
            if row.direction is Direction.OUT:
                packet = packets[index].packet
                own.extend(map(_entry, travelling(self._node, packet, height)))
            foreign.extend((row.client_id, shown) for shown in _foreign(row, index))
        hops = self._foreign_hops(foreign, packets, known)
        hops.append(self._own_hop(list(dict.fromkeys(own)), packets, reader, height))
        return encode_bundle(Bundle(packets, tuple(hops)))

    def _first(self) -> int:
        """The size of the first head of this node's epoch."""
        return self._evidence.first_height(self._node.origin)

    # --- hops

    def _own_hop(
        self,
        claims: Sequence[BundleClaim],
        packets: Sequence[BundlePacket],
        reader: Anchor,
        height: int,
    ) -> Hop:
        headers = _way(_counted(self._evidence.headers, reader), reader.height, height)
        paths = [claim_of(claim, packets).path for claim in claims]
        try:
            proof = self._evidence.prove(paths, height)
        except NotFound as error:
            if not reader.witness_quorum or error.reason is not Reason.PATH_NOT_FOUND:
                raise  # committed, and not signed yet: the next head covers it
            raise _not_cosigned(reader, height) from error
        return Hop(self._node.origin, height, headers, proof, tuple(claims))

    def _own_reader(self) -> Anchor:
        """Who reads by this node's own trust file: with the witnesses that its operator demands."""
        shown = self._node.shown
        return Anchor(self._first(), shown.witnesses, shown.quorum)

    def _own_height(self, reader: Anchor) -> int:
        height = self._evidence.cosigned_height(reader.witnesses, reader.witness_quorum)
        if not height:
            raise _not_cosigned(reader, height)
        return height

    def _foreign_hops(
        self,
        shown: Sequence[tuple[str, _Shown]],
        packets: Sequence[BundlePacket],
        anchors: Mapping[str, Anchor],
    ) -> list[Hop]:
        grouped: dict[tuple[str, int], list[_Shown]] = {}
        for client_id, one in shown:
            grouped.setdefault((client_id, one.delivery), []).append(one)
        hops: list[Hop] = []
        left = MAX_BUNDLE_BYTES
        for (client_id, delivery), part in grouped.items():
            before = {(hop.chain, claim) for hop in hops for claim in hop.claims}
            hops.append(self._foreign_hop(client_id, delivery, part, packets, anchors, before))
            left -= sum(map(len, hops[-1].headers))
            if left < 0:  # each hop may bring as much: the sum is not found out at the end
                raise _too_long()
        return hops

    def _foreign_hop(
        self,
        client_id: str,
        number: int,
        shown: Sequence[_Shown],
        packets: Sequence[BundlePacket],
        anchors: Mapping[str, Anchor],
        before: Container[tuple[str, BundleClaim]],
    ) -> Hop:
        """`before`: what hops before it show already, which is not shown a second time."""
        delivery = get_delivery(self._node.store, number)
        with self._node.store.reading() as tx:
            pinned = self._pinned(tx, delivery.client_id)
            client = self._node.clients.load(tx, client_of_lineage(delivery.client_id)[0])
            header = tx.load(ConsensusRow, delivery.client_id, delivery.height)
            assert header is not None, "a delivery is kept with its header"
            consensus = decode_consensus_state(header.state)
        origin = pinned.state.chain_id
        reader = anchors.get(origin) or pinned.reader
        kept = decode_claims(delivery.claims)
        covered, claims = distinct([*decode_claims(delivery.sent), *kept]), list[BundleClaim]()
        for one in shown:
            about = claim_of(one.claim, packets)
            claims += [one.claim, *map(_entry, entries_beside(kept, about))]
        claims = [c for c in dict.fromkeys(claims) if (origin, c) not in before]
        wanted = [covered.index(claim_of(claim, packets)) for claim in claims]
        proof = client.type.narrow_membership(
            pinned.state, consensus, delivery.proof, covered, wanted
        )
        headers = self._foreign_headers(delivery.client_id, reader, delivery.height)
        return Hop(origin, delivery.height, headers, proof, tuple(claims))

    def _foreign_headers(self, lineage: str, reader: Anchor, height: int) -> tuple[bytes, ...]:
        chain = self._remote_of(lineage)
        if chain is not None:
            try:
                return _way(_counted(chain.headers, reader), reader.height, height)
            except LianqiaoError:
                pass  # it cannot be asked now; what was kept is a longer way to the same place
        return self._kept_headers(lineage, reader.height, height)

    def _remote_of(self, lineage: str) -> Chain | None:
        """The chain that can be asked; it does not remember a history before its recovery."""
        client_id, recovered = client_of_lineage(lineage)
        with self._node.store.reading() as tx:
            current = self._node.clients.load(tx, client_id).row.recovered == recovered
        return self._remote(client_id) if current else None

    def _kept_headers(self, lineage: str, anchor: int, height: int) -> tuple[bytes, ...]:
        low, high = min(anchor, height), max(anchor, height)
        if low == high:
            return ()
        with self._node.store.reading() as tx:
            count, size = weigh_headers(tx, lineage, low, high)
            if count > MAX_HEADERS or size > MAX_BUNDLE_BYTES:
                raise _too_long()
            rows = header_rows(tx, lineage, low, high)
            client_type = self._node.clients.load(tx, client_of_lineage(lineage)[0]).type
        if not rows or rows[0].height != low or rows[-1].height != high:
            raise Refused(
                Reason.BUNDLE_INCOMPLETE,
                f"this node has kept no headers from height {anchor} to {height}",
                hint="ask the relay while it can reach that chain, or leave the anchor out",
                anchor=anchor,
                height=height,
            )
        if anchor < height:
            return tuple(row.header for row in rows[1:])
        first = replace(client_type.decode_header(rows[0].header), link=(), link_height=0)
        return (client_type.encode_header(first), *(row.header for row in rows[1:]))

    # --- what is pinned

    def _pinned(self, tx: Transaction, lineage: str) -> TrustedChain:
        client_id, recovered = client_of_lineage(lineage)
        path = host_path(Kind.CLIENT, client_id)
        if recovered:
            path = host_path(Kind.RECOVERED, client_id, be64(recovered - 1))
        value = tx.get(path)
        if value is None:
            raise NotFound(Reason.CLIENT_NOT_FOUND, "no such client", client_id=client_id)
        state, anchor = decode_creation(value)
        return TrustedChain(decode_client_state(state), decode_consensus_state(anchor))


def _counted(
    headers: Callable[..., Sequence[bytes]], reader: Anchor
) -> Callable[[int, int], Sequence[bytes]]:
    """Headers with the lines alone that a reader counts."""
    return lambda low, high: headers(low, high, reader.algorithm, reader.witnesses)


def _not_cosigned(reader: Anchor, height: int) -> Refused:
    return Refused(
        Reason.BUNDLE_INCOMPLETE,
        f"no head that covers it is co-signed by {reader.witness_quorum} of the witnesses "
        f"{', '.join(witness.name for witness in reader.witnesses)}",
        hint="`lianqiao status` shows how far each witness has followed; ask again once it has",
        cosigned=height,
    )


def _too_long() -> Malformed:
    return Malformed(
        f"the headers of this bundle would be more than {MAX_HEADERS} or {MAX_BUNDLE_BYTES} bytes",
        reason=Reason.LIMIT_EXCEEDED,
        hint="ask for fewer packets, by a younger trust file, or while the other chain answers",
    )


def _way(
    headers: Callable[[int, int], Sequence[bytes]], anchor: int, height: int
) -> tuple[bytes, ...]:
    """The headers that lead from an anchor to a height, forwards or (to an older one) backwards."""
    if anchor == height:
        return ()
    if anchor < height:
        return tuple(headers(anchor, height))
    return (*headers(0, height), *headers(height, anchor))


def _entry(entry: Claim) -> BundleClaim:
    assert entry.value is not None, "an entry that travels is there"
    return BundleClaim(ClaimKind.ENTRY, path=entry.path, value=entry.value)


def _about(row: PacketRow) -> BundlePacket:
    packet: Packet = decode_packet(row.packet)
    return BundlePacket(packet, decode_acknowledgements(row.acknowledgements))


def _own_kinds(row: PacketRow) -> list[ClaimKind]:
    if row.direction is Direction.OUT:
        return [ClaimKind.COMMITMENT]
    if row.state is PacketState.EXPIRED:
        return [ClaimKind.ABSENT]
    if row.state is PacketState.DEFERRED:
        return [ClaimKind.RECEIPT]
    return [ClaimKind.RECEIPT, ClaimKind.ACKNOWLEDGEMENT]


def _foreign(row: PacketRow, index: int) -> list[_Shown]:
    if row.direction is Direction.IN:
        return [_Shown(index, ClaimKind.COMMITMENT, row.delivery)]
    if row.state is PacketState.ACKNOWLEDGED:
        return [_Shown(index, ClaimKind.ACKNOWLEDGEMENT, row.closed_delivery)]
    if row.state is PacketState.TIMED_OUT:
        return [_Shown(index, ClaimKind.ABSENT, row.closed_delivery)]
    return []
