"""Row 4: what became of the results: adopted, or examined again and why.

A re-examination is never blocked, but it names one of the six lawful situations, and says who told
the patient, by role, and when. Free text (R6) never lies on a ledger: only its hash with a salt,
SHA-256(salt ‖ text), which the hospital can open for an authority. Context tag:
`lianqiao/outcome/v1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import pairwise

from relay.canonical import Json, encode
from relay.contracts.codes import Reexamination
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import refuse

OUTCOME_TAG = b"lianqiao/outcome/v1\n"


class Result(StrEnum):
    """What a clinician did with an item."""

    ADOPTED = "adopted"
    REEXAMINED = "reexamined"


class Role(StrEnum):
    """Who told the patient that an examination is repeated."""

    CLINICIAN = "clinician"
    NURSE = "nurse"
    OTHER_STAFF = "other-staff"


_ITEM = fields.names("part result reason note informed_by informed")


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of one item."""

    part: int
    result: Result
    reason: Reexamination | None
    """One of the six, with REEXAMINED and with nothing else."""
    note: bytes
    """SHA-256 of salt and free text, with R6 and with nothing else; otherwise empty."""
    informed_by: Role | None
    """Who told the patient, with REEXAMINED and with nothing else."""
    informed: int
    """Seconds, when the patient was told; 0 where adopted."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "informed": self.informed,
            "informed_by": "" if self.informed_by is None else self.informed_by.value,
            "note": self.note.hex(),
            "part": self.part,
            "reason": "" if self.reason is None else self.reason.value,
            "result": self.result.value,
        }

    @classmethod
    def from_json(cls, value: Json) -> ItemOutcome:
        """Raises Malformed."""
        item = fields.members(value, _ITEM, "item")
        result = fields.word(item, "result", Result)
        again = result is Result.REEXAMINED
        found = cls(
            part=fields.part(item, "part"),
            result=result,
            reason=fields.word(item, "reason", Reexamination) if again else None,
            note=fields.optional_octets(item, "note"),
            informed_by=fields.word(item, "informed_by", Role) if again else None,
            informed=fields.integer(item, "informed"),
        )
        if not again and (item["reason"] != "" or item["informed_by"] != ""):
            refuse("reason", "belongs to a re-examination, as does informed_by")
        if again != bool(found.informed):
            refuse("informed", "is the time the patient was told, with a re-examination only")
        if (found.reason is Reexamination.R6) != bool(found.note):
            refuse("note", "is the salted hash of the explanation, with R6 and nothing else")
        return found


_OUTCOME = fields.names(
    "type relay origin target hops request commitment institution clinician time items algorithm "
    "key signature"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A clinician's signed report on the items of a decided request."""

    relay: str
    origin: str
    target: str
    hops: int
    request: bytes
    commitment: bytes
    institution: str
    clinician: str
    """Of the same institution; need not be who requested."""
    time: int
    items: tuple[ItemOutcome, ...]
    """Ascending by part, each once, at least one."""
    algorithm: str
    key: bytes
    signature: bytes

    @property
    def id(self) -> bytes:
        """SHA-256 of the payload."""
        return sha256(self.encode()).digest()

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {**self._unsigned(), "signature": self.signature.hex()}

    def _unsigned(self) -> dict[str, Json]:
        return {
            "algorithm": self.algorithm,
            "clinician": self.clinician,
            "commitment": self.commitment.hex(),
            "hops": self.hops,
            "institution": self.institution,
            "items": [item.to_json() for item in self.items],
            "key": self.key.hex(),
            "origin": self.origin,
            "relay": self.relay,
            "request": self.request.hex(),
            "target": self.target,
            "time": self.time,
            "type": "outcome",
        }

    def signing_bytes(self) -> bytes:
        """What the clinician signs: the context tag and the payload without `signature`."""
        return OUTCOME_TAG + encode(self._unsigned())

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> Outcome:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Outcome:
        """Raises Malformed."""
        body = fields.members(value, _OUTCOME, "outcome")
        fields.kind(body, "outcome")
        algorithm, key, signature = fields.signature(body)
        found = cls(
            relay=fields.identifier(body, "relay"),
            origin=fields.identifier(body, "origin"),
            target=fields.identifier(body, "target"),
            hops=fields.integer(body, "hops", 0, fields.MAX_HOPS),
            request=fields.octets(body, "request"),
            commitment=fields.octets(body, "commitment"),
            institution=fields.identifier(body, "institution"),
            clinician=fields.identifier(body, "clinician"),
            time=fields.integer(body, "time"),
            items=fields.sequence(body, "items", ItemOutcome.from_json, low=1),
            algorithm=algorithm,
            key=key,
            signature=signature,
        )
        if any(not a.part < b.part for a, b in pairwise(found.items)):
            refuse("items", "must ascend by part, each part once")
        return found
