"""init, migrate, fsck and keys: what they make, and what they refuse."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from relay.config import load
from tests.cli.conftest import Run, make


@pytest.mark.parametrize("role", ["ledger", "relay"])
def test_init_makes_what_serve_needs(tmp_path: Path, run: Run, role: str) -> None:
    directory = tmp_path / "below" / "node"
    done = run("init", directory, "--chain-id", "zj-medical", "--role", role)
    assert done.code == 0
    assert f"next: lianqiao serve --config {directory}/config.toml" in done.out
    config = load(directory / "config.toml")
    assert (config.chain_id, config.role, len(config.validators)) == ("zj-medical", role, 4)
    assert config.listen == ("127.0.0.1:7101" if role == "ledger" else "127.0.0.1:7100")
    assert run("fsck", "--config", directory / "config.toml").code == 0


def test_every_key_of_init_is_its_owners_alone(tmp_path: Path) -> None:
    directory = make(tmp_path / "n", "zj", "ledger")
    keys = sorted((directory / "keys").iterdir())
    assert [key.name for key in keys] == [
        "vault.key",
        "witness.ed25519.pem",
        *(f"zj-{n}.ed25519.pem" for n in range(1, 5)),
        "zj.0.mark",
        "zj.0.mark.lock",
    ]
    for path in keys:
        if path.suffix not in (".mark", ".lock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_init_with_several_algorithms(tmp_path: Path) -> None:
    directory = make(
        tmp_path / "n", "zj", "relay", "--validators", "1",
        "--algorithm", "ed25519", "--algorithm", "secp256k1",
    )  # fmt: skip
    (validator,) = load(directory / "config.toml").validators
    assert sorted(validator.keys) == ["ed25519", "secp256k1"]


def test_init_changes_nothing_in_a_directory_that_is_not_empty(tmp_path: Path, run: Run) -> None:
    (tmp_path / "kept").write_text("mine")
    done = run("init", tmp_path, "--chain-id", "zj", "--role", "ledger")
    assert (done.code, done.reason) == (1, "CONFLICT")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_init_beside_an_interrupted_one(tmp_path: Path, run: Run) -> None:
    (tmp_path / ".n.new").mkdir()
    done = run("init", tmp_path / "n", "--chain-id", "zj", "--role", "ledger")
    assert (done.code, done.reason) == (1, "CONFLICT")
    assert "rm -r" in done.err
    assert (tmp_path / ".n.new").is_dir()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--chain-id", "zj medical", "--role", "ledger"], "MALFORMED"),
        (["--chain-id", "z" * 64, "--role", "ledger"], "MALFORMED"),
        (["--chain-id", "zj", "--role", "bank"], "MALFORMED"),
        (["--chain-id", "zj", "--role", "ledger", "--validators", "0"], "MALFORMED"),
        (["--chain-id", "zj", "--role", "ledger", "--algorithm", "rsa"], "MALFORMED"),
        (["--chain-id", "zj", "--role", "ledger", "--listen", "0.0.0.0:1"], "CONFIG_INVALID"),
        (["--chain-id", "zj", "--role", "ledger", "--listen", "here"], "CONFIG_INVALID"),
        (["--role", "ledger"], "MALFORMED"),
    ],
)
def test_init_refuses_and_leaves_nothing(
    tmp_path: Path, run: Run, more: list[str], reason: str
) -> None:
    done = run("init", tmp_path / "n", *more)
    assert (done.code, done.reason) == (2, reason)
    assert list(tmp_path.iterdir()) == []


def test_init_below_a_file(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    done = run("init", tmp_path / "file" / "n", "--chain-id", "zj", "--role", "ledger")
    assert (done.code, done.reason) == (2, "MALFORMED")


# --- keys


def test_keys(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "h.pem"
    made = run("keys", "new", path, "--algorithm", "p256", "--json")
    assert made.code == 0
    assert made.json["algorithm"] == "p256"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("keys", "show", path, "--json").json == made.json
    assert made.json["public"] in run("keys", "show", path).out
    assert "PRIVATE" not in run("keys", "show", path).out


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["new", "h.pem", "--algorithm", "rsa"], 2, "MALFORMED"),
        (["new", "none/h.pem"], 2, "MALFORMED"),
        (["new", "there.pem"], 2, "CONFIG_INVALID"),
        (["show", "none.pem"], 2, "MALFORMED"),
        (["show", "."], 2, "MALFORMED"),
        (["show", "open.pem"], 2, "CONFIG_INVALID"),
        (["show", "text.pem"], 2, "MALFORMED"),
    ],
)
def test_keys_refuse(
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, mode in (("there.pem", 0o600), ("open.pem", 0o644), ("text.pem", 0o600)):
        (tmp_path / name).write_text("no key")
        (tmp_path / name).chmod(mode)
    done = run("keys", *args)
    assert (done.code, done.reason) == (code, reason)
    assert (tmp_path / "there.pem").read_text() == "no key"


# --- migrate, fsck


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "n", "zj", "ledger")


@pytest.fixture
def node(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "n"))


def test_migrate_says_what_it_did(node: Path, run: Run) -> None:
    done = run("migrate", "--config", node / "config.toml")
    assert done.code == 0
    assert "nothing to do" in done.out
    done = run("migrate", "--config", node / "config.toml", "--json")
    assert done.json["before"] == done.json["after"]


def test_a_database_that_is_not_there_is_not_made(node: Path, run: Run) -> None:
    (node / "node.db").unlink()
    for command in ("migrate", "fsck", "serve"):
        done = run(command, "--config", node / "config.toml")
        assert (done.code, done.reason) == (1, "NOT_FOUND")
    assert not (node / "node.db").exists()


def test_a_database_that_does_not_answer(node: Path, run: Run) -> None:
    config = node / "config.toml"
    elsewhere = 'database = "postgresql://nobody@127.0.0.1:1/none"'
    config.write_text(config.read_text().replace('database = "node.db"', elsewhere))
    for command in ("migrate", "fsck", "serve"):
        done = run(command, "--config", config)
        assert (done.code, done.reason) == (1, "DATABASE_UNREACHABLE")


def test_a_file_that_is_no_database(node: Path, run: Run) -> None:
    (node / "node.db").write_bytes(b"not a database" * 100)
    for command in ("migrate", "fsck", "serve"):
        done = run(command, "--config", node / "config.toml")
        assert (done.code, done.reason) == (1, "JOURNAL_CORRUPT")


def test_a_database_of_another_schema_does_not_start(node: Path, run: Run) -> None:
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    for command in ("fsck", "serve"):
        done = run(command, "--config", node / "config.toml")
        assert (done.code, done.reason) == (1, "WRONG_SCHEMA")
        assert "lianqiao migrate" in done.err


def test_a_database_of_a_newer_program_is_not_migrated(node: Path, run: Run) -> None:
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in ("migrate", "fsck", "serve"):
        done = run(command, "--config", node / "config.toml")
        assert (done.code, done.reason) == (1, "WRONG_SCHEMA")
        assert "hint: install the newer lianqiao" in done.err


def test_a_database_that_was_cut_off(node: Path, run: Run) -> None:
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(node / "node.db", 20_000)
    for command in ("migrate", "fsck", "serve"):
        done = run(command, "--config", node / "config.toml")
        assert (done.code, done.reason) == (1, "JOURNAL_CORRUPT")
        assert "restore its newest backup" in done.err


def test_a_database_of_another_chain_does_not_start(node: Path, run: Run) -> None:
    config = node / "config.toml"
    config.write_text(config.read_text().replace('chain_id = "zj"', 'chain_id = "sh"'))
    for command in ("fsck", "serve", "migrate"):
        done = run(command, "--config", config)
        assert (done.code, done.reason) == (1, "WRONG_CHAIN")
        assert "chain_id" in done.err


def test_fsck_finds_a_changed_entry(node: Path, run: Run) -> None:
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute("UPDATE entry SET value = zeroblob(40)")
    done = run("fsck", "--config", node / "config.toml", "--json")
    assert done.code == 1
    assert done.json["findings"]
    assert '"JOURNAL_CORRUPT"' in done.err


@pytest.mark.parametrize("change", ["DROP TABLE outbox", "ALTER TABLE lane DROP COLUMN cursor"])
def test_a_database_that_lacks_something(node: Path, run: Run, change: str) -> None:
    """Nothing of the journal is in it, so that no proof misses it."""
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute(change)
    lacks = "outbox" if "outbox" in change else "lane.cursor"
    done = run("fsck", "--config", node / "config.toml")
    assert (done.code, done.reason) == (1, "JOURNAL_CORRUPT")
    assert f"database: {lacks} is missing" in done.out
    done = run("serve", "--config", node / "config.toml")
    assert (done.code, done.reason) == (1, "JOURNAL_CORRUPT")
    assert f"the database lacks {lacks}" in done.err


def test_a_page_that_is_garbled(node: Path, run: Run) -> None:
    """Of a table that no proof is in."""
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'outbox'"
        (page,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (node / "node.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    done = run("fsck", "--config", node / "config.toml")
    assert (done.code, done.reason) == (1, "JOURNAL_CORRUPT")


def test_fsck_says_that_a_copy_is_old(node: Path, run: Run) -> None:
    """Everything in it is signed and proven; there was more."""
    (mark,) = (node / "keys").glob("*.mark")
    kept = mark.read_text()
    mark.write_text('{"size": 74, "body": "x"}')
    done = run("fsck", "--config", node / "config.toml")
    assert (done.code, done.reason) == (1, "STALE_RESTORE")
    assert "size 74 was signed" in done.err
    mark.unlink()
    done = run("fsck", "--config", node / "config.toml")
    assert (done.code, done.reason) == (1, "STALE_RESTORE")
    mark.write_text(kept)
    assert run("fsck", "--config", node / "config.toml").code == 0


def test_fsck_of_a_copy_without_its_keys(node: Path, run: Run) -> None:
    shutil.rmtree(node / "keys")
    done = run("fsck", "--config", node / "config.toml")
    assert done.code == 0
    assert "whether it is the newest copy is not known" in done.out


def test_fsck_in_another_epoch_blames_the_configuration(node: Path, run: Run) -> None:
    """A node whose epoch was opened is whole, and must not be taken back to a backup."""
    with sqlite3.connect(node / "node.db") as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE name = 'epoch'")
    done = run("fsck", "--config", node / "config.toml")
    assert (done.code, done.reason) == (2, "CONFIG_INVALID")
    assert "made with epoch 1, the configuration says 0" in done.err


@pytest.mark.parametrize(
    ("old", "new", "code", "reason"),
    [
        ("zj-1.ed25519.pem", "gone.pem", 2, "CONFIG_INVALID"),
        ("{ ed25519 = ", "{ p256 = ", 2, "CONFIG_INVALID"),
        ('name = "zj-1"', 'name = "zj-9"', 2, "CONFIG_INVALID"),
        ("power = 1", "power = 2", 2, "CONFIG_INVALID"),
        ('role = "ledger"', 'epoch = 1\nrole = "ledger"', 2, "CONFIG_INVALID"),
        ('role = "ledger"', 'contracts = ["nobody"]\nrole = "ledger"', 1, "PORT_NOT_FOUND"),
        ('role = "ledger"', 'engine = "steam"\nrole = "ledger"', 2, "CONFIG_INVALID"),
        ("vault.key", "gone.key", 2, "CONFIG_INVALID"),
        ("chain_id", "chain_idd", 2, "CONFIG_INVALID"),
    ],
)
def test_serve_refuses_what_does_not_fit(
    node: Path, run: Run, old: str, new: str, code: int, reason: str
) -> None:
    config = node / "config.toml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))
    done = run("serve", "--config", config)
    assert (done.code, done.reason) == (code, reason)
    assert done.out == ""


@pytest.mark.parametrize("name", ["zj-1.ed25519.pem", "witness.ed25519.pem", "vault.key"])
def test_a_key_that_is_lost_is_restored_and_not_made_anew(node: Path, run: Run, name: str) -> None:
    """A new key signs for nobody whom others know, and opens no record that was sealed before."""
    (node / "keys" / name).unlink()
    done = run("serve", "--config", node / "config.toml")
    assert (done.code, done.reason) == (2, "CONFIG_INVALID")
    assert "hint: restore it from its backup" in done.err


def test_serve_refuses_keys_that_others_may_read(node: Path, run: Run) -> None:
    (node / "keys" / "zj-2.ed25519.pem").chmod(0o640)
    done = run("serve", "--config", node / "config.toml")
    assert (done.code, done.reason) == (2, "CONFIG_INVALID")
    assert "chmod 600" in done.err
