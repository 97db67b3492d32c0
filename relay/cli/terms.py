"""Terms of accounts: opened by the ledger's operator, and changed by the next version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.access import public_key
from relay.cli.accounts_view import print_accounts
from relay.cli.attest import relays_of
from relay.cli.keys import load_key
from relay.cli.options import Json, Node, node_at, time_of
from relay.cli.proposal import ask_alike
from relay.errors import LianqiaoError, Malformed, NotFound, Reason

if TYPE_CHECKING:
    from relay.contracts.accounts import Cosigner, Terms
    from relay.contracts.escrow.telling import Told
    from relay.contracts.policy.values import DatedKey
    from relay.money_views import AccountView

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.")]
Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217, such as HKD.")]
Limit = Annotated[str, typer.Option(metavar="AMOUNT", help="A day; 0: none.")]
Change = Annotated[str, typer.Option(metavar="AMOUNT", help="A day; 0: none. As it is by default.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="A key that debits it (PEM); may be repeated."),
]
Publics = Annotated[
    list[str] | None,
    typer.Option(
        "--public", metavar="ALGORITHM:HEX", help="The public half instead, as `keys show` has it."
    ),
]
Officers = Annotated[
    list[str] | None,
    typer.Option(
        "--officer", metavar="ID=ALGORITHM:HEX", help="A second officer, who may co-sign."
    ),
]
Regulators = Annotated[
    list[str] | None,
    typer.Option("--regulator", metavar="ID=ALGORITHM:HEX", help="A regulator, who may co-sign."),
]
Relay = Annotated[
    str,
    typer.Option(
        "--relay",
        metavar="ADDRESS",
        help="Register it there by hand, now: with a relay's operator role, or of an EVM ledger.",
    ),
]
Holder = Annotated[
    str,
    typer.Option(
        "--holder",
        metavar="ADDRESS",
        help="On an EVM ledger: who deposits and withdraws. By default who opens it.",
    ),
]
Start = Annotated[
    str, typer.Option("--from", metavar="TIME", help="Keys hold from here on. Default: now.")
]


def open_account(
    account: Account,
    currency: Currency,
    owner: Annotated[str, typer.Option("--owner", metavar="ID", help="Whose it is.")],
    node: Node,
    key: Keys = None,
    public: Publics = None,
    relay: Relay = "",
    daily: Limit = "0",
    counterparty: Limit = "0",
    officer_above: Limit = "0",
    regulator_above: Limit = "0",
    officer: Officers = None,
    regulator: Regulators = None,
    holder: Holder = "",
    start: Start = "",
    as_json: Json = False,
) -> None:
    """Opens an account. Every relay that the ledger is connected to is told of it.

    Above --officer-above or --regulator-above a day, one of those named by --officer or
    --regulator must co-sign; --daily and --counterparty are the most for a day, and for one party.

    Example: lianqiao accounts open insurer HKD --owner hk-insurer --key insurer.pem
    --officer-above 100000.00 --officer ho=ed25519:HEX --node 127.0.0.1:7001
    --relay 127.0.0.1:7000
    """
    from relay.contracts.accounts import Limits, Terms
    from relay.money import parse_amount

    each = [
        parse_amount(a, currency) for a in (daily, counterparty, officer_above, regulator_above)
    ]
    now = _now(start)
    keys = _keys(key, public, now)
    if not keys:
        raise Malformed("no key is given", hint="give --key FILE or --public ALGORITHM:HEX")
    terms = Terms(
        account=account,
        owner=owner,
        currency=currency,
        version=1,
        keys=keys,
        cosigners=_cosigners(officer, regulator, now),
        limits=Limits(*each),
        closed=False,
    )
    _check_cosigners(terms)
    pinned = ("--from", str(now))
    with node_at(node) as peer:
        ask_alike(lambda: peer.open_currency(currency), *pinned)
        connected = relays_of(peer)
        view = ask_alike(lambda: peer.register_account(terms, connected, holder=holder), *pinned)
        told = peer.announcements(account)
        ledger = peer.status().chain_id
    missing = _tell(relay, ledger, terms, node, pinned) if relay else None
    _end(view, told, relay, missing, as_json)


def change(
    account: Account,
    node: Node,
    key: Keys = None,
    public: Publics = None,
    relay: Relay = "",
    daily: Change = "",
    counterparty: Change = "",
    officer_above: Change = "",
    regulator_above: Change = "",
    officer: Officers = None,
    regulator: Regulators = None,
    close: Annotated[
        bool, typer.Option("--close", help="Takes and pays nothing any more; it must be empty.")
    ] = False,
    holder: Holder = "",
    start: Start = "",
    as_json: Json = False,
) -> None:
    """Writes the next version of an account's terms: what is not named stays as it is.

    Keys replace those before, co-signers those of their role. Every relay that the ledger is
    connected to, or ever told of an account, hears of it.

    Example: lianqiao accounts change insurer --daily 500000.00 --node 127.0.0.1:7001
    --relay 127.0.0.1:7000
    """
    from dataclasses import replace

    from relay.contracts.accounts import Limits
    from relay.contracts.payloads import OfficerRole
    from relay.money import parse_amount

    with node_at(node) as peer:
        before, ledger = peer.account(account).terms, peer.status().chain_id
    if before is None:
        raise Malformed(f"{account} is the ledger's own and has no terms")
    asked = {
        "daily": daily,
        "counterparty": counterparty,
        "officer": officer_above,
        "regulator": regulator_above,
    }
    limits: Limits = replace(
        before.limits,
        **{name: parse_amount(text, before.currency) for name, text in asked.items() if text},
    )
    now = _now(start)
    named = {OfficerRole.OFFICER: officer, OfficerRole.REGULATOR: regulator}
    kept = tuple(one for one in before.cosigners if named[one.role] is None)
    terms = replace(
        before,
        version=before.version + 1,
        keys=_keys(key, public, now) or before.keys,
        cosigners=(*kept, *_cosigners(officer, regulator, now)),
        limits=limits,
        closed=close or before.closed,
    )
    _check_cosigners(terms)
    pinned = ("--from", str(now))
    with node_at(node) as peer:
        connected = relays_of(peer)
        view = ask_alike(lambda: peer.register_account(terms, connected, holder=holder), *pinned)
        told = peer.announcements(account)
    missing = _tell(relay, ledger, terms, node, pinned) if relay else None
    if not as_json:
        output.note(f"version {terms.version}")
    _end(view, told, relay, missing, as_json)


def announce(
    node: Node,
    accounts: Annotated[
        list[str] | None, typer.Argument(metavar="ACCOUNT...", help="Default: every account.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="CHAIN", help="A relay. Default: all that are connected."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tells relays the terms that accounts have now: for a relay that was connected later.

    Example: lianqiao accounts announce --to hub-2 --node 127.0.0.1:7001
    """
    with node_at(node) as peer:
        relays = sorted(to) if to else relays_of(peer)
        if not relays:
            raise NotFound(
                Reason.CLIENT_NOT_FOUND,
                "the ledger is connected to no relay",
                hint="lianqiao connect --node LEDGER --relay RELAY",
            )
        named = sorted(accounts or [view.account for view in peer.accounts() if view.terms])
        for first in range(0, len(named), MAX_AT_ONCE):
            part = named[first : first + MAX_AT_ONCE]
            ask_alike(lambda part=part: peer.announce_accounts(part, relays))  # type: ignore[misc]
    if as_json:
        output.print_json({"accounts": named, "relays": relays})
        return
    output.say(f"{len(named)} accounts, {', '.join(relays)}")
    output.say(f"what they answer: lianqiao accounts show ACCOUNT --node {node}")


def _end(
    view: AccountView, told: list[Told], relay: str, missing: LianqiaoError | None, as_json: bool
) -> None:
    """Shows the account as it stands now; then raises what kept `relay` from being told."""
    if not as_json:
        _say_who_hears(told, "" if missing else relay)
    print_accounts([view], as_json)
    if missing is not None:
        raise missing


def _say_who_hears(told: list[Told], by_hand: str) -> None:
    """`by_hand`: the relay that was told by this command, which needs no proof of the ledger."""
    if told:
        output.note(f"told: {', '.join(one.relay for one in told)}")
    if by_hand:
        output.note(f"told by hand, on its operator's word: {by_hand}")
    if told or by_hand:
        return
    output.note("no relay hears of it from this ledger: it is connected to none, or an EVM chain")
    output.note("hint: lianqiao accounts announce, when it is; or --relay ADDRESS, by hand")


MAX_AT_ONCE = 200
_YEARS = 10 * 366 * 86_400


def _now(start: str) -> int:
    import time

    return time_of(start, "--from") if start else int(time.time())


def _dated(pairs: list[tuple[str, bytes]], now: int) -> tuple[DatedKey, ...]:
    """Keys that hold from a day ago for ten years; the next version ends them before."""
    from relay.contracts.policy.values import DatedKey

    return tuple(DatedKey(a, key, now - 86_400, now + _YEARS) for a, key in pairs)


def _keys(files: list[Path] | None, publics: list[str] | None, now: int) -> tuple[DatedKey, ...]:
    pairs = [(k.algorithm, k.public) for k in map(load_key, files or ())]
    return _dated([*pairs, *(public_key(text) for text in publics or ())], now)


def _cosigners(
    officers: list[str] | None, regulators: list[str] | None, now: int
) -> tuple[Cosigner, ...]:
    """Who may co-sign, from ID=ALGORITHM:HEX; of one id several keys. Raises Malformed."""
    from relay.contracts.accounts import Cosigner
    from relay.contracts.payloads import OfficerRole

    found: dict[tuple[OfficerRole, str], list[tuple[str, bytes]]] = {}
    for role, texts in ((OfficerRole.OFFICER, officers), (OfficerRole.REGULATOR, regulators)):
        for text in texts or ():
            name, equals, key = text.partition("=")
            if not (name and equals):
                raise Malformed(
                    f"--{role}: {text[:60]!r} is not ID=ALGORITHM:HEX",
                    hint="lianqiao keys show FILE shows ALGORITHM and HEX",
                )
            found.setdefault((role, name), []).append(public_key(key, f"--{role}"))
    return tuple(Cosigner(*who, _dated(pairs, now)) for who, pairs in found.items())


def _check_cosigners(terms: Terms) -> None:
    """Raises Malformed where a threshold would stop the account, since nobody could co-sign."""
    roles = {one.role.value for one in terms.cosigners}
    for role, above in (("officer", terms.limits.officer), ("regulator", terms.limits.regulator)):
        if above and role not in roles:
            raise Malformed(
                f"above --{role}-above nobody could co-sign",
                hint=f"name one: --{role} ID=ALGORITHM:HEX",
            )


def _tell(
    relay: str, ledger: str, terms: Terms, node: str, pinned: tuple[str, str]
) -> LianqiaoError | None:
    """Registers terms at a relay by hand; the error that the command ends with, once it has shown
    what the ledger did, where that fails: on the ledger they are written by now.

    Raises Refused(APPROVAL_PENDING).
    """

    def register() -> None:
        with node_at(relay) as hub:
            hub.register_settlement_account(ledger, terms)

    try:
        ask_alike(register, *pinned)
    except LianqiaoError as error:
        if error.reason is Reason.APPROVAL_PENDING:
            raise
        error.detail = (
            f"version {terms.version} of {terms.account} is written on {ledger}; only the telling "
            f"is missing: {error.detail}"
        )
        error.hint = (
            f"lianqiao accounts announce {terms.account} --node {node}, to a connected relay"
        )
        if terms.version == 1:
            error.hint += f"; by hand: this command again with {' '.join(pinned)}"
        return error
    return None
