"""Witnesses in a configuration: a line each, in two forms, or a table; and what is none."""

from __future__ import annotations

import json
import tomllib
from base64 import b64encode
from pathlib import Path

import pytest

from relay.cli.witness import config_line
from relay.keys import SigningKey
from relay.light.note import cosignature_key_id
from relay.light.types import Witness
from tests.test_config import LEDGER, not_read, read

KEY = bytes.fromhex("5dd397454602bedfb6d02006a78dd22dd0c2922bf36e05e07e64e676956634e9")
WITNESS = Witness("zj-medical", "ed25519", KEY)
OTHER = Witness("sh-medical", "secp256k1", SigningKey.generate("secp256k1").public)
LINE = config_line(WITNESS, "127.0.0.1:7101")


def verifier_key(name: str, kind: int, key: bytes, key_id: str = "") -> str:
    """As https://c2sp.org/signed-note has it."""
    told = key_id or cosignature_key_id(name, "ed25519", key).hex()
    return f"{name}+{told}+{b64encode(bytes([kind]) + key).decode()}"


def witnessed(*lines: str, quorum: int = 0) -> str:
    """A configuration that asks them."""
    return f"witness_quorum = {quorum}\nwitnesses = {json.dumps(lines)}\n{LEDGER}"


def test_a_line_is_a_witness(tmp_path: Path) -> None:
    asked = read(tmp_path, witnessed(LINE, config_line(OTHER, "http://sh.example/w"), quorum=2))
    assert asked.shown == ((OTHER, WITNESS), 2)
    assert [w.address for w in asked.witnesses] == ["127.0.0.1:7101", "http://sh.example/w"]


def test_a_verifier_key_is_a_witness(tmp_path: Path) -> None:
    line = f"{verifier_key('zj-medical', 4, WITNESS.key)} https://w.example"
    asked = read(tmp_path, witnessed(line, quorum=1))
    assert asked.shown == ((WITNESS,), 1)
    assert asked.witnesses[0].address == "https://w.example"


def test_a_witness_has_any_name_of_a_signed_note(tmp_path: Path) -> None:
    name = "witness.example/w:1"
    line = f"{verifier_key(name, 4, WITNESS.key)} https://w.example"
    ((shown,), _) = read(tmp_path, witnessed(line)).shown
    assert shown == Witness(name, "ed25519", WITNESS.key)
    name, key, address = "with+plus", *LINE.split()[1:]
    said = str(not_read(tmp_path, witnessed(f"{name} {key} {address}")))
    assert "without space and plus" in said


def test_a_table_is_a_witness(tmp_path: Path) -> None:
    name, key, address = LINE.split()
    table = f'[[witnesses]]\nname = "{name}"\nkey = "{key}"\naddress = "{address}"\n'
    assert read(tmp_path, LEDGER + table).shown == ((WITNESS,), 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("zj-medical", "must be NAME ALGORITHM:KEY ADDRESS"),
        (f"{LINE} more", "must be NAME ALGORITHM:KEY ADDRESS"),
        (LINE + " " * 1024, "must be NAME ALGORITHM:KEY ADDRESS"),
        ("zj-medical ed25519:00 127.0.0.1:7101", "the key of witness zj-medical"),
        (f"zj-medical ed25519:{'00' * 32} 127.0.0.1:7101", "the key of witness zj-medical"),
        (f"zj-medical {WITNESS.key.hex()} 127.0.0.1:7101", "key"),
        (f"{verifier_key('w', 1, WITNESS.key)} 127.0.0.1:1", "of type 4"),
        (f"{verifier_key('w', 4, WITNESS.key[:31])} 127.0.0.1:1", "of type 4"),
        (f"{verifier_key('w', 4, WITNESS.key, '00000000')} 127.0.0.1:1", "it was mistyped"),
        ("w+00000000+* 127.0.0.1:1", "is not base64"),
        (f"{verifier_key('w', 4, WITNESS.key)} ftp://w.example", "must be HOST:PORT"),
    ],
)
def test_what_is_no_witness(tmp_path: Path, line: str, said: str) -> None:
    assert said in str(not_read(tmp_path, witnessed(line)))


def test_one_witness_is_named_once(tmp_path: Path) -> None:
    assert "two witnesses are the same" in str(not_read(tmp_path, witnessed(LINE, LINE)))


def test_no_more_can_be_asked_for_than_there_are(tmp_path: Path) -> None:
    assert "there are 1 witnesses" in str(not_read(tmp_path, witnessed(LINE, quorum=2)))


def test_the_line_stands_above_the_sections(tmp_path: Path) -> None:
    error = not_read(tmp_path, f"{LEDGER}witnesses = {json.dumps([LINE])}\n")
    assert error.hint == "witnesses stands above the first [section] of the file"


def test_a_key_does_not_sign_both_ways(tmp_path: Path) -> None:
    """The key that signs this node's heads co-signs nobody's."""
    own = '[witness]\nname = "zj-medical"\nkeys = { ed25519 = "keys/zj-1.pem" }\n'
    assert "two key files are the same" in str(not_read(tmp_path, LEDGER + own))


def test_the_printed_line_is_a_string_of_toml() -> None:
    """As it is pasted between the brackets."""
    assert tomllib.loads(f"witnesses = [\n  {json.dumps(LINE)},\n]")["witnesses"] == [LINE]
