"""Writing files that must not be lost: a disk that refuses is a typed error, said with what to do.

A full disk, a file system that became read-only, a quota: none of them is a fault of this program,
and all of them pass. Whoever writes under `writing` leaves nothing half-done behind (a new file
under another name, flushed, then renamed), so that the same call may be repeated.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.errors import Exhausted, Reason, Refused


@contextmanager
def writing(what: str, done: str = "nothing was half-written") -> Iterator[None]:
    """Raises Exhausted(LIMIT_EXCEEDED) in place of an OSError; `what` cannot be written, and
    `done` says what that means."""
    try:
        yield
    except OSError as error:
        raise Exhausted(
            Reason.LIMIT_EXCEEDED,
            f"{what} cannot be written: {error.strerror or type(error).__name__}",
            hint=f"free disk space, or make its directory writable, and repeat the call; {done}",
        ) from error


def replace_file(path: Path, raw: bytes) -> None:
    """Puts a file in place of another, durably: either the old or the new one is there. OSError."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_path(path.parent)  # the new name itself must outlive a power cut


def flush_path(path: Path) -> None:
    """Puts a file's bytes, or the names in a directory, on the disk. OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def held(directory: Path, what: str) -> Iterator[None]:
    """Holds a directory that one process may own, by the file `.lock` in it.

    Raises Refused(CONFLICT) where another process has it.
    """
    with writing(str(directory)):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(
                Reason.CONFLICT,
                f"another process has {what} {directory}",
                hint="one process serves a ledger, and one is a witness; several relays may share "
                "a database, each without [witness] but one",
            ) from None
        yield
    finally:
        os.close(descriptor)
