"""The command line of the demonstration: a group whose bare form tells the story of records."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.root import run as run_command
from relay.demo.stage import spawn
from relay.errors import Reason


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run_command(["demo", *(str(arg) for arg in args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_shows_the_stories_and_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for word in ("records", "--count", "--records", "--dir", "--keep", "--lang", "--seed"):
        assert word in out
    assert "Example: lianqiao demo" in out


@pytest.mark.parametrize(
    "args",
    [
        ["--count", "0"],
        ["--count", "many"],
        ["--lang", "fr"],
        ["--count", "5", "records"],
        ["--records", "/nowhere/at/all"],
        ["settlements"],
    ],
    ids=" ".join,
)
def test_wrong_usage_starts_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[str]
) -> None:
    directory = tmp_path / "out"
    where = ["--dir", str(directory)] if args[-1] != "records" else []
    code, out, err = run(capsys, *where, *args)
    assert (code, out) == (2, "")
    assert err.startswith("MALFORMED: ")
    assert "hint: " in err
    assert not directory.exists()


def test_records_of_which_none_is_let_in_end_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('{"resourceType": "Patient", "id": "p"}')
    code, out, err = run(capsys, "--records", mine, "--dir", tmp_path / "out")
    assert code == 2
    assert "RECORD_INVALID" in out
    assert "RECORD_INVALID: none of the records was let in" in err
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {"trust.json", "nodes", "keys"}
    assert "not as it should be" not in out


@pytest.mark.slow
def test_what_lies_where_it_is_started_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone of this project has the name of our API's package, and its folder `relay` within."""
    package = tmp_path / "lianqiao" / "relay"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "told").open("w+b") as told:
        running = spawn(["status", "--node", "127.0.0.1:1"], told, told)
        assert running.wait(30) == 1
        told.seek(0)
        assert told.read().startswith(Reason.CHAIN_UNREACHABLE.value.encode())
