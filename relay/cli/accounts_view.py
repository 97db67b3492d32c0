"""Accounts of a money ledger as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from relay.cli import output

if TYPE_CHECKING:
    from relay.contracts.escrow.telling import Told
    from relay.money_views import AccountView


def print_terms(view: AccountView, told: Sequence[Told]) -> None:
    """Limits and co-signers of an account, where it has any, and which relays know of them."""
    from relay.money import format_amount

    terms = view.terms
    if terms is None:
        return
    limits = {
        "a day": terms.limits.daily,
        "a day to one party": terms.limits.counterparty,
        "an officer co-signs above": terms.limits.officer,
        "a regulator co-signs above": terms.limits.regulator,
    }
    set_to = [f"{name} {format_amount(n, view.currency)}" for name, n in limits.items() if n]
    who = [f"{one.role} {one.officer}" for one in terms.cosigners]
    output.fields(
        [
            ("terms", f"version {terms.version}" + (", closed" if terms.closed else "")),
            ("keys", ", ".join(f"{k.algorithm}:{k.key.hex()}" for k in terms.keys)),
            ("limits", ", ".join(set_to) or "none"),
            ("co-signers", ", ".join(who) or "none"),
            ("relays", ", ".join(map(_said, told)) or "none was told"),
        ]
    )


def _said(told: Told) -> str:
    """Such as: hub knows version 2; hub-2: CONFLICT at version 2; hub-3 has not answered."""
    if not told.version:
        return f"{told.relay} has not answered"
    if told.reason:
        return f"{told.relay}: {told.reason} at version {told.version}"
    return f"{told.relay} knows version {told.version}"


def print_accounts(views: Sequence[AccountView], as_json: bool) -> None:
    """Accounts as they stand, a table or JSON."""
    from relay.money import format_amount

    if as_json:
        output.print_json({"accounts": views})
        return
    output.table(
        ("account", "owner", "currency", "balance", "held", "free"),
        [
            (
                v.account,
                v.terms.owner if v.terms else "the ledger",
                v.currency,
                format_amount(v.balance, v.currency),
                format_amount(v.held, v.currency),
                format_amount(v.free, v.currency),
            )
            for v in views
        ],
        "no accounts; lianqiao accounts open makes one",
    )
