"""`lianqiao evm …`: commands that the adapter brings; what is wrong is told by its reason."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from adapters.evm.cli import app
from relay.cli.root import run
from relay.registry import commands

GROUP: Any = typer.main.get_command(app)


def test_it_is_found_by_its_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands()["evm"] is app
    assert run(["--help"]) == 0
    assert "Commands of the adapter evm" in capsys.readouterr().out
    assert run(["evm", "--help"]) == 0
    shown = capsys.readouterr().out
    names = (
        "deploy",
        "join",
        "admit",
        "reread",
        "practise",
        "recover",
        "owner",
        "currency",
        "account",
        "withdraw",
    )
    assert all(name in shown for name in names)


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_each_command_shows_an_example_of_itself(name: str) -> None:
    command = GROUP.commands[name]
    paragraphs = [" ".join(p.split()) for p in (command.help or "").split("\n\n")]
    (example,) = [p.removeprefix("Example: ") for p in paragraphs if p.startswith("Example: ")]
    words = shlex.split(example)
    assert words[:3] == ["lianqiao", "evm", name]
    command.make_context("lianqiao", words[3:])
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["join", "nothing.toml", "--relay", "127.0.0.1:1"], 2, "CONFIG_INVALID"),
        (["admit", "nothing.toml", "0x" + "11" * 20], 2, "CONFIG_INVALID"),
        (["reread", "--config", "nothing.toml"], 2, "CONFIG_INVALID"),
        (["recover", "nothing.toml"], 2, "CONFIG_INVALID"),
        (["owner", "nothing.toml"], 2, "CONFIG_INVALID"),
        (["practise", "--variant", "clique"], 2, "--variant is one of"),
        (["no-such-command"], 2, "MALFORMED"),
        (["account", "nothing.toml", "hospital"], 2, "CONFIG_INVALID"),
        (["currency", "nothing.toml", "XXQ", "--token", "0x"], 1, "CURRENCY_UNKNOWN"),
        (
            ["withdraw", "n.toml", "h", "1.00", "CNY", "--key", "k", "--to", "0x11"],
            2,
            "--to: '0x11' is not 0x and 40",
        ),
    ],
)
def test_mistakes(
    arguments: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["evm", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_deployment_is_checked_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.hex"
    key.write_text("not hex")
    common = ["evm", "deploy", "--relay", "127.0.0.1:1", "--rpc", "127.0.0.1:1", "--chain-id", "sz",
              "-o", str(tmp_path / "sz.toml")]  # fmt: skip
    assert run([*common, "--key", str(key)]) == 2
    assert "no private key in hex" in capsys.readouterr().err
    key.write_text("11" * 32)
    assert run([*common, "--key", str(key), "--validators", "header:0"]) == 2
    assert "at least one block" in capsys.readouterr().err
    assert run([*common, "--key", str(key), "--witness", "w=ed25519:00"]) == 2
    assert "secp256k1" in capsys.readouterr().err
    token = "0x" + "11" * 20
    for currency, said in (
        ("CNY", "is not CODE=0xTOKEN"),
        ("CNY=0x11", "is not 0x and 40"),
        (f"XXQ={token}", "CURRENCY_UNKNOWN"),
    ):
        assert run([*common, "--key", str(key), "--currency", currency]) > 0
        assert said in capsys.readouterr().err
    twice = ["--currency", f"CNY={token}", "--currency", f"CNY={token}"]
    assert run([*common, "--key", str(key), *twice]) == 2
    assert "each once" in capsys.readouterr().err
    lane = ["--lane-key", str(tmp_path / "none.hex")]
    assert run([*common, "--key", str(key), *lane]) == 2
    assert "no private key in hex" in capsys.readouterr().err
    assert run([*common, "--key", str(key)]) == 1
    assert "CHAIN_UNREACHABLE" in capsys.readouterr().err
    assert not (tmp_path / "sz.toml").exists()
