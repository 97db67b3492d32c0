"""Which headers lead a client from a trusted height to another: skipping, and bisection.

A header verifies right after a trusted one where the same set signed it that the trusted header
announced, or where more than the trust level of that set signed it (`relay.light.client`). Where
neither holds, one in between is taken first. Nothing is verified here: the receiver does that, and
what is planned wrongly is refused by him.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from relay.errors import Invalid, Malformed, Reason
from relay.light.quorum import is_reached, overlap
from relay.light.types import ClientType, Header, Threshold, ValidatorSet

MAX_HEADERS = 256
"""Headers that one plan may hold; it asks for 64 more at most, one for each halving."""

FetchHeader = Callable[[int], Header]
FetchSet = Callable[[int], ValidatorSet]


def plan(
    client_type: ClientType,
    trusted: Header,
    height: int,
    fetch: FetchHeader,
    fetch_set: FetchSet,
    algorithm: str,
    trust_level: Threshold,
) -> list[Header]:
    """The headers to present, ascending, the last of them that of `height`.

    `fetch(h)` gives the header of height h and `fetch_set(h)` the set that signs it; both are
    untrusted. A header that skips a change of the set carries the trusted set. Raises what they
    raise, Invalid(VALIDATOR_SET_MISMATCH) where the chain contradicts itself, and
    Malformed(LIMIT_EXCEEDED).
    """
    chosen: list[Header] = []
    waiting = [height]
    fetched: dict[int, Header] = {}
    while waiting:
        target = waiting[-1]
        if target not in fetched:
            fetched[target] = fetch(target)
        shown = _following(client_type, trusted, fetched[target], fetch_set, algorithm, trust_level)
        if shown is None:
            waiting.append((trusted.height + target) // 2)
            continue
        if len(chosen) >= MAX_HEADERS:
            raise _too_many()
        chosen.append(shown)
        waiting.pop()
        trusted = shown
    return chosen


def _following(
    client_type: ClientType,
    trusted: Header,
    header: Header,
    fetch_set: FetchSet,
    algorithm: str,
    trust_level: Threshold,
) -> Header | None:
    """The header as it verifies right after `trusted`; None where one in between is needed."""
    if header.set_hash == trusted.next_set_hash:
        return header
    if header.height <= trusted.height + 1:
        raise _contradicts(header.height)
    announced = trusted.validators
    if trusted.next_set_hash != trusted.set_hash:
        announced = fetch_set(trusted.height + 1)
    if client_type.hash_validators(announced) != trusted.next_set_hash:
        raise _contradicts(trusted.height + 1)
    if not is_reached(trust_level, announced, overlap(algorithm, announced, header)):
        return None
    return replace(header, trusted_validators=announced)


def _contradicts(height: int) -> Invalid:
    return Invalid(
        Reason.VALIDATOR_SET_MISMATCH,
        f"the set of height {height} is not the one that was announced",
        height=height,
    )


def _too_many() -> Malformed:
    return Malformed(f"the way takes more than {MAX_HEADERS} headers", reason=Reason.LIMIT_EXCEEDED)
