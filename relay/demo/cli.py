"""`lianqiao demo`: the network, the story, what came of it, and the attacks; exit 0 or it lies.

    lianqiao demo [records] [--count N] [--records PATH] [--samples N] [--dir DIR] [--keep]
                  [--lang en|zh] [--seed N]

`demo` is a group, a command a story; bare `demo` tells `records`. Exits: 0 where everything was as
foreseen, 1 where anything was not, 2 for usage and for records that cannot be read, 130 for Ctrl-C.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.errors import Malformed, Reason

if TYPE_CHECKING:
    from relay.demo.show import Show
    from relay.demo.story import Case

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, add_completion=False)

DEFAULT_COUNT, MAX_COUNT, MAX_SAMPLES = 24, 10_000, 1000
DEFAULT_DIRECTORY, DEFAULT_SEED = Path("lianqiao-demo"), 20_261_123

Records = Annotated[
    Path | None,
    typer.Option(
        "--records", metavar="PATH", help="Your own FHIR R4 (JSON, NDJSON, Bundles), or a folder."
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        min=0,
        max=MAX_SAMPLES,
        help="So many patients made by Synthea, which the extra 'samples' installs.",
    ),
]
Count = Annotated[
    int, typer.Option("--count", min=1, max=MAX_COUNT, help="How many records to generate.")
]
Dir = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where to leave what is kept.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep databases, keys and logs too.")]
Lang = Annotated[Literal["en", "zh"], typer.Option("--lang", help="The language it speaks.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed makes the same patients and records.")
]

Chains = Annotated[
    Literal["lianqiao", "cometbft,lianqiao", "evm,lianqiao"],
    typer.Option(
        "--chains",
        help="With cometbft, four institutions replicate the relay; with evm, a ledger (the "
        "records' source, the Hong Kong dollars) is an EVM chain.",
    ),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for."""

    records: Path | None
    samples: int
    count: int
    directory: Path
    keep: bool
    lang: str
    seed: int
    chains: str


@app.callback()
def demo(
    context: typer.Context,
    records_path: Records = None,
    samples: Samples = 0,
    count: Count = DEFAULT_COUNT,
    directory: Dir = DEFAULT_DIRECTORY,
    keep: Keep = False,
    lang: Lang = "en",
    seed: Seed = DEFAULT_SEED,
    chains: Chains = "lianqiao",
) -> None:
    """Three nodes on this machine, records that cross them, and attacks. Bare: `demo records`.

    Example: lianqiao demo --count 100 --lang zh
    """
    if context.invoked_subcommand is None:
        _run(Wanted(records_path, samples, count, directory, keep, lang, seed, chains))
        return
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise Malformed(
                "options go behind the name of the story",
                hint=f"lianqiao demo {context.invoked_subcommand} --help",
            )


@app.command()
def records(
    records_path: Records = None,
    samples: Samples = 0,
    count: Count = DEFAULT_COUNT,
    directory: Dir = DEFAULT_DIRECTORY,
    keep: Keep = False,
    lang: Lang = "en",
    seed: Seed = DEFAULT_SEED,
    chains: Chains = "lianqiao",
) -> None:
    """Records attested on one ledger, recognised on another through a relay, delivered; attacks.

    Example: lianqiao demo records --records ./my-reports --dir ./out
    """
    _run(Wanted(records_path, samples, count, directory, keep, lang, seed, chains))


@app.command()
def settlement(
    day: Annotated[
        str, typer.Option("--date", metavar="YYYY-MM-DD", help="ECB rates of that day.")
    ] = "",
    directory: Dir = DEFAULT_DIRECTORY,
    keep: Keep = False,
    lang: Lang = "en",
    faults: Annotated[
        bool, typer.Option("--faults/--no-faults", help="Kill each node at each step.")
    ] = True,
    chains: Chains = "lianqiao",
) -> None:
    """A bill in CNY paid in HKD, both sides or neither, at the real rate of a day; cheats, crashes.

    Example: lianqiao demo settlement --date 2026-10-30 --lang zh
    """
    from relay.demo.clearing.show import ClearingShow
    from relay.fixings import fixing, last_day

    found = fixing("CNY", "HKD", day or last_day())
    if not ClearingShow(directory, keep=keep, lang=lang, chains=chains).run(
        found, with_faults=faults
    ):
        raise typer.Exit(1)


def _run(wanted: Wanted) -> None:
    from relay.demo.show import Show

    if wanted.records is not None and not wanted.records.exists():
        raise Malformed(
            f"{wanted.records}: No such file or directory",
            hint="name a FHIR R4 file (.json, .ndjson) or a folder of them",
        )
    show = Show(wanted.directory, keep=wanted.keep, lang=wanted.lang, chains=wanted.chains)
    now = int(time.time())
    show.begin()
    if not show.run(lambda: _cases(show, wanted, now), now):
        raise typer.Exit(1)


def _cases(show: Show, wanted: Wanted, now: int) -> Sequence[Case]:
    """The records, through the door. Raises Malformed(RECORD_INVALID) where none is let in."""
    from relay.demo.story import cases_of_generated, cases_of_records

    if wanted.records is None and not wanted.samples:
        from relay.contracts.catalogue import shipped
        from relay.demo.generator import generate

        catalogue = json.loads(shipped())
        made = generate(catalogue, seed=wanted.seed, now=now, count=wanted.count)
        return cases_of_generated(made)
    from relay.demo.samples import load_sources, synthea_sources
    from relay.record.door import take

    sources = load_sources(wanted.records) if wanted.records is not None else []
    if wanted.samples:
        sources += synthea_sources(wanted.samples, wanted.seed, now)
    intake = take(sources)
    show.refused_at_door(intake.refused)
    if not intake.records:
        raise Malformed(
            "none of the records was let in",
            reason=Reason.RECORD_INVALID,
            hint="the lines above say why each was refused",
        )
    return cases_of_records(intake.records)
