"""Telling relays the terms of accounts: every relay that settles here hears of every version.

A relay is told when it is named with an account; from then on it hears of every change, named or
not, and so does every relay that ever locked here. One that locks for the first time through an
account whose terms have changed since it was opened hears of them then: it may know the first
alone. What cannot be sent is held and sent again (relay.contracts.undelivered). One that is
connected later is told by `account.announce`.

    told/<relay>                                                     {}
    terms-sent/<relay>/<account>                                     {}: it was told of some version
    terms-answer/<relay>/<account>/<version, 8 digits>/<n, 8 digits>  {accepted, reason, time}
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base, undelivered
from relay.contracts.accounts import Terms, terms_of
from relay.contracts.base import Reader, key
from relay.contracts.escrow import calls
from relay.contracts.escrow.keys import find_held
from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT, fields
from relay.contracts.terms_notice import TermsAnswer, TermsNotice
from relay.errors import LianqiaoError
from relay.packet import Packet

MAX_RELAYS = 16
"""Named in one call."""
MAX_TOLD = 1000
MAX_ACCOUNTS = 1000
"""Announced in one call."""
_TOLD = b"{}"


def open_account(body: bytes, state: State, now: int) -> bytes:
    """`account.open`, which tells `relays`, those named, and every relay that ever was told.

    Raises NotFound(CLIENT_NOT_FOUND) for one that is not connected, and as calls.open_account.
    """
    asked, relays = fields.document(body), tuple[str, ...]()
    if "relays" in asked:
        relays = fields.ascending(asked, "relays", fields.identifier, MAX_RELAYS)
    before = state.last(key("account", str(asked.get("account")), ""))
    raw = calls.open_account(body, state, now)
    if relays or before is None or before[1] != raw:
        written = fields.document(raw)
        tell(terms_of(state, fields.identifier(written, "account")), relays, state, now)
    return raw


def note(state: State, relay: str) -> None:
    """From now on this relay hears of every change."""
    state.put(key("told", relay), _TOLD)


def note_lock(state: State, relay: str, settlement: bytes, now: int) -> None:
    """A relay has locked: it hears of every change, and of those before through what it locked."""
    note(state, relay)
    held = find_held(state, relay, settlement)
    moved = held.movements if held else ()
    for account in sorted({one for m in moved for one in (m.debtor, m.creditor)}):
        terms = terms_of(state, account)
        if terms.version > 1 and state.get(key("terms-sent", relay, account)) is None:
            _send(terms, relay, state, now)


def told(state: Reader) -> tuple[str, ...]:
    """The relays that hear of changes, ascending."""
    found = base.everything(state, key("told", ""), MAX_TOLD)
    return tuple(name.decode().removeprefix("told/") for name, _ in found)


def tell(terms: Terms, relays: tuple[str, ...], state: State, now: int) -> None:
    """Sends terms to the relays named and to all that were told before.

    Raises NotFound(CLIENT_NOT_FOUND) for one that is named first and not connected.
    """
    before = told(state)
    for relay in sorted({*relays, *before}):
        if relay not in before:
            state.client_of(relay)
            note(state, relay)
        _send(terms, relay, state, now)


def announce(body: bytes, state: State, now: int) -> bytes:
    """`account.announce`: {accounts, relays}: tells relays the terms that accounts have now.

    Answers {accounts, relays}. Raises NotFound: ACCOUNT_NOT_FOUND, CLIENT_NOT_FOUND.
    """
    asked = base.read_call(body, "accounts relays")
    relays = fields.ascending(asked, "relays", fields.identifier, MAX_RELAYS, low=1)
    accounts = fields.ascending(asked, "accounts", fields.identifier, MAX_ACCOUNTS, low=1)
    for relay in relays:
        state.client_of(relay)
        note(state, relay)
    for account in accounts:
        terms = terms_of(state, account)
        for relay in relays:
            _send(terms, relay, state, now)
    return encode({"accounts": len(accounts), "relays": len(relays)})


def _send(terms: Terms, relay: str, state: State, now: int) -> None:
    notice = TermsNotice(state.chain_id, relay, terms).encode()
    payload = undelivered.payload_for(SETTLEMENT_PORT, ESCROW_PORT, notice)
    undelivered.post(state, relay, payload, now)
    state.put(key("terms-sent", relay, terms.account), _TOLD)


def answered(packet: Packet, acknowledgement: bytes, state: State, now: int) -> None:
    """Keeps what a relay said to a notice; an error, or what cannot be read, as reason ERROR."""
    notice = TermsNotice.decode(packet.payloads[0].value)
    terms, reason = notice.terms, "ERROR"
    try:
        answer = TermsAnswer.decode(acknowledgement)
        said = (answer.relay, answer.account, answer.version)
        if said == (notice.relay, terms.account, terms.version):
            reason = "" if answer.reason is None else answer.reason.value
    except LianqiaoError:
        pass
    place = key("terms-answer", notice.relay, terms.account, f"{terms.version:08d}", "")
    last = state.last(place)
    number = 1 if last is None else int(last[0].rpartition(b"/")[2]) + 1
    value: Json = {"accepted": reason == "", "reason": reason, "time": now}
    state.put(place + f"{number:08d}".encode(), encode(value))


@dataclass(frozen=True, slots=True)
class Told:
    """The last word of a relay on an account."""

    relay: str
    version: int
    """0 where it has answered nothing yet."""
    reason: str
    """Why the terms do not count there; empty where they do, ERROR where it could not read them."""
    time: int


def answers_of(state: Reader, account: str) -> list[Told]:
    """What each relay said last to the terms of an account; every relay that hears of it."""
    found = []
    for relay in told(state):
        last = state.last(key("terms-answer", relay, account, ""))
        if last is None:
            found.append(Told(relay, 0, "", 0))
            continue
        body = fields.document(last[1])
        version = int(last[0].split(b"/")[-2])
        found.append(Told(relay, version, str(body["reason"]), fields.integer(body, "time")))
    return found


def again(packet: Packet, state: State, now: int) -> None:
    """A notice that timed out: the terms of now are sent in its place."""
    notice = TermsNotice.decode(packet.payloads[0].value)
    _send(terms_of(state, notice.terms.account), notice.relay, state, now)
