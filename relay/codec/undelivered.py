"""What a relayer could not deliver, as a message."""

from __future__ import annotations

from lianqiao.relay.v1 import operator_service_pb2 as pb
from relay.codec.fields import digest, integer, malformed, member, text
from relay.codec.packets import STEPS, key_from_pb, key_to_pb, step_number
from relay.views import Undelivered

MAX_ATTEMPTS = 2**32 - 1


def undelivered_to_pb(view: Undelivered) -> pb.Undelivered:
    """Undelivered as a message."""
    return pb.Undelivered(
        key=key_to_pb(view.client_id, view.sequence, view.direction),
        step=step_number(view.step),
        attempts=min(view.attempts, MAX_ATTEMPTS),
        next_attempt_time_seconds=view.next_attempt,
        given_up=view.given_up,
        reason=view.reason,
        commitment=view.commitment,
    )


def undelivered_from_pb(message: pb.Undelivered, where: str = "undelivered") -> Undelivered:
    """Undelivered of bounded size."""
    client_id, sequence, direction = key_from_pb(message.key, f"{where}.key")
    next_attempt = integer(message.next_attempt_time_seconds, f"{where}.next_attempt_time_seconds")
    if message.given_up and next_attempt:
        raise malformed(f"{where}.next_attempt_time_seconds", "must be 0 where it was given up")
    return Undelivered(
        client_id=client_id,
        sequence=sequence,
        direction=direction,
        step=member(message.step, f"{where}.step", STEPS),
        attempts=message.attempts,
        next_attempt=next_attempt,
        given_up=message.given_up,
        reason=text(message.reason, f"{where}.reason"),
        commitment=digest(message.commitment, f"{where}.commitment"),
    )
