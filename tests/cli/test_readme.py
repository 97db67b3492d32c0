"""The table of reasons is complete, in order, and every command that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

from relay.errors import Reason
from tests.cli.test_help import COMMANDS

TEXT = (Path(__file__).parent.parent.parent / "relay" / "README.md").read_text()


def test_every_reason_is_in_the_table_in_order_of_precedence() -> None:
    assert re.findall(r"^\| `([A-Z_]+)` \|", TEXT, re.M) == [str(reason) for reason in Reason]


def test_every_command_is_in_the_table() -> None:
    table = TEXT.partition("## A record")[0]
    for path in COMMANDS:
        assert f"`{path[0]}" in table or f"`{' '.join(path)}`" in table, path


def test_every_command_of_the_walk_exists() -> None:
    walk = TEXT.partition("```sh")[2].partition("```")[0]
    for words in re.findall(r"lianqiao ([a-z-]+(?: [a-z]+)?)", walk):
        path = tuple(words.split())
        assert path in COMMANDS or path[:1] in COMMANDS, words
