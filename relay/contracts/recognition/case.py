"""All that a decision depends on, and the notes that are taken while it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.contracts.codes import Code, Detail, Finding
from relay.contracts.payloads import Attestation, RecognitionRequest
from relay.contracts.policy.snapshot import Catalogue, Policy
from relay.contracts.policy.values import Institution, RegionRule


@dataclass(frozen=True, slots=True)
class Case:
    """All that a decision depends on."""

    request: RecognitionRequest
    receiver: Institution
    """The requesting institution, known to be accredited on the requesting ledger."""
    rule: RegionRule
    """The rule of the receiver's region."""
    policy: Policy
    attestation: Attestation | None
    recorded: int
    """Seconds: when the relay proved the attestation."""
    revised: Detail
    """REVISED or RETRACTED where a later version or a retraction was proven; else NONE."""
    at_issue: Callable[[int], Sequence[Catalogue]]
    """The rule's catalogues in force at a time."""
    now: int
    source: Institution | None = field(init=False)

    def __post_init__(self) -> None:
        """Looks the source institution up once."""
        known = self.attestation and self.policy.institutions.get(self.attestation.institution)
        object.__setattr__(self, "source", known)


@dataclass(slots=True)
class Notes:
    """The findings on one item, put in order at the end."""

    reasons: list[Finding]
    flags: list[Finding]

    def refuse(self, code: Code, detail: Detail = Detail.NONE) -> None:
        self.reasons.append(Finding(code, detail))

    def flag(self, code: Code) -> None:
        self.flags.append(Finding(code))
