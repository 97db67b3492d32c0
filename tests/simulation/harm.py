"""Planted bugs that an edit of one line cannot make (see tests.simulation.planted)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import delete

import relay.clients
import relay.evidence
import relay.lane
import relay.light.keys
import relay.node
import relay.steps
from relay.chain import Delivery, DeliveryResult, Item, Outcome, Step, Submission
from relay.channel import Channel
from relay.clients import Clients
from relay.contract import Contract
from relay.host import HostState
from relay.lane import Side
from relay.light.checkpoint import parse_body
from relay.light.checkpoint_client import CheckpointClient, make_header
from relay.light.note import decode_note
from relay.light.types import ClientState, ClientType, Header
from relay.light.validators import decode_set
from relay.node import Node
from relay.outbox import Waiting
from relay.packet import Packet
from relay.packet_bytes import encode_packet
from relay.proven import Proven
from relay.store import Direction, PacketRow, Transaction, tables
from relay.views import Cosigned
from relay.witness import SeenHeads, Witness


@dataclass(frozen=True, slots=True)
class Swap:
    """`holder.name` becomes another function."""

    holder: Any
    name: str
    replacement: Callable[..., Any]


_receive = Channel.receive


def _receive_again(self: Channel, tx: Transaction, item: Item, proven: Proven, now: int) -> bool:
    """Runs the contract whether or not there is a receipt."""
    if not _receive(self, tx, item, proven, now) and now < item.packet.timeout_timestamp:
        proven.require()
        self._run_contracts(tx, item, now)
    return True


RECEIVES_AGAIN = Swap(Channel, "receive", _receive_again)

_deliver = Node.deliver
_run_contracts = Channel._run_contracts


def _deliver_in_two(self: Node, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
    """The contracts first, in a transaction of their own; then everything else."""
    answers: dict[tuple[str, int], Any] = {}

    def first(tx: Transaction, now: int) -> None:
        for delivery in deliveries:
            mark = tx.mark()
            result = self.channel.deliver(tx, delivery, now)
            tx.rollback(mark)
            for item, answer in zip(delivery.items, result.items, strict=True):
                if _was_received(item, answer):
                    key = (delivery.client_id, item.packet.sequence)
                    answers[key] = _run_contracts(self.channel, tx, item, now)

    def answered(channel: Channel, tx: Transaction, item: Item, now: int) -> Any:
        key = (item.packet.destination_client, item.packet.sequence)
        return answers.get(key) or _run_contracts(channel, tx, item, now)

    self._groups.submit(first)
    Channel._run_contracts = answered  # type: ignore[method-assign]
    try:
        return _deliver(self, deliveries)
    finally:
        Channel._run_contracts = _run_contracts  # type: ignore[method-assign]


def _was_received(item: Item, answer: Submission) -> bool:
    return item.step is Step.RECEIVE and answer.outcome is Outcome.DONE


RECEIPT_LATER = Swap(Node, "deliver", _deliver_in_two)

_shown_first: WeakKeyDictionary[Channel, dict[tuple[str, int], Packet]] = WeakKeyDictionary()


def _keep_the_first(self: Channel, tx: Transaction, item: Item, proven: Proven, now: int) -> bool:
    """Keeps packets by their sequence from when they are shown first, verified or not: what is
    received is verified, and what was shown first is written into its row."""
    packet = item.packet
    kept = _shown_first.setdefault(self, {})
    first = kept.setdefault((packet.destination_client, packet.sequence), packet)
    done = _receive(self, tx, item, proven, now)
    if done and first.payloads != packet.payloads:
        row = tx.load(PacketRow, packet.destination_client, Direction.IN, packet.sequence)
        assert row is not None
        remembered = replace(packet, payloads=first.payloads)
        tx.save(replace(row, packet=encode_packet(remembered)))
    return done


KEEPS_THE_FIRST = Swap(Channel, "receive", _keep_the_first)

_acknowledge = Channel.acknowledge


def _told_again(
    self: Channel,
    tx: Transaction,
    packet: Packet,
    acknowledgements: Sequence[bytes],
    proven: Proven,
    now: int,
) -> bool:
    """Tells the contract of every acknowledgement, also of one that closed the packet before."""
    if not _acknowledge(self, tx, packet, acknowledgements, proven, now):
        proven.require()
        for payload, answer in zip(packet.payloads, acknowledgements, strict=True):
            contract: Contract = self.contracts[payload.source_port]
            state = HostState(self, tx, contract.port, now)
            contract.acknowledge(packet, payload, answer, state, now)
    return True


TOLD_AGAIN = Swap(Channel, "acknowledge", _told_again)


def _freeze_nothing(
    self: Clients, tx: Transaction, client_id: str, evidence: bytes, now: int
) -> bool:
    """Says that it froze."""
    self.load(tx, client_id)
    return True


FREEZES_NOTHING = Swap(Clients, "freeze", _freeze_nothing)


def _believe(
    client_type: ClientType, state: ClientState, known: object, evidence: bytes, now: int
) -> None:
    """Verifies no evidence."""


ALL_IS_EVIDENCE = Swap(relay.clients, "verify_misbehaviour", _believe)

_update = Clients.update


def _update_and_forget(
    self: Clients, tx: Transaction, client_id: str, headers: Sequence[bytes], now: int
) -> int:
    """Keeps the newest consensus states only."""
    new = _update(self, tx, client_id, headers, now)
    table = tables.table(tables.Consensus)
    latest = self.load(tx, client_id).row.latest_height
    tx.connection.execute(
        delete(table).where(table.c.client_id == client_id, table.c.height < latest - 100)
    )
    return new


FORGETS_HEADS = Swap(Clients, "update", _update_and_forget)

_seal = relay.node.seal


def _signing_node(self: Node, steps: Sequence[Any]) -> list[Any]:
    """Signs inside the transaction that is still to be committed."""

    def sealed(tx: Transaction, *arguments: Any) -> Any:
        edge, row = _seal(tx, *arguments)
        self._heads.signer.sign(row.size, row.body, self._heads.set_of(row))
        return edge, row

    relay.node.seal = sealed
    try:
        return _commit(self, steps)
    finally:
        relay.node.seal = _seal


_commit = Node._commit
SIGNS_EARLY = Swap(Node, "_commit", _signing_node)

_after_answer = relay.steps.after_answer


def _give_up(waiting: Waiting, answer: Submission, now: int) -> Waiting | None:
    """Takes a refusal for an end."""


GIVES_UP = Swap(relay.lane, "after_answer", _give_up)


def _never_expire(waiting: Waiting, answer: Submission, now: int) -> Waiting | None:
    """Tries to have a packet received for ever."""
    left = _after_answer(waiting, answer, now)
    if left is not None and left.item.step is Step.EXPIRE:
        return relay.steps.later(waiting, answer.reason, now)
    return left


NEVER_EXPIRES = Swap(relay.lane, "after_answer", _never_expire)
NEVER_SETTLES = Swap(relay.steps, "SETTLED", frozenset())  # type: ignore[arg-type]


def _hide(*_: Any) -> list[Any]:
    """No head between two others changes the set."""
    return []


HIDES_CHANGES = Swap(relay.evidence, "_set_changes", _hide)


def _prove(*_: Any) -> None:
    """Every proof proves."""


PROVES_ALL = Swap(CheckpointClient, "verify_membership", _prove)
SIGNS_ALL = Swap(relay.light.keys, "verify", _prove)


_sign_as_witness = Witness._sign


def _cosign_all(
    self: Witness, old_size: int, proof: Sequence[bytes], note: bytes, validators: bytes, now: int
) -> Cosigned:
    """Looks at nothing but the form of what is shown."""
    text = decode_note(note).text
    body = parse_body(text)
    base = self._follow(body.origin, now).base
    presented = decode_set(validators) if validators else base.validators
    header = make_header(decode_note(note), presented, 0, ())
    if header.height >= base.height:
        self._seen.save(body.origin, header)
    return Cosigned(_sign_as_witness(self, text, now), body.size)


COSIGNS_ALL = Swap(Witness, "add_checkpoint", _cosign_all)

_remember = SeenHeads.save
_late: list[Header] = []


def _remember_later(self: SeenHeads, origin: str, header: Header) -> None:
    """Writes the head before the one that is being co-signed, which a crash would leave."""
    if _late:
        _remember(self, origin, _late.pop())
    _late.append(header)


REMEMBERS_LATER = Swap(SeenHeads, "save", _remember_later)


def _always(*_: Any) -> bool:
    """Every client is due for a refresh, always."""
    return True


ALWAYS_DUE = Swap(Side, "_is_due_refresh", _always)
