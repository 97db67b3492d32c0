"""Cheats and faults: each is tried on the running network, and what came of it is compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay.chain import Delivery, Item, Step
from relay.contracts.payloads import LockAnswer, Money, SignedInstruction
from relay.demo.clearing.story import HK, HUB, ROLES, SZ, Cast, Tell, closed
from relay.demo.clearing.texts import Say
from relay.errors import LianqiaoError
from relay.money import Rate
from relay.money_views import Shown
from relay.packet import acknowledgement_path
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
    """Instructions that must be refused, and a forged proof; nothing may move."""
    plans: list[tuple[str, str, Callable[[], str]]] = [
        ("expired", "QUOTE_EXPIRED", lambda: _refused(cast, _expired(cast))),
        ("twice", "QUOTE_USED", lambda: _refused(cast, _again(cast, good))),
        ("altered", "INVALID_SIGNATURE", lambda: _refused(cast, _altered(cast))),
        ("fee", "INVALID_SIGNATURE", lambda: _refused(cast, _dearer_fee(cast))),
        ("rounding", "RATE_INVALID", lambda: _refused(cast, _rounded_down(cast))),
        ("collar", "RATE_COLLAR", lambda: _refused(cast, _far(cast))),
        ("forged", "INVALID_PROOF", lambda: _forged_lock(cast, good)),
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


def faults(cast: Cast, say: Say, tell: Tell) -> list[Tried]:
    """One node killed (-9) at each step of a settlement; each settlement must still end."""
    plans = [(node, step) for node in ROLES for step in ("before", "locked", "decided")]
    found = []
    for number, (node, step) in enumerate(plans, 1):
        began = time.monotonic()
        answered = _killed(cast, node, step)
        what = say("down", node=node, step=say(step))
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
    begun = cast.begin(seconds=SHORT_SECONDS)
    time.sleep(SHORT_SECONDS + 1)
    cast.stage.restart(SZ)
    shown = cast.wait(begun.settlement, closed)
    reason = shown.view.decision.reason if shown.view.decision else None
    return f"{shown.view.status.value} {reason}"
