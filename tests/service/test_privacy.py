"""No patient in any journal, log or error: seeded names and ids are searched for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog

from relay.errors import LianqiaoError
from tests.databases import rows
from tests.record.samples import FAMILY, NAME, PATIENT_ID, PHONE
from tests.service.region import Region, deposit, fetch, query, request

WHO = "Dr Li"
SECRETS = (NAME, FAMILY, PATIENT_ID, PHONE, f"MRN-{PATIENT_ID}", WHO)


def test_no_patient_in_journals_logs_or_errors(region: Region, tmp_path: Path) -> None:
    errors: list[LianqiaoError] = []
    with structlog.testing.capture_logs() as lines:
        given, decision = region.granted()
        assert NAME.encode("unicode_escape").decode() in given.parts[0].content.decode()
        list(region.zj.client.fetch_records([fetch(decision)]))
        region.zj.client.find_records(query())
        list(region.zj.client.access_log())
        for wrong in (
            lambda: region.zj.client.find_records(query(institution="sh-h9")),
            lambda: region.zj.client.attest([deposit(ledger="sh-medical")]),
            lambda: region.zj.client.attest([deposit(commitment=bytes(32))]),
            lambda: region.sh.client.recognition(request(given).request),
        ):
            with pytest.raises(LianqiaoError) as err:
                wrong()
            errors.append(err.value)
    told = json.dumps(lines, default=str, ensure_ascii=False)
    assert "RegistryService/Attest" in told
    for error in errors:
        told += f"{error} {error.detail} {error.hint} {error.data}"
    assert not [secret for secret in SECRETS if secret in told]
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    kept = {str(path): path.read_bytes() for path in files}
    for folder in {path.parent for path in files}:
        kept |= {f"{folder}/{name}": raw for name, raw in rows(folder / "node.db").items()}
    assert any("node.db" in name and b"zj-medical" in raw for name, raw in kept.items())
    for raw in kept.values():
        assert not [s for s in SECRETS if s.encode() in raw or s.encode().hex().encode() in raw]
