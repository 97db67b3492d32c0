"""Knowing that nothing is missing: what a chain says it had sent, and whether all of it is here.

That a head is young says nothing of the packets below it: whoever brings heads can leave out a
packet. So a chain states on its journal, for each client with a counterparty and at most once in a
tick, up to which packet it had sent by when (relay.light.sent). A receiver that has everything
up to there knows everything that was sent before that time, whoever the relayers are, and writes
that down (`complete_time`). Contracts that ask "not revoked as of when?" judge by that time.

A packet that expired here counts only once its sender has closed it: with the closing it is sent
again if it must arrive (a retraction, say), and the new packet is among those that must be here.

A client that cannot send at the moment (frozen, expired, waiting to be recovered) states nothing.
Nor does one for whose chain a contract still holds what it could not send meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from relay.chain import MAX_SENT_CLAIMS
from relay.clients import Client, Clients
from relay.errors import Invalid, Malformed, Reason, Refused
from relay.journal import Kind, host_path
from relay.light.checkpoint import chain_name
from relay.light.sent import MAX_RANGES, decode_sent, encode_sent, sent_path
from relay.light.types import Claim, ConsensusState, Range, Sent, TellsSent
from relay.light.wire import Reader, Writer
from relay.packet import MAX_INT, be64
from relay.store import ClientRow, Transaction
from relay.store.lookups import all_clients, count_received, highest_sent, lowest_open

# --- as a sender


Holds = Callable[[str], bool]
"""Whether a contract has something for a chain (without epoch) that it could not send yet."""


def state_sent(clients: Clients, tx: Transaction, now: int, every: int, holds: Holds) -> int:
    """Writes what each client has sent, where its last statement is `every` seconds old or older.

    For the end of a batch, before it is sealed; deterministic. Returns when it must be asked
    again, seconds.
    """
    due = MAX_INT
    for row in all_clients(tx):
        if not row.counterparty:
            continue
        last = last_sent(tx, row)
        if last is None or now - last[0].time >= every:
            if _may_send(clients, tx, row, now) and not holds(chain_name(row.chain_id)):
                _state(tx, row, 1 if last is None else last[1], now)
            due = min(due, now + every)
        else:
            due = min(due, last[0].time + every)
    return due


def next_due(tx: Transaction, every: int) -> int:
    """When a statement must be written next, seconds; 0 where one never was."""
    rows = [row for row in all_clients(tx) if row.counterparty]
    stated = [last_sent(tx, row) for row in rows]
    return min((last[0].time + every if last else 0 for last in stated), default=MAX_INT)


def last_sent(tx: Transaction, row: ClientRow) -> tuple[Sent, int] | None:
    """(the client's last statement, the lowest open sequence in it)."""
    if not row.stated:
        return None
    value = tx.get(sent_path(row.client_id, row.stated - 1))
    assert value is not None, "what was stated is on the journal"
    return decode_sent(value)


def _may_send(clients: Clients, tx: Transaction, row: ClientRow, now: int) -> bool:
    client = clients.load(tx, row.client_id)
    try:
        client.check_active(clients.latest(tx, client), now)
    except Refused:
        return False
    return True


def _state(tx: Transaction, row: ClientRow, open_before: int, now: int) -> None:
    opened = lowest_open(tx, row.client_id, open_before, row.next_sequence)
    skipped = list(_skipped(tx, row.client_id))[-MAX_RANGES:]
    value = encode_sent(now, row.next_sequence, opened, skipped)
    index = tx.append(sent_path(row.client_id, tx.size), value)
    tx.save(replace(row, stated=index + 1))


def _skipped(tx: Transaction, client_id: str) -> Iterator[Range]:
    """The ranges of sequences that an operator has passed over, ascending."""
    prefix = host_path(Kind.SKIPPED, client_id)
    end = 1
    for _, value in tx.scan(prefix, prefix + b"\xff" * 9, 10_000):
        target = int.from_bytes(value, "big")
        first = max(end, highest_sent(tx, client_id, target) + 1)
        if first < target:
            yield first, target
        end = target


# --- as a receiver


def read_sent(client: Client, consensus: ConsensusState, claims: Sequence[Claim]) -> Sent:
    """What the chain of `client` states by these claims, which are not proven yet.

    1. its kind of chain can: UNSUPPORTED_VERSION  2. few claims: LIMIT_EXCEEDED  3. it is of the
    client on the other side: COUNTERPARTY_MISMATCH  4. its time is not after that of the head.
    """
    if not isinstance(client.type, TellsSent):
        raise Refused(
            Reason.UNSUPPORTED_VERSION,
            f"chains of the type {client.type.name} do not state what they have sent",
        )
    if len(claims) > MAX_SENT_CLAIMS:
        raise Malformed(
            f"a statement is at most {MAX_SENT_CLAIMS} claims", reason=Reason.LIMIT_EXCEEDED
        )
    sent = client.type.read_sent(consensus, client.row.counterparty, claims)
    if sent.time > consensus.time:
        raise Invalid(
            Reason.TIME_NOT_MONOTONIC,
            "a statement is later than the head above it",
            stated=sent.time,
            head=consensus.time,
        )
    return sent


def take_sent(tx: Transaction, client: Client, sent: Sent) -> None:
    """Writes down as of when everything is here, by a proven statement that is younger than the
    last one.

    Raises Invalid(SEQUENCE_USED) where the chain now says that it has sent less, and
    Refused(PACKETS_MISSING) where something of it was neither received nor expired here, or
    expired and was not closed by its sender yet.
    """
    row = client.row
    if sent.next_sequence < row.complete_sequence:
        raise Invalid(
            Reason.SEQUENCE_USED,
            "a later statement names an earlier sequence",
            hint="that chain went on from an older copy: its operators pass over what was used, by "
            "lianqiao clients skip",
            stated=sent.next_sequence,
            before=row.complete_sequence,
        )
    low = max(row.complete_sequence, row.floor, 1)
    for first, end in _asked(low, sent.next_sequence, sent.skipped):
        here = count_received(tx, row.client_id, first, end)
        closed = sum(
            count_received(tx, row.client_id, a, b, expired=True)
            for a, b in _within(sent.closed, first, end)
        )
        if here + closed < end - first:
            raise Refused(
                Reason.PACKETS_MISSING,
                f"of the packets {first} to {end - 1}, {end - first - here - closed} are not here",
                hint="bring the packets that its chain lists, then the statement again",
                client_id=row.client_id,
            )
    path = host_path(Kind.COMPLETE, row.client_id, be64(tx.size))
    tx.append(path, encode_complete(sent.time, sent.next_sequence))
    tx.save(replace(row, complete_time=sent.time, complete_sequence=sent.next_sequence))


def _asked(low: int, high: int, skipped: Sequence[Range]) -> Iterator[Range]:
    """[low, high) without the ranges that were skipped."""
    for first, end in skipped:
        if low < first:
            yield low, min(first, high)
        low = max(low, end)
    if low < high:
        yield low, high


def _within(ranges: Sequence[Range], low: int, high: int) -> Iterator[Range]:
    for first, end in ranges:
        if max(first, low) < min(end, high):
            yield max(first, low), min(end, high)


def encode_complete(time: int, sequence: int) -> bytes:
    """The value of an entry COMPLETE: everything before `time`, and below `sequence`, is here."""
    return Writer().u64(time).u64(sequence).done()


def decode_complete(raw: bytes) -> tuple[int, int]:
    """(time, sequence). Raises Malformed."""
    reader = Reader(raw, "completeness")
    found = reader.u64(), reader.u64()
    reader.end()
    return found
