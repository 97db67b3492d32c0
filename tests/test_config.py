"""One file a node: what it accepts, and how exactly it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import MAX_FILE_BYTES, Config, load, split_address
from relay.errors import LianqiaoError, Reason
from tests.refusals import refused

DEPLOY = Path(__file__).parent.parent / "deploy"
EXAMPLES = sorted(DEPLOY.glob("*.example.toml"))

LEDGER = """
chain_id = "zj-medical"
role = "ledger"
[[validators]]
name = "zj-1"
keys = { ed25519 = "keys/zj-1.pem" }
[vault]
key = "keys/vault.key"
"""
RELAY = """
chain_id = "relay-east"
role = "relay"
[[validators]]
name = "r-1"
keys = { ed25519 = "/etc/keys/r-1.pem", secp256k1 = "keys/r-1.k1.pem" }
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN", "LOG__LEVEL", "TICK_SECONDS", "LANES", "VALIDATORS"):
        monkeypatch.delenv(f"LIANQIAO_{name}", raising=False)


def read(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path)


def not_read(tmp_path: Path, text: str | bytes) -> LianqiaoError:
    where = str(tmp_path / "config.toml")
    error = refused(Reason.CONFIG_INVALID, read, tmp_path, text, said=where)
    assert error.hint
    return error


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_every_example_loads(path: Path) -> None:
    config = load(path)
    assert config.role in path.name
    assert len(config.validators) == 4


def test_there_is_an_example_of_each_role() -> None:
    assert {load(path).role for path in EXAMPLES} == {"ledger", "relay"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_every_example_shows_every_key(path: Path) -> None:
    text = path.read_text()
    other = {"vault"} if "relay" in path.name else {"lanes"}
    for name in Config.model_fields.keys() - other:
        assert f"{name} =" in text or f"[{name}]" in text or f"[[{name}]]" in text


def test_relative_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    config = read(tmp_path, LEDGER)
    assert config.data == tmp_path
    assert config.database_url == f"sqlite:///{tmp_path}/node.db"
    assert config.vault is not None
    assert config.vault.key == tmp_path / "keys/vault.key"
    assert config.vault.directory == tmp_path / "vault"
    assert config.validators[0].keys["ed25519"] == tmp_path / "keys/zj-1.pem"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    keys = read(tmp_path, RELAY).validators[0].keys
    assert keys == {
        "ed25519": Path("/etc/keys/r-1.pem"),
        "secp256k1": tmp_path / "keys/r-1.k1.pem",
    }


def test_database_elsewhere(tmp_path: Path) -> None:
    assert read(tmp_path, 'database = "x/y.db"' + LEDGER).database_url == (
        f"sqlite:///{tmp_path}/x/y.db"
    )
    url = "postgresql+psycopg://relay@db.internal/relay"
    assert read(tmp_path, f'database = "{url}"' + LEDGER).database_url == url


def test_the_role_decides_which_contracts_run_unless_the_file_does(tmp_path: Path) -> None:
    assert read(tmp_path, LEDGER).ports == ("registry", "escrow")
    assert read(tmp_path, RELAY).ports == ("recognition", "settlement")
    assert read(tmp_path, 'contracts = ["x"]' + RELAY).ports == ("x",)


def test_the_mark_lies_beside_the_key_and_is_named_by_chain_and_epoch(tmp_path: Path) -> None:
    assert read(tmp_path, "epoch = 2" + LEDGER).mark_file == tmp_path / "keys/zj-medical.2.mark"


def test_environment_replaces_single_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIANQIAO_LISTEN", "127.0.0.1:9")
    monkeypatch.setenv("LIANQIAO_LOG__LEVEL", "debug")
    monkeypatch.setenv("LIANQIAO_NODE", "127.0.0.1:7101")
    config = read(tmp_path, LEDGER + '[log]\nformat = "json"\n')
    assert (config.listen, config.log.level, config.log.format) == ("127.0.0.1:9", "debug", "json")


def test_unreadable_environment_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIANQIAO_VALIDATORS", "[{")
    assert "validators" in not_read(tmp_path, LEDGER).detail


def test_nothing_changes_after_loading(tmp_path: Path) -> None:
    config = read(tmp_path, LEDGER)
    with pytest.raises(ValueError, match="frozen"):
        config.listen = "127.0.0.1:1"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.log.level = "error"  # type: ignore[misc]


# --- unknown keys


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ('listn = "127.0.0.1:1"' + LEDGER, "listn", "did you mean listen?"),
        (LEDGER + 'directry = "x"', "vault.directry", "did you mean directory?"),
        (LEDGER + "[log]\nlvl = 1", "log.lvl", "did you mean level?"),
        (
            LEDGER.replace("keys = {", "pover = 1\nkeys = {"),
            "validators[0].pover",
            "did you mean power?",
        ),
        (
            RELAY + '[[lanes]]\naddress="h:1"\nclient="c"\nadress="h:2"',
            "lanes[0].adress",
            "did you mean address?",
        ),
        ("zzzzzzzz = 1" + LEDGER, "zzzzzzzz", "known here: chain_id, "),
    ],
)
def test_unknown_key_names_key_file_and_nearest(
    tmp_path: Path, text: str, key: str, hint: str
) -> None:
    error = not_read(tmp_path, text)
    assert f"unknown key {key}" in error.detail
    assert error.hint.startswith(hint)
    assert error.data["key"] == key


def test_unknown_key_is_told_before_what_it_caused(tmp_path: Path) -> None:
    assert "unknown key chainid" in not_read(tmp_path, LEDGER.replace("chain_id", "chainid")).detail


# --- values


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("tick_seconds = 'soon'" + LEDGER, "tick_seconds: "),
        ("tick_seconds = 0" + LEDGER, "tick_seconds: "),
        ("epoch = -1" + LEDGER, "epoch: "),
        ("validators = 3\nchain_id='a'\nrole='relay'", "validators: "),
        ("validators = []\nchain_id='a'\nrole='relay'", "validators: "),
        (LEDGER.replace('"ledger"', '"bank"'), "role: "),
        (LEDGER.replace('"zj-medical"', '"zj/0"'), "chain_id: must be 1-64"),
        (LEDGER.replace('"zj-medical"', '""'), "chain_id: must be 1-64"),
        (LEDGER.replace('"zj-medical"', '"' + "a" * 65 + '"'), "chain_id: must be 1-64"),
        (LEDGER.replace('chain_id = "zj-medical"', ""), "chain_id is missing"),
        (LEDGER.replace("keys = {", "power = 0\nkeys = {"), "validators[0].power: "),
        (LEDGER.replace('ed25519 = "keys/zj-1.pem"', ""), "validators[0].keys: "),
        (LEDGER.replace("ed25519 =", '"ED 25519" ='), "validators[0].keys"),
        (LEDGER.replace('[vault]\nkey = "keys/vault.key"', ""), "a ledger needs a [vault]"),
        (RELAY + '[vault]\nkey="k"', "a relay keeps no originals"),
        (LEDGER + '[[lanes]]\naddress="h:1"\nclient="c"', "only a relay runs lanes"),
        (RELAY + '[[lanes]]\naddress="h"\nclient="c"', "lanes[0].address: must be HOST:PORT"),
        (RELAY + '[[lanes]]\naddress="h:0"\nclient="c"', "lanes[0].address: must be HOST:PORT"),
        (RELAY + '[[validators]]\nname="r-1"\nkeys={ed25519="k"}', "two validators are the same"),
        (
            RELAY + '[[validators]]\nname="r-2"\nkeys={ed25519="/etc/keys/r-1.pem"}',
            "two key files are the same",
        ),
        ('database = "mysql://h/d"' + LEDGER, "database: must be a file"),
        ('database = "sqlite:///x.db"' + LEDGER, "database: must be a file"),
        ('database = "postgresql://["' + LEDGER, "database: "),
        ('database = "postgresql://u:p@h/d"' + LEDGER, "must not hold a password"),
        (LEDGER + '[log]\nlevel = "loud"', "log.level: "),
    ],
)
def test_wrong_value_names_its_key(tmp_path: Path, text: str, needle: str) -> None:
    assert needle in not_read(tmp_path, text).detail


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    error = not_read(tmp_path, 'database = "postgresql://u:s3cret@h/d"' + LEDGER)
    assert "s3cret" not in str(error) + error.hint + repr(error.data)


@pytest.mark.parametrize("listen", ["0.0.0.0:7101", "10.0.0.1:7101", "[::]:7101", "8.8.8.8:1"])
def test_listens_on_loopback_only(tmp_path: Path, listen: str) -> None:
    assert "is not a loopback address" in not_read(tmp_path, f'listen = "{listen}"' + LEDGER).detail


@pytest.mark.parametrize(
    "listen", ["", "7101", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "h:1", "127.0.0.1:-1"]
)
def test_listen_must_be_an_address(tmp_path: Path, listen: str) -> None:
    assert (
        "must be an IP address and a port"
        in not_read(tmp_path, f'listen = "{listen}"' + LEDGER).detail
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7101", "localhost:7101"])
def test_loopback_addresses(tmp_path: Path, listen: str) -> None:
    assert read(tmp_path, f'listen = "{listen}"' + LEDGER).listen == listen


def test_split_address() -> None:
    assert split_address("[::1]:7101") == ("::1", 7101)


# --- files


@pytest.mark.parametrize(
    ("raw", "needle"),
    [
        (b"\xef\xbb\xbf" + LEDGER.encode(), "byte order mark"),
        (b"chain_id = \xff", "is not UTF-8 at byte 11"),
        (b"chain_id = ", "is not TOML"),
        (b"chain_id = 1\nchain_id = 2", "is not TOML"),
        (b"x = " + b"[" * 5000, "is not TOML|nested too deeply"),
        (b"#" * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, raw: bytes, needle: str) -> None:
    detail = not_read(tmp_path, raw).detail
    assert any(part in detail for part in needle.split("|"))


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_missing_file_or_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(LianqiaoError) as err:
        load(tmp_path / name)
    assert err.value.reason is Reason.CONFIG_INVALID
    assert "cannot be read" in err.value.detail
