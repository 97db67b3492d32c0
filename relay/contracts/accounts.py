"""Terms of an account: whose it is, which keys debit it, how much a day, who must co-sign.

A money ledger keeps them for its accounts, and a relay for the accounts that settle through it, in
the same form; both judge an instruction by them. Versions ascend from 1 without a gap and the last
one counts, so that a key ends, or an account closes, by the next version. Owner and currency never
change. All limits are minor units of a civil day in Shanghai; 0 sets none.

    account/<account>/<version, 8 digits>              on a ledger
    account/<ledger>/<account>/<version, 8 digits>     on a relay
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base
from relay.contracts.payloads import OfficerRole, SignedInstruction, fields
from relay.contracts.payloads.instruction import currency
from relay.contracts.policy.readers import once, read_keys
from relay.contracts.policy.values import DatedKey, key_holds
from relay.errors import Denied, Invalid, NotFound, Reason, Refused
from relay.light.keys import verify
from relay.money import MAX_AMOUNT

MAX_VERSIONS = 99_999_999
MAX_COSIGNERS = 16
_TERMS = fields.names("account owner currency version keys cosigners limits closed")
_LIMITS = fields.names("daily counterparty officer regulator")


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Who may co-sign for an account, and under which keys."""

    role: OfficerRole
    officer: str
    keys: tuple[DatedKey, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Minor units of the account's currency; 0: none."""

    daily: int
    """Most that may be locked in a day."""
    counterparty: int
    """Most that may be locked in a day for one payee's owner, fees to accounts of his included."""
    officer: int
    """Above this a day, a second officer co-signs."""
    regulator: int
    """Above this a day, a regulator co-signs."""

    @property
    def any(self) -> bool:
        """Whether totals of the day must be kept at all."""
        return any((self.daily, self.officer, self.regulator))


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of an account's terms."""

    account: str
    owner: str
    currency: str
    version: int
    keys: tuple[DatedKey, ...]
    cosigners: tuple[Cosigner, ...]
    limits: Limits
    closed: bool

    def to_json(self) -> dict[str, Json]:
        """The members of a version, as `read_terms` takes them."""
        limits = self.limits
        return {
            "account": self.account,
            "closed": self.closed,
            "cosigners": [
                {
                    "keys": [key_json(dated) for dated in one.keys],
                    "officer": one.officer,
                    "role": one.role.value,
                }
                for one in self.cosigners
            ],
            "currency": self.currency,
            "keys": [key_json(dated) for dated in self.keys],
            "limits": {name: getattr(limits, name) for name in _LIMIT_ORDER},
            "owner": self.owner,
            "version": self.version,
        }


def key_json(dated: DatedKey) -> Json:
    """The members of a key with its time."""
    return {
        "algorithm": dated.algorithm,
        "end": dated.end,
        "key": dated.key.hex(),
        "start": dated.start,
    }


def _cosigner(value: Json) -> Cosigner:
    body = fields.members(value, ("role", "officer", "keys"), "cosigner")
    return Cosigner(
        fields.word(body, "role", OfficerRole), fields.identifier(body, "officer"), read_keys(body)
    )


def read_terms(value: Json) -> Terms:
    """The members of a version. Raises Malformed or Invalid(WEAK_KEY)."""
    body = fields.members(value, _TERMS, "account")
    limits = fields.members(body["limits"], _LIMITS, "limits")
    found = Terms(
        account=fields.identifier(body, "account"),
        owner=fields.identifier(body, "owner"),
        currency=currency(body),
        version=fields.integer(body, "version", 1, MAX_VERSIONS),
        keys=read_keys(body),
        cosigners=fields.sequence(body, "cosigners", _cosigner, MAX_COSIGNERS),
        limits=Limits(*(fields.integer(limits, n, 0, MAX_AMOUNT) for n in _LIMIT_ORDER)),
        closed=fields.boolean(body, "closed"),
    )
    once(((one.role, one.officer) for one in found.cosigners), "cosigners")
    if ":" in found.account:
        fields.refuse("account", "must not hold a colon: those are the ledger's own")
    return found


_LIMIT_ORDER = ("daily", "counterparty", "officer", "regulator")


@lru_cache(maxsize=4096)
def _parsed(raw: bytes) -> Terms:
    body = fields.document(raw)
    return read_terms({name: body[name] for name in _TERMS})


def find_terms(state: base.Reader, *name: str) -> Terms | None:
    """The last version of an account's terms; `name` is (account) or (ledger, account)."""
    found = state.last(base.key("account", *name, ""))
    return None if found is None else _parsed(found[1])


def terms_of(state: base.Reader, *name: str) -> Terms:
    """As `find_terms`. Raises NotFound(ACCOUNT_NOT_FOUND)."""
    found = find_terms(state, *name)
    if found is None:
        raise NotFound(Reason.ACCOUNT_NOT_FOUND, "no such account", account="/".join(name))
    return found


def learn(terms: Terms, ledger: str, state: State, now: int) -> Reason | None:
    """Keeps what a ledger said of its account; why not, or None. Versions may come late or leave
    gaps: the last counts, and one before it changes nothing any more.

    CONFLICT where other terms stand under that version, PARTY_INVALID, CURRENCY_MISMATCH.
    """
    before = find_terms(state, ledger, terms.account)
    if before is not None:
        if terms.owner != before.owner:
            return Reason.PARTY_INVALID
        if terms.currency != before.currency:
            return Reason.CURRENCY_MISMATCH
        if terms.version < before.version:
            return None
        if terms.version == before.version:
            return None if terms == before else Reason.CONFLICT
    name = base.key("account", ledger, terms.account, f"{terms.version:08d}")
    state.put(name, encode({**terms.to_json(), "registered": now}))
    return None


def register(body: fields.Object, state: State, now: int, *ledger: str) -> bytes:
    """Writes the next version of an account's terms; the record. The same again is a no-op.

    Raises Malformed, Invalid(WEAK_KEY), Refused(CONFLICT) for a version out of order,
    Refused(PARTY_INVALID) or Refused(CURRENCY_MISMATCH) for another owner or currency.
    """
    terms = read_terms({name: body[name] for name in _TERMS})
    held = state.last(base.key("account", *ledger, terms.account, ""))
    before = None
    if held is not None:
        before = _parsed(held[1])
        if before == terms:
            return held[1]
    following = before.version + 1 if before else 1
    if terms.version != following:
        raise Refused(
            Reason.CONFLICT,
            f"the next version of this account is {following}",
            hint="accounts show tells its terms; accounts change writes the next version"
            if before
            else "accounts open writes the first version",
            account=terms.account,
        )
    if before is not None and terms.owner != before.owner:
        raise Refused(Reason.PARTY_INVALID, "an account keeps its owner", account=terms.account)
    if before is not None and terms.currency != before.currency:
        raise Refused(
            Reason.CURRENCY_MISMATCH, "an account keeps its currency", account=terms.account
        )
    raw = encode({**body, "registered": now})
    state.put(base.key("account", *ledger, terms.account, f"{terms.version:08d}"), raw)
    return raw


def check_open(terms: Terms, code: str) -> None:
    """Raises Refused: ACCOUNT_CLOSED or CURRENCY_MISMATCH."""
    if terms.closed:
        raise Refused(Reason.ACCOUNT_CLOSED, "the account is closed", account=terms.account)
    if terms.currency != code:
        raise Refused(
            Reason.CURRENCY_MISMATCH,
            f"the account is in {terms.currency}",
            account=terms.account,
            found=code,
        )


def check_signed(signed: SignedInstruction, ledger: str, terms: Terms, now: int) -> None:
    """Checks the owner's signature under the instruction, by a key of the account valid now.

    Raises Invalid: UNKNOWN_SIGNER or INVALID_SIGNATURE.
    """
    one = next(
        (s for s in signed.signatures if (s.ledger, s.account) == (ledger, terms.account)), None
    )
    if one is None or not key_holds(terms.keys, one.algorithm, one.key, now):
        raise Invalid(
            Reason.UNKNOWN_SIGNER,
            "not signed under a key of the account that is valid now",
            account=terms.account,
        )
    verify(one.algorithm, one.key, signed.instruction.signing_bytes(), one.signature)


def check_day(signed: SignedInstruction, terms: Terms, total: int, now: int) -> None:
    """Checks limit and co-signatures for a day's `total`, this instruction included.

    Raises Refused(LIMIT_REACHED) or Denied(COSIGNATURE_MISSING).
    """
    limits = terms.limits
    if limits.daily and total > limits.daily:
        raise Refused(
            Reason.LIMIT_REACHED, "more than this account may pay in a day", account=terms.account
        )
    for role, threshold in (
        (OfficerRole.OFFICER, limits.officer),
        (OfficerRole.REGULATOR, limits.regulator),
    ):
        if threshold and total > threshold and not _cosigned(signed, terms, role, now):
            raise Denied(
                Reason.COSIGNATURE_MISSING,
                f"above {threshold} minor units a day a {role} co-signs",
                account=terms.account,
                role=role,
            )


def check_counterparty(terms: Terms, total: int) -> None:
    """Checks the limit for one payee's owner, where there is one. Raises Refused(LIMIT_REACHED)."""
    if total > terms.limits.counterparty:
        raise Refused(
            Reason.LIMIT_REACHED,
            "more than this account may pay one party in a day",
            account=terms.account,
        )


def _cosigned(signed: SignedInstruction, terms: Terms, role: OfficerRole, now: int) -> bool:
    """Whether someone registered for that role co-signed, under another key than the owner's."""
    used = {(s.algorithm, s.key) for s in signed.signatures}
    digest = signed.instruction.digest
    for one in signed.cosignatures:
        if one.role is not role or (one.algorithm, one.key) in used:
            continue
        if any(
            (known.role, known.officer) == (role, one.officer)
            and key_holds(known.keys, one.algorithm, one.key, now)
            for known in terms.cosigners
        ) and base.signed(one.algorithm, one.key, one.signing_bytes(digest), one.signature):
            return True
    return False
