"""A small ledger for tests: entries in a list, keys from seeds, heads signed when asked for.

It is built from the product's own encoders, and holds no opinion on what is valid: every part of a
header can be replaced before it is signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relay.keys import SigningKey
from relay.light import merkle
from relay.light.checkpoint import CheckpointBody, cosign_body, encode_body, sign_body
from relay.light.checkpoint_client import CHECKPOINT, encode_header
from relay.light.membership import encode_membership_proof, entry_hash
from relay.light.note import Note, NoteSignature, encode_note, sort_signatures
from relay.light.types import ClientState, Header, Validator, ValidatorSet, Witness
from relay.light.validators import set_hash, validator_set

START = 1_760_000_000
"""Seconds; the time of the first head."""


def key(name: str, algorithm: str = "ed25519") -> SigningKey:
    return SigningKey.from_seed(name.encode().ljust(32, b"."), algorithm)


def make_set(
    names: Sequence[str], power: int = 1, algorithms: Sequence[str] = ("ed25519",)
) -> ValidatorSet:
    return validator_set(
        [Validator(n, power, tuple((a, key(n, a).public) for a in algorithms)) for n in names]
    )


def witness(name: str, algorithm: str = "ed25519") -> Witness:
    return Witness(name, algorithm, key(name, algorithm).public)


class Ledger:
    """`write` entries, then take a `header`, or only parts of one."""

    def __init__(self, origin: str = "zj-medical/0", names: Sequence[str] = "abcd") -> None:
        self.origin = origin
        self.entries: list[tuple[bytes, bytes]] = []
        self.set = make_set([f"{origin.split('-')[0]}-{n}" for n in names])
        self.state = ClientState("checkpoint", origin, witness_quorum=0)

    def write(self, path: bytes, value: bytes) -> int:
        """The entry's index."""
        self.entries.append((path, value))
        return len(self.entries) - 1

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.write(b"filler %d" % len(self.entries), b"")

    @property
    def size(self) -> int:
        return len(self.entries)

    def node(self, level: int, index: int) -> bytes:
        covered = self.entries[index << level : (index + 1) << level]
        assert len(covered) == 1 << level
        return merkle.root([entry_hash(path, value) for path, value in covered])

    def body(self, size: int | None = None, **fields: object) -> CheckpointBody:
        size = self.size if size is None else size
        own = set_hash(self.set)
        body = CheckpointBody(
            self.origin, size, merkle.root_at(size, self.node), START + size, own, own
        )
        return replace(body, **fields)  # type: ignore[arg-type]

    def lines(
        self,
        body: CheckpointBody,
        signers: Sequence[str] | None = None,
        algorithm: str = "ed25519",
    ) -> list[NoteSignature]:
        names = [v.name for v in self.set.validators] if signers is None else signers
        return [sign_body(n, key(n, algorithm), encode_body(body)) for n in names]

    def cosign(
        self, body: CheckpointBody, name: str, time: int, algorithm: str = "ed25519"
    ) -> NoteSignature:
        return cosign_body(name, key(name, algorithm), encode_body(body), time)

    def raw(
        self,
        trusted: int = 0,
        body: CheckpointBody | None = None,
        lines: Sequence[NoteSignature] | None = None,
        others: Sequence[NoteSignature] = (),
        validators: ValidatorSet | None = None,
    ) -> bytes:
        """A raw header of `body` (default: the present head), linked from size `trusted`."""
        body = self.body() if body is None else body
        signed = sort_signatures(self.lines(body) if lines is None else lines)
        note = encode_note(Note(encode_body(body), signed + sort_signatures(others)))
        link = merkle.consistency_proof(trusted, body.size, self.node) if trusted else ()
        return encode_header(note, self.set if validators is None else validators, trusted, link)

    def header(self, trusted: int = 0, **parts: object) -> Header:
        return CHECKPOINT.decode_header(self.raw(trusted, **parts))  # type: ignore[arg-type]

    def prove(self, indexes: Sequence[int], size: int | None = None) -> bytes:
        """A membership proof for leaf indexes in order of claims."""
        size = self.size if size is None else size
        hashes = merkle.multi_proof(sorted(set(indexes)), size, self.node)
        return encode_membership_proof(indexes, hashes)
