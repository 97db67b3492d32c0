"""This node as a chain: what the relayer in the same process reads from it and submits to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from relay.chain import ClientStatus, Delivery, DeliveryResult, PacketStep
from relay.light.types import Claim
from relay.light.types import Witness as PinnedWitness
from relay.node import Node
from relay.query import get_client, sent_statement
from relay.store import ConsensusRow
from relay.store.lookups import all_clients
from relay.travelling import steps_of
from relay.views import ClientView
from relay.watch import VerifiedHead
from relay.witness import Witness


class LocalChain:
    """relay.chain.Chain on a Node in this process. Nothing is trusted less for being local: what
    it submits is verified as anybody's."""

    def __init__(self, node: Node, witness: Witness | None = None) -> None:
        """`witness`: by whom the node co-signs heads of others."""
        self.node = node
        self._witness = witness
        self.chain_id = node.chain_id
        self._evidence = node.evidence()

    def latest_height(self) -> int:
        """See relay.chain.Chain."""
        return self._evidence.latest_height()

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[PinnedWitness] = (),
    ) -> Sequence[bytes]:
        """See relay.chain.Chain."""
        return self._evidence.headers(trusted_height, height, algorithm, witnesses)

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        return client_status(get_client(self.node.store, client_id))

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain."""
        return steps_of(self.node, client_id, after, limit)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain."""
        return self._evidence.prove(paths, height)

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain."""
        return sent_statement(self.node.store, client_id, height, before, self.node.shown)

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """See relay.watch.KnowingChain."""
        with self.node.store.reading() as tx:
            rows = [row for row in all_clients(tx) if row.chain_id in chain_ids]
            stored = [tx.load(ConsensusRow, row.lineage, row.latest_height) for row in rows]
        heads = [
            VerifiedHead(row.client_id, bytes(head.header), row.frozen != 0)
            for row, head in zip(rows, stored, strict=True)
            if head is not None
        ]
        if self._witness is not None:
            for row in {row.chain_id: row for row in rows}.values():
                header = self._witness.newest(row.chain_id)
                if header is not None:
                    heads.append(VerifiedHead(row.client_id, header, row.frozen != 0, True))
        return heads

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """See relay.watch.KnowingChain."""
        self.node.submit_misbehaviour(client_id, evidence)

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain."""
        return self.node.deliver(deliveries)


def client_status(view: ClientView) -> ClientStatus:
    """A client as a relayer needs it."""
    return ClientStatus(
        client_id=view.client_id,
        counterparty_client_id=view.counterparty_client_id,
        chain_id=view.state.chain_id,
        algorithm=view.state.algorithm,
        latest_height=view.latest.height,
        latest_time=view.latest.time,
        set_hash=view.latest.next_set_hash,
        trusting_period=view.state.trusting_period,
        frozen=view.frozen,
        witnesses=view.state.witnesses,
        complete_time=view.complete_time,
    )
