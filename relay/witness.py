"""This node as a witness: it co-signs the heads of the chains that it follows (C2SP tlog-witness).

A witness answers one question: is this head a continuation of the one that I co-signed last? It
holds no opinion on what the entries say. It signs a head of another chain where

1. a client of this node follows that origin, and none that does is frozen: what the operator pinned
   there (algorithm, threshold, periods) is the rule, its newest header where the witness begins;
2. the head is a header that this client might accept (relay.light.client.verify_header: signed by
   the set in force, set changes in order, time never decreasing, not from the future) built on the
   *base*: the newest head that the witness co-signed, or, where that is past the trusting period
   or from before a recovery, or there is none, the newest that its client verified;
3. a consistency proof leads from the base to it. Asked from another size, the witness answers the
   size of its base and signs nothing;
4. there is one body per size. The same body is signed again as often as it is asked for; a smaller
   size where the client has verified this very body (an announcement of a set that it passed).

Two signed bodies of one size are misbehaviour: both headers are kept beside the key as evidence,
and every client of that origin is frozen by it before the refusal is answered.

**Where the base is kept.** In a file of its own for each origin, in a directory beside the witness
key, written durably before a signature leaves; a crash in between costs nothing but the same
question again. It is not on the journal: that would answer each head of another node by an entry of
ours, and two nodes that witness each other would never rest. It is not in the database: a database
that is restored from an old copy takes back what it remembers, while signatures that have left stay
out. So it is the same rule as for the high-water mark of a validator key (relay.signing): what must
not be forgotten lies with the key and is not part of the database's backup.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import structlog

from relay.clients import Client, decode_creation
from relay.disk import replace_file, writing
from relay.errors import Invalid, LianqiaoError, NotFound, Reason, Refused
from relay.journal import Kind, host_path
from relay.light.checkpoint import Signer, cosign_body, parse_body
from relay.light.checkpoint_client import CHECKPOINT, make_header, select_signatures
from relay.light.client import consensus_of, expires, verify_header
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.note import Note, decode_note, encode_line
from relay.light.quorum import verify_commit
from relay.light.states import decode_consensus_state
from relay.light.types import ClientState, Header
from relay.light.types import Witness as PinnedWitness
from relay.light.validators import decode_set
from relay.node import Node
from relay.packet import be64
from relay.store import ConsensusRow, Transaction
from relay.store.lookups import all_clients
from relay.views import Cosigned

_log = structlog.get_logger("lianqiao.witness")


@dataclass(frozen=True, slots=True)
class _Followed:
    """What this node knows of one origin."""

    clients: tuple[Client, ...]
    """Every client that follows it, in order of creation."""
    state: ClientState
    """The rules of the client that is ahead, without witnesses: they judge one another."""
    base: Header
    """The newest head that was co-signed, or that the client verified."""
    ahead: Header
    """The newest that the client verified."""
    remembered: int
    """Size of the newest head that was co-signed, be it the base or not; 0 where none was."""


class Witness:
    """Thread-safe. One witness a key, one process a witness."""

    def __init__(self, node: Node, name: str, keys: Sequence[Signer], folder: Path) -> None:
        """`name`: key name on the signature lines; `folder`: where it keeps what it has signed,
        made at the first signature."""
        self.name = name
        self._node = node
        self._keys = tuple(keys)
        self._seen = SeenHeads(folder)
        self._lock = threading.Lock()

    @property
    def pinned(self) -> PinnedWitness:
        """As others pin it, by its first key."""
        return PinnedWitness(self.name, self._keys[0].algorithm, self._keys[0].public)

    def newest(self, origin: str) -> bytes | None:
        """The head of an origin that was co-signed last, raw, as a header by itself: for others to
        compare. None where there is none; where its file cannot be read, whoever asks for a
        co-signature is told why.
        """
        try:
            header = self._seen.load(origin)
        except LianqiaoError as error:
            _log.warning("newest", origin=origin, reason=str(error.reason))
            return None
        return None if header is None else CHECKPOINT.encode_header(header)

    def add_checkpoint(
        self,
        old_size: int,
        proof: Sequence[bytes],
        note: bytes,
        validators: bytes,
        now: int,
        *,
        exact: bool = False,
    ) -> Cosigned:
        """The co-signature lines of a head, or the size that a proof must start from.

        `proof`: RFC 9162 consistency proof from `old_size`; `validators`: preimage of the body's
        `set`, or empty where it is the set of the base, or of the newest head that the client
        verified. A size is answered to a head that is signed. `exact`, as C2SP has it: nothing is
        signed, not even again, where the proof does not start from the base. Raises Malformed,
        NotFound(CLIENT_NOT_FOUND), Refused(CLIENT_FROZEN), Invalid(HEAD_CONFLICT) on evidence of
        misbehaviour, and what relay.light.client.verify_header raises.
        """
        decoded = decode_note(note)
        origin = parse_body(decoded.text).origin
        with self._lock:
            followed = self._follow(origin, now)
            header, base = _header(decoded, validators, followed, old_size, proof), followed.base
            known = base if header.height == base.height else self._known(followed, header.height)
            if known is not None:
                self._check_same(followed, known, header, now)
            if header.height > base.height and old_size == base.height:
                verify_header(CHECKPOINT, followed.state, consensus_of(base), header, now)
            elif (exact and old_size != base.height) or (
                header.height != base.height and not self._precedes(followed, header)
            ):
                _check_signed(followed, header)
                return Cosigned((), base.height)
            if header.height >= base.height or header.height > followed.remembered:
                self._seen.save(origin, header)
            return Cosigned(self._sign(header.body, now), header.height)

    def _sign(self, body: bytes, now: int) -> tuple[bytes, ...]:
        lines = [cosign_body(self.name, key, body, now) for key in self._keys]
        return tuple(encode_line(line) for line in lines)

    # --- what is known of an origin

    def _follow(self, origin: str, now: int) -> _Followed:
        with self._node.store.reading() as tx:
            rows = [row for row in all_clients(tx) if row.chain_id == origin]
            clients = [self._node.clients.load(tx, row.client_id) for row in rows]
            clients = [client for client in clients if client.type is CHECKPOINT]
            if not clients:
                raise NotFound(
                    Reason.CLIENT_NOT_FOUND,
                    f"this witness follows no chain {origin}",
                    hint="its operator decides whom it witnesses: lianqiao witness pins a chain",
                    origin=origin,
                )
            if any(client.row.frozen for client in clients):
                raise Refused(
                    Reason.CLIENT_FROZEN,
                    f"{origin} has signed two histories",
                    hint="this witness signs nothing more of it; its operators open a new epoch",
                    origin=origin,
                )
            ahead = max(clients, key=lambda client: client.row.latest_height)
            newest = _stored_header(tx, ahead, ahead.row.latest_height)
            anchored = _anchor_height(tx, ahead)
        assert newest is not None, "a client has the header of its latest height"
        base = newest
        state = replace(ahead.state, witnesses=(), witness_quorum=0)
        seen = self._seen.load(origin)
        # A client may have verified another history since, by the co-signatures of others: what
        # this witness has co-signed binds it, until that is too old or its operators judged anew.
        if seen is not None and (
            seen.height > base.height
            or (seen.height >= anchored and now < expires(state, consensus_of(seen)))
        ):
            base = seen
        return _Followed(tuple(clients), state, base, newest, seen.height if seen else 0)

    def _known(self, followed: _Followed, height: int) -> Header | None:
        """What a client has verified at exactly that height."""
        with self._node.store.reading() as tx:
            known = (_stored_header(tx, client, height) for client in followed.clients)
            return next((header for header in known if header is not None), None)

    def _precedes(self, followed: _Followed, header: Header) -> bool:
        """Whether a client has verified this very head, and the base after it: they are then of one
        history. What a client has verified by the co-signatures of others alone may be of another
        than what was co-signed here, and two clients may have verified two."""
        base = followed.base
        if header.height > base.height:
            return False
        with self._node.store.reading() as tx:
            for client in followed.clients:
                before = _stored_header(tx, client, header.height)
                after = _stored_header(tx, client, base.height)
                pair = (before and before.hash, after and after.hash)
                if pair == (header.hash, base.hash):
                    return True
        return False

    # --- two bodies of one size

    def _check_same(self, followed: _Followed, known: Header, header: Header, now: int) -> None:
        """Raises Invalid where another body of that size is known; HEAD_CONFLICT where the set in
        force has signed this one too."""
        try:
            verify_header(CHECKPOINT, followed.state, consensus_of(known), header, now)
        except Invalid as error:
            if error.reason is Reason.HEAD_CONFLICT:
                self._accuse(followed, known, header)
            raise

    def _accuse(self, followed: _Followed, known: Header, header: Header) -> None:
        first, second = (
            CHECKPOINT.encode_header(replace(one, link=(), link_height=0, cosignatures=()))
            for one in (known, header)
        )
        evidence = encode_evidence(Evidence(first, second))
        self._seen.keep_evidence(header.chain_id, evidence)
        for client in followed.clients:
            try:
                self._node.submit_misbehaviour(client.row.client_id, evidence)
            except LianqiaoError as error:
                # The refusal to sign stands, and the evidence lies in its file.
                _log.error("accuse", client_id=client.row.client_id, reason=str(error.reason))


class SeenHeads:
    """The newest head of each origin that was co-signed, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, origin: str, ending: str) -> Path:
        # An origin is another chain's to choose; what it may hold must never be a path.
        return self._folder / f"{sha256(origin.encode()).hexdigest()[:32]}.{ending}"

    def load(self, origin: str) -> Header | None:
        """The newest head co-signed, or None. Raises Refused(STALE_RESTORE)."""
        path = self._path(origin, "seen")
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path) from error
        try:
            found = json.loads(raw)
            header = CHECKPOINT.decode_header(b64decode(found["header"], validate=True))
            kept = (found["origin"], found["size"], found["body"])
        except (ValueError, KeyError, TypeError, LianqiaoError) as error:
            raise _unreadable(path) from error
        if kept != (origin, header.height, header.hash.hex()) or header.chain_id != origin:
            raise _unreadable(path)
        return header

    def save(self, origin: str, header: Header) -> None:
        """Durable when it returns. Raises Exhausted(LIMIT_EXCEEDED)."""
        raw = CHECKPOINT.encode_header(replace(header, link=(), link_height=0, cosignatures=()))
        kept = {
            "origin": origin,
            "size": header.height,
            "body": header.hash.hex(),
            "root": header.root.hex(),
            "header": b64encode(raw).decode(),
        }
        self._write(self._path(origin, "seen"), json.dumps(kept, indent=1).encode())

    def keep_evidence(self, origin: str, evidence: bytes) -> None:
        """For `lianqiao clients accuse`, here and on other nodes that follow the chain."""
        self._write(self._path(origin, "evidence"), evidence)

    def _write(self, path: Path, raw: bytes) -> None:
        with writing(f"what this witness has signed, {path},", "it has not signed"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, raw)


def _unreadable(path: Path) -> Refused:
    return Refused(
        Reason.STALE_RESTORE,
        f"what this witness has signed cannot be read from {path}",
        hint="restore that file from the signing machine; do not make a new one",
    )


def _anchor_height(tx: Transaction, client: Client) -> int:
    """Where the present lineage of a recovered client begins; 0 where it was never recovered."""
    if not client.row.recovered:
        return 0
    key = be64(client.row.recovered - 1)
    value = tx.get(host_path(Kind.RECOVERED, client.row.client_id, key))
    assert value is not None, "a completed recovery is on the journal"
    return decode_consensus_state(decode_creation(value)[1]).height


def _stored_header(tx: Transaction, client: Client, height: int) -> Header | None:
    row = tx.load(ConsensusRow, client.row.lineage, height)
    return None if row is None else client.type.decode_header(row.header)


def _header(
    note: Note, validators: bytes, followed: _Followed, old_size: int, proof: Sequence[bytes]
) -> Header:
    """The head as the client counts it: no lines but those of its one algorithm."""
    if validators:
        presented = decode_set(validators)
    else:
        named = parse_body(note.text).set_hash
        known = (followed.base, followed.ahead)
        presented = next((h.validators for h in known if h.set_hash == named), known[0].validators)
    header = make_header(note, presented, old_size, proof)
    return select_signatures(header, followed.state)


def _check_signed(followed: _Followed, header: Header) -> None:
    """A stranger is told no size (C2SP: 403 comes before 409). Raises what verify_commit raises.

    A set that is not known here may be the next one: whoever asks is told where to begin.
    """
    for known in (followed.base, followed.ahead):
        if known.set_hash == header.set_hash:
            signed = replace(header, validators=known.validators)
            verify_commit(CHECKPOINT, followed.state, signed)
            return
