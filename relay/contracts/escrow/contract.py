"""The contract `escrow` on a money ledger: accounts, locks, and their one way to end.

Calls (bodies are RFC 8785 JSON; each is documented where it is implemented):

    currency.open  account.open  deposit  assign     by the ledger's operator
    account.announce                                  tells relays what accounts are, by one of them
    withdraw                                          signed by the account's owner
    resend                                            takes up again what could not be sent

Packets: rows 6, 7 and 8 from a relay, row 9 to relays (relay.contracts.payloads). A refused lock is
an answer with its reason and leaves nothing behind; an error acknowledgement is for what should not
have been sent. What an operator must know: README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from relay.contract import HeadNeed, State
from relay.contracts import base, undelivered
from relay.contracts.escrow import calls, telling
from relay.contracts.escrow.audit import audit
from relay.contracts.escrow.endings import end
from relay.contracts.escrow.locks import lock, net_lock
from relay.contracts.payloads import (
    ESCROW_PORT,
    ESCROW_VERSION,
    SETTLEMENT_PORT,
    DecisionNotice,
    Lock,
    LockAnswer,
    NetLock,
    cut_off_key,
    decision_key,
    fields,
    window_settlement,
)
from relay.errors import Denied, Invalid, Malformed, NotFound, Reason, Refused
from relay.packet import Packet, Payload
from relay.paths import record_path

_CALLS: dict[str, Callable[[bytes, State, int], bytes]] = {
    "currency.open": calls.open_currency,
    "account.open": telling.open_account,
    "account.announce": telling.announce,
    "deposit": calls.deposit,
    "withdraw": calls.withdraw,
    "assign": calls.assign,
    "resend": undelivered.resend,
}


class Escrow(undelivered.Posts):
    """See the module. Stateless: everything it knows is in `state`."""

    def __init__(self, *, tells: bool = True) -> None:
        """`tells`: whether relays hear of accounts from here; not where the books are those of
        another program, which sends nothing (adapters/evm)."""
        self._tells = tells

    port = ESCROW_PORT
    operator_methods = frozenset({"currency.open", "account.open", "deposit", "assign"})

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """One of the calls above. Raises NotFound(NOT_FOUND) for another."""
        run = _CALLS.get(method)
        if run is None:
            raise base.unknown_method(self.port, method)
        if not self._tells and method == "account.open":
            run = calls.open_account
        if not self._tells and method == "account.announce":
            raise Denied(
                Reason.NOT_PERMITTED,
                "the books are those of a chain, which tells no relay of its accounts",
                hint="register them at each relay: lianqiao accounts open --relay ADDRESS",
            )
        return run(body, state, now)

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
        """Rows 6 to 8, from the relay they name, for this ledger.

        Raises Malformed or Invalid (CHAIN_ID_MISMATCH, COUNTERPARTY_MISMATCH, DECISION_MISMATCH).
        """
        body = base.read_payload(payload, ESCROW_VERSION)
        kind = body.get("type")
        if kind == "decision_notice":
            notice = DecisionNotice.from_json(body)
            self._check(notice.relay, notice.ledger, packet, payload, state)
            return end(notice, state, now).encode()
        if kind == "lock":
            asked = Lock.from_json(body)
            self._check(asked.relay, asked.ledger, packet, payload, state)
            settlement = asked.signed.instruction.settlement
            return self._answer(
                settlement, asked.relay, state, now, partial(lock, asked, state, now)
            )
        if kind == "net_lock":
            netted = NetLock.from_json(body)
            self._check(netted.relay, netted.ledger, packet, payload, state)
            settlement = window_settlement(netted.relay, netted.window)
            run = partial(net_lock, netted, state, now)
            return self._answer(settlement, netted.relay, state, now, run)
        fields.refuse("type", "must be lock, net_lock or decision_notice")

    def _answer(
        self,
        settlement: bytes,
        relay: str,
        state: State,
        now: int,
        run: Callable[[], LockAnswer],
    ) -> bytes:
        """The answer to a lock; a refusal is one too. Nothing was written where it was refused."""
        try:
            answer = run()
        except Malformed:
            raise
        except (Denied, Invalid, NotFound, Refused) as err:
            if err.reason in _NOT_ANSWERS:
                raise
            return LockAnswer(state.chain_id, settlement, err.reason, now).encode()
        if self._tells:
            telling.note_lock(state, relay, settlement, now)
        return answer.encode()

    def _check(
        self, relay: str, ledger: str, packet: Packet, payload: Payload, state: State
    ) -> None:
        if ledger != state.chain_id:
            raise Invalid(Reason.CHAIN_ID_MISMATCH, "meant for another ledger", ledger=ledger)
        if relay != base.sender(packet, state) or payload.source_port != SETTLEMENT_PORT:
            raise Invalid(
                Reason.COUNTERPARTY_MISMATCH, "another relay or port than sent it", relay=relay
            )

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """A relay heard of an account."""
        telling.answered(packet, acknowledgement, state, now)

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """A relay has not heard of an account: it is told again."""
        telling.again(packet, state, now)

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """Nothing here depends on the age of a head."""
        return ()

    def entries_needed(self, packet: Packet, payload: Payload) -> Sequence[bytes]:
        """A decision comes with its record, a net lock with the window's cut-off."""
        body = base.read_payload(payload, ESCROW_VERSION)
        if body.get("type") == "decision_notice":
            settlement = DecisionNotice.from_json(body).decision.settlement
            return (record_path(SETTLEMENT_PORT, decision_key(settlement)),)
        if body.get("type") == "net_lock":
            window = fields.name(body, "window")
            return (record_path(SETTLEMENT_PORT, cut_off_key(window)),)
        return ()

    def audit(self, state: base.Reader, chain_id: str) -> Iterator[str]:
        """See relay.contract.Audited."""
        return audit(state)


_NOT_ANSWERS = frozenset((Reason.DECISION_MISMATCH, Reason.PATH_WRITTEN))
"""What shows a wrong relay, not a wrong instruction."""

CONTRACT = Escrow()
QUIET = Escrow(tells=False)
