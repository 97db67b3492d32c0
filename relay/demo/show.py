"""One run from the first line to the last: progress while it goes, tables when it is done."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from rich.text import Text

from relay.demo.attacks import Attack, run_attacks
from relay.demo.evm import EvmStage
from relay.demo.hospitals import SOURCES
from relay.demo.leave import Left, leave
from relay.demo.lots import tell_story
from relay.demo.replicated import ReplicatedStage
from relay.demo.report import print_results, print_summary, print_unexpected
from relay.demo.stage import RELAY, Stage, Stoppable
from relay.demo.story import Case, introduce
from relay.demo.texts import Words
from relay.errors import LianqiaoError
from relay.record.door import Refusal

STAGES: Mapping[str, type[ReplicatedStage] | type[EvmStage]] = {
    "cometbft": ReplicatedStage,
    "evm": EvmStage,
}
MIN_WIDTH = 120
MAX_REFUSALS = 20
"""Refusals at the door that are told one by one."""


class Show:
    """Runs the demonstration and tells it."""

    def __init__(self, directory: Path, *, keep: bool, lang: str, chains: str = "lianqiao") -> None:
        """`chains`: which kinds take part. Raises Refused(CONFIG_INVALID) where one cannot."""
        self.words = Words(lang)
        self.console = _console()
        self.directory = directory
        kinds = [kind for kind in chains.split(",") if kind in STAGES]
        self.stage: Stage = (STAGES[kinds[0]] if kinds else Stage)(directory, keep)
        self._began = time.monotonic()

    def begin(self) -> None:
        """Claims the directory, then says first of all what this is and what it is not.

        Raises Refused(CONFLICT) where the directory is not a demonstration's.
        """
        self.stage.prepare()
        self.console.print(self.words("honest"), style="bold", soft_wrap=True)
        if self.stage.foreign is not None:
            self.console.print(self.words("honest_evm"), style="bold", soft_wrap=True)

    def refused_at_door(self, refused: Sequence[Refusal]) -> None:
        """Reports that were not let in."""
        for one in refused[:MAX_REFUSALS]:
            told = f"{self.words('refused_at_door')}: {one.where}: {one.error}"
            self.console.print(told, markup=False, soft_wrap=True)
        if len(refused) > MAX_REFUSALS:
            self.console.print(self.words("more", count=len(refused) - MAX_REFUSALS))

    def run(self, read: Callable[[], Sequence[Case]], now: int) -> bool:
        """The whole of it; whether everything was as it should be.

        `read` gives the records. Raises what it raises, and what a node or a call fails with.
        """
        words, console = self.words, self.console
        try:
            with Stoppable(), self.stage as stage:
                wrong, kept = self._acts(stage, read, now)
                if wrong:
                    stage.keep_for_inquiry()
        except _Unread as unread:
            raise unread.error from None
        except BaseException as error:
            key = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            where = self.stage.directory / "nodes"
            console.print(words(key, directory=where), style="red", markup=False, soft_wrap=True)
            raise
        self._say_what_is_left(kept, bool(wrong))
        return not wrong

    def _acts(
        self, stage: Stage, read: Callable[[], Sequence[Case]], now: int
    ) -> tuple[int, list[Left]]:
        """(how much was not as it should be, what is left)."""
        words, console = self.words, self.console
        stage.begin()
        try:
            cases = read()  # while the nodes start
        except LianqiaoError as error:
            stage.forget()
            raise _Unread(error) from None
        if any(case.made is None for case in cases):
            name = SOURCES[0].name_zh if words.language == "zh" else SOURCES[0].name_en
            console.print(words("own_records", hospital=name), soft_wrap=True)
        with _Live(console, words, self._began) as tell:
            self._set_up(stage, now, tell)
            began = time.monotonic()
            tell_story(stage, cases, now, tell)
            seconds = time.monotonic() - began
            kept, checked = leave(stage, cases, tell)
        print_results(console, cases, words)
        print_summary(console, cases, checked, words, seconds)
        wrong = print_unexpected(console, cases, words)
        with _Live(console, words, self._began) as tell:
            attacks = run_attacks(stage, cases, tell)
        return wrong + self._print_attacks(attacks), kept

    def _set_up(self, stage: Stage, now: int, tell: _Live) -> None:
        tell("start", 0, 1)
        stage.start()
        tell("start", 1, 1)
        tell("connect", 0, 1)
        stage.join()
        introduce(stage, now)
        tell("connect", 1, 1)

    def _print_attacks(self, attacks: Sequence[Attack]) -> int:
        words = self.words
        table = Table(title=words("attacks"), title_justify="left")
        table.add_column(words("attack_name"), overflow="fold")
        table.add_column(words("answer"), overflow="fold")
        table.add_column("", justify="center")
        for attack in attacks:
            name = attack.zh if words.language == "zh" else attack.en
            said = attack.answered if attack.ok else f"{attack.answered} ({attack.expected}!)"
            table.add_row(Text(name), Text(said), "[green]✓[/]" if attack.ok else "[red]✗[/]")
        self.console.print(table)
        failed = [attack for attack in attacks if not attack.ok]
        for attack in failed:
            line = f"{words('unexpected')}: {attack.name}: {attack.detail}"
            self.console.print(line, markup=False)
        if not failed:
            self.console.print(words("all_refused"))
        return len(failed)

    def _say_what_is_left(self, kept: Sequence[Left], wrong: bool) -> None:
        words, console, shown = self.words, self.console, self.directory
        told = words("left", directory=shown, bundles=len(kept), records=len(kept))
        console.print(told, markup=False, soft_wrap=True)
        if kept:
            console.print(words("try"))
            files = (kept[0].bundle, self.stage.trust_file, kept[0].record)
            bundle, trust, record = (self._relative(path) for path in files)
            self._print_line(f"verify {bundle} --trust {trust} --record {record}")
        else:
            console.print(words("none_delivered"))
        if wrong:
            text = words("failed", directory=shown / "nodes")
            console.print(text, style="red", markup=False, soft_wrap=True)
        elif self.stage.keep:
            console.print(words("kept", directory=shown), markup=False, soft_wrap=True)
            config = self.stage.directory / "nodes" / RELAY / "config.toml"
            self._print_line(f"serve --config {self._relative(config)}")

    def _print_line(self, line: str) -> None:
        """A command, in one line as it can be copied."""
        self.console.print(f"  lianqiao {line}", markup=False, soft_wrap=True)

    def _relative(self, path: Path) -> str:
        return shlex.quote(str(self.directory / path.relative_to(self.stage.directory)))


class _Unread(Exception):
    """The records could not be read: nothing went wrong on the nodes."""

    def __init__(self, error: LianqiaoError) -> None:
        super().__init__(str(error))
        self.error = error


def _console() -> Console:
    """As wide as the terminal; wide enough for the tables where output goes to a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=MIN_WIDTH)


class _Live:
    """A bar a step on a terminal; a line a step where output goes to a file. A context."""

    def __init__(self, console: Console, words: Words, began: float) -> None:
        self._words = words
        self._console = console
        self._began = began
        self._lock = threading.Lock()
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

    def __enter__(self) -> _Live:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stops drawing; what is printed after it stands below the bars."""
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: str, done: int, of: int) -> None:
        """How far one step is; from any thread."""
        with self._lock:
            if self._bars is None:
                self._tell(step, done, of)
                return
            if step not in self._steps:
                self._steps[step] = self._bars.add_task(self._words(step), total=max(of, 1))
            self._bars.update(self._steps[step], completed=done, total=max(of, 1))

    def _tell(self, step: str, done: int, of: int) -> None:
        if step not in self._steps and done >= of:
            self._steps[step] = TaskID(0)
            seconds = f"{time.monotonic() - self._began:5.1f} s"
            self._console.print(f"{seconds}  {self._words(step)}: {done}/{of}", markup=False)
