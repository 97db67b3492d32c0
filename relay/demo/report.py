"""What a hospital's IT lead wants to know: what was granted or refused, why, how fast.

A row stands for all items of a record that were answered alike. Many records are told by reason
first, then by their first rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.contracts.codes import Verdict, meaning
from relay.contracts.payloads import ItemDecision
from relay.demo.leave import Checked
from relay.demo.story import Case
from relay.demo.texts import Words

FEW_RECORDS = 20
"""Up to so many records every one is shown."""
FIRST_ROWS = 24
"""Rows that are shown of more."""
MAX_NAMES = 4
"""Items that a row names; of more it says how many."""


def print_results(console: Console, cases: Sequence[Case], words: Words) -> None:
    """A row a record and answer, and the count by reason, in the order that suits their number."""
    rows = [row for case in cases for row in _rows(case, words)]
    if len(cases) <= FEW_RECORDS:
        _print_rows(console, rows, words("results"), words)
        _print_reasons(console, cases, words)
        return
    _print_reasons(console, cases, words)
    _print_rows(console, rows[:FIRST_ROWS], words("first_results"), words)
    if len(rows) > FIRST_ROWS:
        console.print(words("more", count=len(rows) - FIRST_ROWS))


def _print_rows(console: Console, rows: Sequence[Sequence[str]], title: str, words: Words) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column(words("record"), no_wrap=True, overflow="ellipsis", max_width=22)
    table.add_column(words("items"), overflow="fold", ratio=2)
    table.add_column(words("decision"), no_wrap=True)
    table.add_column(words("why"), overflow="fold", ratio=3)
    table.add_column(words("delivered"), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _rows(case: Case, words: Words) -> Iterator[tuple[str, ...]]:
    if case.decision is None:
        yield (case.name, "-", words("not_granted"), case.refusal, words("no"))
        return
    ordered = sorted(case.decision.items, key=lambda i: (_why(i), i.part))
    for why, alike in groupby(ordered, key=_why):
        items = list(alike)
        refused = items[0].verdict is Verdict.NOT_ELIGIBLE
        delivered = case.fetched is not None and not refused
        if refused:
            told = "; ".join(f"{_short(word, words)} ({word})" for word in why)
        else:  # the same flags on every row: what they mean is told once, by reason
            told = ", ".join(why)
        yield (
            case.name,
            _names(case, items, words),
            words("not_granted" if refused else "granted"),
            told,
            words("yes" if delivered else "no"),
        )


def _why(item: ItemDecision) -> tuple[str, ...]:
    return tuple(str(finding) for finding in item.reasons or item.flags)


def _short(word: str, words: Words) -> str:
    """What a finding means: its detail where it has one, since the code is told beside it."""
    return meaning(word.rpartition("/")[2], words.language)


def _names(case: Case, items: Sequence[ItemDecision], words: Words) -> str:
    known = {e.part: e.name_zh if words.language == "zh" else e.name_en for e in case.expected}
    names = [known.get(i.part, "") or i.item or f"#{i.part}" for i in items]
    shown = words("comma").join(names[:MAX_NAMES])
    return shown + (words("and_more", count=len(names) - MAX_NAMES) if names[MAX_NAMES:] else "")


def _print_reasons(console: Console, cases: Sequence[Case], words: Words) -> None:
    items = [item for case in cases if case.decision for item in case.decision.items]
    refused = Counter(str(f) for item in items for f in item.reasons)
    flagged = Counter(str(f) for item in items for f in item.flags)
    table = Table(title=words("reasons"), title_justify="left")
    table.add_column(words("decision"), no_wrap=True)
    table.add_column(words("reason"), no_wrap=True)
    table.add_column(words("count"), justify="right")
    table.add_column(words("meaning"), overflow="fold")
    for key, counted in (("granted", flagged), ("not_granted", refused)):
        for text, count in counted.most_common():
            table.add_row(words(key), text, str(count), _short(text, words))
    early = Counter(case.refusal for case in cases if case.decision is None)
    for text, count in early.most_common():
        table.add_row(words("not_granted"), "-", str(count), Text(text))
    console.print(table)


def print_summary(
    console: Console, cases: Sequence[Case], checked: Checked, words: Words, seconds: float
) -> None:
    """How much, verified how, how quickly."""
    items = [item for case in cases if case.decision for item in case.decision.items]
    refused = sum(1 for item in items if item.verdict is Verdict.NOT_ELIGIBLE)
    outcomes = Counter(case.outcome for case in cases if case.outcome)
    again = ", ".join(f"{code} ×{n}" for code, n in sorted(outcomes.items()) if code[0] == "R")
    attested = sum(1 for case in cases if case.attested is not None)
    delivered = sum(1 for case in cases if case.fetched is not None)
    found = sum(1 for case in cases if case.found is not None)
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
    console.print(words("ways", found=found, cards=attested - found))
    adopted = outcomes["adopted"]
    console.print(words("outcomes", adopted=adopted, count=delivered - adopted, why=again or "-"))
    if checked.bundles:
        console.print(
            words(
                "hops",
                bundles=checked.bundles,
                hops=checked.hops,
                signatures=checked.signatures,
                claims=checked.claims,
            )
        )
    _print_times(console, cases, words, seconds)


def _print_times(console: Console, cases: Sequence[Case], words: Words, seconds: float) -> None:
    waits = sorted(
        case.times["delivered"] - case.times["begun"] for case in cases if case.fetched is not None
    )
    if waits:
        console.print(
            words(
                "times",
                p50=f"{_quantile(waits, 50):.2f}",
                p99=f"{_quantile(waits, 99):.2f}",
                rate=f"{len(cases) / max(seconds, 0.001):.0f}",
            )
        )


def _quantile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def print_unexpected(console: Console, cases: Sequence[Case], words: Words) -> int:
    """Every record whose answer its maker had not foreseen, or that went astray; how many."""
    wrong = [case for case in cases if not as_it_should(case)]
    for case in wrong:
        foreseen = [(e.part, e.findings) for e in case.expected]
        console.print(f"[red]{words('unexpected')}[/]: {case.name} {case.refusal}")
        console.print(f"  {words('foreseen')}: {foreseen}", markup=False)
        console.print(f"  {words('answered')}: {case.findings}", markup=False)
    if not wrong and any(case.made is not None for case in cases):
        console.print(words("as_expected"))
    return len(wrong)


def as_it_should(case: Case) -> bool:
    """Whether a record was decided as foreseen, and delivered and reported exactly where granted.

    A record of the user's that could not be attested is told and not counted against anyone.
    """
    if case.attested is None:
        return case.made is None
    if not case.as_expected or case.decision is None:
        return False
    granted = bool(case.decision.grant)
    return granted == (case.fetched is not None) == bool(case.outcome)
