"""Readers that policy documents share: dates, dated keys, coded names, arrays without repeats.

All raise Malformed with the field's name; a key of small order is Invalid(WEAK_KEY).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable

from relay.canonical import Json
from relay.contracts.civil import day_of
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import Object, refuse
from relay.contracts.policy.values import DatedKey, Licence
from relay.light.keys import check_public_key

MAX_KEYS = 16

_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufdd0-\ufdef\ufeff"
    r"\ufff9-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
"""What no text may hold: controls, what turns or hides what stands beside it, blanks but the plain
one, and what Unicode leaves to private use. The ranges stand here, since what a Python takes for
printable grows with its Unicode: replicas would judge a rare character of a name differently."""


def text(value: Object, field: str, limit: int) -> str:
    """Reads 1 to `limit` printable characters, the blank among them."""
    found = value[field]
    if type(found) is not str or not 1 <= len(found) <= limit or _UNSEEN.search(found):
        refuse(field, f"must be 1-{limit} printable characters")
    return found


def coded(value: Object, field: str) -> str:
    """Reads `system|code`."""
    text = value[field]
    if type(text) is not str:
        refuse(field, "must be system|code")
    system, _, code = text.partition("|")
    fields.system({field: system}, field)
    fields.code({field: code}, field)
    return text


def many(value: Object, field: str, read: Callable[[Object, str], str]) -> tuple[str, ...]:
    """Reads an array of different scalars, in any order."""
    found = fields.sequence(value, field, lambda element: read({field: element}, field))
    once(found, field)
    return found


def once(found: Iterable[Hashable], field: str) -> None:
    """Checks that nothing stands twice."""
    names = list(found)
    if len(set(names)) != len(names):
        refuse(field, "names something twice")


def period(value: Object) -> Licence:
    """Reads `first` and `last`, dates that both belong to the period."""
    first, last = (day_of(text(value, field, 10)) for field in ("first", "last"))
    if first > last:
        refuse("last", "must not lie before first")
    return Licence(first, last)


def _key(value: Json) -> DatedKey:
    body = fields.members(value, ("algorithm", "key", "start", "end"), "key")
    key = fields.octets(body, "key", 1, fields.MAX_KEY_BYTES)
    algorithm = fields.name(body, "algorithm")
    check_public_key(algorithm, key)
    start, end = fields.integer(body, "start"), fields.integer(body, "end")
    if not start < end:
        refuse("end", "must lie after start")
    return DatedKey(algorithm, key, start, end)


def read_keys(value: Object) -> tuple[DatedKey, ...]:
    """Reads `keys`: up to 16 dated public keys. Raises Malformed, or Invalid(WEAK_KEY)."""
    return fields.sequence(value, "keys", _key, MAX_KEYS)
