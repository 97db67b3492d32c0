"""From a step on one chain to an item for the other, and what follows from the answer. Pure.

    step found on the source        item for the destination        proven by
    SEND                            RECEIVE                         the commitment
    SEND, refused TIMEOUT_ELAPSED   EXPIRE                          the commitment
    RECEIVE (acknowledged)          ACKNOWLEDGE                     the acknowledgement
    EXPIRE (sentinel written)       TIMEOUT                         the sentinel

An answer that is a refusal is one of: *settled* (the other verb has decided already), *terminal*
(no later attempt can differ: a dead letter), or *for later* (another attempt after a delay that
doubles up to MAX_DELAY). Whoever answers is not trusted: a false "done" is found when the packet
stays open and is compared at the next start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relay.chain import MAX_BATCH, Item, Outcome, PacketStep, Step, Submission
from relay.errors import LianqiaoError, Malformed, Reason
from relay.outbox import NEVER, Waiting
from relay.packet import acknowledgement_path, commitment_path, receipt_path

MAX_DELAY = 300
"""Seconds between two attempts, at most."""
MAX_DELIVERY_BYTES = 8 * 1024 * 1024
"""Payloads and acknowledgements of one delivery; every transport carries this much."""
_FIXED_BYTES = 512
_ENTRY_BYTES = 8192
"""Counted for each entry, so that the claims of a delivery stay few (packet_bytes.MAX_CLAIMS)."""

_VERBS = {
    Step.SEND: Step.RECEIVE,
    Step.RECEIVE: Step.ACKNOWLEDGE,
    Step.EXPIRE: Step.TIMEOUT,
}
SETTLED = frozenset(
    {
        (Step.RECEIVE, Reason.TIMED_OUT.value),
        (Step.EXPIRE, Reason.RECEIVED.value),
    }
)
"""(verb, reason): the packet is decided on that chain; its own step drives what comes next."""
TERMINAL = frozenset(
    reason.value
    for reason in (
        Reason.INVALID_PACKET,
        Reason.COMMITMENT_MISMATCH,
        Reason.PRUNED,
        Reason.UNSUPPORTED_VERSION,
        Reason.ABSENCE_NOT_PROVABLE,
    )
)
"""Reasons that no later attempt can change."""
OF_THE_PROOF = frozenset(
    reason.value
    for reason in (
        Reason.INVALID_PROOF,
        Reason.PATH_NOT_FOUND,
        Reason.MALFORMED,
        Reason.LIMIT_EXCEEDED,
    )
)
"""Reasons that all items of a delivery share although one alone may be at fault."""
OF_THE_CLIENT = frozenset(
    reason.value
    for reason in (
        Reason.CLIENT_NOT_FOUND,
        Reason.CLIENT_FROZEN,
        Reason.CLIENT_EXPIRED,
        Reason.RECOVERY_PENDING,
        Reason.HEIGHT_NOT_TRUSTED,
    )
)
"""Reasons that no item is at fault for: the side waits as a whole."""

OF_THE_HEADER = frozenset(
    reason.value
    for reason in (
        Reason.MALFORMED,
        Reason.CHAIN_ID_MISMATCH,
        Reason.TIME_NOT_MONOTONIC,
        Reason.HEADER_FROM_FUTURE,
        Reason.VALIDATOR_SET_MISMATCH,
        Reason.ALGORITHM_NOT_PINNED,
        Reason.WEAK_KEY,
        Reason.UNKNOWN_SIGNER,
        Reason.DUPLICATE_SIGNER,
        Reason.INVALID_SIGNATURE,
        Reason.QUORUM_NOT_REACHED,
        Reason.INVALID_CONSISTENCY,
        Reason.HEAD_CONFLICT,
    )
)
"""Reasons for which a header is refused that the node which gave it may have made up."""


def item_of(step: PacketStep) -> Item:
    """The verb that carries a step on. Raises Malformed for a step that nobody carries."""
    verb = _VERBS.get(step.step)
    if verb is None:
        raise Malformed(f"a chain listed the step {step.step}, which ends where it is")
    return Item(verb, step.packet, step.acknowledgements, step.entries)


def proven_path(item: Item) -> bytes:
    """Where the source wrote what an item claims."""
    packet = item.packet
    if item.step is Step.ACKNOWLEDGE:
        return acknowledgement_path(packet.destination_client, packet.sequence)
    if item.step is Step.TIMEOUT:
        return receipt_path(packet.destination_client, packet.sequence)
    return commitment_path(packet.source_client, packet.sequence)


def proven_paths(items: Sequence[Item]) -> list[bytes]:
    """The paths that one proof for `items` covers, in its order, each once (relay.proven)."""
    paths: dict[bytes, None] = {}
    for item in items:
        paths[proven_path(item)] = None
        paths |= dict.fromkeys(entry.path for entry in item.entries)
    return list(paths)


def check_steps(
    steps: Sequence[PacketStep], after: int, source_client: str, destination_client: str
) -> None:
    """Holds a listing to what was asked for: cursors ascend from `after`, and every packet runs
    between the two clients of the lane.

    Raises Malformed: a chain that lists anything else is not to be carried on.
    """
    for step in steps:
        if step.cursor <= after or step.cursor >= NEVER or not 0 < step.height < NEVER:
            raise Malformed("a chain listed steps out of order", cursor=step.cursor, after=after)
        after = step.cursor
        ends = (step.packet.source_client, step.packet.destination_client)
        asked = (source_client, destination_client)
        if ends != (asked if step.step is Step.SEND else asked[::-1]):
            raise Malformed("a chain listed a packet of other clients", cursor=step.cursor)


def fitting(waiting: Sequence[Waiting]) -> int:
    """How many from the start fit into one delivery; at least one, where there is one."""
    size = 0
    for count, one in enumerate(waiting):
        size += item_bytes(one.item)
        if count and (size > MAX_DELIVERY_BYTES or count == MAX_BATCH):
            return count
    return len(waiting)


def item_bytes(item: Item) -> int:
    """About how long an item is on the wire."""
    values = sum(len(p.value) for p in item.packet.payloads)
    values += sum(_ENTRY_BYTES + len(e.path) + len(e.value or b"") for e in item.entries)
    return _FIXED_BYTES + values + sum(len(a) for a in item.acknowledgements)


def after_answer(waiting: Waiting, answer: Submission, now: int) -> Waiting | None:
    """What is left to do for a step after an answer; None where it is finished."""
    verb = waiting.item.step
    if answer.outcome is not Outcome.REFUSED or (verb, answer.reason) in SETTLED:
        return None
    if verb is Step.RECEIVE and answer.reason == Reason.TIMEOUT_ELAPSED:
        expire = replace(waiting.item, step=Step.EXPIRE)
        return replace(waiting, item=expire, attempts=0, not_before=now, reason=answer.reason)
    reason = f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason
    if answer.reason in TERMINAL:
        return replace(waiting, attempts=waiting.attempts + 1, not_before=NEVER, reason=reason)
    return later(waiting, reason, now)


def later(waiting: Waiting, reason: str, now: int) -> Waiting:
    """The same step, to be tried again after a delay; at a packet's timeout at the latest, since
    that decides what is tried."""
    not_before = now + delay(waiting.attempts)
    timeout = waiting.item.packet.timeout_timestamp
    if waiting.item.step is Step.RECEIVE and now < timeout:
        not_before = min(not_before, timeout)
    return replace(waiting, attempts=waiting.attempts + 1, not_before=not_before, reason=reason)


def wants_young_proof(waiting: Waiting) -> bool:
    """Whether a timeout was refused for a proof from before it: the sentinel was written early,
    by another clock or another program, and only a younger head shows that time has passed."""
    early = waiting.reason.startswith(Reason.TIMEOUT_NOT_REACHED.value)
    return waiting.item.step is Step.TIMEOUT and early


def delay(attempts: int) -> int:
    """Seconds to wait after so many attempts: 1, 2, 4 … MAX_DELAY."""
    return min(MAX_DELAY, 1 << min(attempts, 16))


def refusal(err: LianqiaoError) -> Submission:
    """An error of a chain as the answer to every item that was asked about."""
    return Submission(Outcome.REFUSED, err.reason.value, err.detail)
