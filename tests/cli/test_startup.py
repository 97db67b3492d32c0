"""Start-up is quick: help and `verify` load neither gRPC nor SQL."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.bundle import encode_bundle, encode_trust
from tests.cli.conftest import environment
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


def loaded_by(*args: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, args)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
    )
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["packets", "trace", "--help"]])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    assert loaded_by(*args) == "0"


def test_verify_loads_nothing_heavy(tmp_path: Path) -> None:
    world = World()
    (tmp_path / "b").write_bytes(encode_bundle(world.bundle()))
    (tmp_path / "t").write_bytes(encode_trust(world.trust()))
    assert time.time() > START, "the world of the bundle lies in the past"
    at = START + 600
    assert loaded_by("verify", tmp_path / "b", "--trust", tmp_path / "t", "--at", at) == "0"
