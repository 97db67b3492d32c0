"""Help teaches: every command shows an example, and the examples are commands that exist."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from relay.cli.root import app
from tests.cli.conftest import Run

ROOT: Any = typer.main.get_command(app)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child


COMMANDS = dict(leaves(ROOT))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_shows_an_example_of_itself(path: tuple[str, ...]) -> None:
    paragraphs = (COMMANDS[path].help or "").split("\n\n")
    (example,) = [
        " ".join(p.split()).removeprefix("Example: ")
        for p in paragraphs
        if p.strip().startswith("Example: ")
    ]
    words = shlex.split(example)
    assert words[: 1 + len(path)] == ["lianqiao", *path]
    COMMANDS[path].make_context("lianqiao", words[1 + len(path) :])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_option_and_argument_is_explained(path: tuple[str, ...]) -> None:
    for parameter in COMMANDS[path].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_what_lists_or_shows_has_json(path: tuple[str, ...]) -> None:
    names = {option for p in COMMANDS[path].params for option in p.opts}
    if path[-1] in {"list", "show", "trace", "status", "find", "access-log", "fsck", "verify"}:
        assert "--json" in names


def test_the_commands_of_the_issue_are_there() -> None:
    named = {" ".join(path) for path in COMMANDS}
    assert named >= {
        "init",
        "serve",
        "migrate",
        "keys new",
        "keys show",
        "fsck",
        "connect",
        "status",
        "clients list",
        "clients show",
        "packets list",
        "packets show",
        "packets trace",
        "bundle",
        "verify",
        "attest",
        "records list",
        "records show",
        "records find",
        "records amend",
        "records retract",
        "records fetch",
        "recognise request",
        "recognise outcome",
        "access-log",
        "policy load",
        "policy show",
    }


def test_the_root_lists_every_group_and_says_where_to_start(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for name in (*ROOT.commands, "demo"):
        assert name in done.out
    assert "lianqiao demo" in done.out


def test_version(run: Run) -> None:
    done = run("--version")
    assert done.code == 0
    assert done.out.startswith("lianqiao ")
