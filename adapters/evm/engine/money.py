"""What is asked of the escrow through a node before the chain: posted there by its one key.

Who may do what is the chain's to say: the endpoint's owner opens accounts and assigns, an account's
holder deposits and withdraws. The holder is an address; where none is named he is whoever opens the
account. Every movement has a name (`reference`) under which the chain makes it once, so that what
was posted without an answer can be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters.evm.escrow import MAX_TIME, EscrowCalls
from adapters.evm.light.parameters import hexadecimal
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.canonical import Json
from relay.contracts.base import Reader, key
from relay.contracts.payloads import Withdrawal, fields
from relay.contracts.payloads.fields import Object
from relay.errors import Denied, LianqiaoError, Reason, Refused

_OPERATOR = "the owner of the ledger's endpoint does that, by a node with his key"
_HOLDER = "the holder of the account does that, by a node with his key: lianqiao evm account"


class EscrowDesk:
    """Posts calls of one escrow. Thread-safe as its sender is."""

    def __init__(self, rpc: Rpc, sender: Sender | None, escrow: bytes) -> None:
        self._rpc, self._sender, self._escrow = rpc, sender, escrow

    def holder_of(self, body: dict[str, Json]) -> bytes:
        """Takes `holder` out of terms: who is named, else as it is, else this node's own account.

        Raises Malformed, Unavailable."""
        named = body.pop("holder", "")
        if named:
            return hexadecimal(str(named).lower(), 20)
        held = self._calls().holder(fields.identifier(body, "account"))
        return held if any(held) else self._signer().address

    def post(self, method: str, body: Object, holder: bytes) -> int:
        """Posts a call that was tried on the tables; the block that holds it.

        Raises Denied(NOT_PERMITTED), Refused as the contract, Unavailable, Malformed.
        """
        on_chain: Mapping[str, Callable[[], int]] = {
            "account.open": lambda: self._calls().open_account(body, holder),
            "deposit": lambda: self._deposit(*_movement(body)),
            "assign": lambda: self._calls().assign(*_movement(body)),
            "withdraw": lambda: self._withdraw(body),
        }
        if method not in on_chain:
            raise Denied(
                Reason.NOT_PERMITTED,
                "a currency is opened over a token of the chain",
                hint="its operator does that: lianqiao evm currency",
            )
        try:
            return on_chain[method]()
        except LianqiaoError as error:
            if error.reason is Reason.NOT_PERMITTED:
                error.hint = _HOLDER if method in ("deposit", "withdraw") else _OPERATOR
            raise

    def _deposit(self, account: str, amount: int, movement: bytes) -> int:
        """Lets the escrow pull what is deposited, and no more, and deposits it."""
        escrow, me = self._calls(), self._signer().address
        _, unit, token = escrow.booked(escrow.standing(account).currency)
        if escrow.holder(account) == me and escrow.approved(token, me) < amount * unit:
            escrow.approve(token, amount * unit)
        try:
            return escrow.deposit(account, amount, movement)
        except Refused as error:
            if error.reason is Reason.FUNDS_MISSING:
                error.hint = f"0x{me.hex()} must hold as much of the token 0x{token.hex()}"
            raise

    def _withdraw(self, body: Object) -> int:
        """To the account that holds it, which is this node's own."""
        signed = Withdrawal.from_json(body["withdrawal"])
        me = self._signer().address
        return self._calls().withdraw(signed.account, signed.amount, me, signed.withdrawal)

    def _calls(self) -> EscrowCalls:
        return EscrowCalls(self._rpc, self._signer(), self._escrow)

    def _signer(self) -> Sender:
        if self._sender is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                "this node has no key to post with",
                hint="give the engine the setting `key`: a file with a private key in hex",
            )
        return self._sender


def clipped(body: dict[str, Json]) -> None:
    """Times of keys as the chain keeps them: it has 48 bits for each."""
    parts: list[Any] = [body, *(body.get("cosigners") or ())]  # type: ignore[misc]
    for part in parts:
        for one in part.get("keys") or () if isinstance(part, dict) else ():
            for name in ("start", "end"):
                if isinstance(one, dict) and type(one.get(name)) is int:
                    one[name] = min(one[name], MAX_TIME)


def withdrawn(state: Reader, signed: Withdrawal) -> bytes | None:
    """The record of a withdrawal that was made. Raises Refused(REQUEST_ID_REUSED) where another
    was made under its name."""
    held = state.get(key("moved", signed.withdrawal))
    if held is None:
        return None
    asked = fields.document(held)["asked"]
    due: Json = {
        "account": signed.account,
        "amount": signed.amount,
        "currency": signed.currency,
        "reference": signed.withdrawal.hex(),
    }
    if asked != due:
        raise Refused(Reason.REQUEST_ID_REUSED, "that reference moved something else")
    return held


def _movement(body: Object) -> tuple[str, int, bytes]:
    account = fields.identifier(body, "account")
    return account, fields.integer(body, "amount", 1), fields.octets(body, "reference")
