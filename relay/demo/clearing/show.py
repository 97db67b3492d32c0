"""One run of the settlement story: progress while it goes, tables for a finance officer."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.demo.clearing.attacks import Tried, cheats, faults
from relay.demo.clearing.story import HK, HUB, ROLES, SZ, Cast, closed, set_up, settle_bill
from relay.demo.clearing.texts import speaker
from relay.demo.stage import Stage, Stoppable
from relay.errors import Refused
from relay.fixings import Fixing
from relay.money import format_amount, format_rate
from relay.money_views import Shown
from relay.record.bill import Bill, describe

WIDTH = 120


class ClearingShow:
    """Runs the story in a directory; see `run`."""

    def __init__(self, directory: Path, *, keep: bool, lang: str) -> None:
        self.directory = directory
        self.stage = Stage(directory, keep, ROLES)
        self.say = speaker(lang)
        console = Console(highlight=False)
        self.console = console if console.is_terminal else Console(highlight=False, width=WIDTH)
        self._began = time.monotonic()

    def run(self, fixing: Fixing, *, with_faults: bool) -> bool:
        """The whole of it; whether everything was as it should be."""
        self.stage.prepare()
        self.console.print(self.say("honest", day=fixing.day), style="bold", soft_wrap=True)
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
        view, instruction = shown.view, shown.view.signed.instruction
        quote = instruction.quote
        table = Table(title=self.say("title"), title_justify="left", show_header=False)
        due = f"{format_amount(quote.payable.amount, 'HKD')} HKD"
        rate = f"{format_rate(quote.rate)} = {quote.rate.numerator}/{quote.rate.denominator}"
        residue = f"{quote.residue.numerator}/{quote.residue.denominator} HKD cent"
        rows = [
            ("bill / 账单", f"{describe(bill)}, {len(bill.lines)} lines, salted "
             f"{instruction.subject.hex()[:16]}…"),
            ("quote / 报价", f"{due} at {rate} (ECB), {quote.id} by {quote.maker}"),
            ("residue / 尾差", residue),
            ("UETR", instruction.uetr),
            ("settlement / 结算号", shown.settlement.hex()),
        ]  # fmt: skip
        for leg in instruction.legs:
            fee = f", fee {format_amount(leg.fee.amount, leg.currency)}" if leg.fee else ""
            amount = f"{format_amount(leg.amount, leg.currency)} {leg.currency}{fee}"
            rows.append((f"leg / 一边 {leg.ledger}", f"{leg.debtor} → {leg.creditor}: {amount}"))
        for name, value in rows:
            table.add_row(Text(name), Text(value))
        self.console.print(table)
        steps = Table(title=self.say("steps"), title_justify="left", show_header=False)
        told = [(view.accepted, HUB, "accepted / 受理")]
        told += [(a.time, a.ledger, f"lock {a.reason or 'proven'}") for a in view.answers]
        if view.decision is not None:
            told.append((view.decision.decided, HUB, f"decision: {view.decision.ruling}"))
        told += [(d.time, d.ledger, f"{d.ended}, proven") for d in view.done]
        told.append((view.closed, HUB, "closed / 结清"))
        for when, where, what in told:
            steps.add_row(_moment(when), where, Text(what))
        self.console.print(steps)

    def _print_tried(self, title: str, tried: Sequence[Tried]) -> None:
        table = Table(title=self.say(title), title_justify="left")
        table.add_column(self.say("what"), overflow="fold")
        table.add_column(self.say("answer"), overflow="fold")
        table.add_column("s", justify="right")
        table.add_column("", justify="center")
        for one in tried:
            said = one.answered if one.ok else f"{one.answered} ({one.expected}!)"
            mark = "[green]✓[/]" if one.ok else "[red]✗[/]"
            table.add_row(Text(one.what), Text(said), f"{one.seconds:.1f}", mark)
        self.console.print(table)

    def _reconcile(self, cast: Cast) -> int:
        """How many breaks there are, on line or from the file; prints the balances."""
        stage = cast.stage
        self._print_balances(stage)
        books = str(stage.directory / "books.json")
        trust = ("--trust", str(stage.trust_file), "--json")
        nodes = [word for p in stage.processes.values() for word in ("--node", p.address)]
        try:
            stage.command("reconcile", *nodes, "--save", books, *trust)
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
            table.add_column(name, justify="right" if name in ("balance", "held") else "left")
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


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
