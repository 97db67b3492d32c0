"""A signature algorithm that costs one hash, for simulations: everybody can forge it.

It is known to processes that import this module and to no other, and nobody forges in a
simulation: what must be refused there is refused for other reasons. Forgeries have vectors and
tests of their own, and one slow seed runs with real keys.
"""

from __future__ import annotations

from hashlib import sha256

from relay.errors import Invalid, Reason
from relay.keys import SigningKey
from relay.light import keys
from relay.light.checkpoint import Signer

CHEAP = "cheap-for-simulation"
_TAG = b"lianqiao simulation "


class CheapKey:
    """relay.light.checkpoint.Signer without arithmetic."""

    algorithm = CHEAP

    def __init__(self, seed: bytes) -> None:
        self.public = sha256(_TAG + seed).digest()

    def sign(self, message: bytes) -> bytes:
        """See Signer."""
        return _signature(self.public, message)


def _signature(public: bytes, message: bytes) -> bytes:
    return sha256(_TAG + public + message).digest()


def _check(key: bytes) -> None:
    if len(key) != 32:
        raise Invalid(Reason.WEAK_KEY, "a cheap key is 32 bytes long")


def _verify(key: bytes, message: bytes, signature: bytes) -> None:
    if signature != _signature(key, message):
        raise Invalid(Reason.INVALID_SIGNATURE, "a cheap signature does not verify")


keys.register(keys.Algorithm(CHEAP, _check, _verify))


def signer(seed: bytes, algorithm: str) -> Signer:
    """The key of a seed under either kind of algorithm."""
    return CheapKey(seed) if algorithm == CHEAP else SigningKey.from_seed(seed, algorithm)
