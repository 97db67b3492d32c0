"""The policy in force at a moment, merged from its documents into what an evaluation looks up.

A snapshot depends on nothing but the digests of the documents in force, so the few that are alive
are memoised by these; evaluating an item then reads no document at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from relay.contracts.base import Reader
from relay.contracts.policy.loaded import Line, document, in_force
from relay.contracts.policy.values import (
    Assessment,
    CatalogueItem,
    Clinician,
    Control,
    Document,
    Institution,
    Kind,
    Licence,
    RegionRule,
    Target,
)

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One catalogue document, by code and by item."""

    by_code: Mapping[str, tuple[CatalogueItem, ...]]
    by_item: Mapping[str, CatalogueItem]


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything in force at one moment."""

    versions: tuple[str, ...]
    """`kind/name@version` of every document in force, ascending."""
    catalogues: Mapping[str, Catalogue]
    institutions: Mapping[str, Institution]
    laboratories: Mapping[str, Licence]
    assessments: Mapping[tuple[str, str], tuple[Assessment, ...]]
    controls: Mapping[tuple[str, str], tuple[Control, ...]]
    clinicians: Mapping[str, Clinician]
    regions: Mapping[str, RegionRule]
    agreements: Mapping[str, frozenset[str]]
    mappings: Mapping[str, tuple[Target, ...]]

    def rule_for(self, institution: Institution) -> RegionRule | None:
        """The rule of the narrowest of its regions that has one."""
        for region in institution.regions:
            rule = self.regions.get(region)
            if rule is not None:
                return rule
        return None

    def marks_cover(self, marks: Iterable[str], institution: Institution) -> bool:
        """Whether an HR scope holds where the institution lies: a set of codes, and of agreements
        that stand for the set of their members; never a prefix of a code."""
        regions = set(institution.regions)
        return any(
            mark in regions or not regions.isdisjoint(self.agreements.get(mark, ()))
            for mark in marks
        )


def _first(pairs: Iterable[tuple[K, V]]) -> dict[K, V]:
    found: dict[K, V] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    found: dict[K, list[V]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def _catalogue(parsed: Document) -> Catalogue:
    return Catalogue(
        by_code=_grouped((code, item) for item in parsed.items for code in item.codes),
        by_item={item.item: item for item in parsed.items},
    )


def merge(documents: Iterable[Document]) -> Policy:
    """One policy of the given documents; on a clash the first by (kind, name) counts."""
    ordered = sorted(documents, key=lambda d: (d.kind, d.name))
    return Policy(
        versions=tuple(d.label for d in ordered),
        catalogues={d.name: _catalogue(d) for d in ordered if d.kind is Kind.CATALOGUE},
        institutions=_first((i.id, i) for d in ordered for i in d.institutions),
        laboratories=_first(pair for d in ordered for pair in d.laboratories),
        assessments=_grouped(pair for d in ordered for pair in d.assessments),
        controls=_grouped(pair for d in ordered for pair in d.controls),
        clinicians=_first((c.id, c) for d in ordered for c in d.clinicians),
        regions=_first((r.region, r) for d in ordered for r in d.regions),
        agreements=_first(pair for d in ordered for pair in d.agreements),
        mappings=_grouped(pair for d in ordered for pair in d.mappings),
    )


_SNAPSHOTS: dict[tuple[bytes, ...], Policy] = {}
_CATALOGUES: dict[bytes, Catalogue] = {}
_KEPT = 16


def policy_at(state: Reader, lines: tuple[Line, ...], now: int) -> Policy:
    """The policy in force at `now` by the loaded `lines` (relay.contracts.policy.loaded.index)."""
    current = in_force(lines, now)
    digests = tuple(line.digest for line in current)
    found = _SNAPSHOTS.get(digests)
    if found is None:
        found = merge(document(state, digest) for digest in digests)
        if len(_SNAPSHOTS) >= _KEPT:
            _SNAPSHOTS.clear()
        _SNAPSHOTS[digests] = found
    return found


def catalogues_at(
    state: Reader, lines: tuple[Line, ...], names: Iterable[str], now: int
) -> list[Catalogue]:
    """The catalogues of those names that were in force at `now`, in the order of `names`."""
    only = tuple(line for line in lines if line.kind is Kind.CATALOGUE)
    current = {line.name: line.digest for line in in_force(only, now)}
    found = []
    for name in names:
        digest = current.get(name)
        if digest is None:
            continue
        parsed = _CATALOGUES.get(digest)
        if parsed is None:
            parsed = _catalogue(document(state, digest))
            if len(_CATALOGUES) >= 4 * _KEPT:
                _CATALOGUES.clear()
            _CATALOGUES[digest] = parsed
        found.append(parsed)
    return found
