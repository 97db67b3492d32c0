"""Between whom a payload of ours goes, by its own word.

On a node the contracts hold that word against the client that a packet was proven on. Who reads a
packet in a bundle has no clients: he holds it against the chains whose heads the bundle shows.

    type                        sent by    received by
    attestation                 ledger
    request, outcome            origin     relay
    notice, outcome_notice      relay      target
    lock, net_lock              relay      ledger
    decision_notice             relay      ledger
    terms_notice                ledger     relay
"""

from __future__ import annotations

from relay.canonical import decode
from relay.contracts.payloads.decision import Decision
from relay.errors import LianqiaoError
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet

_ENDS = {
    "attestation": ("ledger", ""),
    "request": ("origin", "relay"),
    "outcome": ("origin", "relay"),
    "notice": ("relay", "target"),
    "outcome_notice": ("relay", "target"),
    "lock": ("relay", "ledger"),
    "net_lock": ("relay", "ledger"),
    "decision_notice": ("relay", "ledger"),
    "terms_notice": ("ledger", "relay"),
}


def parties(packet: Packet, acknowledgements: tuple[bytes, ...]) -> set[tuple[str, str]]:
    """(sender, receiver) chain ids that payloads and decisions name; empty text: not named.

    Nothing is said of what the receiver answered with an error, since he did not believe it
    either, nor of payloads of other applications.
    """
    if acknowledgements == (ERROR_ACKNOWLEDGEMENT,):
        return set()
    named = set()
    for payload in packet.payloads:
        try:
            value = decode(payload.value, len(payload.value))
        except LianqiaoError:
            continue
        if not isinstance(value, dict):
            continue
        ends = [value.get(member, "") for member in _ENDS.get(str(value.get("type")), ("", ""))]
        named.add((str(ends[0]), str(ends[1])))
    for acknowledgement in acknowledgements:
        try:
            decision = Decision.decode(acknowledgement)
        except LianqiaoError:
            continue
        named.add((decision.origin, decision.relay))
    return named
