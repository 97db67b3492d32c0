"""Accounts of a money ledger as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from relay.cli import output

if TYPE_CHECKING:
    from relay.money_views import AccountView


def print_terms(view: AccountView) -> None:
    """Limits and co-signers of an account, where it has any."""
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
    told = [f"{name} {format_amount(n, view.currency)}" for name, n in limits.items() if n]
    who = [f"{one.role} {one.officer}" for one in terms.cosigners]
    output.fields(
        [
            ("terms", f"version {terms.version}" + (", closed" if terms.closed else "")),
            ("keys", ", ".join(f"{k.algorithm}:{k.key.hex()}" for k in terms.keys)),
            ("limits", ", ".join(told) or "none"),
            ("co-signers", ", ".join(who) or "none"),
        ]
    )


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
