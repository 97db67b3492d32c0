"""Laboratory records for the demonstration: seeded, valid FHIR R4, some of them not eligible.

`generate` gives Bundles (DiagnosticReport, Observations, Specimen, Patient, Organization,
Practitioner) of the hospitals of relay.demo.hospitals. A share of them is spoiled, in turn by every
case of relay.demo.cases, so that each reason of the recognition contract has its record. What is to
be expected stands in `Generated` beside the bytes and never in them: it is the oracle of the tests
and of the demonstration's last line. It holds for a request by the first receiver in Shanghai, of
all items of the record, for an outpatient's treatment, with a consent over `consent_scope`, under
`policy_documents`, within a day of `now`.

People are invented, every resource is tagged as test data, values are decimal text, and the same
seed, time and catalogue give the same bytes. Time, seed and catalogue are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from relay.contracts.codes import Code
from relay.demo.analytes import ANALYTES
from relay.demo.bundles import bundle
from relay.demo.cases import CASES, Line, Plan
from relay.demo.hospitals import AGREEMENT, DAY, SOURCES, Hospital, policy_documents
from relay.demo.people import PATIENT_SCHEME, Person, person

__all__ = ["PATIENT_SCHEME", "Expected", "Generated", "generate", "policy_documents"]

_ORDER = {code.value: place for place, code in enumerate(Code)}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request for one part must be answered."""

    part: int
    name_en: str
    name_zh: str
    recognised: bool
    findings: tuple[str, ...]
    """Reasons (`CODE` or `CODE/DETAIL`) in their order where refused, else flags."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One record and what is to be expected of it."""

    name: str
    """File name: a number and the case; it tells nothing of the patient."""
    data: bytes
    """The Bundle."""
    hospital: Hospital
    case: str
    """Name in relay.demo.cases, or `good`."""
    person: Person
    consent_scope: tuple[str, ...]
    """`system|code` of what the patient's consent covers, ascending."""
    then: str
    """`amend` or `retract`: what its hospital does before the request; else empty."""
    amendment: bytes
    """With `amend`, the corrected Bundle."""
    expected: tuple[Expected, ...]


def generate(
    catalogue: Mapping[str, Any], *, seed: int, now: int, count: int, share: float = 0.4
) -> list[Generated]:
    """`count` records before `now` (seconds), of which about `share` (0 to 1) are spoiled.

    `catalogue` is a policy document of that kind as JSON; of its items those are used that
    relay.demo.analytes knows. Cases are dealt in a seeded order, each once before any comes again:
    with the default share, 73 records show all 29.
    """
    maker = _Maker(catalogue, Random(seed), now)  # noqa: S311 (nothing secret is drawn)
    return [maker.record(number, share) for number in range(count)]


class _Maker:
    def __init__(self, catalogue: Mapping[str, Any], random: Random, now: int) -> None:
        self.random = random
        self.now = now
        self.items = {i["item"]: i for i in catalogue["items"] if i["item"] in ANALYTES}
        self.panels: dict[str, list[str]] = {}
        for item in self.items:
            self.panels.setdefault(ANALYTES[item].panel, []).append(item)
        self.deck: list[str] = []

    def record(self, number: int, share: float) -> Generated:
        """The next record."""
        spoil = int((number + 1) * share) > int(number * share)
        case = self._deal() if spoil else "good"
        who = person(self.random)
        plan = self._plan()
        if spoil:
            CASES[case].spoil(plan)
        amended = b""
        data = bundle(plan, who, number)
        if plan.then == "amend":
            plan.status = "amended"
            amended = bundle(plan, who, number, version=2)
        return Generated(
            name=f"{number:05d}-{case}.json",
            data=data,
            hospital=plan.hospital,
            case=case,
            person=who,
            consent_scope=tuple(
                sorted({f"{line.system}|{line.code}" for line in plan.lines if line.consented})
            ),
            then=plan.then,
            amendment=amended,
            expected=tuple(
                _expected(0 if plan.imaging else part, line)
                for part, line in enumerate(plan.lines, 1)
            ),
        )

    def _deal(self) -> str:
        if not self.deck:
            self.deck = list(CASES)
            self.random.shuffle(self.deck)
        return self.deck.pop()

    def _plan(self) -> Plan:
        """A good record of one panel."""
        random = self.random
        hospital = random.choice([h for h in SOURCES if h.accredited and h.level > 1])
        panel = random.choice(list(self.panels))
        issued = self.now - random.randrange(5 * DAY, 20 * DAY)
        return Plan(
            random=random,
            now=self.now,
            hospital=hospital,
            laboratory=hospital.laboratory,
            author=hospital.doctor,
            panel=panel,
            status=random.choice(["final", "final", "final", "corrected", "amended"]),
            issued=issued,
            examined=issued - random.randrange(1800, 4 * 3600),
            label="长三角HR",
            regions=[AGREEMENT],
            lines=[self._line(item) for item in self.panels[panel]],
            make_line=self._line,
        )

    def _line(self, item: str) -> Line:
        """A result of one catalogue item, as it should be."""
        entry, analyte = self.items[item], ANALYTES[item]
        system, _, code = entry["codes"][0].partition("|")
        return Line(
            item=item,
            system=system,
            code=code,
            name_en=entry["name"]["en"],
            name_zh=entry["name"]["zh"],
            specimen=entry["specimens"][0],
            method=entry["methods"][0] if entry["methods"] else "",
            unit=analyte.unit,
            low=analyte.low,
            high=analyte.high,
            value=_value(self.random, analyte.low, analyte.high),
        )


def _expected(part: int, line: Line) -> Expected:
    reasons = sorted(set(line.reasons), key=lambda r: _ORDER[r.partition("/")[0]])
    flags = ("CONSENT_ASSERTED", *line.flags)
    return Expected(part, line.name_en, line.name_zh, not reasons, tuple(reasons) or flags)


def _value(random: Random, low: str, high: str) -> str:
    """A value in or near a range, with its decimals; nothing where there is no range."""
    if not high:
        return ""
    decimals = len(high.partition(".")[2])
    bottom, top = (int(text.replace(".", "") or 0) for text in (low, high))
    margin = (top - bottom) // 4
    return decimal(random.randint(max(1, bottom - margin), top + margin), decimals)


def decimal(units: int, decimals: int) -> str:
    """`units` of the last decimal as text: decimal(410, 2) is 4.10."""
    digits = str(units).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
