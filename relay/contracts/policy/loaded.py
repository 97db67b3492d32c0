"""Which policy documents are loaded, which is in force at a moment, and loading one more.

Keys (all written once; a document is activated by the entry that writes its index line):

    policy/<sha256 of the document>                 the document
    policy-index/<kind>/<name>/<version, 8 digits>  {digest, effective_from, kind, name, version}

Of each (kind, name) the version with the greatest `effective_from` not after t is in force at t.
Versions ascend and so do their `effective_from`, hence loading never changes what was in force
before both. A decision records the versions it used; they stay readable for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts.base import Reader, everything
from relay.contracts.payloads import fields
from relay.contracts.payloads.decision import MAX_VERSIONS
from relay.contracts.policy.documents import MAX_POLICY_BYTES, names_of, parse_document
from relay.contracts.policy.values import Document, Kind
from relay.errors import NotFound, Reason, Refused

MAX_DOCUMENTS = 2000
"""Versions of all kinds and names that one relay holds."""
MAX_NAMES = MAX_VERSIONS
"""Documents of all kinds without their versions: a decision names each that is in force."""
_INDEX = b"policy-index/"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the index."""

    kind: Kind
    name: str
    version: int
    effective_from: int
    digest: bytes

    @property
    def label(self) -> str:
        """How decisions name it: kind/name@version."""
        return f"{self.kind}/{self.name}@{self.version}"


def document_key(digest: bytes) -> bytes:
    """Where a document is written."""
    return b"policy/" + digest.hex().encode()


def _index_key(document: Document) -> bytes:
    return _INDEX + f"{document.kind}/{document.name}/{document.version:08d}".encode()


@lru_cache(maxsize=64)
def _lines(values: tuple[bytes, ...]) -> tuple[Line, ...]:
    found = []
    for value in values:
        body = fields.document(value)
        found.append(
            Line(
                fields.word(body, "kind", Kind),
                fields.name(body, "name"),
                fields.integer(body, "version"),
                fields.integer(body, "effective_from"),
                fields.octets(body, "digest"),
            )
        )
    return tuple(found)


def index(state: Reader) -> tuple[Line, ...]:
    """Every loaded version, in order of kind, name and version."""
    return _lines(tuple(value for _, value in everything(state, _INDEX, MAX_DOCUMENTS)))


def in_force(lines: tuple[Line, ...], now: int) -> tuple[Line, ...]:
    """The version of each (kind, name) that is in force at `now`, in the same order."""
    found: dict[tuple[Kind, str], Line] = {}
    for line in lines:  # ascending by version, and so by effective_from
        if line.effective_from <= now:
            found[line.kind, line.name] = line
    return tuple(found.values())


_MEMO: dict[bytes, Document] = {}
_MEMO_SIZE = 128


def document(state: Reader, digest: bytes) -> Document:
    """The parsed document of that digest. Raises NotFound(POLICY_NOT_FOUND).

    The memo is keyed by the digest of the bytes, so it says nothing that the state does not.
    """
    found = _MEMO.get(digest)
    if found is None:
        raw = state.get(document_key(digest))
        if raw is None:
            raise NotFound(Reason.POLICY_NOT_FOUND, "no such policy document", digest=digest.hex())
        found = parse_document(raw)
        if len(_MEMO) >= _MEMO_SIZE:
            _MEMO.clear()
        _MEMO[digest] = found
    return found


def load(state: State, raw: bytes) -> Json:
    """Writes a policy document once; what `call("policy.load")` does. Returns its index line.

    Raises Malformed, Invalid(WEAK_KEY), Refused(LIMIT_EXCEEDED) for more documents than MAX_NAMES
    or versions than MAX_DOCUMENTS, Refused(PATH_WRITTEN) where that version was loaded with
    other content, Refused(CONFLICT) where versions or their dates do not ascend or where another
    document of the kind, in its latest version, names the same thing.
    """
    parsed = parse_document(raw)
    digest = sha256(raw).digest()
    lines = index(state)
    line: Json = {
        "digest": digest.hex(),
        "effective_from": parsed.effective_from,
        "kind": parsed.kind.value,
        "name": parsed.name,
        "version": parsed.version,
    }
    if state.get(_index_key(parsed)) is None:
        if len(lines) >= MAX_DOCUMENTS:
            raise Refused(Reason.LIMIT_EXCEEDED, f"a relay holds {MAX_DOCUMENTS} policy documents")
        names = {(line.kind, line.name) for line in lines} | {(parsed.kind, parsed.name)}
        if len(names) > MAX_NAMES:
            raise Refused(
                Reason.LIMIT_EXCEEDED,
                f"a decision names {MAX_NAMES} policy documents at most",
                hint="put what is to be added into the next version of another document",
            )
        _check_order(parsed, lines)
        _check_overlap(state, parsed, lines)
    elif state.get(_index_key(parsed)) != encode(line):
        raise Refused(
            Reason.PATH_WRITTEN,
            f"{parsed.label} is loaded already, with other content",
            hint="a loaded version never changes: raise `version`",
        )
    state.put(_index_key(parsed), encode(line))
    state.put(document_key(digest), raw)
    return line


def _check_order(parsed: Document, lines: tuple[Line, ...]) -> None:
    for line in lines:
        if (line.kind, line.name) != (parsed.kind, parsed.name):
            continue
        if line.version >= parsed.version or line.effective_from > parsed.effective_from:
            raise Refused(
                Reason.CONFLICT,
                f"{line.label} is loaded already, in force from {line.effective_from}",
                hint="raise version, and let effective_from not lie before the last one's",
            )


def _check_overlap(state: State, parsed: Document, lines: tuple[Line, ...]) -> None:
    """Two documents must not speak of one institution, person or region."""
    latest = {
        line.name: line for line in lines if line.kind is parsed.kind and line.name != parsed.name
    }
    mine = _names(parsed)
    for line in latest.values():
        both = mine & _names(document(state, line.digest))
        if both:
            raise Refused(
                Reason.CONFLICT,
                f"{line.label} speaks of the same {parsed.kind}",
                hint="name each institution, person, region and code in one document only",
                example=min(map(str, both)),
            )


def _names(parsed: Document) -> frozenset[object]:
    """What one document alone may speak of. Not what catalogues hold, since a regional rule says in
    which order they count, and not assessments, which add up."""
    rows = (
        ("institution", parsed.institutions),
        ("laboratory", parsed.laboratories),
        ("clinician", parsed.clinicians),
        ("region", parsed.regions),
        ("agreement", parsed.agreements),
        ("mapping", parsed.mappings),
    )
    return frozenset((what, names_of(value)) for what, values in rows for value in values)


def read(state: Reader, kind: str, name: str, version: int) -> bytes:
    """The bytes of one loaded document. Raises NotFound(POLICY_NOT_FOUND)."""
    for line in index(state):
        if (line.kind, line.name, line.version) == (kind, name, version):
            raw = state.get(document_key(line.digest))
            if raw is not None:
                return raw
    raise NotFound(Reason.POLICY_NOT_FOUND, f"policy {kind}/{name}@{version} is not loaded")


__all__ = [
    "MAX_DOCUMENTS",
    "MAX_POLICY_BYTES",
    "Line",
    "document",
    "document_key",
    "in_force",
    "index",
    "load",
    "read",
]
