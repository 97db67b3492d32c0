"""Strict JSON: each thing that two parsers could read differently is refused, with its reason."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed, Reason
from relay.record.strict import MAX_DEPTH, MAX_NUMBER, Number, Scanner, is_whole, read, text_of
from tests.refusals import refusing


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", Reason.MALFORMED, "Expecting value"),
        (b'{"a":1,"a":2}', Reason.MALFORMED, "same key twice"),
        (b'{"b":[{"a":1,"a":1}]}', Reason.MALFORMED, "same key twice"),
        (b'{"a":1,"\\u0061":2}', Reason.MALFORMED, "same key twice"),
        (b"\xef\xbb\xbf{}", Reason.MALFORMED, "byte order mark"),
        ('{"a":1}'.encode("utf-16"), Reason.MALFORMED, "byte order mark"),
        (b'{"a":"\xff"}', Reason.MALFORMED, "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', Reason.MALFORMED, "UTF-8"),
        (b'{"a":"\xc0\xaf"}', Reason.MALFORMED, "UTF-8"),
        (b'{"a":"\\ud800"}', Reason.MALFORMED, "surrogate"),
        (b'{"\\udfff":1}', Reason.MALFORMED, "surrogate"),
        (b"{} {}", Reason.MALFORMED, "bytes follow"),
        (b"{}x", Reason.MALFORMED, "bytes follow"),
        (b"{}\x00", Reason.MALFORMED, "bytes follow"),
        (b'{"a":NaN}', Reason.MALFORMED, "NaN"),
        (b'{"a":-Infinity}', Reason.MALFORMED, "NaN"),
        (b'{"a":01}', Reason.MALFORMED, "not JSON"),
        (b'{"a":1,}', Reason.MALFORMED, "not JSON"),
        (b"{'a':1}", Reason.MALFORMED, "not JSON"),
        (b'{"a":"\n"}', Reason.MALFORMED, "not JSON"),
        (b'{"a":' + b"1" * (MAX_NUMBER + 1) + b"}", Reason.LIMIT_EXCEEDED, "number"),
        (b'{"a":' + b"1" * 10_000 + b"}", Reason.LIMIT_EXCEEDED, "number"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), Reason.LIMIT_EXCEEDED, "nested"),
        (b"[" * 200_000, Reason.LIMIT_EXCEEDED, "nested"),
        (b'{"a":' * 200_000, Reason.LIMIT_EXCEEDED, "nested"),
    ],
)
def test_refused(data: bytes, reason: Reason, detail: str) -> None:
    with pytest.raises(Malformed) as err:
        read(data, "file")
    assert err.value.reason == reason
    assert detail in err.value.detail
    assert err.value.hint.startswith("file")


def test_numbers_keep_their_text() -> None:
    assert read(b'{"a":1.10,"b":-0,"c":1E400,"d":"1.10"}', "f") == {
        "a": Number("1.10"),
        "b": Number("-0"),
        "c": Number("1E400"),
        "d": "1.10",
    }


def test_depth_counts_no_brackets_in_strings() -> None:
    assert read(json.dumps(["[" * 500, '\\"[[[' * 30]).encode(), "f")[0] == "[" * 500
    assert read(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "f")


def test_a_paired_surrogate_is_text() -> None:
    assert read(b'"\\ud83d\\ude00"', "f") == "\U0001f600"


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 300_000, '"' + "\\" * 300_001, '"a" ' * 100_000 + '"', "{" + '"' * 200_001],
)
def test_hostile_quotes_cost_linear_time(text: str) -> None:
    begin = time.perf_counter()
    with refusing(Reason.MALFORMED):
        read(text.encode(), "f")
    is_whole(text)
    assert time.perf_counter() - begin < 5


def test_positions_of_values_are_exact() -> None:
    text = ' { "a" : 1 , "b" : [ {"c": 2.50} , [] ] } '
    scanner = Scanner(text, "f")
    seen = []
    for key in scanner.members():
        if key == "a":
            assert scanner.value() == Number("1")
            continue
        for _ in scanner.elements():
            begin = scanner.at
            scanner.value()
            seen.append(text[begin : scanner.at])
    scanner.end()
    assert seen == ['{"c": 2.50}', "[]"]


def test_line_and_column_are_told() -> None:
    with pytest.raises(Malformed) as err:
        read(b'{\n "a": 1,\n "b": x}', "file.json")
    assert err.value.hint == "file.json: line 3 column 7"


@pytest.mark.parametrize(
    "text", ["{", "{]", '{"a"', '{"a"}', '{"a" 1}', '{"a":1', '{"a":1 "b":2}', "{1:2}"]
)
def test_walking_an_object_refuses_what_is_not_one(text: str) -> None:
    scanner = Scanner(text, "f")
    with pytest.raises(Malformed) as err:
        for _ in scanner.members():
            scanner.value()
    assert err.value.reason == Reason.MALFORMED


def test_walking_an_object_refuses_a_key_twice() -> None:
    scanner = Scanner('{"a":1,"a":2}', "f")
    with pytest.raises(Malformed) as err:
        for _ in scanner.members():
            scanner.value()
    assert "twice" in err.value.detail


def test_a_refusal_chains_no_document() -> None:
    with pytest.raises(Malformed) as err:
        read(b'{"name": "secret" x}', "f")
    assert err.value.__cause__ is None
    assert err.value.__context__ is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _texts(value: object) -> object:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return Number(str(value))
    if isinstance(value, list):
        return [_texts(v) for v in value]
    assert isinstance(value, dict)
    return {k: _texts(v) for k, v in value.items()}


@given(_JSON)
def test_reads_what_json_writes(value: object) -> None:
    assert read(json.dumps(value).encode(), "f") == _texts(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ 01aé', max_size=60).map(str.encode))
def test_any_bytes_give_a_value_or_malformed(data: bytes) -> None:
    try:
        read(data, "f")
        text_of(data, "f")
    except Malformed:
        pass
