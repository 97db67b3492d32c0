"""What the door reads out of a record: plain frozen values, and nothing of the patient but ids.

These are the inputs of an attestation. Names, addresses, values and conclusions are not read at
all, so they cannot leak from here; they stay in the parts' bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

UCUM = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Coding:
    """A code and the system that gives it its meaning (`system` may be empty for a local code)."""

    system: str
    code: str

    def __str__(self) -> str:
        return f"{self.system}|{self.code}"


@dataclass(frozen=True, slots=True)
class Identifier:
    """Who or what, by the number some scheme gave: a patient, an institution, a licence."""

    scheme: str
    value: str

    def __str__(self) -> str:
        return f"{self.scheme}|{self.value}"


@dataclass(frozen=True, slots=True)
class Mark:
    """An HR mark: its label (`全国HR`) and the set of regions or agreements it holds for."""

    label: str
    regions: tuple[str, ...]
    """GB/T 2260 codes, `CN` for the nation, or agreement ids; sorted, no duplicates."""


@dataclass(frozen=True, slots=True)
class Item:
    """One result: an Observation, or a report that has none (then `observation` is False).

    Times are seconds since 1970 UTC by the rule of relay.record.times.
    """

    part: int
    """Index of the part whose bytes hold it."""
    observation: bool
    codes: tuple[Coding, ...]
    """Every coding of `code`, in the order received."""
    status: str
    """Of the Observation where it is not usable on its own, else the report's if that is worse."""
    categories: tuple[Coding, ...]
    """Of the Observation, or the report's where it has none."""
    specimens: tuple[Coding, ...]
    methods: tuple[Coding, ...]
    unit: str
    """UCUM code of a quantity; empty for other values and other unit systems."""
    value_type: str
    """`Quantity`, `CodeableConcept`, `String` … of value[x]; `component`; empty where absent."""
    examined: int | None
    issued: int | None
    laboratories: tuple[Identifier, ...]
    """Identifiers of the performing organisations."""
    authors: tuple[Identifier, ...]
    """Identifiers of the performing people."""
    reference_range: bool
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class Part:
    """One resource of a record, as received."""

    resource_type: str
    content: bytes
    """The exact bytes: a whole file, a line, or the substring of a Bundle entry."""
    where: str
    """File and position, for people."""


@dataclass(frozen=True, slots=True)
class Record:
    """A DiagnosticReport and what it references, ready to be attested."""

    parts: tuple[Part, ...]
    """The DiagnosticReport first, then its references in order of reference."""
    items: tuple[Item, ...]
    status: str
    codes: tuple[Coding, ...]
    """What the report as a whole is."""
    issued: int | None
    patient: tuple[Identifier, ...]
    """The patient's identifiers, the one to be used first; at least one."""

    @property
    def where(self) -> str:
        """File and position of the report, for people."""
        return self.parts[0].where
