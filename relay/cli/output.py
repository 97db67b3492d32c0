"""What commands print: results on standard output, everything else on standard error.

With `--json` standard output holds one JSON document and nothing else: keys sorted, bytes in hex,
times in whole seconds since 1970 UTC. Otherwise people read it: tables, times in UTC. What others
wrote (names, details) is shown with its control characters made visible, so that no answer of a
node can write to a terminal anything but text.

An error is one line, `REASON: detail`, and one line `hint: what to do next`; with `--json` it is
one JSON object, also on standard error. Exits: 0 done or verified, 1 refused with a reason, 2 usage
or unreadable input.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from relay.errors import LianqiaoError, Malformed, Reason

DONE, REFUSED, USAGE = 0, 1, 2
QUIET_SECONDS = 1.0
"""What takes longer than this says so."""
PIPE_WIDTH = 200
"""Columns of a table that is not printed to a terminal."""

_UNREADABLE = frozenset({Reason.CONFIG_INVALID})
"""Reasons that are about what the user gave, whatever their class."""


# --- results


def plain(value: Any) -> Any:
    """`value` as JSON: dataclasses as objects, bytes as hex, enums as their text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return value


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, sort_keys=True, indent=2) + "\n")


def say(text: str = "") -> None:
    """One line for people on standard output."""
    sys.stdout.write(visible(text) + "\n")


def note(text: str) -> None:
    """One line for people on standard error: what is being done, not what came of it."""
    sys.stderr.write(visible(text) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table on standard output, or the sentence `empty` where there are no rows."""
    if not rows:
        say(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(visible(str(cell))) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(shown)


def fields(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values under each other on standard output."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        say(f"{name:<{width}}  {value}")


def visible(text: str) -> str:
    """`text` with control and bidirectional characters written as escapes; newlines too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def moment(seconds: int) -> str:
    """A time as people read it, UTC; `-` for 0 and for what no calendar holds."""
    if seconds <= 0:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def duration(seconds: int) -> str:
    """Whole days, hours, minutes or seconds, the largest that divides."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds and seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} seconds"


def short(digest: bytes) -> str:
    """The first bytes of a hash, for tables."""
    return digest.hex()[:16]


@contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Says `text` on standard error once what it wraps takes longer than a second.

    `quiet` (`--json`): only on a terminal, since a program may read standard error.
    """
    if quiet and not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(QUIET_SECONDS, note, [f"{text} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# --- errors


def exit_code(error: LianqiaoError) -> int:
    """2 where what the user gave cannot be read, else 1."""
    unreadable = isinstance(error, Malformed) or error.reason in _UNREADABLE
    return USAGE if unreadable else REFUSED


def print_error(error: LianqiaoError, *, as_json: bool) -> None:
    """REASON, detail and hint on standard error."""
    if as_json:
        body = {
            "reason": str(error.reason),
            "detail": error.detail,
            "hint": error.hint,
            "data": error.data,
        }
        sys.stderr.write(json.dumps(body, ensure_ascii=False, sort_keys=True) + "\n")
        return
    note(f"{error.reason}: {error.detail}{_dynamic(error)}")
    if error.hint:
        note(f"hint: {error.hint}")


def _dynamic(error: LianqiaoError) -> str:
    """What the detail does not say already of the values that the error is about."""
    missing = [(n, v) for n, v in error.data.items() if v and v not in error.detail + error.hint]
    return f" ({', '.join(f'{n} {v}' for n, v in missing)})" if missing else ""


def unreadable(path: Path, error: OSError) -> Malformed:
    """A file that cannot be opened or written."""
    return Malformed(
        f"{path}: {error.strerror or 'cannot be read'}",
        hint="check the path and its permissions",
        file=path,
    )
