"""Entries that travel with a packet: named by its sender's contract, seen by its receiver's.

A packet may only make sense beside something else that its chain has written: a release of money
beside the decision that allows it. The sending contract names such records (`Contract.entries`),
the relayer carries them, and they are claims of the same proof as the packet's own. The receiving
contract says what it must see (`Contract.entries_needed`); an item that lacks it is refused before
anything is written, so that it can be delivered again with what was missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from relay.chain import MAX_ENTRIES, MAX_ENTRY_BYTES, Item
from relay.contract import CONTRACT_FAILURES, Contract
from relay.errors import Malformed, Reason, Refused
from relay.light.types import Claim
from relay.packet import Packet
from relay.paths import MAX_PATH_BYTES


def check_entries(entries: Sequence[Claim]) -> None:
    """Holds what travels with one packet to its form: few, short, at paths that are no packet's,
    none twice. Raises Malformed."""
    if len(entries) > MAX_ENTRIES or sum(len(e.value or b"") for e in entries) > MAX_ENTRY_BYTES:
        raise Malformed(
            f"at most {MAX_ENTRIES} entries of {MAX_ENTRY_BYTES} bytes travel with a packet",
            reason=Reason.LIMIT_EXCEEDED,
        )
    for entry in entries:
        if entry.value is None or entry.path[:1] != b"\0" or len(entry.path) > MAX_PATH_BYTES:
            raise Malformed("what travels with a packet is an entry at a path of the host")
    if len({entry.path for entry in entries}) < len(entries):
        raise Malformed("one entry travels twice with a packet")


def distinct(claims: Iterable[Claim]) -> list[Claim]:
    """What one proof covers: every claim where it comes first. Items may share an entry, and a
    proof shows one leaf once."""
    return list(dict.fromkeys(claims))


def entries_beside(kept: Sequence[Claim], about: Claim) -> list[Claim]:
    """Of the claims of a kept delivery, the entries that came with the packet that `about` is
    the claim of: they follow it, and none of them is at a packet's path."""
    after = kept[kept.index(about) + 1 :] if about in kept else ()
    return list(takewhile(lambda claim: claim.path[:1] == b"\0", after))


def values_of(item: Item) -> dict[bytes, bytes]:
    """The entries of an item by their paths."""
    return {entry.path: entry.value for entry in item.entries if entry.value is not None}


def needed(contracts: Mapping[str, Contract], packet: Packet) -> list[bytes]:
    """The paths that the receiving contracts of a packet must see proven beside it.

    A contract that is not here, or that fails at a payload, needs nothing: it fails again, and is
    answered for it, when it receives the packet.
    """
    paths: list[bytes] = []
    for payload in packet.payloads:
        contract = contracts.get(payload.destination_port)
        if contract is None:
            continue
        try:
            paths.extend(contract.entries_needed(packet, payload))
        except CONTRACT_FAILURES:
            continue
    return list(dict.fromkeys(paths))


def require_entries(contracts: Mapping[str, Contract], item: Item) -> None:
    """Raises Refused(ENTRY_MISSING) where an entry that a contract needs is not among those of
    the item. Whether they are true is the proof's to show."""
    shown = values_of(item)
    missing = next((path for path in needed(contracts, item.packet) if path not in shown), None)
    if missing is not None:
        raise Refused(
            Reason.ENTRY_MISSING,
            "an entry that must be proven beside this packet did not come with it",
            hint="deliver the packet with the entries that its chain lists with it",
            path=missing.hex(),
        )
