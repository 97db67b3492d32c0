"""ClientService through its client."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lianqiao.relay.v1 import client_service_pb2 as pb
from lianqiao.relay.v1 import client_service_pb2_grpc
from relay.codec.clients import client_state_to_pb
from relay.errors import Invalid, Malformed, NotFound, Reason, Refused
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ClientState
from tests.service.nodes import Running, fork, pin, rpc_refusal, send


def stub(running: Running) -> client_service_pb2_grpc.ClientServiceStub:
    return client_service_pb2_grpc.ClientServiceStub(running.client._connection.channel)


def test_what_was_pinned_is_shown(pair) -> None:
    ledger, relay, here, there = pair
    view = ledger.client.client(here)
    assert view.state == pin(relay)
    assert view.counterparty_client_id == there
    assert not view.frozen
    assert view.expires == view.latest.time + view.state.trusting_period
    assert [v.client_id for v in ledger.client.clients()] == [here]


def test_what_a_client_was_shown_can_be_compared(pair) -> None:
    ledger, _, here, _ = pair
    raw, cosigned = ledger.client.shown_headers(here)
    header = CHECKPOINT.decode_header(raw)
    assert cosigned == b""
    assert header.height == ledger.client.client(here).latest.height
    assert header.chain_id == "east/0"
    with pytest.raises(NotFound) as err:
        ledger.client.shown_headers("checkpoint-9")
    assert err.value.reason is Reason.CLIENT_NOT_FOUND


def test_expiry_is_told_by_the_clock(pair) -> None:
    ledger, _, here, _ = pair
    ask = pb.GetClientRequest(client_id=here)
    assert stub(ledger).GetClient(ask, timeout=5).client.activity == 1
    ledger.clock.now = ledger.client.client(here).expires
    assert stub(ledger).GetClient(ask, timeout=5).client.activity == 2


def test_the_same_request_gives_the_same_client(pair) -> None:
    ledger, relay, _, _ = pair
    (anchor,) = relay.client.headers(0, relay.client.head().size)
    first = ledger.client.create_client(pin(relay), anchor, "request-1")
    assert ledger.client.create_client(pin(relay), anchor, "request-1") == first
    with pytest.raises(Refused) as err:
        other = replace(pin(relay), assurance="other words")
        ledger.client.create_client(other, anchor, "request-1")
    assert err.value.reason == Reason.REQUEST_ID_REUSED
    again = ledger.client.create_client(pin(relay), anchor)
    assert again != first


def test_clients_page_in_order(pair) -> None:
    ledger, relay, _, _ = pair
    (anchor,) = relay.client.headers(0, relay.client.head().size)
    for _ in range(4):
        ledger.client.create_client(pin(relay), anchor)
    seen, token = [], ""
    while True:
        page = stub(ledger).ListClients(
            pb.ListClientsRequest(page_size=2, page_token=token), timeout=5
        )
        seen += [c.client_id for c in page.clients]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"checkpoint-{n}" for n in range(5)]
    for fields in ({"page_size": -1}, {"page_token": "x"}):
        error = rpc_refusal(ledger, stub(ledger).ListClients, pb.ListClientsRequest(**fields))
        assert error.data["field"] in fields


def test_a_counterparty_is_named_once(pair) -> None:
    ledger, _, here, there = pair
    ledger.client.register_counterparty(here, there)
    with pytest.raises(Refused) as err:
        ledger.client.register_counterparty(here, "checkpoint-7")
    assert err.value.reason == Reason.COUNTERPARTY_EXISTS


def test_unknown_names(one) -> None:
    for call in (
        lambda: one.client.client("checkpoint-0"),
        lambda: one.client.register_counterparty("checkpoint-0", "checkpoint-0"),
        lambda: one.client.submit_misbehaviour("checkpoint-0", b"x"),
    ):
        with pytest.raises(NotFound) as err:
            call()
        assert err.value.reason == Reason.CLIENT_NOT_FOUND
    with pytest.raises(NotFound) as err:
        one.client.create_client(ClientState("cometbft", "cosmos-1"), b"header")
    assert err.value.reason == Reason.CLIENT_TYPE_UNKNOWN
    assert "checkpoint" in err.value.hint


def test_an_anchor_that_is_none_is_refused(pair) -> None:
    ledger, relay, _, _ = pair
    with pytest.raises(Malformed) as err:
        ledger.client.create_client(pin(relay), b"no header")
    assert err.value.reason == Reason.MALFORMED
    (anchor,) = relay.client.headers(0, relay.client.head().size)
    with pytest.raises(Invalid) as wrong:
        ledger.client.create_client(replace(pin(relay), chain_id="west/0"), anchor)
    assert wrong.value.reason == Reason.CHAIN_ID_MISMATCH


def test_malformed_requests_name_their_field(one) -> None:
    state = client_state_to_pb(ClientState("checkpoint", "east/0"))
    header = b"h"
    calls = stub(one)
    for method, request, field in (
        (
            calls.CreateClient,
            pb.CreateClientRequest(state=state, anchor_header=header),
            "request_id",
        ),
        (calls.CreateClient, pb.CreateClientRequest(request_id="r", anchor_header=header), "state"),
        (calls.CreateClient, pb.CreateClientRequest(request_id="r", state=state), "anchor_header"),
        (calls.RegisterCounterparty, pb.RegisterCounterpartyRequest(), "client_id"),
        (
            calls.RegisterCounterparty,
            pb.RegisterCounterpartyRequest(client_id="c"),
            "counterparty_client_id",
        ),
        (calls.GetClient, pb.GetClientRequest(client_id="two words"), "client_id"),
        (calls.SubmitMisbehaviour, pb.SubmitMisbehaviourRequest(client_id="c"), "evidence"),
    ):
        error = rpc_refusal(one, method, request)
        assert isinstance(error, Malformed)
        assert (error.reason, error.data["field"]) == (Reason.MALFORMED, field)
    long = pb.CreateClientRequest(request_id="r" * 65, state=state)
    assert rpc_refusal(one, calls.CreateClient, long).reason == Reason.LIMIT_EXCEEDED
    big = pb.SubmitMisbehaviourRequest(client_id="c", evidence=bytes(1024 * 1024 + 1))
    assert rpc_refusal(one, calls.SubmitMisbehaviour, big).reason == Reason.LIMIT_EXCEEDED


def test_what_is_no_misbehaviour_freezes_nothing(pair) -> None:
    ledger, _, here, _ = pair
    with pytest.raises((Malformed, Invalid)) as err:
        ledger.client.submit_misbehaviour(here, b"nothing of the kind")
    assert err.value.reason in (Reason.MALFORMED, Reason.NOT_MISBEHAVIOUR)
    assert not ledger.client.client(here).frozen


def test_two_heads_of_one_size_freeze_the_client(pair) -> None:
    ledger, relay, here, _ = pair
    ledger.client.submit_misbehaviour(here, fork(relay))
    assert ledger.client.client(here).frozen
    ledger.client.submit_misbehaviour(here, b"and again")
    ask = pb.GetClientRequest(client_id=here)
    assert stub(ledger).GetClient(ask, timeout=5).client.activity == 3


def test_a_frozen_client_is_recovered_after_its_delay(pair) -> None:
    ledger, relay, here, _ = pair
    ledger.client.submit_misbehaviour(here, fork(relay))
    ledger.clock.now += 60
    relay.node.tick()
    (anchor,) = relay.client.headers(0, relay.client.head().size)
    due = ledger.client.propose_recovery(here, pin(relay), anchor, 3600)
    assert due == ledger.clock.now + 3600
    view = ledger.client.client(here)
    assert view.recovery is not None
    assert (view.recovery.state, view.recovery.due) == (pin(relay), due)
    with pytest.raises(Refused) as err:
        ledger.client.propose_recovery(here, pin(relay), anchor)
    assert err.value.reason is Reason.RECOVERY_PENDING
    ledger.client.cancel_recovery(here)
    assert ledger.client.client(here).recovery is None
    assert ledger.client.propose_recovery(here, pin(relay), anchor) == ledger.clock.now + 86_400
    ledger.clock.now += 86_400
    ledger.node.tick()
    view = ledger.client.client(here)
    assert (view.frozen, view.recovery) == (False, None)
    with pytest.raises(Refused) as err:
        ledger.client.propose_recovery(here, pin(relay), anchor)
    assert err.value.reason is Reason.RECOVERY_NOT_NEEDED


def test_a_recovery_names_what_is_wrong(pair) -> None:
    ledger, relay, here, _ = pair
    state = client_state_to_pb(pin(relay))
    calls = stub(ledger)
    for method, request, field in (
        (calls.ProposeRecovery, pb.ProposeRecoveryRequest(), "client_id"),
        (calls.ProposeRecovery, pb.ProposeRecoveryRequest(client_id=here), "state"),
        (
            calls.ProposeRecovery,
            pb.ProposeRecoveryRequest(client_id=here, state=state),
            "anchor_header",
        ),
        (
            calls.ProposeRecovery,
            pb.ProposeRecoveryRequest(
                client_id=here, state=state, anchor_header=b"h", delay_seconds=3599
            ),
            "delay",
        ),
        (calls.CancelRecovery, pb.CancelRecoveryRequest(), "client_id"),
        (calls.SkipSequences, pb.SkipSequencesRequest(client_id=here), "next_sequence"),
    ):
        error = rpc_refusal(ledger, method, request)
        assert (type(error), error.data["field"]) == (Malformed, field)
    with pytest.raises(NotFound) as err:
        ledger.client.cancel_recovery("checkpoint-9")
    assert err.value.reason is Reason.CLIENT_NOT_FOUND


def test_sequences_are_skipped_forwards_only(pair) -> None:
    ledger, _, here, _ = pair
    ledger.client.skip_sequences(here, 7)
    assert send(ledger, here, "hello") == 7
    with pytest.raises(Refused) as err:
        ledger.client.skip_sequences(here, 7)
    assert err.value.reason is Reason.SEQUENCE_USED
