"""Asks one witness to co-sign this node's heads (relay.witness is the other side).

It runs beside the journal and holds nothing up: heads are committed and signed as ever, and the
witness follows. Of all heads that it has missed it is shown the newest, and before that one each
that announces another validator set, since neither a witness nor a client can pass over those.

What the witness answers is checked before it is kept: the line must be of the pinned key, over this
body, and not from the future, since a client would refuse a head that carries any other. Nothing
that a witness says can therefore make a head worse than it was without.

A witness that cannot be reached, or refuses, is asked again after a delay that doubles, up to
MAX_DELAY; why is shown in `status`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from relay.errors import Invalid, LianqiaoError, NotFound, Reason, Refused
from relay.evidence import Evidence
from relay.light.checkpoint import verify_cosignature
from relay.light.note import NoteSignature, cosignature_key_id, decode_line
from relay.light.types import DEFAULT_CLOCK_DRIFT, Witness
from relay.node import Node
from relay.store import CheckpointRow
from relay.store.cosignatures import Cosignature, last_cosigned
from relay.views import Cosigned, WitnessView

MAX_DELAY = 60
"""Seconds between two questions that were not answered, at most."""
MAX_DRIFT = DEFAULT_CLOCK_DRIFT // 2
"""Seconds that a witness's clock may be ahead of ours. A client judges a co-signature by the drift
that it pins for heads, by a clock of its own, and refuses the whole head for one beyond it."""
STEPS = 4
"""Questions about one head: the witness may know another size than we think, but not for ever."""
IDLE_SECONDS = 1.0
_log = structlog.get_logger("lianqiao.cosigning")


class Asked(Protocol):
    """What is asked of a witness: `relay.client.NodeClient`, or a Witness in this process."""

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, validators: bytes
    ) -> Cosigned:
        """See relay.witness.Witness.add_checkpoint."""
        ...


class Cosigning:
    """One witness of this node. `tick` by one thread at a time, `view` from any."""

    def __init__(self, node: Node, witness: Witness, address: str, asked: Asked) -> None:
        self._node = node
        self._witness = witness
        self._asked = asked
        self._evidence = Evidence(node.store, node.tiles)
        with node.store.read() as connection:
            self._last = last_cosigned(connection, witness)
        self._known = self._last
        """Where the witness wants a proof to start from, as far as we know."""
        self._address = address
        self._failures = 0
        self._not_before = 0
        self._failed = ("", "")

    def view(self) -> WitnessView:
        """How it stands."""
        return WitnessView(self._witness, self._address, self._last, *self._failed)

    def tick(self, now: int) -> bool:
        """Asks about what is not co-signed yet; whether anything was. Raises nothing typed."""
        head = self._node.head
        if head.size <= self._last or now < self._not_before:
            return False
        before = self._last
        try:
            for size in self._evidence.announcements(self._last, head.size):
                self._ask(size, now, must=False)
            self._ask(head.size, now, must=True)
        except LianqiaoError as error:
            self._not_before = now + min(MAX_DELAY, 1 << min(self._failures, 16))
            self._failures += 1
            if self._failed[0] != error.reason.value:
                _log.warning("witness", witness=self._witness.name, reason=error.reason.value)
            self._failed = error.reason.value, error.detail
        else:
            self._failures = self._not_before = 0
            self._failed = "", ""
        return self._last > before

    def run(self, stop: threading.Event, clock: Callable[[], int]) -> None:
        """Until `stop`; a head is asked about as soon as it is signed."""
        while not stop.is_set():
            try:
                self.tick(clock())
            except Exception as error:  # the thread must outlive what nobody foresaw
                _log.error("witness_fault", witness=self._witness.name, kind=type(error).__name__)
            if self._node.head.size > self._last:
                stop.wait(IDLE_SECONDS)
            else:
                self._node.wait(self._last, IDLE_SECONDS)

    def _ask(self, size: int, now: int, *, must: bool) -> None:
        """`must` is for the newest head; one that the witness has passed without co-signing it is
        left as it is."""
        row, validators = self._evidence.signed(size)
        for _ in range(STEPS):
            old = self._known
            proof = self._proof(old, size)
            answer = self._asked.add_checkpoint(old, proof, row.note.encode(), validators)
            if answer.lines:
                self._keep(row, answer.lines, now)
                return
            self._known = answer.size
            if answer.size > size:
                break
        if must:
            raise Refused(
                Reason.HEAD_CONFLICT,
                f"the witness {self._witness.name} knows size {self._known}, this node {size}",
                hint="this database may be an old copy, or another node signs by the same keys",
                known=self._known,
                size=size,
            )

    def _proof(self, old: int, size: int) -> list[bytes]:
        if not 0 < old < size:
            return []
        try:
            return self._evidence.consistency(old, size)
        except NotFound:
            return []  # no size of ours: the witness says which one it wants

    def _keep(self, row: CheckpointRow, lines: Sequence[bytes], now: int) -> None:
        for raw in lines:
            line = decode_line(raw.removesuffix(b"\n"))
            if self._is_pinned(line):
                time = verify_cosignature(self._witness, row.body, line.value)
                if time > now + MAX_DRIFT:
                    raise Invalid(
                        Reason.HEADER_FROM_FUTURE,
                        f"the witness {line.name} signs {time - now} s ahead of this node's clock",
                        hint="compare the clocks of both sides",
                    )
                self._node.add_cosignature(Cosignature(row.size, self._witness, line.value))
                self._last = self._known = row.size
                return
        raise Invalid(
            Reason.UNKNOWN_SIGNER,
            f"the witness at {self._address} signs by another key than is configured",
            hint=f"compare the key of {self._witness.name} with its operator",
        )

    def _is_pinned(self, line: NoteSignature) -> bool:
        witness = self._witness
        key_id = cosignature_key_id(witness.name, witness.algorithm, witness.key)
        return (line.name, line.key_id) == (witness.name, key_id)
