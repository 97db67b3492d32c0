"""The record store: what is kept comes back, nothing on the disk is readable, any change shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import Invalid, NotFound, Reason, Refused
from relay.record.parts import Opened, PatientOpening, commit
from relay.record.seal import Seal, VaultKeys, create_key, load_key
from relay.record.sealed import KeptItem, KeptRecord, Sealer
from relay.record.vault import Vault
from tests.record.samples import NAME, PATIENT_ID, Entropy
from tests.refusals import refusing

KEY = bytes(range(32))
SCHEME = "urn:oid:2.16.156.10011.1.3"


def kept(seed: int, value: str = PATIENT_ID, parts: int = 3, size: int = 40) -> KeptRecord:
    entropy = Entropy(seed)
    made = tuple(
        Opened(entropy.salt(), f"{NAME} {n} ".encode() + entropy(size)) for n in range(parts)
    )
    return KeptRecord(
        commitment=commit(made),
        parts=made,
        patient=PatientOpening(entropy.salt(), SCHEME, value),
        items=(KeptItem(1, "http://loinc.org", "2823-3"),),
        identifiers=((SCHEME, value), ("urn:mrn", f"mrn-{value}")),
    )


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", KEY, "zj-medical", Entropy(99))


def _file(tmp_path: Path, record: KeptRecord) -> Path:
    (found,) = (tmp_path / "vault").rglob(f"{record.commitment.hex()}.sealed")
    return found


def test_what_is_kept_comes_back(vault: Vault) -> None:
    records = [kept(n) for n in range(3)]
    vault.put(records)
    for record in records:
        found = vault.get(record.commitment)
        assert (found.parts, found.patient, found.items) == (
            record.parts,
            record.patient,
            record.items,
        )
        described = vault.describe(record.commitment)
        assert (described.count, described.patient, described.items) == (
            3,
            record.patient,
            record.items,
        )


def test_another_process_reads_the_same(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record])
    again = Vault(tmp_path / "vault", KEY, "zj-medical", Entropy(5))
    assert again.get(record.commitment).parts == record.parts
    assert again.find(SCHEME, PATIENT_ID) == (record.commitment,)


def test_patients_are_found_under_every_identifier(vault: Vault) -> None:
    mine = [kept(1), kept(2)]
    vault.put([mine[0], kept(3, "someone else"), mine[1]])
    expected = tuple(r.commitment for r in mine)
    assert vault.find(SCHEME, PATIENT_ID) == expected
    assert vault.find("urn:mrn", f"mrn-{PATIENT_ID}") == expected
    assert vault.find(SCHEME, "nobody") == ()
    assert vault.find("urn:other", PATIENT_ID) == ()
    # The boundary between scheme and value counts.
    assert vault.find(SCHEME + PATIENT_ID[0], PATIENT_ID[1:]) == ()


def test_keeping_again_changes_nothing(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record, record])
    before = _file(tmp_path, record).read_bytes()
    vault.put([record])
    assert _file(tmp_path, record).read_bytes() == before
    assert vault.find(SCHEME, PATIENT_ID) == (record.commitment,)


def test_commitments_are_listed_in_pages(vault: Vault) -> None:
    records = sorted(kept(n).commitment for n in range(20))
    vault.put([kept(n) for n in range(20)])
    found: list[bytes] = []
    while page := vault.commitments(found[-1] if found else b"", limit=7):
        assert len(page) <= 7
        found += page
    assert found == records


def test_nothing_readable_lies_on_the_disk(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record])
    blobs = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    names = " ".join(str(p) for p in tmp_path.rglob("*"))
    for secret in (NAME, PATIENT_ID, "mrn-", "loinc", SCHEME):
        assert secret.encode() not in blobs
        assert secret not in names
    for part in record.parts:
        assert part.salt not in blobs
    assert record.patient.salt not in blobs


def test_files_are_for_their_owner_alone(vault: Vault, tmp_path: Path) -> None:
    vault.put([kept(1)])
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_every_changed_byte_of_a_sealed_file_is_refused(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record])
    path = _file(tmp_path, record)
    original = path.read_bytes()
    for at in range(len(original)):
        path.write_bytes(original[:at] + bytes([original[at] ^ 0x40]) + original[at + 1 :])
        with pytest.raises(Invalid) as err:
            vault.get(record.commitment)
        assert err.value.reason == Reason.VAULT_CORRUPT
    for cut in (b"", original[:-1], original + b"\x00", original[:12]):
        path.write_bytes(cut)
        with pytest.raises(Invalid) as err:
            vault.get(record.commitment)
        assert err.value.reason == Reason.VAULT_CORRUPT
        with refusing(Reason.VAULT_CORRUPT):
            vault.describe(record.commitment)
    path.write_bytes(original)
    assert vault.get(record.commitment).parts == record.parts


def test_a_file_opens_as_no_other_record(vault: Vault, tmp_path: Path) -> None:
    first, second = kept(1), kept(2)
    vault.put([first, second])
    _file(tmp_path, first).write_bytes(_file(tmp_path, second).read_bytes())
    with pytest.raises(Invalid) as err:
        vault.get(first.commitment)
    assert err.value.reason == Reason.VAULT_CORRUPT


def test_parts_do_not_open_in_each_others_place(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record])
    path = _file(tmp_path, record)
    data = path.read_bytes()
    # magic 8, count 4, description, then two parts of equal length
    at = 12 + 4 + int.from_bytes(data[12:16], "big")
    length = 4 + int.from_bytes(data[at : at + 4], "big")
    first, second = data[at : at + length], data[at + length : at + 2 * length]
    path.write_bytes(data[:at] + second + first + data[at + 2 * length :])
    with pytest.raises(Invalid) as err:
        vault.get(record.commitment)
    assert err.value.reason == Reason.VAULT_CORRUPT


def test_what_each_seal_is_bound_to(vault: Vault, tmp_path: Path) -> None:
    """The format as it is written down, opened by hand."""
    record = kept(1)
    vault.put([record])
    data = _file(tmp_path, record).read_bytes()
    assert data[:12] == b"LQVAULT1\x00\x00\x00\x04"
    at, seal = 12, VaultKeys(KEY, "zj-medical").records
    for number in (3, 0, 1, 2):
        length = int.from_bytes(data[at : at + 4], "big")
        sealed = data[at + 4 : at + 4 + length]
        at += 4 + length
        bound = b"LQVAULT1\x00\x00\x00\x0azj-medical" + record.commitment
        bound += number.to_bytes(4, "big") + b"\x00\x00\x00\x03"
        plain = seal.open(sealed, bound, "it")
        if number < 3:
            assert plain == record.parts[number].salt + record.parts[number].content
        else:
            assert b'"salt":"' + record.patient.salt.hex().encode() in plain
    assert at == len(data)


def test_what_opens_is_checked_against_its_commitment() -> None:
    keys = VaultKeys(KEY, "zj-medical")
    sealer = Sealer("zj-medical", keys.records, Entropy())
    wrong = replace(kept(1), commitment=bytes(32))
    with pytest.raises(Invalid) as err:
        sealer.open_record(sealer.encode(wrong, []), bytes(32))
    assert err.value.reason == Reason.VAULT_CORRUPT


@pytest.mark.parametrize(("key", "ledger"), [(bytes(32), "zj-medical"), (KEY, "sh-medical")])
def test_another_key_or_ledger_opens_nothing(
    vault: Vault, tmp_path: Path, key: bytes, ledger: str
) -> None:
    record = kept(1)
    vault.put([record])
    other = Vault(tmp_path / "vault", key, ledger, Entropy(5))
    with pytest.raises(Invalid) as err:
        other.get(record.commitment)
    assert err.value.reason == Reason.VAULT_CORRUPT
    assert other.find(SCHEME, PATIENT_ID) == ()


def test_erasing_leaves_nothing_that_opens(vault: Vault, tmp_path: Path) -> None:
    gone, left = kept(1), kept(2)
    vault.put([gone, left])
    sealed = _file(tmp_path, gone)
    inode = sealed.open("rb")
    vault.erase(gone.commitment)
    assert not sealed.exists()
    # What the file system still hands out of it was overwritten first.
    assert not inode.read().startswith(b"LQVAULT1")
    inode.close()
    for call in (vault.get, vault.describe):
        with pytest.raises(Refused) as err:
            call(gone.commitment)
        assert err.value.reason == Reason.RECORD_ERASED
    assert vault.find(SCHEME, PATIENT_ID) == (left.commitment,)
    assert vault.find("urn:mrn", f"mrn-{PATIENT_ID}") == (left.commitment,)
    entries = b"".join(p.read_bytes() for p in (tmp_path / "vault/patients").iterdir())
    assert gone.commitment not in entries
    assert left.commitment in entries
    vault.erase(gone.commitment)
    with pytest.raises(Refused) as refused:
        vault.put([left, gone])
    assert refused.value.reason == Reason.RECORD_ERASED


def test_a_damaged_record_can_be_erased(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record])
    _file(tmp_path, record).write_bytes(b"damaged")
    vault.erase(record.commitment)
    assert vault.find(SCHEME, PATIENT_ID) == ()


@pytest.mark.parametrize("commitment", [bytes(32), b"", b"short"])
def test_unknown_records(vault: Vault, commitment: bytes) -> None:
    calls: tuple[Callable[[bytes], object], ...] = (vault.get, vault.describe, vault.erase)
    for call in calls:
        with pytest.raises(NotFound) as err:
            call(commitment)
        assert err.value.reason == Reason.RECORD_NOT_FOUND


def test_what_an_interrupted_write_leaves(vault: Vault, tmp_path: Path) -> None:
    record = kept(1)
    vault.put([record])
    path = _file(tmp_path, record)
    # A crash before the rename: an entry that leads to none, and a temporary file.
    path.rename(path.with_suffix(".new"))
    assert vault.find(SCHEME, PATIENT_ID) == ()
    assert vault.commitments() == ()
    # A crash in the middle of an entry.
    for shard in (tmp_path / "vault/patients").iterdir():
        with shard.open("ab") as file:
            file.write(b"torn")
    vault.put([record, kept(2)])
    assert vault.find(SCHEME, PATIENT_ID) == (record.commitment, kept(2).commitment)
    assert vault.get(record.commitment).parts == record.parts


def test_what_an_interrupted_batch_holds_of_a_patient_goes_when_the_vault_is_opened(
    vault: Vault, tmp_path: Path
) -> None:
    """Nobody was told of it, so nobody would ever erase it."""
    vault.put([kept(1), kept(2)])
    path = _file(tmp_path, kept(1))
    path.rename(path.with_suffix(".new"))
    again = Vault(tmp_path / "vault", KEY, "zj-medical", Entropy(5))
    assert [p.suffix for p in (tmp_path / "vault/records").rglob("*.*")] == [".sealed"]
    assert again.get(kept(2).commitment).parts == kept(2).parts


def test_a_batch_of_a_thousand(vault: Vault) -> None:
    records = [kept(n, f"id-{n % 300}", 6, 1000) for n in range(1000)]
    begin = time.perf_counter()
    vault.put(records)
    assert time.perf_counter() - begin < 15  # a few seconds where the disk is quiet
    assert len(vault.find(SCHEME, "id-7")) == 4


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    key = create_key(path, Entropy())
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == key
    with pytest.raises(Refused) as err:
        create_key(path, Entropy())
    assert err.value.reason == Reason.CONFIG_INVALID
    path.chmod(0o640)
    with pytest.raises(Refused) as err:
        load_key(path)
    assert err.value.reason == Reason.CONFIG_INVALID
    path.chmod(0o600)
    for text in (b"", b"00" * 31, b"00" * 33, b"ZZ" * 32, b"AA" * 32, b"00" * 32 + b"\n\n"):
        path.write_bytes(text)
        with refusing(Reason.MALFORMED):
            load_key(path)
    with refusing(Reason.NOT_FOUND):
        load_key(tmp_path / "none")


def test_keys_show_nothing_and_differ_by_use() -> None:
    keys = VaultKeys(KEY, "zj")
    assert KEY.hex() not in repr(keys)
    with refusing(Reason.MALFORMED):
        VaultKeys(bytes(31), "zj")
    sealed = keys.records.seal(os.urandom, b"x", b"bound")
    with refusing(Reason.VAULT_CORRUPT):
        keys.audit.open(sealed, b"bound", "it")
    with refusing(Reason.VAULT_CORRUPT):
        keys.records.open(sealed, b"other", "it")
    assert keys.records.open(sealed, b"bound", "it") == b"x"
    assert keys.patient("ab", "c") != keys.patient("a", "bc")


def test_aes_gcm_is_that_of_nist() -> None:
    """Test case 16 of the GCM specification (McGrew, Viega), as NIST's vectors have it."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    bound = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = Seal(key).seal(lambda _: nonce, plain, bound)
    assert sealed[:12] == nonce
    assert sealed[-16:].hex() == "76fc6ece0f4e1768cddf8853bb2d551b"
