"""Making what is signed for a settlement: quotes, instructions, their signatures and their return.

For payers, makers and their systems. Pure but for what is handed in: ids are the caller's random
bytes, times his clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from relay.contracts.payloads import (
    BillLines,
    Cosignature,
    Fee,
    Instruction,
    Leg,
    Mode,
    Money,
    OfficerRole,
    Quote,
    Side,
    Signature,
    SignedInstruction,
    Withdrawal,
)
from relay.contracts.settlement import RatePolicy
from relay.errors import Invalid, NotFound, Reason
from relay.fixings import SOURCE, Fixing
from relay.money import ROUNDING, Rate, convert
from relay.record.attest import Signer

TTL_SECONDS = 120
"""How long a quote is good where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Party:
    """An account on a ledger."""

    ledger: str
    account: str

    @classmethod
    def parse(cls, text: str) -> Party:
        """`LEDGER/ACCOUNT`. Raises Invalid(PARTY_INVALID)."""
        ledger, slash, account = text.partition("/")
        if not (slash and ledger and account):
            raise Invalid(
                Reason.PARTY_INVALID,
                f"{text[:80]!r} names no account",
                hint="write LEDGER/ACCOUNT, such as hk-money/insurer",
            )
        return cls(ledger, account)


def uuid4_of(random: bytes) -> str:
    """A UUID of version 4 of 16 random bytes: a UETR."""
    return str(UUID(bytes=random, version=4))


def make_quote(
    bill: Money,
    policy: RatePolicy,
    rate: Rate,
    *,
    id: str,
    maker: str,
    expires: int,
    day: str = "",
) -> Quote:
    """A maker's offer under a rate policy: the bill at `rate`, rounded once, the residue kept.

    Raises Invalid: AMOUNT_INVALID, CURRENCY_MISMATCH.
    """
    if bill.currency != policy.bill:
        raise Invalid(
            Reason.CURRENCY_MISMATCH,
            f"the policy is for bills in {policy.bill}",
            policy=policy.name,
        )
    done = convert(bill.amount, policy.bill, policy.payable, rate)
    return Quote(
        id=id,
        maker=maker,
        mode=policy.mode,
        policy=policy.name,
        version=policy.version,
        source=policy.source,
        day=day if policy.mode is not Mode.FIRM else "",
        bill=bill,
        payable=Money(policy.payable, done.amount),
        rate=rate,
        residue=done.residue,
        expires=expires,
    )


def policy_document(
    fixing: Fixing, *, name: str, collar: int, max_age_days: int, mode: Mode = Mode.FIRM
) -> dict[str, object]:
    """The first version of a rate policy whose reference is a fixing; for `rates.policy`."""
    return {
        "bill": fixing.bill,
        "collar": collar,
        "effective_from": 0,
        "max_age_days": max_age_days,
        "mode": mode.value,
        "name": name,
        "payable": fixing.payable,
        "provenance": f"ECB euro foreign exchange reference rates, fixing of {fixing.day}",
        "reference": {
            "denominator": fixing.rate.denominator,
            "numerator": fixing.rate.numerator,
        },
        "source": SOURCE,
        "version": 1,
    }


def make_instruction(
    quote: Quote,
    *,
    relay: str,
    payer: Party,
    maker_in: Party,
    maker_out: Party,
    payee: Party,
    settlement: bytes,
    uetr: str,
    subject: bytes = b"",
    fee: Fee | None = None,
    window: str = "",
    deadline: int = 0,
    itemised: BillLines | None = None,
) -> Instruction:
    """Two legs: payer to maker in what is paid, maker to payee in what is billed.

    `deadline` is the window's; without a window it is the quote's expiry. With the lines of the
    bill the rounding difference is posted by itself. Raises Malformed.
    """
    if payer.ledger != maker_in.ledger or maker_out.ledger != payee.ledger:
        raise Invalid(Reason.PARTY_INVALID, "the maker needs an account on each of the two ledgers")
    pay = Leg(
        ledger=payer.ledger,
        side=Side.PAY,
        currency=quote.payable.currency,
        debtor=payer.account,
        creditor=maker_in.account,
        amount=quote.payable.amount,
        fee=fee,
    )
    bill = Leg(
        ledger=payee.ledger,
        side=Side.BILL,
        currency=quote.bill.currency,
        debtor=maker_out.account,
        creditor=payee.account,
        amount=quote.bill.amount,
        fee=None,
    )
    made = Instruction(
        relay=relay,
        settlement=settlement,
        uetr=uetr,
        returns="",
        subject=subject,
        window=window,
        deadline=deadline if window else quote.expires,
        rounding=ROUNDING,
        quote=quote,
        legs=(pay, bill),
        itemised=itemised,
    )
    return Instruction.decode(made.encode())


def make_return(
    original: Instruction, *, id: str, settlement: bytes, uetr: str, expires: int, bill: int = 0
) -> Instruction:
    """What gives a settlement back: every leg the other way, at the rate of then.

    `bill`: how much of the bill, minor units; 0 for all of it, and then line by line where it was
    paid so. It cites the original's UETR; fees are not given back. Raises Invalid(AMOUNT_INVALID)
    for more than the bill, or for a part where a side is shared by several legs, which must agree
    among themselves who gets what.
    """
    quote = replace(original.quote, id=id, expires=expires)
    amounts, itemised = [leg.amount for leg in original.legs], original.itemised
    if bill and bill != quote.bill.amount:
        if bill > quote.bill.amount:
            raise Invalid(Reason.AMOUNT_INVALID, "more than was settled", settled=quote.bill.amount)
        if len(original.legs) != len(Side):
            raise Invalid(
                Reason.AMOUNT_INVALID, "several parties share a side: give all of it back"
            )
        done = convert(bill, quote.bill.currency, quote.payable.currency, quote.rate)
        quote = replace(
            quote,
            bill=replace(quote.bill, amount=bill),
            payable=replace(quote.payable, amount=done.amount),
            residue=done.residue,
        )
        amounts = [bill if leg.side is Side.BILL else done.amount for leg in original.legs]
        itemised = None
    legs = tuple(
        replace(leg, debtor=leg.creditor, creditor=leg.debtor, amount=amount, fee=None)
        for leg, amount in zip(original.legs, amounts, strict=True)
    )
    made = replace(
        original,
        settlement=settlement,
        uetr=uetr,
        returns=original.uetr,
        window="",
        deadline=expires,
        quote=quote,
        legs=legs,
        itemised=itemised,
    )
    return Instruction.decode(made.encode())


def sign_instruction(
    instruction: Instruction,
    signers: Mapping[tuple[str, str], Signer],
    cosigners: Sequence[tuple[OfficerRole, str, Signer]] = (),
) -> SignedInstruction:
    """Signed for every debtor account by `signers[ledger, account]`, and co-signed.

    Raises NotFound(NOT_FOUND) where a debtor's key is not among them.
    """
    signatures = []
    for ledger, account in instruction.debtors:
        signer = signers.get((ledger, account))
        if signer is None:
            raise NotFound(Reason.NOT_FOUND, f"no key was given for {ledger}/{account}")
        signatures.append(sign_part(instruction, ledger, account, signer))
    return SignedInstruction(
        instruction,
        tuple(signatures),
        tuple(cosign(instruction, *one) for one in sorted(cosigners, key=lambda c: c[:2])),
    )


def sign_part(instruction: Instruction, ledger: str, account: str, signer: Signer) -> Signature:
    """One debtor's signature."""
    signature = signer.sign(instruction.signing_bytes())
    return Signature(ledger, account, signer.algorithm, signer.public, signature)


def cosign(
    instruction: Instruction, role: OfficerRole, officer: str, signer: Signer
) -> Cosignature:
    """A second officer's or a regulator's co-signature over H(instruction)."""
    bare = Cosignature(role, officer, signer.algorithm, signer.public, b"")
    return replace(bare, signature=signer.sign(bare.signing_bytes(instruction.digest)))


def sign_withdrawal(
    where: Party, money: Money, *, withdrawal: bytes, time: int, signer: Signer
) -> Withdrawal:
    """What an account's owner signs to take money off a ledger; `withdrawal` is 32 random bytes."""
    bare = Withdrawal(
        ledger=where.ledger,
        account=where.account,
        withdrawal=withdrawal,
        currency=money.currency,
        amount=money.amount,
        time=time,
        algorithm=signer.algorithm,
        key=signer.public,
        signature=b"",
    )
    return replace(bare, signature=signer.sign(bare.signing_bytes()))
