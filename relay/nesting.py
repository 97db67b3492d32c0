"""How deeply JSON is nested, counted before any parser sees it.

Parsers that recurse rely on the interpreter's own limit, and any library of the process may raise
that limit (one that an EVM adapter loads does): then a few kilobytes of brackets from a stranger
end the whole process. So the brackets are counted first, in one pass, outside strings.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

# Possessive, so that a hostile text without a closing quote costs one pass and not n².
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+["\\]?', re.DOTALL)
_NOT_BRACKET = re.compile(r"[^\[\]{}]+")
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def brackets(text: str) -> list[int]:
    """+1 for each bracket of JSON that opens, -1 for each that closes, outside strings."""
    return [_STEP[c] for c in _NOT_BRACKET.sub("", _STRING.sub("", text))]


def nests_deeper(text: str, most: int) -> bool:
    """Whether more than `most` brackets of `text` are open at once."""
    if text.count("[") + text.count("{") <= most:
        return False
    return max(accumulate(brackets(text)), default=0) > most


def loads(raw: bytes, most: int) -> Any:
    """`json.loads` of what is nested at most `most` deep. Raises ValueError for anything else."""
    text = raw.decode()
    if nests_deeper(text, most):
        raise ValueError("nested too deeply")
    return json.loads(text)
