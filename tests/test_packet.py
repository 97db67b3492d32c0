from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Invalid, Reason
from relay.packet import (
    ABSENT,
    ERROR_ACKNOWLEDGEMENT,
    MAX_INT,
    MAX_NAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOADS,
    Packet,
    Payload,
    acknowledgement_commitment,
    acknowledgement_path,
    check_packet,
    commitment_path,
    packet_commitment,
    receipt_path,
)
from tests.vectors_dir import vectors

PAYLOAD = Payload("recognition", "registry", "1", "application/json", b"{}")
PACKET = Packet(1, "checkpoint-0", "checkpoint-1", 1_760_000_000, (PAYLOAD,))

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
payloads = st.builds(Payload, names, names, names, names, st.binary(min_size=1, max_size=40))
packets = st.builds(
    Packet,
    st.integers(1, MAX_INT),
    names,
    names,
    st.integers(1, MAX_INT),
    st.lists(payloads, min_size=1, max_size=3).map(tuple),
)


def published() -> dict[str, Any]:
    text = vectors("ibc", "transcribed", "ibc_v2_commitments.json").read_text()
    values: dict[str, Any] = json.loads(text)
    return values


def test_published_packet_commitments() -> None:
    cases = published()["packet_commitments"]
    assert cases
    for case in cases:
        packet = Packet(
            case["sequence"],
            case["source_client"],
            case["destination_client"],
            case["timeout_timestamp"],
            tuple(
                Payload(
                    p["source_port"],
                    p["destination_port"],
                    p["version"],
                    p["encoding"],
                    bytes.fromhex(p["value_hex"]),
                )
                for p in case["payloads"]
            ),
        )
        check_packet(packet)
        assert packet_commitment(packet).hex() == case["commitment"], case["name"]


def test_published_acknowledgement_commitments() -> None:
    values = published()
    for case in values["ack_commitments"]:
        acknowledgements = [bytes.fromhex(a) for a in case["app_acks_hex"]]
        assert acknowledgement_commitment(acknowledgements).hex() == case["commitment"]
    assert ERROR_ACKNOWLEDGEMENT.hex() == values["error_acknowledgement"]


def test_published_paths() -> None:
    kinds = {
        "commitment": commitment_path,
        "receipt": receipt_path,
        "acknowledgement": acknowledgement_path,
    }
    for case in published()["paths"]:
        assert kinds[case["kind"]](case["client"], case["sequence"]).hex() == case["path"]


@given(packets)
def test_any_changed_field_changes_what_is_written(packet: Packet) -> None:
    check_packet(packet)
    base = commitment_path(packet.source_client, packet.sequence) + packet_commitment(packet)
    first, rest = packet.payloads[0], packet.payloads[1:]
    changed = [
        replace(packet, sequence=packet.sequence ^ 1),
        replace(packet, source_client=packet.source_client + "x"),
        replace(packet, destination_client=packet.destination_client + "x"),
        replace(packet, timeout_timestamp=packet.timeout_timestamp ^ 1),
        replace(packet, payloads=(*packet.payloads, first)),
        replace(packet, payloads=(replace(first, source_port=first.source_port + "x"), *rest)),
        replace(packet, payloads=(replace(first, destination_port="x"), *rest))
        if first.destination_port != "x"
        else replace(packet, payloads=rest),
        replace(packet, payloads=(replace(first, version=first.version + "x"), *rest)),
        replace(packet, payloads=(replace(first, encoding=first.encoding + "x"), *rest)),
        replace(packet, payloads=(replace(first, value=first.value + b"x"), *rest)),
    ]
    for other in changed:
        path = commitment_path(other.source_client, other.sequence)
        assert path + packet_commitment(other) != base


@given(payloads)
def test_a_byte_moved_between_fields_changes_the_commitment(payload: Payload) -> None:
    """Fields are hashed one by one, so no two splits of the same bytes are alike."""
    moved = replace(
        payload, version=payload.version + payload.encoding[0], encoding=payload.encoding[1:]
    )
    one, other = (replace(PACKET, payloads=(p,)) for p in (payload, moved))
    assert packet_commitment(one) != packet_commitment(other)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.data())
def test_acknowledgements_in_another_order_or_split_commit_otherwise(
    acknowledgements: list[bytes], data: st.DataObject
) -> None:
    other = data.draw(st.lists(st.binary(max_size=20), max_size=4))
    if other != acknowledgements:
        assert acknowledgement_commitment(other) != acknowledgement_commitment(acknowledgements)


@given(names, names, st.integers(0, MAX_INT), st.integers(0, MAX_INT))
@settings(max_examples=50)
def test_paths_are_one_to_one(one: str, other: str, sequence: int, later: int) -> None:
    kinds: list[Callable[[str, int], bytes]] = [commitment_path, receipt_path, acknowledgement_path]
    seen = {
        kind(client, number): (kind.__name__, client, number)
        for kind in kinds
        for client, number in {(one, sequence), (other, later)}
    }
    assert len(seen) == 3 * len({(one, sequence), (other, later)})


def with_payload(**fields: Any) -> Packet:
    return replace(PACKET, payloads=(replace(PAYLOAD, **fields),))


@pytest.mark.parametrize(
    "packet",
    [
        replace(PACKET, sequence=0),
        replace(PACKET, sequence=MAX_INT + 1),
        replace(PACKET, timeout_timestamp=0),
        replace(PACKET, timeout_timestamp=MAX_INT + 1),
        replace(PACKET, source_client=""),
        replace(PACKET, source_client="a b"),
        replace(PACKET, source_client="é"),
        replace(PACKET, destination_client="a\x01"),
        replace(PACKET, destination_client="a" * (MAX_NAME_BYTES + 1)),
        replace(PACKET, payloads=()),
        replace(PACKET, payloads=(PAYLOAD,) * (MAX_PAYLOADS + 1)),
        with_payload(source_port=""),
        with_payload(destination_port=""),
        with_payload(version=""),
        with_payload(encoding=""),
        with_payload(value=b""),
        with_payload(value=bytes(MAX_PAYLOAD_BYTES + 1)),
        replace(PACKET, payloads=(replace(PAYLOAD, value=bytes(MAX_PAYLOAD_BYTES)), PAYLOAD)),
    ],
)
def test_each_rule_of_a_packet(packet: Packet) -> None:
    with pytest.raises(Invalid) as err:
        check_packet(packet)
    assert err.value.reason == Reason.INVALID_PACKET


def test_what_the_rules_allow() -> None:
    check_packet(PACKET)
    check_packet(replace(PACKET, sequence=MAX_INT, timeout_timestamp=MAX_INT))
    check_packet(replace(PACKET, source_client="a" * MAX_NAME_BYTES))
    check_packet(with_payload(value=bytes(MAX_PAYLOAD_BYTES)))
    check_packet(replace(PACKET, payloads=(PAYLOAD,) * MAX_PAYLOADS))
    assert packet_commitment(PACKET) != ABSENT, "a receipt can never look like the sentinel"
