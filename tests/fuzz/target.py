"""What is fuzzed: a decoder with true encodings of what it decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import Invalid, LianqiaoError, Malformed


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder."""

    name: str
    decode: Callable[[bytes], Any]
    seeds: Callable[[], Sequence[bytes]]
    encode: Callable[[Any], bytes] | None = None
    """Where there is one encoding only."""
    errors: tuple[type[LianqiaoError], ...] = (Malformed, Invalid)
