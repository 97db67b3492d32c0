"""The packets that a node has sent, with the entries of its journal that travel with each.

Which they are is the sending contract's to say (`Contract.entries`), and follows from the packet:
nothing is stored for it, and every listing says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from relay.chain import PacketStep, Step
from relay.contract import CONTRACT_FAILURES, Contract
from relay.entries import check_entries
from relay.errors import Malformed
from relay.host import HostState
from relay.light.types import Claim
from relay.node import Node
from relay.packet import Packet
from relay.paths import record_path
from relay.query import packet_steps, written

_log = structlog.get_logger()


def steps_of(node: Node, client_id: str, after: int, limit: int) -> list[PacketStep]:
    """What a relayer carries on (relay.query.packet_steps), with what travels with it."""
    steps = packet_steps(node.store, client_id, after, limit, node.shown)
    return [
        replace(step, entries=travelling(node, step.packet, step.height))
        if step.step is Step.SEND
        else step
        for step in steps
    ]


def travelling(node: Node, packet: Packet, height: int) -> tuple[Claim, ...]:
    """The entries under `height` that travel with a packet that this node sent."""
    naming = [p for p in packet.payloads if _names(node.contracts.get(p.source_port))]
    if not naming:
        return ()
    paths: list[bytes] = []
    with node.store.reading() as tx:
        for payload in naming:
            contract = node.contracts[payload.source_port]
            state = HostState(node.channel, tx, contract.port, node.now())
            try:
                keys = contract.entries(packet, payload, state)
                paths += [record_path(contract.port, key) for key in keys]
            except CONTRACT_FAILURES as err:
                _log.error("contract_failed", kind=type(err).__name__, exc_info=err)
    return _in_order(written(node.store, paths, height, node.shown), paths)


def _names(contract: Contract | None) -> bool:
    """Whether a contract may name entries; most keep the default, and are not asked."""
    return contract is not None and (
        getattr(type(contract), "entries", Contract.entries) is not Contract.entries
    )


def _in_order(found: dict[bytes, bytes], paths: Sequence[bytes]) -> tuple[Claim, ...]:
    """In the order in which they were named. What is too much is left behind: the packet then
    lacks something where it is received, which its operators are told."""
    entries = tuple(Claim(path, found[path]) for path in dict.fromkeys(paths) if path in found)
    try:
        check_entries(entries)
    except Malformed as err:
        _log.error("entries_left_behind", reason=err.reason.value, detail=err.detail)
        return ()
    return entries
