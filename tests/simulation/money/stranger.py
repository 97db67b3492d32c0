"""What an untrusted relayer changes in what passes it about money: amounts, decisions, entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from relay.chain import Item, Step
from relay.light.types import Claim
from tests.simulation.money.records import PORTS


def is_money(item: Item) -> bool:
    """Whether a packet is one of settlement's."""
    return item.packet.payloads[0].source_port in PORTS


def changed(item: Item, random: Random) -> Item:
    """The packet with one thing in it that its sender has not written."""
    packet, payload = item.packet, item.packet.payloads[0]
    kind = random.randrange(5)
    if kind == 0 and item.entries:
        return replace(item, entries=())
    if kind == 1 and item.entries:
        first, *rest = item.entries
        value = _other_way(first.value or b"")
        return replace(item, entries=(Claim(first.path, value), *rest))
    if kind == 2:
        return _with_value(item, _other_way(payload.value))
    if kind == 3 and item.acknowledgements:
        return replace(item, acknowledgements=tuple(map(_other_way, item.acknowledgements)))
    if kind == 4 and item.entries:
        value = _other_way(payload.value)
        entries = tuple(Claim(e.path, _other_way(e.value or b"")) for e in item.entries)
        return replace(_with_value(item, value), entries=entries)
    later = packet.timeout_timestamp + random.choice((-100, 3600))
    return replace(item, packet=replace(packet, timeout_timestamp=later))


UNSENT, OLD_LOCK, OTHERS, ALTERED = "unsent", "old lock", "another's decision", "outcome"
FORGERIES = (UNSENT, OLD_LOCK, OTHERS, ALTERED)


def forged(item: Item, others: Sequence[Item], random: Random) -> tuple[str, Item]:
    """(what was done, a packet that the relay has not sent in the place of one that it has):

    unsent               the same lock or decision under a sequence that was never received
    old lock             a lock from before, asked for again under such a sequence
    another's decision   the decision on another settlement, its record beside it
    outcome              the very decision with the other outcome, its record altered alike
    """
    locks = [one for one in others if b'"type":"lock"' in one.packet.payloads[0].value]
    decided = [one for one in others if b'"decision_notice"' in one.packet.payloads[0].value]
    kinds = [UNSENT, *([OLD_LOCK] * bool(locks)), *([OTHERS, ALTERED] * bool(decided))]
    kind = random.choice(kinds)
    if kind == UNSENT:
        return kind, _received_never(item, random)
    if kind == OLD_LOCK:
        old = random.choice(locks).packet.payloads[0].value
        return kind, _received_never(replace(_with_value(item, old), entries=()), random)
    other = random.choice(decided)
    value, entries = other.packet.payloads[0].value, other.entries
    if kind == ALTERED:
        value = _other_way(value)
        entries = tuple(Claim(e.path, _other_way(e.value or b"")) for e in entries)
    made = replace(_with_value(item, value), entries=entries)
    return kind, random.choice((made, _received_never(made, random)))


def _received_never(item: Item, random: Random) -> Item:
    packet = item.packet
    later = replace(
        packet,
        sequence=packet.sequence + random.choice((1, 2, 3, 50)),
        timeout_timestamp=packet.timeout_timestamp + random.choice((0, 600)),
    )
    return replace(item, packet=later, step=Step.RECEIVE)


def _with_value(item: Item, value: bytes) -> Item:
    payload = replace(item.packet.payloads[0], value=value)
    return replace(item, packet=replace(item.packet, payloads=(payload,)))


def _other_way(raw: bytes) -> bytes:
    """Commit for abort, accepted for refused, and one minor unit more."""
    for old, new in (
        (b'"ruling":"commit"', b'"ruling":"abort"'),
        (b'"ruling":"abort"', b'"ruling":"commit"'),
        (b'"accepted":true', b'"accepted":false'),
        (b'"accepted":false', b'"accepted":true'),
        (b'"ended":"released"', b'"ended":"refunded"'),
        (b'"amount":', b'"amount":1'),
    ):
        if old in raw:
            return raw.replace(old, new, 1)
    return raw + b" "
