"""The signature algorithm `ed25519-zip215`: Ed25519 exactly as CometBFT accepts it.

The rule is ZIP-215 (https://zips.z.cash/zip-0215), which CometBFT took so that all its nodes agree:

    * public key A and R are any 32 bytes that decompress to a point, canonical or not, of small
      order or not; S is below the group order L;
    * [8][S]B = [8]R + [8][k]A, with the cofactor.

A narrower rule would refuse commits that the chain accepted, and stop this client for good: whether
a set holds keys of small order is the chain's to decide. That is also why this is another algorithm
than `ed25519` and is pinned by its own name. The arithmetic is that of ed25519-zebra (Zcash
Foundation), by py-ed25519-zebra-bindings; tests hold it against the 196 published cases and the
twelve of ed25519-speccheck.
"""

from __future__ import annotations

from ed25519_zebra import ed_verify

from relay.errors import Invalid, Reason
from relay.light.keys import Algorithm, register

ED25519 = "ed25519-zip215"


def check_key(key: bytes) -> None:
    """Raises Invalid(WEAK_KEY) for a key that is not 32 bytes long; nothing else is refused."""
    if len(key) != 32:
        raise Invalid(Reason.WEAK_KEY, "an ed25519 public key is 32 bytes long")


def verify(key: bytes, message: bytes, signature: bytes) -> None:
    """Raises Invalid(INVALID_SIGNATURE) or Invalid(WEAK_KEY)."""
    check_key(key)
    if len(signature) != 64 or not ed_verify(signature, message, key):
        raise Invalid(
            Reason.INVALID_SIGNATURE, "ed25519 signature does not verify", algorithm=ED25519
        )


register(Algorithm(ED25519, check_key, verify))
