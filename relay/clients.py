"""This node's clients: created, updated, frozen; each change an entry of the journal.

What makes a header believable is relay.light.client; here is only what a node does with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from relay.errors import Invalid, NotFound, Reason, Refused
from relay.journal import Kind, host_path
from relay.light.checkpoint import chain_name
from relay.light.client import anchor, check_active, expires, verify_header
from relay.light.misbehaviour import decode_evidence, verify_misbehaviour
from relay.light.states import (
    decode_client_state,
    decode_consensus_state,
    encode_client_state,
    encode_consensus_state,
)
from relay.light.types import ClientState, ClientType, ConsensusState, ValidatorSet
from relay.light.wire import Reader, Writer
from relay.packet import be64, check_name
from relay.store import ClientRow, ConsensusRow, Transaction
from relay.store.lookups import all_clients, consensus_states

MAX_CLIENTS = 10_000
MAX_KNOWN_SETS = 10_000
_MAX_STATE = 1 << 18
# Every packet of a batch asks for its client: what few bytes say is read once.
_client_state = lru_cache(maxsize=64)(decode_client_state)
_consensus_state = lru_cache(maxsize=256)(decode_consensus_state)


@dataclass(frozen=True, slots=True)
class Client:
    """A client as one batch works with it."""

    row: ClientRow
    state: ClientState
    type: ClientType

    def check_active(self, latest: ConsensusState, now: int) -> None:
        """Raises Refused(CLIENT_FROZEN), Refused(CLIENT_EXPIRED) or Refused(RECOVERY_PENDING)."""
        check_active(self.state, latest, self.row.frozen != 0, now)
        if self.row.recovery:
            raise Refused(
                Reason.RECOVERY_PENDING,
                f"the client of {self.state.chain_id} waits to be recovered",
                hint="lianqiao clients show says when that is due, and how it is cancelled",
                client_id=self.row.client_id,
            )


def encode_creation(state: bytes, anchor: bytes) -> bytes:
    """The journaled value of a client's creation: the pinned state and the anchor."""
    return Writer().data(state, _MAX_STATE).data(anchor, _MAX_STATE).done()


def decode_creation(value: bytes) -> tuple[bytes, bytes]:
    """(encoded ClientState, encoded ConsensusState)."""
    reader = Reader(value, "client creation")
    state, anchor = reader.data(_MAX_STATE), reader.data(_MAX_STATE)
    reader.end()
    return state, anchor


class Clients:
    """Operations on clients inside a transaction; knows the client types that are installed."""

    def __init__(self, types: Mapping[str, ClientType]) -> None:
        self._types = types

    def type_of(self, name: str) -> ClientType:
        """Raises NotFound(CLIENT_TYPE_UNKNOWN)."""
        found = self._types.get(name)
        if found is None:
            raise NotFound(
                Reason.CLIENT_TYPE_UNKNOWN,
                f"no client type {name!r} is installed",
                hint=f"installed: {', '.join(sorted(self._types))}",
                client_type=name,
            )
        return found

    def load(self, tx: Transaction, client_id: str) -> Client:
        """Raises NotFound(CLIENT_NOT_FOUND)."""
        row = tx.load(ClientRow, client_id)
        if row is None:
            raise NotFound(
                Reason.CLIENT_NOT_FOUND,
                "no such client",
                hint="lianqiao clients list shows them; lianqiao connect creates one",
                client_id=client_id,
            )
        return Client(row, _client_state(row.state), self.type_of(row.client_type))

    def consensus(self, tx: Transaction, client: Client, height: int) -> ConsensusState:
        """The verified header at exactly `height` since the client's present anchor.

        Raises Refused(HEIGHT_NOT_TRUSTED).
        """
        row = tx.load(ConsensusRow, client.row.lineage, height)
        if row is None:
            raise Refused(
                Reason.HEIGHT_NOT_TRUSTED,
                f"the client has no verified header of height {height}",
                hint="deliver the header of that height first",
                client_id=client.row.client_id,
                height=height,
            )
        return _consensus_state(row.state)

    def latest(self, tx: Transaction, client: Client) -> ConsensusState:
        """The client's youngest verified header."""
        return self.consensus(tx, client, client.row.latest_height)

    def create(self, tx: Transaction, state: ClientState, anchor_header: bytes, now: int) -> str:
        """A new client from a pinned state and its first header; its id.

        The header is checked under its own set: whose set that is, is what the operator trusts.
        """
        client_type = self.type_of(state.client_type)
        consensus, _ = anchor(client_type, state, anchor_header, now)
        number = self._next_number(tx)
        client_id = f"{state.client_type}-{number}"
        check_name(client_id, "client id")
        encoded, first = encode_client_state(state), encode_consensus_state(consensus)
        index = tx.append(host_path(Kind.CLIENT, client_id), encode_creation(encoded, first))
        row = ClientRow(
            client_id=client_id,
            number=number,
            client_type=state.client_type,
            chain_id=state.chain_id,
            state=encoded,
            counterparty="",
            frozen=0,
            latest_height=consensus.height,
            latest_time=consensus.time,
            next_sequence=1,
            floor=0,
        )
        tx.add(row)
        tx.add(ConsensusRow(client_id, consensus.height, first, anchor_header, index))
        return client_id

    def _next_number(self, tx: Transaction) -> int:
        number = 1 + max((row.number for row in all_clients(tx)), default=-1)
        if number >= MAX_CLIENTS:
            raise Refused(Reason.LIMIT_EXCEEDED, f"a node holds at most {MAX_CLIENTS} clients")
        return number

    def register_counterparty(self, tx: Transaction, client_id: str, counterparty: str) -> bool:
        """Names the client on the other side, once; False where it was named so already.

        Contracts know a chain by its id: one client of a node speaks for a chain, in whatever
        epoch, and no other ever. Raises COUNTERPARTY_EXISTS, CHAIN_BOUND.
        """
        client = self.load(tx, client_id)
        check_name(counterparty, "counterparty client id")
        if client.row.counterparty == counterparty:
            return False
        if client.row.counterparty:
            raise Refused(
                Reason.COUNTERPARTY_EXISTS,
                f"the counterparty is {client.row.counterparty} already",
                hint="a counterparty is named once: check which client is meant",
                client_id=client_id,
            )
        self._check_unbound(tx, client.row)
        tx.append(host_path(Kind.COUNTERPARTY, client_id), counterparty.encode())
        tx.save(replace(client.row, counterparty=counterparty))
        return True

    def _check_unbound(self, tx: Transaction, row: ClientRow) -> None:
        chain = chain_name(row.chain_id)
        for other in all_clients(tx):
            if other.counterparty and chain_name(other.chain_id) == chain:
                raise Refused(
                    Reason.CHAIN_BOUND,
                    f"{other.client_id} speaks for {chain} here",
                    hint="use that client; where it is frozen or expired: lianqiao clients recover",
                    client_id=other.client_id,
                    chain_id=chain,
                )

    def update(self, tx: Transaction, client_id: str, headers: Sequence[bytes], now: int) -> int:
        """Verifies headers in order; how many were new. Each new one is an entry.

        Raises what relay.light.client.verify_header raises, CLIENT_FROZEN, CLIENT_EXPIRED.
        """
        new = 0
        for raw in headers:
            client = self.load(tx, client_id)
            trusted = self.latest(tx, client)
            header = client.type.decode_header(raw)
            lineage = client.row.lineage
            known = tx.load(ConsensusRow, lineage, header.height)
            if known is not None and known.header == raw:
                continue
            client.check_active(trusted, now)
            if header.height <= trusted.height:
                trusted = self.consensus(tx, client, header.height) if known else trusted
            known_set = self._trusted_set(tx, client, trusted) if client.type.skips else None
            verified = verify_header(client.type, client.state, trusted, header, now, known_set)
            if verified.height == trusted.height:
                continue
            encoded = encode_consensus_state(verified)
            path = host_path(Kind.HEADER, lineage, be64(verified.height))
            index = tx.append(path, encoded)
            tx.add(ConsensusRow(lineage, verified.height, encoded, raw, index))
            tx.save(replace(client.row, latest_height=verified.height, latest_time=verified.time))
            new += 1
        return new

    def _trusted_set(
        self, tx: Transaction, client: Client, trusted: ConsensusState
    ) -> ValidatorSet | None:
        """The set that its own header shows: for types that skip, whose overlap is counted."""
        row = tx.load(ConsensusRow, client.row.lineage, trusted.height)
        assert row is not None, "what is trusted is stored"
        validators = client.type.decode_header(row.header).validators
        known = (trusted.set_hash, trusted.next_set_hash)
        return validators if client.type.hash_validators(validators) in known else None

    def freeze(self, tx: Transaction, client_id: str, evidence: bytes, now: int) -> bool:
        """Verifies misbehaviour and freezes the client; False where it is frozen already.

        Evidence from below the anchor of a recovery is what that recovery has judged: it freezes
        nothing again. Raises Malformed, or Invalid(NOT_MISBEHAVIOUR).
        """
        client = self.load(tx, client_id)
        if client.row.frozen:
            return False
        known = self._known_sets(tx, client, now)
        verify_misbehaviour(client.type, client.state, known, evidence, now)
        self._check_not_judged(tx, client, evidence)
        path = host_path(Kind.MISBEHAVIOUR, client_id, be64(tx.size))
        index = tx.append(path, evidence)
        tx.save(replace(client.row, frozen=index + 1))
        return True

    def _check_not_judged(self, tx: Transaction, client: Client, evidence: bytes) -> None:
        if not client.row.recovered:
            return
        key = be64(client.row.recovered - 1)
        value = tx.get(host_path(Kind.RECOVERED, client.row.client_id, key))
        assert value is not None, "a completed recovery is on the journal"
        anchor = decode_consensus_state(decode_creation(value)[1])
        shown = decode_evidence(evidence)
        heights = [client.type.decode_header(raw).height for raw in (shown.first, shown.second)]
        if max(heights) <= anchor.height:
            raise Invalid(
                Reason.NOT_MISBEHAVIOUR,
                "this is from before the client was recovered",
                anchor=anchor.height,
            )

    def _known_sets(self, tx: Transaction, client: Client, now: int) -> frozenset[bytes]:
        """The sets of verified heads within the trusting period, and of the youngest in any case.

        The time in an accusing head is what its signers wrote: it does not keep out keys that
        were retired long ago, whoever holds them by now.
        """
        stored = consensus_states(tx, client.row.lineage, MAX_KNOWN_SETS)
        decoded = [decode_consensus_state(state) for state in stored]
        states = [s for s in decoded if now < expires(client.state, s)]
        states.append(self.latest(tx, client))
        return frozenset(h for s in states for h in (s.set_hash, s.next_set_hash))

    def of_chain(self, tx: Transaction, chain_id: str) -> str:
        """The client with a counterparty that follows `chain_id`, whatever its epoch.

        Raises NotFound(CLIENT_NOT_FOUND).
        """
        for row in all_clients(tx):
            if row.counterparty and not row.frozen and chain_name(row.chain_id) == chain_id:
                return row.client_id
        raise NotFound(
            Reason.CLIENT_NOT_FOUND,
            f"no active client follows {chain_id}",
            hint="lianqiao connect creates one",
            chain_id=chain_id,
        )
