"""Asking a chain of several operators for a client: all must ask for the very same.

The first operator takes the newest head of the chain that is to be followed. The others name that
head by its height, and the digest of what the first one asked for: whoever would be shown another
head, or pin something else of it, is refused before he asks for anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from relay.cli.options import MAX_NUMBER, hex_of
from relay.errors import Invalid, Reason, Refused
from relay.proposals import creation_digest

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.light.types import ClientState, ConsensusState

T = TypeVar("T")

Anchor = Annotated[
    int,
    typer.Option(
        "--anchor",
        metavar="HEIGHT",
        min=0,
        max=MAX_NUMBER,
        help="Pin the ledger's head of this height, not its newest.",
        show_default=False,
    ),
]
RelayAnchor = Annotated[
    int,
    typer.Option(
        "--relay-anchor",
        metavar="HEIGHT",
        min=0,
        max=MAX_NUMBER,
        help="The same of the relay, where the ledger has several operators.",
        show_default=False,
    ),
]
ProposalDigest = Annotated[
    str,
    typer.Option(
        "--proposal",
        metavar="DIGEST",
        help="Ask for this only, as another operator's connect printed it.",
        show_default=False,
    ),
]


@dataclass(slots=True)
class Asking:
    """What one run of a command may ask for, and how the next operator repeats it."""

    wanted: bytes
    """Digest of the only proposal that may be made; empty: any."""
    repeat: Sequence[str]
    """The command line for other operators, without anchor and digest."""

    def check(self, digest: bytes) -> None:
        """Raises Invalid(PROPOSAL_MISMATCH) unless that may be proposed. One proposal is wanted:
        what follows it in the same run is not compared."""
        if self.wanted and digest != self.wanted:
            raise Invalid(
                Reason.PROPOSAL_MISMATCH,
                f"from here this is proposal {digest.hex()}, not {self.wanted.hex()}",
                hint="compare head, trusting period, witnesses and client ids with the operator "
                "whose proposal it is; nothing was asked for",
                proposal=digest.hex(),
            )
        self.wanted = b""

    def create(
        self,
        node: NodeClient,
        state: ClientState,
        raw_header: bytes,
        anchor: ConsensusState,
        option: str,
        counterparty: str = "",
    ) -> str:
        """The new client's id. `option` gives the anchor's height on the command line; empty
        where a file does.

        Raises Invalid(PROPOSAL_MISMATCH), Refused(APPROVAL_PENDING) with the others' command.
        """
        digest = creation_digest(state, anchor, counterparty)
        self.check(digest)
        height = [option, str(anchor.height)] if option else []
        return self.ask(
            lambda: node.create_client(state, raw_header, counterparty_client_id=counterparty),
            *height,
            "--proposal",
            digest.hex(),
        )

    def ask(self, call: Callable[[], T], *pinned: str) -> T:
        """The answer of a call, or Refused(APPROVAL_PENDING) with what the others run."""
        line = shlex.join([*self.repeat, *pinned])
        hint = f"the others, at their own nodes, and you again in the end: {line}"
        return _or_pending(call, hint, line)


def ask_alike(call: Callable[[], T], *pinned: str) -> T:
    """The answer of a call, or Refused(APPROVAL_PENDING) that tells which options make the others'
    call the very same: what was drawn, or taken from the clock, for this one."""
    said = shlex.join(pinned)
    return _or_pending(
        call, f"the others repeat the very same command at their own nodes, with {said}"
    )


def _or_pending(call: Callable[[], T], hint: str, line: str = "") -> T:
    """The answer of a call; where it waits for others, `hint` says what they do."""
    try:
        return call()
    except Refused as error:
        if error.reason is not Reason.APPROVAL_PENDING:
            raise
        pending = Refused(error.reason, error.detail, hint=hint, **error.data)
        if line:
            pending.data["next"] = line  # whole, however long
        raise pending from None


def asking(proposal: str, repeat: Sequence[str]) -> Asking:
    """Of the option's value. Raises Malformed."""
    return Asking(hex_of(proposal, "--proposal") if proposal else b"", repeat)
