from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from adapters.lianqiao.light import CLIENT
from relay import canonical
from relay.bundle import (
    Bundle,
    BundleClaim,
    BundlePacket,
    BundleReport,
    ClaimKind,
    Hop,
    Trust,
    TrustedChain,
    decode_bundle,
    decode_trust,
    encode_bundle,
    encode_trust,
    verify_bundle,
)
from relay.bundle_format import octets
from relay.errors import LianqiaoError, Malformed, Reason
from relay.light.checkpoint_client import CheckpointClient
from relay.light.client import consensus_of
from relay.light.types import DAY, ClientType, Header, Witness
from relay.packet import (
    ABSENT,
    Packet,
    Payload,
    acknowledgement_commitment,
    acknowledgement_path,
    commitment_path,
    packet_commitment,
    receipt_path,
)
from tests.light.ledger import START, Ledger, witness
from tests.refusals import refused, refusing

TYPES: Mapping[str, ClientType] = {"checkpoint": CLIENT}
NOW = START + 600
PACKET = Packet(
    7, "checkpoint-0", "checkpoint-3", START + 900, (Payload("p", "q", "1", "raw", b"record"),)
)
ACKNOWLEDGEMENTS = (b"recognised",)


class World:
    """A source ledger and a relay: the packet was sent on one, received on the other."""

    def __init__(self) -> None:
        self.source = Ledger("zj-medical/0")
        self.relay = Ledger("relay/0", "wxyz")
        self.source.fill(3)
        self.relay.fill(5)
        self.anchors = [self.source.header(), self.relay.header()]
        sent = self.source.write(commitment_path("checkpoint-0", 7), packet_commitment(PACKET))
        self.source.fill(2)
        received = [
            self.relay.write(receipt_path("checkpoint-3", 7), packet_commitment(PACKET)),
            self.relay.write(b"\x00decision", b"granted"),
            self.relay.write(
                acknowledgement_path("checkpoint-3", 7),
                acknowledgement_commitment(ACKNOWLEDGEMENTS),
            ),
        ]
        self.sent, self.received = sent, received

    def trust(self) -> Trust:
        ledgers = (self.source, self.relay)
        chains = [
            TrustedChain(ledger.state, consensus_of(header))
            for ledger, header in zip(ledgers, self.anchors, strict=True)
        ]
        return Trust(tuple(sorted(chains, key=lambda c: c.state.chain_id)))

    def bundle(self) -> Bundle:
        return Bundle(
            (BundlePacket(PACKET, ACKNOWLEDGEMENTS),),
            (
                Hop(
                    "zj-medical/0",
                    self.source.size,
                    (self.source.raw(3),),
                    self.source.prove([self.sent]),
                    (BundleClaim(ClaimKind.COMMITMENT),),
                ),
                Hop(
                    "relay/0",
                    self.relay.size,
                    (self.relay.raw(5),),
                    self.relay.prove(self.received),
                    (
                        BundleClaim(ClaimKind.RECEIPT),
                        BundleClaim(ClaimKind.ENTRY, path=b"\x00decision", value=b"granted"),
                        BundleClaim(ClaimKind.ACKNOWLEDGEMENT),
                    ),
                ),
            ),
        )


@pytest.fixture
def world() -> World:
    return World()


def verify(
    bundle: bytes | Bundle, trust: Trust, now: int = NOW, at: int | None = None
) -> BundleReport:
    raw = bundle if isinstance(bundle, bytes) else encode_bundle(bundle)
    return verify_bundle(raw, trust, now, TYPES, at)


def not_verified(
    reason: Reason, bundle: bytes | Bundle, trust: Trust, now: int = NOW, at: int | None = None
) -> None:
    refused(reason, verify, bundle, trust, now, at)


def test_a_bundle_tells_what_happened(world: World) -> None:
    report = verify(world.bundle(), world.trust())
    assert report.assumed_time is None
    assert report.packets[0].packet == PACKET
    source, relay = report.hops
    assert (source.chain, source.height, source.time) == ("zj-medical/0", 6, START + 6)
    assert source.signers == ("zj-a", "zj-b", "zj-c", "zj-d")
    assert relay.signers == ("relay/0-w", "relay/0-x", "relay/0-y", "relay/0-z")
    assert [c.kind for c in relay.claims] == ["receipt", "entry", "acknowledgement"]


@pytest.mark.slow
def test_no_byte_can_be_changed(world: World) -> None:
    raw = encode_bundle(world.bundle())
    trust = world.trust()
    for at in range(len(raw)):
        for pattern in ((0x01, 0x80), (0x20, 0x02), (0x04, 0xFF))[at % 3]:
            changed = raw[:at] + bytes([raw[at] ^ pattern]) + raw[at + 1 :]
            with pytest.raises(LianqiaoError):
                verify(changed, trust)
    for changed in (raw[:-1], raw + b"\n", b" " + raw, raw[1:], b""):
        not_verified(
            Reason.NOT_CANONICAL if changed in (raw + b"\n", b" " + raw) else Reason.MALFORMED,
            changed,
            trust,
        )


@pytest.mark.slow
def test_no_byte_inside_its_base64_can_be_changed(world: World) -> None:
    """The same below the base64, where a flip stays well-formed JSON."""
    text = encode_bundle(world.bundle()).decode()
    trust = world.trust()
    for found in re.finditer(r'"([A-Za-z0-9+/]{40,}={0,2})"', text):
        inner = b64decode(found[1])
        for at in range(0, len(inner), 1 if len(inner) < 400 else 3):
            flipped = inner[:at] + bytes([inner[at] ^ 1 << at % 8]) + inner[at + 1 :]
            changed = text[: found.start(1)] + b64encode(flipped).decode() + text[found.end(1) :]
            with pytest.raises(LianqiaoError):
                verify(changed.encode(), trust)


def edit(bundle: Bundle, hop: int, **fields: object) -> Bundle:
    hops = list(bundle.hops)
    hops[hop] = replace(hops[hop], **fields)  # type: ignore[arg-type]
    return replace(bundle, hops=tuple(hops))


def test_what_is_missing_or_unused(world: World) -> None:
    good, trust = world.bundle(), world.trust()
    source, relay = good.hops
    incomplete = [
        replace(good, hops=()),
        Bundle((), ()),
        replace(good, hops=(relay,)),
        edit(good, 0, claims=()),
        replace(good, hops=(source, relay, replace(source, claims=()))),
        edit(good, 1, claims=(BundleClaim(ClaimKind.RECEIPT, 1),)),
        replace(good, packets=()),
        replace(good, packets=(BundlePacket(PACKET),)),
        replace(good, packets=(*good.packets, BundlePacket(PACKET))),
    ]
    for bundle in incomplete:
        not_verified(Reason.BUNDLE_INCOMPLETE, bundle, trust)
    unused = [
        replace(good, hops=(source,)),
        replace(good, hops=(source, source, relay)),
        edit(good, 1, claims=relay.claims[:1] * 2),
    ]
    for bundle in unused:
        not_verified(Reason.NOT_CANONICAL, bundle, trust)


def test_one_chain_sends_and_one_other_answers(world: World) -> None:
    """A ledger can write into its own journal what the relay would have answered."""
    good, trust = world.bundle(), world.trust()
    own = [
        world.source.write(receipt_path("checkpoint-3", 7), packet_commitment(PACKET)),
        world.source.write(
            acknowledgement_path("checkpoint-3", 7), acknowledgement_commitment(ACKNOWLEDGEMENTS)
        ),
    ]
    claims = [BundleClaim(kind) for kind in (ClaimKind.RECEIPT, ClaimKind.ACKNOWLEDGEMENT)]
    hop = Hop(
        "zj-medical/0",
        world.source.size,
        (world.source.raw(3),),
        world.source.prove([world.sent, *own]),
        (BundleClaim(ClaimKind.COMMITMENT), *claims),
    )
    not_verified(Reason.COUNTERPARTY_MISMATCH, replace(good, hops=(hop,)), trust)
    sent, both = good.hops[0], world.source.prove(own)
    twice = replace(hop, proof=both, claims=tuple(claims))
    not_verified(
        Reason.COUNTERPARTY_MISMATCH, replace(good, hops=(sent, twice, good.hops[1])), trust
    )


def test_what_does_not_match_the_proofs(world: World) -> None:
    good, trust = world.bundle(), world.trust()
    _, relay = good.hops
    other = replace(PACKET, source_client="checkpoint-1")
    not_verified(
        Reason.INVALID_PROOF, replace(good, packets=(BundlePacket(other, ACKNOWLEDGEMENTS),)), trust
    )
    not_verified(
        Reason.INVALID_PROOF, replace(good, packets=(BundlePacket(PACKET, (b"refused",)),)), trust
    )
    not_verified(
        Reason.INVALID_PROOF, edit(good, 1, proof=world.relay.prove(world.received[::-1])), trust
    )
    absent = (BundleClaim(ClaimKind.ABSENT), *relay.claims[1:])
    not_verified(Reason.INVALID_PROOF, edit(good, 1, claims=absent), trust)
    not_verified(Reason.HEIGHT_NOT_TRUSTED, edit(good, 0, height=5), trust)
    not_verified(Reason.CHAIN_ID_MISMATCH, edit(good, 0, headers=relay.headers), trust)
    not_verified(Reason.TRUST_MISSING, edit(good, 0, chain="nobody/0"), trust)
    not_verified(Reason.INVALID_CONSISTENCY, edit(good, 0, headers=(world.source.raw(2),)), trust)
    bad = replace(PACKET, sequence=0)
    not_verified(
        Reason.INVALID_PACKET, replace(good, packets=(BundlePacket(bad, ACKNOWLEDGEMENTS),)), trust
    )


def test_signatures_past_the_quorum_and_of_others_are_refused(world: World) -> None:
    good, trust = world.bundle(), world.trust()
    body = world.source.body()
    lines = world.source.lines(body)
    forged = [*lines[:3], replace(lines[3], value=bytes(31) + b"\x02" + bytes(32))]
    not_verified(
        Reason.INVALID_SIGNATURE, edit(good, 0, headers=(world.source.raw(3, lines=forged),)), trust
    )
    few = world.source.raw(3, lines=lines[:2])
    not_verified(Reason.QUORUM_NOT_REACHED, edit(good, 0, headers=(few,)), trust)
    stranger = world.source.cosign(body, "stranger", NOW)
    not_verified(
        Reason.UNKNOWN_SIGNER,
        edit(good, 0, headers=(world.source.raw(3, others=[stranger]),)),
        trust,
    )


def test_the_anchor_itself_proves_without_headers(world: World) -> None:
    good = world.bundle()
    world.anchors[0] = world.source.header()
    trust = world.trust()
    report = verify(edit(good, 0, headers=()), trust)
    assert report.hops[0].signers == ()
    not_verified(Reason.NOT_CANONICAL, edit(good, 0, headers=(world.source.raw(),)), trust)
    world.source.fill(1)
    again = world.source.raw(0, world.source.body(6))
    doubled = edit(
        good,
        0,
        headers=(again, world.source.raw(6)),
        height=7,
        proof=world.source.prove([world.sent]),
    )
    not_verified(Reason.HEIGHT_NOT_MONOTONIC, doubled, trust)


def test_several_headers_forwards(world: World) -> None:
    good, trust = world.bundle(), world.trust()
    first = world.source.raw(3)
    world.source.fill(4)
    hop = {"height": 10, "proof": world.source.prove([world.sent])}
    verify(edit(good, 0, headers=(first, world.source.raw(6)), **hop), trust)
    not_verified(
        Reason.INVALID_CONSISTENCY, edit(good, 0, headers=(world.source.raw(6),), **hop), trust
    )
    not_verified(
        Reason.HEIGHT_NOT_MONOTONIC,
        edit(good, 0, headers=(world.source.raw(3), first), **hop),
        trust,
    )


def test_trust_too_old_and_the_assumed_moment(world: World) -> None:
    good, trust = world.bundle(), world.trust()
    late = START + 91 * DAY
    not_verified(Reason.TRUST_TOO_OLD, good, trust, late)
    report = verify(good, trust, late, at=NOW)
    assert report.assumed_time == NOW
    not_verified(Reason.MALFORMED, good, trust, NOW, at=NOW + 1)
    not_verified(Reason.MALFORMED, good, trust, NOW, at=-1)
    not_verified(Reason.HEADER_FROM_FUTURE, good, trust, NOW, at=START - 60)


def younger_trust(world: World, bundle: Bundle) -> tuple[Trust, Bundle, int]:
    """The bundle's headers lead on to a head of 91 days later, which the trust file names."""
    late = START + 91 * DAY
    hops = []
    for number, ledger in enumerate((world.source, world.relay)):
        old = ledger.size
        start = ledger.raw()
        ledger.fill(9)
        body = ledger.body(time=late)
        end = ledger.raw(old, body)
        world.anchors[number] = ledger.header(body=body)
        hops.append(replace(bundle.hops[number], headers=(start, end)))
    return world.trust(), replace(bundle, hops=tuple(hops)), late + 60


def test_an_old_bundle_under_a_younger_head(world: World) -> None:
    trust, bundle, now = younger_trust(world, world.bundle())
    report = verify(bundle, trust, now)
    assert report.assumed_time is None
    assert (report.hops[0].height, report.hops[0].time) == (6, START + 6)
    assert report.hops[0].signers == ("zj-a", "zj-b", "zj-c", "zj-d")


def test_an_old_bundle_is_not_believed_without_its_link(world: World) -> None:
    trust, bundle, now = younger_trust(world, world.bundle())
    start, end = bundle.hops[0].headers
    source = world.source
    not_verified(Reason.HEIGHT_NOT_MONOTONIC, edit(bundle, 0, headers=(start,)), trust, now)
    unlinked = source.raw(0, source.body(time=now - 60))
    not_verified(Reason.INVALID_CONSISTENCY, edit(bundle, 0, headers=(start, unlinked)), trust, now)
    other = source.raw(6, source.body(time=now - 61))
    not_verified(Reason.HEAD_CONFLICT, edit(bundle, 0, headers=(start, other)), trust, now)
    linked = source.raw(3, source.body(6))
    not_verified(Reason.NOT_CANONICAL, edit(bundle, 0, headers=(linked, end)), trust, now)
    not_verified(
        Reason.HEIGHT_NOT_MONOTONIC, edit(bundle, 0, headers=(start, start, end)), trust, now
    )
    header = CLIENT.decode_header(start)
    sized = CLIENT.encode_header(replace(header, link_height=3))
    not_verified(Reason.NOT_CANONICAL, edit(bundle, 0, headers=(sized, end)), trust, now)
    unused = CLIENT.encode_header(replace(header, link=(bytes(32),)))
    not_verified(Reason.NOT_CANONICAL, edit(bundle, 0, headers=(unused, end)), trust, now)
    # Retired keys sign a past of their own: properly, but no proof makes it part of the tree.
    forged = Ledger("zj-medical/0")
    forged.fill(6)
    not_verified(
        Reason.INVALID_CONSISTENCY, edit(bundle, 0, headers=(forged.raw(), end)), trust, now
    )
    few = source.raw(0, source.body(6), lines=source.lines(source.body(6))[:2])
    not_verified(Reason.QUORUM_NOT_REACHED, edit(bundle, 0, headers=(few, end)), trust, now)
    later = source.raw(0, source.body(6, time=now))
    not_verified(Reason.TIME_NOT_MONOTONIC, edit(bundle, 0, headers=(later, end)), trust, now)
    announced = source.raw(0, source.body(6, next_set_hash=bytes(32)))
    not_verified(
        Reason.VALIDATOR_SET_MISMATCH, edit(bundle, 0, headers=(announced, end)), trust, now
    )
    chain = Ledger("hz-medical/0")
    chain.entries, chain.set = source.entries, source.set
    not_verified(
        Reason.CHAIN_ID_MISMATCH,
        edit(bundle, 0, headers=(chain.raw(0, chain.body(6)), end)),
        trust,
        now,
    )
    wrong = source.raw(0, source.body(6), validators=world.relay.set)
    not_verified(Reason.VALIDATOR_SET_MISMATCH, edit(bundle, 0, headers=(wrong, end)), trust, now)


def test_an_unknown_client_type(world: World) -> None:
    with pytest.raises(LianqiaoError) as err:
        verify_bundle(encode_bundle(world.bundle()), world.trust(), NOW, {})
    assert err.value.reason == Reason.CLIENT_TYPE_UNKNOWN


class Sloppy(CheckpointClient):
    """A foreign type that overlooks what follows a header, and whose links show nothing."""

    links = False

    def decode_header(self, raw: bytes) -> Header:
        return super().decode_header(raw.removesuffix(b"more"))


def test_what_a_foreign_client_type_overlooks_is_not_believed(world: World) -> None:
    good = world.bundle()
    more = edit(good, 0, headers=(world.source.raw(3) + b"more",))
    trust, backwards, later = younger_trust(world, good)
    for bundle, believed, now, reason in (
        (more, World().trust(), NOW, Reason.MALFORMED),
        (backwards, trust, later, Reason.NOT_CANONICAL),
    ):
        with pytest.raises(LianqiaoError) as err:
            verify_bundle(encode_bundle(bundle), believed, now, {"checkpoint": Sloppy()})
        assert err.value.reason == reason


def test_pinned_witnesses_are_required_of_a_bundle_too(world: World) -> None:
    good = world.bundle()
    world.source.state = replace(world.source.state, witnesses=(witness("w1"),), witness_quorum=1)
    trust = world.trust()
    not_verified(Reason.WITNESS_MISSING, good, trust)
    line = world.source.cosign(world.source.body(), "w1", NOW)
    report = verify(edit(good, 0, headers=(world.source.raw(3, others=[line]),)), trust)
    assert report.hops[0].witnesses == ("w1",)


# --- form


def test_encoding_and_decoding_are_inverse(world: World) -> None:
    raw = encode_bundle(world.bundle())
    assert decode_bundle(raw) == world.bundle()
    assert encode_bundle(decode_bundle(raw)) == raw


def json_edits() -> list[tuple[str, Callable[[dict[str, object]], object]]]:
    def at(*path: object) -> Callable[[dict[str, object]], dict[str, object]]:
        def walk(top: dict[str, object]) -> dict[str, object]:
            here: object = top
            for step in path:
                here = here[step]  # type: ignore[index]
            return here  # type: ignore[return-value]

        return walk

    packet = at("packets", 0, "packet")
    hop = at("hops", 0)
    claim = at("hops", 0, "claims", 0)
    entry = at("hops", 1, "claims", 1)
    return [
        ("version", lambda t: t.update(version=2)),
        ("version type", lambda t: t.update(version=True)),
        ("unknown key", lambda t: t.update(more=1)),
        ("missing key", lambda t: t.pop("hops")),
        ("hops type", lambda t: t.update(hops={})),
        ("too many hops", lambda t: t.update(hops=[t["hops"][0]] * 65)),
        ("sequence type", lambda t: packet(t).update(sequence=7)),
        ("sequence zero", lambda t: packet(t).update(sequence="07")),
        ("sequence sign", lambda t: packet(t).update(sequence="-7")),
        ("sequence digits", lambda t: packet(t).update(sequence="\u0667")),
        ("sequence big", lambda t: packet(t).update(sequence=str(2**63))),
        ("sequence empty", lambda t: packet(t).update(sequence="")),
        ("name", lambda t: packet(t).update(source_client="\u00e9")),
        ("long name", lambda t: packet(t).update(source_client="a" * 129)),
        ("headers", lambda t: hop(t).update(headers=[1])),
        ("base64", lambda t: hop(t).update(proof="A===")),
        ("base64 bits", lambda t: hop(t).update(proof="AB==")),
        ("kind", lambda t: claim(t).update(kind="COMMITMENT")),
        ("kind type", lambda t: claim(t).update(kind=["commitment"])),
        ("hop type", lambda t: t.update(hops=[1])),
        ("claim type", lambda t: hop(t).update(claims=["commitment"])),
        ("index type", lambda t: claim(t).update(packet="0")),
        ("index bool", lambda t: claim(t).update(packet=False)),
        ("index sign", lambda t: claim(t).update(packet=-1)),
        ("entry with packet", lambda t: entry(t).update(packet=0)),
        ("claim with path", lambda t: claim(t).update(path="")),
    ]


@pytest.mark.parametrize(("name", "change"), json_edits(), ids=[e[0] for e in json_edits()])
def test_a_bundle_in_another_form_is_malformed(
    world: World, name: str, change: Callable[[dict[str, object]], object]
) -> None:
    top = json.loads(encode_bundle(world.bundle()))
    change(top)
    with pytest.raises(Malformed) as err:
        decode_bundle(canonical.encode(top))
    assert err.value.reason == Reason.MALFORMED


def test_base64_holds_no_more_than_it_may() -> None:
    """Of several lengths in bytes that one length of text can have, too."""
    assert octets(b64encode(bytes(32)).decode(), "it", 32) == bytes(32)
    for more in (33, 34, 40):
        with refusing(Reason.MALFORMED):
            octets(b64encode(bytes(more)).decode(), "it", 32)


def test_json_that_has_two_readings(world: World) -> None:
    raw = encode_bundle(world.bundle())
    for changed, reason in (
        (raw.replace(b'{"hops"', b'{"hops":[],"hops"', 1), Reason.MALFORMED),
        (b"\xef\xbb\xbf" + raw, Reason.MALFORMED),
        (json.dumps(json.loads(raw)).encode(), Reason.NOT_CANONICAL),
        (b"[" * 100_000, Reason.LIMIT_EXCEEDED),
        (b" " * (17 * 1024 * 1024), Reason.LIMIT_EXCEEDED),
    ):
        with pytest.raises(Malformed) as err:
            decode_bundle(changed)
        assert err.value.reason == reason


def test_a_trust_file_is_read_in_any_layout_and_nothing_else(world: World) -> None:
    world.source.state = replace(world.source.state, witnesses=(witness("w1"),), witness_quorum=1)
    trust = world.trust()
    raw = encode_trust(trust)
    assert decode_trust(raw) == trust
    assert decode_trust(json.dumps(json.loads(raw), indent=2).encode()) == trust
    for old, new in (
        ('"version":1', '"version":2'),
        ('"version":1', '"version":1,"more":0'),
        ('"version":1', '"version":true'),
        ('"strict":true', '"strict":1'),
        ('"chain_id":"zj', '"chain_id":"aa'),
        ('"chain_id":"zj-medical/0"', '"chain_id":"relay/0"'),
        ('"height":"5"', '"height":5'),
        ('"witness_quorum":1', '"witness_quorum":2'),
        ('"clock_drift":10', '"clock_drift":1e1'),
        ('"trusting_period":7776000', '"trusting_period":0'),
        ('"root":"', '"root":"' + "AAAA" * 11),
        ('"set_hash":"', '"set_hash":"AAAA'),
        ('"header_hash":"', '"nanos":1000000000,"header_hash":"'),
        ('"header_hash":"', '"nanos":"1","header_hash":"'),
    ):
        text = raw.decode()
        assert old in text
        with pytest.raises(Malformed) as err:
            decode_trust(text.replace(old, new, 1).encode())
        assert err.value.reason == Reason.MALFORMED, old


def test_a_weak_witness_key_is_not_trusted(world: World) -> None:
    weak = Witness("w1", "ed25519", bytes(32))
    world.source.state = replace(world.source.state, witnesses=(weak,), witness_quorum=1)
    with pytest.raises(LianqiaoError) as err:
        encode_trust(world.trust())
    assert err.value.reason == Reason.WEAK_KEY


def test_absence_is_shown_by_the_sentinel() -> None:
    world = World()
    index = world.relay.write(receipt_path("checkpoint-3", 8), ABSENT)
    late = replace(PACKET, sequence=8)
    sent = world.source.write(commitment_path("checkpoint-0", 8), packet_commitment(late))
    bundle = Bundle(
        (BundlePacket(late),),
        (
            Hop(
                "zj-medical/0",
                7,
                (world.source.raw(3),),
                world.source.prove([sent]),
                (BundleClaim(ClaimKind.COMMITMENT),),
            ),
            Hop(
                "relay/0",
                9,
                (world.relay.raw(5),),
                world.relay.prove([index]),
                (BundleClaim(ClaimKind.ABSENT),),
            ),
        ),
    )
    assert verify(bundle, world.trust()).hops[1].claims[0].kind == "absent"
