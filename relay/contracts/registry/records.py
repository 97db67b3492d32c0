"""Attesting, amending and retracting on the source ledger, and telling relays of it (row 1)."""

from __future__ import annotations

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base, undelivered
from relay.contracts.base import key
from relay.contracts.payloads import (
    RECOGNITION_PORT,
    REGISTRY_PORT,
    Action,
    Attestation,
    fields,
)
from relay.contracts.policy.readers import read_keys
from relay.contracts.policy.values import DatedKey, key_holds
from relay.contracts.registry.keys import (
    MAX_VERSIONS,
    UNAUTHENTICATED_CALLER,
    Role,
    find_attestation,
    read_role,
    registered,
    revision_of,
)
from relay.errors import Denied, Invalid, LianqiaoError, NotFound, Reason, Refused
from relay.light.keys import verify

MAX_BATCH = 1000
"""Attestations, or commitments to announce, in one call."""
MAX_RELAYS = 16
MAX_TOLD = 1000
"""Relays that are told of revisions."""
_TOLD = b"{}"
MAX_AHEAD = 600
"""Seconds by which an attestation's `issued` may lie in the ledger's future."""


def register_institution(body: bytes, state: State, now: int) -> bytes:
    """`institution.register`: {institution, version, keys: [{algorithm, key, start, end}], role}.

    `role` is `attests` (also where it is left out) or `asks`. Versions ascend from 1 without a
    gap; the latest counts, so that an empty `keys` ends it. Raises Invalid(WEAK_KEY),
    Refused(CONFLICT).
    """
    asked = base.read_call(body, "institution version keys", "role")
    institution = fields.identifier(asked, "institution")
    if institution == UNAUTHENTICATED_CALLER:
        fields.refuse("institution", "must not be the name of whom nobody knows")
    role = read_role(asked)
    version = fields.integer(asked, "version", 1, MAX_VERSIONS)
    read_keys(asked)
    known = base.everything(state, key("institution", institution, ""), MAX_VERSIONS)
    if version <= len(known):
        held = fields.document(known[version - 1][1])
        if (held["keys"], read_role(held)) == (asked["keys"], role):
            return known[version - 1][1]
    if version != len(known) + 1:
        raise Refused(
            Reason.CONFLICT,
            f"the next version of this institution's keys is {len(known) + 1}",
            institution=institution,
        )
    value: Json = {**asked, "registered": now, "role": role.value}
    raw = encode(value)
    state.put(key("institution", institution, f"{version:08d}"), raw)
    return raw


def attest(body: bytes, action: Action, state: State, now: int) -> bytes:
    """`attest`, `amend`, `retract`: {attestations: [row 1 …], relays: [chain id …]}.

    Up to 1000 at once, all or none. An attestation that is already written is neither written nor
    sent again. A revision goes to every relay that was ever told of a record here, named or not,
    and must arrive: it is set aside for one that cannot be reached now, and stands under no
    packet of the answer. One that was never told must be there to be named (a retraction passes
    it over).
    Answers {attested: [{commitment, new, packets: [{client, relay, sequence}]}]}.
    Raises Denied(NOT_PERMITTED), Invalid (CHAIN_ID_MISMATCH, UNKNOWN_SIGNER, INVALID_SIGNATURE …),
    Refused (RECORD_REVISED, CONFLICT), NotFound (RECORD_NOT_FOUND, CLIENT_NOT_FOUND); `index` in
    its data says which.
    """
    asked = base.read_call(body, "attestations relays")
    relays = fields.ascending(asked, "relays", fields.identifier, MAX_RELAYS)
    given = fields.sequence(asked, "attestations", Attestation.from_json, MAX_BATCH, low=1)
    known: dict[str, tuple[tuple[DatedKey, ...], Role]] = {}
    answers: list[Json] = []
    for place, attestation in enumerate(given):
        try:
            if attestation.action is not action:
                fields.refuse("action", f"must be {action}")
            if attestation.institution not in known:
                known[attestation.institution] = registered(state, attestation.institution)
            keys, role = known[attestation.institution]
            _check_role(attestation, role)
            check_attestation(attestation, keys, state.chain_id, now)
            new = _write(attestation, state)
        except LianqiaoError as error:
            error.data["index"] = str(place)
            raise
        tell = _announce if action is Action.NEW else _tell_all
        packets = tell(attestation, relays, state, now) if new else []
        answers.append({"commitment": attestation.commitment.hex(), "new": new, "packets": packets})
    return encode({"attested": answers})


def _check_role(attestation: Attestation, role: Role) -> None:
    """Who only asks attests nothing; what he attested in another role he may still retract."""
    if role is Role.ASKS and attestation.action is not Action.RETRACT:
        raise Denied(
            Reason.NOT_PERMITTED,
            "the institution is registered to ask on this ledger, not to attest",
            hint="the ledger's operator registers a new version with the role `attests`",
            institution=attestation.institution,
        )


def check_attestation(
    attestation: Attestation, keys: tuple[DatedKey, ...], ledger: str, now: int
) -> None:
    """Checks that an institution of this ledger signed this, for this ledger, under a key valid
    now. Raises Invalid (CHAIN_ID_MISMATCH, UNKNOWN_SIGNER, INVALID_SIGNATURE) or Refused."""
    if attestation.ledger != ledger or attestation.port != REGISTRY_PORT:
        raise Invalid(
            Reason.CHAIN_ID_MISMATCH,
            f"attested for {attestation.ledger}, port {attestation.port}",
            hint=f"sign for ledger {ledger}, port {REGISTRY_PORT}",
        )
    if not key_holds(keys, attestation.algorithm, attestation.key, now):
        raise Invalid(
            Reason.UNKNOWN_SIGNER,
            "not a key of this institution that is valid now",
            institution=attestation.institution,
        )
    if attestation.issued > now + MAX_AHEAD:
        raise Refused(Reason.RECORD_INVALID, "the attestation is dated in the future")
    verify(
        attestation.algorithm, attestation.key, attestation.signing_bytes(), attestation.signature
    )


def _write(attestation: Attestation, state: State) -> bool:
    """Writes an attestation and what it revises; whether it was new."""
    raw = attestation.encode()
    if attestation.action is Action.RETRACT:
        name = key("retraction", attestation.commitment)
        record = _own(attestation, attestation.commitment, state)
        if record.patient != attestation.patient:
            raise Invalid(
                Reason.RECORD_MISMATCH, "a retraction names the record's own patient reference"
            )
    else:
        name = key("attestation", attestation.commitment)
    held = state.get(name)
    if held == raw:
        return False
    if held is not None:
        raise Refused(
            Reason.CONFLICT,
            "another attestation of this record is written",
            hint="amend the record, or retract it",
        )
    if attestation.action is Action.AMEND:
        _own(attestation, attestation.previous, state)
        if (
            revision_of(state, attestation.previous) is not None
            or state.get(key("retraction", attestation.previous)) is not None
        ):
            raise Refused(
                Reason.RECORD_REVISED,
                "that record was amended or retracted already",
                hint="amend its latest version",
            )
        state.put(key("revision", attestation.previous), raw)
    state.put(name, raw)
    return True


def _own(attestation: Attestation, commitment: bytes, state: State) -> Attestation:
    """The record that is revised; only the institution that attested it may."""
    record = find_attestation(state, commitment)
    if record.institution != attestation.institution:
        raise Denied(Reason.NOT_PERMITTED, "another institution attested that record")
    return record


def _announce(
    attestation: Attestation, relays: tuple[str, ...], state: State, now: int
) -> list[Json]:
    payload = undelivered.payload_for(RECOGNITION_PORT, REGISTRY_PORT, attestation.encode())
    packets: list[Json] = []
    for relay in relays:
        client = state.client_of(relay)
        sequence = state.send(client, payload, now + undelivered.ROW_TIMEOUT)
        packets.append({"client": client, "relay": relay, "sequence": sequence})
        state.put(key("told", relay), _TOLD)
    return packets


def _tell_all(
    attestation: Attestation, relays: tuple[str, ...], state: State, now: int
) -> list[Json]:
    """Row 1 of a revision, to the relays named and to all that were ever told of a record.

    A relay that is named first must be there, or any caller could fill the list with names of
    nobody. To retract is never refused for that: who was told of no record knows none.
    Raises NotFound(CLIENT_NOT_FOUND).
    """
    payload = undelivered.payload_for(RECOGNITION_PORT, REGISTRY_PORT, attestation.encode())
    packets: list[Json] = []
    found = base.everything(state, key("told", ""), MAX_TOLD)
    told = {name.decode().removeprefix("told/") for name, _ in found}
    for relay in sorted({*relays, *told}):
        if relay not in told:
            try:
                state.client_of(relay)
            except NotFound:
                if attestation.action is Action.RETRACT:
                    continue
                raise
        client, sequence = undelivered.post(state, relay, payload, now)
        if client:
            packets.append({"client": client, "relay": relay, "sequence": sequence})
        state.put(key("told", relay), _TOLD)
    return packets


def announce(body: bytes, state: State, now: int) -> bytes:
    """`announce`: {commitments, relays}: tells relays of records attested before, with their
    revisions; for a relay that was connected later. Answers as `attest`; `new` is false."""
    asked = base.read_call(body, "commitments relays")
    relays = fields.ascending(asked, "relays", fields.identifier, MAX_RELAYS, low=1)
    commitments = fields.ascending(asked, "commitments", fields.octets, MAX_BATCH, low=1)
    answers: list[Json] = []
    for commitment in commitments:
        packets = _announce(find_attestation(state, commitment), relays, state, now)
        retraction = state.get(key("retraction", commitment))
        for newer in (
            revision_of(state, commitment),
            retraction and Attestation.decode(retraction),
        ):
            if newer:
                packets += _announce(newer, relays, state, now)
        answers.append({"commitment": commitment.hex(), "new": False, "packets": packets})
    return encode({"attested": answers})
