"""What a relayer does about a chain that shows two histories: it compares, proves it, and tells.

Whoever is shown only one history cannot see that there are two. A relayer sees more than any one
client: each header that it carries, what its node's clients of the same chain have verified, what
the clients of the chains that it reaches have verified, where those can be asked, and what its node
and those chains have co-signed as witnesses, which no client need ever have been shown. So

1. each header carried to a client here is compared with what every client here of that chain has
   verified: at the same height another header, below it a later time, above it an earlier one;
2. where a client refuses a header, the chain is asked for the heights that were verified before: a
   chain that contradicts itself shows it there;
3. now and then (COMPARE_SECONDS) the newest heads that clients elsewhere have verified of a chain,
   and that witnesses have co-signed, are compared in the same way, those of this node's own chain
   too. Where no client here has that height, the chain is asked for it.

What contradicts is two signed headers: evidence. It is given to every client of that chain that the
relayer reaches, each of which verifies it for itself, and kept for `lianqiao clients accuse`. Who
does not answer is told again with each comparison, also by a relayer that was started anew: what
froze a client here is on the journal. What
another node says of a head is a claim: where no client finds that both were signed, nothing is kept
and nobody is accused, and who claims too much of that kind is heard again at the next comparison.
Nothing here is trusted or needed for safety: a client accepts no second history anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol, runtime_checkable

import structlog

from relay.chain import Chain
from relay.errors import Conflict, Exhausted, LianqiaoError, Unavailable
from relay.journal import Kind, host_path
from relay.light.misbehaviour import Evidence, contradiction, encode_evidence
from relay.light.states import decode_client_state
from relay.light.types import ClientState, ClientType, Header
from relay.packet import be64
from relay.store import ClientRow, Store
from relay.store.lookups import all_clients, nearest_headers

COMPARE_SECONDS = 60
MAX_HEADS = 100
"""Heads that one chain is asked for in one comparison."""
MAX_REFUSED = 4
"""Heads of one chain, told by one other, whose contradiction no client takes; the rest wait."""
MAX_SAME = 1000
MAX_JUDGED = 10_000
"""Clients that are remembered to have judged evidence; after that they are asked once more."""
_log = structlog.get_logger("lianqiao.watch")

Submit = Callable[[str, bytes], object]
Keep = Callable[[str, bytes], object]
"""Keeps evidence against a chain: (chain id with its epoch, evidence)."""


@dataclass(frozen=True, slots=True)
class VerifiedHead:
    """The newest header that a client has verified, or that its node has co-signed of its chain."""

    client_id: str
    header: bytes
    frozen: bool = False
    cosigned: bool = False
    """True: by the node as a witness. The client need not have been shown it."""


@runtime_checkable
class KnowingChain(Protocol):
    """What a chain may offer besides relay.chain.Chain: what its clients know of other chains."""

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """The newest header of each of its clients that follow one of `chain_ids` (with epochs),
        and the head of each of these that it has co-signed last."""
        ...

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """Gives evidence to a client, which verifies it. Raises NOT_MISBEHAVIOUR."""
        ...


_Reached = tuple[Chain, Sequence[VerifiedHead]]
"""A chain, and the heads that it told."""


@dataclass(frozen=True, slots=True)
class _Followed:
    """A client here."""

    row: ClientRow
    state: ClientState
    type: ClientType


class Watch:
    """Compares headers for one node. Thread-safe: what it remembers only saves it work."""

    def __init__(
        self,
        store: Store,
        local: Chain,
        types: Mapping[str, ClientType],
        remotes: Callable[[], Sequence[tuple[str, Chain]]],
        behind: Callable[[str], Chain | None],
        submit: Submit,
        keep: Keep,
    ) -> None:
        """`remotes` gives (client id here, chain) of each lane that works, `behind` the chain of a
        lane whether it works or not; `submit` gives evidence to a client here."""
        self._store = store
        self._local = local
        self._types = types
        self._remotes = remotes
        self._behind = behind
        self._submit = submit
        self._keep = keep
        self._same: dict[tuple[str, int], bytes] = {}
        """(chain id, height) -> hash of the header found to be the same everywhere."""
        self._told: set[bytes] = set()
        self._proven: dict[str, bytes] = {}
        """Chain id -> evidence that a client took."""
        self._judged: set[tuple[bytes, str, str]] = set()
        """(hash of evidence, chain, client id) of each client that has judged it."""

    @cached_property
    def _usable(self) -> Mapping[str, ClientType]:
        """The types that load: of what is not installed there is no client here, and nothing to
        compare."""
        found = {}
        for name in self._types:
            with suppress(LianqiaoError):
                found[name] = self._types[name]
        return found

    # --- 1, 2

    def carried(self, client_id: str, headers: Sequence[bytes], refused: bool) -> None:
        """Looks at headers that were just given to a client of this node."""
        chain_id = next((r.chain_id for r in self._rows() if r.client_id == client_id), "")
        followed = self._followed(chain_id)
        if len(followed) < 2 and not refused:
            return  # its one client has compared them with all that is known here
        found = any(self._compare(followed, chain_id, raw) for raw in headers)
        if refused and not found:
            for height in sorted({f.row.latest_height for f in followed}):
                # It has just brought that header, whatever has stopped its lane before.
                raw = self._ask(client_id, followed, height, self._behind(client_id))
                if raw is not None and self._compare(followed, chain_id, raw):
                    return

    # --- 3

    def look_around(self) -> None:
        """Compares the newest heads that clients elsewhere have verified, and that witnesses have
        co-signed, with what is known here.

        A chain that does not answer now is asked the next time.
        """
        remotes = self._remotes()
        chains = {row.chain_id for row in self._rows()} | {self._own_origin()}
        followed = {chain_id: self._followed(chain_id) for chain_id in sorted(chains - {""})}
        # What the clients here have verified is in the store, and is compared with in any case.
        own = [head for head in _heads_of(self._local, followed) if head.cosigned]
        found_at = [(remote, _heads_of(remote, followed)) for _, remote in remotes]
        self._tell_again(found_at)
        for heads in (own, *(heads for _, heads in found_at)):
            refused: Counter[str] = Counter()
            for head in heads:
                for chain_id in sorted(self._named(head.header) & followed.keys()):
                    if refused[chain_id] < MAX_REFUSED:
                        found = self._look(chain_id, followed[chain_id], head.header)
                        refused[chain_id] += found is False
        for chain_id, clients in followed.items():
            for one in clients:
                self._ask_the_others(chain_id, clients, one)

    def _look(self, chain_id: str, followed: Sequence[_Followed], raw: bytes) -> bool | None:
        """See `_contradict`."""
        found = self._compare(followed, chain_id, raw)
        header = self._decode(chain_id, raw)
        if found is not None or header is None:
            return found
        if self._same.get((chain_id, header.height)) == header.hash:
            return None
        asked = [self._ask(one.row.client_id, followed, header.height) for one in followed]
        if not followed:
            asked = [self._own_header(header)]
        for other in asked:
            if other is None:
                continue
            found = self._contradict(chain_id, raw, other)
            if found is not None:
                return found
            shown = self._decode(chain_id, other)
            if shown is not None and shown.hash == header.hash:
                self._remember(chain_id, header)
        return None

    def _ask_the_others(self, chain_id: str, all_: Sequence[_Followed], one: _Followed) -> None:
        """Each node of a chain that a lane reaches must show what a client has verified."""
        if len(all_) < 2:
            return
        for other in all_:
            if other is not one:
                raw = self._ask(other.row.client_id, all_, one.row.latest_height)
                if raw is not None:
                    self._compare(all_, chain_id, raw)

    # --- comparing

    def _compare(self, followed: Sequence[_Followed], chain_id: str, raw: bytes) -> bool | None:
        """Compares a header with what clients here have verified. See `_contradict`."""
        header = self._decode(chain_id, raw)
        if header is None:
            return None
        refused = None
        for one in followed:
            with self._store.reading() as tx:
                near = nearest_headers(tx, one.row.lineage, header.height)
            for row in near:
                found = self._contradict(chain_id, bytes(row.header), raw)
                if found:
                    return True
                refused = refused if found is None else found
        return refused

    def _contradict(self, chain_id: str, first: bytes, second: bytes) -> bool | None:
        """Whether two headers that contradict each other are evidence that some client takes; it
        is told then. None where they do not contradict each other."""
        for client_type in self._usable.values():
            one, other = (_decode(client_type, chain_id, raw) for raw in (first, second))
            if one is not None and other is not None and contradiction(client_type, one, other):
                evidence = encode_evidence(Evidence(first, second))
                return self._tell(chain_id, evidence, one.hash + other.hash)
        return None

    def _tell(self, chain_id: str, evidence: bytes, key: bytes) -> bool:
        """Gives evidence to every client of the chain that can be reached; whether one took it."""
        if key in self._told:
            return True
        reached = [(remote, _heads_of(remote, {chain_id})) for _, remote in self._remotes()]
        taken = self._give(chain_id, evidence, reached)
        if not taken:
            return False  # two headers, but nobody finds that they were signed
        self._told.add(key)
        self._proven[chain_id] = evidence
        self._keep(chain_id, evidence)
        _log.error("misbehaviour", chain_id=chain_id, clients=taken)
        return True

    def _tell_again(self, reached: Sequence[_Reached]) -> None:
        """Gives what was proven to every client that has not judged it yet: one that did not
        answer, or that was out of reach."""
        proven = dict(self._proven)
        with self._store.reading() as tx:
            for row in all_clients(tx):
                if row.frozen:
                    path = host_path(Kind.MISBEHAVIOUR, row.client_id, be64(row.frozen - 1))
                    evidence = tx.get(path)
                    assert evidence is not None, "what froze a client is on the journal"
                    proven.setdefault(row.chain_id, evidence)
        for chain_id, evidence in proven.items():
            self._give(chain_id, evidence, reached)

    def _give(self, chain_id: str, evidence: bytes, reached: Sequence[_Reached]) -> int:
        """Gives evidence to the clients of a chain here and at those who were asked for theirs;
        how many took it."""
        ways: list[tuple[str, Submit, str]] = [
            ("", self._submit, row.client_id)
            for row in self._rows()
            if row.chain_id == chain_id and not row.frozen
        ]
        for remote, heads in reached:
            if not isinstance(remote, KnowingChain):
                continue
            for head in heads:
                if not head.frozen and not head.cosigned and chain_id in self._named(head.header):
                    ways.append((remote.chain_id, remote.accuse, head.client_id))
        taken, digest = 0, sha256(evidence).digest()
        for where, submit, client_id in ways:
            if (digest, where, client_id) in self._judged:
                continue
            answer = _accepts(submit, client_id, evidence)
            taken += answer is True
            if answer is not None:
                if len(self._judged) >= MAX_JUDGED:  # a stranger may tell of new clients for ever
                    self._judged.clear()
                self._judged.add((digest, where, client_id))
        return taken

    # --- asking

    def _ask(
        self,
        client_id: str,
        followed: Sequence[_Followed],
        height: int,
        remote: Chain | None = None,
    ) -> bytes | None:
        """The header of a height, from the chain behind a client (by default: if its lane
        works)."""
        remote = remote or dict(self._remotes()).get(client_id)
        state = next((f.state for f in followed if f.row.client_id == client_id), None)
        if remote is None or state is None:
            return None
        try:
            return remote.headers(0, height, state.algorithm, state.witnesses)[-1]
        except (LianqiaoError, IndexError):
            return None

    def _own_header(self, header: Header) -> bytes | None:
        algorithm = header.signatures[0].algorithm if header.signatures else "ed25519"
        try:
            return self._local.headers(0, header.height, algorithm)[-1]
        except (LianqiaoError, IndexError):
            return None

    def _own_origin(self) -> str:
        try:
            raw = self._local.headers(0, self._local.latest_height())[-1]
        except (LianqiaoError, IndexError):
            return ""
        return next(iter(sorted(self._named(raw))), "")

    def _rows(self) -> list[ClientRow]:
        with self._store.reading() as tx:
            return all_clients(tx)

    def _followed(self, chain_id: str) -> list[_Followed]:
        rows = [row for row in self._rows() if row.chain_id == chain_id]
        return [
            _Followed(row, decode_client_state(bytes(row.state)), self._usable[row.client_type])
            for row in rows
            if row.client_type in self._usable
        ]

    def _decode(self, chain_id: str, raw: bytes) -> Header | None:
        found = (_decode(client_type, chain_id, raw) for client_type in self._usable.values())
        return next((header for header in found if header is not None), None)

    def _named(self, raw: bytes) -> set[str]:
        """The chain that a header names, where it is one."""
        found = (_decode(client_type, "", raw) for client_type in self._usable.values())
        return {header.chain_id for header in found if header is not None}

    def _remember(self, chain_id: str, header: Header) -> None:
        kept = list(self._same.items())[1 - MAX_SAME :]
        self._same = dict([*kept, ((chain_id, header.height), header.hash)])


def _decode(client_type: ClientType, chain_id: str, raw: bytes) -> Header | None:
    """A header of that chain (empty: of any), None where it is none."""
    try:
        header = client_type.decode_header(raw)
    except LianqiaoError:
        return None
    return header if chain_id in ("", header.chain_id) else None


def _heads_of(remote: Chain, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
    if not isinstance(remote, KnowingChain):
        return ()
    try:
        return remote.verified_heads(chain_ids)[:MAX_HEADS]
    except LianqiaoError:
        return ()


def _accepts(submit: Submit, client_id: str, evidence: bytes) -> bool | None:
    """Whether a client took it; None where it has not judged it."""
    try:
        submit(client_id, evidence)
    except (Unavailable, Conflict, Exhausted):
        return None
    except LianqiaoError:
        return False
    return True
