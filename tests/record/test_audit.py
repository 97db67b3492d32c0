"""The audit store: every entry comes back to the patient, sealed, in order, with its commitment."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from relay.canonical import encode
from relay.errors import Exhausted, Invalid, Malformed, Reason
from relay.record import audit
from relay.record.audit import MAX_ITEMS, MAX_TEXT, Access, Act, AuditStore, Entry
from tests.record.samples import NAME, Entropy
from tests.refusals import refusing

KEY = bytes(range(32))
OCTOBER = 1790812800
"""2026-10-01 08:00 in Shanghai."""


@pytest.fixture
def store(tmp_path: Path) -> AuditStore:
    return AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy())


def access(time: int = OCTOBER, **changes: object) -> Access:
    base = Access(
        act=Act.FETCH,
        time=time,
        institution="sh-h1",
        who=f"Dr {NAME}",
        purpose="TREAT",
        record="ab" * 32,
        patient="cd" * 32,
        items=("http://loinc.org|2823-3",),
        outcome="OK",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_entries_come_back_in_order(store: AuditStore, tmp_path: Path) -> None:
    written = store.append([access(OCTOBER + n) for n in range(3)])
    written += store.append([access(OCTOBER + 40 * 86_400)])
    assert list(store.entries()) == written
    assert list(store.entries(newest_first=True)) == written[::-1]
    assert sorted(p.name for p in (tmp_path / "audit").iterdir()) == ["2026-10.log", "2026-11.log"]
    again = AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy(2))
    written += again.append([access(OCTOBER + 5)])
    assert set(again.entries()) == set(written)


@pytest.mark.parametrize("left", ["all of it", "a part"])
def test_a_write_that_failed_does_not_spoil_what_follows(
    store: AuditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    written = store.append([access()])
    path = tmp_path / "audit" / "2026-10.log"

    def full(descriptor: int) -> None:
        if left == "a part":
            os.ftruncate(descriptor, path.stat().st_size - 9)
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Exhausted, match="no space"):
            store.append([access(OCTOBER + 1)])
    written += store.append([access(OCTOBER + 2)])
    assert list(store.entries()) == written
    assert list(AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy()).entries()) == written


def test_months_begin_at_midnight_in_shanghai(store: AuditStore, tmp_path: Path) -> None:
    midnight = OCTOBER - 8 * 3600
    store.append([access(midnight - 1), access(midnight)])
    assert sorted(p.name for p in (tmp_path / "audit").iterdir()) == ["2026-09.log", "2026-10.log"]


def test_a_patient_reads_what_concerns_him(store: AuditStore) -> None:
    me, other = store.patient("urn:x", "1"), store.patient("urn:x", "2")
    assert me != other
    store.append([access(patient=me), access(patient=other), access(patient="", act=Act.FIND)])
    assert [e.access.patient for e in store.entries(patient=me)] == [me]
    assert [e.access.act for e in store.entries(record="")] == [Act.FETCH, Act.FETCH, Act.FIND]
    assert list(store.entries(record="00" * 32)) == []


def test_the_commitment_is_salted_and_over_everything(store: AuditStore) -> None:
    first, second = store.append([access(), access()])
    assert first.commitment != second.commitment
    plain = {
        "act": "fetch",
        "institution": "sh-h1",
        "items": ["http://loinc.org|2823-3"],
        "outcome": "OK",
        "patient": "cd" * 32,
        "purpose": "TREAT",
        "record": "ab" * 32,
        "time": OCTOBER,
        "who": f"Dr {NAME}",
    }
    expected = sha256(b"lianqiao/access/1\x00" + first.salt + encode(plain)).digest()  # type: ignore[arg-type]
    assert first.commitment == expected


def test_nothing_readable_lies_on_the_disk(store: AuditStore, tmp_path: Path) -> None:
    store.append([access()])
    (path,) = (tmp_path / "audit").iterdir()
    data = path.read_bytes()
    assert NAME.encode() not in data
    assert b"sh-h1" not in data
    assert path.stat().st_mode & 0o077 == 0


def test_every_changed_byte_is_refused(store: AuditStore, tmp_path: Path) -> None:
    store.append([access(who="", items=()), access(OCTOBER + 1, who="", items=())])
    (path,) = (tmp_path / "audit").iterdir()
    original = path.read_bytes()
    for at in range(len(original)):
        path.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
        with pytest.raises(Invalid) as err:
            list(store.entries())
        assert err.value.reason == Reason.VAULT_CORRUPT


def test_a_line_has_one_spelling(store: AuditStore, tmp_path: Path) -> None:
    """The bits that base64 leaves unused are not free."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    seen = 0
    for length in range(3):
        store.append([access(who="x" * length)])
    (path,) = (tmp_path / "audit").iterdir()
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        body = line.rstrip("=")
        if body == line:
            continue
        seen += 1
        other = body[:-1] + alphabet[alphabet.index(body[-1]) ^ 1] + line[len(body) :]
        path.write_text("\n".join([*lines[:number], other, *lines[number + 1 :]]) + "\n")
        with pytest.raises(Invalid) as err:
            list(store.entries())
        assert err.value.reason == Reason.VAULT_CORRUPT
    assert seen == 2


def test_lines_cannot_be_moved_or_taken_out(store: AuditStore, tmp_path: Path) -> None:
    store.append([access(OCTOBER + n) for n in range(3)])
    (path,) = (tmp_path / "audit").iterdir()
    a, b, c = path.read_bytes().splitlines(keepends=True)
    for lines in ((b, a, c), (a, c), (b, c), (a, a, b)):
        path.write_bytes(b"".join(lines))
        with pytest.raises(Invalid) as err:
            list(AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy()).entries())
        assert err.value.reason == Reason.VAULT_CORRUPT
    path.write_bytes(a + b + c)
    path.rename(path.with_name("2026-12.log"))
    with refusing(Reason.VAULT_CORRUPT):
        list(AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy()).entries())


@pytest.mark.parametrize(("key", "ledger"), [(bytes(32), "zj-medical"), (KEY, "sh-medical")])
def test_another_key_or_ledger_reads_nothing(
    store: AuditStore, tmp_path: Path, key: bytes, ledger: str
) -> None:
    store.append([access()])
    with pytest.raises(Invalid) as err:
        list(AuditStore(tmp_path / "audit", key, ledger, Entropy()).entries())
    assert err.value.reason == Reason.VAULT_CORRUPT


def test_a_line_cut_short_by_a_crash_is_dropped(store: AuditStore, tmp_path: Path) -> None:
    written = store.append([access()])
    (path,) = (tmp_path / "audit").iterdir()
    with path.open("ab") as file:
        file.write(b"dG9y")
    again = AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy(3))
    assert list(again.entries()) == written
    written += again.append([access(OCTOBER + 1)])
    assert list(again.entries()) == written


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"who": "x" * (MAX_TEXT + 1)}, Reason.LIMIT_EXCEEDED),
        ({"items": ("x" * (MAX_TEXT + 1),)}, Reason.LIMIT_EXCEEDED),
        ({"items": ("x",) * (MAX_ITEMS + 1)}, Reason.LIMIT_EXCEEDED),
        ({"time": -1}, Reason.MALFORMED),
        ({"time": 2**60}, Reason.MALFORMED),
        ({"who": "\ud800"}, Reason.MALFORMED),
    ],
)
def test_what_is_out_of_bounds_writes_nothing(
    store: AuditStore, tmp_path: Path, changes: dict[str, object], reason: Reason
) -> None:
    with pytest.raises(Malformed) as err:
        store.append([access(), access(**changes)])
    assert err.value.reason == reason
    assert list((tmp_path / "audit").iterdir()) == []


# --- pages


def _paged(store: AuditStore, size: int, **filters: str) -> list[Entry]:
    entries, start = [], 0
    while True:
        found, following = store.page(start, size, **filters)
        entries += [entry for _, entry in found]
        if following is None:
            return entries
        start = found[-1][0] if found and len(found) == size else following


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pages_hold_every_entry_once_and_go_on_over_months(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("relay.record.audit.MARK_LINES", 4)
    store = AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy())
    written = store.append([access(OCTOBER + n, patient=f"{n % 2:064}") for n in range(11)])
    written += store.append([access(OCTOBER + 40 * 86_400 + n) for n in range(6)])
    again = AuditStore(tmp_path / "audit", KEY, "zj-medical", Entropy(2))
    for held in (store, again):
        assert _paged(held, size) == written
        mine = [e for e in written if e.access.patient == f"{1:064}"]
        assert _paged(held, size, patient=f"{1:064}") == mine
    written += again.append([access(OCTOBER + 41 * 86_400)])
    assert _paged(again, size) == written


def test_a_page_opens_its_own_lines_alone(
    store: AuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = store.append([access(OCTOBER + n) for n in range(600)])
    opened = []
    real = audit._entry
    monkeypatch.setattr(audit, "_entry", lambda *given: opened.append(1) or real(*given))
    found, following = store.page(0, 500)
    assert len(opened) == 500
    assert following is not None
    found, _ = store.page(following, 10)
    assert [entry for _, entry in found] == written[500:510]
    assert len(opened) == 510


def test_a_page_looks_at_so_many_lines_and_no_more(
    store: AuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_LOOKED_AT", 5)
    store.append([access(OCTOBER + n) for n in range(12)])
    (mine,) = store.append([access(OCTOBER + 99, record="ef" * 32)])
    found, following = store.page(0, 10, record="ef" * 32)
    assert (found, following is None) == ([], False)
    assert _paged(store, 10, record="ef" * 32) == [mine]


def test_a_place_that_is_none_is_the_next_one(store: AuditStore) -> None:
    written = store.append([access(), access(OCTOBER + 40 * 86_400)])
    place = 202610 * 10**10
    for start, rest in (
        (1, written),
        (place + 7, written[1:]),
        (place + 10**10 - 1, written[1:]),
        (2**63 - 1, []),
    ):
        assert [entry for _, entry in store.page(start, 10)[0]] == rest
