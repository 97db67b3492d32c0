"""Private keys: made, kept in files, and used to sign. What verifies them is `relay.light.keys`.

A key file is PKCS#8 PEM without a password, readable by its owner alone; a file that others can
read is refused, since a key that leaked once cannot be called back. Signatures have the exact
formats of `relay.light.keys` (Ed25519: 64 bytes; ECDSA: r ‖ s with low s) and are deterministic
(RFC 8032, RFC 6979): a node that signs the same body again after a crash gives the same bytes.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.errors import Malformed, NotFound, Reason, Refused
from relay.light.keys import P256_N, SECP256K1_N

MAX_KEY_FILE_BYTES = 16 * 1024
SEED_BYTES = 32

_CURVES: dict[str, tuple[ec.EllipticCurve, int]] = {
    "p256": (ec.SECP256R1(), P256_N),
    "secp256k1": (ec.SECP256K1(), SECP256K1_N),
}
SIGNING_ALGORITHMS = ("ed25519", *_CURVES)

_Private = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class SigningKey:
    """One private key. Its repr shows the public half only."""

    __slots__ = ("_private", "algorithm", "public")

    def __init__(self, private: _Private) -> None:
        self._private = private
        self.algorithm = _algorithm_of(private)
        """Name in `relay.light.keys.ALGORITHMS`."""
        self.public = _public_bytes(private)
        """Public key: 32 bytes (Ed25519) or 33 (compressed point)."""

    @classmethod
    def generate(cls, algorithm: str = "ed25519") -> SigningKey:
        """A fresh key from the system's randomness."""
        return cls.from_seed(os.urandom(SEED_BYTES), algorithm)

    @classmethod
    def from_seed(cls, seed: bytes, algorithm: str = "ed25519") -> SigningKey:
        """The key of a 32-byte seed, always the same: for demonstrations and tests.

        Ed25519: the seed of RFC 8032. ECDSA: H("lianqiao key 1" ‖ seed) and H("lianqiao key 2" ‖
        seed) as one number, modulo n - 1, plus 1 (the surplus bits leave no bias).
        """
        if len(seed) != SEED_BYTES:
            raise Malformed(f"a seed is {SEED_BYTES} bytes long, not {len(seed)}")
        if algorithm == "ed25519":
            return cls(Ed25519PrivateKey.from_private_bytes(seed))
        if algorithm not in _CURVES:
            raise Malformed(f"no key can be made for algorithm {algorithm[:32]!r}")
        curve, order = _CURVES[algorithm]
        wide = sha256(b"lianqiao key 1" + seed).digest() + sha256(b"lianqiao key 2" + seed).digest()
        return cls(ec.derive_private_key(int.from_bytes(wide, "big") % (order - 1) + 1, curve))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """The key in a PEM file.

        Raises NotFound(NOT_FOUND), Refused(CONFIG_INVALID) where others may read the file, and
        Malformed.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                pem = file.read(MAX_KEY_FILE_BYTES + 1)
        except FileNotFoundError as error:
            raise NotFound(
                Reason.NOT_FOUND, f"no key file {path}", hint="make one: lianqiao keys new"
            ) from error
        except OSError as error:
            raise Malformed(f"key file {path} cannot be read: {error.strerror}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"key file {path} is open to others (mode {stat.S_IMODE(mode):04o})",
                hint=f"chmod 600 {path}; if others had access, make a new key",
            )
        return cls.from_pem(pem, str(path))

    @classmethod
    def from_pem(cls, pem: bytes, what: str = "key") -> SigningKey:
        """The key in PKCS#8 PEM without a password. Raises Malformed."""
        if len(pem) > MAX_KEY_FILE_BYTES:
            raise Malformed(f"{what}: too long for a key file")
        try:
            private = load_pem_private_key(pem, password=None)
        except TypeError as error:
            raise Malformed(
                f"{what}: is encrypted", hint="store it without a password, mode 600"
            ) from error
        except Exception as error:  # the library lets several kinds through for hostile bytes
            raise Malformed(f"{what}: is not a PKCS#8 PEM private key") from error
        if not isinstance(private, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            raise Malformed(f"{what}: is of a kind that is not supported")
        return cls(private)

    def save(self, path: Path) -> None:
        """Writes a new PEM file of mode 0600. Raises Refused(CONFIG_INVALID) if it exists."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"{path} exists: a key file is never overwritten",
                hint="choose another name, or move the old file away",
            ) from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.pem())
            file.flush()
            os.fsync(file.fileno())

    def pem(self) -> bytes:
        """The private key as PKCS#8 PEM."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """64 bytes in the format of `relay.light.keys`, over `message`."""
        if isinstance(self._private, Ed25519PrivateKey):
            return self._private.sign(message)
        order = _CURVES[self.algorithm][1]
        algorithm = ec.ECDSA(SHA256(), deterministic_signing=True)
        r, s = decode_dss_signature(self._private.sign(message, algorithm))
        return r.to_bytes(32, "big") + min(s, order - s).to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm}:{self.public.hex()})"


def _algorithm_of(private: _Private) -> str:
    if isinstance(private, Ed25519PrivateKey):
        return "ed25519"
    for name, (curve, _) in _CURVES.items():
        if private.curve.name == curve.name:
            return name
    raise Malformed(f"keys on curve {private.curve.name} are not supported")


def _public_bytes(private: _Private) -> bytes:
    if isinstance(private, Ed25519PrivateKey):
        return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
