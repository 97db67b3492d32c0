"""The order of checks before anything leaves a source, and the entry that comes before it.

A query (`find`):
1. the institution is registered here and signed, under a key valid now, this query for this ledger,
   minutes ago at most and never before: UNAUTHENTICATED;
2. the consent is validly signed, by the patient or by an institution registered here; it is in
   force, for this institution and purpose, covers the patient whom the query opens and every item
   asked for: CONSENT_INVALID. A patient's own key is known to nobody yet, so his consent is
   asserted by the institution that shows it and answers for it;
3. the current records of that patient that hold an asked item.

A fetch (`fetch`):
1. the grant is there, for this record and institution: NO_GRANT;
2. the institution signed this fetch for this ledger under a key that the grant names, minutes ago
   at most and never before: UNAUTHENTICATED; from here on a refusal is authenticated;
3. the grant is in force: NO_GRANT; the record is current: RECORD_REVISED;
4. its parts are here and make the commitment: RECORD_NOT_FOUND, RECORD_ERASED, VAULT_CORRUPT.

Every query and every authenticated fetch, answered or refused, is an access entry: opened in the
audit store, its salted commitment on the ledger. The entry is durable before the answer leaves; if
it cannot be written there is no answer. A query that nobody known has signed is entered under no
institution's name (UNAUTHENTICATED_CALLER): whom it claims to be from is in the audit store alone,
and of many such queries in a minute the first are entered and the others counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from relay import canonical
from relay.contracts.base import Reader, key
from relay.contracts.codes import Detail
from relay.contracts.payloads import REGISTRY_PORT, Consent, Notice, Signer, scope_of
from relay.contracts.policy.values import key_holds
from relay.contracts.registry import (
    UNAUTHENTICATED_CALLER,
    find_attestation,
    institution_keys,
    standing,
)
from relay.disclosure.asks import (
    MAX_FOUND,
    Fetch,
    Fetched,
    FindQuery,
    FoundItem,
    FoundRecord,
    Withheld,
)
from relay.disclosure.nonces import Nonces
from relay.disclosure.refusals import Refusals
from relay.errors import Denied, Exhausted, Invalid, LianqiaoError, NotFound, Reason, Refused
from relay.host import HostState
from relay.light.keys import verify
from relay.node import Node
from relay.record.audit import Access, Act, AuditStore
from relay.record.parts import open_patient, patient_reference, show
from relay.record.sealed import Description, KeptRecord
from relay.record.vault import Vault

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Opened parts in one answer; what is beyond is asked for again."""
OK = "OK"


@dataclass(frozen=True, slots=True)
class _Taken:
    """A fetch that was judged: what is answered, and what is entered of it."""

    answer: Fetched | Withheld
    access: Access | None
    """None where nobody was authenticated."""


class Desk:
    """The counter of one source's node. Thread-safe."""

    def __init__(
        self,
        node: Node,
        vault: Vault,
        audit: AuditStore,
        nonces: Nonces,
        refusals: Refusals | None = None,
    ) -> None:
        self._node = node
        self._vault = vault
        self._audit = audit
        self._nonces = nonces
        self._refusals = refusals or Refusals()

    # --- queries

    def find(self, query: FindQuery, now: int) -> list[FoundRecord]:
        """Records of a consenting patient. Raises Denied(UNAUTHENTICATED, NOT_PERMITTED) or
        Refused(CONSENT_INVALID); both are entered."""
        known = False
        try:
            with self._state(now) as state:
                self._authenticate_query(query, state, now)  # 1
                known = True
                self._check_consent(query, state, now)  # 2
                found = self._found(query, state)
        except LianqiaoError as error:
            refused = self._of_query(query, now, str(error.reason), b"")
            self._enter([refused] if known else self._of_stranger(refused), now)
            raise
        records = [record.commitment for record in found] or [b""]
        self._enter([self._of_query(query, now, OK, record) for record in records], now)
        return found

    def _authenticate_query(self, query: FindQuery, state: Reader, now: int) -> None:
        keys = institution_keys(state, query.institution)
        if not key_holds(keys, query.algorithm, query.key, now):
            raise _unauthenticated("not a key of that institution that is valid now")
        _verify(query.algorithm, query.key, query.signing_bytes(self._ledger), query.signature)
        self._nonces.use(query.institution, query.nonce, query.time, now)

    def _check_consent(self, query: FindQuery, state: Reader, now: int) -> None:
        consent = query.consent
        try:
            verify(consent.algorithm, consent.key, consent.signing_bytes(), consent.signature)
        except Invalid:
            raise _no_consent("its signature is wrong") from None
        if not consent.start <= now < consent.end:
            raise _no_consent("it is not in force")
        if consent.grantee != query.institution or query.purpose not in consent.purposes:
            raise _no_consent("it is for another institution or purpose")
        if patient_reference(query.patient) not in consent.patients:
            raise _no_consent("it does not cover this patient")
        if not set(query.items) <= set(consent.scope):
            raise _no_consent("it does not cover every item asked for")
        if consent.signer is Signer.INSTITUTION:
            self._check_institution(consent, state, now)

    def _check_institution(self, consent: Consent, state: Reader, now: int) -> None:
        try:
            keys = institution_keys(state, consent.signed_by)
        except Denied:
            keys = ()
        if not key_holds(keys, consent.algorithm, consent.key, now):
            raise _no_consent("no institution registered here signed it")

    def _found(self, query: FindQuery, state: Reader) -> list[FoundRecord]:
        found: list[FoundRecord] = []
        for commitment in self._vault.find(query.patient.scheme, query.patient.value):
            try:
                attestation = find_attestation(state, commitment)
            except NotFound:
                continue  # kept, and never attested: the call that brought it was refused
            if standing(state, commitment) is not Detail.NONE:
                continue
            kept = self._vault.describe(commitment)
            items = tuple(
                FoundItem(item.part, code)
                for item in kept.items
                if (code := scope_of(item.system, item.code)) in query.items
            )
            if items:
                open_patient(
                    attestation.patient, kept.patient.salt, kept.patient.scheme, kept.patient.value
                )
                found.append(FoundRecord(commitment, kept.patient, items))
            if len(found) == MAX_FOUND:
                break
        return found

    def _of_query(self, query: FindQuery, now: int, outcome: str, record: bytes) -> Access:
        return Access(
            act=Act.FIND,
            time=now,
            institution=query.institution,
            who=query.person,
            purpose=query.purpose.value,
            record=record.hex(),
            patient=self._audit.patient(query.patient.scheme, query.patient.value),
            items=query.items,
            outcome=outcome,
        )

    def _of_stranger(self, access: Access) -> list[Access]:
        """What is entered of a query that nobody known has signed: nothing that it claims but the
        patient, who may read of it, and for the source alone whose name was used."""
        passed = self._refusals.take(access.time)
        if passed is None:
            return []
        claimed = f"claims to be {access.institution}"
        more = f"; {passed} more of the kind since the entry before" if passed else ""
        return [replace(access, institution=UNAUTHENTICATED_CALLER, who=claimed + more, items=())]

    # --- fetches

    def fetch(self, fetches: Sequence[Fetch], now: int) -> list[Fetched | Withheld]:
        """One answer a fetch, in order; all entries are made before any answer is given."""
        taken: list[_Taken] = []
        left = MAX_ANSWER_BYTES
        with self._state(now) as state:
            for fetch in fetches:
                judged = self._judge(fetch, state, now, left)
                if isinstance(judged.answer, Fetched):
                    left -= _size(judged.answer)
                taken.append(judged)
        self._enter([t.access for t in taken if t.access is not None], now)
        return [t.answer for t in taken]

    def _judge(self, fetch: Fetch, state: Reader, now: int, left: int) -> _Taken:
        try:
            notice = self._authenticate(fetch, state, now)
        except LianqiaoError as error:
            return _Taken(_withheld(fetch, error), None)
        try:
            kept = self._granted(fetch, notice, state, now)
            indices = [index for index in notice.parts if index < len(kept.parts)]
            record = Fetched(fetch.commitment, show(kept.parts, indices))
            if _size(record) > left:
                raise Exhausted(
                    Reason.LIMIT_EXCEEDED, "too much for one answer", hint="fetch it by itself"
                )
        except LianqiaoError as error:
            described = self._described(fetch.commitment)
            access = self._of_fetch(fetch, notice, described, now, str(error.reason))
            return _Taken(_withheld(fetch, error), access)
        return _Taken(record, self._of_fetch(fetch, notice, kept, now, OK))

    def _authenticate(self, fetch: Fetch, state: Reader, now: int) -> Notice:
        name = key("grant", fetch.commitment, fetch.institution, fetch.grant)
        value = state.get(name)  # 1
        if value is None:
            raise Denied(
                Reason.NO_GRANT,
                "no such grant to this institution on this record",
                hint="ask for recognition first: the decision gives the grant",
            )
        notice = Notice.decode(value)
        if all((k.algorithm, k.key) != (fetch.algorithm, fetch.key) for k in notice.keys):  # 2
            raise _unauthenticated("the grant names no such key")
        _verify(fetch.algorithm, fetch.key, fetch.signing_bytes(self._ledger), fetch.signature)
        self._nonces.use(fetch.institution, fetch.nonce, fetch.time, now)
        return notice

    def _granted(self, fetch: Fetch, notice: Notice, state: Reader, now: int) -> KeptRecord:
        if now >= notice.expires:  # 3
            raise Denied(Reason.NO_GRANT, "the grant has ended", hint="ask for recognition again")
        stands = standing(state, fetch.commitment)
        if stands is not Detail.NONE:
            raise Refused(
                Reason.RECORD_REVISED,
                f"the record was {stands.value.lower()}",
                hint="ask for recognition of its latest version, if there is one",
            )
        return self._vault.get(fetch.commitment)  # 4

    def _described(self, commitment: bytes) -> Description | None:
        try:
            return self._vault.describe(commitment)
        except LianqiaoError:
            return None  # erased or damaged: the entry says only that it was asked for

    def _of_fetch(
        self,
        fetch: Fetch,
        notice: Notice,
        kept: KeptRecord | Description | None,
        now: int,
        outcome: str,
    ) -> Access:
        patient, items = "", tuple[str, ...]()
        if kept is not None:
            patient = self._audit.patient(kept.patient.scheme, kept.patient.value)
            items = tuple(scope_of(i.system, i.code) for i in kept.items if i.part in notice.parts)
        return Access(
            act=Act.FETCH,
            time=now,
            institution=fetch.institution,
            who=fetch.person,
            purpose=notice.purpose.value,
            record=fetch.commitment.hex(),
            patient=patient,
            items=items,
            outcome=outcome,
        )

    # --- entries

    def _enter(self, accesses: Sequence[Access], now: int) -> None:
        """Makes the entries, durably: opened in the audit store, committed to on the ledger."""
        if not accesses:
            return
        entries: list[canonical.Json] = []
        for entry in self._audit.append(accesses):
            kind = "found" if entry.access.act is Act.FIND else "fetched"
            entries.append(
                {
                    "commitment": entry.commitment.hex(),
                    "institution": entry.access.institution,
                    "kind": kind if entry.access.outcome == OK else "refused",
                    "purpose": entry.access.purpose,
                }
            )
        self._node.call(REGISTRY_PORT, "access", canonical.encode({"entries": entries}))

    @property
    def _ledger(self) -> str:
        return self._node.chain_id

    @contextmanager
    def _state(self, now: int) -> Iterator[Reader]:
        with self._node.store.reading() as tx:
            yield HostState(self._node.channel, tx, REGISTRY_PORT, now)


def _size(record: Fetched) -> int:
    return sum(len(part.content) for part in record.parts if hasattr(part, "content"))


def _verify(algorithm: str, public_key: bytes, message: bytes, signature: bytes) -> None:
    try:
        verify(algorithm, public_key, message, signature)
    except Invalid:
        raise _unauthenticated("the signature is wrong") from None


def _unauthenticated(why: str) -> Denied:
    return Denied(
        Reason.UNAUTHENTICATED,
        why,
        hint="sign under the institution's registered key, for this ledger",
    )


def _no_consent(why: str) -> Refused:
    return Refused(
        Reason.CONSENT_INVALID,
        f"the consent does not allow it: {why}",
        hint="ask the patient for a consent that names institution, purpose, items and period",
    )


def _withheld(fetch: Fetch, error: LianqiaoError) -> Withheld:
    return Withheld(fetch.commitment, str(error.reason), error.detail)
