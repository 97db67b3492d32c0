"""Who calls: the one place where that is determined.

Until certificates and roles exist, a server listens on loopback alone and everyone who reaches it
is the machine's own operator. Whoever adds mTLS changes `caller_of` and nothing else.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity and how it was established."""

    name: str
    means: str
    """`loopback`: reached this machine's loopback interface, and proved nothing else."""


LOOPBACK = Caller("anonymous", "loopback")
CALLER: ContextVar[Caller] = ContextVar("caller", default=LOOPBACK)
"""The caller of the RPC that this thread is answering; set by the boundary."""


def caller_of(context: grpc.ServicerContext) -> Caller:
    """The identity behind a call. Raises Denied(UNAUTHENTICATED) where there must be one."""
    return LOOPBACK
