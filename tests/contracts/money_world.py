"""A small world of money: an insurer in Hong Kong, a hospital in Shenzhen, a maker between them.

The bill is 1 180.00 CNY. The maker sells CNY at 89511/75905 HKD for one, which is exactly
1391.515… HKD, so 1391.52. `instruction(**changes)` and `quote(**changes)` alter what is signed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relay.contracts.payloads import (
    BillLines,
    Cosignature,
    CutOff,
    DecisionAnswer,
    DecisionNotice,
    Ended,
    Fee,
    Instruction,
    Leg,
    Lock,
    LockAnswer,
    Member,
    Mode,
    Money,
    NetLock,
    OfficerRole,
    Quote,
    Ruling,
    SettlementDecision,
    Side,
    Signature,
    SignedInstruction,
    Withdrawal,
    window_settlement,
)
from relay.errors import Reason
from relay.money import ROUNDING, Rate, convert
from tests.contracts.world import DAY, NOW, Person, digest

HUB, HK, SZ = "hub", "hk-money", "sz-money"
RATE = Rate(89511, 75905)
BILL = 118_000
EXPIRES = NOW + 120
INSURER, MAKER, HOSPITAL = Person("hk-insurer"), Person("maker-1"), Person("sz-hospital")
OFFICER, REGULATOR, STRANGER = Person("hk-officer"), Person("regulator"), Person("stranger")
OWNERS = {
    (HK, "insurer"): INSURER,
    (HK, "maker-hkd"): MAKER,
    (HK, "hk-fees"): INSURER,
    (SZ, "maker-cny"): MAKER,
    (SZ, "hospital"): HOSPITAL,
}
"""Who signs for which account."""


def uetr(name: str) -> str:
    """A UUID of version 4 that `name` alone decides."""
    raw = digest(name).hex()
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-8{raw[17:20]}-{raw[20:32]}"


def quote(bill: int = BILL, **changes: Any) -> Quote:
    """Firm, for two minutes; the amounts follow from bill and rate unless they are changed too."""
    rate = changes.pop("rate", RATE)
    due = convert(bill, "CNY", "HKD", rate)
    base = Quote(
        id="q-1",
        maker="maker-1",
        mode=Mode.FIRM,
        policy="cny-hkd",
        version=1,
        source="ECB",
        day="",
        bill=Money("CNY", bill),
        payable=Money("HKD", due.amount),
        rate=rate,
        residue=due.residue,
        expires=EXPIRES,
    )
    return replace(base, **changes)


def instruction(
    name: str = "one", *, bill: int = BILL, fee: int = 0, **changes: Any
) -> Instruction:
    """The insurer pays the maker in HKD, the maker pays the hospital in CNY."""
    offer = changes.pop("quote", None) or quote(bill, id=f"q-{name}")
    pay = Leg(
        ledger=HK,
        side=Side.PAY,
        currency="HKD",
        debtor="insurer",
        creditor="maker-hkd",
        amount=offer.payable.amount,
        fee=Fee("hk-fees", fee) if fee else None,
    )
    due = Leg(
        ledger=SZ,
        side=Side.BILL,
        currency="CNY",
        debtor="maker-cny",
        creditor="hospital",
        amount=offer.bill.amount,
        fee=None,
    )
    base = Instruction(
        relay=HUB,
        settlement=digest(f"settlement {name}"),
        uetr=uetr(name),
        returns="",
        subject=digest("salted claim response"),
        window="",
        deadline=offer.expires,
        rounding=ROUNDING,
        quote=offer,
        legs=(pay, due),
    )
    return replace(base, **changes)


LINES = BillLines(adjustment=2_000, lines=(27_500, 24_100, 68_400))
"""Of the bill of 1 180.00 CNY: each rounded, they come to 1 391.51 HKD, a cent less than is due."""


def signed(
    given: Instruction | None = None,
    *,
    cosigners: tuple[tuple[OfficerRole, str, Person], ...] = (),
    owners: dict[tuple[str, str], Person] | None = None,
) -> SignedInstruction:
    """Signed by the owner of every debtor account, and co-signed by those named."""
    given = given or instruction()
    known = {**OWNERS, **(owners or {})}
    signatures = []
    for ledger, account in given.debtors:
        person = known[ledger, account]
        value = person.raw(given.signing_bytes())
        signatures.append(Signature(ledger, account, person.algorithm, person.public, value))
    cosignatures = []
    for role, officer, person in sorted(cosigners):
        one = Cosignature(role, officer, person.algorithm, person.public, b"")
        value = person.raw(one.signing_bytes(given.digest))
        cosignatures.append(replace(one, signature=value))
    return SignedInstruction(given, tuple(signatures), tuple(cosignatures))


def withdrawal(by: Person = HOSPITAL, **changes: Any) -> Withdrawal:
    base = Withdrawal(
        ledger=SZ,
        account="hospital",
        withdrawal=digest("withdrawal"),
        currency="CNY",
        amount=BILL,
        time=NOW,
        algorithm="ed25519",
        key=b"",
        signature=b"",
    )
    made: Withdrawal = by.sign(replace(base, **changes))
    return made


def decision(
    ruling: Ruling = Ruling.COMMIT, given: Instruction | None = None
) -> SettlementDecision:
    """What the relay decides where both ledgers locked, or where the second timed out."""
    given = given or instruction()
    late = None if ruling is Ruling.COMMIT else Reason.TIMED_OUT
    return SettlementDecision(
        relay=HUB,
        settlement=given.settlement,
        digest=given.digest,
        ruling=ruling,
        decided=NOW,
        answers=(
            LockAnswer(HK, given.settlement, None, NOW),
            LockAnswer(SZ, given.settlement, late, NOW),
        ),
    )


def examples() -> dict[str, Any]:
    """One of each payload, as proto/README.md shows them."""
    gross = instruction(fee=500)
    netted = instruction("net", window="w-1", deadline=NOW + DAY // 2)
    approvals = ((OfficerRole.OFFICER, "hk-officer", OFFICER),)
    net = window_settlement(HUB, "w-1")
    member = Member(netted.settlement, netted.digest, netted.ledgers, NOW)
    ruled = decision(given=gross)
    return {
        "instruction": gross,
        "itemised": replace(gross, itemised=LINES),
        "lock": Lock(HUB, HK, signed(gross, cosigners=approvals)),
        "net_lock": NetLock(HUB, HK, "w-1", (signed(netted),)),
        "cut_off": CutOff(HUB, "w-1", net, netted.deadline, NOW, (member,)),
        "lock_answer": LockAnswer(HK, gross.settlement, None, NOW),
        "settlement_decision": ruled,
        "decision_notice": DecisionNotice(HK, ruled),
        "decision_answer": DecisionAnswer(HK, gross.settlement, Ended.RELEASED, NOW + 1),
        "withdrawal": withdrawal(),
    }


MO = "mo-money"
COINSURER = Person("mo-coinsurer")


def shared_bill(name: str = "one", part: int = 50_000, **changes: Any) -> Instruction:
    """Three ledgers: two insurers pay the maker on theirs, he pays the hospital on a third."""
    whole = instruction(name)
    pay, due = whole.legs
    other = replace(pay, ledger=MO, debtor="coinsurer", creditor="maker-mo", amount=part)
    legs = (replace(pay, amount=pay.amount - part), other, due)
    return replace(whole, legs=legs, **changes)


OWNERS[MO, "coinsurer"] = COINSURER
OWNERS[MO, "maker-mo"] = MAKER
