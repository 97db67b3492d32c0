"""A node whose keys sign two histories: a copy of its database goes on by itself.

The copy has the same keys and a mark of its own, which is what a thief of the keys, or an operator
who lies, would have. It tells some of its counterparties its own history. Sooner or later somebody
holds a head of each, and submits both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from random import Random

from relay.actions import Tick
from relay.chain import Delivery
from relay.errors import LianqiaoError, Reason
from relay.evidence import Evidence as Heads
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.local import LocalChain
from relay.node import Node
from tests.simulation.oracle import Broken, Observer
from tests.simulation.process import Process

ALWAYS = -(1 << 40)
"""`tick_seconds` of a node that states what it sent with everything that it writes."""


class Fork:
    """The second history of one process."""

    def __init__(self, process: Process, twin: Process, observer: Observer) -> None:
        """`twin` is made like `process`, in a directory of its own and without faults."""
        self.process = process
        self.twin = twin
        self._observer = observer
        self.size = max(observer.bodies)
        """Of the last head that both histories hold."""
        process.copy(twin.path)
        if process.mark_path.exists():
            shutil.copy(process.mark_path, twin.mark_path)
        twin.adopt(process)
        twin.start()

    @property
    def node(self) -> Node:
        """The twin."""
        assert self.twin.node is not None
        return self.twin.node

    def grow(self, clients: Mapping[tuple[str, str], str], random: Random, now: int) -> None:
        """The twin does something that the node does not."""
        own = [client for (on, _), client in clients.items() if on == self.process.name]
        body = f"{random.choice(own)}\n{now + 600}\necho:0".encode()
        try:
            self.node.call("tally", "send", body)
        except LianqiaoError:
            self.node.run(Tick())

    def conflict(self, algorithm: str) -> bytes | None:
        """Evidence: two headers of one size, where there are such. The twin grows to the size of
        the other history, entry by entry, where it is the shorter one."""
        bodies, honest = self._observer.bodies, self.process.node
        if honest is None:
            return None
        while self.node.head.size < max(bodies):
            self.node.run(Tick())
        size = self.node.head.size
        if size not in bodies or self.node.head.body == bodies[size]:
            return None
        try:
            first, second = (
                Heads(node.store, node.tiles).headers(0, size, algorithm)[-1]
                for node in (honest, self.node)
            )
        except LianqiaoError:
            return None
        return encode_evidence(Evidence(first, second))

    def catch_up(self) -> None:
        """Node and twin grow to one size, whichever is the shorter one. A step is one entry, but
        for the first of each, which may state what was sent beside it: so in turns."""
        honest, self.node.tick_seconds = self.process.node, self.process.tick_seconds
        while honest is not None and honest.head.size != self.node.head.size:
            shorter = min(honest, self.node, key=lambda node: node.head.size)
            shorter.run(Tick())

    def accuse(self, judge: Process, client_id: str, evidence: bytes, algorithm: str) -> bool:
        """Submits the evidence to a counterparty, which must freeze; whether it did.

        A counterparty that does not know the set of those heads yet is shown them first, one
        history or the other, whichever it can follow.
        """
        assert judge.node is not None
        for chain in (LocalChain(self.node), self.process.chain):
            if chain is not None and not _is_frozen(judge, client_id):
                status = LocalChain(judge.node).client(client_id)
                try:
                    headers = chain.headers(
                        status.latest_height, chain.latest_height(), algorithm, status.witnesses
                    )
                    judge.node.deliver([Delivery(client_id, tuple(headers))])
                except LianqiaoError:
                    continue
        try:
            judge.node.submit_misbehaviour(client_id, evidence)
        except LianqiaoError as err:
            if err.reason is Reason.NOT_MISBEHAVIOUR:
                return False
            raise
        if not _is_frozen(judge, client_id):
            raise Broken("frozen", f"{judge.name}: {client_id} took evidence and is not frozen")
        return True

    def close(self) -> None:
        """Ends the twin."""
        self.twin.stop()


def _is_frozen(judge: Process, client_id: str) -> bool:
    assert judge.node is not None
    return LocalChain(judge.node).client(client_id).frozen


def twin_directory(directory: Path, name: str) -> Path:
    """Where the second history of a node lies."""
    path = directory / f"{name}-twin"
    path.mkdir()
    return path
