"""Where `registry` keeps what it knows, and the readers that services and the CLI use.

Keys (ids and hashes in hex, numbers zero-padded so that byte order is their order):

    institution/<id>/<version, 8 digits>       {institution, keys, registered, role, version}
    attestation/<commitment>                   row 1 as attested (new or amend)
    revision/<previous>                        the amending attestation
    retraction/<commitment>                    the retracting attestation
    told/<relay>                               {}: a relay that was told of a record
    announced/<commitment>/<action>/<relay>    {accepted, client, reason, sequence, time}
    request/<request>                          row 2 as sent
    attempt/<request>/<sent, 12 digits>/<client>/<sequence, 16 digits>
                                               {client, sent, sequence, timeout}
    lapsed/<request>/<client>/<sequence, 16 digits>   {reason: TIMED_OUT | ERROR, time}
    decision/<request>                         Decision
    outcome/<request>/<outcome>                row 4 as sent
    answered/<outcome>                         {accepted, client, reason, sequence, time}
    grant/<commitment>/<institution>/<grant>   row 3 as received: access notice and grant
    outcome-notice/<commitment>/<outcome>      row 5 as received
    access/<time, 12 digits>/<access commitment>   {commitment, institution, kind, purpose, time}

Readers take anything with `get` and `scan` (relay.contracts.base.Reader).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relay.contracts.base import Reader, everything, key
from relay.contracts.codes import Detail
from relay.contracts.payloads import Attestation, Decision, Notice, RecognitionRequest, fields
from relay.contracts.policy.readers import read_keys
from relay.contracts.policy.values import DatedKey
from relay.errors import Denied, NotFound, Reason

UNAUTHENTICATED_CALLER = "unauthenticated"
"""In the access log, for whom nobody vouches; no institution can be registered under that id."""
MAX_VERSIONS = 1000
MAX_GRANTS = 10_000
MAX_ATTEMPTS = 100


class Role(StrEnum):
    """What an institution may do on this ledger."""

    ASKS = "asks"
    """Find and fetch what others attested, and end what it attested before."""
    ATTESTS = "attests"
    """All of that, and attest and amend records."""


class RequestStatus(StrEnum):
    """Where a request of this ledger stands."""

    SENT = "SENT"
    DECIDED = "DECIDED"
    TIMED_OUT = "TIMED_OUT"
    """Proven never to have been received; the same request may be sent again."""
    ERROR = "ERROR"
    """The relay could not accept the payload at all."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request and what became of it."""

    request: RecognitionRequest
    status: RequestStatus
    client: str
    """Of the last attempt."""
    sequence: int
    decision: Decision | None


def institution_keys(state: Reader, institution: str) -> tuple[DatedKey, ...]:
    """The keys of the latest registered version.

    Raises Denied(NOT_PERMITTED) where the institution is not registered on this ledger.
    """
    return registered(state, institution)[0]


def registered(state: Reader, institution: str) -> tuple[tuple[DatedKey, ...], Role]:
    """(keys, role) of the latest registered version. Raises as `institution_keys`."""
    versions = everything(state, key("institution", institution, ""), MAX_VERSIONS)
    if not versions:
        raise Denied(
            Reason.NOT_PERMITTED,
            "the institution is not registered on this ledger",
            hint="the ledger's operator registers it with its keys: institution.register",
            institution=institution,
        )
    document = fields.document(versions[-1][1])
    return read_keys(document), read_role(document)


def read_role(document: fields.Object) -> Role:
    """The role in a registration; one that names none is of an institution that attests."""
    return fields.word(document, "role", Role) if "role" in document else Role.ATTESTS


def find_attestation(state: Reader, commitment: bytes) -> Attestation:
    """The attestation of a record. Raises NotFound(RECORD_NOT_FOUND)."""
    value = state.get(key("attestation", commitment))
    if value is None:
        raise NotFound(
            Reason.RECORD_NOT_FOUND, "no such record is attested here", commitment=commitment.hex()
        )
    return Attestation.decode(value)


def revision_of(state: Reader, commitment: bytes) -> Attestation | None:
    """The attestation that amended this record, if one did."""
    value = state.get(key("revision", commitment))
    return None if value is None else Attestation.decode(value)


def standing(state: Reader, commitment: bytes) -> Detail:
    """RETRACTED, REVISED or NONE for a record that is attested here."""
    if state.get(key("retraction", commitment)) is not None:
        return Detail.RETRACTED
    if state.get(key("revision", commitment)) is not None:
        return Detail.REVISED
    return Detail.NONE


def latest_version(state: Reader, commitment: bytes) -> bytes:
    """The commitment at the end of the chain of amendments that this record is in."""
    for _ in range(MAX_VERSIONS):
        newer = revision_of(state, commitment)
        if newer is None:
            break
        commitment = newer.commitment
    return commitment


def find_grant(
    state: Reader, record: bytes, institution: str, now: int, grant: bytes = b""
) -> Notice:
    """A grant by which `institution` may fetch the record now: `grant`, or the last to expire.

    It names the parts and the keys that may sign the fetch. Raises Denied(NO_GRANT); whether the
    record was retracted since is asked by `standing`.
    """
    if grant:
        value = state.get(key("grant", record, institution, grant))
        held = [] if value is None else [value]
    else:
        prefix = key("grant", record, institution, "")
        held = [value for _, value in everything(state, prefix, MAX_GRANTS)]
    found = [notice for value in held if now < (notice := Notice.decode(value)).expires]
    if not found:
        raise Denied(
            Reason.NO_GRANT,
            "no grant in force for this institution and record",
            hint="ask for recognition first: the decision gives the grant",
        )
    return max(found, key=lambda notice: (notice.expires, notice.grant))


def lapsed_key(request: bytes, client: str, sequence: int) -> bytes:
    """Where it is written that one attempt of a request ended without a decision."""
    return key("lapsed", request, client, f"{sequence:016d}")


def find_request(state: Reader, request: bytes) -> RequestView:
    """A request of this ledger and where it stands. Raises NotFound(NOT_FOUND)."""
    value = state.get(key("request", request))
    if value is None:
        raise NotFound(Reason.NOT_FOUND, "no such request was sent here", request=request.hex())
    asked = RecognitionRequest.decode(value)
    attempts = everything(state, key("attempt", request, ""), MAX_ATTEMPTS)
    client, sequence, status = "", 0, RequestStatus.SENT
    if attempts:
        attempt = fields.document(attempts[-1][1])
        client, sequence = fields.code(attempt, "client"), fields.integer(attempt, "sequence")
        lapsed = state.get(lapsed_key(request, client, sequence))
        if lapsed is not None:
            status = fields.word(fields.document(lapsed), "reason", RequestStatus)
    decided = state.get(key("decision", request))
    if decided is not None:
        return RequestView(asked, RequestStatus.DECIDED, client, sequence, Decision.decode(decided))
    return RequestView(asked, status, client, sequence, None)
