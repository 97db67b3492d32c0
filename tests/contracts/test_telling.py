"""A ledger tells relays of its accounts: all that are connected, of every version, however late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import Json, decode, encode
from relay.contracts.accounts import find_terms, read_terms
from relay.contracts.escrow import QUIET
from relay.contracts.escrow.telling import answers_of
from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT
from relay.contracts.payloads.parties import parties
from relay.contracts.terms_notice import TermsAnswer, TermsNotice
from relay.contracts.undelivered import count_held, is_held, payload_for
from relay.errors import LianqiaoError, Malformed, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet
from tests.contracts.ledger import Ledger
from tests.contracts.money_flow import Flow, terms
from tests.contracts.money_world import HK, HUB, INSURER, MAKER, OFFICER, instruction, signed
from tests.contracts.world import NOW

OTHER = "hub-2"
RELAYS = (HUB, OTHER)


def insurer(version: int = 2, **changes: Any) -> dict[str, Any]:
    return terms("insurer", "HKD", "hk-insurer", INSURER, version, **changes)


def two_relays() -> Flow:
    return Flow(ledgers=(HK,), relays=RELAYS)


def open_account(flow: Flow, asked: dict[str, Any], *relays: str) -> None:
    named: dict[str, Json] = {"relays": list(relays)} if relays else {}
    flow.money[HK].call("account.open", encode({**asked, **named}))


def known(flow: Flow, relay: str, account: str = "insurer") -> int:
    """The version of the terms that count at a relay; 0: it has none."""
    found = find_terms(flow.ledgers[relay], HK, account)
    return found.version if found else 0


def said(flow: Flow, account: str = "insurer") -> list[tuple[str, int, str]]:
    return [(t.relay, t.version, t.reason) for t in answers_of(flow.money[HK], account)]


def test_every_relay_hears_of_a_change() -> None:
    flow = two_relays()
    open_account(flow, insurer(limits={"daily": 7}), *RELAYS)
    assert said(flow) == [(HUB, 0, ""), (OTHER, 0, "")]
    flow.deliver()
    assert [known(flow, relay) for relay in RELAYS] == [2, 2]
    found = find_terms(flow.ledgers[OTHER], HK, "insurer")
    assert found == find_terms(flow.money[HK], "insurer")
    assert said(flow) == [(HUB, 2, ""), (OTHER, 2, "")]
    open_account(flow, insurer(3))
    flow.deliver()
    assert [known(flow, relay) for relay in RELAYS] == [3, 3], "who was told once hears of more"


def test_the_same_terms_again_are_told_to_nobody_but_who_is_named() -> None:
    flow = two_relays()
    hk = flow.money[HK]
    open_account(flow, insurer(), HUB)
    sent = len(hk.sent)
    open_account(flow, insurer())
    assert len(hk.sent) == sent
    open_account(flow, insurer(), OTHER)
    flow.deliver()
    assert known(flow, OTHER) == 2


def test_a_relay_that_has_locked_here_hears_of_changes() -> None:
    flow = two_relays()
    given = instruction()
    lock = replace(given, legs=(given.legs[0], replace(given.legs[1], ledger=HK)))
    assert lock.ledgers == (HK,)
    open_account(flow, terms("maker-cny", "HKD", "maker-1", MAKER), HUB)
    assert answers_of(flow.money[HK], "insurer")[0].relay == HUB
    flow = Flow()
    flow.instruct(signed())
    flow.settle()
    assert said(flow) == [(HUB, 0, "")]
    open_account(flow, insurer())
    assert len(flow.money[HK].sent) == 1


def test_a_relay_that_locks_first_after_a_change_hears_of_it_once() -> None:
    """By its operator's hand it knows the first version alone."""
    flow = Flow()
    hk = flow.money[HK]
    hk.call("account.open", encode(insurer(2)))
    assert known(flow, HUB) == 1
    for name in ("one", "two"):
        flow.instruct(signed(instruction(name)))
        flow.settle()
    flow.deliver()
    assert known(flow, HUB) == 2
    assert len(hk.sent) == 1


def test_a_refused_lock_makes_nobody_hear_of_anything() -> None:
    flow = Flow(funds={"insurer": 0})
    flow.instruct(signed())
    flow.settle()
    assert said(flow) == []


def test_a_relay_that_is_not_connected_cannot_be_named() -> None:
    flow = two_relays()
    hk = flow.money[HK]
    before = dict(hk.written)
    for method, body in (
        ("account.open", {**insurer(), "relays": ["hub-9"]}),
        ("account.announce", {"accounts": ["insurer"], "relays": ["hub-9"]}),
    ):
        with pytest.raises(LianqiaoError) as err:
            hk.call(method, encode(body))  # type: ignore[arg-type]
        assert err.value.reason is Reason.CLIENT_NOT_FOUND
        assert hk.written == before


def test_a_relay_that_is_connected_later_is_told_of_what_there_is() -> None:
    flow = Flow(ledgers=(HK,))
    flow.money[HK].call("account.open", encode({**insurer(), "relays": [HUB]}))
    flow.money[HK].call("account.open", encode(insurer(3, limits={"daily": 9})))
    later = Ledger(OTHER, flow.hub.contract, now=NOW)
    flow.relays.append(later)
    flow.ledgers[OTHER] = later
    flow._done[OTHER] = 0
    flow.connect(later, flow.money[HK], NOW)
    accounts: list[Json] = ["hk-fees", "insurer", "maker-hkd"]
    body: Json = {"accounts": accounts, "relays": [OTHER]}
    assert decode(flow.money[HK].call("account.announce", encode(body))) == {
        "accounts": 3,
        "relays": 1,
    }
    flow.deliver()
    assert known(flow, OTHER) == 3, "versions before it are not needed"
    assert known(flow, OTHER, "maker-hkd") == 1
    open_account(flow, insurer(4))
    flow.deliver()
    assert [known(flow, relay) for relay in RELAYS] == [4, 4]
    for wrong, reason in (
        ({"accounts": ["nobody"], "relays": [OTHER]}, Reason.ACCOUNT_NOT_FOUND),
        ({"accounts": [], "relays": [OTHER]}, Reason.LIMIT_EXCEEDED),
        ({"accounts": ["insurer"], "relays": []}, Reason.LIMIT_EXCEEDED),
        ({"accounts": ["b", "a"], "relays": [OTHER]}, Reason.MALFORMED),
    ):
        with pytest.raises(LianqiaoError) as err:
            flow.money[HK].call("account.announce", encode(wrong))  # type: ignore[arg-type]
        assert err.value.reason is reason


def test_what_cannot_be_sent_is_held_and_sent_later() -> None:
    flow = two_relays()
    hk = flow.money[HK]
    open_account(flow, insurer(), *RELAYS)
    flow.deliver()
    peer = next(p for p in hk.peers.values() if p.chain_id == OTHER)
    peer.frozen = True
    open_account(flow, insurer(3))
    flow.deliver()
    assert [known(flow, relay) for relay in RELAYS] == [3, 2]
    assert is_held(hk, OTHER)
    assert hk.contract.holds(OTHER, hk)
    peer.frozen = False
    hk.contract.tick(hk, NOW)
    assert not is_held(hk, OTHER)
    flow.deliver()
    assert known(flow, OTHER) == 3


def test_a_notice_that_timed_out_is_sent_again_as_things_stand() -> None:
    flow = two_relays()
    hk = flow.money[HK]
    open_account(flow, insurer(), HUB)
    [late] = flow.drop(hk)
    assert TermsNotice.decode(late.payloads[0].value).terms.version == 2
    open_account(flow, insurer(3))
    assert [TermsNotice.decode(p.payloads[0].value).terms.version for p in flow.pending(hk)] == [
        2,
        3,
    ]
    flow.deliver()
    assert known(flow, HUB) == 3


def test_books_of_a_chain_that_sends_nothing_tell_nobody() -> None:
    flow = Flow(escrow=QUIET)
    flow.instruct(signed())
    flow.settle()
    open_account(flow, insurer(), HUB)
    assert said(flow) == []
    assert flow.money[HK].sent == []
    body: Json = {"accounts": ["insurer"], "relays": [HUB]}
    with pytest.raises(LianqiaoError) as err:
        flow.money[HK].call("account.announce", encode(body))
    assert err.value.reason is Reason.NOT_PERMITTED


def notice(version: int = 2, **changes: Any) -> TermsNotice:
    return TermsNotice(HK, HUB, read_terms(insurer(version, **changes)))


def tell(flow: Flow, given: TermsNotice, source: str = ESCROW_PORT) -> TermsAnswer:
    [(client, peer)] = [
        (name, p) for name, p in flow.hub.peers.items() if p.chain_id == given.ledger
    ] or list(flow.hub.peers.items())[:1]
    payload = payload_for(SETTLEMENT_PORT, source, given.encode())
    packet = Packet(90, peer.counterparty, client, NOW + 60, (payload,))
    return TermsAnswer.decode(flow.hub.receive(packet))


def test_notices_may_come_in_any_order_and_again() -> None:
    flow = Flow()
    assert tell(flow, notice(4)).reason is None
    kept = dict(flow.hub.written)
    for version in (2, 4, 3):
        assert tell(flow, notice(version)).reason is None
        assert known(flow, HUB) == 4
    assert flow.hub.written == kept, "what comes late changes nothing"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (notice(1, limits={"daily": 5}), Reason.CONFLICT),
        (
            TermsNotice(HK, HUB, read_terms(terms("insurer", "HKD", "thief", OFFICER, 2))),
            Reason.PARTY_INVALID,
        ),
        (
            TermsNotice(HK, HUB, read_terms(terms("insurer", "CNY", "hk-insurer", INSURER, 2))),
            Reason.CURRENCY_MISMATCH,
        ),
    ],
)
def test_what_a_relay_does_not_take(given: TermsNotice, reason: Reason) -> None:
    """What it has stays, and the ledger learns why."""
    flow = Flow()
    before = dict(flow.hub.written)
    assert tell(flow, given).reason is reason
    assert flow.hub.written == before


def test_what_should_not_have_been_sent_is_an_error() -> None:
    flow = Flow()
    before = dict(flow.hub.written)
    for given, source, reason in (
        (replace(notice(), relay="hub-2"), ESCROW_PORT, Reason.CHAIN_ID_MISMATCH),
        (replace(notice(), ledger="another"), ESCROW_PORT, Reason.COUNTERPARTY_MISMATCH),
        (notice(), "registry", Reason.COUNTERPARTY_MISMATCH),
    ):
        with pytest.raises(LianqiaoError) as err:
            tell(flow, given, source)
        assert err.value.reason is reason
    assert flow.hub.written == before


def test_an_answer_that_cannot_be_read_is_kept_as_an_error_and_a_later_one_counts() -> None:
    flow = Flow()
    hk = flow.money[HK]
    open_account(flow, insurer(), HUB)
    [packet] = hk.sent
    hk.end(packet, ERROR_ACKNOWLEDGEMENT)
    assert said(flow) == [(HUB, 2, "ERROR")]
    hk.end(packet, TermsAnswer(HUB, "maker-hkd", 2, None).encode())
    assert said(flow) == [(HUB, 2, "ERROR")], "an answer about another account is none"
    hk.end(packet, TermsAnswer(HUB, "insurer", 2, Reason.CONFLICT).encode())
    assert said(flow) == [(HUB, 2, "CONFLICT")]
    hk.end(packet, TermsAnswer(HUB, "insurer", 2, None).encode())
    assert said(flow) == [(HUB, 2, "")]
    assert count_held(hk) == 0


# --- the payloads


def test_round_trips_and_strictness() -> None:
    given = notice(limits={"daily": 5, "officer": 3}, cosigners=[
        {"keys": [OFFICER.dated()], "officer": "ho", "role": "officer"}
    ])  # fmt: skip
    assert TermsNotice.decode(given.encode()) == given
    for answer in (TermsAnswer(HUB, "a", 1, None), TermsAnswer(HUB, "a", 1, Reason.CONFLICT)):
        assert TermsAnswer.decode(answer.encode()) == answer
    for raw, cls in (
        (given.encode(), TermsNotice),
        (TermsAnswer(HUB, "a", 1, None).encode(), TermsAnswer),
    ):
        body = decode(raw)
        assert isinstance(body, dict)
        for name in body:
            for changed in (
                {n: v for n, v in body.items() if n != name},
                {**body, "extra": 1},
                {**body, name: -1},
            ):
                with pytest.raises(Malformed):
                    cls.decode(encode(changed))
    with pytest.raises(Malformed):
        TermsAnswer.decode(
            encode({**TermsAnswer(HUB, "a", 1, None).to_json(), "reason": "CONFLICT"})
        )


def test_a_notice_says_between_whom_it_goes() -> None:
    payload = payload_for(SETTLEMENT_PORT, ESCROW_PORT, notice().encode())
    assert parties(Packet(1, "a", "b", NOW, (payload,)), ()) == {(HK, HUB)}
