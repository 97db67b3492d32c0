from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.lianqiao.light import CLIENT
from relay.errors import Malformed, Reason
from relay.light.checkpoint import encode_body
from relay.light.checkpoint_client import MAX_LINK_HASHES, encode_header, select_signatures
from relay.light.note import Note, encode_note, sort_signatures
from relay.light.types import MAX_HEADER_BYTES, MAX_INT
from relay.light.wire import Writer
from tests.light.ledger import START, Ledger, make_set, witness


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    made = Ledger()
    made.set = make_set("abc", algorithms=("ed25519", "p256", "secp256k1"))
    made.fill(9)
    return made


def malformed(raw: bytes) -> None:
    with pytest.raises(Malformed) as err:
        CLIENT.decode_header(raw)
    assert err.value.reason == Reason.MALFORMED


def test_a_header_says_what_its_note_says(ledger: Ledger) -> None:
    body = ledger.body()
    lines = ledger.lines(body, "ab") + ledger.lines(body, "bc", "secp256k1")
    others = [ledger.cosign(body, "w1", 77), ledger.cosign(body, "w2", 0, "p256")]
    raw = ledger.raw(4, body, lines, others)
    header = CLIENT.decode_header(raw)
    assert (header.chain_id, header.height, header.time) == ("zj-medical/0", 9, START + 9)
    assert (header.root, header.set_hash, header.next_set_hash) == (
        body.root,
        body.set_hash,
        body.next_set_hash,
    )
    assert header.body == encode_body(body)
    assert header.hash == sha256(header.body).digest()
    assert header.validators == ledger.set
    assert header.link_height == 4
    assert [(s.signer, s.algorithm) for s in header.signatures] == [
        (line.name, "ed25519" if line in lines[:2] else "secp256k1")
        for line in sort_signatures(lines)
    ]
    found = {s.signer: (s.algorithm, s.time, len(s.value)) for s in header.cosignatures}
    assert found == {"w1": ("ed25519", 77, 64), "w2": ("", 0, 64)}
    assert CLIENT.encode_header(header) == raw


def test_each_client_is_shown_its_own_lines(ledger: Ledger) -> None:
    body = ledger.body()
    lines = ledger.lines(body) + ledger.lines(body, algorithm="secp256k1")
    header = ledger.header(
        body=body,
        lines=lines,
        others=[ledger.cosign(body, "w1", 7), ledger.cosign(body, "w2", 7)],
    )
    state = replace(ledger.state, algorithm="secp256k1", witnesses=(witness("w2"),))
    shown = select_signatures(header, state)
    assert [(s.signer, s.algorithm) for s in shown.signatures] == [(n, "secp256k1") for n in "abc"]
    assert [s.signer for s in shown.cosignatures] == ["w2"]
    assert CLIENT.decode_header(CLIENT.encode_header(shown)) == shown


def test_a_line_is_a_validators_only_by_name_and_key_id(ledger: Ledger) -> None:
    body = ledger.body()
    line = ledger.lines(body, "a")[0]
    for changed in (replace(line, name="d"), replace(line, key_id=b"1234")):
        header = ledger.header(body=body, lines=[changed])
        assert not header.signatures
        assert len(header.cosignatures) == 1


def test_lines_have_one_order(ledger: Ledger) -> None:
    body = ledger.body()
    lines = list(sort_signatures(ledger.lines(body)))
    witness_line = ledger.cosign(body, "0", 7)
    for order in (lines[::-1], [witness_line, *lines], [*lines, witness_line, lines[0]]):
        note = encode_note(Note(encode_body(body), tuple(order)))
        malformed(encode_header(note, ledger.set))
    # A double signer must decode, to be refused for what it is.
    twice = encode_note(Note(encode_body(body), (lines[0], lines[0])))
    assert len(CLIENT.decode_header(encode_header(twice, ledger.set)).signatures) == 2


def test_what_breaks_a_rule_is_malformed(ledger: Ledger) -> None:
    raw = ledger.raw(4)
    body = ledger.body()
    note = encode_note(Note(encode_body(body), sort_signatures(ledger.lines(body))))
    for changed in (
        b"",
        b"\x02" + raw[1:],
        raw[:-1],
        raw + b"\0",
        b"\x01" * (MAX_HEADER_BYTES + 1),
        encode_header(note, ledger.set, MAX_INT + 1),
        encode_header(note, ledger.set) + b"\0",
        ledger.raw(0, replace(body, size=0)),
        Writer().u8(1).data(note, 1 << 20).data(b"", 0).u64(0).u32(0).done(),
        Writer().u8(1).data(b"note", 9).data(b"", 0).u64(0).u32(0).done(),
        encode_header(note, ledger.set)[:-4] + (MAX_LINK_HASHES + 1).to_bytes(4, "big"),
    ):
        malformed(changed)
    late = replace(ledger.cosign(body, "w", 0), value=b"\xff" * 72)
    malformed(ledger.raw(others=[late]))
    assert CLIENT.decode_header(encode_header(note, ledger.set, MAX_INT)).link_height == MAX_INT
    at_last = replace(late, value=MAX_INT.to_bytes(8, "big") + bytes(64))
    assert ledger.header(others=[at_last]).cosignatures[0].time == MAX_INT


@given(st.binary(max_size=80), st.integers(0, 1500))
@settings(max_examples=200)
def test_any_bytes_are_a_header_or_malformed(ledger: Ledger, raw: bytes, at: int) -> None:
    body = ledger.body()
    good = ledger.raw(4, body, others=[ledger.cosign(body, "w", 5)])
    for candidate in (raw, good[:at] + raw + good[at + len(raw) :], good[:at] + raw):
        try:
            header = CLIENT.decode_header(candidate)
        except Malformed:
            continue
        assert CLIENT.encode_header(header) == candidate
