"""How institutions begin a chain together, and the mistakes that they make on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.cometbft.engine.genesis import decode_genesis
from tests.cli.conftest import Run

NAMES = ("zj", "sh", "js", "ah")


@pytest.fixture
def made(tmp_path: Path, run: Run) -> list[Path]:
    """The directories of four institutions."""
    for number, name in enumerate(NAMES):
        done = run(*init(tmp_path / name, name, number))
        assert done.code == 0, done.err
        assert "next: lianqiao found" in done.out
    return [tmp_path / name for name in NAMES]


def init(where: Path, name: str = "zj", number: int = 0, chain: str = "hub") -> list[str]:
    """Its command."""
    return [
        "init", str(where), "--chain-id", chain, "--role", "relay", "--engine", "cometbft",
        *(("--name", name) if name else ()), "--peer", f"127.0.0.1:{20_000 + number}",
    ]  # fmt: skip


def joins(made: list[Path]) -> list[str]:
    return [str(where / "join.json") for where in made]


def test_four_institutions_have_one_genesis(made: list[Path], run: Run) -> None:
    """Whatever the order in which they name the files; by default more than two thirds agree."""
    said = set()
    for number, where in enumerate(made):
        files = joins(made[number:] + made[:number])
        done = run("found", "--config", str(where / "config.toml"), *files)
        assert done.code == 0, done.err
        said.add(done.out.splitlines()[0])
    assert len(said) == 1
    genesis = json.loads((made[2] / "cometbft/config/genesis.json").read_text())
    state = decode_genesis(json.dumps(genesis["app_state"]).encode())
    assert (state.quorum, [v.name for v in state.operators.validators]) == (3, sorted(NAMES))
    assert len(genesis["validators"]) == 4


def test_what_cannot_found_a_chain(made: list[Path], run: Run, tmp_path: Path) -> None:
    first = ("found", "--config", str(made[0] / "config.toml"))
    other = tmp_path / "other"
    assert run(*init(other, "other", 9, chain="another")).code == 0
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    files = joins(made)
    for given, word in (
        (files[1:], "not among those given"),
        ([*files, files[1]], "same name: sh"),
        ([*files, str(other / "join.json")], "another"),
        ([files[0], str(bad)], "file 2"),
        ([files[0], "--quorum", "2"], "a quorum of 2"),
    ):
        done = run(*first, *given)
        assert (done.code, done.reason) == (2, "MALFORMED"), given
        assert word in done.err
        assert "hint: " in done.err
    assert not (made[0] / "cometbft/config/genesis.json").exists()


def test_what_each_institution_has_for_itself(made: list[Path], run: Run) -> None:
    """A directory that was copied for another institution would vote twice."""
    mine, copied = (json.loads((made[n] / "join.json").read_text()) for n in (0, 1))
    for field in ("operator_key", "validator_key", "node_id", "peer_address"):
        (made[1] / "join.json").write_text(json.dumps(copied | {field: mine[field]}))
        done = run("found", "--config", str(made[0] / "config.toml"), *joins(made))
        assert done.reason == "MALFORMED"
        assert field in done.err


def test_what_no_replica_can_begin_from(made: list[Path], run: Run) -> None:
    """CometBFT would end with it at its start, again and again."""
    given = ("found", "--config", str(made[0] / "config.toml"), *joins(made), "--sync-height", "9")
    two, digest = "127.0.0.1:1,127.0.0.1:2", "ab" * 32
    for servers, trusted, reason in (
        ("127.0.0.1:1", digest, "MALFORMED"),
        ("127.0.0.1:1,127.0.0.1:1", digest, "MALFORMED"),
        (two, digest[:-1], "MALFORMED"),
        (two, "xy" * 32, "MALFORMED"),
        (two, digest, "NOT_FOUND"),  # the genesis that its founders made
    ):
        done = run(*given, "--sync-from", servers, "--sync-hash", trusted)
        assert done.reason == reason
        assert "hint: " in done.err


def test_an_institution_has_a_name_of_its_own(run: Run, tmp_path: Path) -> None:
    done = run(*init(tmp_path / "zj", ""))
    assert done.reason == "MALFORMED"
    assert "--name" in done.err
    assert not (tmp_path / "zj").exists()


def test_a_replica_is_not_served_before_it_can_be(made: list[Path], run: Run) -> None:
    config = made[0] / "config.toml"
    done = run("serve", "--config", str(config))
    assert (done.code, done.reason) == (1, "NOT_FOUND")
    assert "lianqiao found" in done.err
    assert run("found", "--config", str(config), *joins(made)).code == 0
    config.write_text(config.read_text().replace('"cometbft"\np2p', '"/nowhere/cometbft"\np2p'))
    done = run("serve", "--config", str(config))
    assert done.reason == "CONFIG_INVALID"
    assert "go install" in done.err
    shutil.rmtree(made[0] / "cometbft/config")
    assert run("serve", "--config", str(config)).reason == "NOT_FOUND"


OPENED = """
import hashlib, sys
def other(name, data=b"", new=hashlib.new):
    if name == "ripemd160":
        raise ValueError("unsupported hash type")
    return new(name, data)
if {missing!r} == "ripemd160":
    hashlib.new = other
elif {missing!r}:
    sys.modules[{missing!r}] = None
from pathlib import Path
from adapters.cometbft.engine.start import ENGINE
from relay.config import load
from relay.errors import Refused
from relay.light.keys import ALGORITHMS
assert "qbft-seal" not in ALGORITHMS
try:
    ENGINE.open_node(load(Path({config!r})), lambda: 0).close()
except Refused as err:
    print(err.reason, err.detail, err.hint)
print("qbft-seal" in ALGORITHMS)
"""


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("coincurve", "lianqiao[evm]"),
        pytest.param("", "", marks=pytest.mark.slow),
        pytest.param("ripemd160", "OpenSSL", marks=pytest.mark.slow),
    ],
)
def test_a_replica_has_every_client_type_before_it_judges(
    made: list[Path], missing: str, hint: str
) -> None:
    """Which keys are weak must not depend on what a process has come across since its start: one
    operator could have had a replica that was restarted take what the others refuse."""
    program = OPENED.format(missing=missing, config=str(made[0] / "config.toml"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if missing:
        assert "CONFIG_INVALID" in done.stdout
        assert hint in done.stdout
    else:
        assert done.stdout == "True\n"
