"""Signs this node's heads: one body per size, ever, also after a crash or a restored backup.

A high-water mark (size and hash of the body) lies beside the keys and is raised, durably, before a
signature leaves. A node whose database is behind its mark was restored from an old copy: it stays
stopped, since it might sign a second history.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from relay.disk import replace_file, writing
from relay.errors import Invalid, Reason, Refused
from relay.light.checkpoint import Signer, parse_body, sign_body, sign_bytes
from relay.light.keys import verify
from relay.light.note import (
    Note,
    checkpoint_key_id,
    decode_note,
    encode_note,
    sort_signatures,
)
from relay.light.types import MAX_INT, ValidatorSet
from relay.light.validators import decode_set


class HighWaterMark:
    """The last signed size and body, in a file that only processes with this node's keys write.

    It is read again, under a lock, before it is raised: another process may have raised it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size, self.body_hash, self.closed_at = self._read()
        """`closed_at`: the last signed size of an epoch that has ended, else 0."""

    def _read(self) -> tuple[int, str, int]:
        try:
            found = json.loads(self._path.read_text())
            return int(found["size"]), str(found["body"]), int(found.get("closed_at", 0))
        except FileNotFoundError:
            return 0, "", 0
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise Refused(
                Reason.STALE_RESTORE,
                f"the high-water mark {self._path} cannot be read",
                hint="restore that file from the signing machine; do not make a new one",
            ) from err

    def refresh(self) -> None:
        """Takes up what another process has raised it to. Raises Refused(STALE_RESTORE)."""
        size, body_hash, closed_at = self._read()
        if size > self.size:
            self.size, self.body_hash, self.closed_at = size, body_hash, closed_at

    def raise_to(self, size: int, body: bytes) -> None:
        """Durable when it returns. Raises Refused(STALE_RESTORE) where another body of that size,
        or a larger size, was signed before, and Exhausted(LIMIT_EXCEEDED) where the file cannot be
        written: then nothing may be signed."""
        digest = sha256(body).hexdigest()
        if (size, digest) == (self.size, self.body_hash):
            return
        with self._alone():
            self.refresh()
            if size <= self.size and (size, digest) != (self.size, self.body_hash):
                raise Refused(
                    Reason.STALE_RESTORE,
                    f"a head of size {self.size} was signed before, not this one of size {size}",
                    hint="this database is an old copy: fetch the missing entries, or stay stopped",
                    signed=self.size,
                    asked=size,
                )
            self._write({"size": size, "body": digest})
            self.size, self.body_hash = size, digest

    def is_beyond(self, size: int, body: bytes) -> bool:
        """Whether more, or something else, was signed than a journal that ends in this body."""
        signed = (self.size, self.body_hash)
        return self.size > size or (
            self.size == size and signed != (size, sha256(body).hexdigest())
        )

    def close(self) -> None:
        """Ends an epoch: no size is above this mark any more. Idempotent."""
        with self._alone():
            self.refresh()
            if self.size < MAX_INT:
                signed = self.size
                self._write({"size": MAX_INT, "body": "", "closed_at": signed})
                self.size, self.body_hash, self.closed_at = MAX_INT, "", signed

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the mark for one process, and tells of a disk that cannot be written."""
        kept = "what is committed stays, and is signed then"
        with (
            writing(f"the high-water mark {self._path}", kept),
            self._path.with_name(self._path.name + ".lock").open("a") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, value: dict[str, int | str]) -> None:
        replace_file(self._path, json.dumps(value).encode())


class CheckpointSigner:
    """The validator keys that this process holds. In production each validator has its own.

    It may hold keys of the set in force and of an announced one side by side: a body is signed by
    those of its own set alone, since a client takes any other line for a forgery.
    """

    def __init__(self, signers: Sequence[tuple[str, Signer]], mark: HighWaterMark) -> None:
        """`signers`: (validator name, key) pairs; a validator may sign with several algorithms."""
        self._signers = list(signers)
        self._mark = mark

    def check_mark_kept(self, stored: int) -> None:
        """For a journal whose head of size `stored` was signed. Raises Refused(STALE_RESTORE)
        where the mark is gone or older: then nobody knows how much was signed."""
        if self._mark.size < stored:
            self._mark.refresh()
        if self._mark.size < stored:
            raise Refused(
                Reason.STALE_RESTORE,
                f"the journal has a signed head of size {stored}, and the high-water mark beside "
                f"the key {f'says {self._mark.size}' if self._mark.size else 'is missing'}",
                hint="bring the mark from the machine that signed last; processes that serve one "
                "journal share one directory of keys; if the mark is lost for good: "
                "lianqiao epoch open",
                stored=stored,
                signed=self._mark.size,
            )

    def check_not_stale(self, size: int, body: bytes) -> None:
        """Raises Refused(STALE_RESTORE) where more or something else was signed than is stored."""
        if self._mark.is_beyond(size, body):
            raise Refused(
                Reason.STALE_RESTORE,
                f"the database ends at size {size}, but size {self._mark.size} was signed",
                hint="this database is an old copy: restore the newest one; if its entries are "
                "lost for good: lianqiao epoch open",
                stored=size,
                signed=self._mark.size,
            )

    def sign(self, size: int, body: bytes, validators: ValidatorSet) -> str:
        """The signed note of a committed body, by the keys of `validators` that are here.

        Raises Refused(CONFIG_INVALID) where there is none, and Refused(STALE_RESTORE).
        """
        keys = {
            (v.name, algorithm, key) for v in validators.validators for algorithm, key in v.keys
        }
        signers = [(n, s) for n, s in self._signers if (n, s.algorithm, s.public) in keys]
        if not signers:
            raise Refused(
                Reason.CONFIG_INVALID,
                "this process holds no key of the validator set in force",
                hint="configure the keys of the announced set; what is committed is signed then",
                size=size,
            )
        self._mark.raise_to(size, body)
        lines = [sign_body(name, signer, body) for name, signer in signers]
        return encode_note(Note(body, sort_signatures(lines))).decode()


def verify_note(text: str, body: bytes, encoded_set: bytes) -> None:
    """Checks a stored note of this node: its body, every line, more than 2/3 of the set's power.

    Raises Malformed, Invalid(HEAD_CONFLICT), Invalid(UNKNOWN_SIGNER), Invalid(INVALID_SIGNATURE)
    or Invalid(QUORUM_NOT_REACHED).
    """
    note, validators = decode_note(text.encode()), decode_set(encoded_set)
    parse_body(note.text)
    if note.text != body:
        raise Invalid(Reason.HEAD_CONFLICT, "the note holds another body than was committed")
    keys = {
        (v.name, checkpoint_key_id(v.name, algorithm, key)): (v, algorithm, key)
        for v in validators.validators
        for algorithm, key in v.keys
    }
    powers: dict[tuple[str, str], int] = {}
    for line in note.signatures:
        found = keys.get((line.name, line.key_id))
        if found is None:
            raise Invalid(Reason.UNKNOWN_SIGNER, f"{line.name} is not in the set")
        validator, algorithm, key = found
        verify(algorithm, key, sign_bytes(algorithm, body), line.value)
        powers[(algorithm, validator.name)] = validator.power
    for algorithm in {algorithm for algorithm, _ in powers} or {""}:
        power = sum(p for (of, _), p in powers.items() if of == algorithm)
        if 3 * power <= 2 * validators.power:
            raise Invalid(Reason.QUORUM_NOT_REACHED, f"{power} of {validators.power} signed")
