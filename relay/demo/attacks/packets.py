"""Attacks on packets: carried again, changed, or shown with the proof of another."""

from __future__ import annotations

import time
from dataclasses import replace

from relay.bundle import decode_bundle, encode_bundle, verify_bundle
from relay.chain import Item, Step
from relay.contracts.payloads import Attestation
from relay.demo.attacks.attacker import Attacker
from relay.demo.attacks.foreign import genuine
from relay.packet import Packet, commitment_path
from relay.registry import client_types
from relay.trust import decode_trust
from relay.views import Direction

NEVER_SENT = 1_000_000
"""Far above every sequence of a demonstration."""


def replayed(attacker: Attacker) -> tuple[str, str]:
    """A genuine packet with a genuine proof, a second time: it succeeds and writes nothing."""
    packet, height, proof = _genuine(attacker)
    attacker.wait_quiet()
    before = attacker.relay.head().size
    word, detail = attacker.give_item(Item(Step.RECEIVE, packet), height, proof)
    after = attacker.relay.head().size
    if after != before:
        return "WRITTEN", f"the relay's journal grew from {before} to {after} entries"
    return word, detail or f"the relay's journal holds {after} entries, as before"


def changed(attacker: Attacker) -> tuple[str, str]:
    """An attestation whose HR scope was widened, handed to the relay under a new number."""
    packet, height, proof = _genuine(attacker)
    forged = replace(_widened(packet), sequence=NEVER_SENT)
    return attacker.give_item(Item(Step.RECEIVE, forged), height, proof)


def other_path(attacker: Attacker) -> tuple[str, str]:
    """A packet that was never sent, with the genuine proof that another one was."""
    packet, height, proof = _genuine(attacker)
    forged = replace(packet, sequence=NEVER_SENT + 1)
    return attacker.give_item(Item(Step.RECEIVE, forged), height, proof)


def other_client(attacker: Attacker) -> tuple[str, str]:
    """A packet that claims to come from another client than the counterparty."""
    packet, height, proof = _genuine(attacker)
    forged = replace(packet, sequence=NEVER_SENT + 2, source_client=packet.source_client + "9")
    return attacker.give_item(Item(Step.RECEIVE, forged), height, proof)


def changed_in_bundle(attacker: Attacker) -> tuple[str, str]:
    """The same widened attestation in the evidence file of the genuine one: same path, same proof,
    another value. Raises INVALID_PROOF."""
    packet, _, _ = _genuine(attacker)
    relay = attacker.relay
    raw = relay.bundle(packet.destination_client, packet.sequence, Direction.IN)
    bundle, trust, now = decode_bundle(raw), decode_trust(relay.trust()), int(time.time())
    verify_bundle(raw, trust, now, client_types())
    about = replace(bundle.packets[0], packet=_widened(bundle.packets[0].packet))
    forged = encode_bundle(replace(bundle, packets=(about, *bundle.packets[1:])))
    verify_bundle(forged, trust, now, client_types())
    return "VERIFIED", "a changed attestation verifies"


def _genuine(attacker: Attacker) -> tuple[Packet, int, bytes]:
    """A packet that the relay has received, a height that it trusts, and the proof under it."""
    if attacker.stage.foreign is not None:
        return genuine(attacker)
    packet = attacker.announcement()
    height = attacker.trusted().latest.height
    path = commitment_path(packet.source_client, packet.sequence)
    return packet, height, attacker.source.prove([path], height)


def _widened(packet: Packet) -> Packet:
    """The packet with its attestation's first item valid in the whole country."""
    (payload,) = packet.payloads
    attestation = Attestation.decode(payload.value)
    first, *others = attestation.items
    items = (replace(first, scope=("000000",)), *others)
    value = replace(attestation, items=items).encode()
    return replace(packet, payloads=(replace(payload, value=value),))
