"""Cheats and faults: each is tried on the running network, and what came of it is compared.

Cheats are instructions handed to the relay and packets delivered to nodes, as anyone who reaches
them could: nothing is put to a contract directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay.canonical import decode
from relay.chain import Delivery, Item, Step
from relay.contracts.payloads import (
    DecisionNotice,
    LockAnswer,
    Money,
    Ruling,
    SignedInstruction,
)
from relay.demo.clearing.evm import cheats_on_chain, on_chain, stood_still
from relay.demo.clearing.story import HK, HUB, ROLES, SZ, Cast, Tell, closed
from relay.demo.clearing.texts import Say
from relay.demo.evm import CHAIN
from relay.errors import LianqiaoError, NotFound, Reason, Refused, Unavailable
from relay.money import Rate
from relay.money_views import Shown
from relay.packet import Packet, acknowledgement_path, commitment_path
from relay.views import Direction

SHORT_SECONDS = 6
"""A quote that a fault lets expire."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One thing that was tried."""

    what: str
    answered: str
    expected: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it was answered as it must be."""
        return self.answered == self.expected


def cheats(cast: Cast, good: Shown, say: Say, tell: Tell) -> list[Tried]:
    """Instructions that must be refused, and forged proofs; nothing may move."""
    plans: list[tuple[str, str, Callable[[], str]]] = [
        ("expired", "QUOTE_EXPIRED", lambda: _refused(cast, _expired(cast))),
        ("twice", "QUOTE_USED", lambda: _refused(cast, _again(cast, good))),
        ("altered", "INVALID_SIGNATURE", lambda: _refused(cast, _altered(cast))),
        ("fee", "INVALID_SIGNATURE", lambda: _refused(cast, _dearer_fee(cast))),
        ("rounding", "RATE_INVALID", lambda: _refused(cast, _rounded_down(cast))),
        ("collar", "RATE_COLLAR", lambda: _refused(cast, _far(cast))),
        ("forged", "INVALID_PROOF", lambda: _forged_lock(cast, good)),
        ("decision", "INVALID_PROOF", lambda: _forged_decision(cast, good)),
        ("again", "noop", lambda: _released_again(cast, good)),
        *cheats_on_chain(cast, good),
    ]
    found = []
    for number, (key, expected, run) in enumerate(plans, 1):
        began = time.monotonic()
        try:
            answered = run()
        except LianqiaoError as error:
            answered = str(error.reason)
        found.append(Tried(say(key), answered, expected, time.monotonic() - began))
        tell("attack", number, len(plans))
    return found


def _refused(cast: Cast, signed: SignedInstruction) -> str:
    """The reason that the relay gives. What it accepts is told as it stands."""
    return f"accepted: {cast.stage.node(HUB).instruct(signed).view.status}"


def _expired(cast: Cast) -> SignedInstruction:
    return cast.sign(cast.instruction(cast.quote(10_000, seconds=-5)))


def _again(cast: Cast, good: Shown) -> SignedInstruction:
    return cast.sign(cast.instruction(good.view.signed.instruction.quote))


def _altered(cast: Cast) -> SignedInstruction:
    """Signed for 100 yuan, handed over for 900: amounts, rate and residue all tie."""
    small = cast.sign(cast.instruction(cast.quote(10_000)))
    first, dear = small.instruction, cast.quote(90_000)
    dear = replace(dear, id=first.quote.id, expires=first.quote.expires)
    legs = tuple(
        replace(leg, amount=dear.payable.amount if leg.ledger == HK else dear.bill.amount)
        for leg in first.legs
    )
    return replace(small, instruction=replace(first, quote=dear, legs=legs))


def _dearer_fee(cast: Cast) -> SignedInstruction:
    """Ten times the fee that was signed for."""
    signed = cast.sign(cast.instruction(cast.quote(10_000)))
    pay, due = signed.instruction.legs
    assert pay.fee is not None
    greedy = replace(pay, fee=replace(pay.fee, amount=pay.fee.amount * 10))
    return replace(signed, instruction=replace(signed.instruction, legs=(greedy, due)))


def _rounded_down(cast: Cast) -> SignedInstruction:
    quote = cast.quote(10_000)
    less = Money("HKD", quote.payable.amount - 1)
    made = cast.instruction(replace(quote, payable=less))
    return cast.sign(made)


def _far(cast: Cast) -> SignedInstruction:
    rate = cast.fixing.rate
    far = Rate(rate.numerator * 2, rate.denominator) if rate.denominator % 2 else Rate(3, 1)
    return cast.sign(cast.instruction(cast.quote(10_000, rate=far)))


def _forged_lock(cast: Cast, good: Shown) -> str:
    """sz-money is away; someone tells the relay that it has locked, with another lock's proof."""
    stage, (packet,) = cast.stage, [p for p in good.packets if p.ledger == SZ]
    old = stage.node(HUB).packet(packet.client_id, packet.sequence, Direction.OUT).packet
    height = stage.node(HUB).client(packet.client_id).latest.height
    proof = stage.node(SZ).prove(
        [acknowledgement_path(old.destination_client, old.sequence)], height
    )
    stage.kill(SZ)
    try:
        begun = cast.begin()
        (asked,) = [p for p in begun.packets if p.ledger == SZ]
        fresh = stage.node(HUB).packet(asked.client_id, asked.sequence, Direction.OUT).packet
        lie = LockAnswer(SZ, begun.settlement, None, int(time.time())).encode()
        item = Item(Step.ACKNOWLEDGE, fresh, (lie,))
        (result,) = stage.node(HUB).deliver([Delivery(asked.client_id, (), height, proof, (item,))])
        answered = result.items[0].reason or result.items[0].outcome.value
    finally:
        stage.restart(SZ)
    cast.wait(begun.settlement, closed)
    return answered


def _decision_packet(cast: Cast, good: Shown) -> Packet:
    """The packet that told sz-money the decision on a settlement."""
    client_id = next(p.client_id for p in good.packets if p.ledger == SZ)
    for view in cast.stage.node(HUB).packets(client_id=client_id):
        body = decode(view.packet.payloads[0].value)
        if isinstance(body, dict) and body.get("type") == "decision_notice":
            notice = DecisionNotice.from_json(body)
            if notice.decision.settlement == good.settlement:
                return view.packet
    raise NotFound(Reason.PACKET_NOT_FOUND, "no decision was sent to sz-money")


def _deliver_to_sz(cast: Cast, genuine: Packet, item: Item) -> str:
    """Delivers to sz-money, with the genuine proof of a packet that the relay did send."""
    ledger, client_id = cast.stage.node(SZ), genuine.destination_client
    height = ledger.client(client_id).latest.height
    path = commitment_path(genuine.source_client, genuine.sequence)
    proof = cast.stage.node(HUB).prove([path], height)
    (result,) = ledger.deliver([Delivery(client_id, (), height, proof, (item,))])
    return result.items[0].reason or result.items[0].outcome.value


def _forged_decision(cast: Cast, good: Shown) -> str:
    """sz-money is told that what it released was aborted, by a packet the relay never sent."""
    genuine = _decision_packet(cast, good)
    notice = DecisionNotice.decode(genuine.payloads[0].value)
    turned = replace(notice, decision=replace(notice.decision, ruling=Ruling.ABORT))
    payload = replace(genuine.payloads[0], value=turned.encode())
    forged = replace(genuine, sequence=genuine.sequence + 1_000_000, payloads=(payload,))
    return _deliver_to_sz(cast, genuine, Item(Step.RECEIVE, forged))


def _released_again(cast: Cast, good: Shown) -> str:
    """The decision that released the money is delivered once more; nothing may move."""
    genuine, ledger = _decision_packet(cast, good), cast.stage.node(SZ)
    before = list(ledger.accounts())
    answered = _deliver_to_sz(cast, genuine, Item(Step.RECEIVE, genuine))
    return answered if list(ledger.accounts()) == before else "money moved"


def faults(cast: Cast, say: Say, tell: Tell) -> list[Tried]:
    """One node killed (-9) at each step of a settlement; each settlement must still end.

    Of a replicated relay that is the replica whose lanes run, with its CometBFT, and another one.
    An EVM chain is not killed, since what it is practised on keeps nothing: it answers nothing.
    """
    chain = on_chain(cast.stage)
    nodes = [*ROLES, *cast.stage.others[:1], *([CHAIN] if chain is not None else [])]
    plans = [(node, step) for node in nodes for step in ("before", "locked", "decided")]
    found = []
    for number, (node, step) in enumerate(plans, 1):
        began = time.monotonic()
        if chain is not None and node == CHAIN:
            what, answered = say("still", step=say(step)), stood_still(cast, chain, step)
        else:
            what, answered = say("down", node=node, step=say(step)), _killed(cast, node, step)
        found.append(Tried(what, answered, "SETTLED", time.monotonic() - began))
        tell("fault", number, len(plans) + 1)
    began = time.monotonic()
    found.append(Tried(say("late"), _late(cast), "RETURNED TIMED_OUT", time.monotonic() - began))
    tell("fault", len(plans) + 1, len(plans) + 1)
    return found


def _killed(cast: Cast, node: str, step: str) -> str:
    """Kills one node when a settlement is at a step, or just past it, and starts it again."""
    stage = cast.stage
    if step == "before" and node != HUB:
        stage.kill(node)
    begun = cast.begin()
    if step == "locked":
        cast.wait(begun.settlement, lambda s: bool(s.view.answers))
    if step == "decided":
        cast.wait(begun.settlement, lambda s: s.view.decision is not None)
    if step != "before" or node == HUB:
        stage.kill(node)
    time.sleep(0.5)
    stage.restart(node)
    return cast.wait(begun.settlement, closed).view.status.value


def _late(cast: Cast) -> str:
    """A ledger that was away until the quote had expired: both sides have their money back."""
    cast.stage.kill(SZ)
    begun = None
    for seconds in (SHORT_SECONDS, 5 * SHORT_SECONDS, 25 * SHORT_SECONDS):
        try:
            begun = cast.begin(seconds=seconds)
            break
        except Refused as error:
            # A slow machine may need longer than the quote lasts to hand the instruction over.
            if error.reason is not Reason.QUOTE_EXPIRED:
                raise
    if begun is None:
        raise Unavailable(Reason.CHAIN_UNREACHABLE, "the relay is too slow for a short quote")
    expires = begun.view.signed.instruction.quote.expires
    while time.time() <= expires + 1:
        time.sleep(0.1)
    cast.stage.restart(SZ)
    shown = cast.wait(begun.settlement, closed)
    reason = shown.view.decision.reason if shown.view.decision else None
    return f"{shown.view.status.value} {reason}"
