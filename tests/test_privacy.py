"""No patient data in any journal, database, log or bundle, and in no error (DESIGN §7).

The whole flow runs with seeded people: names, numbers, birth dates, an address, a telephone number,
notes and a measured value. It is served over gRPC, records are found and fetched, and things are
made to fail at every door. Then every file on disk, every log line at level debug, every bundle and
every error is searched for each of these, in every encoding, and as a hash without a salt. The
originals and the audit store lie there too: they are sealed, so nothing is found in them either.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import structlog

from relay.cli.serve import places_only
from relay.demo.people import PATIENT_SCHEME, person
from relay.errors import Invalid, Reason
from relay.record.parts import Opened
from tests.bench.flow import SOURCE, Flow
from tests.databases import EVERYDAY, rows
from tests.echo import ECHO
from tests.privacy.failures import fail
from tests.privacy.run import CLINICIAN, CRASH, FREE, PEOPLE, VALUE, Ran, run, told
from tests.privacy.search import files, search
from tests.world import World


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    log = io.StringIO()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            places_only,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.PrintLoggerFactory(log),
    )
    flow = Flow(tmp_path_factory.mktemp("privacy"), remote="grpc")
    try:
        yield run(flow, log, fail)
    finally:
        flow.close()
        structlog.reset_defaults()


def test_nothing_of_a_patient_is_anywhere(ran: Ran) -> None:
    places = ran.places()
    assert search(ran.secrets, places) == []


def test_everything_was_there_to_be_searched(ran: Ran) -> None:
    """The search would be empty, and green, if the flow had not run or the files lay elsewhere."""
    places = ran.places()
    sqlite = EVERYDAY[0] == "sqlite"
    for name in ("zj-medical", "relay-1", "sh-medical"):
        assert places[f"{name}.db"].count(b"SQLite format 3") == sqlite
        least = 100_000 if sqlite else 20_000  # pages of a file, or the values alone
        assert len(places[f"{name}.db"] + places.get(f"{name}.db-wal", b"")) > least
    assert sum(place.endswith(".sealed") for place in places) >= PEOPLE
    assert any(place.startswith("zj-medical-audit/") for place in places)
    assert len(ran.bundles) > 6 * PEOPLE
    assert len(ran.errors) > 40
    assert len({e.reason for e in ran.errors}) >= 10  # type: ignore[attr-defined]
    lines = [json.loads(line) for line in ran.log.getvalue().splitlines()]
    assert {line["event"] for line in lines} >= {"rpc", "lane", "step_failed", "contract_failed"}
    methods = {line.get("method", "") for line in lines}
    assert {"RegistryService/Attest", "RecordService/FindRecords"} <= methods
    assert any(line.get("reason") == "UNAUTHENTICATED" for line in lines)


def test_the_patient_and_the_grantee_do_have_it(ran: Ran) -> None:
    """It is sealed and not absent: who may open it finds every secret."""
    contents = b"".join(
        part.content
        for case in ran.cases
        for part in ran.flow.vaults[SOURCE].get(case.commitment).parts
    )
    entries = list(ran.flow.audits[SOURCE].entries())
    assert {entry.access.who for entry in entries} >= {CLINICIAN}
    fetched = b"".join(
        part.content for one in ran.fetched for part in one.parts if isinstance(part, Opened)
    )
    assert FREE.encode() in contents
    assert FREE.encode() in fetched
    assert VALUE.encode() in fetched
    people = [case.made.person for case in ran.cases]
    assert all(person.name_zh.encode() in contents for person in people)
    numbers = {case.attested.kept.patient.value for case in ran.cases}
    assert numbers == {person.number for person in people} <= set(ran.secrets)


def test_a_name_planted_by_each_way_is_found(ran: Ran, tmp_path: Path) -> None:
    """In a journal, a log, a bundle and an error: were it in one of them, the test would fail."""
    name = ran.cases[0].made.person.name_zh
    world = World(tmp_path)
    world.node("planted", contracts=[ECHO]).call("echo", "put", f"key\n\n{name}".encode())
    world.close()
    journal = files(tmp_path) | rows(tmp_path / "planted.db")
    log = ran.log.getvalue() + json.dumps({"event": "rpc", "who": name}) + "\n"
    kept = ran.cases[0].attested.kept
    planted = {
        **journal,
        "log": log.encode(),
        "error": told(Invalid(Reason.RECORD_INVALID, f"{name} is no status")),
        "hint of an error": told(Invalid(Reason.RECORD_INVALID, "wrong", hint=name)),
        "data of an error": told(Invalid(Reason.RECORD_INVALID, "wrong", patient=name)),
        "bundle": next(iter(ran.bundles.values())) + base64.b64encode(f"of {name}!".encode()),
        "original": b"".join(part.content for part in kept.parts),
        "hash without salt": hashlib.sha256(
            f"{PATIENT_SCHEME}|{kept.patient.value}".encode()
        ).digest(),
    }
    found = {leak.place for leak in search(ran.secrets, planted)}
    assert found - set(journal) == set(planted) - set(journal)
    assert "planted.db" in found or "planted.db-wal" in found


def test_a_fault_is_logged_by_its_kind_and_place_and_not_by_its_text(ran: Ran) -> None:
    lines = [json.loads(line) for line in ran.log.getvalue().splitlines()]
    faults = [line for line in lines if line["event"] in ("step_failed", "contract_failed")]
    assert {line["kind"] for line in faults} >= {"ZeroDivisionError", "ValueError", "KeyError"}
    assert all(any("failures.py" in place for place in line["places"]) for line in faults)
    assert CRASH not in ran.log.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s.encode(),
        lambda s: s.encode("utf-16-le"),
        lambda s: json.dumps({"x": s}).encode(),
        lambda s: s.encode().hex().encode(),
        lambda s: base64.b64encode(b"a" + s.encode() + b"z"),
        lambda s: base64.b64encode(b"ab" + s.encode() + b"z"),
        lambda s: base64.b64encode(s.encode()),
        lambda s: repr(s.encode()).encode(),
        lambda s: hashlib.sha256(s.encode()).digest(),
        lambda s: hashlib.md5(s.encode()).hexdigest().encode(),
        lambda s: hashlib.sha256(f"{PATIENT_SCHEME}|{s}".encode()).digest(),
    ],
)
def test_the_search_finds_what_was_planted(form: Callable[[str], bytes]) -> None:
    who = person(Random(7))
    secrets = dict.fromkeys((who.number, who.name_zh, who.name_en), (PATIENT_SCHEME,))
    assert search(secrets, {"a file": b"\x00before after\xff"}) == []
    for secret in secrets:
        planted = {"a file": b"\x00before " + form(secret) + b" after\xff"}
        assert {leak.secret for leak in search(secrets, planted)} == {secret}
