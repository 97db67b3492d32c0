"""The invented hospitals of the demonstration, and the policy documents that speak of them.

Everything here is made up but the region codes (GB/T 2260) and the fact that the delta of the
Yangtze recognises results among its provinces. The agreement is the set CSJ; the rules are
illustrations with round numbers. A hospital's laboratories differ in what quality assessment says
of them, so that each rule has someone to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.record.times import CHINA

DAY = 86_400
AGREEMENT = "CSJ"
"""The agreement of the Yangtze delta: Shanghai, Jiangsu, Zhejiang, Anhui."""
LABORATORY_SCHEME = "urn:lianqiao:laboratory"
CLINICIAN_SCHEME = "urn:lianqiao:clinician"
LOCAL_SYSTEM = "urn:lianqiao:demo:local"
QC_BODY = "demo-qc-centre"

PublicKey = tuple[str, bytes]
"""(algorithm, public key)."""


@dataclass(frozen=True, slots=True)
class Hospital:
    """An institution with one laboratory `<id>-lab` and one doctor `<id>-d1` in good standing."""

    id: str
    ledger: str
    name_en: str
    name_zh: str
    regions: tuple[str, ...]
    """GB/T 2260 codes, the narrowest first."""
    level: int
    leagues: tuple[str, ...] = ()
    accredited: bool = True

    @property
    def laboratory(self) -> str:
        """Its laboratory in good standing."""
        return f"{self.id}-lab"

    @property
    def doctor(self) -> str:
        """Its licensed doctor; at a receiving hospital the clinician who asks."""
        return f"{self.id}-d1"

    @property
    def former_doctor(self) -> str:
        """A doctor whose licence has ended."""
        return f"{self.id}-d9"


FAILED, UNCONTROLLED, LATER_FAILED, CLOSED = "eqa", "iqc", "later", "old"
"""What is wrong with the laboratories `<id>-lab-<word>` of every hospital."""

SOURCES = (
    Hospital(
        "zj-h1", "zj-medical", "Qiantang First Hospital", "钱塘第一医院",
        ("330102", "330100", "330000"), 3,
    ),
    Hospital(
        "zj-h2", "zj-medical", "Yongjiang Central Hospital", "甬江中心医院",
        ("330203", "330200", "330000"), 3,
    ),
    Hospital(
        "zj-h3", "zj-medical", "Wuzhen County Hospital", "乌镇县医院",
        ("330483", "330400", "330000"), 2, ("league-delta",),
    ),
    Hospital(
        "zj-h4", "zj-medical", "Lishui Township Hospital", "丽水乡卫生院",
        ("331102", "331100", "330000"), 1,
    ),
    Hospital(
        "zj-h5", "zj-medical", "Unlisted Clinic", "未认可诊所",
        ("330702", "330700", "330000"), 3, (), False,
    ),
)  # fmt: skip
"""On the source ledger: good, good, smaller but in the league, too small, not accredited."""

RECEIVERS = (
    Hospital(
        "sh-h1", "sh-medical", "Pujiang University Hospital", "浦江大学附属医院",
        ("310104", "310100", "310000"), 3, ("league-delta",),
    ),
    Hospital(
        "sh-h2", "sh-medical", "Suzhou Creek Hospital", "苏州河医院",
        ("310106", "310100", "310000"), 3,
    ),
)  # fmt: skip
"""On the requesting ledger."""

HOSPITALS = SOURCES + RECEIVERS


def laboratories(hospital: Hospital) -> dict[str, str]:
    """Its laboratories by what is wrong with them; the good one under the empty word."""
    good = hospital.laboratory
    return {"": good} | {
        word: f"{good}-{word}" for word in (FAILED, UNCONTROLLED, LATER_FAILED, CLOSED)
    }


def date(seconds: int) -> str:
    """The civil date in Shanghai, YYYY-MM-DD."""
    return datetime.fromtimestamp(seconds + CHINA, UTC).strftime("%Y-%m-%d")


def policy_documents(
    now: int, keys: Mapping[str, PublicKey], items: Sequence[str], catalogue: str
) -> list[dict[str, Any]]:
    """Accreditations, quality, clinicians, rules and concept map around the time `now`.

    `keys` by id of hospital or clinician; `items` are the catalogue's item ids and `catalogue` its
    name. Each document is loaded by `lianqiao policy load` (relay.contracts.policy.documents).
    """
    start, past, future = now - 3 * 366 * DAY, now - 2 * 366 * DAY, now + 366 * DAY

    def dated(name: str) -> list[dict[str, Any]]:
        if name not in keys:
            return []
        algorithm, key = keys[name]
        return [{"algorithm": algorithm, "key": key.hex(), "start": start, "end": future}]

    def common(kind: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "name": "demo",
            "version": 1,
            "effective_from": start,
            "provenance": "Invented for the demonstration; no real institution or person.",
        }

    valid = {"first": date(past), "last": date(future)}
    ended = {"first": date(start), "last": date(past)}
    labs = {h.id: laboratories(h) for h in HOSPITALS}
    return [
        {
            **common("accreditations"),
            "institutions": [
                {
                    "id": h.id,
                    "ledger": h.ledger,
                    "regions": list(h.regions),
                    "level": h.level,
                    "leagues": list(h.leagues),
                    "keys": dated(h.id),
                }
                for h in HOSPITALS
                if h.accredited
            ],
            "laboratories": [
                {"id": lab, **(ended if word == CLOSED else valid)}
                for found in labs.values()
                for word, lab in found.items()
            ],
        },
        _quality(now, common("quality"), valid, [labs[h.id] for h in SOURCES], items),
        {
            **common("clinicians"),
            "clinicians": [
                {"id": name, "institution": h.id, **period, "keys": dated(name)}
                for h in HOSPITALS
                for name, period in ((h.doctor, valid), (h.former_doctor, ended))
            ],
        },
        {
            **common("rules"),
            "agreements": [{"id": AGREEMENT, "members": ["310000", "320000", "330000", "340000"]}],
            "regions": [_rule(region, catalogue) for region in ("310000", "330000")],
        },
        {**common("conceptmap"), "rows": list(LOCAL_ROWS)},
    ]


def _quality(
    now: int,
    document: dict[str, Any],
    valid: dict[str, str],
    found: Sequence[dict[str, str]],
    items: Sequence[str],
) -> dict[str, Any]:
    """External assessment and internal control of every laboratory, by the word of each."""
    turn = now - LATER_DAYS * DAY
    passed = {"result": "pass", **valid}
    eqa, iqc = [], []
    for labs in found:
        rows = {
            labs[""]: [passed],
            labs[UNCONTROLLED]: [passed],
            labs[CLOSED]: [passed],
            labs[FAILED]: [{**passed, "result": "fail"}],
            labs[LATER_FAILED]: [
                {**passed, "last": date(turn)},
                {**passed, "result": "fail", "first": date(turn + DAY)},
            ],
        }
        for laboratory, results in rows.items():
            for number, result in enumerate(results, 1):
                eqa.append(
                    {
                        "laboratory": laboratory,
                        "body": QC_BODY,
                        "cycle": f"cycle-{number}",
                        "items": list(items),
                        **result,
                    }
                )
            state = "out" if laboratory == labs[UNCONTROLLED] else "in"
            iqc.append({"laboratory": laboratory, "state": state, "items": list(items), **valid})
    return {**document, "eqa": eqa, "iqc": iqc}


LATER_DAYS = 3
"""The laboratories `-later` were last in order this many days before `now`, then failed."""
MAX_AGE_DAYS = 90


def _rule(region: str, catalogue: str) -> dict[str, Any]:
    return {
        "region": region,
        "catalogues": [catalogue],
        "categories": ["LAB"],
        "purposes": ["TREAT", "ETREAT"],
        "accepted_marks": [],
        "level": "not-lower-or-league",
        "qc_bodies": [QC_BODY],
        "iqc_required": True,
        "max_age_days": {"inpatient": 30, "outpatient": MAX_AGE_DAYS},
        "item_max_age_days": [],
        "head_seconds": 600,
        "statement_seconds": 600,
        "grant_seconds": 7 * DAY,
        "consent_signers": ["patient", "institution"],
    }


def _row(local: str, target: str, equivalence: str) -> dict[str, str]:
    return {
        "source": f"{LOCAL_SYSTEM}|{local}",
        "target": f"http://loinc.org|{target}",
        "equivalence": equivalence,
    }


LOCAL_ROWS = (
    _row("GLU-FAST", "14749-6", "equivalent"),
    _row("TC-DIRECT", "14647-2", "wider"),
    _row("ALT-POCT", "1742-6", "inexact"),
    _row("T-HORMONE", "14930-2", "equivalent"),
    _row("T-HORMONE", "14921-1", "equivalent"),
)
"""Local codes: exact; wider; only inexact; ambiguous between total T3 and total T4."""
