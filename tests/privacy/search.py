"""Searching bytes for what must not be there: each secret in every form it might be written in."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

LEAST_BASE64 = 8
"""Characters; fewer are found in anything."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One secret found in one place."""

    secret: str
    form: str
    place: str


def forms(secret: str, schemes: Iterable[str] = ()) -> Iterator[tuple[str, bytes]]:
    """(name of the form, bytes) of a secret as text, escaped, encoded, and hashed without a salt.

    `schemes`: for identifiers, what they may have been hashed together with.
    """
    raw = secret.encode()
    yield "utf-8", raw
    for name in ("utf-16-le", "utf-16-be", "gb18030"):
        yield name, secret.encode(name)
    yield "json", json.dumps(secret)[1:-1].encode()
    yield "percent", quote(secret).encode()
    yield "repr", repr(raw)[2:-1].encode()
    yield "hex", raw.hex().encode()
    for offset in range(3):
        # What does not depend on the bytes before and after.
        whole = base64.b64encode(bytes(offset) + raw)
        core = whole[-(-8 * offset // 6) : (offset + len(raw)) * 8 // 6]
        if len(core) >= LEAST_BASE64:
            yield f"base64+{offset}", core
    together = [f"{scheme}{mark}{secret}" for scheme in schemes for mark in ("", "|", ":", "/")]
    for text in (secret, *together):
        for algorithm in ("sha256", "sha1", "md5"):
            digest = hashlib.new(algorithm, text.encode()).digest()
            yield algorithm, digest
            yield f"{algorithm} in hex", digest.hex().encode()
            yield f"{algorithm} in base64", base64.b64encode(digest).rstrip(b"=")


def search(secrets: Mapping[str, Iterable[str]], places: Mapping[str, bytes]) -> list[Leak]:
    """Every secret (with its schemes) found in any place."""
    needles = {
        (secret, form, needle)
        for secret, schemes in secrets.items()
        for form, needle in forms(secret, schemes)
    }
    return [
        Leak(secret, form, place)
        for place, data in places.items()
        for secret, form, needle in sorted(needles)
        if needle in data
    ]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, its own name included."""
    return {
        str(path.relative_to(folder)): path.name.encode() + b"\n" + path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
