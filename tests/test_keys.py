from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from relay.errors import Malformed, NotFound, Reason, Refused
from relay.keys import SIGNING_ALGORITHMS, SigningKey
from relay.light import keys
from tests.refusals import refused


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_a_key_survives_its_file(algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = SigningKey.generate(algorithm)
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = SigningKey.load(path)
    assert (loaded.algorithm, loaded.public) == (algorithm, key.public)
    keys.verify(algorithm, key.public, b"m", loaded.sign(b"m"))


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_a_seed_gives_one_key(algorithm: str) -> None:
    seed = bytes(range(32))
    assert (
        SigningKey.from_seed(seed, algorithm).public == SigningKey.from_seed(seed, algorithm).public
    )
    assert (
        SigningKey.from_seed(seed, algorithm).public
        != SigningKey.from_seed(bytes(32), algorithm).public
    )
    assert SigningKey.generate(algorithm).public != SigningKey.generate(algorithm).public


def test_the_ed25519_seed_is_that_of_rfc_8032() -> None:
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert SigningKey.from_seed(bytes.fromhex(seed)).public.hex() == public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_file_that_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    SigningKey.from_seed(bytes(32)).save(path)
    os.chmod(path, mode)
    assert "chmod 600" in refused(Reason.CONFIG_INVALID, SigningKey.load, path, kind=Refused).hint


def test_files_that_hold_no_usable_key(tmp_path: Path) -> None:
    assert refused(Reason.NOT_FOUND, SigningKey.load, tmp_path / "none.pem", kind=NotFound).hint
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    big = rsa.generate_private_key(65537, 2048)
    other_curve = ec.generate_private_key(ec.SECP384R1())
    locked = other_curve.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")
    )
    for content in (
        b"",
        b"no key",
        b"\xff" * 100,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        SigningKey.from_seed(bytes(32)).pem()[:60],
        b"x" * 20_000,
        locked,
        big.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        other_curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ):
        path.write_bytes(content)
        refused(Reason.MALFORMED, SigningKey.load, path, kind=Malformed)
    refused(Reason.MALFORMED, SigningKey.load, tmp_path, kind=Malformed)


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    SigningKey.from_seed(bytes(32)).save(path)
    with pytest.raises(Refused) as err:
        SigningKey.from_seed(bytes(range(32))).save(path)
    assert err.value.reason == Reason.CONFIG_INVALID
    assert SigningKey.load(path).public == SigningKey.from_seed(bytes(32)).public


def test_seeds_and_algorithms_are_checked() -> None:
    for seed, algorithm in ((bytes(31), "ed25519"), (bytes(33), "p256"), (bytes(32), "sm2")):
        with pytest.raises(Malformed) as err:
            SigningKey.from_seed(seed, algorithm)
        assert err.value.reason == Reason.MALFORMED


def test_the_private_half_is_not_shown() -> None:
    key = SigningKey.from_seed(bytes(range(32)))
    assert repr(key) == f"SigningKey(ed25519:{key.public.hex()})"
