"""What the ledger's operator and the owners of accounts do: open, deposit, withdraw.

Money comes onto a ledger and leaves it against the nostro, by the operator, who holds the same
amount at a bank. Every movement has a reference of 32 bytes and happens once: the same again
answers as before, another under that reference is REQUEST_ID_REUSED.
"""

from __future__ import annotations

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import accounts, base
from relay.contracts.base import key
from relay.contracts.escrow.books import Books, Entry, last_line, nostro, suspense
from relay.contracts.payloads import Withdrawal, fields
from relay.contracts.payloads.instruction import amount, currency
from relay.contracts.policy.values import key_holds
from relay.errors import Invalid, Reason, Refused
from relay.light.keys import verify
from relay.money import MAX_AMOUNT, TABLE_VERSION, exponent

MAX_AHEAD = 600
"""Seconds by which a withdrawal may be dated ahead of the ledger."""


def open_currency(body: bytes, state: State, now: int) -> bytes:
    """`currency.open`: {currency}. Keeps its exponent of ISO 4217 with the version of the list."""
    code = currency(base.read_call(body, "currency"))
    held = state.get(key("currency", code))
    if held is not None:
        return held
    value: Json = {
        "currency": code,
        "exponent": exponent(code),
        "opened": now,
        "table": TABLE_VERSION,
    }
    raw = encode(value)
    state.put(key("currency", code), raw)
    return raw


def _check_currency(state: State, code: str) -> None:
    if state.get(key("currency", code)) is None:
        raise Refused(
            Reason.CURRENCY_MISMATCH,
            "this ledger keeps no accounts in that currency",
            hint="its operator opens one: currency.open",
            currency=code,
        )


def open_account(body: bytes, state: State, now: int) -> bytes:
    """`account.open`: {account, closed, cosigners, currency, keys, limits, owner, version}, relays.

    Also what changes the terms, and closes: by the next version. `relays` to tell may be left out
    (relay.contracts.escrow.telling). Raises Refused(ACCOUNT_CLOSED) where an account that holds
    money would close, and what accounts.register raises.
    """
    members = "account closed cosigners currency keys limits owner version"
    asked = {n: v for n, v in base.read_call(body, members, "relays").items() if n != "relays"}
    terms = accounts.read_terms(asked)
    _check_currency(state, terms.currency)
    line = last_line(state, terms.account)
    if terms.closed and line.balance:
        raise Refused(
            Reason.ACCOUNT_CLOSED, "an account closes empty", hint="withdraw what is on it"
        )
    return accounts.register(asked, state, now)


def _once(state: State, reference: bytes, asked: Json) -> bytes | None:
    """What was written for a reference before. Raises Refused(REQUEST_ID_REUSED)."""
    held = state.get(key("moved", reference))
    if held is not None and fields.document(held)["asked"] != asked:
        raise Refused(Reason.REQUEST_ID_REUSED, "that reference moved something else")
    return held


def _done(state: State, reference: bytes, kind: Entry, asked: Json, now: int) -> bytes:
    value: Json = {"asked": asked, "kind": kind.value, "time": now}
    raw = encode(value)
    state.put(key("moved", reference), raw)
    return raw


def deposit(body: bytes, state: State, now: int) -> bytes:
    """`deposit`: {account, amount, currency, reference}, by the operator who got it at the bank.

    Raises NotFound(ACCOUNT_NOT_FOUND), Refused(ACCOUNT_CLOSED, CURRENCY_MISMATCH,
    REQUEST_ID_REUSED), Malformed(AMOUNT_INVALID), Invalid(AMOUNT_INVALID) where more than 2^53-1
    of a currency would be on the ledger.
    """
    asked = base.read_call(body, "account amount currency reference")
    code, minor, reference = currency(asked), amount(asked), fields.octets(asked, "reference")
    done = _once(state, reference, asked)
    if done is not None:
        return done
    terms = accounts.terms_of(state, fields.identifier(asked, "account"))
    accounts.check_open(terms, code)
    books = Books(state, now, reference)
    if minor - books.last(nostro(code)).balance > MAX_AMOUNT:
        raise Invalid(Reason.AMOUNT_INVALID, "more than 2^53-1 of that currency")
    books.post(Entry.DEPOSIT, nostro(code), terms.account, minor)
    return _done(state, reference, Entry.DEPOSIT, asked, now)


def withdraw(body: bytes, state: State, now: int) -> bytes:
    """`withdraw`: {withdrawal: signed by the account's owner}. What is held cannot be withdrawn.

    Raises Invalid (CHAIN_ID_MISMATCH, UNKNOWN_SIGNER, INVALID_SIGNATURE), Refused (FUNDS_MISSING,
    REQUEST_ID_REUSED, TIMEOUT_ELAPSED for one dated a day ago or ahead) and as `deposit`.
    """
    asked = base.read_call(body, "withdrawal")
    wanted = Withdrawal.from_json(asked["withdrawal"])
    if wanted.ledger != state.chain_id:
        raise Invalid(Reason.CHAIN_ID_MISMATCH, "signed for another ledger")
    done = _once(state, wanted.withdrawal, asked["withdrawal"])
    if done is not None:
        return done
    terms = accounts.terms_of(state, wanted.account)
    accounts.check_open(terms, wanted.currency)
    if not key_holds(terms.keys, wanted.algorithm, wanted.key, now):
        raise Invalid(Reason.UNKNOWN_SIGNER, "not a key of the account that is valid now")
    verify(wanted.algorithm, wanted.key, wanted.signing_bytes(), wanted.signature)
    if not now - 86_400 < wanted.time <= now + MAX_AHEAD:
        raise Refused(Reason.TIMEOUT_ELAPSED, "signed too long ago, or dated ahead")
    books = Books(state, now, wanted.withdrawal)
    books.post(Entry.WITHDRAWAL, terms.account, nostro(wanted.currency), wanted.amount)
    return _done(state, wanted.withdrawal, Entry.WITHDRAWAL, asked["withdrawal"], now)


def pay_out(body: bytes, state: State, now: int) -> bytes:
    """{account, amount, currency, reference}: a withdrawal that was paid already.

    No call of anybody's: for books that are kept by another program (adapters/evm), which has
    checked who asked. Raises as `deposit`, and Refused(FUNDS_MISSING).
    """
    asked = base.read_call(body, "account amount currency reference")
    code, minor, reference = currency(asked), amount(asked), fields.octets(asked, "reference")
    done = _once(state, reference, asked)
    if done is not None:
        return done
    terms = accounts.terms_of(state, fields.identifier(asked, "account"))
    accounts.check_open(terms, code)
    Books(state, now, reference).post(Entry.WITHDRAWAL, terms.account, nostro(code), minor)
    return _done(state, reference, Entry.WITHDRAWAL, asked, now)


def assign(body: bytes, state: State, now: int) -> bytes:
    """`assign`: {account, amount, currency, reference}: from suspense to an account of whom it is
    due to, by the operator. Raises as `deposit`, and Refused(FUNDS_MISSING)."""
    asked = base.read_call(body, "account amount currency reference")
    code, minor, reference = currency(asked), amount(asked), fields.octets(asked, "reference")
    done = _once(state, reference, asked)
    if done is not None:
        return done
    terms = accounts.terms_of(state, fields.identifier(asked, "account"))
    accounts.check_open(terms, code)
    books = Books(state, now, reference)
    books.post(Entry.ASSIGNED, suspense(code), terms.account, minor)
    return _done(state, reference, Entry.ASSIGNED, asked, now)
