"""Start-up is quick: help and `verify` load neither gRPC nor SQL."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.bundle import encode_bundle, encode_trust
from tests.cli.conftest import ROOT, environment
from tests.light.ledger import START
from tests.test_bundle import World

HEAVY = ("grpc", "sqlalchemy", "sqlmodel", "alembic", "pydantic_settings", "google.protobuf")

SCRIPT = f"""
import sys
from relay.cli.root import run
code = run(sys.argv[1:])
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(code, *loaded, file=sys.stderr)
"""


WATCHED = """
import sys
opened = []
def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        opened.append(args[0])
    elif event.startswith(("socket.", "sqlite3.")):
        opened.append(event)
from relay.cli.root import run
sys.addaudithook(watch)
code = run(sys.argv[1:])
ours = (sys.prefix, sys.base_prefix, %r, "/proc", "/etc/localtime", "/dev/null", "/dev/urandom")
print(code, *sorted({name for name in opened if not name.startswith(ours)}), file=sys.stderr)
"""


def loaded_by(*args: object, script: str = SCRIPT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
    )
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["packets", "trace", "--help"]])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    assert loaded_by(*args) == "0"


@pytest.fixture
def verifying(tmp_path: Path) -> list[object]:
    world = World()
    (tmp_path / "b").write_bytes(encode_bundle(world.bundle()))
    (tmp_path / "t").write_bytes(encode_trust(world.trust()))
    assert time.time() > START, "the world of the bundle lies in the past"
    return ["verify", tmp_path / "b", "--trust", tmp_path / "t", "--at", START + 600]


def test_verify_loads_nothing_heavy(verifying: list[object]) -> None:
    assert loaded_by(*verifying) == "0"


def test_verify_opens_what_it_is_given_and_nothing_else(
    verifying: list[object], tmp_path: Path
) -> None:
    script = WATCHED % str(ROOT)
    assert loaded_by(*verifying, script=script) == f"0 {tmp_path / 'b'} {tmp_path / 't'}"
