"""SettlementService: signed instructions to the contract, and what its keys tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from lianqiao.relay.v1 import settlement_service_pb2 as pb
from lianqiao.relay.v1 import settlement_service_pb2_grpc as rpc
from relay import canonical, query
from relay.canonical import Json
from relay.codec import pages
from relay.codec.fields import blob, digest, document, each, identifier, malformed, name
from relay.codec.money import (
    MAX_RECORD_BYTES,
    MAX_TERMS_BYTES,
    lock_packet_to_pb,
    rate_to_pb,
    read_blob,
    shown_to_pb,
    window_to_pb,
)
from relay.contracts.base import Reader, key
from relay.contracts.payloads import SETTLEMENT_PORT, SignedInstruction, fields
from relay.contracts.payloads.instruction import rate as read_rate
from relay.contracts.settlement import (
    find_cut_off,
    find_settlement,
    policy_at,
    rate_key,
    settlement_of,
)
from relay.errors import LianqiaoError
from relay.money_views import LockPacket, PublishedRate, Shown, WindowView
from relay.packet import MAX_INT, MAX_PAYLOAD_BYTES
from relay.service.parts import Parts

MAX_INSTRUCTIONS = 256
"""In one call."""


class SettlementServicer(rpc.SettlementServiceServicer):
    """Carries what was signed to the contract `settlement`, and shows what it keeps."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def SubmitInstruction(
        self, request: pb.SubmitInstructionRequest, context: grpc.ServicerContext
    ) -> pb.SubmitInstructionResponse:
        """`instruct` of the contract."""
        signed = read_blob(request.signed, "signed", MAX_PAYLOAD_BYTES)
        answer = self._call("instruct", {"signed": signed})
        body = fields.members(answer["signed"], signed.keys(), "signed")
        instruction = body["instruction"]
        assert isinstance(instruction, dict)
        with self._parts.state(SETTLEMENT_PORT) as state:
            shown = find_shown(state, fields.octets(instruction, "settlement"))
        return pb.SubmitInstructionResponse(settlement=shown_to_pb(shown))

    def SubmitInstructions(
        self, request: pb.SubmitInstructionsRequest, context: grpc.ServicerContext
    ) -> pb.SubmitInstructionsResponse:
        """`instruct` of the contract, for each, in one commit."""
        asked = each(request.signed, "signed", MAX_INSTRUCTIONS, _signed, least=1)
        bodies = [canonical.encode({"signed": one.to_json()}) for one in asked]
        answers = self._parts.node.call_each(SETTLEMENT_PORT, "instruct", bodies)
        with self._parts.state(SETTLEMENT_PORT) as state:
            results = [
                pb.InstructionResult(reason=str(answer.reason), detail=answer.detail)
                if isinstance(answer, LianqiaoError)
                else pb.InstructionResult(
                    settlement=shown_to_pb(find_shown(state, one.instruction.settlement))
                )
                for one, answer in zip(asked, answers, strict=True)
            ]
        return pb.SubmitInstructionsResponse(results=results)

    def RequestRetry(
        self, request: pb.RequestRetryRequest, context: grpc.ServicerContext
    ) -> pb.RequestRetryResponse:
        """`retry` of the contract."""
        wanted = digest(request.settlement, "settlement")
        answer = self._call("retry", {"settlement": wanted.hex()})
        packets = fields.sequence(answer, "packets", _packet)
        return pb.RequestRetryResponse(
            packets=[lock_packet_to_pb(p) for p in packets],
            told=fields.integer(answer, "told"),
        )

    def GetSettlement(
        self, request: pb.GetSettlementRequest, context: grpc.ServicerContext
    ) -> pb.GetSettlementResponse:
        """instruction/<settlement> and all that stands beside it."""
        if bool(request.settlement) is bool(request.uetr):
            raise malformed("settlement", "or uetr must be given, and not both")
        with self._parts.state(SETTLEMENT_PORT) as state:
            if request.uetr:
                wanted = settlement_of(state, name(request.uetr, "uetr", 36))
            else:
                wanted = digest(request.settlement, "settlement")
            shown = find_shown(state, wanted)
        return pb.GetSettlementResponse(settlement=shown_to_pb(shown))

    def ListSettlements(
        self, request: pb.ListSettlementsRequest, context: grpc.ServicerContext
    ) -> pb.ListSettlementsResponse:
        """Keys under instruction/."""
        with self._parts.state(SETTLEMENT_PORT) as state:
            settlements, token = self._page(
                "instruction", request, lambda k, v: shown_to_pb(find_shown(state, _id(k)))
            )
        return pb.ListSettlementsResponse(settlements=settlements, next_page_token=token)

    def RegisterSettlementAccount(
        self, request: pb.RegisterSettlementAccountRequest, context: grpc.ServicerContext
    ) -> pb.RegisterSettlementAccountResponse:
        """`account.register` of the contract."""
        terms = read_blob(request.terms, "terms", MAX_TERMS_BYTES)
        self._call("account.register", {**terms, "ledger": identifier(request.ledger, "ledger")})
        return pb.RegisterSettlementAccountResponse()

    def LoadRatePolicy(
        self, request: pb.LoadRatePolicyRequest, context: grpc.ServicerContext
    ) -> pb.LoadRatePolicyResponse:
        """`rates.policy` of the contract."""
        raw = blob(request.document, "document", MAX_TERMS_BYTES, least=1)
        self._parts.node.call(SETTLEMENT_PORT, "rates.policy", raw)
        return pb.LoadRatePolicyResponse()

    def LoadRate(
        self, request: pb.LoadRateRequest, context: grpc.ServicerContext
    ) -> pb.LoadRateResponse:
        """`rates.load` of the contract."""
        rate: Json = {"denominator": request.denominator, "numerator": request.numerator}
        body: Json = {"day": request.day, "policy": name(request.policy, "policy"), "rate": rate}
        self._call("rates.load", body)
        return pb.LoadRateResponse()

    def ListRates(
        self, request: pb.ListRatesRequest, context: grpc.ServicerContext
    ) -> pb.ListRatesResponse:
        """Keys under rate/ of the policy's source and pair."""
        wanted = name(request.policy, "policy")
        with self._parts.state(SETTLEMENT_PORT) as state:
            policy = policy_at(state, wanted, MAX_INT)
        rates, token = self._page(
            rate_key(policy, "").decode().removesuffix("/"),
            request,
            lambda k, v: rate_to_pb(_published(k, v)),
        )
        return pb.ListRatesResponse(rates=rates, next_page_token=token)

    def ListRatePolicies(
        self, request: pb.ListRatePoliciesRequest, context: grpc.ServicerContext
    ) -> pb.ListRatePoliciesResponse:
        """Keys under rate-policy/."""
        size = pages.page_size(request.page_size)
        listing, found = self._found("rate-policy", request, size)
        documents, token = pages.cut_bytes(listing, size, found)
        return pb.ListRatePoliciesResponse(documents=documents, next_page_token=token)

    def SubmitLaneState(
        self, request: pb.SubmitLaneStateRequest, context: grpc.ServicerContext
    ) -> pb.SubmitLaneStateResponse:
        """`lane.pause` or `lane.resume` of the contract."""
        method = "lane.pause" if request.paused else "lane.resume"
        self._call(method, {"ledger": identifier(request.ledger, "ledger")})
        return pb.SubmitLaneStateResponse()

    def CreateWindow(
        self, request: pb.CreateWindowRequest, context: grpc.ServicerContext
    ) -> pb.CreateWindowResponse:
        """`window.open` of the contract."""
        body: dict[str, Json] = {
            "deadline": request.deadline,
            "window": name(request.window, "window"),
        }
        if request.due:
            body["cut_off"] = request.due
        self._call("window.open", body)
        return pb.CreateWindowResponse()

    def RequestCutOff(
        self, request: pb.RequestCutOffRequest, context: grpc.ServicerContext
    ) -> pb.RequestCutOffResponse:
        """`window.cut_off` of the contract."""
        answer = self._call("window.cut_off", {"window": name(request.window, "window")})
        return pb.RequestCutOffResponse(cut_off=canonical.encode(dict(answer)))

    def ListWindows(
        self, request: pb.ListWindowsRequest, context: grpc.ServicerContext
    ) -> pb.ListWindowsResponse:
        """Keys under window/."""
        with self._parts.state(SETTLEMENT_PORT) as state:
            windows, token = self._page(
                "window", request, lambda k, v: window_to_pb(_window(state, k, v))
            )
        return pb.ListWindowsResponse(windows=windows, next_page_token=token)

    def ListSettlementEntries(
        self, request: pb.ListSettlementEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListSettlementEntriesResponse:
        """Every key of the contract."""
        size, listing = pages.page_size(request.page_size), pages.filter_hash("SettlementEntries")
        after = pages.decode_token(request.page_token, listing) or b""
        found = query.list_records(self._parts.node.store, SETTLEMENT_PORT, b"", after, size)
        entries, token = pages.cut(
            listing, size, found, lambda f: pb.SettlementEntry(key=f[0], value=f[1]), lambda f: f[0]
        )
        return pb.ListSettlementEntriesResponse(entries=entries, next_page_token=token)

    def _call(self, method: str, body: Json) -> fields.Object:
        answer = self._parts.node.call(SETTLEMENT_PORT, method, canonical.encode(body))
        return fields.document(answer, MAX_RECORD_BYTES)

    def _found(self, what: str, request: Any, size: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        listing = pages.filter_hash(what)
        after = pages.decode_token(request.page_token, listing) or b""
        prefix = f"{what}/".encode()
        return listing, query.list_records(
            self._parts.node.store, SETTLEMENT_PORT, prefix, after, size
        )

    def _page(
        self, what: str, request: Any, encode: Callable[[bytes, bytes], Any]
    ) -> tuple[list[Any], str]:
        """(messages, token of the next page) of keys under `what`."""
        size = pages.page_size(request.page_size)
        listing, found = self._found(what, request, size)
        return pages.cut(listing, size, found, lambda f: encode(*f), lambda f: f[0])


def find_shown(state: Reader, settlement: bytes) -> Shown:
    """A settlement with the packets that asked for its locks. Raises NotFound(NOT_FOUND)."""
    view = find_settlement(state, settlement)
    held = state.get(key("instruction", settlement))
    packets = fields.document(held)["packets"] if held else []
    assert isinstance(packets, list)
    return Shown(view, tuple(_packet(one) for one in packets))


def _packet(value: Json) -> LockPacket:
    body = fields.members(value, ("client", "ledger", "sequence"), "packet")
    return LockPacket(
        fields.identifier(body, "ledger"),
        fields.identifier(body, "client"),
        fields.integer(body, "sequence", 1),
    )


def _id(name: bytes) -> bytes:
    return bytes.fromhex(name.decode().split("/")[1])


def _window(state: Reader, where: bytes, value: bytes) -> WindowView:
    window, body = where.decode().split("/")[1], fields.document(value)
    return WindowView(
        window,
        fields.integer(body, "opened"),
        fields.integer(body, "deadline"),
        fields.integer(body, "cut_off"),
        find_cut_off(state, window),
    )


def _signed(raw: bytes, where: str) -> SignedInstruction:
    return document(raw, where, SignedInstruction.decode, MAX_PAYLOAD_BYTES)


def _published(where: bytes, value: bytes) -> PublishedRate:
    body = fields.document(value)
    day = where.decode().rpartition("/")[2]
    return PublishedRate(day, read_rate(body), fields.integer(body, "loaded"))
