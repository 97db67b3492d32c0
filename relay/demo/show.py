"""One run from the first line to the last: progress while it goes, tables when it is done."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from relay.demo.attacks import Attack, run_attacks
from relay.demo.delivery import deliver_all, find_one, report_outcomes
from relay.demo.leave import leave
from relay.demo.report import print_results, print_summary, print_unexpected
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.demo.story import Case, attest_all, introduce, request_all, wait_announced
from relay.demo.texts import Words
from relay.errors import LianqiaoError

MIN_WIDTH = 110
Tell = Callable[[str, int, int], None]


class Show:
    """Runs the demonstration and tells it."""

    def __init__(self, directory: Path, *, keep: bool, lang: str) -> None:
        self.words = Words(lang)
        self.console = _console()
        self.directory = directory
        self._keep = keep
        self.stage = Stage(directory, keep)
        self.stage.prepare()

    def refused_at_door(self, where: str, error: LianqiaoError) -> None:
        """One file that was not let in."""
        self.console.print(f"{self.words('refused_at_door')}: {where}: {error}", markup=False)

    def run(self, cases: Sequence[Case], now: int, started: float) -> bool:
        """The whole of it; whether everything was as it should be."""
        words, console = self.words, self.console
        console.print(words("honest"), style="bold", soft_wrap=True)
        with self.stage as stage, self._progress() as tell:
            self._set_up(stage, now, tell)
            began = time.monotonic()
            attest_all(stage, cases, now, tell)
            wait_announced(stage, cases, tell)
            found = self._find(stage, cases, now)
            request_all(stage, cases, now, tell)
            deliver_all(stage, cases, tell)
            seconds = time.monotonic() - began
            outcomes = report_outcomes(stage, cases)
            kept = leave(stage, cases, tell)
            tell.close()
            print_results(console, cases, words)
            print_summary(console, stage, cases, words, seconds)
            console.print(words("found", count=found))
            console.print(words("outcomes", count=outcomes))
            wrong = print_unexpected(console, cases, words)
            attacks = run_attacks(stage, cases, lambda *_: None)
            wrong += self._print_attacks(attacks)
            if wrong or not kept:
                stage.keep_for_inquiry()
        self._say_what_is_left(kept, bool(wrong))
        return not wrong and bool(kept)

    def _set_up(self, stage: Stage, now: int, tell: Tell) -> None:
        tell("start", 0, 1)
        stage.start()
        tell("start", 1, 1)
        tell("connect", 0, 1)
        relay = stage.processes[RELAY].address
        for name in (SOURCE, ASKING):
            address = stage.processes[name].address
            stage.command("connect", "--node", address, "--relay", relay)
        introduce(stage, now)
        tell("connect", 1, 1)

    def _find(self, stage: Stage, cases: Sequence[Case], now: int) -> int:
        """One patient is looked for by his identifier; the others brought their cards."""
        brought = [c for c in cases if c.attested is not None and not (c.made and c.made.then)]
        return find_one(stage, brought[0], now) if brought else 0

    @contextmanager
    def _progress(self) -> Iterator[_Live]:
        live = _Live(self.console, self.words)
        try:
            yield live
        finally:
            live.close()

    def _print_attacks(self, attacks: Sequence[Attack]) -> int:
        words = self.words
        table = Table(title=words("attacks"), title_justify="left")
        table.add_column(words("attack_name"), overflow="fold")
        table.add_column(words("answer"), overflow="fold")
        table.add_column("", justify="center")
        for attack in attacks:
            name = attack.zh if words.language == "zh" else attack.en
            said = attack.answered if attack.ok else f"{attack.answered} ({attack.expected}!)"
            table.add_row(name, said, "[green]✓[/]" if attack.ok else "[red]✗[/]")
        self.console.print(table)
        failed = [attack for attack in attacks if not attack.ok]
        for attack in failed:
            line = f"{words('unexpected')}: {attack.name}: {attack.detail}"
            self.console.print(line, markup=False)
        if not failed:
            self.console.print(words("all_refused"))
        return len(failed)

    def _say_what_is_left(self, kept: Sequence[tuple[Path, Path]], wrong: bool) -> None:
        words, console, shown = self.words, self.console, self.directory
        console.print(
            words("left", directory=shown, bundles=len(kept), records=len(kept)), markup=False
        )
        if kept:
            console.print(words("verified"))
            bundle, record = (self._relative(path) for path in kept[0])
            trust = self._relative(self.stage.trust_file)
            line = f"  lianqiao verify {bundle} --trust {trust} --record {record}"
            console.print(line, markup=False, soft_wrap=True)
        if wrong:
            console.print(words("failed", directory=shown), style="red", markup=False)
        elif self._keep:
            console.print(words("kept", directory=shown), markup=False)

    def _relative(self, path: Path) -> str:
        return shlex.quote(str(self.directory / path.relative_to(self.stage.directory)))


def _console() -> Console:
    """As wide as the terminal; wide enough for the tables where output goes to a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=MIN_WIDTH)


class _Live:
    """A bar a step on a terminal; a line a step where output goes to a file."""

    def __init__(self, console: Console, words: Words) -> None:
        self._words = words
        self._console = console
        self._steps: dict[str, TaskID] = {}
        self._bars: Progress | None = None
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            self._bars.start()

    def __call__(self, step: str, done: int, of: int) -> None:
        """How far one step is."""
        if self._bars is None:
            if step not in self._steps and done >= of:
                self._steps[step] = TaskID(0)
                self._console.print(f"{self._words(step)}: {done}/{of}")
            return
        if step not in self._steps:
            self._steps[step] = self._bars.add_task(self._words(step), total=max(of, 1))
        self._bars.update(self._steps[step], completed=done, total=max(of, 1))

    def close(self) -> None:
        """Stops drawing; what is printed after it stands below the bars."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
