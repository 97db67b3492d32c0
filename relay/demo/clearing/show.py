"""One run of the settlement story: progress while it goes, tables for a finance officer."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.contracts.payloads import BillLines, Leg
from relay.contracts.quotes import convert_lines
from relay.demo.clearing.attacks import Tried, cheats, faults
from relay.demo.clearing.evm import MoneyStage
from relay.demo.clearing.story import (
    HK,
    HUB,
    INSURER,
    LINES,
    ROLES,
    SZ,
    Cast,
    closed,
    set_up,
    settle_bill,
)
from relay.demo.clearing.texts import speaker
from relay.demo.replicated import ReplicatedStage
from relay.demo.stage import Stage, Stoppable
from relay.errors import Refused
from relay.fixings import Fixing
from relay.money import format_amount, format_rate
from relay.money_views import Shown
from relay.record.bill import Bill, describe

WIDTH = 120
STAGES: Mapping[str, type[ReplicatedStage] | type[MoneyStage]] = {
    "cometbft": ReplicatedStage,
    "evm": MoneyStage,
}


class ClearingShow:
    """Runs the story in a directory; see `run`."""

    def __init__(self, directory: Path, *, keep: bool, lang: str, chains: str = "lianqiao") -> None:
        """`chains`: which kinds take part. Raises Refused(CONFIG_INVALID) where one cannot."""
        self.directory = directory
        kinds = [STAGES[kind] for kind in chains.split(",") if kind in STAGES]
        self.stage: Stage = (kinds[0] if kinds else Stage)(directory, keep, ROLES)
        self.say = speaker(lang)
        console = Console(highlight=False)
        self.console = console if console.is_terminal else Console(highlight=False, width=WIDTH)
        self._began = time.monotonic()

    def run(self, fixing: Fixing, *, with_faults: bool) -> bool:
        """The whole of it; whether everything was as it should be."""
        self.stage.prepare()
        honest = "honest_replicated" if self.stage.replicated else "honest"
        if self.stage.foreign is not None:
            honest = "honest_evm"
        self.console.print(self.say(honest, day=fixing.day), style="bold", soft_wrap=True)
        with Stoppable(), self.stage as stage:
            stage.begin()
            cast = set_up(stage, fixing, self._tell)
            bill, shown = settle_bill(cast, self._tell)
            self._print_settlement(bill, shown)
            tried = cheats(cast, shown, self.say, self._tell)
            self._print_tried("attacks", tried)
            if with_faults:
                more = faults(cast, self.say, self._tell)
                self._print_tried("faults", more)
                tried += more
            wrong = sum(not one.ok for one in tried) + (not closed(shown))
            wrong += self._reconcile(cast)
            if wrong:
                stage.keep_for_inquiry()
        self._say_how_it_ended(wrong)
        return not wrong

    def _tell(self, step: str, done: int, of: int) -> None:
        """A line a step; of many the last alone, but each as it comes on a terminal."""
        if done < of and not self.console.is_terminal:
            return
        seconds = f"{time.monotonic() - self._began:5.1f} s"
        end = "\r" if done < of else "\n"
        self.console.print(f"{seconds}  {self.say(step)}: {done}/{of}", markup=False, end=end)

    def _print_settlement(self, bill: Bill, shown: Shown) -> None:
        table = Table(title=self.say("title"), title_justify="left", show_header=False)
        for name, value in self._rows(bill, shown):
            table.add_row(Text(name), Text(value))
        self.console.print(table)
        steps = Table(title=self.say("steps"), title_justify="left", show_header=False)
        for when, where, what in self._steps(shown):
            steps.add_row(_moment(when), where, Text(what))
        self.console.print(steps)

    def _rows(self, bill: Bill, shown: Shown) -> list[tuple[str, str]]:
        """Bill, quote and legs, for a finance officer."""
        say, instruction = self.say, shown.view.signed.instruction
        quote = instruction.quote
        due, fraction = quote.payable, f"{quote.residue.numerator}/{quote.residue.denominator}"
        rate, hashed = quote.rate, instruction.subject.hex()[:16]
        quoted = say(
            "quote_value",
            due=_money(due.amount, due.currency),
            rate=format_rate(rate),
            exact=f"{rate.numerator}/{rate.denominator}",
            source=quote.source,
            id=quote.id,
            maker=quote.maker,
        )
        return [
            (
                say("row_bill"),
                say("bill_value", amount=describe(bill), insurer=INSURER, hash=hashed),
            ),
            *self._lines(bill, shown),
            (say("row_quote"), quoted),
            (say("row_residue"), say("residue_value", fraction=fraction)),
            ("UETR", instruction.uetr),
            (say("row_settlement"), shown.settlement.hex()),
            *(self._leg(leg) for leg in instruction.legs),
        ]

    def _lines(self, bill: Bill, shown: Shown) -> Iterator[tuple[str, str]]:
        """Each line of the bill in what is paid, and the difference that rounding them makes."""
        instruction = shown.view.signed.instruction
        code = instruction.quote.payable.currency
        found = convert_lines(BillLines(bill.adjustment, bill.lines), instruction.quote)
        for number, (name, of, to) in enumerate(
            zip((name for name, _ in LINES), bill.lines, found.lines, strict=True), 1
        ):
            value = f"{_money(of, bill.currency)} = {_money(to, code)}"
            yield self.say("row_line", number=number, name=name), value
        yield self.say("row_difference"), _money(found.difference, code)

    def _leg(self, leg: Leg) -> tuple[str, str]:
        amount = _money(leg.amount, leg.currency)
        if leg.fee is not None:
            fee = format_amount(leg.fee.amount, leg.currency)
            amount = self.say("fee_value", amount=amount, fee=fee)
        return self.say("row_leg", ledger=leg.ledger), f"{leg.debtor} → {leg.creditor}: {amount}"

    def _steps(self, shown: Shown) -> list[tuple[int, str, str]]:
        """(when, where, what)."""
        say, view = self.say, shown.view
        told = [(view.accepted, HUB, say("step_accepted"))]
        for answer in view.answers:
            refused = say("step_refused", reason=answer.reason)
            what = say("step_locked") if answer.accepted else refused
            told.append((answer.time, answer.ledger, what))
        if view.decision is not None:
            told.append((view.decision.decided, HUB, say(f"step_{view.decision.ruling}")))
        told += [(done.time, done.ledger, say(f"step_{done.ended}")) for done in view.done]
        told.append((view.closed, HUB, say("step_closed")))
        return told

    def _print_tried(self, title: str, tried: Sequence[Tried]) -> None:
        table = Table(title=self.say(title), title_justify="left")
        table.add_column(self.say("what"), overflow="fold")
        table.add_column(self.say("answer"), overflow="fold")
        table.add_column(self.say("col_seconds"), justify="right")
        table.add_column("", justify="center")
        for one in tried:
            said = one.answered if one.ok else f"{one.answered} ({one.expected}!)"
            mark = "[green]✓[/]" if one.ok else "[red]✗[/]"
            table.add_row(Text(one.what), Text(said), f"{one.seconds:.1f}", mark)
        self.console.print(table)

    def _reconcile(self, cast: Cast) -> int:
        """How many breaks there are, on line or from the file; prints the balances."""
        stage = cast.stage
        books = str(stage.directory / "books.json")
        trust = ("--trust", str(stage.trust_file), "--json")
        nodes = [word for n in ROLES for word in ("--node", stage.processes[n].address)]
        try:
            try:
                stage.command("reconcile", *nodes, "--save", books, *trust)
            finally:  # by now a node before a chain has read all that the relay was proven of it
                self._print_balances(stage)
            told = json.loads(stage.command("reconcile", books, *trust))
        except Refused as error:
            self.console.print(str(error), style="red", markup=False, soft_wrap=True)
            return 1
        self._tell("books", 1, 1)
        records = sum(one["records"] for one in told["books"])
        line = self.say("agree", count=told["settlements"], lines=told["lines"], records=records)
        self.console.print(line, markup=False, soft_wrap=True)
        return 0 if told["agrees"] else 1

    def _print_balances(self, stage: Stage) -> None:
        table = Table(title=self.say("balances"), title_justify="left")
        for name in ("ledger", "account", "balance", "held"):
            number = name in ("balance", "held")
            table.add_column(self.say(f"col_{name}"), justify="right" if number else "left")
        for ledger in (HK, SZ):
            for view in stage.node(ledger).accounts():
                balance = f"{format_amount(view.balance, view.currency)} {view.currency}"
                held = format_amount(view.held, view.currency)
                table.add_row(ledger, Text(view.account), balance, held)
        self.console.print(table)

    def _say_how_it_ended(self, wrong: int) -> None:
        if wrong:
            self.console.print(self.say("wrong", count=wrong), style="red", markup=False)
            return
        self.console.print(self.say("left"))
        books, trust = (shlex.quote(str(self.directory / n)) for n in ("books.json", "trust.json"))
        line = f"  lianqiao reconcile {books} --trust {trust}"
        self.console.print(line, markup=False, soft_wrap=True)


def _money(amount: int, code: str) -> str:
    return f"{format_amount(amount, code)} {code}"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
