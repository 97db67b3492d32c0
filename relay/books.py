"""Books: everything that a money contract has written on one chain, proven under a verified head.

A file of books is what an auditor takes away: raw headers from the head that he trusts, every
record of the contract, and the proofs that each is written. It is verified with a trust file alone,
with no network and no node. Nothing in it is believed before `verify_books` has returned.

What it cannot show is the absence of what its node kept back: the newest lines of an account, or
a deposit. What has to do with a settlement cannot be kept back unseen by one side, since every
record of it follows from those on the other chains (relay.reconcile).

    {"version": 1, "books": [{chain_id, port, height, headers, records: [[key, value], …],
                              proofs: [[count, proof], …]}, …]}

Where a chain of another kind keeps the books, it does not write these records. Then `records` are
what was done to them in order, under BE64 numbers from 1: whoever verifies does it again, by the
chain's Bookkeeper (entry points `lianqiao.books`, by client type), and holds what it comes to
against what the chain's own state says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from relay import canonical
from relay.canonical import Json
from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT, fields
from relay.errors import Invalid, Malformed, Reason
from relay.light.client import verify_header
from relay.light.types import Claim, ClientState, ClientType, ConsensusState
from relay.packet import be64
from relay.paths import record_path
from relay.trust import Trust

PROOF_RECORDS = 500
"""Records under one proof."""
MAX_BOOKS_BYTES = 512 * 1024 * 1024
MAX_RECORDS = 4_000_000
_VERSION = 1
_LENGTH = 2**31


@dataclass(frozen=True, slots=True)
class Books:
    """As received: nothing of it is verified."""

    chain_id: str
    """As in the trust file, with its epoch."""
    port: str
    height: int
    headers: tuple[bytes, ...]
    records: tuple[tuple[bytes, bytes], ...]
    """(key, value), ascending by key."""
    proofs: tuple[tuple[int, bytes], ...]
    """(how many of the records, in order; the proof of them)."""


class Bookkeeper(Protocol):
    """Does again what was done to the books of a chain that writes no records. Pure."""

    def records(
        self,
        state: ClientState,
        consensus: ConsensusState,
        steps: Sequence[bytes],
        proofs: Sequence[tuple[int, bytes]],
    ) -> tuple[dict[bytes, bytes], list[str]]:
        """(the records that the contract `escrow` makes of all steps, what the chain has otherwise,
        in words), under a verified header.

        Raises Malformed, Invalid(INVALID_PROOF), Invalid(BUNDLE_INCOMPLETE) for steps that are not
        all of them.
        """
        ...


@dataclass(frozen=True, slots=True)
class StepsProven:
    """What proves the steps of books that a chain of another kind keeps; nothing is verified."""

    height: int
    headers: tuple[bytes, ...]
    steps: int
    """How many there are at that height."""
    proofs: tuple[tuple[int, bytes], ...]
    """(words that it proves, proof)."""


@runtime_checkable
class KeptElsewhere(Protocol):
    """A node before a chain of another kind, which keeps its books."""

    def steps(self, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """(number, step) of what was done to the books, above `after`, in order."""
        ...

    def prove_steps(self, trusted_height: int) -> StepsProven:
        """Proves all of them as of now. Raises Refused(CONFIG_INVALID), Unavailable."""
        ...


class Records:
    """Keys and values in memory; a Reader (relay.contract)."""

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self._records = records
        self._keys = sorted(records)

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: bytes) -> bytes | None:
        """The value written at `key`, or None."""
        return self._records.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """(key, value) pairs under `prefix`, greater than `after`, in byte order."""
        start = bisect_left(self._keys, prefix)
        if after:
            start = max(start, bisect_right(self._keys, after))
        found = []
        for key in self._keys[start : start + limit]:
            if not key.startswith(prefix):
                break
            found.append((key, self._records[key]))
        return found

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The pair with the greatest key under `prefix`, or None."""
        place = bisect_left(self._keys, prefix + b"\xff") - 1
        if place < 0 or not self._keys[place].startswith(prefix):
            return None
        return self._keys[place], self._records[self._keys[place]]


class Proven(Records):
    """Verified records of one contract."""

    def __init__(
        self,
        chain_id: str,
        port: str,
        height: int,
        time: int,
        records: dict[bytes, bytes],
        findings: Sequence[str] = (),
    ) -> None:
        super().__init__(records)
        self.chain_id = chain_id
        """Without the epoch."""
        self.port, self.height, self.time = port, height, time
        self.findings = tuple(findings)
        """What the chain itself says otherwise than these records."""


_NOBODY: Mapping[str, Bookkeeper] = {}


def verify_books(
    books: Books,
    trust: Trust,
    client_types: Callable[[str], ClientType],
    now: int,
    bookkeepers: Mapping[str, Bookkeeper] = _NOBODY,
) -> Proven:
    """The records, each proven under a head that follows from the trusted one.

    `bookkeepers`: of chains that write no records, by client type. Raises Malformed,
    NotFound(TRUST_MISSING), Invalid (INVALID_PROOF, INVALID_SIGNATURE …), Refused (CLIENT_EXPIRED
    …), Invalid(BUNDLE_INCOMPLETE) for a record without a proof.
    """
    trusted = trust.chain(books.chain_id)
    kind, state, consensus = client_types(trusted.state.client_type), trusted.state, trusted.anchor
    for raw in books.headers:
        consensus = verify_header(kind, state, consensus, kind.decode_header(raw), now)
    if consensus.height != books.height:
        raise Invalid(Reason.BUNDLE_INCOMPLETE, "the headers do not lead to the books' height")
    if any(a >= b for (a, _), (b, _) in zip(books.records, books.records[1:], strict=False)):
        raise Invalid(Reason.NOT_CANONICAL, "the books' records do not ascend, each once")
    chain = books.chain_id.rpartition("/")[0] or books.chain_id
    keeper = bookkeepers.get(state.client_type)
    if keeper is not None:
        steps = [value for _, value in books.records]
        if [key for key, _ in books.records] != [be64(n) for n in range(1, len(steps) + 1)]:
            raise Invalid(Reason.BUNDLE_INCOMPLETE, "the steps of the books are not numbered")
        records, findings = keeper.records(state, consensus, steps, books.proofs)
        return Proven(chain, books.port, books.height, consensus.time, records, findings)
    start = 0
    for count, proof in books.proofs:
        part = books.records[start : start + count]
        claims = [Claim(record_path(books.port, key), value) for key, value in part]
        kind.verify_membership(state, consensus, proof, claims)
        start += count
    if start != len(books.records):
        raise Invalid(Reason.BUNDLE_INCOMPLETE, "a record of the books is not proven")
    return Proven(chain, books.port, books.height, consensus.time, dict(books.records))


def encode_books(each: Sequence[Books]) -> bytes:
    """The file, RFC 8785."""
    found: list[Json] = [
        {
            "chain_id": one.chain_id,
            "headers": [raw.hex() for raw in one.headers],
            "height": one.height,
            "port": one.port,
            "proofs": [[count, proof.hex()] for count, proof in one.proofs],
            "records": [[key.hex(), value.hex()] for key, value in one.records],
        }
        for one in each
    ]
    return canonical.encode({"books": found, "version": _VERSION})


def decode_books(raw: bytes) -> tuple[Books, ...]:
    """Raises Malformed."""
    body = fields.members(fields.document(raw, MAX_BOOKS_BYTES), ("books", "version"), "books")
    if body["version"] != _VERSION:
        raise Malformed("books of another version", reason=Reason.UNSUPPORTED_VERSION)
    return fields.sequence(body, "books", _read, 256)


def _read(value: Json) -> Books:
    names = fields.names("chain_id port height headers records proofs")
    body = fields.members(value, names, "books")
    chain_id, port = body["chain_id"], fields.name(body, "port")
    if type(chain_id) is not str or len(chain_id) > 128:
        fields.refuse("chain_id", "must be a chain's id")
    if port not in (ESCROW_PORT, SETTLEMENT_PORT):
        fields.refuse("port", f"must be {ESCROW_PORT} or {SETTLEMENT_PORT}")
    return Books(
        chain_id,
        port,
        fields.integer(body, "height", 1),
        fields.sequence(body, "headers", lambda v: _hex(v, "headers"), 100_000),
        fields.sequence(body, "records", _pair, MAX_RECORDS),
        fields.sequence(body, "proofs", _proof, MAX_RECORDS),
    )


def _hex(value: Json, field: str) -> bytes:
    return fields.octets({field: value}, field, 0, _LENGTH)


def _pair(value: Json) -> tuple[bytes, bytes]:
    if type(value) is not list or len(value) != 2:
        fields.refuse("records", "must be pairs of key and value")
    return _hex(value[0], "key"), _hex(value[1], "value")


def _proof(value: Json) -> tuple[int, bytes]:
    if type(value) is not list or len(value) != 2:
        fields.refuse("proofs", "must be pairs of count and proof")
    return fields.integer({"count": value[0]}, "count", 1, MAX_RECORDS), _hex(value[1], "proof")
