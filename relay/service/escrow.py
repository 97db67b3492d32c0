"""EscrowService: accounts of a money ledger, their lines, and what settlements have locked."""

from __future__ import annotations

import grpc

from lianqiao.ledger.v1 import escrow_service_pb2 as pb
from lianqiao.ledger.v1 import escrow_service_pb2_grpc as rpc
from relay import canonical, query
from relay.books import KeptElsewhere
from relay.canonical import Json
from relay.codec import pages
from relay.codec.fields import digest, identifier, integer, malformed
from relay.codec.money import (
    MAX_RECORD_BYTES,
    MAX_TERMS_BYTES,
    account_to_pb,
    announcement_to_pb,
    line_to_pb,
    lock_to_pb,
    read_blob,
    steps_proven_to_pb,
)
from relay.contracts.accounts import find_terms
from relay.contracts.base import Reader, everything, key
from relay.contracts.escrow import (
    find_end,
    find_held,
    find_netted,
    last_line,
    nostro,
    read_line,
    suspense,
)
from relay.contracts.escrow.telling import answers_of
from relay.contracts.payloads import ESCROW_PORT, fields
from relay.errors import NotFound, Reason
from relay.money_views import AccountView, LockView
from relay.packet import MAX_PAYLOAD_BYTES
from relay.service.parts import Parts

_MAX_CURRENCIES = 200


class EscrowServicer(rpc.EscrowServiceServicer):
    """Carries what operator and owners order to the contract `escrow`, and shows its books."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def RegisterCurrency(
        self, request: pb.RegisterCurrencyRequest, context: grpc.ServicerContext
    ) -> pb.RegisterCurrencyResponse:
        """`currency.open` of the contract."""
        self._call("currency.open", {"currency": request.currency})
        return pb.RegisterCurrencyResponse()

    def RegisterAccount(
        self, request: pb.RegisterAccountRequest, context: grpc.ServicerContext
    ) -> pb.RegisterAccountResponse:
        """`account.open` of the contract."""
        body = read_blob(request.terms, "terms", MAX_TERMS_BYTES)
        relays: dict[str, Json] = {"relays": list(request.relays)} if request.relays else {}
        self._call("account.open", {**body, **relays})
        return pb.RegisterAccountResponse(account=self._account(str(body["account"])))

    def RequestAccountAnnouncement(
        self, request: pb.RequestAccountAnnouncementRequest, context: grpc.ServicerContext
    ) -> pb.RequestAccountAnnouncementResponse:
        """`account.announce` of the contract."""
        body: Json = {"accounts": list(request.accounts), "relays": list(request.relays)}
        self._call("account.announce", body)
        return pb.RequestAccountAnnouncementResponse()

    def SubmitDeposit(
        self, request: pb.SubmitDepositRequest, context: grpc.ServicerContext
    ) -> pb.SubmitDepositResponse:
        """`deposit` of the contract."""
        self._move("deposit", request)
        return pb.SubmitDepositResponse(account=self._account(request.account))

    def SubmitWithdrawal(
        self, request: pb.SubmitWithdrawalRequest, context: grpc.ServicerContext
    ) -> pb.SubmitWithdrawalResponse:
        """`withdraw` of the contract."""
        signed = read_blob(request.withdrawal, "withdrawal", MAX_PAYLOAD_BYTES)
        self._call("withdraw", {"withdrawal": signed})
        return pb.SubmitWithdrawalResponse(account=self._account(str(signed["account"])))

    def SubmitAssignment(
        self, request: pb.SubmitAssignmentRequest, context: grpc.ServicerContext
    ) -> pb.SubmitAssignmentResponse:
        """`assign` of the contract."""
        self._move("assign", request)
        return pb.SubmitAssignmentResponse(account=self._account(request.account))

    def GetAccount(
        self, request: pb.GetAccountRequest, context: grpc.ServicerContext
    ) -> pb.GetAccountResponse:
        """The last terms and the last line."""
        account = identifier(request.account, "account")
        with self._parts.state(ESCROW_PORT) as state:
            told = [announcement_to_pb(one) for one in answers_of(state, account)]
        return pb.GetAccountResponse(account=self._account(account), announcements=told)

    def ListAccounts(
        self, request: pb.ListAccountsRequest, context: grpc.ServicerContext
    ) -> pb.ListAccountsResponse:
        """Accounts after the one that the token names, the ledger's own among them."""
        size, listing = pages.page_size(request.page_size), pages.filter_hash("ListAccounts")
        after = pages.decode_text(pages.decode_token(request.page_token, listing))
        with self._parts.state(ESCROW_PORT) as state:
            found = sorted([*_opened(state, after, size), *_own(state, after)], key=_place)[:size]
            accounts, token = pages.cut(
                listing,
                size,
                found,
                lambda a: account_to_pb(account_view(state, a)),
                lambda a: a.encode(),
            )
        return pb.ListAccountsResponse(accounts=accounts, next_page_token=token)

    def ListLines(
        self, request: pb.ListLinesRequest, context: grpc.ServicerContext
    ) -> pb.ListLinesResponse:
        """Keys under line/."""
        account = identifier(request.account, "account") if request.account else ""
        prefix = f"line/{account}/" if account else "line/"
        size, listing = pages.page_size(request.page_size), pages.filter_hash("line", account)
        found = self._records(prefix, pages.decode_token(request.page_token, listing), size)
        lines, token = pages.cut(
            listing, size, found, lambda f: line_to_pb(read_line(*f)), lambda f: f[0]
        )
        return pb.ListLinesResponse(lines=lines, next_page_token=token)

    def GetLock(
        self, request: pb.GetLockRequest, context: grpc.ServicerContext
    ) -> pb.GetLockResponse:
        """lock/<relay>/<settlement> and ended/ beside it."""
        relay = identifier(request.relay, "relay")
        settlement = digest(request.settlement, "settlement")
        with self._parts.state(ESCROW_PORT) as state:
            view = lock_view(state, relay, settlement)
            account = identifier(request.account, "account") if request.account else ""
            netted = find_netted(state, relay, settlement, account) if account else ()
        if view.held is None and view.end is None:
            raise NotFound(Reason.NOT_FOUND, "that settlement has locked nothing here")
        parts = [
            pb.NettedPart(uetr=one.uetr, amount=one.amount, rounding=one.rounding) for one in netted
        ]
        return pb.GetLockResponse(lock=lock_to_pb(view), netted=parts)

    def ListLocks(
        self, request: pb.ListLocksRequest, context: grpc.ServicerContext
    ) -> pb.ListLocksResponse:
        """Keys under lock/."""
        size, listing = pages.page_size(request.page_size), pages.filter_hash("ListLocks")
        found = self._records("lock/", pages.decode_token(request.page_token, listing), size)
        with self._parts.state(ESCROW_PORT) as state:
            locks, token = pages.cut(
                listing,
                size,
                found,
                lambda f: lock_to_pb(lock_view(state, *_named(f[0]))),
                lambda f: f[0],
            )
        return pb.ListLocksResponse(locks=locks, next_page_token=token)

    def ListEscrowEntries(
        self, request: pb.ListEscrowEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListEscrowEntriesResponse:
        """Every key of the contract."""
        size, listing = pages.page_size(request.page_size), pages.filter_hash("EscrowEntries")
        found = self._records("", pages.decode_token(request.page_token, listing), size)
        entries, token = pages.cut(
            listing, size, found, lambda f: pb.EscrowEntry(key=f[0], value=f[1]), lambda f: f[0]
        )
        return pb.ListEscrowEntriesResponse(entries=entries, next_page_token=token)

    def ListBookSteps(
        self, request: pb.ListBookStepsRequest, context: grpc.ServicerContext
    ) -> pb.ListBookStepsResponse:
        """KeptElsewhere.steps."""
        size, listing = pages.page_size(request.page_size), pages.filter_hash("BookSteps")
        after = pages.decode_number(pages.decode_token(request.page_token, listing))
        found = self._elsewhere().steps(after, size)
        numbered = [(pages.encode_number(number), step) for number, step in found]
        steps, token = pages.cut_bytes(listing, size, numbered)
        return pb.ListBookStepsResponse(steps=steps, next_page_token=token)

    def ProveBookSteps(
        self, request: pb.ProveBookStepsRequest, context: grpc.ServicerContext
    ) -> pb.ProveBookStepsResponse:
        """KeptElsewhere.prove_steps."""
        trusted = integer(request.trusted_height, "trusted_height")
        return steps_proven_to_pb(self._elsewhere().prove_steps(trusted))

    def _elsewhere(self) -> KeptElsewhere:
        """Raises NotFound(PORT_NOT_FOUND) where this node itself keeps its books."""
        self._parts.require(ESCROW_PORT)
        node = self._parts.node
        if not isinstance(node, KeptElsewhere):
            raise NotFound(
                Reason.PORT_NOT_FOUND,
                "this node keeps its books itself",
                hint="ListEscrowEntries lists them, EvidenceService.Prove proves them",
            )
        return node

    def _call(self, method: str, body: Json) -> fields.Object:
        answer = self._parts.node.call(ESCROW_PORT, method, canonical.encode(body))
        return fields.document(answer, MAX_RECORD_BYTES)

    def _move(
        self, method: str, request: pb.SubmitDepositRequest | pb.SubmitAssignmentRequest
    ) -> None:
        if not 1 <= request.amount < 2**53:
            raise malformed("amount", "must be 1 to 2^53-1 minor units", Reason.AMOUNT_INVALID)
        body: Json = {
            "account": identifier(request.account, "account"),
            "amount": request.amount,
            "currency": request.currency,
            "reference": digest(request.reference, "reference").hex(),
        }
        self._call(method, body)

    def _account(self, account: str) -> pb.Account:
        with self._parts.state(ESCROW_PORT) as state:
            return account_to_pb(account_view(state, account))

    def _records(self, prefix: str, cursor: bytes | None, size: int) -> list[tuple[bytes, bytes]]:
        store = self._parts.node.store
        return query.list_records(store, ESCROW_PORT, prefix.encode(), cursor or b"", size)


def account_view(state: Reader, account: str) -> AccountView:
    """An account as it stands. Raises NotFound(ACCOUNT_NOT_FOUND)."""
    line, own = last_line(state, account), ":" in account
    terms = None if own else find_terms(state, account)
    currency = account.rpartition(":")[2] if own else terms.currency if terms else ""
    if not currency or (own and state.get(key("currency", currency)) is None):
        raise NotFound(Reason.ACCOUNT_NOT_FOUND, "no such account", account=account)
    return AccountView(account, currency, line.balance, line.held, line.number, terms)


def lock_view(state: Reader, relay: str, settlement: bytes) -> LockView:
    """What a settlement has locked here, and how it ended."""
    return LockView(
        relay, settlement, find_held(state, relay, settlement), find_end(state, relay, settlement)
    )


def _named(where: bytes) -> tuple[str, bytes]:
    _, relay, settlement = where.decode().split("/")
    return relay, bytes.fromhex(settlement)


def _opened(state: Reader, after: str, most: int) -> list[str]:
    """Accounts with terms, in byte order of their ids, one look-up each."""
    found: list[str] = []
    while len(found) < most:
        # "0" is the character after "/": past every version of the account before.
        start = f"account/{after}0".encode() if after else b""
        page = state.scan(b"account/", after=start, limit=1)
        if not page:
            break
        after = page[0][0].decode().split("/")[1]
        found.append(after)
    return found


def _own(state: Reader, after: str) -> list[str]:
    codes = [k.decode().split("/")[1] for k, _ in everything(state, b"currency/", _MAX_CURRENCIES)]
    names = [own(code) for code in codes for own in (nostro, suspense)]
    return [name for name in names if not after or _place(name) > _place(after)]


def _place(account: str) -> str:
    """What accounts are ordered by: as their keys, in which a slash ends the id."""
    return f"{account}/"
