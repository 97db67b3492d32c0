"""Encryption at rest for the source's own record store: AES-256-GCM under keys of one key file.

The key file holds 64 hexadecimal digits and is readable by its owner alone (0600). From it HKDF
(RFC 5869, SHA-256) derives one key per use, bound to the ledger id: sealing records, sealing audit
lines, and the keyed hash by which patients are looked up. Nothing sealed for one ledger, record or
place opens as another: that is the associated data. Nonces are 12 random bytes; one key must not
seal more than 2^32 things (NIST SP 800-38D §8.3): 200 million records of 20 parts.

Randomness is an argument (`Entropy`), given by the server.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.errors import Invalid, Malformed, NotFound, Reason, Refused

Entropy = Callable[[int], bytes]
"""Random bytes of the asked length, as os.urandom."""
KEY_BYTES = 32
NONCE_BYTES = 12
OVERHEAD = NONCE_BYTES + 16


class VaultKeys:
    """The three keys of one vault."""

    def __init__(self, key: bytes, ledger: str) -> None:
        if len(key) != KEY_BYTES:
            raise Malformed(f"a vault key is {KEY_BYTES} bytes")
        self.records = Seal(_derive(key, ledger, b"records"))
        self.audit = Seal(_derive(key, ledger, b"audit"))
        self._patients = _derive(key, ledger, b"patients")

    def patient(self, scheme: str, value: str) -> bytes:
        """The keyed hash under which a patient's records are listed, 32 bytes."""
        named = scheme.encode(errors="surrogatepass")
        message = len(named).to_bytes(4, "big") + named + value.encode(errors="surrogatepass")
        return hmac.new(self._patients, message, sha256).digest()

    def __repr__(self) -> str:
        return "VaultKeys(…)"


def _derive(key: bytes, ledger: str, use: bytes) -> bytes:
    info = b"lianqiao/vault/1\x00" + use + b"\x00" + ledger.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


class Seal:
    """Seals and opens bytes under one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, entropy: Entropy, plain: bytes, bound: bytes) -> bytes:
        """nonce ‖ ciphertext ‖ tag; it opens only with the same `bound`."""
        nonce = entropy(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes, what: str) -> bytes:
        """What was sealed. Raises Invalid(VAULT_CORRUPT), naming `what` and never its content."""
        if len(sealed) >= OVERHEAD:
            try:
                return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
            except InvalidTag:
                pass
        raise corrupt(what)


def corrupt(what: str) -> Invalid:
    """The error for stored bytes that are not what this vault wrote."""
    return Invalid(
        Reason.VAULT_CORRUPT,
        f"{what} does not open",
        hint="the file was changed or belongs elsewhere, or the vault key is another; restore both",
    )


def create_key(path: Path, entropy: Entropy) -> bytes:
    """Writes a new key file of mode 0600. Raises Refused(CONFIG_INVALID) where one is there."""
    key = entropy(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"{path} exists: a vault key is never overwritten",
            hint="every record sealed under it would be lost; choose another path",
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def load_key(path: Path) -> bytes:
    """The key in a key file.

    Raises NotFound(NOT_FOUND), Refused(CONFIG_INVALID) where others may read it, and Malformed.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2 * KEY_BYTES + 2)
    except FileNotFoundError:
        raise NotFound(
            Reason.NOT_FOUND,
            f"no vault key {path}",
            hint="restore it from its backup: a new key opens nothing that was sealed before",
        ) from None
    except OSError as error:
        raise Malformed(f"vault key {path} cannot be read: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"vault key {path} is open to others (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {path}",
        )
    digits = text.removesuffix(b"\n")
    if len(digits) != 2 * KEY_BYTES or digits.strip(b"0123456789abcdef"):
        raise Malformed(f"vault key {path} is not {2 * KEY_BYTES} lower-case hexadecimal digits")
    return bytes.fromhex(digits.decode("ascii"))
