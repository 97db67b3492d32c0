"""What a hospital's IT lead wants to know: per item granted or refused, why, how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from relay.contracts.codes import Verdict, finding, meaning
from relay.contracts.payloads import ItemDecision
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.demo.story import Case
from relay.demo.texts import Words
from relay.views import Direction, PacketState

SHOWN_ROWS = 40
"""Items in the table; past it a summary by reason says the rest."""


def print_results(console: Console, cases: Sequence[Case], words: Words) -> None:
    """A row an item, then the count by reason."""
    table = Table(title=words("results"), title_justify="left", show_lines=False)
    table.add_column(words("record"), no_wrap=True, overflow="ellipsis", max_width=26)
    table.add_column(words("item"), no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column(words("decision"), no_wrap=True)
    table.add_column(words("why"), overflow="fold", min_width=22)
    table.add_column(words("delivered"), no_wrap=True)
    rows = [(case, item) for case in cases if case.decision for item in case.decision.items]
    for case, item in rows[:SHOWN_ROWS]:
        table.add_row(*_row(case, item, words))
    for case in cases:
        if case.refusal and len(rows) <= SHOWN_ROWS:
            table.add_row(case.name, "-", words("not_granted"), case.refusal, words("no"))
    console.print(table)
    if len(rows) > SHOWN_ROWS:
        console.print(words("more", count=len(rows) - SHOWN_ROWS))
    _print_reasons(console, [item for _, item in rows], words)


def _row(case: Case, item: ItemDecision, words: Words) -> tuple[str, str, str, str, str]:
    names = {e.part: e.name_zh if words.language == "zh" else e.name_en for e in case.expected}
    refused = item.verdict is Verdict.NOT_ELIGIBLE
    why = ", ".join(str(f) for f in (*item.reasons, *item.flags))
    return (
        case.name.removesuffix(".json"),
        names.get(item.part, "") or item.item or f"#{item.part}",
        words("not_granted" if refused else "granted"),
        why,
        words("yes" if case.fetched is not None and not refused else "no"),
    )


def _print_reasons(console: Console, items: Sequence[ItemDecision], words: Words) -> None:
    counted = Counter(str(f) for item in items for f in (*item.reasons, *item.flags))
    table = Table(title=words("reasons"), title_justify="left")
    table.add_column(words("reason"))
    table.add_column(words("count"), justify="right")
    table.add_column(words("meaning"), overflow="fold")
    for text, count in counted.most_common():
        table.add_row(text, str(count), meaning(finding(text).code, words.language))
    console.print(table)


def print_summary(
    console: Console, stage: Stage, cases: Sequence[Case], words: Words, seconds: float
) -> None:
    """How much, verified how, how quickly."""
    items = [item for case in cases if case.decision for item in case.decision.items]
    refused = sum(1 for item in items if item.verdict is Verdict.NOT_ELIGIBLE)
    delivered = sum(1 for case in cases if case.fetched is not None)
    attested = sum(1 for case in cases if case.attested is not None)
    console.print(
        words(
            "summary",
            records=attested,
            items=len(items),
            granted=len(items) - refused,
            refused=refused,
            delivered=delivered,
        )
    )
    packets, hops = _hops(stage)
    console.print(words("hops", packets=packets, hops=hops))
    waits = sorted(
        case.times["decided"] - case.times["requested"] for case in cases if "decided" in case.times
    )
    if waits:
        console.print(
            words(
                "times",
                decided_p50=_seconds(_quantile(waits, 50)),
                decided_p99=_seconds(_quantile(waits, 99)),
                rate=f"{len(cases) / max(seconds, 0.001):.0f}",
            )
        )


def _hops(stage: Stage) -> tuple[int, int]:
    """(packets received, hops verified: a packet each way counts two), by the nodes' journals."""
    received, closed = 0, 0
    for name in (SOURCE, ASKING, RELAY):
        for view in stage.node(name).packets():
            received += view.direction is Direction.IN
            closed += view.state in (PacketState.ACKNOWLEDGED, PacketState.TIMED_OUT)
    return received, received + closed


def _quantile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _seconds(value: float) -> str:
    return f"{value:.2f}"


def print_unexpected(console: Console, cases: Sequence[Case], words: Words) -> int:
    """Every record whose answer its maker had not foreseen; how many."""
    wrong = [case for case in cases if not case.as_expected]
    for case in wrong:
        foreseen = [(e.part, e.findings) for e in case.expected]
        console.print(f"[red]{words('unexpected')}[/]: {case.name} {case.refusal}")
        console.print(f"  foreseen {foreseen}")
        console.print(f"  answered {case.findings}")
    if not wrong and any(case.made is not None for case in cases):
        console.print(words("as_expected"))
    return len(wrong)
