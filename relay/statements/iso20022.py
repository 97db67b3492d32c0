"""ISO 20022 documents of settlements and statements, in the versions that Hong Kong's RTGS uses.

| document | says |
| --- | --- |
| camt.053.001.08 | the statement of an account and day; of a net, every instruction it is made of |
| pacs.008.001.08 | the leg that pays the bill: amount, what it cost the payer, rate |
| pacs.009.001.08 | the leg between payer and maker |
| pacs.002.001.10 | ACSC where it was committed, RJCT with the reason where it was aborted |
| pacs.004.001.09 | a settlement that gives another back, citing its UETR |

The rounding difference of an itemised bill is an entry of its own there, or a detail of a net, with
the UETR of its settlement. The UETR goes through all of them. Parties are named by their ids on the
ledgers: whoever passes a document on to a bank puts in BIC and names. An id that is too long for
its field is cut and ends in a part of its hash, so that no two become one. Where several legs pay a
bill, InstdAmt is each one's share of what it cost, which sum to it. XchgRate has ten digits; the
exact ratio stands in the signed instruction. Built by pyiso20022; amounts are checked for ISO 4217
and minor units here, since schemas accept any three letters and five decimals. Tests validate
camt.053 and pacs.008 against full schemas; of the others no Python package ships one, so they are
read back and written again, byte for byte, and a bank's own validation is still to be passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from importlib import import_module
from typing import Any

from relay.contracts.escrow import Netted
from relay.contracts.payloads import Instruction, Ruling, Side
from relay.errors import Invalid, NotFound, Reason
from relay.money import allocate, format_amount, format_rate
from relay.money_views import Shown
from relay.statements.model import Entry, Statement

CAMT_053, PACS_008, PACS_009 = "camt.053.001.08", "pacs.008.001.08", "pacs.009.001.08"
PACS_002, PACS_004 = "pacs.002.001.10", "pacs.004.001.09"


def library(name: str) -> Any:
    """The classes of one document. Raises NotFound(NOT_FOUND) without the extra."""
    module = name.replace(".", "_")
    try:
        return import_module(f"pyiso20022.{name[:4]}.{module}.{module}")
    except ImportError:
        raise NotFound(
            Reason.NOT_FOUND,
            "ISO 20022 documents need an extra that is not installed",
            hint="pip install 'lianqiao[statements]'",
        ) from None


def _time(seconds: int) -> Any:
    from xsdata.models.datatype import XmlDateTime

    return XmlDateTime.from_datetime(datetime.fromtimestamp(seconds, UTC))


def _date(seconds: int) -> Any:
    from xsdata.models.datatype import XmlDate

    found = datetime.fromtimestamp(seconds + 8 * 3600, UTC)
    return XmlDate(found.year, found.month, found.day)


def _amount(minor: int, code: str) -> dict[str, Any]:
    """Value and currency of a positive amount. Raises Invalid(CURRENCY_UNKNOWN)."""
    return {"value": Decimal(format_amount(minor, code)), "ccy": code}


def _short(text: str, most: int) -> str:
    """`text` in at most `most` characters; other texts stay other ones."""
    if len(text) <= most:
        return text
    return f"{text[: most - 13]}-{sha256(text.encode()).hexdigest()[:12]}"


def write(document: Any, name: str) -> bytes:
    """A document as XML in its namespace; `parse` reads it back."""
    from xsdata.formats.dataclass.serializers import XmlSerializer

    space = f"urn:iso:std:iso:20022:tech:xsd:{name}"
    text: str = XmlSerializer().render(document, ns_map={None: space})
    return text.encode()


def parse(raw: bytes, name: str) -> Any:
    """A document read back into its classes; raises what the library raises."""
    from xsdata.formats.dataclass.parsers import XmlParser

    return XmlParser().from_bytes(raw, library(name).Document)


# --- statement


def camt053(given: Statement, created: int) -> bytes:
    """camt.053 of a statement: opening (OPBD), entries, closing (CLBD)."""
    m = library(CAMT_053)
    account = m.CashAccount39(
        id=m.AccountIdentification4Choice(
            othr=m.GenericAccountIdentification1(id=_short(given.account, 34))
        ),
        ccy=given.currency,
        nm=f"{given.ledger}/{given.account}"[:70],
    )
    body = m.AccountStatement9(
        id=_short(f"{given.account}-{given.day}", 35),
        cre_dt_tm=_time(created),
        acct=account,
        bal=[
            _balance(m, "OPBD", given.opening, given),
            _balance(m, "CLBD", given.closing, given),
        ],
        ntry=[_entry(m, group, given.currency) for group in _groups(given.entries)],
    )
    header = m.GroupHeader81(msg_id=body.id, cre_dt_tm=_time(created))
    whole = m.BankToCustomerStatementV08(grp_hdr=header, stmt=[body])
    return write(m.Document(bk_to_cstmr_stmt=whole), CAMT_053)


def _sign(m: Any, amount: int) -> Any:
    return m.CreditDebitCode.DBIT if amount < 0 else m.CreditDebitCode.CRDT


def _balance(m: Any, kind: str, amount: int, given: Statement) -> Any:
    from xsdata.models.datatype import XmlDate

    return m.CashBalance8(
        tp=m.BalanceType13(cd_or_prtry=m.BalanceType10Choice(cd=kind)),
        amt=m.ActiveOrHistoricCurrencyAndAmount(**_amount(abs(amount), given.currency)),
        cdt_dbt_ind=_sign(m, amount),
        dt=m.DateAndDateTime2Choice(dt=XmlDate.from_string(given.day)),
    )


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """One entry of the document each; those of one netting window, which stand together, are one,
    so that its details add up to it."""
    found: list[list[Entry]] = []
    for entry in entries:
        before = found[-1][0] if found else None
        same = before is not None and before.netted and before.reference == entry.reference
        if same and before is not None and before.relay == entry.relay:
            found[-1].append(entry)
        else:
            found.append([entry])
    return found


def _entry(m: Any, group: Sequence[Entry], code: str) -> Any:
    first, total = group[0], sum(entry.amount for entry in group)
    if first.netted:
        details = [
            _detail(m, first, one.uetr, amount, code)
            for one in first.netted
            for amount in _parts(one)
        ]
    else:
        details = [_detail(m, first, first.uetr, first.amount, code)]
    return m.ReportEntry10(
        ntry_ref=str(first.number),
        amt=m.ActiveOrHistoricCurrencyAndAmount(**_amount(abs(total), code)),
        cdt_dbt_ind=_sign(m, total),
        sts=m.EntryStatus1Choice(cd="BOOK"),
        bookg_dt=m.DateAndDateTime2Choice(dt_tm=_time(first.time)),
        val_dt=m.DateAndDateTime2Choice(dt=_date(first.time)),
        bk_tx_cd=m.BankTransactionCodeStructure4(
            prtry=m.ProprietaryBankTransactionCodeStructure1(cd=first.kind)
        ),
        ntry_dtls=[m.EntryDetails9(tx_dtls=details)],
    )


def _parts(netted: Netted) -> tuple[int, ...]:
    """What an instruction is of a net; apart from it the rounding difference of its bill."""
    if not netted.rounding:
        return (netted.amount,)
    return netted.amount - netted.rounding, netted.rounding


def _detail(m: Any, entry: Entry, uetr: str, amount: int, code: str) -> Any:
    """One transaction of an entry: of a net, one instruction of its window."""
    refs = m.TransactionReferences6(
        acct_svcr_ref=entry.reference.hex()[:35],
        end_to_end_id=uetr.replace("-", "")[:35] or None,
        uetr=uetr or None,
    )
    return m.EntryTransaction10(
        refs=refs,
        amt=m.ActiveOrHistoricCurrencyAndAmount(**_amount(abs(amount), code)),
        cdt_dbt_ind=_sign(m, amount),
    )


# --- settlement


def documents(shown: Shown) -> dict[str, bytes]:
    """Every document of one settlement, by a file's name.

    Raises Invalid(BUNDLE_INCOMPLETE) for one that is not decided yet.
    """
    if shown.view.decision is None:
        raise Invalid(Reason.BUNDLE_INCOMPLETE, "a settlement that is not decided has no documents")
    instruction = shown.view.signed.instruction
    found = {"pacs.002.xml": pacs002(shown)}
    if shown.view.decision.ruling is Ruling.ABORT:
        return found
    for number, leg in enumerate(instruction.legs):
        if instruction.returns:
            found[f"pacs.004-{number}.xml"] = pacs004(shown, number)
        elif leg.side is Side.BILL:
            found[f"pacs.008-{number}.xml"] = pacs008(shown, number)
        else:
            found[f"pacs.009-{number}.xml"] = pacs009(shown, number)
    return found


def _decided(shown: Shown) -> int:
    assert shown.view.decision is not None
    return shown.view.decision.decided


def _id(shown: Shown, number: int) -> str:
    """Of the document of one leg: a bank takes each id once."""
    return f"{shown.settlement.hex()[:32]}-{number}"


def _header(m: Any, name: str, shown: Shown, number: int) -> Any:
    method = m.SettlementMethod1Code.INDA
    return getattr(m, name)(
        msg_id=_id(shown, number),
        cre_dt_tm=_time(_decided(shown)),
        nb_of_txs="1",
        sttlm_inf=m.SettlementInstruction7(sttlm_mtd=method),
    )


def _bank(m: Any, id: str) -> Any:
    inner = m.FinancialInstitutionIdentification18(
        othr=m.GenericFinancialIdentification1(id=_short(id, 35))
    )
    return m.BranchAndFinancialInstitutionIdentification6(fin_instn_id=inner)


def _payment(m: Any, shown: Shown, number: int) -> Any:
    uetr = shown.view.signed.instruction.uetr
    return m.PaymentIdentification7(
        instr_id=_id(shown, number),
        end_to_end_id=uetr.replace("-", "")[:35],
        uetr=uetr,
    )


def _cost(instruction: Instruction, number: int) -> int:
    """What a leg that pays the bill cost, minor units of what was paid: its share of the whole."""
    bill = [n for n, leg in enumerate(instruction.legs) if leg.side is Side.BILL]
    weights = [instruction.legs[n].amount for n in bill]
    return allocate(instruction.quote.payable.amount, weights)[bill.index(number)]


def pacs008(shown: Shown, number: int) -> bytes:
    """The leg that pays the bill, with what it cost in the payer's currency and at which rate."""
    m, instruction = library(PACS_008), shown.view.signed.instruction
    quote, leg = instruction.quote, instruction.legs[number]
    cost = _cost(instruction, number)
    payment = m.CreditTransferTransaction39(
        pmt_id=_payment(m, shown, number),
        intr_bk_sttlm_amt=m.ActiveCurrencyAndAmount(**_amount(leg.amount, leg.currency)),
        intr_bk_sttlm_dt=_date(_decided(shown)),
        instd_amt=m.ActiveOrHistoricCurrencyAndAmount(**_amount(cost, quote.payable.currency)),
        xchg_rate=Decimal(format_rate(quote.rate)),
        chrg_br=m.ChargeBearerType1Code.SHAR,
        dbtr=m.PartyIdentification135(nm=leg.debtor),
        dbtr_agt=_bank(m, leg.ledger),
        cdtr_agt=_bank(m, leg.ledger),
        cdtr=m.PartyIdentification135(nm=leg.creditor),
    )
    whole = m.FitoFicustomerCreditTransferV08(
        grp_hdr=_header(m, "GroupHeader93", shown, number), cdt_trf_tx_inf=[payment]
    )
    return write(m.Document(fito_ficstmr_cdt_trf=whole), PACS_008)


def pacs009(shown: Shown, number: int) -> bytes:
    """The leg between payer and maker."""
    m, leg = library(PACS_009), shown.view.signed.instruction.legs[number]
    payment = m.CreditTransferTransaction36(
        pmt_id=_payment(m, shown, number),
        intr_bk_sttlm_amt=m.ActiveCurrencyAndAmount(**_amount(leg.amount, leg.currency)),
        intr_bk_sttlm_dt=_date(_decided(shown)),
        dbtr=_bank(m, leg.debtor),
        cdtr=_bank(m, leg.creditor),
    )
    whole = m.FinancialInstitutionCreditTransferV08(
        grp_hdr=_header(m, "GroupHeader93", shown, number), cdt_trf_tx_inf=[payment]
    )
    return write(m.Document(ficdt_trf=whole), PACS_009)


def pacs002(shown: Shown) -> bytes:
    """What was decided: ACSC, or RJCT with our reason."""
    m, instruction = library(PACS_002), shown.view.signed.instruction
    decision = shown.view.decision
    assert decision is not None
    reasons = []
    if decision.reason is not None:
        reason = m.StatusReason6Choice(cd="NARR")
        reasons = [m.StatusReasonInformation12(rsn=reason, addtl_inf=[str(decision.reason)])]
    state = m.PaymentTransaction110(
        orgnl_end_to_end_id=instruction.uetr.replace("-", "")[:35],
        orgnl_uetr=instruction.uetr,
        tx_sts="ACSC" if decision.ruling is Ruling.COMMIT else "RJCT",
        sts_rsn_inf=reasons,
    )
    header = m.GroupHeader91(msg_id=shown.settlement.hex()[:35], cre_dt_tm=_time(decision.decided))
    whole = m.FitoFipaymentStatusReportV10(grp_hdr=header, tx_inf_and_sts=[state])
    return write(m.Document(fito_fipmt_sts_rpt=whole), PACS_002)


def pacs004(shown: Shown, number: int) -> bytes:
    """A leg that gives back a leg of the settlement whose UETR the instruction cites."""
    m, instruction = library(PACS_004), shown.view.signed.instruction
    leg = instruction.legs[number]
    returned = m.PaymentTransaction112(
        rtr_id=_id(shown, number),
        orgnl_end_to_end_id=instruction.returns.replace("-", "")[:35],
        orgnl_uetr=instruction.returns,
        rtrd_intr_bk_sttlm_amt=m.ActiveCurrencyAndAmount(**_amount(leg.amount, leg.currency)),
        intr_bk_sttlm_dt=_date(_decided(shown)),
        rtr_rsn_inf=[m.PaymentReturnReason6(rsn=m.ReturnReason5Choice(cd="CUST"))],
    )
    whole = m.PaymentReturnV09(
        grp_hdr=_header(m, "GroupHeader90", shown, number), tx_inf=[returned]
    )
    return write(m.Document(pmt_rtr=whole), PACS_004)
