"""What several bundles show together: that a chain tells two histories, for `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli import output

if TYPE_CHECKING:
    from relay.contradictions import Contradiction
    from relay.trust import Trust


_NOBODY = "nobody. The set has changed: only a client that knows both sets takes it as evidence"


def contradictions_of(
    bundles: Sequence[bytes], trusted: Trust, judged: int
) -> tuple[Contradiction, ...]:
    """Of bundles that were verified as of the moment `judged`; one alone may hold two histories."""
    from relay.bundle_format import decode_bundle
    from relay.contradictions import find_contradictions
    from relay.registry import client_types

    return find_contradictions(map(decode_bundle, bundles), trusted, judged, client_types())


def tell(found: Sequence[Contradiction], evidence: Path | None) -> None:
    """For people, on standard error. `evidence`: the file that holds the first one's."""
    if evidence is not None and not found:
        output.note(f"no chain contradicts itself here: {evidence} was not written")
    for one in found:
        output.note(f"{one.chain} contradicts itself: {one.description}")
        output.note(f"  signed both: {', '.join(one.culprits) or _NOBODY}")
    if found and evidence is None:
        output.note("hint: --evidence FILE writes what proves it, for lianqiao clients accuse")
    elif found:
        output.note(f"wrote {evidence}, which proves it of {found[0].chain}")
        output.note(f"next: lianqiao clients accuse CLIENT {evidence} --node ADDRESS")
