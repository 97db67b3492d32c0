"""A recognition as a person reads it: the decision, item by item, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from relay.cli import output
from relay.errors import Invalid, LianqiaoError, Reason, Refused

if TYPE_CHECKING:
    from relay.contracts.payloads import Decision
    from relay.ledger_views import RecognitionView


def tell(view: RecognitionView, as_json: bool) -> None:
    """Prints a decision; ends with 1 where nothing was recognised, or nothing is known yet."""
    from relay.ledger_views import RecognitionState

    if as_json:
        output.print_json(shown(view))
    elif view.decision is not None:
        _print_decision(view, view.decision)
    if view.decision is not None:
        if not view.decision.grant:
            raise typer.Exit(output.REFUSED)
        return
    number = view.request.request.hex()
    if view.state is RecognitionState.TIMED_OUT:
        raise Refused(
            Reason.TIMED_OUT,
            f"request {number} was proven never to have reached {view.request.relay}",
            hint="ask again: nothing was decided",
        )
    if view.state is RecognitionState.FAILED:
        raise Invalid(
            Reason.CONTRACT_REFUSED,
            f"{view.request.relay} could not take request {number} at all",
            hint=f"lianqiao packets show {view.client_id}/{view.sequence}/out shows its answer",
        )
    raise Refused(
        Reason.ACKNOWLEDGEMENT_PENDING,
        f"request {number} is on its way and not decided yet",
        hint=f"lianqiao recognise show {number}; is the relay running, with a lane to this ledger?",
    )


def _print_decision(view: RecognitionView, decision: Decision) -> None:
    from relay.contracts.codes import meaning

    output.say(f"request {decision.request.hex()}, decided by {decision.relay}")
    output.say(f"packet {view.client_id}/{view.sequence}/out, {output.moment(decision.decided)}")
    if decision.reason is not None:
        output.say(f"refused as a whole: {decision.reason}, {meaning(decision.reason.code)}")
    output.table(
        ("part", "item", "decision", "why", "in words"),
        [
            (
                item.part,
                item.item or "-",
                item.verdict,
                ", ".join(str(f) for f in (*item.reasons, *item.flags)) or "-",
                "; ".join(dict.fromkeys(meaning(f.code) for f in (*item.reasons, *item.flags)))
                or meaning(item.verdict),
            )
            for item in decision.items
        ],
        "no items",
    )
    if decision.grant:
        until = output.moment(decision.expires)
        output.say(f"grant {decision.grant.hex()}, until {until}")
        output.say(
            f"next: lianqiao records fetch {decision.commitment.hex()} --grant "
            f"{decision.grant.hex()} --institution {decision.institution} --key FILE "
            f"-o result.record.json --node ADDRESS-OF-{decision.target}"
        )


def share(decision: Decision | None) -> str:
    """How many of the items were recognised, for a table."""
    if decision is None:
        return "-"
    granted = sum(1 for item in decision.items if not item.reasons)
    return f"{granted} of {len(decision.items)}"


def shown(view: RecognitionView) -> dict[str, object]:
    """A request as JSON, with its decision where there is one."""
    decision: object = None
    if view.decision is not None:
        from relay.canonical import decode

        raw = view.decision.encode()
        try:
            decision = decode(raw, len(raw))
        except LianqiaoError:
            decision = raw.hex()
    return {
        "request": view.request.request.hex(),
        "state": str(view.state),
        "record": view.request.commitment.hex(),
        "target": view.request.target,
        "institution": view.request.institution,
        "packet": f"{view.client_id}/{view.sequence}/out",
        "decision": decision,
    }
