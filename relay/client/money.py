"""SettlementService and EscrowService: what payers, makers, banks and their auditors ask.

Signing is the caller's (relay.settling): what is submitted here is signed already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lianqiao.ledger.v1 import escrow_service_pb2 as epb
from lianqiao.ledger.v1 import escrow_service_pb2_grpc as erpc
from lianqiao.relay.v1 import settlement_service_pb2 as pb
from lianqiao.relay.v1 import settlement_service_pb2_grpc as rpc
from relay.books import StepsProven
from relay.client.base import Calls
from relay.client.connection import Connection
from relay.codec import money
from relay.codec.fields import document, malformed
from relay.contracts.accounts import Terms
from relay.contracts.escrow import Line
from relay.contracts.escrow.telling import Told
from relay.contracts.payloads import CutOff, SignedInstruction, Withdrawal, fields
from relay.contracts.settlement import RatePolicy, read_policy
from relay.money import Rate
from relay.money_views import (
    AccountView,
    InstructionResult,
    LockView,
    PublishedRate,
    Retried,
    Shown,
    WindowView,
)


class SettlementCalls(Calls):
    """SettlementService; relays alone serve it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._settlement = rpc.SettlementServiceStub(connection.channel)

    def instruct(self, signed: SignedInstruction) -> Shown:
        """Submits an instruction; the same again has the same answer.

        Raises what the contract refuses it for: QUOTE_EXPIRED, QUOTE_USED, RATE_COLLAR …
        """
        request = pb.SubmitInstructionRequest(signed=signed.encode())
        response = self._connection.call(self._settlement.SubmitInstruction, request)
        return money.shown_from_pb(response.settlement)

    def instruct_each(self, given: Sequence[SignedInstruction]) -> list[InstructionResult]:
        """Submits several, 256 at most, in one commit of the relay; one result each."""
        request = pb.SubmitInstructionsRequest(signed=[one.encode() for one in given])
        response = self._connection.call(self._settlement.SubmitInstructions, request)
        if len(response.results) != len(given):
            raise malformed("results", "do not match the instructions")
        return [money.result_from_pb(one) for one in response.results]

    def retry(self, settlement: bytes) -> Retried:
        """Asks again for what is missing of a settlement that does not move on.

        Raises NotFound(NOT_FOUND), Refused: SETTLEMENT_DECIDED, WINDOW_CLOSED.
        """
        request = pb.RequestRetryRequest(settlement=settlement)
        response = self._connection.call(self._settlement.RequestRetry, request)
        packets = tuple(money.lock_packet_from_pb(p) for p in response.packets)
        return Retried(packets, response.told)

    def settlement(self, settlement: bytes = b"", uetr: str = "") -> Shown:
        """One settlement, by its id or its UETR. Raises NotFound(NOT_FOUND)."""
        request = pb.GetSettlementRequest(settlement=settlement, uetr=uetr)
        response = self._connection.call(self._settlement.GetSettlement, request)
        return money.shown_from_pb(response.settlement)

    def settlements(self) -> Iterator[Shown]:
        """All settlements, in order of their ids."""
        request = pb.ListSettlementsRequest()
        return self._pages(
            self._settlement.ListSettlements, request, "settlements", money.shown_from_pb
        )

    def register_settlement_account(self, ledger: str, terms: Terms) -> None:
        """Tells the relay the terms of an account on a ledger."""
        request = pb.RegisterSettlementAccountRequest(
            ledger=ledger, terms=money.terms_to_bytes(terms)
        )
        self._connection.call(self._settlement.RegisterSettlementAccount, request)

    def load_rate_policy(self, document: bytes) -> None:
        """Loads a version of a rate policy, RFC 8785 JSON."""
        request = pb.LoadRatePolicyRequest(document=document)
        self._connection.call(self._settlement.LoadRatePolicy, request)

    def load_rate(self, policy: str, day: str, rate: Rate) -> None:
        """Loads what a policy's source published for a day or a month."""
        request = pb.LoadRateRequest(
            policy=policy, day=day, numerator=rate.numerator, denominator=rate.denominator
        )
        self._connection.call(self._settlement.LoadRate, request)

    def rate_policies(self) -> Iterator[RatePolicy]:
        """Every version of every rate policy."""
        request = pb.ListRatePoliciesRequest()
        return self._pages(
            self._settlement.ListRatePolicies,
            request,
            "documents",
            lambda raw: document(raw, "policy", lambda r: read_policy(fields.document(r))),
        )

    def pause_lane(self, ledger: str, paused: bool) -> None:
        """Takes nothing new for a ledger, or takes again; decisions are never stopped."""
        request = pb.SubmitLaneStateRequest(ledger=ledger, paused=paused)
        self._connection.call(self._settlement.SubmitLaneState, request)

    def rates(self, policy: str) -> Iterator[PublishedRate]:
        """What the source of a policy has published. Raises NotFound(POLICY_NOT_FOUND)."""
        request = pb.ListRatesRequest(policy=policy)
        return self._pages(self._settlement.ListRates, request, "rates", money.rate_from_pb)

    def open_window(self, window: str, deadline: int, due: int = 0) -> None:
        """Opens a netting window: it is cut off by itself at `due` and its locks time out at
        `deadline`, seconds; without `due` it is given up at the deadline."""
        request = pb.CreateWindowRequest(window=window, deadline=deadline, due=due)
        self._connection.call(self._settlement.CreateWindow, request)

    def cut_off(self, window: str) -> CutOff:
        """Cuts a window off: what it holds is journaled and netted."""
        request = pb.RequestCutOffRequest(window=window)
        response = self._connection.call(self._settlement.RequestCutOff, request)
        return document(response.cut_off, "cut_off", CutOff.decode, money.MAX_RECORD_BYTES)

    def windows(self) -> Iterator[WindowView]:
        """All netting windows."""
        request = pb.ListWindowsRequest()
        return self._pages(self._settlement.ListWindows, request, "windows", money.window_from_pb)

    def settlement_entries(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of everything that the contract has written, in order of its keys."""
        request = pb.ListSettlementEntriesRequest()
        return self._pages(
            self._settlement.ListSettlementEntries, request, "entries", lambda e: (e.key, e.value)
        )


class EscrowCalls(Calls):
    """EscrowService; money ledgers alone serve it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._escrow = erpc.EscrowServiceStub(connection.channel)

    def open_currency(self, currency: str) -> None:
        """Lets the ledger keep accounts in a currency."""
        request = epb.RegisterCurrencyRequest(currency=currency)
        self._connection.call(self._escrow.RegisterCurrency, request)

    def register_account(
        self, terms: Terms, relays: Sequence[str] = (), *, holder: str = ""
    ) -> AccountView:
        """Opens an account, changes its terms, or closes it: by the next version.

        Relays named by their global ids are told, and all that were told before. `holder`: on an
        EVM ledger, which tells nobody, the address in hex that deposits and withdraws.
        """
        raw = money.terms_to_bytes(terms, holder)
        request = epb.RegisterAccountRequest(terms=raw, relays=sorted(relays))
        response = self._connection.call(self._escrow.RegisterAccount, request)
        return money.account_from_pb(response.account)

    def deposit(self, account: str, currency: str, amount: int, reference: bytes) -> AccountView:
        """Credits what the operator holds at the bank; once for each reference, 32 bytes."""
        request = epb.SubmitDepositRequest(
            account=account, currency=currency, amount=amount, reference=reference
        )
        response = self._connection.call(self._escrow.SubmitDeposit, request)
        return money.account_from_pb(response.account)

    def assign(self, account: str, currency: str, amount: int, reference: bytes) -> AccountView:
        """Moves money out of suspense to the account that it is due to."""
        request = epb.SubmitAssignmentRequest(
            account=account, currency=currency, amount=amount, reference=reference
        )
        response = self._connection.call(self._escrow.SubmitAssignment, request)
        return money.account_from_pb(response.account)

    def withdraw(self, withdrawal: Withdrawal) -> AccountView:
        """Takes money off the ledger, signed by the account's owner."""
        request = epb.SubmitWithdrawalRequest(withdrawal=withdrawal.encode())
        response = self._connection.call(self._escrow.SubmitWithdrawal, request)
        return money.account_from_pb(response.account)

    def account(self, account: str) -> AccountView:
        """One account. Raises NotFound(ACCOUNT_NOT_FOUND)."""
        request = epb.GetAccountRequest(account=account)
        response = self._connection.call(self._escrow.GetAccount, request)
        return money.account_from_pb(response.account)

    def announcements(self, account: str) -> list[Told]:
        """What each relay said last to an account's terms."""
        request = epb.GetAccountRequest(account=account)
        response = self._connection.call(self._escrow.GetAccount, request)
        return [money.announcement_from_pb(one) for one in response.announcements]

    def announce_accounts(self, accounts: Sequence[str], relays: Sequence[str]) -> None:
        """Has relays told the terms that accounts have now. Raises NotFound: CLIENT_NOT_FOUND."""
        request = epb.RequestAccountAnnouncementRequest(
            accounts=sorted(accounts), relays=sorted(relays)
        )
        self._connection.call(self._escrow.RequestAccountAnnouncement, request)

    def accounts(self) -> Iterator[AccountView]:
        """All accounts, the ledger's own among them."""
        request = epb.ListAccountsRequest()
        return self._pages(self._escrow.ListAccounts, request, "accounts", money.account_from_pb)

    def lines(self, account: str = "") -> Iterator[Line]:
        """The lines of one account, or of all, oldest first."""
        request = epb.ListLinesRequest(account=account)
        return self._pages(self._escrow.ListLines, request, "lines", money.line_from_pb)

    def lock(self, relay: str, settlement: bytes, account: str = "") -> LockView:
        """What a settlement has locked here, and how it ended; of a netting window also what it is
        made of on `account`. Raises NotFound(NOT_FOUND)."""
        request = epb.GetLockRequest(relay=relay, settlement=settlement, account=account)
        response = self._connection.call(self._escrow.GetLock, request)
        netted = tuple(money.netted_from_pb(one) for one in response.netted)
        return replace(money.lock_from_pb(response.lock), netted=netted)

    def locks(self) -> Iterator[LockView]:
        """What settlements have locked here."""
        request = epb.ListLocksRequest()
        return self._pages(self._escrow.ListLocks, request, "locks", money.lock_from_pb)

    def escrow_entries(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of everything that the contract has written, in order of its keys."""
        request = epb.ListEscrowEntriesRequest()
        return self._pages(
            self._escrow.ListEscrowEntries, request, "entries", lambda e: (e.key, e.value)
        )

    def book_steps(self) -> Iterator[bytes]:
        """What was done to books that another chain keeps, in order. Raises
        NotFound(PORT_NOT_FOUND) where the node keeps them."""
        request = epb.ListBookStepsRequest()
        return self._pages(self._escrow.ListBookSteps, request, "steps", bytes)

    def prove_book_steps(self, trusted_height: int) -> StepsProven:
        """What proves them. Raises as `book_steps`, Refused(CONFIG_INVALID), Unavailable."""
        request = epb.ProveBookStepsRequest(trusted_height=trusted_height)
        response = self._connection.call(self._escrow.ProveBookSteps, request)
        return money.steps_proven_from_pb(response)
