"""What an untrusted relayer forges, each with the reasons for which it must be refused.

Beside the stranger that changes what it has seen (stranger.py), this one knows the protocol and
reads every chain. What it submits is false in one place that one check is for, or true and out of
order. A chain that answers a forgery with anything but what is due is `deceived`, whether or not
another invariant shows what came of it.

    unsent      a packet that was never sent, proven by one that was
    rewritten   a packet that was sent, with another payload or timeout
    weak head   a true head with too few signatures, and what was sent under it
    made head   the true history and an entry more, with its proofs and no signatures, or others'
    mixed       the proof under one head, shown under another
    others      what was sent to somebody else, as it is or readdressed; another client's delivery
    answers     acknowledgements and sentinels: again, of another packet, of other content
    holes       the newest packets without those before them, and the statement of all
    statement   what was sent to somebody else, or less than was sent
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from relay.chain import ClientStatus, Delivery, DeliveryResult, Item, Outcome, PacketStep, Step
from relay.errors import LianqiaoError, Reason
from relay.light.sent import decode_sent, encode_sent
from relay.light.types import Claim
from relay.packet import commitment_path, packet_commitment
from relay.steps import item_of, proven_paths
from relay.store import Direction, PacketState
from tests.simulation.forged import extended, with_few_signatures
from tests.simulation.network import Door
from tests.simulation.options import Options
from tests.simulation.oracle import Broken, Observer

R = Reason
_Answers = frozenset[str]
_STOPPED: _Answers = frozenset({R.CLIENT_FROZEN, R.CLIENT_EXPIRED, R.RECOVERY_PENDING})
"""A client that judges nothing judges no forgery either."""
_KNOWN: _Answers = frozenset({Outcome.NOOP, R.TIMED_OUT, R.TIMEOUT_ELAPSED, R.RECEIVED})
"""What a chain says of a true packet before it looks at a proof."""
_FALSE: _Answers = frozenset({R.INVALID_PROOF})
_OTHER: _Answers = frozenset({R.INVALID_PROOF, R.COMMITMENT_MISMATCH}) | _KNOWN - {Outcome.NOOP}
"""Of a packet under a sequence that was used: it may have been received, and is another."""
_NO_SET: _Answers = frozenset({R.VALIDATOR_SET_MISMATCH, R.NOT_ENOUGH_TRUST})
"""The set that a forger shows was not announced yet to this client, or is not in force any more."""
_ANY: _Answers = frozenset({*Outcome, *Reason})
_FAR = 10**6
_UNBOUNDED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Forgery:
    """A delivery and what may be answered: of its headers, of each item, of its statement."""

    delivery: Delivery
    headers: _Answers = _ANY
    items: _Answers = _ANY
    sent: _Answers = _ANY


@dataclass(frozen=True, slots=True)
class Way:
    """From one chain to a client on another, as the forger finds it."""

    on: str
    of: str
    source: Door
    status: ClientStatus
    theirs: str
    """The client on the other side."""
    head: int
    """The newest of the source."""
    headers: tuple[bytes, ...]
    """What leads the client there; empty where it is there."""
    steps: Sequence[PacketStep]
    """The newest packets between the two, up to that head."""

    @property
    def sends(self) -> list[Item]:
        """What the source sent here."""
        return [item_of(step) for step in self.steps if step.step is Step.SEND]

    @property
    def answers(self) -> list[Item]:
        """What the source decided of packets sent from here."""
        return [item_of(step) for step in self.steps if step.step in (Step.RECEIVE, Step.EXPIRE)]

    def delivery(
        self, items: Sequence[Item], shown: Sequence[Item], sent: Sequence[Claim] = ()
    ) -> Delivery:
        """`items` under the newest head, with the proof of `sent` and of `shown`."""
        paths = [*(claim.path for claim in sent), *proven_paths(shown)]
        proof = self.source.prove(paths, self.head)
        given = (self.status.client_id, self.headers, self.head, proof)
        return Delivery(*given, tuple(items), tuple(sent))


class Forger:
    """See the module docstring."""

    def __init__(
        self,
        options: Options,
        doors: Mapping[str, Door],
        clients: Mapping[tuple[str, str], str],
        observers: Mapping[str, Observer],
        marks: Counter[str],
    ) -> None:
        self._options = options
        self._doors = doors
        self._clients = clients
        self._observers = observers
        self._random = Random(f"forger {options.seed}")
        self._marks = marks
        self._kinds: Mapping[str, Callable[[Way, int], Forgery | None]] = {
            "unsent": self._unsent,
            "rewritten": self._rewritten,
            "weak head": self._weak_head,
            "made head": self._made_head,
            "mixed": self._mixed,
            "others": self._others,
            "answers": self._answers,
            "holes": self._holes,
            "statement": self._statement,
        }

    def act(
        self,
        now: int,
        submit: Callable[[str, Delivery], Sequence[DeliveryResult]],
        is_split: Callable[[str, str], bool],
    ) -> None:
        """What it does in one tick. Raises Broken."""
        for (on, of), client_id in self._clients.items():
            if self._random.random() >= self._options.forge:
                continue
            kind, forgery = self._one(on, of, client_id, now)
            if forgery is None:
                continue
            self._marks[f"stranger: forge {kind}"] += 1
            for result in submit(on, forgery.delivery):
                split = is_split(on, client_id) or is_split(on, forgery.delivery.client_id)
                self._judge(on, kind, forgery, result, split=split)

    def _one(self, on: str, of: str, client_id: str, now: int) -> tuple[str, Forgery | None]:
        """A kind of forgery for which there is something to forge from."""
        kinds = list(self._kinds)
        self._random.shuffle(kinds)
        if self._random.random() < 0.5:  # seldom possible, and true: it is tried first
            kinds.insert(0, "holes")
        for kind in kinds:
            try:
                forgery = self._kinds[kind](self._way(on, of, client_id), now)
            except LianqiaoError:
                continue
            if forgery is not None:
                return kind, forgery
        return "", None

    def _judge(
        self, on: str, kind: str, forgery: Forgery, result: DeliveryResult, *, split: bool
    ) -> None:
        given = forgery.delivery
        answers = [(result.headers, forgery.headers)] if forgery.headers is not _ANY else []
        answers += [(answer, forgery.items) for answer in result.items]
        answers += [(result.sent, forgery.sent)] if given.sent else []
        beside = set(_STOPPED)
        if self._options.drift_seconds:
            beside.add(R.HEADER_FROM_FUTURE)
        if result.headers.outcome is Outcome.REFUSED:  # so nothing is proven under them either
            beside.add(R.HEIGHT_NOT_TRUSTED)
        for answer, due in answers:
            got = answer.reason or answer.outcome.value
            self._marks[f"forged {kind}: {got}"] += 1
            if got not in due | beside and not split:
                raise Broken("deceived", f"{on} answers {got} to {kind}: {answer.detail}")

    def _way(self, on: str, of: str, client_id: str) -> Way:
        source, theirs = self._doors[of], self._clients[of, on]
        status, head = self._doors[on].client(client_id), source.latest_height()
        low = status.latest_height
        headers: tuple[bytes, ...] = ()
        if head > low:
            headers = tuple(source.headers(low, head, status.algorithm, status.witnesses))
        steps = self._steps(source, theirs, head)
        return Way(on, of, source, status, theirs, head, headers, steps)

    def _steps(self, source: Door, client_id: str, head: int) -> list[PacketStep]:
        steps = source.packets(client_id, max(0, head - 60), 60)
        return [step for step in steps if step.height <= head]

    def _fresh(self, way: Way) -> list[Item]:
        """Packets that the destination has neither received nor expired yet, as far as is known."""
        here = self._observers[way.on].values
        ends = way.status.client_id.encode() + b"\x02"
        return [i for i in way.sends if ends + i.packet.sequence.to_bytes(8, "big") not in here]

    def _open(self, way: Way) -> list[Item]:
        """Answers to packets whose sender has not closed them yet, as far as is known."""
        packets = self._observers[way.on].fold.packets
        return [
            item
            for item in way.answers
            if (found := packets.get((way.status.client_id, Direction.OUT, item.packet.sequence)))
            and found.state is PacketState.SENT
        ]

    # --- packets

    def _unsent(self, way: Way, now: int) -> Forgery | None:
        if not way.sends:
            return None
        true = self._random.choice(way.sends)
        late = self._random.random() < 0.5
        packet = replace(
            true.packet,
            sequence=true.packet.sequence + _FAR,
            timeout_timestamp=now + (-100 if late else 600),
        )
        item = Item(Step.EXPIRE if late else Step.RECEIVE, packet)
        return Forgery(way.delivery([item], [true]), items=_FALSE)

    def _rewritten(self, way: Way, now: int) -> Forgery | None:
        if not way.sends:
            return None
        true = self._random.choice(self._fresh(way) or way.sends)
        packet, payload = true.packet, true.packet.payloads[0]
        if self._random.random() < 0.5:
            payload = replace(payload, value=payload.value + b"0")
            packet = replace(packet, payloads=(payload,))
        else:
            packet = replace(packet, timeout_timestamp=packet.timeout_timestamp + 60)
        return Forgery(way.delivery([replace(true, packet=packet)], [true]), items=_OTHER)

    def _others(self, way: Way, now: int) -> Forgery | None:
        """What the source sent to somebody else: as it is, readdressed, or as another chain's."""
        elsewhere = [(on, c) for (of, on), c in self._clients.items() if of == way.of]
        elsewhere = [(on, c) for on, c in elsewhere if on != way.on]
        if not elsewhere:
            return None
        _, client = self._random.choice(elsewhere)
        steps = self._steps(way.source, client, way.head)
        sends = [item_of(step) for step in steps if step.step is Step.SEND]
        if not sends:
            return None
        true = self._random.choice(sends)
        kind = self._random.randrange(3)
        if kind == 0:  # as it is, or with the name of the client here
            packet = replace(true.packet, destination_client=way.status.client_id)
            given = true if self._random.random() < 0.5 else replace(true, packet=packet)
            return Forgery(
                way.delivery([given], [true]), items=frozenset({R.COUNTERPARTY_MISMATCH})
            )
        packet = replace(
            true.packet, source_client=way.theirs, destination_client=way.status.client_id
        )
        if kind == 1:
            return Forgery(way.delivery([replace(true, packet=packet)], [true]), items=_OTHER)
        return self._of_another_chain(way, true)

    def _of_another_chain(self, way: Way, true: Item) -> Forgery | None:
        """The head of one chain for the client of another."""
        wrong = [c for (on, of), c in self._clients.items() if on == way.on and of != way.of]
        if not wrong:
            return None
        headers = way.source.headers(0, way.head, self._options.algorithm)
        given = replace(way.delivery([true], [true]), client_id=self._random.choice(wrong))
        return Forgery(
            replace(given, headers=tuple(headers)),
            headers=frozenset({R.CHAIN_ID_MISMATCH}),
            items=_OTHER | {R.COUNTERPARTY_MISMATCH, R.HEIGHT_NOT_TRUSTED},
        )

    # --- heads and proofs

    def _weak_head(self, way: Way, now: int) -> Forgery | None:
        if not way.headers:
            return None
        count = self._random.randrange(3)
        weak = with_few_signatures(way.headers[-1], count)
        items = (self._fresh(way) or way.sends)[-1:]
        given = way.delivery(items, items) if items else Delivery(way.status.client_id)
        return Forgery(
            replace(given, headers=(*way.headers[:-1], weak)),
            headers=frozenset({R.QUORUM_NOT_REACHED if count else R.MALFORMED}),
            items=_KNOWN | {R.HEIGHT_NOT_TRUSTED},
        )

    def _made_head(self, way: Way, now: int) -> Forgery | None:
        trusted, entries = way.status.latest_height, list(self._observers[way.of].values.items())
        if not way.sends or len(entries) < trusted:
            return None
        true = self._random.choice(way.sends).packet
        packet = replace(true, sequence=true.sequence + _FAR, timeout_timestamp=now + 600)
        claim = Claim(
            commitment_path(packet.source_client, packet.sequence), packet_commitment(packet)
        )
        raw = way.source.headers(0, trusted, self._options.algorithm)[-1]
        forged = extended(entries, raw, trusted, claim, now, self._random)
        items = (Item(Step.RECEIVE, packet),)
        return Forgery(
            Delivery(way.status.client_id, (forged.raw,), forged.height, forged.proof, items),
            headers=_NO_SET | {R.INVALID_SIGNATURE, R.UNKNOWN_SIGNER, R.MALFORMED},
            items=frozenset({R.HEIGHT_NOT_TRUSTED}),
        )

    def _mixed(self, way: Way, now: int) -> Forgery | None:
        """The proof under the newest head, shown under one that was trusted before, or the other
        way round."""
        lineages = self._observers[way.on].fold.consensus
        heights = [h for client, h in lineages if client == way.status.client_id and h < way.head]
        items = self._fresh(way) or way.sends
        if not heights or not items:
            return None
        item, before = self._random.choice(items), self._random.choice(heights)
        given = way.delivery([item], [item])
        if self._random.random() < 0.5:
            given = replace(given, height=before)
        else:
            given = replace(given, proof=way.source.prove(proven_paths([item]), before))
        return Forgery(given, items=_KNOWN | _FALSE | {R.HEIGHT_NOT_TRUSTED})

    # --- acknowledgements and timeouts

    def _answers(self, way: Way, now: int) -> Forgery | None:
        if not way.answers:
            return None
        true = self._random.choice(way.answers)
        other = self._random.choice(self._open(way) or way.answers)
        kind = self._random.randrange(4)
        if kind == 0:  # again, or for the first time, or before a younger head shows its time
            due = frozenset({Outcome.DONE, Outcome.NOOP, R.TIMEOUT_NOT_REACHED})
            return Forgery(way.delivery([true], [true]), items=due)
        if kind == 1:  # of one packet for another
            false = replace(true, packet=other.packet)
            right = true.packet == other.packet
        elif kind == 2:  # of other content
            true = other
            false = replace(true, step=Step.ACKNOWLEDGE, acknowledgements=(b"forged",))
            right = False
        else:  # a timeout of what was received, an acknowledgement of what was not
            true = other
            turned = {Step.ACKNOWLEDGE: Step.TIMEOUT, Step.TIMEOUT: Step.ACKNOWLEDGE}
            false = replace(true, step=turned[true.step], acknowledgements=(b"turned",))
            right = False
        if right:
            return None
        return Forgery(way.delivery([false], [true]), items=_FALSE | {Outcome.NOOP})

    # --- order, and what was sent

    def _holes(self, way: Way, now: int) -> Forgery | None:
        """True all of it, so anything may be answered; `complete` judges what is said then."""
        new = self._fresh(way)
        if len(new) < 2:
            return None
        items = new[-1 : -1 - self._random.randint(1, len(new) - 1) : -1]
        sent = tuple(way.source.sent(way.theirs, way.head, _UNBOUNDED))
        return Forgery(way.delivery(items, items, sent))

    def _statement(self, way: Way, now: int) -> Forgery | None:
        mine = tuple(way.source.sent(way.theirs, way.head, _UNBOUNDED))
        others = [c for (of, on), c in self._clients.items() if of == way.of and on != way.on]
        if others and self._random.random() < 0.5:
            client = self._random.choice(others)
            claims = tuple(way.source.sent(client, way.head, _UNBOUNDED))
            due: Collection[str] = {R.COUNTERPARTY_MISMATCH}
        elif mine:
            claims, due = (self._less(mine[0]),), {R.INVALID_PROOF, Outcome.NOOP}
        else:
            return None
        return Forgery(way.delivery((), (), claims), sent=frozenset(due)) if claims else None

    def _less(self, claim: Claim) -> Claim:
        """The statement that what is open was never sent."""
        sent, opened = decode_sent(claim.value or b"")
        if opened < sent.next_sequence:
            value = encode_sent(sent.time, opened, opened)
        else:
            value = encode_sent(max(0, sent.time - 1), sent.next_sequence, opened)
        return replace(claim, value=value)
