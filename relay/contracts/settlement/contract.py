"""The contract `settlement` on a relay: both sides of a conversion, or neither.

Calls (bodies are RFC 8785 JSON; each is documented where it is implemented):

    account.register          terms of an account on a ledger, by this relay's operator
    rates.policy rates.load   the rules for a pair, and what its source publishes
    lane.pause lane.resume    whether anything new is taken for a ledger; never stops a decision
    window.open window.cut_off
    instruct                  a signed instruction, by anyone who holds one
    retry                     asks a ledger again whose answer is missing
    resend                    takes up again what could not be sent (relay.contracts.undelivered)

Packets: rows 6 to 8 to the escrows of the ledgers concerned; row 9 from them. The rules: README.md
beside this file; keys: relay.contracts.settlement.keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from relay.canonical import Json, encode
from relay.contract import HeadNeed, State
from relay.contracts import accounts, base, undelivered
from relay.contracts.base import key
from relay.contracts.payloads import (
    ESCROW_PORT,
    SETTLEMENT_PORT,
    SETTLEMENT_VERSION,
    DecisionNotice,
    Lock,
    NetLock,
    cut_off_key,
    decision_key,
    fields,
    window_settlement,
)
from relay.contracts.settlement import rates, windows
from relay.contracts.settlement.accept import instruct
from relay.contracts.settlement.audit import audit
from relay.contracts.settlement.decide import Asked, answered, done, read_answer, read_done
from relay.contracts.settlement.keys import find_decision
from relay.contracts.settlement.retry import retry
from relay.contracts.settlement.sending import send_decision
from relay.contracts.terms_notice import TermsAnswer, TermsNotice
from relay.errors import Invalid, Reason
from relay.packet import Packet, Payload


def register_account(body: bytes, state: State, now: int) -> bytes:
    """`account.register`: {ledger, and the terms as for `account.open` of an escrow}.

    Raises what accounts.register raises.
    """
    asked = base.read_call(
        body, "account closed cosigners currency keys ledger limits owner version"
    )
    return accounts.register(asked, state, now, fields.identifier(asked, "ledger"))


def _lane(paused: bool) -> Callable[[bytes, State, int], bytes]:
    def run(body: bytes, state: State, now: int) -> bytes:
        """`lane.pause`, `lane.resume`: {ledger}."""
        ledger = fields.identifier(base.read_call(body, "ledger"), "ledger")
        found = state.last(key("lane", ledger, ""))
        number = 1 if found is None else int(found[0].rpartition(b"/")[2]) + 1
        value: Json = {"paused": paused, "time": now}
        state.put(key("lane", ledger, f"{number:08d}"), encode(value))
        return encode(value)

    return run


_CALLS: dict[str, Callable[[bytes, State, int], bytes]] = {
    "account.register": register_account,
    "rates.policy": rates.load_policy,
    "rates.load": rates.load_rate,
    "lane.pause": _lane(True),
    "lane.resume": _lane(False),
    "window.open": windows.open_window,
    "window.cut_off": windows.cut_off,
    "instruct": instruct,
    "retry": retry,
    "resend": undelivered.resend,
}


class Settlement(undelivered.Posts):
    """See the module. Stateless: everything it knows is in `state`."""

    port = SETTLEMENT_PORT
    operator_methods = frozenset({"account.register", "rates.policy", "rates.load", "lane.resume"})
    """Any one operator may pause a lane: that takes nothing new and stops no decision."""

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """One of the calls above. Raises NotFound(NOT_FOUND) for another."""
        run = _CALLS.get(method)
        if run is None:
            raise base.unknown_method(self.port, method)
        return run(body, state, now)

    def due(self, state: base.Reader, now: int) -> Sequence[tuple[str, bytes]]:
        """Windows are cut off by themselves, at the time they were opened with."""
        return [("window.cut_off", encode({"window": w})) for w in windows.due(state, now)]

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
        """Row 9: a ledger's own word of its accounts. All else ledgers say in acknowledgements.

        Raises Malformed or Invalid (CHAIN_ID_MISMATCH, COUNTERPARTY_MISMATCH, WEAK_KEY).
        """
        told = TermsNotice.from_json(base.read_payload(payload, SETTLEMENT_VERSION))
        if told.relay != state.chain_id:
            raise Invalid(Reason.CHAIN_ID_MISMATCH, "meant for another relay", relay=told.relay)
        if told.ledger != base.sender(packet, state) or payload.source_port != ESCROW_PORT:
            raise Invalid(
                Reason.COUNTERPARTY_MISMATCH,
                "another ledger or port than sent it",
                ledger=told.ledger,
            )
        reason = accounts.learn(told.terms, told.ledger, state, now)
        terms = told.terms
        return TermsAnswer(state.chain_id, terms.account, terms.version, reason).encode()

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """A ledger's proven answer to a lock, or to the decision."""
        body = fields.document(payload.value)
        if body.get("type") == "decision_notice":
            self._done(DecisionNotice.from_json(body), acknowledgement, state, now)
            return
        asked = _asked(body)
        answered(asked, read_answer(asked, acknowledgement, now), state, now)

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """A lock proven never to have been received is a refusal; a decision is sent again."""
        body = fields.document(payload.value)
        if body.get("type") == "decision_notice":
            told = _written(DecisionNotice.from_json(body), state)
            send_decision(state, told.ledger, told.decision, now)
            return
        asked = _asked(body)
        answered(asked, read_answer(asked, None, now), state, now)

    def _done(self, notice: DecisionNotice, acknowledgement: bytes, state: State, now: int) -> None:
        """What a ledger has not done is set aside: `resend` sends it again when that is mended."""
        told = _written(notice, state)
        answer = read_done(told.ledger, told.decision, acknowledgement)
        if answer is None:
            payload = undelivered.payload_for(ESCROW_PORT, SETTLEMENT_PORT, told.encode())
            undelivered.set_aside(state, told.ledger, payload, now)
            return
        done(answer, _window_of(told.decision.settlement, state), state, now)

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """Nothing here depends on the age of a head."""
        return ()

    def entries(self, packet: Packet, payload: Payload, state: State) -> Sequence[bytes]:
        """A decision travels with its record, a net lock with the cut-off of its window."""
        body = fields.document(payload.value)
        if body.get("type") == "decision_notice":
            return (decision_key(DecisionNotice.from_json(body).decision.settlement),)
        if body.get("type") == "net_lock":
            return (cut_off_key(fields.name(body, "window")),)
        return ()

    def audit(self, state: base.Reader, chain_id: str) -> Iterator[str]:
        """See relay.contract.Audited."""
        return audit(state, chain_id)


def _written(notice: DecisionNotice, state: State) -> DecisionNotice:
    """The notice of the decision that is written, whatever an earlier one said."""
    decision = find_decision(state, notice.decision.settlement)
    assert decision is not None, "a decision is written before anyone is told of it"
    return DecisionNotice(notice.ledger, decision)


def _asked(body: fields.Object) -> Asked:
    """What a lock packet of ours asked for."""
    if body.get("type") == "net_lock":
        netted = NetLock.from_json(body)
        under = window_settlement(netted.relay, netted.window)
        return Asked(netted.ledger, under, netted.window)
    lock = Lock.from_json(body)
    return Asked(lock.ledger, lock.signed.instruction.settlement, "")


def _window_of(settlement: bytes, state: State) -> str:
    """The window that settles under an id; empty for a settlement by itself."""
    held = state.get(key("locking", settlement))
    return "" if held is None else fields.name(fields.document(held), "window")


CONTRACT = Settlement()
