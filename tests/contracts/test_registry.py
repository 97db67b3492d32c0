"""What a ledger's registry accepts from its institutions, and what it refuses and why."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.contracts.payloads import Action, Attestation, RecognitionRequest, Status
from relay.contracts.registry import (
    RequestStatus,
    find_attestation,
    find_request,
    institution_keys,
    latest_version,
    revision_of,
    standing,
)
from relay.contracts.registry.keys import MAX_ATTEMPTS
from relay.errors import Denied, Invalid, LianqiaoError, Malformed, NotFound, Reason, Refused
from tests.contracts.world import (
    HOSPITAL,
    NOW,
    OTHER_HOSPITAL,
    RECORD,
    STRANGER,
    World,
    attestation,
    digest,
    item,
    request,
)
from tests.refusals import refusal, refused, refusing

NEWER = digest("corrected")


def amendment(**changes: Any) -> Attestation:
    base = {"action": Action.AMEND, "commitment": NEWER, "previous": RECORD}
    return attestation(item(status=Status.CORRECTED), **{**base, **changes})


def retraction(**changes: Any) -> Attestation:
    by = changes.pop("by", HOSPITAL)
    signed: Attestation = by.sign(
        replace(attestation(), action=Action.RETRACT, items=(), **changes)
    )
    return signed


def not_taken(world: World, method: str, *given: Attestation) -> LianqiaoError:
    before, sent = dict(world.zj.written), list(world.zj.sent)
    error = refusal(partial(world.attest, method=method), *given)
    assert (world.zj.written, world.zj.sent) == (before, sent)
    return error


# --- attesting


def test_attested_once_and_sent_once() -> None:
    world = World()
    first = decode(world.attest())
    assert first == {
        "attested": [
            {
                "commitment": RECORD.hex(),
                "new": True,
                "packets": [{"client": "checkpoint-0", "relay": "relay-1", "sequence": 1}],
            }
        ]
    }
    assert decode(world.attest()) == {
        "attested": [{"commitment": RECORD.hex(), "new": False, "packets": []}]
    }
    assert len(world.zj.sent) == 1
    assert find_attestation(world.zj, RECORD) == attestation()


def test_a_batch_is_written_whole_or_not_at_all() -> None:
    world = World()
    batch = [attestation(commitment=digest(str(n))) for n in range(20)]
    bad = replace(batch[-1], signature=bytes(64))
    error = not_taken(world, "attest", *batch[:-1], bad)
    assert (error.reason, error.data["index"]) == (Reason.INVALID_SIGNATURE, "19")
    world.attest(*batch)
    assert len(world.zj.sent) == len(world.zj.keys("attestation/")) == 20


@pytest.mark.parametrize(
    ("says", "given", "reason"),
    [
        ("another ledger", attestation(ledger="sh-medical"), Reason.CHAIN_ID_MISMATCH),
        ("another port", attestation(port="escrow"), Reason.CHAIN_ID_MISMATCH),
        ("an institution not registered here", attestation(institution="sh-h1"),
         Reason.NOT_PERMITTED),
        ("another's key", attestation(by=STRANGER), Reason.UNKNOWN_SIGNER),
        ("another institution's key", attestation(by=OTHER_HOSPITAL), Reason.UNKNOWN_SIGNER),
        ("no signature", replace(attestation(), signature=bytes(64)), Reason.INVALID_SIGNATURE),
        ("changed after it was signed", replace(attestation(), items=(item(unit="g/L"),)),
         Reason.INVALID_SIGNATURE),
        ("dated in the future", attestation(issued=NOW + 601), Reason.RECORD_INVALID),
        ("an amendment", amendment(), Reason.MALFORMED),
    ],
)  # fmt: skip
def test_refused_attestation(says: str, given: Attestation, reason: Reason) -> None:
    assert not_taken(World(), "attest", given).reason is reason, says


def test_another_attestation_of_the_same_record() -> None:
    world = World()
    world.attest()
    error = not_taken(world, "attest", attestation(issued=NOW - 1))
    assert (type(error), error.reason) == (Refused, Reason.CONFLICT)


def test_keys_hold_for_their_time_only() -> None:
    world = World()
    body = {"institution": "zj-h1", "keys": [HOSPITAL.dated(NOW + 1, NOW + 2)], "version": 2}
    world.zj.call("institution.register", encode(body))
    assert not_taken(world, "attest", attestation()).reason is Reason.UNKNOWN_SIGNER
    world.zj.now = NOW + 1
    world.attest()
    world.zj.now = NOW + 2
    later = attestation(commitment=digest("later"))
    assert not_taken(world, "attest", later).reason is Reason.UNKNOWN_SIGNER


def test_unconnected_relay() -> None:
    world = World()
    body = {"attestations": [attestation().to_json()], "relays": ["relay-2"]}
    with pytest.raises(NotFound) as err:
        world.zj.call("attest", encode(body))
    assert err.value.reason is Reason.CLIENT_NOT_FOUND
    assert world.zj.keys("attestation/") == []


def test_a_record_can_be_announced_to_a_relay_later() -> None:
    world = World()
    body: Any = {"attestations": [attestation().to_json()], "relays": []}
    world.zj.call("attest", encode(body))
    world.attest(retraction(), method="retract")
    asked: Any = {"commitments": [RECORD.hex()], "relays": ["relay-1"]}
    [answer] = decode(world.zj.call("announce", encode(asked)))["attested"]  # type: ignore
    assert [p["sequence"] for p in answer["packets"]] == [2, 3]
    later = digest("later")
    body = {"attestations": [attestation(commitment=later).to_json()], "relays": []}
    world.zj.call("attest", encode(body))
    asked["commitments"] = [later.hex()]
    [answer] = decode(world.zj.call("announce", encode(asked)))["attested"]  # type: ignore
    assert [p["sequence"] for p in answer["packets"]] == [4]
    asked["commitments"] = [digest("x").hex()]
    with pytest.raises(NotFound) as err:
        world.zj.call("announce", encode(asked))
    assert err.value.reason is Reason.RECORD_NOT_FOUND


# --- amending and retracting


@pytest.mark.parametrize("named", [True, False])
def test_a_revision_goes_to_every_relay_that_was_ever_told_of_a_record(named: bool) -> None:
    """Told by an attestation or by a revision; it is set aside where it cannot be sent now."""
    world = World()

    def attested(given: Attestation, method: str, relays: list[str]) -> Any:
        body: Any = {"attestations": [given.to_json()], "relays": relays}
        [answer] = decode(world.zj.call(method, encode(body)))["attested"]  # type: ignore
        return answer["packets"]

    here = {"client": "checkpoint-0", "relay": "relay-1"}
    assert attested(attestation(), "attest", ["relay-1"] if named else []) == (
        [{**here, "sequence": 1}] if named else []
    )
    first = attested(amendment(), "amend", [] if named else ["relay-1"])
    assert first == [{**here, "sequence": 2 if named else 1}]
    world.zj.peers["checkpoint-0"].frozen = True
    assert attested(retraction(commitment=NEWER), "retract", []) == []
    assert len(world.zj.keys("undelivered/")) == 1


def test_a_revision_tells_no_relay_that_is_not_there() -> None:
    """Names of nobody must not fill the list of those who hear of every retraction."""
    world = World()
    world.attest()
    before, sent = dict(world.zj.written), len(world.zj.sent)

    def revised(given: Attestation, method: str) -> None:
        body: Any = {"attestations": [given.to_json()], "relays": ["nobody-1", "nobody-2"]}
        world.zj.call(method, encode(body))

    refused(Reason.CLIENT_NOT_FOUND, revised, amendment(), "amend")
    assert (world.zj.written, len(world.zj.sent)) == (before, sent)
    revised(retraction(), "retract")  # is written all the same: nobody there knew of a record
    assert len(world.zj.sent) == sent + 1
    assert world.zj.keys("undelivered/") == []
    assert world.zj.keys("told/") == ["told/relay-1"]


def test_the_chain_of_versions() -> None:
    world = World()
    world.attest()
    assert (standing(world.zj, RECORD), revision_of(world.zj, RECORD)) == ("", None)
    world.attest(amendment(), method="amend")
    third = amendment(previous=NEWER, commitment=digest("third"))
    world.attest(third, method="amend")
    assert revision_of(world.zj, RECORD) == amendment()
    assert standing(world.zj, RECORD) == "REVISED"
    assert latest_version(world.zj, RECORD) == digest("third")
    gone = retraction(commitment=digest("third"))
    world.attest(gone, method="retract")
    assert standing(world.zj, digest("third")) == "RETRACTED"
    world.attest(gone, method="retract")
    world.attest(third, method="amend")
    assert len(world.zj.sent) == 4


@pytest.mark.parametrize(
    ("says", "method", "given", "reason"),
    [
        ("an unknown record is amended", "amend", amendment(previous=digest("x")),
         Reason.RECORD_NOT_FOUND),
        ("an unknown record is retracted", "retract", retraction(commitment=digest("x")),
         Reason.RECORD_NOT_FOUND),
        ("another's record is amended", "amend",
         amendment(institution="zj-h2", by=OTHER_HOSPITAL), Reason.NOT_PERMITTED),
        ("another's record is retracted", "retract",
         retraction(institution="zj-h2", by=OTHER_HOSPITAL), Reason.NOT_PERMITTED),
        ("retracted for another patient", "retract", retraction(patient=digest("x")),
         Reason.RECORD_MISMATCH),
        ("retracted by way of amend", "amend", retraction(), Reason.MALFORMED),
    ],
)  # fmt: skip
def test_refused_revision(says: str, method: str, given: Attestation, reason: Reason) -> None:
    world = World()
    world.attest()
    assert not_taken(world, method, given).reason is reason, says


@pytest.mark.parametrize(("method", "given"), [("amend", amendment()), ("retract", retraction())])
def test_only_the_latest_version_is_amended(method: str, given: Attestation) -> None:
    world = World()
    world.attest()
    world.attest(given, method=method)
    fork = amendment(commitment=digest("fork"))
    assert not_taken(world, "amend", fork).reason is Reason.RECORD_REVISED


# --- institutions


def register(
    world: World, version: int, keys: list[dict[str, Any]], name: str = "zj-h3", **more: Any
) -> bytes:
    body: Any = {"institution": name, "keys": keys, "version": version, **more}
    return world.zj.call("institution.register", encode(body))


def test_who_only_asks_attests_nothing_and_may_retract() -> None:
    world = World()
    world.attest()
    register(world, 2, [HOSPITAL.dated()], "zj-h1", role="asks")
    later = attestation(commitment=digest("later"))
    assert not_taken(world, "attest", later).reason is Reason.NOT_PERMITTED
    amended = attestation(action=Action.AMEND, commitment=digest("v2"), previous=RECORD)
    assert not_taken(world, "amend", amended).reason is Reason.NOT_PERMITTED
    world.attest(attestation(action=Action.RETRACT, items=()), method="retract")
    # The same version in another role is another version.
    with pytest.raises(Refused) as err:
        register(world, 2, [HOSPITAL.dated()], "zj-h1", role="attests")
    assert err.value.reason is Reason.CONFLICT


def test_nobody_has_the_name_of_whom_nobody_knows() -> None:
    with pytest.raises(Malformed) as err:
        register(World(), 1, [STRANGER.dated()], "unauthenticated")
    assert err.value.data["field"] == "institution"


def test_versions_of_an_institution() -> None:
    world = World()
    first = register(world, 1, [STRANGER.dated()])
    world.zj.now += 5
    assert register(world, 1, [STRANGER.dated()]) == first
    register(world, 2, [])
    assert institution_keys(world.zj, "zj-h3") == ()
    for version, keys in ((2, [STRANGER.dated()]), (4, [])):
        with pytest.raises(Refused) as err:
            register(world, version, keys)
        assert err.value.reason is Reason.CONFLICT
    with pytest.raises(Denied) as denied:
        institution_keys(world.zj, "zj-h4")
    assert denied.value.reason is Reason.NOT_PERMITTED


@pytest.mark.parametrize(
    "key",
    ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ab" * 31],
    ids=["order 4", "order 1", "order 2", "short"],
)
def test_weak_keys_are_not_registered(key: str) -> None:
    world = World()
    with pytest.raises(Invalid) as err:
        register(world, 1, [{**STRANGER.dated(), "key": key}])
    assert err.value.reason is Reason.WEAK_KEY
    assert world.zj.keys("institution/zj-h3") == []


# --- requests


def ask(world: World, asked: RecognitionRequest, **extra: Any) -> Any:
    return decode(world.sh.call("request", encode({"request": asked.to_json(), **extra})))


@pytest.mark.parametrize(
    ("says", "asked", "reason"),
    [
        ("another origin", request(origin="zj-medical"), Reason.CHAIN_ID_MISMATCH),
        ("no hop left", request(hops=0), Reason.HOP_LIMIT),
        ("an institution of another ledger", request(institution="zj-h1"), Reason.NOT_PERMITTED),
        ("no signature", replace(request(), signature=bytes(64)), Reason.INVALID_SIGNATURE),
        ("an unconnected relay", request(relay="relay-2"), Reason.CLIENT_NOT_FOUND),
    ],
)
def test_refused_request(says: str, asked: RecognitionRequest, reason: Reason) -> None:
    world = World()
    before = dict(world.sh.written)
    with pytest.raises(LianqiaoError) as err:
        ask(world, asked)
    assert err.value.reason is reason, says
    assert (world.sh.written, world.sh.sent) == (before, [])


def test_a_request_is_under_way_once() -> None:
    world = World()
    world.attest()
    world.deliver()
    answer = ask(world, request())
    assert answer == {
        "client": "checkpoint-0",
        "decision": None,
        "request": digest("request").hex(),
        "sequence": 1,
        "status": "SENT",
    }
    assert world.sh.sent[0].timeout_timestamp == NOW + 900
    assert ask(world, request()) == answer
    assert len(world.sh.sent) == 1
    world.deliver()
    answer = ask(world, request())
    assert (answer["status"], answer["decision"]["type"]) == ("DECIDED", "decision")
    assert len(world.sh.sent) == 1
    with pytest.raises(Invalid) as err:
        ask(world, request(parts=(2,)))
    assert err.value.reason is Reason.REQUEST_ID_REUSED


def test_a_timed_out_request_is_reported_and_can_be_sent_again() -> None:
    world = World()
    world.attest()
    world.deliver()
    ask(world, request(), timeout_seconds=60)
    assert world.sh.sent[0].timeout_timestamp == NOW + 60
    world.at(NOW + 61)
    world.drop(world.sh)
    view = find_request(world.sh, digest("request"))
    assert (view.status, view.sequence) == (RequestStatus.TIMED_OUT, 1)
    answer = ask(world, request())
    assert (answer["status"], answer["sequence"]) == ("SENT", 2)
    world.deliver()
    assert find_request(world.sh, digest("request")).status is RequestStatus.DECIDED


def test_a_request_is_not_sent_for_ever() -> None:
    world = World()
    for _ in range(MAX_ATTEMPTS):
        ask(world, request())
        world.drop(world.sh)
    with pytest.raises(Refused) as err:
        ask(world, request())
    assert err.value.reason is Reason.LIMIT_EXCEEDED
    assert len(world.sh.sent) == MAX_ATTEMPTS


def test_an_error_acknowledgement_is_reported() -> None:
    world = World()
    ask(world, request())
    world.relay.contract = world.zj.contract  # a relay that does not speak this port's version
    world.deliver()
    view = find_request(world.sh, digest("request"))
    assert (view.status, view.decision) == (RequestStatus.ERROR, None)
    assert ask(world, request())["status"] == "ERROR"


@pytest.mark.parametrize(
    "changes",
    [
        {"request": digest("x")},
        {"relay": "relay-2"},
        {"origin": "zj-medical"},
        {"target": "gd-medical"},
        {"commitment": digest("x")},
        {"institution": "sh-h2"},
        {"items": ()},
    ],
)
def test_a_decision_about_something_else_is_no_decision(changes: dict[str, Any]) -> None:
    other = World()
    decision = other.decide()
    if "items" in changes:
        changes = {"items": tuple(replace(i, part=5) for i in decision.items)}
    world = World()
    ask(world, request())
    world.sh.end(world.sh.sent[0], replace(decision, **changes).encode())
    assert find_request(world.sh, digest("request")).status is RequestStatus.ERROR
    world.sh.end(world.sh.sent[0], decision.encode())
    assert find_request(world.sh, digest("request")).decision == decision


def test_unknown_request() -> None:
    with pytest.raises(NotFound) as err:
        find_request(World().sh, digest("x"))
    assert err.value.reason is Reason.NOT_FOUND


# --- the access log


def entry(**changes: Any) -> dict[str, Any]:
    base = {
        "commitment": digest("salted").hex(),
        "institution": "sh-h1",
        "kind": "fetched",
        "purpose": "TREAT",
    }
    return {**base, **changes}


def test_access_entries_hold_a_commitment_a_purpose_and_no_more() -> None:
    world = World()
    body = {"entries": [entry(), entry(commitment=digest("other").hex(), kind="refused")]}
    assert decode(world.zj.call("access", encode(body))) == {"written": 2}
    names = world.zj.keys("access/")
    assert len(names) == 2
    assert f"access/{NOW:012d}/{digest('salted').hex()}" in names
    for name in names:
        value = decode(world.zj.written[name.encode()])
        assert isinstance(value, dict)
        assert sorted(value) == ["commitment", "institution", "kind", "purpose", "time"]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "read"},
        {"purpose": "FUN"},
        {"institution": "张三"},
        {"commitment": "ab"},
        {"ip": ""},
    ],
)
def test_refused_access_entry(changes: dict[str, Any]) -> None:
    world = World()
    with refusing(Reason.MALFORMED):
        world.zj.call("access", encode({"entries": [entry(**changes)]}))
    assert world.zj.keys("access/") == []


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("attest", b""),
        ("attest", b"{}"),
        ("attest", b'{"attestations":[],"relays":[]}'),
        ("attest", b'{"attestations":[],"relays":[],"x":1}'),
        ("request", b'{"request":{}}'),
        ("request", b'{"request":{},"timeout":1}'),
        ("outcome", b"[]"),
        ("access", b'{"entries":{}}'),
        ("announce", b'{"commitments":[],"relays":["r"]}'),
        ("institution.register", b'{"institution":"x","keys":[],"version":0}'),
        ("resend", b'{"limit":0}'),
    ],
)
def test_malformed_bodies(method: str, body: bytes) -> None:
    none = b'"attestations":[],"relays":[]}' in body or b'"commitments":[]' in body
    with refusing(Reason.LIMIT_EXCEEDED if none else Reason.MALFORMED):
        World().zj.call(method, body)


def test_unknown_calls() -> None:
    world = World()
    for ledger in (world.zj, world.relay):
        with pytest.raises(NotFound) as err:
            ledger.call("destroy", b"{}")
        assert err.value.reason is Reason.NOT_FOUND
