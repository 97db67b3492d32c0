"""Records from elsewhere: files and folders as the user names them, and Synthea by its extra."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from relay.demo import samples
from relay.demo.samples import load_sources, synthea_sources
from relay.errors import LianqiaoError, Malformed, NotFound, Reason
from relay.record.door import take
from tests.record.samples import panel


def test_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/two.JSON").write_bytes(panel(1))
    (tmp_path / "a.ndjson").write_bytes(b"{}")
    (tmp_path / "notes.txt").write_bytes(b"not this")
    assert [s.name for s in load_sources(tmp_path)] == ["a.ndjson", "b/two.JSON"]
    (one,) = load_sources(tmp_path / "b/two.JSON")
    assert (one.name, one.data) == ("two.JSON", panel(1))
    assert len(take([one]).records) == 1


def test_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(NotFound) as err:
            load_sources(path)
        assert err.value.reason == Reason.NOT_FOUND
        assert err.value.hint


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(b"{}" * 10)
    for limit in ("MAX_FILES", "MAX_TOTAL_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(samples, limit, 1)
            with pytest.raises(Malformed) as err:
                load_sources(tmp_path)
        assert err.value.reason == Reason.LIMIT_EXCEEDED


@pytest.mark.skipif(find_spec("synthea") is not None, reason="the extra [samples] is installed")
def test_without_the_extra_its_name_is_told() -> None:
    with pytest.raises(NotFound) as err:
        synthea_sources(1, seed=1, now=1_795_000_000)
    assert err.value.reason == Reason.NOT_FOUND
    assert "lianqiao[samples]" in err.value.hint


@pytest.mark.slow
@pytest.mark.skipif(find_spec("synthea") is None, reason="needs the extra [samples]")
def test_synthea_patients_are_taken() -> None:
    with pytest.raises(LianqiaoError):
        synthea_sources(0, seed=1, now=1_795_000_000)
    sources = synthea_sources(2, seed=42, now=1_795_000_000)
    assert [s.name for s in sources] == ["synthea-1.json", "synthea-2.json"]
    intake = take(sources)
    assert intake.refused == ()
    assert intake.records
