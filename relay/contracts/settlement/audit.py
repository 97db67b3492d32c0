"""Whether what a relay has written about settlements follows from itself: for `lianqiao fsck`.

That each answer was proven is shown by the packets, which `fsck` verifies for every contract alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.contracts.base import Reader, key
from relay.contracts.payloads import (
    CutOff,
    DecisionAnswer,
    Ended,
    LockAnswer,
    Ruling,
    SettlementDecision,
    SignedInstruction,
    fields,
)
from relay.errors import LianqiaoError

_PAGE = 1000


def audit(state: Reader, chain_id: str) -> Iterator[str]:
    """One sentence for each thing that is wrong."""
    try:
        digests = {}
        for name, value in _all(state, b"instruction/"):
            signed = SignedInstruction.from_json(fields.document(value)["signed"])
            instruction = signed.instruction
            if name != key("instruction", instruction.settlement):
                yield f"{name.decode()}: holds another settlement"
            digests[instruction.settlement] = (instruction.digest, instruction.ledgers)
            yield from _references(state, signed)
        for name, value in _all(state, b"cut-off/"):
            cut_off = CutOff.decode(value)
            digests[cut_off.settlement] = (cut_off.digest, cut_off.ledgers)
            for member in cut_off.members:
                if digests.get(member.settlement) != (member.digest, member.ledgers):
                    yield f"{name.decode()}: holds an instruction that was not accepted"
        for name, value in _all(state, b"decision/"):
            decision = SettlementDecision.decode(value)
            where = name.decode()
            if name != b"decision/" + decision.settlement.hex().encode():
                yield f"{where}: decides another settlement"
            if decision.relay != chain_id:
                yield f"{where}: decided by another relay"
            yield from _follows(state, decision, digests.get(decision.settlement), where)
    except (LianqiaoError, ValueError, LookupError) as err:
        yield f"a record of settlement cannot be read: {err}"


def _all(state: Reader, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    after = b""
    while page := state.scan(prefix, after=after, limit=_PAGE):
        yield from page
        after = page[-1][0]


def _references(state: Reader, signed: SignedInstruction) -> Iterator[str]:
    """UETR and quote were used by this settlement and by no other."""
    instruction, quote = signed.instruction, signed.instruction.quote
    for name in (key("uetr", instruction.uetr), key("quote", quote.maker, quote.id)):
        held = state.get(name)
        user = None if held is None else fields.octets(fields.document(held), "settlement")
        if user != instruction.settlement:
            yield f"{name.decode()}: not used by settlement {instruction.settlement.hex()}"


def _follows(
    state: Reader,
    decision: SettlementDecision,
    about: tuple[bytes, tuple[str, ...]] | None,
    where: str,
) -> Iterator[str]:
    """The decision follows from the answers, and what was done from the decision."""
    if about is None or about[0] != decision.digest:
        yield f"{where}: decides on what was not accepted"
        return
    named = tuple(answer.ledger for answer in decision.answers)
    if decision.ruling is Ruling.COMMIT and named != about[1]:
        yield f"{where}: commits without every ledger's lock"
    for answer in decision.answers:
        held = state.get(key("answer", decision.settlement, answer.ledger))
        if held is None or LockAnswer.decode(held) != answer:
            yield f"{where}: names an answer of {answer.ledger} that is not kept"
    for ledger in about[1]:
        raw = state.get(key("done", decision.settlement, ledger))
        ended = None if raw is None else DecisionAnswer.decode(raw).ended
        if ended and (ended is Ended.RELEASED) != (decision.ruling is Ruling.COMMIT):
            yield f"{where}: {ended} on {ledger}"
