"""The demonstration may not praise itself: what is not as foreseen is found, told and counted."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from relay.contracts.catalogue import shipped
from relay.contracts.codes import Verdict, finding
from relay.contracts.payloads import Decision, ItemDecision
from relay.demo.attacks import Attack
from relay.demo.delivery import reexamination
from relay.demo.generator import generate
from relay.demo.leave import Checked
from relay.demo.lots import Overall
from relay.demo.report import as_it_should, print_results, print_summary, print_unexpected
from relay.demo.show import Show
from relay.demo.side_by_side import side_by_side
from relay.demo.story import Case, cases_of_generated
from relay.demo.texts import Words
from relay.errors import Reason, Refused
from tests.refusals import refusing


@pytest.fixture
def cases() -> list[Case]:
    """Forty records, each answered, delivered and reported as its maker foresaw."""
    catalogue = json.loads(shipped())
    made = cases_of_generated(generate(catalogue, seed=5, now=int(time.time()), count=40))
    for case in made:
        fake: Any = SimpleNamespace(decision=decided(case))
        case.view, case.attested = fake, fake
        if fake.decision.grant:
            case.fetched, case.outcome = fake, "adopted"
            case.times = {"begun": 1.0, "delivered": 2.0 + case.number}
    return made


def decided(case: Case) -> Decision:
    items = tuple(
        ItemDecision(
            part=e.part,
            item="",
            verdict=Verdict.RECOGNISED_WITH_FLAG if e.recognised else Verdict.NOT_ELIGIBLE,
            reasons=() if e.recognised else tuple(finding(f) for f in e.findings),
            flags=tuple(finding(f) for f in e.findings) if e.recognised else (),
        )
        for e in case.expected
    )
    granted = any(e.recognised for e in case.expected)
    return Decision(
        request=bytes(32),
        relay="relay",
        origin="sh-medical",
        target="zj-medical",
        commitment=bytes(32),
        institution="sh-h1",
        decided=0,
        reason=None,
        items=items,
        policy=(),
        head_height=1,
        head_time=1,
        grant=bytes([1]) * 32 if granted else b"",
        expires=1,
    )


def told(cases: list[Case]) -> tuple[int, str]:
    out = io.StringIO()
    wrong = print_unexpected(Console(file=out, width=200), cases, Words("en"))
    return wrong, out.getvalue()


def test_what_is_as_foreseen_is_said_to_be(cases: list[Case]) -> None:
    wrong, text = told(cases)
    assert wrong == 0
    assert "as its maker had foreseen" in text


def test_another_answer_is_named(cases: list[Case]) -> None:
    case = next(c for c in cases if c.fetched is not None)
    decision = case.decision
    assert decision is not None
    first, *others = decision.items
    changed = replace(first, flags=(finding("MAP_WIDER"),), reasons=())
    case.view = SimpleNamespace(decision=replace(decision, items=(changed, *others)))  # type: ignore[assignment]
    wrong, text = told(cases)
    assert wrong == 1
    assert case.name in text
    assert "MAP_WIDER" in text


@pytest.mark.parametrize("missing", ["view", "fetched", "outcome", "attested"])
def test_what_went_astray_is_named(cases: list[Case], missing: str) -> None:
    case = next(c for c in cases if c.fetched is not None)
    setattr(case, missing, "" if missing == "outcome" else None)
    assert not as_it_should(case)
    assert told(cases)[0] == 1


def test_what_was_delivered_without_a_grant_is_named(cases: list[Case]) -> None:
    case = next(c for c in cases if c.fetched is None)
    case.fetched = SimpleNamespace()  # type: ignore[assignment]
    assert told(cases)[0] == 1


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("count", [3, 40])
def test_the_tables_hold_every_item_and_reason(
    cases: list[Case], language: str, count: int
) -> None:
    out, words = io.StringIO(), Words(language)
    console = Console(file=out, width=160)
    print_results(console, cases[:count], words)
    print_summary(console, cases[:count], Checked(2, 8, 24, 16), words, 4.0)
    text = out.getvalue()
    for case in cases[:count]:
        for one in case.expected:
            for found in one.findings:
                assert found in text
    assert text.index(words("reasons")) > text.index(words("results")) if count == 3 else True
    items = sum(len(case.expected) for case in cases[:count])
    assert str(items) in text
    assert "24" in text


def test_an_attack_that_succeeds_fails_the_demonstration(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    show = Show(tmp_path / "out", keep=False, lang="en")
    good = Attack("a", "tried", "试", "NO_GRANT", "NO_GRANT", "")
    assert show._print_attacks([good]) == 0
    assert "Every attack was refused" in capsys.readouterr().out
    assert show._print_attacks([good, replace(good, answered="DONE", detail="let in")]) == 1
    text = capsys.readouterr().out
    assert "✗" in text
    assert "DONE (NO_GRANT!)" in text
    assert "let in" in text
    assert "Every attack was refused" not in text


def test_every_lawful_reason_is_shown_and_most_are_adopted() -> None:
    reasons = [reexamination(SimpleNamespace(number=n)) for n in range(80)]  # type: ignore[arg-type]
    assert {str(reason) for reason in reasons if reason} == {"R1", "R2", "R3", "R4"}
    assert reasons.count(None) == 72


def test_the_progress_of_lots_adds_up() -> None:
    seen: list[tuple[str, int, int]] = []
    overall = Overall(lambda *now: seen.append(now), [10, 10, 5])
    overall.of(0)("attest", 10, 10)
    overall.of(2)("attest", 5, 5)
    overall.of(1)("attest", 4, 8)
    overall.of(1)("attest", 2, 8)
    overall.of(1)("attest", 8, 8)
    assert seen == [
        ("attest", 10, 25),
        ("attest", 15, 25),
        ("attest", 19, 23),
        ("attest", 19, 23),
        ("attest", 23, 23),
    ]


def test_a_failure_of_one_ends_the_others() -> None:
    ended = threading.Event()
    stage: Any = SimpleNamespace(abandon=ended.set)

    def call(number: int) -> None:
        if number == 3:
            raise Refused("CONFLICT", "no")  # type: ignore[arg-type]
        assert ended.wait(10)

    with refusing(Reason.CONFLICT):
        side_by_side(stage, call, [1, 2, 3], callers=3)
    assert ended.is_set()
