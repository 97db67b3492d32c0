"""A client that can judge no more is given a new anchor, after a delay in which anyone may object.

A client is frozen by misbehaviour, expires unused, or follows an epoch that its ledger has lost.
Its operators then compare a fresh header with that ledger by other means, and pin it anew:

    proposed (entry RECOVERY) ── delay ──▶ completed (entry RECOVERED: the new state and anchor)
                              └──────────▶ cancelled (entry RECOVERED: empty)

Both are entries, so they take effect under the node's own signed heads: the quorum of its own
validators signs the journal that holds them, and who follows this node sees a proposal a delay
before it counts. A node of one process has one operator, and then it is he alone who decides.

What is kept: the client's id, its counterparty, every sequence, receipt and open commitment. What
is replaced: the pinned state and the lineage of headers. The substitute follows the same chain, in
the same epoch or a later one; nothing but its keys, thresholds, periods and witnesses may differ.
Headers of the old lineage stay with the proofs that were made under them and prove nothing new.

While a proposal is pending the client neither receives nor sends. Then sequences are reconciled by
what is known here already: a packet under a sequence that has a receipt is that very packet (a
no-op) or is refused with COMMITMENT_MISMATCH, never taken for the other one; a sequence without a
receipt is received from the new history as any; an open commitment is delivered to the ledger again
and acknowledged or timed out from its new history; a closed one stays closed. A ledger that lost
sequences it had used skips them (`skip`) before it sends again. Relayers read the new history from
its start: their place in the old one means nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from relay.clients import Client, Clients, encode_creation
from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.journal import Kind, host_path
from relay.light.client import anchor, expires
from relay.light.states import decode_client_state, encode_client_state, encode_consensus_state
from relay.light.types import DAY, MAX_HEADER_BYTES, MAX_INT, ClientState, ConsensusState
from relay.light.wire import Reader, Writer
from relay.outbox import forget, read_again
from relay.packet import be64
from relay.store import ClientRow, ConsensusRow, Transaction
from relay.store.lookups import all_clients

MIN_DELAY, DEFAULT_DELAY, MAX_DELAY = 3600, DAY, 30 * DAY
"""Seconds between a proposal and its completion."""
MAX_SKIP = 1 << 40
"""Sequences that one `skip` may pass over."""
_MAX_STATE = 1 << 18
_INWARD, _OUTWARD = "in", "out"


@dataclass(frozen=True, slots=True)
class Proposal:
    """The journaled value of a proposal."""

    time: int
    """Batch time of the proposal, seconds."""
    due: int
    """The batch time from which it may be completed."""
    state: bytes
    """Encoded ClientState to pin."""
    header: bytes
    """Raw header to anchor it in."""


def encode_proposal(proposal: Proposal) -> bytes:
    """The one encoding: u64 time, u64 due, data state, data header."""
    writer = Writer().u64(proposal.time).u64(proposal.due)
    return writer.data(proposal.state, _MAX_STATE).data(proposal.header, MAX_HEADER_BYTES).done()


def decode_proposal(value: bytes) -> Proposal:
    """Raises Malformed."""
    reader = Reader(value, "recovery proposal")
    proposal = Proposal(
        reader.u64(), reader.u64(), reader.data(_MAX_STATE), reader.data(MAX_HEADER_BYTES)
    )
    reader.end()
    return proposal


def propose(
    clients: Clients,
    tx: Transaction,
    client_id: str,
    substitute: ClientState,
    anchor_header: bytes,
    delay: int,
    now: int,
) -> Proposal:
    """Proposes a new state and anchor for a client.

    1. the client is known: CLIENT_NOT_FOUND  2. the delay is within its bounds: LIMIT_EXCEEDED
    3. nothing is proposed yet: RECOVERY_PENDING  4. the substitute follows the same chain in the
    same epoch or a later one, by the same kind of proof: CHAIN_ID_MISMATCH  5. the client needs it:
    RECOVERY_NOT_NEEDED  6. the anchor is one: what relay.light.client.anchor raises  7. it will be
    one still when the delay has passed: LIMIT_EXCEEDED.
    """
    client = clients.load(tx, client_id)  # 1
    if not MIN_DELAY <= delay <= MAX_DELAY:  # 2
        raise Malformed(
            f"a recovery is delayed by {MIN_DELAY} to {MAX_DELAY} seconds",
            reason=Reason.LIMIT_EXCEEDED,
            field="delay",
        )
    if client.row.recovery:  # 3
        pending = _proposal(tx, client.row)
        raise Refused(
            Reason.RECOVERY_PENDING,
            f"a recovery of {client_id} is proposed already",
            hint="wait until it is due, or cancel it: lianqiao clients recover --cancel",
            client_id=client_id,
            due=pending.due,
        )
    _check_same_chain(client.state, substitute)  # 4
    if substitute.chain_id == client.state.chain_id:  # 5
        _check_needed(clients, tx, client, now)
    consensus, _ = anchor(client.type, substitute, anchor_header, now)  # 6
    _check_outlasts(substitute, consensus, delay, now)  # 7
    proposal = Proposal(now, now + delay, encode_client_state(substitute), anchor_header)
    path = host_path(Kind.RECOVERY, client_id, be64(tx.size))
    index = tx.append(path, encode_proposal(proposal))
    tx.save(replace(client.row, recovery=index + 1))
    return proposal


def cancel(clients: Clients, tx: Transaction, client_id: str) -> bool:
    """Withdraws a pending proposal; False where none is pending."""
    client = clients.load(tx, client_id)
    if not client.row.recovery:
        return False
    tx.append(_end_path(client), b"")
    tx.save(replace(client.row, recovery=0))
    return True


def complete(clients: Clients, tx: Transaction, client_id: str, now: int) -> None:
    """Gives the client the proposed state and anchor.

    1. something is proposed: NOT_FOUND  2. its delay has passed: RECOVERY_NOT_DUE  3. no evidence
    came after it: CLIENT_FROZEN  4. the anchor is still one (relay.light.client.anchor).
    """
    client = clients.load(tx, client_id)
    if not client.row.recovery:  # 1
        raise NotFound(
            Reason.NOT_FOUND,
            f"no recovery of {client_id} is proposed",
            hint="lianqiao clients recover proposes one",
            client_id=client_id,
        )
    proposal = _proposal(tx, client.row)
    if now < proposal.due:  # 2
        raise Refused(
            Reason.RECOVERY_NOT_DUE,
            f"the recovery of {client_id} may be completed {proposal.due - now} seconds from now",
            hint="until then anyone who sees a reason against it can have it cancelled",
            client_id=client_id,
            due=proposal.due,
        )
    if client.row.frozen > client.row.recovery:  # 3
        raise Refused(
            Reason.CLIENT_FROZEN,
            "misbehaviour was shown after the recovery was proposed",
            hint="cancel the recovery, settle it with that ledger's operators, propose anew",
            client_id=client_id,
        )
    state = decode_client_state(proposal.state)
    consensus, _ = anchor(client.type, state, proposal.header, now)  # 4
    first = encode_consensus_state(consensus)
    index = tx.append(_end_path(client), encode_creation(proposal.state, first))
    row = replace(
        client.row,
        state=proposal.state,
        chain_id=state.chain_id,
        frozen=0,
        latest_height=consensus.height,
        latest_time=consensus.time,
        recovered=client.row.recovery,
        recovery=0,
        complete_time=0,  # what was known of another history says nothing of this one
        complete_sequence=0,
    )
    tx.save(row)
    tx.add(ConsensusRow(row.lineage, consensus.height, first, proposal.header, index))
    forget(tx, client_id, _INWARD)
    if client.row.frozen or state.chain_id != client.row.chain_id:
        read_again(tx, client_id, _OUTWARD)


def skip(clients: Clients, tx: Transaction, client_id: str, next_sequence: int) -> bool:
    """Passes over sequences that this ledger has used and forgotten; False where it is there.

    Raises Refused(SEQUENCE_USED) below the next sequence, Malformed(LIMIT_EXCEEDED) far above it.
    """
    client = clients.load(tx, client_id)
    ahead = next_sequence - client.row.next_sequence
    if ahead < 0:
        raise Refused(
            Reason.SEQUENCE_USED,
            f"the next sequence of {client_id} is {client.row.next_sequence} already",
            hint="what is below was used: there is nothing to skip, or only to a greater NEXT, "
            "above what the other chain lists as CLIENT/N/in",
            client_id=client_id,
        )
    if ahead > MAX_SKIP or next_sequence >= MAX_INT:
        raise Malformed(f"at most {MAX_SKIP} sequences are skipped", reason=Reason.LIMIT_EXCEEDED)
    if not ahead:
        return False
    tx.append(host_path(Kind.SKIPPED, client_id, be64(next_sequence)), be64(next_sequence))
    tx.save(replace(client.row, next_sequence=next_sequence))
    return True


def complete_due(clients: Clients, tx: Transaction, now: int) -> list[tuple[str, str]]:
    """Completes every recovery that is due; (client id, reason) of those that are refused."""
    refused = []
    for row in all_clients(tx):
        if not row.recovery:
            continue
        mark = tx.mark()
        try:
            complete(clients, tx, row.client_id, now)
        except LianqiaoError as err:
            tx.rollback(mark)
            if err.reason is not Reason.RECOVERY_NOT_DUE:
                refused.append((row.client_id, err.reason.value))
    return refused


def any_due(tx: Transaction, now: int) -> bool:
    """Whether a recovery may be completed."""
    pending = (row for row in all_clients(tx) if row.recovery)
    return any(_proposal(tx, row).due <= now for row in pending)


def _proposal(tx: Transaction, row: ClientRow) -> Proposal:
    """The pending proposal of a client that has one."""
    path = host_path(Kind.RECOVERY, row.client_id, be64(row.recovery - 1))
    value = tx.get(path)
    assert value is not None, "a pending recovery is on the journal"
    return decode_proposal(value)


def _end_path(client: Client) -> bytes:
    """Written once: a proposal is completed or cancelled, never both."""
    return host_path(Kind.RECOVERED, client.row.client_id, be64(client.row.recovery - 1))


def _check_same_chain(pinned: ClientState, substitute: ClientState) -> None:
    kinds = [(s.client_type, s.tree_hash, s.proof_kind, s.parameters) for s in (pinned, substitute)]
    if kinds[0] != kinds[1] or not _is_later_epoch(pinned.chain_id, substitute.chain_id):
        raise Refused(
            Reason.CHAIN_ID_MISMATCH,
            f"a client of {pinned.chain_id} cannot be recovered to {substitute.chain_id}",
            hint="a recovery gives new keys and a later epoch, not another ledger or kind of it",
            pinned=pinned.chain_id,
            found=substitute.chain_id,
        )


def _is_later_epoch(pinned: str, substitute: str) -> bool:
    """Whether the second names the chain of the first, in the same epoch or a later one."""
    if pinned == substitute:
        return True
    name, slash, epoch = pinned.rpartition("/")
    same, _, later = substitute.rpartition("/")
    numbers = all(n.isascii() and n.isdigit() and len(n) < 20 for n in (epoch, later))
    return bool(slash) and name == same and numbers and int(later) > int(epoch)


def _check_needed(clients: Clients, tx: Transaction, client: Client, now: int) -> None:
    try:
        client.check_active(clients.latest(tx, client), now)
    except Refused:
        return
    raise Refused(
        Reason.RECOVERY_NOT_NEEDED,
        f"{client.row.client_id} is active",
        hint="a header updates it. Where none does, since its chain was taken back to an old copy "
        "(INVALID_CONSISTENCY), that chain opens its next epoch: lianqiao epoch open --forked",
        client_id=client.row.client_id,
    )


def _check_outlasts(state: ClientState, head: ConsensusState, delay: int, now: int) -> None:
    """A head that expires within the delay would complete nothing, and close the client until
    somebody wonders."""
    left = expires(state, head) - now
    if delay >= left:
        raise Malformed(
            f"the head would be past its trusting period when the recovery is due: it has {left} "
            f"seconds left, the delay is {delay}",
            reason=Reason.LIMIT_EXCEEDED,
            hint="take a shorter delay, or a younger head",
            field="delay",
        )
