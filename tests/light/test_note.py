from __future__ import annotations

import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed, Reason
from relay.light import keys
from relay.light.checkpoint import cosign_bytes, sign_bytes
from relay.light.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    MAX_TEXT_BYTES,
    Note,
    NoteSignature,
    checkpoint_key_id,
    cosignature_key_id,
    decode_note,
    decode_verifier_key,
    encode_line,
    encode_note,
    sort_signatures,
)
from tests.refusals import refused
from tests.vectors_dir import vectors

LINE = NoteSignature("a.example/log", b"\x01\x02\x03\x04", bytes(64))


def malformed(raw: bytes) -> None:
    with pytest.raises(Malformed) as err:
        decode_note(raw)
    assert err.value.reason == Reason.MALFORMED


def vkey(text: str) -> tuple[str, bytes, bytes, bytes]:
    """(name, key id, type byte, key) of a C2SP verifier key."""
    name, key_id, data = text.split("+", 2)
    decoded = b64decode(data)
    return name, bytes.fromhex(key_id), decoded[:1], decoded[1:]


def test_published_note_of_c2sp() -> None:
    text = vectors("chains", "tlog", "checkpoint_cosignature_selfmade.json").read_text()
    example = json.loads(text)["signed_note_example"]
    name, key_id, kind, key = vkey(example["vkey"])
    note = decode_note(example["note"].encode())
    assert encode_note(note) == example["note"].encode()
    assert note.text == b"This is an example message.\n"
    assert (note.signatures[0].name, note.signatures[0].key_id, kind) == (name, key_id, b"\x01")
    assert checkpoint_key_id(name, "ed25519", key) == key_id
    keys.verify("ed25519", key, note.text, note.signatures[0].value)


def test_checkpoint_with_cosignature() -> None:
    case = json.loads(vectors("chains", "tlog", "checkpoint_cosignature_selfmade.json").read_text())
    note = decode_note(case["checkpoint"].encode())
    assert encode_note(note) == case["checkpoint"].encode()
    log, cosigned = note.signatures
    name, key_id, _, key = vkey(case["log_vkey"])
    assert (
        (log.name, log.key_id) == (name, key_id) == (name, checkpoint_key_id(name, "ed25519", key))
    )
    keys.verify("ed25519", key, sign_bytes("ed25519", note.text), log.value)
    name, key_id, kind, key = vkey(case["witness_vkey"])
    assert (cosigned.name, cosigned.key_id, kind) == (name, key_id, b"\x04")
    assert cosignature_key_id(name, "ed25519", key) == key_id
    time = int.from_bytes(cosigned.value[:8], "big")
    assert time == case["timestamp"]
    message = cosign_bytes("ed25519", note.text, time)
    assert message == case["cosigned_message"].encode()
    keys.verify("ed25519", key, message, cosigned.value[8:])


def test_the_published_verifier_key_of_a_witness() -> None:
    case = json.loads(vectors("chains", "tlog", "checkpoint_cosignature_selfmade.json").read_text())
    name, _, _, key = vkey(case["witness_vkey"])
    assert decode_verifier_key(case["witness_vkey"]) == (name, key)
    refused(Reason.MALFORMED, decode_verifier_key, case["log_vkey"], said="of type 4")


def test_what_is_no_verifier_key_of_a_witness() -> None:
    key = bytes(range(32))

    def written(name: str = "w.example", kind: int = 4, key: bytes = key, of: str = "") -> str:
        key_id = cosignature_key_id(of or name, "ed25519", key).hex()
        return f"{name}+{key_id}+{b64encode(bytes([kind]) + key).decode()}"

    assert decode_verifier_key(written()) == ("w.example", key)
    for text, said in (
        (written(kind=1), "of type 4"),
        (written(key=key[1:]), "of type 4"),
        (written(key=key + b"x"), "of type 4"),
        (written(of="other"), "mistyped"),
        (written("with blank"), "name"),
        (written("n" * 65), "name"),
        (written().replace("+", "-", 1), "of type 4"),
        (written()[:-1], "base64"),
        ("", "name"),
    ):
        refused(Reason.MALFORMED, decode_verifier_key, text, said=said)


def test_key_ids_tell_name_algorithm_key_and_role_apart() -> None:
    ids = {
        function(name, algorithm, key)
        for function in (checkpoint_key_id, cosignature_key_id)
        for name in ("a", "b")
        for algorithm in ("ed25519", "p256", "secp256k1")
        for key in (b"one", b"two")
    }
    assert len(ids) == 24


names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="+"),
    min_size=1,
    max_size=64,
)
lines = st.builds(
    NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=60).map(
    lambda t: t.replace("\x7f", "x").encode() + b"\n"
)


@given(texts, st.lists(lines, min_size=1, max_size=4))
def test_notes_round_trip(text: bytes, signatures: list[NoteSignature]) -> None:
    note = Note(text, sort_signatures(signatures))
    assert decode_note(encode_note(note)) == note


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_malformed(raw: bytes) -> None:
    for candidate in (raw, encode_note(Note(b"text\n", (LINE,)))[:20] + raw):
        try:
            note = decode_note(candidate)
        except Malformed:
            continue
        assert encode_note(note) == candidate


def test_what_breaks_a_rule_is_malformed() -> None:
    good = encode_note(Note(b"text\n", (LINE,)))
    text, line = good.split(b"\n\n")
    data = b64encode(LINE.key_id + LINE.value)
    assert decode_note(good).signatures == (LINE,)
    for raw in (
        b"",
        b"text\n",
        text + b"\n\n",
        text + b"\n" + line,
        good[:-1],
        good + b"\n",
        good + b"x",
        b"\n" + line,
        text + b"\n\n- a " + data + b"\n",
        text + b"\n\n----a " + data + b"\n",
        line,
        text + b"\n\n\xe2\x80\x94 a+b " + data + b"\n",
        text + b"\n\n\xe2\x80\x94 a b " + data + b"\n",
        text + b"\n\n\xe2\x80\x94 \xc3\xa9 " + data + b"\n",
        text + b"\n\n\xe2\x80\x94  " + data + b"\n",
        text + b"\n\n\xe2\x80\x94 a " + data[:-1] + b"\n",
        text + b"\n\n\xe2\x80\x94 a AAAA\n",
        text + b"\n\n\xe2\x80\x94 a AAAAA\n",
        text + b"\n\n\xe2\x80\x94 a " + data[:-3] + b"B==\n",
        text + b"\n\n\xe2\x80\x94 a " + b64encode(bytes(4 + 257)) + b"\n",
        text + b"\n\n\xe2\x80\x94 " + b"a" * 65 + b" " + data + b"\n",
        b"te\rxt\n\n" + line,
        b"te\x00xt\n\n" + line,
        b"te\xffxt\n\n" + line,
        b"x" * MAX_TEXT_BYTES + b"\n\n" + line,
        text + b"\n\n" + line * (MAX_SIGNATURES + 1),
        b"x" * (MAX_NOTE_BYTES + 1),
    ):
        malformed(raw)
    decode_note(text + b"\n\n" + line * MAX_SIGNATURES)


def test_the_greatest_note_is_legal_and_one_byte_more_is_not() -> None:
    longest = NoteSignature("n" * 64, bytes(4), bytes(256))
    lines = (longest,) * ((MAX_NOTE_BYTES - 2) // len(encode_line(longest)))
    rest = MAX_NOTE_BYTES - 2 - len(lines) * len(encode_line(longest))
    raw = encode_note(Note(b"x" * rest + b"\n", lines))
    assert len(raw) == MAX_NOTE_BYTES
    assert decode_note(raw).signatures == lines
    malformed(encode_note(Note(b"x" * (rest + 1) + b"\n", lines)))
    text = b"x" * (MAX_TEXT_BYTES - 1) + b"\n"
    assert decode_note(encode_note(Note(text, (longest,)))).text == text


def test_nothing_is_written_that_could_not_be_read() -> None:
    for note in (
        Note(b"text", (LINE,)),
        Note(b"", (LINE,)),
        Note(b"text\n", ()),
        Note(b"text\n", (NoteSignature("a", b"123", b"1"),)),
        Note(b"text\n", (NoteSignature("a", b"1234", b""),)),
    ):
        with pytest.raises(Malformed) as err:
            encode_note(note)
        assert err.value.reason == Reason.MALFORMED
