from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed, Reason
from relay.light.wire import Reader, Writer


def encoded(number: int, text: str, data: bytes, flags: list[bool]) -> bytes:
    writer = Writer().u8(number % 256).u16(number % 2**16).u32(number % 2**32).u64(number)
    writer.text(text, 100).data(data, 100).fixed(data[:1] or b"-", 1).count(len(flags), 10)
    for flag in flags:
        writer.boolean(flag)
    return writer.done()


@given(
    st.integers(0, 2**64 - 1),
    st.text(max_size=20),
    st.binary(max_size=50),
    st.lists(st.booleans(), max_size=10),
)
def test_what_is_written_is_read(number: int, text: str, data: bytes, flags: list[bool]) -> None:
    reader = Reader(encoded(number, text, data, flags))
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (
        number % 256,
        number % 2**16,
        number % 2**32,
        number,
    )
    assert (reader.text(100), reader.data(100), reader.fixed(1)) == (text, data, data[:1] or b"-")
    assert [reader.boolean() for _ in range(reader.count(10))] == flags
    reader.end()


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b"", lambda r: r.u8()),
        (b"\x00" * 7, lambda r: r.u64()),
        (b"\x02", lambda r: r.boolean()),
        (b"\x00\x00\x00\x02a", lambda r: r.data(10)),
        (b"\x00\x00\x00\x02ab", lambda r: r.data(1)),
        (b"\xff\xff\xff\xff", lambda r: r.data(2**32)),
        (b"\x00\x00\x00\x01\xff", lambda r: r.text(10)),
        (b"\x00\x00\x00\x0b", lambda r: r.count(10)),
        (b"\x00", lambda r: r.end()),
    ],
)
def test_what_breaks_a_rule_is_malformed(raw: bytes, read: Callable[[Reader], object]) -> None:
    with pytest.raises(Malformed) as err:
        read(Reader(raw))
    assert err.value.reason == Reason.MALFORMED


def test_each_limit_is_legal_itself() -> None:
    raw = Writer().data(b"ab", 2).text("ab", 2).count(2, 2).done()
    reader = Reader(raw)
    assert (reader.data(2), reader.text(2), reader.count(2)) == (b"ab", "ab", 2)
    reader.end()


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.u8(256),
        lambda w: w.u64(-1),
        lambda w: w.data(b"abc", 2),
        lambda w: w.text("abc", 2),
        lambda w: w.text("\ud800", 9),
        lambda w: w.fixed(b"ab", 3),
        lambda w: w.count(3, 2),
    ],
)
def test_nothing_is_written_that_could_not_be_read(write: Callable[[Writer], object]) -> None:
    with pytest.raises(Malformed) as err:
        write(Writer())
    assert err.value.reason == Reason.MALFORMED
