"""Inputs out of seeds. Everything is drawn from one random.Random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

MAX_BYTES = 64 * 1024
_EDGES = (0, 1, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64)
_TEXTS = ("", "0", "-1", "\x00", "é", "\ud800", "a" * 300, "99999999999999999999", "../x", "1e9")


def mutate(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One input: a seed changed once to a few times."""
    raw = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        raw = random.choice(_WAYS)(random, raw, random.choice(seeds))
    return raw[:MAX_BYTES]


def _bit(random: Random, raw: bytes, _: bytes) -> bytes:
    if not raw:
        return b"\x00"
    at = random.randrange(len(raw))
    return raw[:at] + bytes((raw[at] ^ 1 << random.randrange(8),)) + raw[at + 1 :]


def _byte(random: Random, raw: bytes, _: bytes) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] + bytes((random.choice((0, 1, 0x7F, 0x80, 0xFF, 10, 34)),)) + raw[at + 1 :]


def _insert(random: Random, raw: bytes, other: bytes) -> bytes:
    at, low = random.randrange(len(raw) + 1), random.randrange(len(other) + 1)
    return raw[:at] + other[low : low + random.randrange(1, 40)] + raw[at:]


def _remove(random: Random, raw: bytes, _: bytes) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] + raw[at + random.choice((1, 1, 2, 4, 8, 32)) :]


def _cut(random: Random, raw: bytes, _: bytes) -> bytes:
    return raw[: random.randrange(len(raw) + 1)]


def _append(random: Random, raw: bytes, other: bytes) -> bytes:
    return raw + random.choice((b"\x00", b"\n", b" ", other, raw))


def _splice(random: Random, raw: bytes, other: bytes) -> bytes:
    return raw[: random.randrange(len(raw) + 1)] + other[random.randrange(len(other) + 1) :]


def _number(random: Random, raw: bytes, _: bytes) -> bytes:
    """A length or a count says something else."""
    width = random.choice((1, 2, 4, 8))
    at = random.randrange(max(1, len(raw) - width + 1))
    value = random.choice(_EDGES) % (1 << 8 * width)
    return raw[:at] + value.to_bytes(width, "big") + raw[at + width :]


def _repeat(random: Random, raw: bytes, _: bytes) -> bytes:
    low = random.randrange(len(raw) + 1)
    piece = raw[low : low + random.randrange(1, 64)]
    return raw[:low] + piece * random.choice((2, 3, 100)) + raw[low:]


def _deep(random: Random, raw: bytes, _: bytes) -> bytes:
    """Nesting, in the text of whoever parses text."""
    at, depth = random.randrange(len(raw) + 1), random.choice((10, 100, 2000))
    return raw[:at] + random.choice((b"[", b'{"a":', b"\x0a\x7f")) * depth + raw[at:]


def _json(random: Random, raw: bytes, _: bytes) -> bytes:
    """A value somewhere in a document becomes another; the document stays canonical."""
    try:
        top = json.loads(raw)
    except (ValueError, RecursionError):
        return _bit(random, raw, raw)
    place, key = _somewhere(random, top)
    if place is None:
        return json.dumps(random.choice(_EDGES)).encode()
    kind = random.randrange(6)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place["extra"] = place[key]
    elif kind == 2 and isinstance(place, list):
        place.append(place[key])
    else:
        place[key] = random.choice((*_EDGES, *_TEXTS, None, True, [], {}, -1, 0.5))
    text = json.dumps(top, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _somewhere(random: Random, top: object) -> tuple[object, object]:
    """(container, key) of a value in a document."""
    place: object = None
    key: object = None
    now = top
    while isinstance(now, dict | list) and now and (place is None or random.random() < 0.7):
        place = now
        key = random.choice(sorted(now)) if isinstance(now, dict) else random.randrange(len(now))
        now = now[key]  # type: ignore[index]
    return place, key


_WAYS = (
    _bit, _bit, _byte, _insert, _remove, _cut, _append, _splice, _number, _repeat, _deep,
    _json, _json, _json,
)  # fmt: skip
