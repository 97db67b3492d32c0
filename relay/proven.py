"""One proof for all items of a delivery, verified once, and only when an item asks for it.

A replayed delivery whose items are all known costs no signature and no hash: its items are no-ops
before their proof is looked at (DESIGN §3, order of checks).
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.chain import Delivery, Item, Step
from relay.clients import Client, Clients
from relay.entries import check_entries, distinct
from relay.errors import Malformed, Reason, Refused
from relay.light.types import Claim, ConsensusState, absence_provable
from relay.packet import (
    ABSENT,
    acknowledgement_commitment,
    acknowledgement_path,
    commitment_path,
    packet_commitment,
    receipt_path,
)
from relay.packet_bytes import MAX_CLAIMS, encode_claims
from relay.store import DeliveryRow, Transaction


def claim_of(item: Item, absence: bool) -> Claim:
    """What must be written on the other chain for this item to be true.

    `absence`: whether that chain's proofs can show that nothing is written.
    """
    packet = item.packet
    if item.step in (Step.RECEIVE, Step.EXPIRE):
        path = commitment_path(packet.source_client, packet.sequence)
        return Claim(path, packet_commitment(packet))
    if item.step is Step.ACKNOWLEDGE:
        path = acknowledgement_path(packet.destination_client, packet.sequence)
        return Claim(path, acknowledgement_commitment(item.acknowledgements))
    if item.step is Step.TIMEOUT:
        path = receipt_path(packet.destination_client, packet.sequence)
        return Claim(path, None if absence else ABSENT)
    raise Refused(Reason.INVALID_PACKET, f"{item.step} is not delivered, it is done at home")


class Proven:
    """What a delivery proves about the counterparty of one client."""

    def __init__(
        self, clients: Clients, tx: Transaction, client: Client, delivery: Delivery, now: int
    ) -> None:
        self._clients = clients
        self._tx = tx
        self.client = client
        self._delivery = delivery
        self._now = now
        self._row: DeliveryRow | None = None
        self._verified: tuple[ConsensusState, int] | Exception | None = None

    def require(self) -> tuple[ConsensusState, int]:
        """(consensus state, delivery number) of the verified proof; verifies at the first call.

        Raises CLIENT_FROZEN, CLIENT_EXPIRED, HEIGHT_NOT_TRUSTED, MALFORMED, INVALID_PROOF.
        """
        if self._verified is None:
            try:
                self._verified = self._verify()
            except Exception as err:
                self._verified = err
        if isinstance(self._verified, Exception):
            raise self._verified
        return self._verified

    def _verify(self) -> tuple[ConsensusState, int]:
        client, delivery = self.client, self._delivery
        client.check_active(self._clients.latest(self._tx, client), self._now)
        consensus = self._clients.consensus(self._tx, client, delivery.height)
        claims = self._claims(delivery.items)
        every = distinct([*delivery.sent, *claims])
        client.type.verify_membership(client.state, consensus, delivery.proof, every)
        self._row = DeliveryRow(
            number=self._tx.next_number(),
            client_id=client.row.lineage,
            height=delivery.height,
            proof=delivery.proof,
            claims=encode_claims(claims),
            time=self._now,
            sent=encode_claims(delivery.sent),
        )
        return consensus, self._row.number

    def keep(self) -> None:
        """Keeps the proof for re-verification, once an item of the delivery took effect."""
        if self._row is not None:
            self._tx.add(self._row)

    def _claims(self, items: Sequence[Item]) -> list[Claim]:
        """Of each item its packet's claim, then its entries: so it can be seen later which entries
        came with which packet, since no entry is at a packet's path."""
        claims: list[Claim] = []
        absence = absence_provable(self.client.type, self.client.state)
        for item in items:
            check_entries(item.entries)
            claims.append(claim_of(item, absence))
            claims.extend(item.entries)
        if len(claims) > MAX_CLAIMS:
            raise Malformed(
                f"a delivery claims at most {MAX_CLAIMS} entries", reason=Reason.LIMIT_EXCEEDED
            )
        return claims
