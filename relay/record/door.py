"""The FHIR door: received bytes in, records or typed refusals out. Nothing enters but through it.

A source is one JSON resource, one Bundle, or NDJSON (each line a resource or a Bundle); which one
is told by the bytes and not by the name. A *record* is a DiagnosticReport with the resources it
references; its parts are the exact bytes received (whole file, line, or substring of the Bundle
entry), since those are what is hashed. FHIR is parsed here and never in a contract (DESIGN §5).

    sources → strict JSON (strict) → scopes (scope) → per report: parts in order of reference,
    structure and bindings of each (structure, bindings) → facts (extract) → Record

What a report references, and what must be there (README.md has the table and the reasons):
*content* (result, specimen, media, hasMember) must be handed over, *origin* (performer, device,
derivedFrom) is taken along where it is there, and the *person* (subject, encounter, basedOn) is
read for the patient's identifiers and never made a part.

A refusal concerns one report, or one source where that cannot be read; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import Invalid, LianqiaoError, Malformed, Reason
from relay.record.bindings import check_bindings
from relay.record.extract import extract
from relay.record.facts import Part, Record
from relay.record.links import Link, is_part, links
from relay.record.scope import Located, Scope, Target, dangling
from relay.record.strict import Scanner, is_whole, text_of
from relay.record.structure import check_structure

MAX_SOURCE_BYTES = 64 * 1024 * 1024
MAX_PART_BYTES = 4 * 1024 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024
MAX_PARTS = 512
"""Resources in one record."""
MAX_RESOURCES = 100_000
"""Resources in one source."""


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes and what to call them in errors (a file name; never shown to other institutions)."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """One report, or one source, that was not taken, and why."""

    where: str
    error: LianqiaoError


@dataclass(frozen=True, slots=True)
class Intake:
    """What one call of `take` found; records in the order received."""

    records: tuple[Record, ...]
    refused: tuple[Refusal, ...]


def take(sources: Iterable[Source], schemes: Sequence[str] = ()) -> Intake:
    """Reads every record in `sources`; what is wrong is in `refused` and stops nothing else.

    `schemes` orders patient identifiers: the first scheme listed that a patient has is used first.
    A source with no DiagnosticReport is refused too, unless its resources serve another's report.
    """
    loose = Scope()
    scopes, refused, silent = [loose], [], {}
    for source in sources:
        try:
            bundles, singles = _read(source)
        except LianqiaoError as error:
            refused.append(Refusal(source.name, error))
            continue
        scopes += bundles
        for located in singles:
            loose.add(located)
        everything = [*singles, *(located for bundle in bundles for located in bundle.found)]
        if all(located.kind != "DiagnosticReport" for located in everything):
            silent[source.name] = {id(located) for located in everything}
    found: list[Record] = []
    for scope in scopes:
        for report in (located for located in scope.found if located.kind == "DiagnosticReport"):
            try:
                found.append(_record(scope, report, schemes))
            except LianqiaoError as error:
                refused.append(Refusal(report.where, error))
    refused += [
        Refusal(name, _no_report(name))
        for name, resources in silent.items()
        if resources.isdisjoint(loose.used)
    ]
    return Intake(tuple(found), tuple(refused))


def records(sources: Iterable[Source], schemes: Sequence[str] = ()) -> tuple[Record, ...]:
    """Every record in `sources`, or the first refusal raised.

    Raises Malformed (MALFORMED, LIMIT_EXCEEDED) and Invalid(RECORD_INVALID), each with a hint that
    names source and position.
    """
    intake = take(sources, schemes)
    if intake.refused:
        raise intake.refused[0].error
    return intake.records


def record(data: bytes, name: str, schemes: Sequence[str] = ()) -> Record:
    """The one record in `data`. Raises as `records`, and RECORD_INVALID where there are several."""
    found = records((Source(name, data),), schemes)
    if len(found) != 1:
        raise Invalid(
            Reason.RECORD_INVALID, f"{len(found)} reports where one was asked for", hint=name
        )
    return found[0]


def _no_report(name: str) -> Invalid:
    return Invalid(
        Reason.RECORD_INVALID,
        "holds no DiagnosticReport",
        hint=f"{name}: a record is a DiagnosticReport and the resources it references",
    )


def _read(source: Source) -> tuple[list[Scope], list[Located]]:
    """The Bundles (each a scope) and the single resources of one source. Raises Malformed."""
    if len(source.data) > MAX_SOURCE_BYTES:
        raise Malformed(
            f"longer than {MAX_SOURCE_BYTES} bytes",
            reason=Reason.LIMIT_EXCEEDED,
            hint=f"{source.name}: hand it over in several files",
        )
    bundles: list[Scope] = []
    lines: list[Located] = []
    count = 0
    for where, data, text in _documents(source):
        kind = _kind(Scanner(text, where))
        if kind == "Bundle":
            bundles.append(_bundle(Scanner(text, where), where))
            count += len(bundles[-1].found)
        else:
            scanner = Scanner(text, where)
            value = scanner.value()
            scanner.end()
            lines.append(_located(value, data, where))
            count += 1
        if count > MAX_RESOURCES:
            raise _too_many(source.name)
    return bundles, lines


def _documents(source: Source) -> Iterator[tuple[str, bytes, str]]:
    """(where, bytes, text) of the one document of a source, or of each line of NDJSON.

    NDJSON is told by its first line being a whole object, with more lines to follow.
    """
    text = text_of(source.data, source.name)
    first, _, rest = text.partition("\n")
    if not rest.strip() or not is_whole(first):
        yield source.name, source.data, text
        return
    for number, line in enumerate(source.data.split(b"\n"), 1):
        data = line.removesuffix(b"\r")
        if data.strip():
            yield f"{source.name}: line {number}", data, data.decode()


def _kind(scanner: Scanner) -> str:
    """The resourceType of the object that begins here; reads no further than that."""
    if scanner.peek() != "{":
        raise scanner.fail("a FHIR resource is a JSON object")
    for key in scanner.members():
        value = scanner.value()
        if key == "resourceType":
            return value if isinstance(value, str) else ""
    return ""


def _located(value: Any, content: bytes, where: str, url: str = "") -> Located:
    if not isinstance(value, dict):
        raise Malformed("a FHIR resource is a JSON object", hint=where)
    if len(content) > MAX_PART_BYTES:
        raise Malformed(
            f"a resource is longer than {MAX_PART_BYTES} bytes",
            reason=Reason.LIMIT_EXCEEDED,
            hint=where,
        )
    return Located(value, content, where, url)


def _too_many(where: str) -> Malformed:
    return Malformed(
        f"more than {MAX_RESOURCES} resources", reason=Reason.LIMIT_EXCEEDED, hint=where
    )


def _bundle(scanner: Scanner, where: str) -> Scope:
    """Walks a Bundle and takes each entry's resource by its exact substring."""
    scope, shell = Scope(), dict[str, Any]()
    for key in scanner.members():
        if key != "entry":
            shell[key] = scanner.value()
            continue
        for index in scanner.elements():
            if index >= MAX_RESOURCES:
                raise _too_many(where)
            located = _entry(scanner, f"{where}: entry[{index}]")
            if located is not None:
                scope.add(located)
    scanner.end()
    check_bindings(shell, where)
    if "type" not in shell:
        raise Invalid(
            Reason.RECORD_INVALID, "Bundle.type is missing", hint=where, field="Bundle.type"
        )
    return scope


def _entry(scanner: Scanner, where: str) -> Located | None:
    url, resource, content = "", None, b""
    for key in scanner.members():
        begin = scanner.at
        value = scanner.value()
        if key == "fullUrl":
            if not isinstance(value, str):
                raise scanner.fail("fullUrl is not a string", Reason.MALFORMED, begin)
            url = value
        elif key == "resource":
            resource, content = value, scanner.text[begin : scanner.at].encode()
    return None if resource is None else _located(resource, content, where, url)


@dataclass(slots=True)
class _Walk:
    """The parts and resources of one report, found breadth first in order of reference."""

    scope: Scope
    parts: list[Located]
    order: dict[int, int]
    """id() of a part → its index."""
    targets: list[Target]
    size: int = 0

    def visit(self, target: Target) -> None:
        """Takes the part that `target` lies in, checked. Raises Invalid and Malformed."""
        part = target.located
        if id(part) in self.order:
            return
        check_structure(part.resource, part.content, part.where)
        self.order[id(part)] = len(self.parts)
        self.parts.append(part)
        self.size += len(part.content)
        if len(self.parts) > MAX_PARTS or self.size > MAX_RECORD_BYTES:
            raise Malformed(
                f"a record has at most {MAX_PARTS} parts and {MAX_RECORD_BYTES} bytes",
                reason=Reason.LIMIT_EXCEEDED,
                hint=self.parts[0].where,
            )

    def follow(self, source: Target, link: Link) -> Target | None:
        """Where a link leads, or None where it may lead out. Raises Invalid(RECORD_INVALID)."""
        literal = link.reference.get("reference")
        found = None
        if isinstance(literal, str):
            found = self.scope.resolve(literal, source, link.field)
        elif not link.literal:
            return None
        if found is None:
            if link.required:
                raise dangling(source.located.where, link.field)
            return None
        kind = found.resource.get("resourceType")
        if link.kinds and kind not in link.kinds:
            raise Invalid(
                Reason.RECORD_INVALID,
                f"{link.field} refers to a resource of another type",
                hint=f"{source.located.where}: one of {', '.join(link.kinds)}",
                field=link.field,
            )
        return found if is_part(kind) else None


def _record(scope: Scope, report: Located, schemes: Sequence[str]) -> Record:
    """One report with its parts, checked and read. Raises Invalid and Malformed."""
    walk = _Walk(scope, [], {}, [Target(report, report.resource)])
    seen = {id(report.resource)}
    for target in walk.targets:  # grows while it is walked
        walk.visit(target)
        for link in links(target.resource):
            found = walk.follow(target, link)
            if found is not None and id(found.resource) not in seen:
                seen.add(id(found.resource))
                walk.targets.append(found)
    facts = extract(scope, walk.targets, walk.order, schemes)
    return Record(
        parts=tuple(Part(p.kind, p.content, p.where) for p in walk.parts),
        items=facts.items,
        status=facts.status,
        codes=facts.codes,
        issued=facts.issued,
        patient=facts.patient,
    )
