"""Rates: who publishes them, how old they may be, and how far one may lie from the last.

A rate policy is data with a version. A quote names the policy and the version it was made under,
which must be in force when it is accepted. What a source publishes is loaded day by day and held to
the collar too, so that a slip of the finger is refused before anyone quotes by it.

    rate-policy/<name>/<version, 8 digits>     RatePolicy
    rate/<source>/<bill>/<payable>/<day>       {loaded, policy, rate}: fixings
    factor/<source>/<bill>/<payable>/<month>   the same: factors of a month

| mode | a quote's rate must |
| --- | --- |
| firm | lie within the collar of the source's last rate, which is not too old |
| fixing | be the source's rate of the day it names, not too old |
| factor | be the source's factor of the month it names, not too old |
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base
from relay.contracts.base import key
from relay.contracts.civil import day, day_of
from relay.contracts.payloads import Mode, Quote, fields
from relay.contracts.payloads.instruction import currency, rate_day, ratio_json
from relay.contracts.payloads.instruction import rate as read_rate
from relay.contracts.policy.readers import text
from relay.errors import Invalid, NotFound, Reason, Refused
from relay.money import Rate, within_collar

MAX_COLLAR = 1_000_000
MAX_AGE_DAYS = 366
_POLICY = fields.names(
    "name version effective_from mode bill payable source collar max_age_days reference provenance"
)


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """One version of the rules for a pair."""

    name: str
    version: int
    effective_from: int
    mode: Mode
    bill: str
    payable: str
    source: str
    collar: int
    """Millionths; 10 000 is one per cent."""
    max_age_days: int
    """Days in Shanghai from the day, or the first of the month, that a rate is of."""
    reference: Rate
    """Stands for the last rate until the source has one."""


def read_policy(value: Json) -> RatePolicy:
    """Raises Malformed."""
    body = fields.members(value, _POLICY, "rate policy")
    text(body, "provenance", 2000)
    return RatePolicy(
        name=fields.name(body, "name"),
        version=fields.integer(body, "version", 1, 99_999_999),
        effective_from=fields.integer(body, "effective_from"),
        mode=fields.word(body, "mode", Mode),
        bill=currency(body, "bill"),
        payable=currency(body, "payable"),
        source=fields.identifier(body, "source"),
        collar=fields.integer(body, "collar", 0, MAX_COLLAR),
        max_age_days=fields.integer(body, "max_age_days", 0, MAX_AGE_DAYS),
        reference=read_rate(body, "reference"),
    )


def load_policy(body: bytes, state: State, now: int) -> bytes:
    """`rates.policy`: a RatePolicy. Versions ascend from 1 without a gap and so do their dates.

    Raises Malformed, Refused(CONFLICT), Refused(PATH_WRITTEN).
    """
    asked = base.read_call(body, " ".join(_POLICY))
    policy = read_policy(asked)
    held = state.last(key("rate-policy", policy.name, ""))
    before = None if held is None else read_policy(fields.document(held[1]))
    if before is None or policy.version > before.version:
        due = before.version + 1 if before else 1
        if policy.version != due or (before and policy.effective_from < before.effective_from):
            raise Refused(
                Reason.CONFLICT, f"the next version is {due}, in force no earlier than the last"
            )
    state.put(key("rate-policy", policy.name, f"{policy.version:08d}"), body)
    return body


def policy_at(state: base.Reader, name: str, now: int) -> RatePolicy:
    """The version in force. Raises NotFound(POLICY_NOT_FOUND)."""
    held = state.last(key("rate-policy", name, ""))
    found = None if held is None else read_policy(fields.document(held[1]))
    while found is not None and found.effective_from > now:
        older = state.get(key("rate-policy", name, f"{found.version - 1:08d}"))
        found = None if older is None else read_policy(fields.document(older))
    if found is None:
        raise NotFound(Reason.POLICY_NOT_FOUND, "no such rate policy is in force", policy=name)
    return found


def _first_day(mode: Mode, named: str) -> int:
    """The civil day that a rate is of; of a factor, the first of its month. Raises Malformed."""
    return day_of(f"{named}-01" if mode is Mode.FACTOR else named)


def load_rate(body: bytes, state: State, now: int) -> bytes:
    """`rates.load`: {day, policy, rate}: what the policy's source has published, day after day.

    Raises Malformed, NotFound(POLICY_NOT_FOUND), Refused(CONFLICT) for a day not after the last,
    Refused(RATE_COLLAR), Refused(RATE_STALE) for a day to come, Refused(PATH_WRITTEN).
    """
    asked = base.read_call(body, "day policy rate")
    policy = policy_at(state, fields.name(asked, "policy"), now)
    named, rate = rate_day(asked), read_rate(asked)
    if _first_day(policy.mode, named) > day(now):
        raise Refused(Reason.RATE_STALE, "that day has not come yet", day=named)
    name = rate_key(policy, named)
    last = _last_rate(state, policy)
    held = state.get(name)
    if held is not None and read_rate(fields.document(held)) == rate:
        return held
    if last is not None and named <= last[0]:
        raise Refused(Reason.CONFLICT, f"rates are loaded up to {last[0]}", day=named)
    check_collar(rate, policy.reference if last is None else last[1], policy)
    value: Json = {"loaded": now, "policy": policy.name, "rate": ratio_json(rate)}
    raw = encode(value)
    state.put(name, raw)
    return raw


def rate_key(policy: RatePolicy, named: str) -> bytes:
    """Where what the policy's source published for a day, or a month, is kept."""
    kind = "factor" if policy.mode is Mode.FACTOR else "rate"
    return key(kind, policy.source, policy.bill, policy.payable, named)


def _last_rate(state: base.Reader, policy: RatePolicy) -> tuple[str, Rate] | None:
    """(day, rate) of what the source published last."""
    found = state.last(rate_key(policy, ""))
    if found is None:
        return None
    return found[0].decode().rpartition("/")[2], read_rate(fields.document(found[1]))


def check_collar(rate: Rate, last: Rate, policy: RatePolicy) -> None:
    """Raises Refused(RATE_COLLAR)."""
    if not within_collar(rate, last, policy.collar):
        raise Refused(
            Reason.RATE_COLLAR,
            f"further than {policy.collar} millionths from the last rate",
            rate=f"{rate.numerator}/{rate.denominator}",
            last=f"{last.numerator}/{last.denominator}",
        )


def _check_age(policy: RatePolicy, named: str, now: int) -> None:
    first = day_of(f"{named}-01" if len(named) == 7 else named)
    if not 0 <= day(now) - first <= policy.max_age_days:
        raise Refused(
            Reason.RATE_STALE,
            f"the last rate is older than {policy.max_age_days} days, or of a day to come",
            hint=f"lianqiao settlement rates load {policy.name} --date DAY, with a younger one",
            day=named,
        )


def check_rate(state: State, quote: Quote, now: int) -> None:
    """Checks a quote against the policy in force.

    Raises NotFound (POLICY_NOT_FOUND, RATE_NOT_FOUND), Malformed for no such day, Invalid
    (UNSUPPORTED_VERSION, CURRENCY_MISMATCH, RATE_INVALID), Refused (RATE_STALE, RATE_COLLAR).
    """
    policy = policy_at(state, quote.policy, now)
    if quote.version != policy.version:
        raise Invalid(
            Reason.UNSUPPORTED_VERSION, f"version {policy.version} of that rate policy is in force"
        )
    if (quote.bill.currency, quote.payable.currency) != (policy.bill, policy.payable):
        raise Invalid(
            Reason.CURRENCY_MISMATCH, f"the policy is for {policy.bill} in {policy.payable}"
        )
    if (quote.mode, quote.source) != (policy.mode, policy.source):
        raise Invalid(Reason.RATE_INVALID, f"the policy is {policy.mode} by {policy.source}")
    if quote.mode is Mode.FIRM:
        last = _last_rate(state, policy)
        if last is not None:
            _check_age(policy, last[0], now)
        check_collar(quote.rate, policy.reference if last is None else last[1], policy)
        return
    _first_day(policy.mode, quote.day)
    published = state.get(rate_key(policy, quote.day))
    if published is None:
        raise NotFound(Reason.RATE_NOT_FOUND, "no rate of that day is loaded", day=quote.day)
    if read_rate(fields.document(published)) != quote.rate:
        raise Invalid(Reason.RATE_INVALID, "not the rate of that day", day=quote.day)
    _check_age(policy, quote.day, now)
