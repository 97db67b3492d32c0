"""The story of money: an insurer in Hong Kong pays a hospital in Shenzhen through a maker.

Every step is a command or a call of `relay.client`, as the parties' own systems would make it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.canonical import encode
from relay.contracts.accounts import Limits, Terms
from relay.contracts.payloads import (
    BillLines,
    Fee,
    Instruction,
    Mode,
    Money,
    Quote,
    SignedInstruction,
)
from relay.contracts.policy.values import DatedKey
from relay.contracts.settlement import RatePolicy, SettlementStatus, read_policy
from relay.demo.stage import Stage
from relay.errors import Reason, Unavailable
from relay.fixings import MAX_AGE_DAYS, Fixing
from relay.money import Rate, format_amount
from relay.money_views import Shown
from relay.record.bill import Bill, sign_bill, subject, take_signed
from relay.settling import (
    Party,
    make_instruction,
    make_quote,
    policy_document,
    sign_instruction,
    uuid4_of,
)

HK, SZ, HUB = "hk-money", "sz-money", "hub"
ROLES = {HK: "ledger", SZ: "ledger", HUB: "relay"}
POLICY, MAKER, INSURER = "cny-hkd", "maker-1", "hk-insurer"
WAIT_SECONDS = 600.0
"""A bound for what hangs; no measure of speed."""
QUOTE_SECONDS = 6 * 3600
YEARS = 10 * 366 * 86_400
ACCOUNTS = {
    (HK, "insurer"): ("HKD", "hk-insurer"),
    (HK, "maker-hkd"): ("HKD", MAKER),
    (HK, "hk-fees"): ("HKD", "hk-bank"),
    (SZ, "maker-cny"): ("CNY", MAKER),
    (SZ, "hospital"): ("CNY", "sz-hospital"),
}
"""(ledger, account) → (currency, owner)."""
FUNDED = {(HK, "insurer"): 50_000_000, (SZ, "maker-cny"): 50_000_000}
"""Minor units on each at the beginning."""
LINES = (("LAB", 88_054), ("IMAGING", 264_000), ("DRUGS", 31_917))
"""The bill's lines, minor units of CNY."""
FEE = 1_200
Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class Cast:
    """Who is there, and under which rules."""

    stage: Stage
    fixing: Fixing
    policy: RatePolicy

    def quote(self, amount: int, seconds: int = QUOTE_SECONDS, rate: Rate | None = None) -> Quote:
        """The maker's offer for a bill of `amount` minor units of CNY."""
        return make_quote(
            Money("CNY", amount),
            self.policy,
            rate or self.fixing.rate,
            id=f"q-{os.urandom(8).hex()}",
            maker=MAKER,
            expires=int(time.time()) + seconds,
        )

    def instruction(
        self, quote: Quote, bill: bytes = b"", lines: BillLines | None = None
    ) -> Instruction:
        """Both legs for a quote; `bill` is the salted commitment, `lines` what it is made of."""
        return make_instruction(
            quote,
            relay=HUB,
            payer=Party(HK, "insurer"),
            maker_in=Party(HK, "maker-hkd"),
            maker_out=Party(SZ, "maker-cny"),
            payee=Party(SZ, "hospital"),
            settlement=os.urandom(32),
            uetr=uuid4_of(os.urandom(16)),
            subject=bill,
            fee=Fee("hk-fees", FEE),
            itemised=lines,
        )

    def sign(self, instruction: Instruction) -> SignedInstruction:
        """Signed by insurer and maker."""
        return sign_instruction(
            instruction,
            {
                (HK, "insurer"): self.stage.key("hk-insurer"),
                (SZ, "maker-cny"): self.stage.key(MAKER),
            },
        )

    def begin(self, amount: int = 10_000, seconds: int = QUOTE_SECONDS) -> Shown:
        """Instructs the relay with a fresh settlement."""
        signed = self.sign(self.instruction(self.quote(amount, seconds)))
        return self.stage.node(HUB).instruct(signed)

    def wait(
        self, settlement: bytes, until: Callable[[Shown], bool], seconds: float = WAIT_SECONDS
    ) -> Shown:
        """Asks the relay until it says so. Raises Unavailable(CHAIN_UNREACHABLE)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = self.stage.node(HUB).settlement(settlement)
            if until(shown):
                return shown
            time.sleep(0.03)
        raise Unavailable(
            Reason.CHAIN_UNREACHABLE, f"settlement {settlement.hex()[:16]} did not move on in time"
        )


def closed(shown: Shown) -> bool:
    """Whether it is proven done on every ledger."""
    return shown.view.closed > 0


def set_up(stage: Stage, fixing: Fixing, tell: Tell) -> Cast:
    """Three nodes, the ledgers witnesses of the relay, accounts with money, the rate policy."""
    tell("start", 0, 1)
    stage.start()
    tell("start", 1, 1)
    if stage.replicated or stage.foreign is not None:
        _connect(stage, ledgers=[name for name in (HK, SZ) if name in stage.roles])
        tell("connect", 1, 1)
    else:
        _witness(stage)
        tell("witness", 1, 1)
    document = policy_document(
        fixing, name=POLICY, collar=10_000, max_age_days=MAX_AGE_DAYS, mode=Mode.FIRM
    )
    stage.node(HUB).load_rate_policy(encode(document))  # type: ignore[arg-type]
    for (ledger, account), (code, owner) in ACCOUNTS.items():
        terms = _terms(stage, account, code, owner)
        client = stage.node(ledger)
        client.open_currency(code)
        client.register_account(terms)
        stage.node(HUB).register_settlement_account(ledger, terms)
        if (ledger, account) in FUNDED:
            client.deposit(account, code, FUNDED[ledger, account], os.urandom(32))
    tell("open", 1, 1)
    return Cast(stage, fixing, read_policy(document))  # type: ignore[arg-type]


def _witness(stage: Stage) -> None:
    """Each ledger co-signs the relay's heads, and requires that both have."""
    hub = stage.processes[HUB]
    ledgers = [stage.processes[name].address for name in (HK, SZ)]
    told = stage.commands(*(["witness", "--node", a, "--relay", hub.address] for a in ledgers))
    config = hub.directory / "config.toml"
    text = config.read_text()
    lines = [one.splitlines()[-1] for one in told]
    listen = next(line for line in text.splitlines() if line.startswith("listen = "))
    asked = ["witnesses = [", *lines, "]", f"witness_quorum = {len(lines)}"]
    text = text.replace(listen, "\n".join([listen, *asked]), 1)
    config.write_text(text)
    stage.kill(HUB)
    stage.restart(HUB)
    _connect(stage, *(word for name in (HK, SZ) for word in ("--require-witness", name)))


def _connect(stage: Stage, *required: str, ledgers: Sequence[str] = (HK, SZ)) -> None:
    for name in ledgers:
        node, relay = stage.processes[name].address, stage.processes[HUB].address
        trust = ("--trust", str(stage.trust_file))
        stage.command("connect", "--node", node, "--relay", relay, *required, *trust)


def _terms(stage: Stage, account: str, code: str, owner: str) -> Terms:
    key, now = stage.key(owner), int(time.time())
    dated = DatedKey(key.algorithm, key.public, now - 86_400, now + YEARS)
    return Terms(account, owner, code, 1, (dated,), (), Limits(0, 0, 0, 0), False)


def bill_of(lines: tuple[tuple[str, int], ...], day: str) -> bytes:
    """A ClaimResponse as an insurer's adjudication would write it, its sums tying."""

    def money(minor: int) -> str:
        return f'{{"value": {format_amount(minor, "CNY")}, "currency": "CNY"}}'

    benefit = '"category": {"coding": [{"code": "benefit"}]}'
    items = ",\n  ".join(
        f'{{"itemSequence": {n}, "adjudication": [{{{benefit}, "amount": {money(minor)}}}]}}'
        for n, (_, minor) in enumerate(lines, 1)
    )
    whole = money(sum(minor for _, minor in lines))
    return (
        '{"resourceType": "ClaimResponse", "status": "active",\n'
        ' "type": {"coding": [{"code": "institutional"}]}, "use": "claim",\n'
        f' "patient": {{"reference": "Patient/demo"}}, "created": "{day}",\n'
        ' "insurer": {"identifier": {"value": "hk-insurer"}}, "outcome": "complete",\n'
        f' "item": [\n  {items}],\n'
        f' "total": [{{{benefit}, "amount": {whole}}}],\n'
        f' "payment": {{"type": {{"coding": [{{"code": "complete"}}]}}, "amount": {whole}}}}}\n'
    ).encode()


def settle_bill(cast: Cast, tell: Tell) -> tuple[Bill, Shown]:
    """The bill taken at the door, quoted, signed, instructed, settled."""
    raw = bill_of(LINES, cast.fixing.day)
    (cast.stage.directory / "bill.json").write_bytes(raw)
    insurer = cast.stage.key(INSURER)
    signature = sign_bill(raw, INSURER, insurer)
    (cast.stage.directory / "bill.json.sig").write_bytes(signature.encode())
    bill = take_signed(raw, signature, insurer.public)
    tell("bill", 1, 1)
    salted, lines = subject(raw, os.urandom(32)), BillLines(bill.adjustment, bill.lines)
    signed = cast.sign(cast.instruction(cast.quote(bill.amount), salted, lines))
    begun = cast.stage.node(HUB).instruct(signed)
    shown = cast.wait(begun.settlement, closed)
    tell("settle", int(shown.view.status is SettlementStatus.SETTLED), 1)
    return bill, shown
