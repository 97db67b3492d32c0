"""How a good record is spoiled, one case for each reason of the recognition contract.

A case changes the plan of a record and notes, on each result it concerns, what the contract must
answer. Where the reason can stand on one result alone, the others stay good: recognition is decided
item by item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from relay.demo.hospitals import (
    CLOSED,
    DAY,
    FAILED,
    LATER_DAYS,
    LATER_FAILED,
    LOCAL_SYSTEM,
    MAX_AGE_DAYS,
    SOURCES,
    UNCONTROLLED,
    Hospital,
    laboratories,
)


@dataclass(slots=True)
class Line:
    """One result as it will be written."""

    item: str
    """The catalogue's item id."""
    system: str
    code: str
    name_en: str
    name_zh: str
    specimen: str
    method: str
    unit: str
    low: str
    high: str
    value: str
    status: str = "final"
    category: str = "laboratory"
    ranged: bool = True
    consented: bool = True
    """Whether the patient's consent covers it."""
    reasons: list[str] = field(default_factory=list)
    """Why it must be refused."""
    flags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """One record before it is written."""

    random: Random
    now: int
    hospital: Hospital
    laboratory: str
    author: str
    panel: str
    status: str
    issued: int
    examined: int
    """Seconds; 0: not stated."""
    label: str
    regions: list[str]
    """HR scope; empty: no mark."""
    lines: list[Line]
    make_line: Callable[[str], Line]
    """A good result of a catalogue item."""
    imaging: bool = False
    """A report without results: its conclusion is all it holds."""
    then: str = ""

    def refuse(self, *reasons: str) -> None:
        """Notes reasons on every result."""
        for line in self.lines:
            line.reasons += reasons

    def one(self, *reasons: str) -> Line:
        """A result by lot, with reasons noted on it."""
        line = self.random.choice(self.lines)
        line.reasons += reasons
        return line

    def only(self, panel: str, *items: str) -> list[Line]:
        """Makes it a report of these items."""
        self.panel = panel
        self.lines = [self.make_line(item) for item in items]
        return self.lines

    def made_at(self, word: str) -> None:
        """Moves it to the laboratory of its hospital with which that is wrong."""
        self.laboratory = laboratories(self.hospital)[word]

    def issued_days_ago(self, days: int) -> None:
        """Moves it in time."""
        self.issued = self.now - days * DAY
        self.examined = self.issued - 3600


@dataclass(frozen=True, slots=True)
class Case:
    """A way to spoil a record; `flag` where it stays eligible."""

    code: str
    """The finding that it is about."""
    spoil: Callable[[Plan], None]
    flag: bool = False


def _preliminary(plan: Plan) -> None:
    plan.status = plan.random.choice(["preliminary", "partial", "registered"])
    plan.refuse("STATUS")


def _entered_in_error(plan: Plan) -> None:
    plan.one("STATUS").status = "entered-in-error"


def _imaging(plan: Plan) -> None:
    line = plan.lines[0]
    line.system, line.code = LOCAL_SYSTEM, "CT-CHEST"
    line.name_en, line.name_zh = "CT of the chest, conclusion", "胸部CT诊断结论"
    plan.lines = [line]
    plan.imaging = True
    plan.refuse("TYPE/CONCLUSION", "CATALOGUE/NOT_LISTED")


def _category(plan: Plan) -> None:
    plan.one("TYPE/CATEGORY").category = "vital-signs"


def _not_listed(plan: Plan) -> None:
    line = plan.one("CATALOGUE/NOT_LISTED")
    line.system, line.code = LOCAL_SYSTEM, "RESEARCH-7"
    line.name_en, line.name_zh = "Research assay 7", "科研项目7"


def _specimen(plan: Plan) -> None:
    plan.one("CATALOGUE/SPECIMEN").specimen = "UR"


def _method(plan: Plan) -> None:
    (line,) = plan.only("DIABETES", "HBA1C")
    line.method = "POCT"
    line.reasons.append("CATALOGUE/METHOD")


def _local(panel: str, item: str, code: str) -> Callable[[Plan], Line]:
    def change(plan: Plan) -> Line:
        (line,) = plan.only(panel, item)
        line.system, line.code = LOCAL_SYSTEM, code
        return line

    return change


_local_exact = _local("KIDNEY", "GLU", "GLU-FAST")
_local_wider = _local("LIPIDS", "TC", "TC-DIRECT")
_local_inexact = _local("LIVER", "ALT", "ALT-POCT")
_local_ambiguous = _local("THYROID", "T3", "T-HORMONE")


def _exact(plan: Plan) -> None:
    _local_exact(plan)


def _wider(plan: Plan) -> None:
    _local_wider(plan).flags.append("MAP_WIDER")


def _inexact(plan: Plan) -> None:
    _local_inexact(plan).reasons.append("CATALOGUE/MAPPING")


def _ambiguous(plan: Plan) -> None:
    _local_ambiguous(plan).reasons.append("CATALOGUE/AMBIGUOUS")


def _no_mark(plan: Plan) -> None:
    plan.regions = []
    plan.refuse("MARK/NO_MARK")


def _other_region(plan: Plan) -> None:
    plan.label, plan.regions = "京津冀HR", ["110000", "120000", "130000"]
    plan.refuse("MARK/REGION")


def _other_city(plan: Plan) -> None:
    plan.label, plan.regions = "杭州市HR", ["330100"]
    plan.refuse("MARK/CITY")


def _moved(plan: Plan, hospital: Hospital) -> None:
    plan.hospital = hospital
    plan.laboratory, plan.author = hospital.laboratory, hospital.doctor


def _level(plan: Plan) -> None:
    _moved(plan, next(h for h in SOURCES if h.accredited and h.level == 1))
    plan.refuse("LEVEL")


def _eqa(plan: Plan) -> None:
    plan.made_at(FAILED)
    plan.refuse("QC/EQA")


def _iqc(plan: Plan) -> None:
    plan.made_at(UNCONTROLLED)
    plan.refuse("QC/IQC")


def _later_fail(plan: Plan) -> None:
    plan.made_at(LATER_FAILED)
    plan.issued_days_ago(LATER_DAYS + 5)
    for line in plan.lines:
        line.flags.append("QC_LATER_FAIL")


def _too_old(plan: Plan) -> None:
    plan.issued_days_ago(MAX_AGE_DAYS + 30)
    plan.refuse("AGE/TOO_OLD")


def _future(plan: Plan) -> None:
    plan.examined = plan.issued + 3600
    plan.refuse("AGE/FUTURE")


def _no_time(plan: Plan) -> None:
    plan.examined = 0
    plan.refuse("AGE/TIME_MISSING")


def _author(plan: Plan) -> None:
    plan.author = plan.hospital.former_doctor
    plan.refuse("PERSON/AUTHOR")


def _laboratory(plan: Plan) -> None:
    plan.made_at(CLOSED)
    plan.refuse("PERSON/LABORATORY")


def _unit(plan: Plan) -> None:
    measured = [line for line in plan.lines if line.unit] or plan.only("ELECTROLYTES", "K", "NA")
    line = plan.random.choice(measured)
    line.unit = "[lb_av]"
    line.reasons.append("UNIT/NOT_CONVERTIBLE")


def _no_range(plan: Plan) -> None:
    measured = [line for line in plan.lines if line.unit] or plan.only("ELECTROLYTES", "K", "NA")
    line = plan.random.choice(measured)
    line.ranged = False
    line.reasons.append("UNIT/REFERENCE_RANGE")


def _not_consented(plan: Plan) -> None:
    if len(plan.lines) < 2:
        plan.only("ELECTROLYTES", "K", "NA", "CL")
    plan.one("CONSENT/SCOPE").consented = False


def _unknown_institution(plan: Plan) -> None:
    _moved(plan, next(h for h in SOURCES if not h.accredited))
    plan.refuse("SRC_AUTH/UNKNOWN_INSTITUTION")


def _amended(plan: Plan) -> None:
    plan.then = "amend"
    plan.refuse("SRC_AUTH/REVISED")


def _retracted(plan: Plan) -> None:
    plan.then = "retract"
    plan.refuse("SRC_AUTH/RETRACTED")


CASES: dict[str, Case] = {
    "not-accredited": Case("SRC_AUTH/UNKNOWN_INSTITUTION", _unknown_institution),
    "amended": Case("SRC_AUTH/REVISED", _amended),
    "retracted": Case("SRC_AUTH/RETRACTED", _retracted),
    "preliminary": Case("STATUS", _preliminary),
    "entered-in-error": Case("STATUS", _entered_in_error),
    "imaging-conclusion": Case("TYPE/CONCLUSION", _imaging),
    "other-category": Case("TYPE/CATEGORY", _category),
    "not-in-catalogue": Case("CATALOGUE/NOT_LISTED", _not_listed),
    "wrong-specimen": Case("CATALOGUE/SPECIMEN", _specimen),
    "wrong-method": Case("CATALOGUE/METHOD", _method),
    "local-exact": Case("CONSENT_ASSERTED", _exact, flag=True),
    "local-wider": Case("MAP_WIDER", _wider, flag=True),
    "local-inexact": Case("CATALOGUE/MAPPING", _inexact),
    "local-ambiguous": Case("CATALOGUE/AMBIGUOUS", _ambiguous),
    "no-mark": Case("MARK/NO_MARK", _no_mark),
    "other-region": Case("MARK/REGION", _other_region),
    "other-city": Case("MARK/CITY", _other_city),
    "level-too-low": Case("LEVEL", _level),
    "assessment-failed": Case("QC/EQA", _eqa),
    "out-of-control": Case("QC/IQC", _iqc),
    "failed-later": Case("QC_LATER_FAIL", _later_fail, flag=True),
    "too-old": Case("AGE/TOO_OLD", _too_old),
    "examined-after-issue": Case("AGE/FUTURE", _future),
    "time-missing": Case("AGE/TIME_MISSING", _no_time),
    "doctor-unlicensed": Case("PERSON/AUTHOR", _author),
    "laboratory-closed": Case("PERSON/LABORATORY", _laboratory),
    "unit": Case("UNIT/NOT_CONVERTIBLE", _unit),
    "no-reference-range": Case("UNIT/REFERENCE_RANGE", _no_range),
    "consent-narrower": Case("CONSENT/SCOPE", _not_consented),
}
"""By name, in the order of the reasons' precedence."""
