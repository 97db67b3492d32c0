"""Strict reading of received JSON: what two parsers could read differently is refused here.

The bytes of a medical record are what is hashed and signed, so every reader must see the same
values in them. Refused: a byte order mark, invalid UTF-8, duplicate keys at any depth (one parser
takes the first, another the last), NaN and Infinity, trailing bytes, unpaired surrogates, nesting
beyond `MAX_DEPTH`, numbers longer than `MAX_NUMBER`. Numbers stay text (`Number`): 1.10 is not
1.1, and no float is ever made.

`Scanner` also walks one level at a time and tells where each value begins and ends, so that the
caller can take the exact substring of a Bundle entry's resource and never a re-serialised one.

Errors name a line and a column, never a value: what is wrong in a record may be patient data. For
the same reason no parser's error is chained (its object holds the whole document).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.errors import Malformed, Reason
from relay.nesting import brackets, nests_deeper

MAX_DEPTH = 64
"""Levels of nesting. The deepest published FHIR example has 17."""
MAX_NUMBER = 64
"""Characters of one number; FHIR asks for 18 significant digits."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number, kept as the text that was received; no str, so that it passes for none."""

    text: str


class _RefusedError(Exception):
    """Carries what was wrong out of the C scanner; never leaves this module."""

    def __init__(self, detail: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(detail)
        self.reason = reason


def _number(text: str) -> Number:
    if len(text) > MAX_NUMBER:
        raise _RefusedError(
            f"a number is longer than {MAX_NUMBER} characters", Reason.LIMIT_EXCEEDED
        )
    return Number(text)


def _constant(text: str) -> None:
    raise _RefusedError("NaN and Infinity are not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _RefusedError("an object holds the same key twice")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_number,
    parse_int=_number,
    parse_constant=_constant,
)


def text_of(data: bytes, where: str) -> str:
    """The text of `data`, checked for encoding, byte order mark and depth; `where` is for errors.

    Raises Malformed(MALFORMED) and Malformed(LIMIT_EXCEEDED).
    """
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise Malformed("a byte order mark precedes the text", hint=f"{where}: save as plain UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start
    else:
        _check_depth(text, where)
        return text
    raise Malformed("not UTF-8", hint=f"{where}: byte {position}", position=position)


def _check_depth(text: str, where: str) -> None:
    if nests_deeper(text, MAX_DEPTH):
        raise Malformed(
            f"nested more than {MAX_DEPTH} deep", reason=Reason.LIMIT_EXCEEDED, hint=where
        )


def is_whole(line: str) -> bool:
    """Whether a line is one object from bracket to bracket; what it holds is not looked at."""
    line = line.strip()
    return line[:1] == "{" and line[-1:] == "}" and sum(brackets(line)) == 0


class Scanner:
    """A position in one checked text. Every method raises Malformed and nothing else."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.at = 0

    def fail(
        self, detail: str, reason: Reason = Reason.MALFORMED, at: int | None = None
    ) -> Malformed:
        """The error for what is wrong at `at` (default: here), with line and column as hint."""
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        return Malformed(
            detail, reason=reason, hint=f"{self.where}: line {line} column {column}", line=line
        )

    def space(self) -> None:
        """Moves past white space."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def peek(self) -> str:
        """The next character, white space skipped; empty at the end."""
        self.space()
        return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """The next JSON value; afterwards `at` is just behind it."""
        self.space()
        try:
            value, end = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            failure = self.fail(f"not JSON: {error.msg}", at=error.pos)
        except _RefusedError as refusal:
            failure = self.fail(str(refusal), refusal.reason)
        else:
            # Only where an escape could make one: the UTF-8 itself cannot hold a surrogate.
            if _SURROGATE.search(self.text, self.at, end) and _unpaired(value):
                raise self.fail("an unpaired surrogate is not text")
            self.at = end
            return value
        raise failure

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; the caller reads each value before the next."""
        seen: set[str] = set()
        for _ in self._inside("{", "}"):
            if self.peek() != '"':
                raise self.fail("not JSON: a key is missing")
            key = self.value()
            if key in seen:
                raise self.fail("an object holds the same key twice")
            seen.add(key)
            if self.peek() != ":":
                raise self.fail("not JSON: a colon is missing")
            self.at += 1
            self.space()
            yield key

    def elements(self) -> Iterator[int]:
        """The indices of the array that begins here; the caller reads each value in turn."""
        for index in self._inside("[", "]"):
            self.space()
            yield index

    def _inside(self, opening: str, closing: str) -> Iterator[int]:
        if self.peek() != opening:
            raise self.fail(f"not what was expected here: {opening} is missing")
        self.at += 1
        if self.peek() == closing:
            self.at += 1
            return
        index = 0
        while True:
            yield index
            index += 1
            mark = self.peek()
            if mark not in (",", closing) or not mark:
                raise self.fail(f"not JSON: a comma or {closing} is missing")
            self.at += 1
            if mark == closing:
                return

    def end(self) -> None:
        """Asserts that only white space is left."""
        if self.peek():
            raise self.fail("bytes follow the value")


def _unpaired(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if any("\ud800" <= c <= "\udfff" for c in item):
                return True
        elif isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return False


def read(data: bytes, where: str) -> Any:
    """The one JSON value in `data`. Raises Malformed (MALFORMED, LIMIT_EXCEEDED)."""
    scanner = Scanner(text_of(data, where), where)
    value = scanner.value()
    scanner.end()
    return value
