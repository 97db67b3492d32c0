"""The sealed file of one record: its bytes, and what of them is bound to what.

    magic ‖ BE32(n + 1) ‖ description ‖ part 0 ‖ … ‖ part n - 1      each BE32(length) ‖ seal

Associated data of each seal: magic ‖ BE32(len ledger) ‖ ledger ‖ commitment ‖ BE32(number)
‖ BE32(n), where the description has number n. So nothing opens in another's place, in another
record or on another ledger, and every byte of the file is either checked or sealed. The plain text
of a part is salt32 ‖ content; of the description RFC 8785 JSON: the patient opening, which item
lies in which part, and the keyed hashes under which the patient is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.canonical import Json, decode, encode
from relay.errors import LianqiaoError
from relay.record.parts import MAX_PARTS, SALT_BYTES, Opened, PatientOpening, commit
from relay.record.seal import OVERHEAD, Entropy, Seal, corrupt

_MAGIC = b"LQVAULT1"


@dataclass(frozen=True, slots=True)
class KeptItem:
    """Which part holds an attested item, by the code it was attested under."""

    part: int
    system: str
    code: str


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """All that a source keeps of a record it attested."""

    commitment: bytes
    parts: tuple[Opened, ...]
    patient: PatientOpening
    """Opens the patient reference on the ledger."""
    items: tuple[KeptItem, ...]
    identifiers: tuple[tuple[str, str], ...] = ()
    """(scheme, value) pairs under which `find` shall find it, beside the one of `patient`; not kept
    in readable form, so empty in what `get` returns."""


@dataclass(frozen=True, slots=True)
class Description:
    """What `describe` gives without opening any part."""

    commitment: bytes
    count: int
    patient: PatientOpening
    items: tuple[KeptItem, ...]
    patients: tuple[bytes, ...]
    """Keyed hashes under which it is listed."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals and opens the files of one ledger's vault."""

    ledger: str
    seal: Seal
    entropy: Entropy

    def encode(self, record: KeptRecord, patients: Sequence[bytes]) -> bytes:
        """The file of a record that is listed under the keyed hashes `patients`."""
        count = len(record.parts)
        plain = [part.salt + part.content for part in record.parts]
        plain.append(_description(record, patients))
        blob = bytearray(_MAGIC + _be32(count + 1))
        for number in (count, *range(count)):
            bound = self._bound(record.commitment, number, count)
            sealed = self.seal.seal(self.entropy, plain[number], bound)
            blob += _be32(len(sealed)) + sealed
        return bytes(blob)

    def open_record(self, data: bytes, commitment: bytes) -> KeptRecord:
        """The record in a file, checked against its commitment. Raises Invalid(VAULT_CORRUPT)."""
        blobs = _split(data, commitment)
        parts = []
        for number, sealed in enumerate(blobs[1:]):
            plain = self._open(commitment, sealed, number, len(blobs) - 1)
            if len(plain) < SALT_BYTES:
                raise corrupt(f"part {number} of record {commitment.hex()}")
            parts.append(Opened(plain[:SALT_BYTES], plain[SALT_BYTES:]))
        if commit(parts) != commitment:
            raise corrupt(f"record {commitment.hex()}")
        found = self._description(blobs, commitment)
        return KeptRecord(commitment, tuple(parts), found.patient, found.items)

    def open_description(self, data: bytes, commitment: bytes) -> Description:
        """The description in a file; no part is opened. Raises Invalid(VAULT_CORRUPT)."""
        return self._description(_split(data, commitment), commitment)

    def _description(self, blobs: Sequence[bytes], commitment: bytes) -> Description:
        count = len(blobs) - 1
        plain = self._open(commitment, blobs[0], count, count)
        return _read_description(commitment, count, plain)

    def _open(self, commitment: bytes, sealed: bytes, number: int, count: int) -> bytes:
        bound = self._bound(commitment, number, count)
        return self.seal.open(sealed, bound, f"record {commitment.hex()}")

    def _bound(self, commitment: bytes, number: int, count: int) -> bytes:
        ledger = self.ledger.encode()
        return _MAGIC + _be32(len(ledger)) + ledger + commitment + _be32(number) + _be32(count)


def _be32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _split(data: bytes, commitment: bytes) -> list[bytes]:
    """The sealed description and parts of a file, in that order."""
    what = f"record {commitment.hex()}"
    at = len(_MAGIC) + 4
    count = int.from_bytes(data[len(_MAGIC) : at], "big")
    if data[: len(_MAGIC)] != _MAGIC or not 2 <= count <= MAX_PARTS + 1:
        raise corrupt(what)
    blobs = []
    for _ in range(count):
        length = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if length < OVERHEAD or at + length > len(data):
            raise corrupt(what)
        blobs.append(data[at : at + length])
        at += length
    if at != len(data):
        raise corrupt(what)
    return blobs


def _description(record: KeptRecord, patients: Sequence[bytes]) -> bytes:
    items: list[Json] = [
        {"code": item.code, "part": item.part, "system": item.system} for item in record.items
    ]
    patient: Json = {
        "salt": record.patient.salt.hex(),
        "scheme": record.patient.scheme,
        "value": record.patient.value,
    }
    listed: list[Json] = [hashed.hex() for hashed in patients]
    return encode({"items": items, "listed": listed, "patient": patient})


def _read_description(commitment: bytes, count: int, plain: bytes) -> Description:
    """It was sealed by this vault, so its form is known; what differs is corruption."""
    try:
        value = decode(plain)
        assert isinstance(value, dict)
        patient, items, listed = value["patient"], value["items"], value["listed"]
        assert isinstance(patient, dict)
        assert isinstance(items, list)
        assert isinstance(listed, list)
        return Description(
            commitment,
            count,
            PatientOpening(
                bytes.fromhex(str(patient["salt"])), str(patient["scheme"]), str(patient["value"])
            ),
            tuple(
                KeptItem(int(str(i["part"])), str(i["system"]), str(i["code"]))
                for i in items
                if isinstance(i, dict)
            ),
            tuple(bytes.fromhex(str(hashed)) for hashed in listed),
        )
    except (LianqiaoError, AssertionError, KeyError, TypeError, ValueError):
        raise corrupt(f"record {commitment.hex()}") from None
