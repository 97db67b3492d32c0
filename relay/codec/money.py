"""Settlements, accounts, lines and locks between our values and protobuf.

Whatever is signed or hashed travels as its RFC 8785 bytes and is decoded strictly on both sides.
"""

from __future__ import annotations

from lianqiao.ledger.v1 import escrow_service_pb2 as epb
from lianqiao.relay.v1 import settlement_service_pb2 as spb
from relay import canonical
from relay.books import StepsProven
from relay.codec.fields import (
    blob,
    blobs,
    digest,
    document,
    each,
    identifier,
    integer,
    malformed,
    member,
    name,
)
from relay.contracts.accounts import Terms, read_terms
from relay.contracts.base import key
from relay.contracts.escrow import End, Held, Line, Netted, read_line
from relay.contracts.escrow.telling import Told
from relay.contracts.payloads import (
    CutOff,
    DecisionAnswer,
    LockAnswer,
    SettlementDecision,
    SignedInstruction,
    fields,
)
from relay.contracts.settlement import SettlementStatus, SettlementView
from relay.light.types import MAX_HEADER_BYTES, MAX_PROOF_BYTES
from relay.money import MAX_AMOUNT, Rate
from relay.money_views import (
    AccountView,
    InstructionResult,
    LockPacket,
    LockView,
    PublishedRate,
    Shown,
    WindowView,
)

MAX_TERMS_BYTES = 64 * 1024
MAX_RECORD_BYTES = 8 * 1024 * 1024
MAX_STEP_HEADERS, MAX_STEP_PROOFS = 1000, 4096
_STATES = {
    spb.SETTLEMENT_STATE_WINDOW: SettlementStatus.WINDOW,
    spb.SETTLEMENT_STATE_LOCKING: SettlementStatus.LOCKING,
    spb.SETTLEMENT_STATE_COMMITTED: SettlementStatus.COMMITTED,
    spb.SETTLEMENT_STATE_ABORTED: SettlementStatus.ABORTED,
    spb.SETTLEMENT_STATE_SETTLED: SettlementStatus.SETTLED,
    spb.SETTLEMENT_STATE_RETURNED: SettlementStatus.RETURNED,
}
_STATE_OF = {status: state for state, status in _STATES.items()}


def shown_to_pb(shown: Shown) -> spb.Settlement:
    """A settlement as a message."""
    view = shown.view
    return spb.Settlement(
        settlement=shown.settlement,
        signed=view.signed.encode(),
        accepted=view.accepted,
        state=_STATE_OF[view.status],
        decided_under=view.under,
        answers=[one.encode() for one in view.answers],
        decision=b"" if view.decision is None else view.decision.encode(),
        done=[one.encode() for one in view.done],
        closed=view.closed,
        packets=[lock_packet_to_pb(p) for p in shown.packets],
    )


def shown_from_pb(message: spb.Settlement) -> Shown:
    """Raises Malformed."""
    signed = document(message.signed, "signed", SignedInstruction.decode)
    if message.settlement != signed.instruction.settlement:
        raise malformed("settlement", "is not that of its instruction")
    decision = None
    if message.decision:
        decision = document(message.decision, "decision", SettlementDecision.decode)
    view = SettlementView(
        signed=signed,
        accepted=integer(message.accepted, "accepted"),
        status=member(message.state, "state", _STATES),
        under=digest(message.decided_under, "decided_under"),
        answers=tuple(document(raw, "answers", LockAnswer.decode) for raw in message.answers),
        decision=decision,
        done=tuple(document(raw, "done", DecisionAnswer.decode) for raw in message.done),
        closed=integer(message.closed, "closed"),
    )
    packets = tuple(lock_packet_from_pb(p) for p in message.packets)
    return Shown(view, packets)


def lock_packet_to_pb(packet: LockPacket) -> spb.LockPacket:
    """A packet that asked for a lock, as a message."""
    return spb.LockPacket(
        ledger=packet.ledger, client_id=packet.client_id, sequence=packet.sequence
    )


def lock_packet_from_pb(message: spb.LockPacket) -> LockPacket:
    """Raises Malformed."""
    return LockPacket(
        identifier(message.ledger, "ledger"),
        name(message.client_id, "client_id"),
        integer(message.sequence, "sequence", low=1),
    )


def result_from_pb(message: spb.InstructionResult) -> InstructionResult:
    """Raises Malformed."""
    if not message.HasField("settlement"):
        return InstructionResult(None, name(message.reason, "reason"), message.detail[:1000])
    return InstructionResult(shown_from_pb(message.settlement), "", "")


def rate_to_pb(rate: PublishedRate) -> spb.PublishedRate:
    """A published rate as a message."""
    ratio = rate.rate
    return spb.PublishedRate(
        day=rate.day,
        numerator=ratio.numerator,
        denominator=ratio.denominator,
        loaded=rate.loaded,
    )


def rate_from_pb(message: spb.PublishedRate) -> PublishedRate:
    """Raises Malformed, Invalid(RATE_INVALID)."""
    ratio = Rate(
        integer(message.numerator, "numerator"), integer(message.denominator, "denominator")
    )
    return PublishedRate(name(message.day, "day", 10), ratio, integer(message.loaded, "loaded"))


def window_to_pb(view: WindowView) -> spb.Window:
    """A netting window as a message."""
    return spb.Window(
        window=view.window,
        opened=view.opened,
        deadline=view.deadline,
        cut_off=b"" if view.cut_off is None else view.cut_off.encode(),
        due=view.due,
    )


def window_from_pb(message: spb.Window) -> WindowView:
    """Raises Malformed."""
    found = message.cut_off
    return WindowView(
        name(message.window, "window"),
        integer(message.opened, "opened"),
        integer(message.deadline, "deadline"),
        integer(message.due, "due"),
        document(found, "cut_off", CutOff.decode, MAX_RECORD_BYTES) if found else None,
    )


def steps_proven_to_pb(proven: StepsProven) -> epb.ProveBookStepsResponse:
    """What proves the steps of books, as a message."""
    return epb.ProveBookStepsResponse(
        height=proven.height,
        headers=proven.headers,
        steps=proven.steps,
        proofs=[epb.BookProof(words=words, proof=proof) for words, proof in proven.proofs],
    )


def steps_proven_from_pb(message: epb.ProveBookStepsResponse) -> StepsProven:
    """Raises Malformed."""

    def proof(one: epb.BookProof, where: str) -> tuple[int, bytes]:
        words = integer(one.words, f"{where}.words", 1)
        return words, blob(one.proof, f"{where}.proof", MAX_PROOF_BYTES)

    return StepsProven(
        integer(message.height, "height", 1),
        blobs(message.headers, "headers", MAX_STEP_HEADERS, MAX_HEADER_BYTES),
        integer(message.steps, "steps"),
        each(message.proofs, "proofs", MAX_STEP_PROOFS, proof),
    )


def terms_to_bytes(terms: Terms, holder: str = "") -> bytes:
    """The canonical bytes of an account's terms, as a call takes them; with who deposits and
    withdraws, where an EVM ledger is told."""
    value = terms.to_json()
    if holder:
        value["holder"] = holder
    return canonical.encode(value)


def terms_from_bytes(raw: bytes, field: str = "terms") -> Terms:
    """Raises Malformed."""
    return document(raw, field, lambda b: read_terms(dict(fields.document(b))), MAX_TERMS_BYTES)


def account_to_pb(view: AccountView) -> epb.Account:
    """An account as a message."""
    return epb.Account(
        account=view.account,
        currency=view.currency,
        balance=view.balance,
        held=view.held,
        lines=view.lines,
        terms=b"" if view.terms is None else terms_to_bytes(view.terms),
    )


def account_from_pb(message: epb.Account) -> AccountView:
    """Raises Malformed."""
    return AccountView(
        account=identifier(message.account, "account"),
        currency=identifier(message.currency, "currency"),
        balance=integer(message.balance, "balance", -MAX_AMOUNT, MAX_AMOUNT),
        held=integer(message.held, "held", 0, MAX_AMOUNT),
        lines=integer(message.lines, "lines"),
        terms=terms_from_bytes(message.terms) if message.terms else None,
    )


def announcement_to_pb(told: Told) -> epb.AccountAnnouncement:
    """What a relay said to an account's terms, as a message."""
    return epb.AccountAnnouncement(
        relay=told.relay, version=told.version, reason=told.reason, answered=told.time
    )


def announcement_from_pb(message: epb.AccountAnnouncement) -> Told:
    """Raises Malformed."""
    return Told(
        identifier(message.relay, "relay"),
        integer(message.version, "version"),
        name(message.reason, "reason") if message.reason else "",
        integer(message.answered, "answered"),
    )


def line_to_pb(line: Line) -> epb.Line:
    """A line as a message."""
    return epb.Line(account=line.account, number=line.number, line=line.encode())


def line_from_pb(message: epb.Line) -> Line:
    """Raises Malformed."""
    account = identifier(message.account, "account")
    number = integer(message.number, "number", low=1)
    where = key("line", account, f"{number:012d}")
    return document(message.line, "line", lambda raw: read_line(where, raw))


def lock_to_pb(view: LockView) -> epb.Lock:
    """A lock as a message."""
    return epb.Lock(
        relay=view.relay,
        settlement=view.settlement,
        held=b"" if view.held is None else view.held.encode(),
        ended=b"" if view.end is None else view.end.encode(),
    )


def lock_from_pb(message: epb.Lock) -> LockView:
    """Raises Malformed."""
    held, ended = message.held, message.ended
    return LockView(
        identifier(message.relay, "relay"),
        digest(message.settlement, "settlement"),
        document(held, "held", Held.decode, MAX_RECORD_BYTES) if held else None,
        document(ended, "ended", End.decode) if ended else None,
    )


def netted_from_pb(message: epb.NettedPart) -> Netted:
    """Raises Malformed."""
    amount = integer(message.amount, "amount", -MAX_AMOUNT, MAX_AMOUNT)
    rounding = integer(message.rounding, "rounding", -MAX_AMOUNT, MAX_AMOUNT)
    return Netted(name(message.uetr, "uetr", 36), amount, rounding)


def read_blob(raw: bytes, field: str, limit: int = MAX_RECORD_BYTES) -> fields.Object:
    """A canonical object in a request. Raises Malformed."""
    return fields.document(blob(raw, field, limit, least=1), limit)
