"""What an untrusted relayer changes in what passes it about money: amounts, decisions, entries."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from relay.chain import Item
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
