"""Options that several commands share, and reading what they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.output import unreadable
from relay.errors import Malformed, Reason

if TYPE_CHECKING:
    from relay.client import NodeClient

MAX_TIME = 2**63 - 1

Node = Annotated[
    str,
    typer.Option(
        "--node",
        envvar="LIANQIAO_NODE",
        metavar="ADDRESS",
        help="Node to ask, such as 127.0.0.1:7101.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON: results on stdout, errors on stderr.")
]
ConfigFile = Annotated[
    Path,
    typer.Option("--config", metavar="FILE", help="The node's config.toml.", show_default=False),
]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=1_000_000, help="How many to show at most.")
]


MAX_NUMBER = 2**63 - 1
"""The greatest number that a call carries (relay.light.types.MAX_INT)."""


def node_at(address: str) -> NodeClient:
    """A client of the node at an address. Raises Malformed where it is none."""
    from relay.client import connect

    host, colon, port = address.rpartition(":")
    number = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
    if not (host and colon and number) or "/" in host:
        raise Malformed(
            f"{address[:100]!r} is not an address",
            hint="give HOST:PORT, such as 127.0.0.1:7101, by --node or in LIANQIAO_NODE",
        )
    return connect(address)


def read_file(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes. Raises Malformed."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(raw) > limit:
        raise Malformed(
            f"{path} is larger than {limit} bytes", reason=Reason.LIMIT_EXCEEDED, file=path
        )
    return raw


def write_file(path: Path, raw: bytes, *, private: bool = False) -> None:
    """A new or replaced file; `private` gives it mode 0600. Raises Malformed."""
    import os

    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666
        )
        with os.fdopen(descriptor, "wb") as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            file.write(raw)
    except OSError as error:
        raise unreadable(path, error) from None


def hex_of(text: str, what: str, size: int = 32) -> bytes:
    """The bytes of lower-case or upper-case hex. Raises Malformed."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise Malformed(f"{what} must be {2 * size} hexadecimal digits", field=what)
    return raw


def time_of(text: str, what: str = "--at") -> int:
    """Seconds since 1970 UTC, or ISO 8601 with an offset. Raises Malformed."""
    from datetime import datetime

    if text.isascii() and text.isdigit():
        seconds = int(text[:20])
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            parsed = datetime.min
        if parsed.tzinfo is None:
            raise Malformed(
                f"{what}: {text[:40]!r} is not a time with its offset",
                hint="write seconds since 1970, or 2026-11-23T20:45:00Z, or …+08:00",
            )
        seconds = int(parsed.timestamp())
    if not 0 <= seconds <= MAX_TIME:
        raise Malformed(f"{what}: must be after 1970")
    return seconds
