"""The rules of recognition, parsed: what an evaluation looks things up in.

All frozen; times of keys are seconds [start, end), administrative periods are civil days in
Shanghai, both ends included (relay.contracts.civil).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of policy documents."""

    CATALOGUE = "catalogue"
    ACCREDITATIONS = "accreditations"
    QUALITY = "quality"
    CLINICIANS = "clinicians"
    RULES = "rules"
    CONCEPTMAP = "conceptmap"


@dataclass(frozen=True, slots=True)
class DatedKey:
    """A public key and when it may sign: start <= time < end, seconds."""

    algorithm: str
    key: bytes
    start: int
    end: int


def key_holds(keys: tuple[DatedKey, ...], algorithm: str, key: bytes, *times: int) -> bool:
    """Whether `key` is one of `keys` and was valid at each of `times`."""
    return any(
        known.key == key
        and known.algorithm == algorithm
        and all(known.start <= time < known.end for time in times)
        for known in keys
    )


@dataclass(frozen=True, slots=True)
class CatalogueItem:
    """One item that may be recognised, as it must have been examined."""

    item: str
    name_en: str
    name_zh: str
    category: str
    codes: tuple[str, ...]
    """`system|code` of each canonical code."""
    specimens: tuple[str, ...]
    methods: tuple[str, ...]
    """Classes of methods; empty: any."""
    units: tuple[str, ...]
    """UCUM units that convert into each other for this item; empty: not a quantity."""


@dataclass(frozen=True, slots=True)
class Institution:
    """An accredited institution."""

    id: str
    ledger: str
    """The one ledger that may speak for it."""
    regions: tuple[str, ...]
    """GB/T 2260 codes of where it lies, the narrowest first (district, city, province)."""
    level: int
    """Rank of its grade, greater is higher."""
    leagues: frozenset[str]
    """The medical consortia (医联体) it belongs to."""
    keys: tuple[DatedKey, ...]


@dataclass(frozen=True, slots=True)
class Licence:
    """A period of days, both included."""

    first: int
    last: int

    def holds(self, day: int) -> bool:
        """Whether `day` lies in it."""
        return self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class Clinician:
    """A licensed doctor, with the keys by which statements and outcomes are signed."""

    id: str
    institution: str
    licence: Licence
    keys: tuple[DatedKey, ...]


@dataclass(frozen=True, slots=True)
class Assessment:
    """One external quality assessment of one laboratory and item."""

    body: str
    cycle: str
    passed: bool
    period: Licence


@dataclass(frozen=True, slots=True)
class Control:
    """A period in which internal quality control of a laboratory and item was in control or not."""

    in_control: bool
    period: Licence


class LevelRule(StrEnum):
    """Whose results a region accepts, by level of the institutions."""

    ANY = "any"
    NOT_LOWER = "not-lower"
    """The source must be of the receiver's level or higher."""
    NOT_LOWER_OR_LEAGUE = "not-lower-or-league"
    """A lower source is accepted within the same medical consortium."""


@dataclass(frozen=True, slots=True)
class RegionRule:
    """What holds where the patient is treated."""

    region: str
    catalogues: tuple[str, ...]
    """Names of the catalogues that count, the first that lists an item decides."""
    categories: frozenset[str]
    purposes: frozenset[str]
    accepted_marks: frozenset[str]
    """Marks accepted beside those that contain the region, such as other cities' marks."""
    level: LevelRule
    qc_bodies: frozenset[str]
    """Bodies whose assessments count; empty: any."""
    iqc_required: bool
    max_age: tuple[int, int]
    """Days (inpatient, outpatient) between issue and use, both included."""
    item_max_age: Mapping[str, tuple[int, int]]
    head_seconds: int
    """How old the source head may be by which "not revoked" is known."""
    statement_seconds: int
    """How old the clinician's statement may be."""
    grant_seconds: int
    consent_signers: frozenset[str]
    """`patient`, `institution` (any accredited one), or ids of institutions."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target of a local code."""

    code: str
    """`system|code`."""
    equivalence: str


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed policy document; only the fields of its kind are filled."""

    kind: Kind
    name: str
    version: int
    effective_from: int
    items: tuple[CatalogueItem, ...] = ()
    institutions: tuple[Institution, ...] = ()
    laboratories: tuple[tuple[str, Licence], ...] = ()
    assessments: tuple[tuple[tuple[str, str], Assessment], ...] = ()
    """((laboratory, item), assessment)."""
    controls: tuple[tuple[tuple[str, str], Control], ...] = ()
    clinicians: tuple[Clinician, ...] = ()
    regions: tuple[RegionRule, ...] = ()
    agreements: tuple[tuple[str, frozenset[str]], ...] = ()
    """(id, regions that are members)."""
    mappings: tuple[tuple[str, Target], ...] = ()
    """(`system|code` of the local code, target)."""

    @property
    def label(self) -> str:
        """How decisions name it: kind/name@version."""
        return f"{self.kind}/{self.name}@{self.version}"
