"""Single values of a configuration: ids, addresses, a database. Each check raises ValueError."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from relay.errors import Malformed
from relay.light.validators import check_name

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID_RULE = "must be 1-64 letters, digits, '.', '_' or '-', beginning with a letter or digit"


def check_id(value: str) -> str:
    """A chain id, validator name or client id. Raises ValueError."""
    if not _ID.fullmatch(value):
        raise ValueError(_ID_RULE)
    return value


def check_signer(value: str) -> str:
    """Whose name stands on a signature line: any name of signed-note. Raises ValueError."""
    try:
        check_name(value)
    except Malformed as error:
        raise ValueError(error.detail) from None
    return value


def check_listen(value: str) -> str:
    """`host:port` of this machine's loopback interface. Raises ValueError.

    Who may call is decided by certificates later; until then nobody from elsewhere can.
    """
    host, port = split_address(value)
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"{value} is not a loopback address; use 127.0.0.1:{port}, and an SSH tunnel to reach "
            "it from elsewhere"
        )
    return value


def check_address(value: str) -> str:
    """`host:port` of a node, not port 0. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and _is_port(port) and int(port)) or not value.isprintable():
        raise ValueError("must be HOST:PORT")
    return value


def check_witness_address(value: str) -> str:
    """`host:port` of a node, or where a witness answers over HTTP. Raises ValueError."""
    if "://" not in value:
        return check_address(value)
    parts = urlsplit(value)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    # An invalid port raises ValueError where it is read.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not plain:
        raise ValueError("must be HOST:PORT, or http(s)://HOST[:PORT][/PATH]")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without blanks")
    return value


def split_address(value: str) -> tuple[str, int]:
    """Host without brackets, and port, of `127.0.0.1:7101`, `localhost:0` or `[::1]:7101`.

    Raises ValueError.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not _is_port(port):
        raise ValueError("must be an IP address and a port, such as 127.0.0.1:7101")
    if host == "localhost":
        return host, int(port)
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port)
    except ValueError as error:
        raise ValueError("must be an IP address and a port, such as 127.0.0.1:7101") from error


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable text")
    return value


def _no_address(value: str) -> str:
    if value == "address":
        raise ValueError("the address stands beside the settings")
    return value


def _check_database(value: str) -> str:
    if "://" not in value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("postgresql", "postgresql+psycopg"):
        raise ValueError("must be a file (SQLite), or an address postgresql://USER@HOST/NAME")
    if parts.password:
        raise ValueError("must not hold a password; use a password file (PGPASSFILE)")
    return value


Id = Annotated[str, AfterValidator(check_id)]
Signer = Annotated[str, AfterValidator(check_signer)]
Listen = Annotated[str, Field(max_length=64), AfterValidator(check_listen)]
Address = Annotated[str, Field(max_length=256), AfterValidator(check_address)]
WitnessAddress = Annotated[str, Field(max_length=256), AfterValidator(check_witness_address)]
Database = Annotated[str, Field(max_length=1024), AfterValidator(_check_database)]
Algorithm = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
SettingName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$"), AfterValidator(_no_address)]
SettingValue = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]
