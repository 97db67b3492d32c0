"""Counts what costs: hashes, signatures made and verified, durable commits, statements, log lines.

Primitives are wrapped where the product finds them (`sha256` in each module, the registry of
`relay.light.keys`, `SigningKey.sign`, `os.fsync`, the engines of the nodes), for the time of one
`with counting(flow) as counts:` and never while a clock runs.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from unittest.mock import patch

import structlog
from sqlalchemy import Engine, event

from relay.keys import SigningKey
from relay.light.keys import ALGORITHMS

ROOTS = ("relay.", "adapters.")


@dataclass
class Counts:
    """What one piece of work did."""

    hashes: Counter[int] = field(default_factory=Counter)
    """Length of what was hashed, bytes -> SHA-256 calls."""
    signed: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(algorithm, length of the message) -> signatures made."""
    verified: Counter[tuple[str, int]] = field(default_factory=Counter)
    """The same for signatures verified."""
    commits: dict[str, list[int]] = field(default_factory=dict)
    """Node -> for each of its write transactions about how many bytes it wrote."""
    synced: int = 0
    """Files and directories flushed to the disk outside of databases."""
    statements: dict[str, Counter[str]] = field(default_factory=dict)
    """Node -> SQL statement -> how often it was sent; a bulk statement counts once."""
    rows: dict[str, Counter[str]] = field(default_factory=dict)
    """Node -> table -> rows inserted."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Log lines, as structlog has them before they are rendered."""

    def total(self, node: str) -> int:
        """SQL statements of one node, BEGIN included."""
        return sum(self.statements.get(node, Counter()).values())

    def matching(self, node: str, start: str) -> int:
        """Those of one node that begin so, whatever the blanks."""
        found = self.statements.get(node, Counter())
        return sum(
            times for text, times in found.items() if " ".join(text.split()).startswith(start)
        )


@contextmanager
def counting(engines: Mapping[str, Engine]) -> Iterator[Counts]:
    """Counts until the block ends. `engines`: those of the nodes, by name."""
    counts = Counts()
    with ExitStack() as stack:
        stack.enter_context(_hashes(counts))
        stack.enter_context(_signatures(counts))
        stack.enter_context(_flushes(counts))
        for name, engine in engines.items():
            stack.enter_context(_database(counts, name, engine))
        stack.enter_context(_log(counts))
        yield counts


def _modules() -> list[ModuleType]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(ROOTS)]


@contextmanager
def _hashes(counts: Counts) -> Iterator[None]:
    real = hashlib.sha256

    def counted(data: bytes = b"", **options: Any) -> Any:
        counts.hashes[len(data)] += 1
        return real(data, **options)

    with ExitStack() as stack:
        for module in _modules():
            if getattr(module, "sha256", None) is real:
                stack.enter_context(patch.object(module, "sha256", counted))
        yield


@contextmanager
def _signatures(counts: Counts) -> Iterator[None]:
    sign = SigningKey.sign

    def signing(key: SigningKey, message: bytes) -> bytes:
        counts.signed[(key.algorithm, len(message))] += 1
        return sign(key, message)

    real = dict(ALGORITHMS)
    for name, algorithm in real.items():
        ALGORITHMS[name] = replace(algorithm, verify=_verifying(counts, name, algorithm.verify))
    try:
        with patch.object(SigningKey, "sign", signing):
            yield
    finally:
        ALGORITHMS.update(real)


def _verifying(counts: Counts, name: str, verify: Any) -> Any:
    def verifying(key: bytes, message: bytes, signature: bytes) -> None:
        counts.verified[(name, len(message))] += 1
        verify(key, message, signature)

    return verifying


@contextmanager
def _flushes(counts: Counts) -> Iterator[None]:
    real = os.fsync

    def flushing(descriptor: int) -> None:
        counts.synced += 1
        real(descriptor)

    with patch.object(os, "fsync", flushing):
        yield


@contextmanager
def _database(counts: Counts, name: str, engine: Engine) -> Iterator[None]:
    statements = counts.statements.setdefault(name, Counter())
    rows = counts.rows.setdefault(name, Counter())
    commits = counts.commits.setdefault(name, [])
    written = [0]

    def execute(_c: Any, _cursor: Any, text: str, given: Any, _context: Any, many: bool) -> None:
        statements[text] += 1
        words = text.split(maxsplit=3)
        if words[0] in ("INSERT", "UPDATE", "DELETE"):
            each = given if many else [given]
            written[0] += sum(_size(one) for one in each)
            if words[0] == "INSERT":
                rows[words[2]] += len(each)

    def commit(connection: Any) -> None:
        if connection.get_execution_options().get("writes", False):
            commits.append(written[0])
            written[0] = 0

    event.listen(engine, "before_cursor_execute", execute)
    event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", execute)
        event.remove(engine, "commit", commit)


def _size(parameters: Any) -> int:
    values = parameters.values() if isinstance(parameters, dict) else parameters
    return sum(len(v) if isinstance(v, bytes | str) else 8 for v in values)


@contextmanager
def _log(counts: Counts) -> Iterator[None]:
    with structlog.testing.capture_logs() as lines:
        yield
    counts.lines += lines  # type: ignore[arg-type]
