"""Attacks on the heads and packets of a source of another kind, through its adapter alone.

Each starts from what the chain itself shows; nothing is wrong with it but what the attack changes.
"""

from __future__ import annotations

import time
from dataclasses import replace

from relay.bundle import decode_bundle
from relay.bundle_format import ClaimKind
from relay.chain import Delivery
from relay.demo.attacks.attacker import GROW_TRIES, Attacker, answer_of
from relay.errors import LianqiaoError, NotFound, Reason, Unavailable
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.types import Header
from relay.packet import Packet
from relay.views import Direction

BLOCK_SECONDS = 1.0


def next_header(attacker: Attacker) -> Header:
    """A genuine header of the source, two heights or more above what the relay trusts."""
    chain, client_type = attacker.foreign_chain(), attacker.foreign_type()
    view = attacker.trusted()
    for _ in range(10 * GROW_TRIES):
        height = chain.latest_height()
        trusted = attacker.trusted().latest.height
        if height > trusted + 1:
            raw = chain.headers(trusted, height, view.state.algorithm)[-1]
            return client_type.decode_header(raw)
        time.sleep(BLOCK_SECONDS / 4)
    raise Unavailable(Reason.CONFLICT, "the chain makes no blocks")


def give(attacker: Attacker, header: Header) -> tuple[str, str]:
    """Hands a header to the relay's client of the source; what it answers."""
    raw = attacker.foreign_type().encode_header(header)
    (result,) = attacker.relay.deliver([Delivery(attacker.client_id, (raw,))])
    return answer_of(result.headers)


def forged_signature(attacker: Attacker) -> tuple[str, str]:
    """One validator's seal in another's name."""
    header = next_header(attacker)
    first, second, *others = header.signatures
    return give(
        attacker, replace(header, signatures=(replace(first, value=second.value), second, *others))
    )


def too_few_signers(attacker: Attacker) -> tuple[str, str]:
    """Seals of two validators of four, both genuine."""
    header = next_header(attacker)
    return give(attacker, replace(header, signatures=header.signatures[:2]))


def signer_twice(attacker: Attacker) -> tuple[str, str]:
    """Three genuine seals of two validators."""
    header = next_header(attacker)
    first, second, *_ = header.signatures
    return give(attacker, replace(header, signatures=(first, first, second)))


def changed_state(attacker: Attacker) -> tuple[str, str]:
    """A genuine header in which the root of the state was exchanged."""
    header = next_header(attacker)
    body = header.body.replace(header.root, bytes(31) + b"\x01", 1)
    return give(attacker, replace(header, body=body))


def old_head(attacker: Attacker) -> tuple[str, str]:
    """A genuine head that is older than what the relay knows, to hide what came after it."""
    old = next_header(attacker)
    for _ in range(GROW_TRIES):
        while attacker.foreign_chain().latest_height() <= old.height:
            time.sleep(BLOCK_SECONDS / 4)
        answer = give(attacker, next_header(attacker))
        if attacker.trusted().latest.height > old.height:
            return give(attacker, old)
    return answer


def false_accusation(attacker: Attacker) -> tuple[str, str]:
    """One genuine head and one that nobody sealed: a client must not be stopped by strangers."""
    header, client_type = next_header(attacker), attacker.foreign_type()
    body = header.body.replace(header.root, bytes(31) + b"\x01", 1)
    true, other = (client_type.encode_header(h) for h in (header, replace(header, body=body)))
    try:
        evidence = encode_evidence(Evidence(true, other))
        attacker.relay.submit_misbehaviour(attacker.client_id, evidence)
    except LianqiaoError as error:
        return str(error.reason), error.detail
    return "FROZEN", "a stranger stopped the relay's client"


def genuine(attacker: Attacker) -> tuple[Packet, int, bytes]:
    """A packet that the relay has received, with the height and the proof that it came with."""
    packet = attacker.announcement()
    raw = attacker.relay.bundle(packet.destination_client, packet.sequence, Direction.IN)
    for hop in decode_bundle(raw).hops:
        if [claim.kind for claim in hop.claims] == [ClaimKind.COMMITMENT]:
            return packet, hop.height, hop.proof
    raise NotFound(Reason.BUNDLE_INCOMPLETE, "the bundle does not show that it was sent")
