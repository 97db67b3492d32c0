"""Policy documents: read strictly, written once, in force by time; the shipped catalogue."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.contracts import policy as rules
from relay.contracts.catalogue import shipped
from relay.contracts.civil import day, day_of
from relay.contracts.payloads.decision import MAX_VERSIONS
from relay.contracts.policy import (
    Line,
    in_force,
    index,
    loaded,
    parse_document,
    policy_at,
    read,
    readers,
    snapshot,
)
from relay.contracts.policy.loaded import MAX_DOCUMENTS, MAX_NAMES
from relay.contracts.policy.values import DatedKey, key_holds
from relay.errors import Invalid, LianqiaoError, Malformed, NotFound, Reason, Refused
from tests.contracts.world import DOCTOR, GLUCOSE, LOINC, NOW, World, catalogue, policy
from tests.refusals import refusal, refusing
from tests.vectors_dir import vectors


def empty(world: World) -> World:
    world.relay.written.clear()
    return world


def not_loaded(world: World, document: dict[str, Any]) -> LianqiaoError:
    before = dict(world.relay.written)
    error = refusal(world.load, document)
    assert world.relay.written == before
    return error


# --- text


def test_every_python_takes_the_same_text() -> None:
    """What is printable grows with Unicode, and replicas run on several versions of Python: a rare
    hanzi of Unicode 15 in a name would have stopped those on an older one."""
    every = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF)
    assert not "".join(filter(str.isprintable, readers._UNSEEN.findall(every)))
    taken = "a 贵\u9fff\U00031350\U0002ebf0\U000e0100\U00011f50"
    assert readers.text({"name": taken}, "name", 10) == taken
    for bad in (
        *"\0\t\n\x7f\x85\xa0\xad\u200b\u202e\u2028\u2066\u3000\ue000\ufeff\uffff\U000e0041",
        "",
        "a" * 11,
    ):
        with refusing(Reason.MALFORMED):
            readers.text({"name": bad}, "name", 10)


# --- versions and time


def test_versions_take_effect_in_their_time() -> None:
    world = empty(World())
    for version, start in ((1, 100), (2, 200), (3, 200), (7, 300)):
        world.load(catalogue(version, start))
    lines = index(world.relay)
    assert [line.version for line in lines] == [1, 2, 3, 7]
    found = {t: [line.version for line in in_force(lines, t)] for t in (99, 100, 199, 200, 300)}
    assert found == {99: [], 100: [1], 199: [1], 200: [3], 300: [7]}
    assert policy_at(world.relay, lines, 250).versions == ("catalogue/lab@3",)


def test_loading_is_idempotent_and_a_version_is_never_changed() -> None:
    world = World()
    before = dict(world.relay.written)
    line = decode(world.load(policy()["catalogue"]))
    assert world.relay.written == before
    assert isinstance(line, dict)
    assert (line["kind"], line["name"], line["version"]) == ("catalogue", "lab", 1)
    changed = {**catalogue(), "provenance": "another"}
    error = not_loaded(world, changed)
    assert (type(error), error.reason) == (Refused, Reason.PATH_WRITTEN)
    assert "raise `version`" in error.hint


def test_the_next_version_of_a_document_speaks_of_the_same() -> None:
    world = World()
    for kind in ("accreditations", "clinicians", "rules", "conceptmap"):
        world.load({**policy()[kind], "version": 2})
        again = {**policy()[kind], "name": "another"}
        assert not_loaded(world, again).reason is Reason.CONFLICT, kind


def test_catalogues_and_assessments_may_speak_of_the_same() -> None:
    world = World()
    for kind in ("catalogue", "quality"):
        world.load({**policy()[kind], "name": "another"})


def test_a_catalogue_shares_its_name_with_nothing_that_is_none() -> None:
    world = World()
    before = policy_at(world.relay, index(world.relay), NOW).catalogues["lab"]
    world.load({**policy()["quality"], "name": "lab"})
    lines = index(world.relay)
    assert policy_at(world.relay, lines, NOW).catalogues["lab"] == before
    assert snapshot.catalogues_at(world.relay, lines, ["lab"], NOW) == [before]


def test_a_key_holds_under_its_algorithm_and_in_its_time() -> None:
    keys = (DatedKey("ed25519", b"k", 10, 20), DatedKey("p256", b"m", 10, 20))
    assert key_holds(keys, "ed25519", b"k", 10, 19)
    for algorithm, key, times in (
        ("p256", b"k", (10,)),
        ("ed25519", b"m", (10,)),
        ("ed25519", b"k", (9,)),
        ("ed25519", b"k", (20,)),
        ("ed25519", b"k", (10, 20)),
    ):
        assert not key_holds(keys, algorithm, key, *times)


def test_what_is_kept_of_policies_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_KEPT", 1)
    monkeypatch.setattr(snapshot, "_SNAPSHOTS", {})
    monkeypatch.setattr(snapshot, "_CATALOGUES", {})
    world, sizes = World(), []
    for version in range(2, 9):
        world.load(catalogue(version, NOW + version))
        lines = index(world.relay)
        first = policy_at(world.relay, lines, NOW + version)
        assert policy_at(world.relay, lines, NOW + version) is first
        [found] = snapshot.catalogues_at(world.relay, lines, ["lab"], NOW + version)
        [again] = snapshot.catalogues_at(world.relay, lines, ["lab"], NOW + version)
        assert found is again
        assert len(snapshot._SNAPSHOTS) == 1
        sizes.append(len(snapshot._CATALOGUES))
    assert sizes == [1, 2, 3, 4, 1, 2, 3]


def test_the_memo_of_parsed_documents_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(loaded, "_MEMO_SIZE", 3)
    monkeypatch.setattr(loaded, "_MEMO", {})
    sizes = []
    for line in index(world.relay):
        rules.document(world.relay, line.digest)
        sizes.append(len(loaded._MEMO))
    assert sizes == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("version", "start"), [(1, 300), (2, 300), (3, 150)], ids=["older", "same", "earlier"]
)
def test_versions_and_their_dates_ascend(version: int, start: int) -> None:
    world = empty(World())
    world.load(catalogue(2, 200))
    document = catalogue(version, start)
    reason = Reason.PATH_WRITTEN if version == 2 else Reason.CONFLICT
    assert not_loaded(world, document).reason is reason


def test_a_loaded_document_can_be_read_for_ever() -> None:
    world = World()
    world.load(catalogue(2, NOW))
    for version in (1, 2):
        raw = read(world.relay, "catalogue", "lab", version)
        assert parse_document(raw).version == version
    with pytest.raises(NotFound) as err:
        read(world.relay, "catalogue", "lab", 3)
    assert err.value.reason is Reason.POLICY_NOT_FOUND


@pytest.mark.parametrize("kind", ["accreditations", "clinicians", "rules", "conceptmap"])
def test_two_documents_do_not_speak_of_the_same(kind: str) -> None:
    world = World()
    error = not_loaded(world, {**policy()[kind], "name": "again"})
    assert (type(error), error.reason) == (Refused, Reason.CONFLICT)


@pytest.mark.parametrize("kind", ["catalogue", "quality"])
def test_catalogues_and_assessments_add_up(kind: str) -> None:
    world = World()
    world.load({**policy()[kind], "name": "again"})
    assert len(index(world.relay)) == 7


def test_a_relay_holds_a_limited_number_of_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_DOCUMENTS == 2000
    monkeypatch.setattr("relay.contracts.policy.loaded.MAX_DOCUMENTS", 6)
    error = not_loaded(World(), catalogue(2, NOW))
    assert (type(error), error.reason) == (Refused, Reason.LIMIT_EXCEEDED)


def test_no_more_documents_than_a_decision_can_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that names one more could be read by nobody, and what is loaded stays loaded."""
    assert MAX_NAMES == MAX_VERSIONS
    world = World()
    monkeypatch.setattr("relay.contracts.policy.loaded.MAX_NAMES", len(index(world.relay)) + 1)
    first = {**policy()["conceptmap"], "rows": []}
    world.load({**first, "name": "map-1"})
    error = not_loaded(world, {**first, "name": "map-2"})
    assert (type(error), error.reason) == (Refused, Reason.LIMIT_EXCEEDED)
    world.load({**first, "name": "map-1", "version": 2})
    monkeypatch.setattr("relay.contracts.payloads.decision.MAX_VERSIONS", len(index(world.relay)))
    assert len(world.decide().policy) == len(index(world.relay)) - 1


def test_the_index_names_the_document_by_its_hash() -> None:
    world = World()
    for line in index(world.relay):
        assert isinstance(line, Line)
        assert rules.document(world.relay, line.digest).label == line.label
    with pytest.raises(NotFound) as err:
        rules.document(world.relay, bytes(32))
    assert err.value.reason is Reason.POLICY_NOT_FOUND


# --- strict reading


def changed(kind: str, path: list[str | int], value: object) -> dict[str, Any]:
    document = policy()[kind]
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("catalogue", ["kind"], "list"),
        ("catalogue", ["kind"], ...),
        ("catalogue", ["name"], "Lab"),
        ("catalogue", ["version"], 0),
        ("catalogue", ["effective_from"], -1),
        ("catalogue", ["provenance"], ""),
        ("catalogue", ["provenance"], ...),
        ("catalogue", ["provenance"], 7),
        ("catalogue", ["provenance"], "a\x07"),
        ("catalogue", ["provenance"], "a" * 2001),
        ("catalogue", ["note"], "x"),
        ("catalogue", ["items", 0, "codes"], ["14749-6"]),
        ("catalogue", ["items", 0, "codes"], [1]),
        ("catalogue", ["items", 0, "codes"], ["http://a b|14749-6"]),
        ("catalogue", ["items", 0, "codes"], ["http://loinc.org|14749 6"]),
        ("catalogue", ["items", 0, "codes"], ["http://loinc.org|"]),
        ("catalogue", ["items", 0, "codes"], [GLUCOSE, GLUCOSE]),
        ("catalogue", ["items", 0, "name"], {"en": "Glucose"}),
        ("catalogue", ["items", 0, "name", "zh"], ""),
        ("catalogue", ["items", 1, "item"], "GLU"),
        ("catalogue", ["items", 0, "units"], ["mg dL"]),
        ("accreditations", ["institutions", 0, "level"], 100),
        ("accreditations", ["institutions", 0, "id"], "zj h1"),
        ("accreditations", ["institutions", 1, "id"], "zj-h1"),
        ("accreditations", ["institutions", 0, "keys", 0, "end"], 0),
        ("accreditations", ["laboratories", 0, "last"], "2024-12-31"),
        ("accreditations", ["laboratories", 0, "first"], "2025-02-29"),
        ("accreditations", ["laboratories", 0, "first"], "2025-1-1"),
        ("accreditations", ["laboratories", 0, "first"], "2025-01-01T00"),
        ("quality", ["eqa", 0, "result"], "ok"),
        ("quality", ["eqa", 0, "items"], "GLU"),
        ("clinicians", ["clinicians", 0, "name"], "李"),
        ("clinicians", ["clinicians", 1, "id"], "dr-li"),
        ("rules", ["regions", 0, "level"], "higher"),
        ("rules", ["regions", 0, "head_seconds"], 0),
        ("rules", ["regions", 0, "head_seconds"], 86_401),
        ("rules", ["regions", 0, "max_age_days"], {"inpatient": 7}),
        ("rules", ["regions", 0, "purposes"], ["FUN"]),
        (
            "rules",
            ["regions", 0, "item_max_age_days"],
            [
                {"inpatient": 1, "item": "TSH", "outpatient": 1},
                {"inpatient": 2, "item": "TSH", "outpatient": 2},
            ],
        ),
        ("rules", ["regions", 0, "iqc_required"], 0),
        ("rules", ["agreements", 0, "members"], ["310000", "310000"]),
        ("conceptmap", ["rows", 0, "equivalence"], "similar"),
        ("conceptmap", ["rows", 0, "equivalence"], ["equal"]),
        ("conceptmap", ["rows", 0, "source"], "1001"),
        ("conceptmap", ["rows", 1], {"equivalence": "equal", "source": "|1", "target": "1"}),
    ],
)
def test_refused_document(kind: str, path: list[str | int], value: object) -> None:
    error = not_loaded(empty(World()), changed(kind, path, value))
    assert isinstance(error, Malformed), error


def test_a_document_that_is_too_long() -> None:
    with pytest.raises(Malformed) as err:
        parse_document(b" " * (rules.MAX_POLICY_BYTES + 1))
    assert err.value.reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize("kind", ["accreditations", "clinicians"])
def test_weak_keys_are_refused(kind: str) -> None:
    rows = "institutions" if kind == "accreditations" else "clinicians"
    weak = {**DOCTOR.dated(), "key": "00" * 32}
    error = not_loaded(empty(World()), changed(kind, [rows, 0, "keys"], [weak]))
    assert (type(error), error.reason) == (Invalid, Reason.WEAK_KEY)


def test_a_map_is_n_to_m() -> None:
    found = policy_at(World().relay, index(World().relay), NOW).mappings
    assert [t.code for t in found["urn:zj-h1:lis|1004"]] == [GLUCOSE, f"{LOINC}|5196-1"]
    assert sum(t.code == GLUCOSE for targets in found.values() for t in targets) == 4


# --- dates


def test_civil_days_agree_with_the_calendar() -> None:
    start = date(1900, 1, 1)
    for offset in range(0, 400_000, 29):
        some = start + timedelta(days=offset)
        if some.year > 2999:
            break
        assert day_of(some.isoformat()) == (some - date(1970, 1, 1)).days
    for text in (
        "1900-02-29",
        "2100-02-29",
        "1899-12-31",
        "2025-00-10",
        "2025-13-01",
        "2025-04-31",
    ):
        with refusing(Reason.MALFORMED):
            day_of(text)
    assert day_of("2000-02-29") - day_of("2000-02-28") == 1


def test_a_day_begins_at_midnight_in_shanghai() -> None:
    midnight = 1_769_961_600  # 2026-02-02 00:00:00 +08:00
    assert day(midnight) == day_of("2026-02-02")
    assert day(midnight - 1) == day_of("2026-02-01")
    assert day(0) == 0


# --- what ships


def test_the_shipped_catalogue_loads() -> None:
    world = empty(World())
    world.relay.call("policy.load", shipped())
    parsed = parse_document(shipped())
    assert len(parsed.items) == 48
    assert len({item.item for item in parsed.items}) == 48
    assert parsed.effective_from == 1_736_265_600  # 2025-01-08 00:00 +08:00
    provenance = decode(shipped())["provenance"]  # type: ignore[index,call-overload]
    assert "notice" in provenance
    assert "Illustrative for every other region" in provenance
    for item in parsed.items:
        assert item.specimens
        assert len(item.units) != 1 or item.item in {"HBA1C", "HCY"}
        for code in item.codes:
            assert _check_digit(code.removeprefix(f"{LOINC}|")), code
    codes = [code for item in parsed.items for code in item.codes]
    assert len(set(codes)) == len(codes)


def _check_digit(loinc: str) -> bool:
    """LOINC's check digit is Luhn's over the digits before the hyphen."""
    digits, _, check = loinc.partition("-")
    doubled = [int(d) * (2 if i % 2 == 0 else 1) for i, d in enumerate(reversed(digits))]
    total = sum(d - 9 if d > 9 else d for d in doubled)
    return (10 - total % 10) % 10 == int(check)


def test_the_shipped_catalogue_names_the_items_of_the_notice() -> None:
    with vectors("health", "catalogue", "hr_jingjinjilu_2023_24.csv").open(
        encoding="utf-8"
    ) as file:
        rows = list(csv.DictReader(file))
    ours = {item.name_zh: item for item in parse_document(shipped()).items}
    assert {row["name_zh"] for row in rows} == set(ours)
    for row in rows:
        code = f"{LOINC}|{row['loinc_candidate_unverified']}"
        assert code in ours[row["name_zh"]].codes


def test_documents_round_trip_in_any_layout() -> None:
    for document in policy().values():
        assert parse_document(encode(document)).name == document["name"]
