"""The mutants that no test can notice, each with the reason why that is no gap.

An entry is a part of a mutant's name (`file::function::kind::check`), and the reason. A mutant that
is noticed after all, or that is not there any more, must leave the list: a test says so.
"""

from __future__ import annotations

from tests.mutation.mutants import Mutant

EXPLAINED: dict[str, str] = {}


def explained(mutant: Mutant) -> str | None:
    """Why this mutant may survive, or None where it must be noticed."""
    return next((why for part, why in EXPLAINED.items() if mutant.name.startswith(part)), None)
