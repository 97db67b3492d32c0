"""The door: what is taken, in which bytes; what is refused, and with which reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Invalid, LianqiaoError, Malformed, Reason
from relay.record import door
from relay.record.bindings import BINDINGS
from relay.record.door import Source, record, records, take
from relay.record.extract import HR_MARK
from relay.record.facts import Coding, Identifier, Record
from tests.record.samples import (
    PATIENT_ID,
    PATIENT_URL,
    SECRETS,
    bundle,
    observation,
    panel,
    patient,
    report,
    url,
)
from tests.refusals import refused

RESIDENT = Identifier("urn:oid:2.16.156.10011.1.3", PATIENT_ID)


def not_taken(*resources: dict[str, Any]) -> LianqiaoError:
    return refused(Reason.RECORD_INVALID, records, [Source("in.json", bundle(*resources))])


def line(resource: dict[str, Any]) -> bytes:
    return json.dumps(resource, ensure_ascii=False).encode()


def test_a_bundle_gives_exact_substrings() -> None:
    data = panel(2)
    found = record(data, "in.json")
    assert [p.resource_type for p in found.parts] == [
        "DiagnosticReport",
        "Observation",
        "Observation",
    ]
    for part in found.parts:
        assert data.count(part.content) == 1
        assert part.content.startswith(b"{")
        assert part.content.endswith(b"}")
    assert b"4.10" in found.parts[1].content
    assert [p.where for p in found.parts] == [
        "in.json: entry[1]",
        "in.json: entry[2]",
        "in.json: entry[3]",
    ]


def test_what_is_read_of_an_item() -> None:
    found = record(panel(1), "in.json")
    (item,) = found.items
    assert item.part == 1
    assert item.observation
    assert item.codes == (Coding("http://loinc.org", "2823-3"),)
    assert (item.status, item.unit, item.value_type) == ("final", "mmol/L", "Quantity")
    assert (item.examined, item.issued) == (1790812800, 1790812800 + 7200)
    assert item.reference_range
    assert item.mark is None
    assert found.status == "final"
    assert found.patient == (RESIDENT, Identifier("urn:mrn", "MRN-77"))


def test_schemes_choose_the_patient_identifier() -> None:
    assert record(panel(), "f", ["urn:mrn"]).patient[0].scheme == "urn:mrn"


def test_a_single_file_is_taken_whole() -> None:
    alone = report(
        0,
        result=None,
        subject={"identifier": {"system": "urn:mrn", "value": "7"}},
    )
    data = b" " + line(alone) + b"\n\n"
    found = record(data, "one.json")
    assert [p.content for p in found.parts] == [data]
    (item,) = found.items
    assert not item.observation
    assert item.part == 0
    assert found.patient == (Identifier("urn:mrn", "7"),)


def _by_name(*resources: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for resource in resources:
        text = json.dumps(resource)
        for identity, kind in (("p1", "Patient"), ("o1", "Observation"), ("o2", "Observation")):
            text = text.replace(url(identity), f"{kind}/{identity}")
        found.append(json.loads(text))
    return found


def test_ndjson_lines_are_parts_without_their_line_ends() -> None:
    lines = [line(r) for r in _by_name(patient(), report(1), observation(1))]
    data = b"\n" + lines[0] + b"\r\n" + lines[1] + b"\n\n" + lines[2]
    found = record(b"\n".join(lines) + b"\n", "in.ndjson")
    assert [p.content for p in found.parts] == lines[1:]
    assert [p.where for p in found.parts] == ["in.ndjson: line 2", "in.ndjson: line 3"]
    assert [p.content for p in record(data[1:], "in.ndjson").parts] == lines[1:]


def test_bulk_files_of_one_type_each_belong_together() -> None:
    first, second, third = _by_name(patient(), report(1), observation(1))
    intake = take(
        [
            Source("Patient.ndjson", line(first) + b"\n"),
            Source("Report.ndjson", line(second)),
            Source("Observation.ndjson", line(third)),
        ]
    )
    assert len(intake.records) == 1
    assert intake.refused == ()


def test_bundles_share_nothing() -> None:
    intake = take(
        [
            Source("a.json", bundle(patient(), report(1))),
            Source("b.json", bundle(observation(1))),
        ]
    )
    assert intake.records == ()
    assert [r.error.reason for r in intake.refused] == [Reason.RECORD_INVALID] * 2


def test_each_line_may_be_a_bundle() -> None:
    one = json.dumps(json.loads(panel(1))).encode()
    intake = take([Source("in.ndjson", one + b"\n" + one + b"\n")])
    assert len(intake.records) == 2
    assert intake.records[0].where == "in.ndjson: line 1: entry[1]"


def test_a_broken_line_is_told_and_a_broken_file_stops_no_other() -> None:
    intake = take([Source("a", line(patient()) + b"\n{]\n"), Source("b", panel())])
    assert len(intake.records) == 1
    (refused,) = intake.refused
    assert refused.error.reason == Reason.MALFORMED
    assert refused.error.hint.startswith("a: line 2")


def test_references_by_full_url_base() -> None:
    base = "https://hospital.example/fhir/"
    value = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [
            {"fullUrl": f"{base}{r['resourceType']}/{r['id']}", "resource": r}
            for r in _by_name(patient(), report(1), observation(1))
        ]
        + [
            # The same name at another server: the base of the report's fullUrl decides.
            {
                "fullUrl": "https://other.example/fhir/Observation/o1",
                "resource": _by_name(observation(1, status="preliminary"))[0],
            }
        ],
    }
    found = record(json.dumps(value).encode(), "f")
    assert found.items[0].status == "final"
    value["entry"][1]["resource"]["result"] = [
        {"reference": "https://other.example/fhir/Observation/o1"}
    ]
    assert record(json.dumps(value).encode(), "f").items[0].status == "preliminary"


def test_versions_of_references() -> None:
    versioned = observation(1, meta={"versionId": "2"})
    named = report(1, result=[{"reference": "Observation/o1/_history/2"}])
    assert len(records([Source("f", bundle(patient(), named, versioned))])) == 1
    named = report(1, result=[{"reference": "Observation/o1/_history/3"}])
    not_taken(patient(), named, versioned)


def test_contained_resources_resolve_in_their_part() -> None:
    inner = observation(1, id="in", subject=None)
    whole = report(1, contained=[inner], result=[{"reference": "#in"}])
    found = record(bundle(patient(), whole), "f")
    assert [p.resource_type for p in found.parts] == ["DiagnosticReport"]
    assert [(i.part, i.observation) for i in found.items] == [(0, True)]


def test_parts_stand_in_order_of_reference_and_once() -> None:
    specimen = {"resourceType": "Specimen", "id": "s1", "type": {"coding": [{"code": "SER"}]}}
    lab = {"resourceType": "Organization", "id": "l1", "name": "Lab"}
    first = observation(1, specimen={"reference": url("s1")}, performer=[{"reference": url("l1")}])
    second = observation(2, specimen={"reference": url("s1")})
    named = report(2, result=[{"reference": url("o2")}, {"reference": url("o1")}])
    found = record(bundle(lab, specimen, first, second, patient(), named), "f")
    assert [p.resource_type for p in found.parts] == [
        "DiagnosticReport",
        "Observation",
        "Observation",
        "Specimen",
        "Organization",
    ]
    assert b'"o2"' in found.parts[1].content
    assert [c.code for c in found.items[0].specimens] == ["SER"]


def test_the_patient_is_never_a_part() -> None:
    found = record(panel(), "f")
    own = report(1, performer=None)
    self_made = observation(1, performer=[{"reference": PATIENT_URL}])
    for made in (found, record(bundle(patient(), own, self_made), "f")):
        assert all(p.resource_type != "Patient" for p in made.parts)


def test_a_panel_of_members_gives_its_leaves() -> None:
    group = observation(
        9,
        valueQuantity=None,
        hasMember=[{"reference": url("o1")}, {"reference": url("o2")}],
    )
    named = report(0, result=[{"reference": url("o9")}])
    found = record(bundle(patient(), named, group, observation(1), observation(2)), "f")
    assert [i.part for i in found.items] == [2, 3]


def test_members_in_a_circle_end() -> None:
    a = observation(1, hasMember=[{"reference": url("o2")}])
    b = observation(2, hasMember=[{"reference": url("o1")}, {"reference": url("o2")}])
    assert len(record(bundle(patient(), report(1), a, b), "f").parts) == 3


def test_the_report_lends_what_a_result_lacks() -> None:
    specimens = [
        {"resourceType": "Specimen", "id": f"s{n}", "type": {"coding": [{"code": code}]}}
        for n, code in ((1, "SER"), (2, "UR"))
    ]
    lab = {
        "resourceType": "Organization",
        "id": "l1",
        "identifier": [{"system": "urn:lab", "value": "lab-1"}],
    }
    bare = observation(1, category=None, issued=None, effectiveDateTime=None)
    named = report(
        1,
        specimen=[{"reference": url("s1")}],
        performer=[
            {"reference": url("l1")},
            {"type": "Practitioner", "identifier": {"system": "urn:doctor", "value": "d-1"}},
        ],
    )
    (item,) = record(bundle(patient(), named, bare, lab, *specimens), "f").items
    assert [c.code for c in item.specimens] == ["SER"]
    assert [c.code for c in item.categories] == ["LAB"]
    assert item.laboratories == (Identifier("urn:lab", "lab-1"),)
    assert item.authors == (Identifier("urn:doctor", "d-1"),)
    assert (item.examined, item.issued) == (1790812800, 1790812800 + 3 * 3600)
    # With two specimens the report does not say which.
    named["specimen"].append({"reference": url("s2")})
    assert record(bundle(patient(), named, bare, lab, *specimens), "f").items[0].specimens == ()


def test_official_identifiers_come_first_and_old_ones_not_at_all() -> None:
    who = patient()
    who["identifier"] = [
        {"system": "urn:a", "value": "1", "use": "old"},
        {"system": "urn:b", "value": "2"},
        {"system": "urn:c", "value": "3", "use": "official"},
        {"value": "4"},
    ]
    found = record(bundle(who, report(1), observation(1)), "f").patient
    assert [i.value for i in found] == ["3", "2"]


# --- refusals, each with its reason


def test_dangling_content_is_refused() -> None:
    error = not_taken(patient(), report(2), observation(1))
    assert error.data["field"] == "DiagnosticReport.result"
    assert "in.json: entry[1]" in error.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("result", [{"reference": "#nothing"}]),
        ("result", [{"reference": "Observation/none"}]),
        ("result", [{"reference": "https://x.example/Observation/1"}]),
        ("result", [{"display": "only a word"}]),
        ("specimen", [{"reference": "Specimen/none"}]),
        ("imagingStudy", [{"reference": "ImagingStudy/none"}]),
        ("media", [{"link": {"reference": "Media/none"}}]),
        ("performer", [{"reference": "urn:uuid:00000000-0000-4000-8000-00000000dead"}]),
        ("performer", [{"reference": "#nobody"}]),
    ],
)
def test_references_that_must_resolve(field: str, value: list[Any]) -> None:
    error = not_taken(patient(), report(1, **{field: value}), observation(1))
    assert error.data["field"] == f"DiagnosticReport.{field}"


def test_references_that_may_lead_out() -> None:
    named = report(
        1,
        encounter={"reference": "Encounter/9"},
        basedOn=[{"reference": "ServiceRequest/9"}],
        performer=[{"reference": "Organization/9"}, {"display": "a lab"}],
    )
    assert len(record(bundle(patient(), named, observation(1)), "f").parts) == 2


def test_a_reference_to_another_type_is_refused() -> None:
    error = not_taken(patient(), report(0, result=[{"reference": PATIENT_URL}]))
    assert "another type" in error.detail


def test_two_resources_of_one_name_are_refused() -> None:
    error = not_taken(patient(), report(1), observation(1), observation(1, status="amended"))
    assert "several" in error.detail


@pytest.mark.parametrize("kind", ["DiagnosticReport", "Observation"])
def test_a_status_outside_its_value_set_is_refused(kind: str) -> None:
    resources = [patient(), report(1), observation(1)]
    for resource in resources:
        if resource["resourceType"] == kind:
            resource["status"] = "bogus"
    error = not_taken(*resources)
    assert error.data["field"] == f"{kind}.status"


@pytest.mark.parametrize("status", sorted(BINDINGS["DiagnosticReport"]["status"]))
def test_every_status_of_the_value_set_is_taken(status: str) -> None:
    found = record(bundle(patient(), report(1, status=status), observation(1)), "f")
    assert found.status == status
    # A result is no better than its report; a usable report leaves the result its own state.
    usable = status in ("final", "amended", "corrected", "appended")
    assert found.items[0].status == ("final" if usable else status)


def test_bindings_inside_arrays_and_contained_resources() -> None:
    odd = observation(1, valueQuantity={"value": 1, "comparator": "~"})
    assert (
        not_taken(patient(), report(1), odd).data["field"] == "Observation.valueQuantity.comparator"
    )
    specimen = {"resourceType": "Specimen", "id": "s", "status": "bogus"}
    holder = observation(1, contained=[specimen], specimen={"reference": "#s"})
    assert not_taken(patient(), report(1), holder).data["field"] == "Specimen.status"


def test_bundle_type_must_be_one() -> None:
    for changes in ({"type": "bogus"}, {"type": 5}):
        with pytest.raises(Invalid) as err:
            records([Source("f", bundle(patient(), report(0), **changes))])
        assert err.value.data["field"] == "Bundle.type"
    with pytest.raises(Invalid) as err:
        records([Source("f", b'{"resourceType":"Bundle","entry":[]}')])
    assert err.value.reason == Reason.RECORD_INVALID


@pytest.mark.parametrize(
    "changes",
    [
        {"code": None},
        {"unknownElement": 1},
        {"effectiveDateTime": "2026-13-40"},
        {"effectiveDateTime": "2026-10-01T08:00:00"},
        {"valueString": "two values"},
        {"issued": "2026-10-01"},
        {"referenceRange": []},
    ],
)
def test_structure_is_checked(changes: dict[str, Any]) -> None:
    error = not_taken(patient(), report(1), observation(1, **changes))
    assert "entry[2]" in error.hint


def test_a_patient_without_identifier_is_refused() -> None:
    nameless = {"resourceType": "Patient", "id": "p1"}
    for first, changes in (
        (nameless, {}),
        ({**nameless, "identifier": [{"value": "no system"}]}, {}),
        (patient(), {"subject": None}),
        (patient(), {"subject": {"reference": "Patient/elsewhere"}}),
    ):
        error = not_taken(first, report(0, result=None, **changes))
        assert error.data["field"] == "DiagnosticReport.subject"


def test_parts_about_two_people_are_refused() -> None:
    other = {**patient(), "id": "p2", "identifier": [{"system": "urn:mrn", "value": "2"}]}
    stray = observation(1, subject={"reference": url("p2")})
    error = not_taken(patient(), other, report(1), stray)
    assert "another patient" in error.detail
    stray = observation(1, subject={"identifier": {"system": "urn:mrn", "value": "2"}})
    mine = report(1, subject={"identifier": {"system": "urn:mrn", "value": "1"}})
    assert "another patient" in not_taken(mine, stray).detail


@pytest.mark.parametrize(
    "changes",
    [
        {"extension": []},
        {"extension": [{"url": "label", "valueString": "HR"}]},
        {"extension": [{"url": "region", "valueCode": "330000"}]},
        {
            "extension": [
                {"url": "label", "valueString": "HR"},
                {"url": "region", "valueCode": "33 0000"},
            ]
        },
    ],
)
def test_half_a_mark_is_refused(changes: dict[str, Any]) -> None:
    if not changes["extension"]:
        marks = [
            {
                "url": HR_MARK,
                "extension": [
                    {"url": "label", "valueString": "HR"},
                    {"url": "region", "valueCode": "33"},
                ],
            }
        ] * 2
    else:
        marks = [{"url": HR_MARK, **changes}]
    error = not_taken(patient(), report(1), observation(1, extension=marks))
    assert "HR mark" in error.detail


def test_a_mark_is_a_set_of_regions_and_the_report_lends_it() -> None:
    def mark(*regions: str) -> dict[str, Any]:
        return {
            "url": HR_MARK,
            "extension": [{"url": "label", "valueString": "长三角HR"}]
            + [{"url": "region", "valueCode": r} for r in regions],
        }

    named = report(2, extension=[mark("330000", "310000", "330000")])
    own = observation(2, extension=[mark("CN")])
    found = record(bundle(patient(), named, observation(1), own), "f")
    assert [i.mark.regions for i in found.items if i.mark] == [("310000", "330000"), ("CN",)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"[]", Reason.MALFORMED),
        (b'"x"', Reason.MALFORMED),
        (b"{}", Reason.RECORD_INVALID),
        (b'{"resourceType":7}', Reason.RECORD_INVALID),
        (b'{"resourceType":"Patient"}', Reason.RECORD_INVALID),
        (b'{"resourceType":"Bundle","type":"collection","entry":{}}', Reason.MALFORMED),
        (b'{"resourceType":"Bundle","type":"collection","entry":[1]}', Reason.MALFORMED),
        (
            b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":1}]}',
            Reason.MALFORMED,
        ),
        (
            b'{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":1}]}',
            Reason.MALFORMED,
        ),
        (b'{"resourceType":"Bundle","type":"collection","entry":[]} ,', Reason.MALFORMED),
        (b'{"resourceType":"Bundle","type":"collection","type":"batch"}', Reason.MALFORMED),
        (
            b'{"resourceType":"Bundle","type":"collection",'
            b'"entry":[{"resource":{},"resource":{}}]}',
            Reason.MALFORMED,
        ),
        (
            b'{"resourceType":"Bundle","type":"collection","entry":['
            b'{"resource":{"resourceType":"DiagnosticReport","id":"1","id":"2"}}]}',
            Reason.MALFORMED,
        ),
    ],
)
def test_sources_that_are_refused(data: bytes, reason: Reason) -> None:
    with pytest.raises(LianqiaoError) as err:
        records([Source("in.json", data)])
    assert err.value.reason == reason
    assert err.value.hint.startswith("in.json")


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("MAX_SOURCE_BYTES", 100),
        ("MAX_PART_BYTES", 100),
        ("MAX_RECORD_BYTES", 100),
        ("MAX_PARTS", 2),
        ("MAX_RESOURCES", 2),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(door, name, value)
            with pytest.raises(Malformed) as err:
                records([Source("f", panel(2))])
        assert err.value.reason == Reason.LIMIT_EXCEEDED, name


def test_the_lines_of_a_source_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_RESOURCES", 2)
    with pytest.raises(Malformed) as err:
        records([Source("f", (line(patient()) + b"\n") * 3)])
    assert err.value.reason == Reason.LIMIT_EXCEEDED


def test_one_record_is_one() -> None:
    one = json.dumps(json.loads(panel(1))).encode()
    with pytest.raises(Invalid) as err:
        record(one + b"\n" + one, "f")
    assert err.value.reason == Reason.RECORD_INVALID


# --- no patient data leaves by an error


def _spoil(data: bytes) -> list[bytes]:
    text = data.decode()
    secret, plain = SECRETS[:2]
    contained = f'"contained": [{{"resourceType": "{plain}"}}], "subject"'
    return [
        text.replace('"valueQuantity"', f'"{plain}"').encode(),
        text.replace('"subject"', contained).encode(),
        data[:-20],
        text.replace('"final"', f'"{secret}"').encode(),
        text.replace('"female"', f'"{secret}"').encode(),
        text.replace('"1990-01-01"', f'"{secret}"').encode(),
        text.replace('"mmol/L"', f'{{"{secret}": 1}}').encode(),
        text.replace('"gender"', f'"{secret}"').encode(),
        text.replace('"valueQuantity"', f'"{secret}"').encode(),
        text.replace('"Observation"', f'"{secret}"').encode(),
        text.replace('"Patient"', f'"{secret}"').encode(),
        text.replace('"id": "p1"', f'"{secret}": 1, "{secret}": 2').encode(),
        text.replace('"2026-10-01T08:00:00+08:00"', f'"{secret}"').encode(),
        text.replace('"2026-10-01T10:00:00+08:00"', f'"{secret}"').encode(),
        text.replace(f'"reference": "{PATIENT_URL}"', f'"reference": "#{secret}"').encode(),
        text.replace(f'"reference": "{url("o1")}"', f'"reference": "{secret}"').encode(),
        text.replace(f'"value": "{PATIENT_ID}"', f'"value": ["{PATIENT_ID}"]').encode(),
        text.replace(f'"{secret} ok"', f'"{secret}').encode(),
        text.replace("4.10,", f"{secret},").encode(),
    ]


def test_no_patient_data_in_errors() -> None:
    refused = 0
    for data in _spoil(panel(2)):
        for found in take([Source("in.json", data)]).refused:
            error: BaseException | None = found.error
            while error is not None:
                shown = f"{error} {error!r} {vars(error)} {error.args}"
                assert not any(secret in shown for secret in SECRETS), shown
                error = error.__cause__ or error.__context__
            refused += 1
    assert refused >= 16


# --- any bytes


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    for found in take([Source("f", data)]).refused:
        assert found.error.reason in (
            Reason.MALFORMED,
            Reason.LIMIT_EXCEEDED,
            Reason.RECORD_INVALID,
        )


@settings(max_examples=300)
@given(st.data())
def test_a_changed_bundle_is_taken_or_refused(data: st.DataObject) -> None:
    original = bytearray(panel(2))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(original) - 1))
        end = at + data.draw(st.integers(0, 20))
        original[at:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"{", b"[", b'"', b"null"])
        )
    _total(take([Source("f", bytes(original))]))


_JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["coding", "reference", "value", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.data())
def test_any_value_in_any_element_is_taken_or_refused(data: st.DataObject) -> None:
    resources = [patient(), report(2), observation(1), observation(2)]
    resource = data.draw(st.sampled_from(resources))
    field = data.draw(
        st.sampled_from([*resource, "extension", "hasMember", "specimen", "contained"])
    )
    if field != "id":
        resource[field] = data.draw(_JSONISH)
    _total(take([Source("f", bundle(*resources))]))


def _total(intake: door.Intake) -> None:
    for found in intake.refused:
        assert found.error.reason in (
            Reason.MALFORMED,
            Reason.LIMIT_EXCEEDED,
            Reason.RECORD_INVALID,
        )
    for made in intake.records:
        assert isinstance(made, Record)
        assert made.patient
        assert made.items
