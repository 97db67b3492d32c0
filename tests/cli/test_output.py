"""Printing: one way for results, one way for refusals, and nothing that writes to a terminal."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.cli import output
from relay.cli.options import hex_of, time_of
from relay.cli.packets import key_of
from relay.errors import Invalid, LianqiaoError, Malformed, Reason, Refused
from relay.views import Direction
from tests.cli.conftest import Run
from tests.refusals import refusing


@dataclass(frozen=True)
class Thing:
    name: str
    digest: bytes
    parts: tuple[int, ...]


def test_plain_values() -> None:
    value = {"thing": Thing("n", b"\x01\xff", (1, 2)), "reason": Reason.MALFORMED, "at": Path("x")}
    assert output.plain(value) == {
        "thing": {"name": "n", "digest": "01ff", "parts": [1, 2]},
        "reason": "MALFORMED",
        "at": "x",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 连翘", "plain 连翘"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\rc\x07", "a\\nb\\rc\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_nothing_reaches_the_terminal_but_text(text: str, shown: str) -> None:
    assert output.visible(text) == shown


def test_a_table_shows_what_others_wrote_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a", "b"), [("[red]x[/red]", "\x1b[2J")], "none")
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "\x1b[2J" not in out
    output.table(("a",), [], "none at all")
    assert capsys.readouterr().out == "none at all\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Malformed("bytes"), 2),
        (Malformed("config", reason=Reason.CONFIG_INVALID), 2),
        (Refused(Reason.CONFIG_INVALID, "others may read it"), 2),
        (Refused(Reason.CLIENT_FROZEN, "frozen"), 1),
        (Invalid(Reason.INVALID_PROOF, "no"), 1),
    ],
)
def test_exit_codes(error: LianqiaoError, code: int) -> None:
    assert output.exit_code(error) == code


def test_an_error_says_reason_detail_values_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    error = Refused(Reason.CLIENT_FROZEN, "the client is\nfrozen", hint="wait", client_id="c-0")
    output.print_error(error, as_json=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "CLIENT_FROZEN: the client is\\nfrozen (client_id c-0)\nhint: wait\n"
    output.print_error(error, as_json=True)
    assert json.loads(capsys.readouterr().err) == {
        "reason": "CLIENT_FROZEN",
        "detail": "the client is\nfrozen",
        "hint": "wait",
        "data": {"client_id": "c-0"},
    }


def test_times_and_durations() -> None:
    assert output.moment(0) == "-"
    assert output.moment(1_700_000_000) == "2023-11-14 22:13:20Z"
    assert output.moment(2**62) == str(2**62)
    assert output.duration(90 * 86_400) == "90 days"
    assert output.duration(3600) == "1 hour"
    assert output.duration(61) == "61 seconds"


def test_what_takes_long_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "QUIET_SECONDS", 0.01)
    with output.working("counting"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "counting …\n"
    with output.working("counting", quiet=True):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(output, "QUIET_SECONDS", 60)
    with output.working("counting"):
        pass
    assert capsys.readouterr().err == ""


def test_names_of_packets() -> None:
    assert key_of("checkpoint-0/7") == ("checkpoint-0", 7, Direction.OUT)
    assert key_of("checkpoint-0/7/in") == ("checkpoint-0", 7, Direction.IN)
    for text in ("", "x", "x/", "/1", "x/-1", "x/1/up", "x/1/in/2", "x/１"):
        with refusing(Reason.MALFORMED):
            key_of(text)


def test_times_and_hashes_that_are_given() -> None:
    assert time_of("1700000000") == time_of("2023-11-15T06:13:20+08:00") == 1_700_000_000
    assert hex_of("ab" * 32, "x") == b"\xab" * 32
    for text in ("1969-01-01T00:00:00Z", "2023-11-15", "", "١٢"):
        with refusing(Reason.MALFORMED):
            time_of(text)
    for text in ("", "ab", "zz" * 32, "ab" * 33):
        with refusing(Reason.MALFORMED):
            hex_of(text, "x")


# --- errors of the command line itself


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["packets", "nonsense"],
        ["packets", "list"],
        ["packets", "list", "--node", "127.0.0.1:1", "--state", "lost"],
        ["packets", "list", "--node", "nowhere"],
        ["packets", "list", "--node", "127.0.0.1:99999"],
        ["packets", "show", "x", "--node", "127.0.0.1:1"],
        ["records", "show", "x", "--node", "127.0.0.1:1"],
        ["status", "--node", "127.0.0.1:1", "--nonsense"],
        ["status", "extra", "--node", "127.0.0.1:1"],
        ["clients", "list", "--limit", "0", "--node", "127.0.0.1:1"],
    ],
)
def test_wrong_usage_ends_with_2(run: Run, args: list[str]) -> None:
    done = run(*args)
    assert (done.code, done.reason, done.out) == (2, "MALFORMED", "")
    done = run(*args, "--json")
    assert done.code == 2
    error = json.loads(done.err)
    assert (error["reason"], bool(error["hint"])) == ("MALFORMED", True)


@pytest.mark.parametrize("command", [["status"], ["clients", "list"], ["packets", "list"]])
def test_a_node_that_does_not_answer(run: Run, command: list[str]) -> None:
    done = run(*command, "--node", "127.0.0.1:1")
    assert (done.code, done.reason) == (1, "CHAIN_UNREACHABLE")
    assert "lianqiao serve" in done.err


def test_a_fault_of_ours_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.delenv("LIANQIAO_TRACEBACK", raising=False)
    monkeypatch.setattr("relay.cli.status.node_at", broken)
    done = run("status", "--node", "127.0.0.1:1")
    assert (done.code, done.reason) == (1, "INTERNAL")
