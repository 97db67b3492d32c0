"""Where references of received resources lead, by FHIR R4's rules (`Bundle`, resolving references).

A *scope* is one Bundle, or all lines and single files of one intake together (bulk exports put
each resource type in its own NDJSON file). Bundles never share a scope: two hospitals number
their resources alike, and a report must not pick up another hospital's result.

In order: `#id` is contained in the same part; an absolute URL or `urn:uuid:` is an entry's fullUrl;
`Type/id` is the base of the referring entry's fullUrl with it, else the one resource of that type
and id in the scope. A `/_history/v` must be the found resource's meta.versionId. Two resources that
answer to one name are refused when something refers to it, never chosen between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from relay.errors import Invalid, Reason

_RELATIVE = re.compile(
    r"([A-Z][A-Za-z]{1,63}/[A-Za-z0-9.\-]{1,64})(?:/_history/([A-Za-z0-9.\-]{1,64}))?"
)
_HISTORY = re.compile(r"(.+)/_history/([A-Za-z0-9.\-]{1,64})")
_RESTFUL = re.compile(r"(https?://.+/)[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.\-]{1,64}(?:/_history/.+)?")


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """A received resource: its strict reading, its exact bytes, and where it was found."""

    resource: dict[str, Any]
    content: bytes
    where: str
    url: str = ""
    """The entry's fullUrl, in a Bundle."""

    @property
    def kind(self) -> str:
        """Its resourceType, or nothing where it has none."""
        kind = self.resource.get("resourceType")
        return kind if isinstance(kind, str) else ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference leads to: a part, and the resource in it (its own, or a contained one)."""

    located: Located
    resource: dict[str, Any]


@dataclass(slots=True)
class Scope:
    """The resources that may refer to each other."""

    found: list[Located] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    """id() of every resource that something referred to."""
    _urls: dict[str, list[Located]] = field(default_factory=dict)
    _names: dict[str, list[Located]] = field(default_factory=dict)

    def add(self, located: Located) -> None:
        """Makes a resource known under its fullUrl and its type and id."""
        self.found.append(located)
        if located.url:
            self._urls.setdefault(located.url, []).append(located)
        identity = located.resource.get("id")
        if isinstance(identity, str):
            self._names.setdefault(f"{located.kind}/{identity}", []).append(located)

    def resolve(self, reference: str, source: Target, field_name: str) -> Target | None:
        """Where `reference`, standing in `source`, leads; None where it leads out of the scope.

        Raises Invalid(RECORD_INVALID) where it dangles for certain (`#id`, `urn:`) or is ambiguous.
        """
        where = source.located.where
        if reference.startswith("#"):
            return Target(source.located, _contained(source.located, reference[1:], field_name))
        if reference.startswith("urn:"):
            located = self._one(self._urls.get(reference), None, where, field_name)
            if located is None:
                raise dangling(where, field_name)
        else:
            located = self._literal(reference, source.located, field_name)
        if located is None:
            return None
        self.used.add(id(located))
        return Target(located, located.resource)

    def _literal(self, reference: str, source: Located, field_name: str) -> Located | None:
        where = source.where
        if match := _RELATIVE.fullmatch(reference):
            name, version = match.groups()
            base = _RESTFUL.fullmatch(source.url)
            if base and (near := self._urls.get(base.group(1) + name)):
                return self._one(near, version, where, field_name)
            return self._one(self._names.get(name), version, where, field_name)
        if match := _HISTORY.fullmatch(reference):
            return self._one(self._urls.get(match.group(1)), match.group(2), where, field_name)
        return self._one(self._urls.get(reference), None, where, field_name)

    def _one(
        self, found: list[Located] | None, version: str | None, where: str, field_name: str
    ) -> Located | None:
        if version is not None:
            found = [f for f in found or () if _version(f.resource) == version]
        if not found:
            return None
        if len(found) > 1:
            raise Invalid(
                Reason.RECORD_INVALID,
                f"{field_name} refers to a name that several resources have",
                hint=f"{where}: give them distinct ids, or put each report in a Bundle of its own",
                field=field_name,
            )
        return found[0]


def _version(resource: dict[str, Any]) -> str | None:
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return version if isinstance(version, str) else None


def _contained(located: Located, identity: str, field_name: str) -> dict[str, Any]:
    if not identity:
        return located.resource
    inner = located.resource.get("contained")
    found = [
        item
        for item in (inner if isinstance(inner, list) else ())
        if isinstance(item, dict) and item.get("id") == identity
    ]
    if len(found) != 1:
        raise dangling(located.where, field_name)
    return found[0]


def dangling(where: str, field_name: str) -> Invalid:
    """The error for a reference that leads nowhere."""
    return Invalid(
        Reason.RECORD_INVALID,
        f"{field_name} refers to a resource that was not handed over",
        hint=f"{where}: hand over the report together with what it references, as a Bundle",
        field=field_name,
    )
