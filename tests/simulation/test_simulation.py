"""Seeds: a few that are always the same, one that is new every day, and in the longer tier many.

A failure prints the options of its seed and the command that repeats it. What a tick is, and how
to run ten thousand seeds: README.md.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import pytest

from relay.errors import Reason
from tests.simulation import audits
from tests.simulation.__main__ import main, parser
from tests.simulation.cheap import CHEAP
from tests.simulation.fate import OF_CALLS, OF_COMMITS
from tests.simulation.options import Edge, Options, draw
from tests.simulation.planted import BUGS
from tests.simulation.planting import planted
from tests.simulation.run import Failure, command, run_options, run_seed

FIXED = (2, 3, 10)
"""Small networks: two heads, a hasty node, rotations, crashes, drift and strangers."""
EVERYDAY_TICKS = 30
CHUNK = 10
REACHING = (*range(60), 66, 75)
"""Seeds in which all that can happen has happened, each at least once."""
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "seed", [FIXED[0], *(pytest.param(one, marks=pytest.mark.slow) for one in FIXED[1:])]
)
def test_a_fixed_seed(seed: int) -> None:
    run_seed(seed, EVERYDAY_TICKS)


@pytest.mark.slow
def test_the_seed_of_the_day() -> None:
    run_seed(1_000_000 + date.today().toordinal(), EVERYDAY_TICKS)


@pytest.mark.slow
def test_a_seed_does_the_same_in_every_process() -> None:
    """Also where strings hash otherwise: no set and no address decides anything."""
    code = "from tests.simulation.run import run_seed; print(sorted(run_seed(1, 8).items()))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.slow
def test_a_witness_stays_with_one_history() -> None:
    """A relay signs two histories. One witness has co-signed the second; meanwhile its ledger's
    client verifies the first, by the co-signature of the other witness. Found by this seed."""
    edges = (Edge("hub", "zj", "near"), Edge("hub", "sh", "near"))
    options = replace(
        draw(13, 20),
        nodes=("hub", "zj", "sh"),
        edges=edges,
        witnessed="hub",
        witness_quorum=1,
        two_heads=True,
        night=0.0,
        rotation=0.0,
        forge=0.0,
    )
    run_options(options)


@pytest.mark.slow
def test_fsck_on_the_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws by a generator of its own: each seed is what it was without it."""
    with_it = run_seed(2, EVERYDAY_TICKS)
    assert with_it.pop("fsck on the way") > 5
    monkeypatch.setattr(audits, "SHARE", 0)
    assert run_seed(2, EVERYDAY_TICKS) == with_it


def test_a_seed_that_fails_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command on the last line fails in the same tick with the same words."""
    [bug] = [bug for bug in BUGS if bug.name == "a head is kept with the hash of the one before"]
    with planted(bug), pytest.raises(Failure) as failed:
        run_seed(0, 9, quiet=True)
    shown = str(failed.value)
    *_, what, last = shown.splitlines()
    assert what.startswith(f"seed 0 failed in tick {failed.value.tick}: forged: ")
    assert all(f"  {line}" in shown for line in draw(0, 9).lines())
    label, _, repeated = last.partition(": ")
    assert (label, repeated) == ("repeat it", "python -m tests.simulation --seeds 0 --ticks 9")

    monkeypatch.setattr(sys, "argv", shlex.split(repeated)[2:])
    with planted(bug):
        assert main() == 1
    assert capsys.readouterr().err == shown + "\n"


@pytest.mark.parametrize(("money", "keys"), [(False, CHEAP), (True, CHEAP), (True, "ed25519")])
def test_the_command_of_a_seed_draws_its_options_again(money: bool, keys: str) -> None:
    options = draw(11, 7, keys, money=money)
    program, *arguments = shlex.split(command(options).removeprefix("python -m "))
    asked = parser().parse_args(arguments)
    assert program == "tests.simulation"
    assert draw(int(asked.seeds), asked.ticks, asked.keys, money=asked.money) == options


def test_options_are_drawn_from_the_seed_alone() -> None:
    assert draw(7) == draw(7)
    assert len({str(draw(seed)) for seed in range(50)}) == 50


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("first", range(0, 100, CHUNK))
def test_a_hundred_seeds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run_seed(seed)


@pytest.mark.slow
def test_a_seed_with_real_keys() -> None:
    run_seed(5, EVERYDAY_TICKS, "ed25519")


@pytest.mark.slow
def test_the_simulation_reaches_what_it_is_for() -> None:
    """A fault that never happens proves nothing: every kind is met within these seeds."""
    marks: Counter[str] = Counter()
    for seed in REACHING:
        marks += run_seed(seed, quiet=True)
    wanted = {
        *(mark for found in FAULTS.values() for mark in found),
        *(f"{verb} {what}" for verb in _VERBS for what in ("done", "noop")),
        *(f"receive {reason}" for reason in (Reason.TIMED_OUT, Reason.TIMEOUT_ELAPSED)),
        f"expire {Reason.RECEIVED}",
        f"accuse {Reason.NOT_MISBEHAVIOUR}",
        *(f"{verb} {Reason.COUNTERPARTY_MISMATCH}" for verb in ("receive", "acknowledge")),
        *(f"receive {reason}" for reason in (Reason.COMMITMENT_MISMATCH, Reason.INVALID_PROOF)),
        f"timeout {Reason.TIMEOUT_NOT_REACHED}",
        f"expire {Reason.TIMEOUT_NOT_REACHED}",
        f"acknowledge {Reason.CLIENT_EXPIRED}",
        "sent done",
        f"stranger: {Reason.WITNESS_MISSING}",
        f"stranger: {Reason.MALFORMED}",
        f"relayer: {Reason.HEADER_FROM_FUTURE}",
        f"side: {Reason.CHAIN_UNREACHABLE}",
        f"side: {Reason.CLIENT_FROZEN}",
        f"operator: {Reason.DATABASE_UNREACHABLE}",
        "fsck on the way",
        "recovery",
        "recovery cancelled",
        "caught by a relayer",
        "crash",
        "frozen",
        "repeated call",
        *(f"forged {kind}: {reason}" for kind, reasons in FORGED.items() for reason in reasons),
    }
    assert wanted - set(marks) == set()


FORGED = {
    "unsent": [Reason.INVALID_PROOF],
    "rewritten": [Reason.INVALID_PROOF, Reason.COMMITMENT_MISMATCH],
    "weak head": [Reason.QUORUM_NOT_REACHED, Reason.MALFORMED],
    "made head": [Reason.INVALID_SIGNATURE, Reason.UNKNOWN_SIGNER, Reason.HEIGHT_NOT_TRUSTED],
    "mixed": [Reason.INVALID_PROOF],
    "others": [Reason.COUNTERPARTY_MISMATCH, Reason.CHAIN_ID_MISMATCH, Reason.INVALID_PROOF],
    "answers": [Reason.INVALID_PROOF, "noop"],
    "holes": [Reason.PACKETS_MISSING, "done"],
    "statement": [Reason.COUNTERPARTY_MISMATCH, Reason.INVALID_PROOF],
}
"""Attack (tests.simulation.forger) → what it must have been answered."""
FAULTS = {
    "commits": [f"commit {act}" for act in OF_COMMITS],
    "calls": [f"call {act}" for act in OF_CALLS],
    "partition": ["partition"],
    "drift_seconds": ["drift"],
    "second_relayer": ["second relayer"],
    "replay": ["stranger: replay"],
    "change": ["stranger: change"],
    "own": ["stranger: own"],
    "accuse": ["stranger: accuse"],
    "forge": [f"stranger: forge {kind}" for kind in FORGED],
    "rotation": ["rotation"],
    "witnessed": ["cosigned", "stranger: too early"],
    "night": ["night"],
    "two_heads": ["two heads"],
    "hasty": ["hasty"],
    "backup": ["backup"],
    "stale": ["stale restore"],
}
"""Field of Options → the marks of what it does."""
NO_FAULTS = """seed ticks nodes edges algorithm partition_seconds downtime_seconds step_seconds
    traffic timeout_seconds witness_quorum trusting_period tick_seconds money"""
"""Measures; `money` is tests.simulation.test_money's."""


def test_no_fault_is_drawn_that_nobody_counts() -> None:
    assert {*FAULTS, *NO_FAULTS.split()} == {field.name for field in fields(Options)}


_VERBS = ("receive", "acknowledge", "timeout", "expire")
