"""The registry in Solidity beside the one in Python: what comes is answered and refused alike."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.evm import calls
from adapters.evm.light.crypto import keccak
from relay.canonical import decode, encode
from relay.contracts.codes import Reexamination
from relay.contracts.payloads import Action, Attestation, Notice, OutcomeNotice, Purpose
from relay.contracts.payloads.notice import PublicKey
from relay.contracts.payloads.outcome import ItemOutcome, Result, Role
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.undelivered import payload_for
from relay.errors import LianqiaoError, Reason
from relay.packet import Packet
from relay.paths import record_path
from tests.adapters.evm.ledger import EvmLedger, install
from tests.adapters.evm.money import decode_answer
from tests.contracts.ledger import Ledger, Network
from tests.contracts.test_payloads import notices, outcome_notices
from tests.contracts.world import HOSPITAL, NOW, RECORD, adopted, attestation, digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SZ, HUB = "sz-money", "hub"
UNREADABLE = {Reason.NOT_CANONICAL, Reason.LIMIT_EXCEEDED, Reason.MALFORMED}
"""Of payloads that do not decode in Python; in Solidity all of them are MALFORMED."""
TWICE = digest("amended")


class Twins:
    """Both registries of `sz-money`, told and asked the same."""

    def __init__(self, evm: EvmLedger) -> None:
        self.evm, self.ledger = evm, Ledger(SZ, REGISTRY)
        self.network = Network((self.ledger, Ledger(HUB, RECOGNITION)))
        self.network.at(evm.world.clock.now)
        self.network.connect(self.ledger, self.network.ledgers[HUB], evm.world.clock.now)
        ((self.client, self.peer),) = self.ledger.peers.items()
        self.sequence = 0
        known = {"institution": "zj-h1", "version": 1, "keys": [HOSPITAL.dated()]}
        self.ledger.call("institution.register", encode(known))

    def attest(self, given: Attestation) -> None:
        body = {"attestations": [given.to_json()], "relays": [HUB]}
        method = {Action.NEW: "attest", Action.AMEND: "amend", Action.RETRACT: "retract"}
        self.ledger.call(method[given.action], encode(body))  # type: ignore[arg-type]
        self.post(given.encode())

    def post(self, value: bytes) -> dict[str, Any]:
        timeout = self.evm.world.clock.now + 3600
        return self.evm.transact("Registry", "post", [value], "recognition-1", timeout, False)

    def packet(self, value: bytes, **changes: Any) -> Packet:
        self.sequence += 1
        payload = replace(payload_for("registry", "recognition", value), **changes)
        timeout = self.evm.world.clock.now + 3600
        return Packet(self.sequence, self.peer.counterparty, self.client, timeout, (payload,))

    def tried(self, packet: Packet) -> bytes | Reason:
        """What the Solidity registry would answer its endpoint, or why it reverts."""
        data = self.evm.data("Registry", "onReceive", calls.packet_of(packet), [])
        done = self.evm.rpc.call(self.evm.registry.address, data, sender=self.evm.endpoint.address)
        if done.reverted:
            return Reason(calls.reason_of(done.data))
        return decode_answer(done.data)

    def ask(self, value: bytes, **changes: Any) -> bytes | Reason:
        """What both answer; nothing of it stays."""
        packet, kept = self.packet(value, **changes), dict(self.ledger.written)
        try:
            here: bytes | Reason = self.ledger.receive(packet)
        except LianqiaoError as err:
            here = Reason.MALFORMED if err.reason in UNREADABLE else err.reason
        self.ledger.written = kept
        assert self.tried(packet) == here, value
        return here

    def tell(self, value: bytes) -> bytes | Reason:
        """The same, and it stays."""
        found = self.ask(value)
        if isinstance(found, bytes):
            packet = self.packet(value)
            self.ledger.receive(packet)
            data = self.evm.data("Registry", "onReceive", calls.packet_of(packet), [])
            self.evm.as_address(self.evm.endpoint.address, self.evm.registry.address, data)
        return found

    def same(self) -> None:
        """Grants and outcomes lie at the same paths, under the same values."""
        found = 0
        for prefix in (b"grant/", b"outcome-notice/"):
            for name, value in self.ledger.scan(prefix):
                slot = keccak(record_path("registry", name))
                (word,) = self.evm.chain._view("written", slot)  # type: ignore[attr-defined]
                assert word == digest_of(value), name
                found += 1
        assert found


def digest_of(value: bytes) -> bytes:
    from hashlib import sha256

    return sha256(value).digest()


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        evm = EvmLedger(tmp_path_factory.mktemp("evm"), [RECOGNITION], now=NOW)
        made = Twins(evm)
        made.attest(attestation(ledger=SZ))
        changed = {"action": Action.AMEND, "commitment": TWICE, "previous": RECORD}
        made.attest(attestation(ledger=SZ, **changed))
        yield made
        evm.close()


def notice(**changes: Any) -> Notice:
    base = Notice(
        relay=HUB,
        origin="sh-medical",
        target=SZ,
        hops=1,
        request=digest("request"),
        commitment=RECORD,
        institution="sh-h1",
        purpose=Purpose.TREAT,
        decided=NOW,
        consent=digest("consent"),
        grant=digest("grant"),
        parts=(1, 2),
        expires=NOW + 3600,
        keys=(PublicKey("ed25519", bytes(32)), PublicKey("secp256k1", b"\x02" + bytes(32))),
    )
    return replace(base, **changes)


def outcome(*items: ItemOutcome, **changes: Any) -> OutcomeNotice:
    base = OutcomeNotice(
        relay=HUB, origin="sh-medical", target=SZ, hops=1, request=digest("request"),
        commitment=RECORD, institution="sh-h1", outcome=digest("outcome"), time=NOW,
        items=items or (adopted(), again()),
    )  # fmt: skip
    return replace(base, **changes)


def again(reason: Reexamination = Reexamination.R6, part: int = 2) -> ItemOutcome:
    note = digest("note") if reason is Reexamination.R6 else b""
    return ItemOutcome(part, Result.REEXAMINED, reason, note, Role.NURSE, NOW)


def test_notices_are_answered_alike(twins: Twins) -> None:
    for value in (
        notice(), outcome(), notice(commitment=TWICE), notice(institution="sh-h2:a@b_c.d-e"),
        notice(grant=digest("another")), outcome(outcome=digest("another")),
        notice(purpose=Purpose.PUBHLTH, hops=0, decided=0, expires=2**53 - 1, parts=(0, 511),
               grant=digest("bounds")),
        outcome(commitment=digest("nobody's"), outcome=digest("of a refused request")),
        outcome(*(again(reason, i) for i, reason in enumerate(Reexamination)), time=0, hops=8,
                outcome=digest("bounds")),
    ):  # fmt: skip
        first = twins.tell(value.encode())
        assert isinstance(first, bytes)
        assert twins.tell(value.encode()) == first  # the same again
    twins.same()


def test_what_is_refused(twins: Twins) -> None:
    twins.tell(notice().encode())
    twins.tell(outcome().encode())
    for value, reason in (
        (notice(target="zj-medical"), Reason.CHAIN_ID_MISMATCH),
        (outcome(target="sz-mone"), Reason.CHAIN_ID_MISMATCH),
        (notice(relay="relay-1"), Reason.COUNTERPARTY_MISMATCH),
        (outcome(relay="hub2"), Reason.COUNTERPARTY_MISMATCH),
        (notice(target="elsewhere", relay="elsewhere"), Reason.CHAIN_ID_MISMATCH),
        (notice(relay="elsewhere", commitment=digest("no")), Reason.COUNTERPARTY_MISMATCH),
        (notice(commitment=digest("nobody's")), Reason.RECORD_NOT_FOUND),
        (notice(expires=NOW + 7), Reason.PATH_WRITTEN),
        (outcome(adopted()), Reason.PATH_WRITTEN),
    ):
        assert twins.ask(value.encode()) is reason
    for changes in (
        {"version": "registry-2"}, {"version": "registry-"}, {"encoding": "application/cbor"},
    ):  # fmt: skip
        assert twins.ask(notice().encode(), **changes) is Reason.UNSUPPORTED_VERSION


def changed(value: Notice | OutcomeNotice, **members: Any) -> bytes:
    body = decode(value.encode())
    assert isinstance(body, dict)
    return encode({**body, **members})


def item(**members: Any) -> bytes:
    (first,) = (again().to_json(),)
    return changed(OUTCOME, items=[{**first, **members}])


LONG = "a" * 64
NOTICE, OUTCOME = notice(grant=digest("form")), outcome(outcome=digest("form"))
FORMS: list[bytes] = [
    b"", b"{}", b"[]", b"null", NOTICE.encode()[:-1], NOTICE.encode() + b" ",
    b" " + NOTICE.encode(), OUTCOME.encode()[:-1], OUTCOME.encode() + b"}",
    changed(NOTICE, type="outcome_notice"), changed(OUTCOME, type="notice"),
    changed(NOTICE, type="request"), changed(NOTICE, more=1),
    changed(NOTICE, hops=9), changed(OUTCOME, hops=9), changed(NOTICE, hops=-1),
    changed(NOTICE, decided=2**53 - 1), changed(NOTICE, decided="1"),
    changed(NOTICE, purpose="SELL"), changed(NOTICE, purpose=""),
    changed(NOTICE, parts=[]), changed(NOTICE, parts=[512]), changed(NOTICE, parts=[2, 1]),
    changed(NOTICE, parts=[1, 1]), changed(NOTICE, parts=[0]), changed(NOTICE, parts=[511]),
    changed(NOTICE, parts=list(range(256))), changed(NOTICE, parts=list(range(257))),
    changed(NOTICE, keys=[]),
    changed(NOTICE, keys=[{"algorithm": "a", "key": "00"}] * 16),
    changed(NOTICE, keys=[{"algorithm": "a", "key": "00"}] * 17),
    changed(NOTICE, keys=[{"algorithm": "a" * 32, "key": "00" * 256}]),
    changed(NOTICE, institution=LONG), changed(NOTICE, institution=LONG + "a"),
    changed(NOTICE, institution=""), changed(NOTICE, institution="-a"),
    changed(NOTICE, institution="é"), changed(NOTICE, institution='a"b'),
    changed(NOTICE, commitment="AB" * 32), changed(NOTICE, commitment="ab" * 31),
    changed(NOTICE, grant="ab" * 33), changed(NOTICE, request=""),
    *(changed(NOTICE, keys=[{"algorithm": name, "key": "00"}])
      for name in ("", "-a", "a-", "0", "A", "a_b", "a" * 33, "a b")),
    *(changed(NOTICE, keys=[{"algorithm": "a", "key": key}])
      for key in ("", "0", "0g", "AA", "00" * 257, "00:0")),
    changed(OUTCOME, items=[]), changed(OUTCOME, items=[adopted().to_json()] * 256),
    changed(OUTCOME, items=[adopted().to_json()] * 257),
    changed(OUTCOME, items=[again().to_json()] * 256),
    item(), item(part=511), item(part=512), item(result="adopted"), item(result="other"),
    item(reason=""), item(reason="R0"), item(reason="R5"), item(reason="R7"), item(reason="R06"),
    item(reason="R16"), item(informed=0), item(informed_by=""), item(informed_by="porter"),
    item(informed_by="clinician"), item(informed_by="other-staff"), item(note=""),
    item(note="ab" * 31), item(note="AB" * 32), item(reason="R5", note=""),
    item(result="adopted", reason="", note="", informed=0, informed_by=""),
    item(result="adopted", reason="", note="", informed=0, informed_by="nurse"),
    item(result="adopted", reason="R1", note="", informed=0, informed_by=""),
    item(result="adopted", reason="", note="", informed=1, informed_by=""),
    item(result="adopted", reason="", note="ab" * 32, informed=0, informed_by=""),
]  # fmt: skip


def test_every_rule_of_the_form(twins: Twins) -> None:
    """Each value is read, or refused, as the Python payload is."""
    told = Counter(type(twins.ask(value)).__name__ for value in FORMS)
    assert told["bytes"] > 10
    assert told["Reason"] > 50


def scrambled(value: bytes, rng: random.Random) -> bytes:
    """A byte changed, dropped or doubled, or two parts exchanged."""
    at, kind = rng.randrange(len(value)), rng.randrange(4)
    if kind == 0:
        return value[:at] + bytes([rng.choice(b'0123456789abcdefRT",:{}[]-_')]) + value[at + 1 :]
    if kind == 1:
        return value[:at] + value[at + 1 :]
    if kind == 2:
        return value[:at] + value[at : at + 1] + value[at:]
    parts = value.split(b",")
    one, two = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[one], parts[two] = parts[two], parts[one]
    return b",".join(parts)


def test_scrambled_notices_are_read_alike(twins: Twins) -> None:
    rng = random.Random(2026)
    kinds = [NOTICE.encode(), OUTCOME.encode()]
    told = Counter(str(twins.ask(scrambled(kinds[turn % 2], rng)))[:12] for turn in range(300))
    assert told["MALFORMED"] > 100
    assert len(told) > 3


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=st.one_of(notices, outcome_notices), ours=st.booleans())
def test_any_notice_is_read_alike(twins: Twins, value: Any, ours: bool) -> None:
    if ours:
        value = replace(value, relay=HUB, target=SZ, commitment=RECORD)
    twins.ask(value.encode())


def test_the_longest_outcome_fits_the_gas_of_an_application(twins: Twins) -> None:
    """3 million (Endpoint.sol): what Python accepts is not refused for its length."""
    longest = replace(again(), informed=2**53 - 1, informed_by=Role.OTHER_STAFF, part=511)
    values = [
        changed(OUTCOME, items=[longest.to_json()] * 256),
        changed(
            NOTICE, parts=list(range(256)), keys=[{"algorithm": "a" * 32, "key": "0" * 512}] * 16
        ),
    ]
    for value in values:
        assert isinstance(twins.ask(value), bytes)
        data = twins.evm.data("Registry", "onReceive", calls.packet_of(twins.packet(value)), [])
        frm, to = twins.evm.endpoint.address, twins.evm.registry.address
        asked = {"from": "0x" + frm.hex(), "to": "0x" + to.hex(), "data": "0x" + data.hex()}
        gas = int(twins.evm.anvil.ask("eth_estimateGas", asked), 16)
        assert gas - 21_000 - 16 * len(value) < 2_950_000


def test_what_makes_a_record_known(twins: Twins) -> None:
    """An attestation that an admitted account posted, and nothing that only looks like a part."""
    unknown = digest("never")

    def known(commitment: bytes) -> bool:
        packet = twins.packet(notice(commitment=commitment).encode())
        return isinstance(twins.tried(packet), bytes)

    raw = attestation(ledger=SZ, commitment=unknown).encode()
    retracted = attestation(ledger=SZ, commitment=unknown, action=Action.RETRACT).encode()
    for value in (
        b"x", b'{"action":"new","algorithm":"', raw[:-1], raw + b" ", retracted, b" " + raw,
        raw.replace(b"ed25519", b"a" * 33), raw.replace(b'"commitment"', b'"commitmemt"'),
        b'{"action":"new","algorithm":"","commitment":"ab,"type":"attestation"}',
        raw[: raw.index(unknown.hex().encode()) + 40] + b',"type":"attestation"}',
    ):  # fmt: skip
        twins.post(value)
        assert not known(unknown), value
    twins.post(raw)
    assert known(unknown)
    longest = digest("longest")
    twins.post(attestation(ledger=SZ, commitment=longest).encode().replace(b"ed25519", b"a" * 32))
    assert known(longest)
