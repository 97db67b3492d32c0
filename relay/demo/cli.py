"""`lianqiao demo`: the network, the story, what came of it, and the attacks; exit 0 or it lies.

lianqiao demo [--count N] [--records PATH] [--dir DIR] [--keep] [--lang en|zh]
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.errors import LianqiaoError, Malformed, Reason

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, add_completion=False)

DEFAULT_COUNT, MAX_COUNT = 24, 10_000

Records = Annotated[
    Path | None,
    typer.Option("--records", metavar="PATH", help="Your own FHIR R4: JSON, NDJSON, Bundles."),
]
Samples = Annotated[
    int, typer.Option("--samples", min=0, max=1000, help="Patients made by Synthea (extra: samples).")
]
Count = Annotated[
    int, typer.Option("--count", min=1, max=MAX_COUNT, help="How many records to generate.")
]
Dir = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where to leave what is kept.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep databases, keys and logs too.")]
Lang = Annotated[str, typer.Option("--lang", help="en or zh.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed makes the same records.")]


@app.callback()
def demo(
    context: typer.Context,
    records_path: Records = None,
    samples: Samples = 0,
    count: Count = DEFAULT_COUNT,
    directory: Dir = Path("lianqiao-demo"),
    keep: Keep = False,
    lang: Lang = "en",
    seed: Seed = 20_261_123,
) -> None:
    """Three nodes on this machine, real records, and attacks. Bare, it runs `demo records`.

    Example: lianqiao demo --count 100 --lang zh
    """
    if context.invoked_subcommand is None:
        _run(records_path, samples, count, directory, keep, lang, seed)


@app.command()
def records(
    records_path: Records = None,
    samples: Samples = 0,
    count: Count = DEFAULT_COUNT,
    directory: Dir = Path("lianqiao-demo"),
    keep: Keep = False,
    lang: Lang = "en",
    seed: Seed = 20_261_123,
) -> None:
    """Records attested on one ledger, recognised on another through a relay, delivered, attacked.

    Example: lianqiao demo records --records ./my-reports --dir ./out
    """
    _run(records_path, samples, count, directory, keep, lang, seed)


def _run(
    records_path: Path | None,
    samples: int,
    count: int,
    directory: Path,
    keep: bool,
    lang: str,
    seed: int,
) -> None:
    from relay.demo.texts import LANGUAGES

    if lang not in LANGUAGES:
        raise Malformed(f"--lang {lang[:20]!r}", hint="en or zh", field="lang")
    from relay.demo.show import Show

    show = Show(directory, keep=keep, lang=lang)
    started, now = time.monotonic(), int(time.time())
    cases = _cases(show, records_path, samples, count, seed, now)
    if not cases:
        raise Malformed(
            "none of the records was let in",
            reason=Reason.RECORD_INVALID,
            hint="the lines above say why each was refused",
        )
    if not show.run(cases, now, started):
        raise typer.Exit(1)


def _cases(
    show: Any, records_path: Path | None, samples: int, count: int, seed: int, now: int
) -> list[Any]:
    from relay.demo.story import cases_of_generated, cases_of_records

    if records_path is None and not samples:
        from relay.contracts.catalogue import shipped
        from relay.demo.generator import generate

        catalogue = json.loads(shipped())
        return cases_of_generated(generate(catalogue, seed=seed, now=now, count=count))
    from relay.demo.samples import load_sources, synthea_sources
    from relay.record.door import take

    sources = load_sources(records_path) if records_path is not None else []
    if samples:
        sources += synthea_sources(samples, seed, now)
    intake = take(sources)
    for refusal in intake.refused:
        show.refused_at_door(refusal.where, refusal.error)
    return cases_of_records(intake.records)


__all__ = ["LianqiaoError", "app"]
