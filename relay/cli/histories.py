"""What several bundles show together: that a chain tells two histories, for `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli import output
from relay.cli.options import read_file

if TYPE_CHECKING:
    from relay.contradictions import Contradiction
    from relay.trust import Trust


def contradictions_of(
    files: Sequence[Path], trusted: Trust, judged: int
) -> tuple[Contradiction, ...]:
    """Of bundles that were verified as of the moment `judged`, one file at a time in memory."""
    from relay.bundle_format import MAX_BUNDLE_BYTES, decode_bundle
    from relay.contradictions import find_contradictions
    from relay.registry import client_types

    if len(files) < 2:
        return ()  # what leads through one bundle was verified
    bundles = (decode_bundle(read_file(file, MAX_BUNDLE_BYTES)) for file in files)
    return find_contradictions(bundles, trusted, judged, client_types())


def tell(found: Sequence[Contradiction], evidence: Path | None) -> None:
    """For people, on standard error. `evidence`: the file that holds the first one's."""
    for one in found:
        output.note(f"{one.chain} contradicts itself: {one.description}")
        output.note(f"  signed both: {', '.join(one.culprits) or 'nobody, the set has changed'}")
    if found and evidence is None:
        output.note("hint: --evidence FILE writes what proves it, for lianqiao clients accuse")
    elif found:
        output.note(f"wrote {evidence}, which proves it of {found[0].chain}")
        output.note(f"next: lianqiao clients accuse CLIENT {evidence} --node ADDRESS")
