"""Shares that sum to the total, lines beside their total, and netting that moves no position."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Reason
from relay.money import (
    MAX_AMOUNT,
    Obligation,
    Transfer,
    allocate,
    convert,
    itemise,
    net,
    parse_rate,
    positions,
)
from tests.refusals import refused

PARTIES = [f"party-{n}" for n in range(7)]
obligations = st.lists(
    st.builds(
        Obligation,
        st.sampled_from(PARTIES),
        st.sampled_from(PARTIES),
        st.sampled_from(["CNY", "HKD"]),
        st.integers(1, 10**9),
    ).filter(lambda o: o.debtor != o.creditor),
    max_size=40,
)


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_shares_sum_to_the_total(total: int, weights: list[int]) -> None:
    if not sum(weights):
        refused(Reason.AMOUNT_INVALID, allocate, total, weights)
        return
    shares = allocate(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1
        assert weight or not share


def test_what_is_left_goes_to_the_largest_remainder_then_to_the_first() -> None:
    assert allocate(100, [1, 1, 1]) == (34, 33, 33)
    assert allocate(10, [6, 3, 1]) == (6, 3, 1)
    assert allocate(7, [50, 30, 20]) == (4, 2, 1)
    assert allocate(1, [1, 2]) == (0, 1)


@pytest.mark.parametrize(
    ("total", "weights"),
    [(-1, [1]), (MAX_AMOUNT + 1, [1]), (1, []), (1, [0, 0]), (1, [-1, 2]), (1, [1] * 10_001)],
)
def test_what_cannot_be_shared_is_refused(total: int, weights: list[int]) -> None:
    refused(Reason.AMOUNT_INVALID, allocate, total, weights)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_a_bill_is_its_lines_and_the_difference(lines: list[int]) -> None:
    rate = parse_rate("1.179291")
    if not sum(lines):
        refused(Reason.AMOUNT_INVALID, itemise, lines, "CNY", "HKD", rate)
        return
    bill = itemise(lines, "CNY", "HKD", rate)
    assert bill.total == convert(sum(lines), "CNY", "HKD", rate).amount
    assert sum(bill.lines) + bill.difference == bill.total
    assert abs(bill.difference) <= (len(lines) + 1) // 2


def test_ten_thousand_lines_differ_by_less_than_half_a_unit_each() -> None:
    lines = [1 + n * 7919 % 99_991 for n in range(10_000)]
    bill = itemise(lines, "CNY", "HKD", parse_rate("1.179291"))
    exact = Fraction(sum(lines) * 1_179_291, 1_000_000)
    assert abs(bill.total - exact) <= Fraction(1, 2)
    assert 0 < abs(bill.difference) < 200


def test_a_line_too_small_to_show_is_still_in_the_total() -> None:
    bill = itemise([1, 1, 1, 1], "CNY", "HKD", parse_rate("0.4"))
    assert (bill.lines, bill.total, bill.difference) == ((0, 0, 0, 0), 2, 2)


@given(obligations)
def test_netting_keeps_every_position_with_few_transfers(owed: list[Obligation]) -> None:
    transfers = net(owed)
    after = positions([Obligation(t.debtor, t.creditor, t.currency, t.amount) for t in transfers])
    before = positions(owed)
    for currency, parties in before.items():
        assert sum(parties.values()) == 0
        moved = [t for t in transfers if t.currency == currency]
        active = [p for p, amount in parties.items() if amount]
        assert len(moved) <= max(0, len(active) - 1)
        assert sum(t.amount for t in moved) <= sum(o.amount for o in owed if o.currency == currency)
        for party, amount in parties.items():
            assert after.get(currency, {}).get(party, 0) == amount
    assert transfers == tuple(sorted(transfers))
    assert transfers == net(reversed(owed)), "the order of what is owed decides nothing"


def test_two_that_owe_each_other_the_same_pay_nothing() -> None:
    assert net([Obligation("a", "b", "HKD", 5), Obligation("b", "a", "HKD", 5)]) == ()
    assert net([Obligation("a", "b", "HKD", 5), Obligation("b", "a", "CNY", 5)]) == (
        Transfer("CNY", "b", "a", 5),
        Transfer("HKD", "a", "b", 5),
    )


def test_fifty_parties_settle_in_forty_nine_transfers_a_currency() -> None:
    owed = [
        Obligation(f"p{n % 50}", f"p{(n * 7 + 1) % 50}", "HKD", 1 + n * 7919 % 100_003)
        for n in range(5_000)
        if n % 50 != (n * 7 + 1) % 50
    ]
    transfers = net(owed)
    assert len(transfers) <= 49
    assert sum(t.amount for t in transfers) < sum(o.amount for o in owed) // 4


@pytest.mark.parametrize(
    ("owed", "reason"),
    [
        (Obligation("a", "b", "HKD", 0), Reason.AMOUNT_INVALID),
        (Obligation("a", "b", "HKD", -1), Reason.AMOUNT_INVALID),
        (Obligation("a", "a", "HKD", 1), Reason.PARTY_INVALID),
    ],
)
def test_what_nobody_can_owe_is_refused(owed: Obligation, reason: Reason) -> None:
    refused(reason, net, [owed])


def test_a_net_transfer_beyond_the_greatest_amount_is_refused() -> None:
    refused(Reason.AMOUNT_INVALID, net, [Obligation("a", "b", "HKD", MAX_AMOUNT)] * 2)
