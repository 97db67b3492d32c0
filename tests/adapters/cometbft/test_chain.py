"""The chain over its RPC: failover, witnesses, paging, pruning, and answers that are none."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cometbft import answers
from adapters.cometbft.chain import MAX_BEHIND, CometChain, connect
from adapters.cometbft.light.client import CometHeader
from adapters.cometbft.light.zip215 import ED25519
from adapters.cometbft.push import Blocks
from adapters.cometbft.rpc import Endpoint, Endpoints
from relay.deliveries import Deliveries, Ends
from relay.errors import LianqiaoError, Malformed, Reason
from relay.lane_report import SideReport
from relay.light.misbehaviour import verify_misbehaviour
from relay.local import LocalChain
from relay.registry import connect_chain
from tests.adapters.cometbft.maker import CHAIN, START, STATE, decoded, raw_header, set_of
from tests.adapters.cometbft.rpc_server import Refusal, RpcServer, Served
from tests.refusals import refused
from tests.world import Clock, World

Serve = Callable[[Any], RpcServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[RpcServer] = []

    def start(answer: Any) -> RpcServer:
        servers.append(RpcServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def header_at(height: int, **fields: Any) -> CometHeader:
    return decoded(raw_header(height, "abcd", **fields))


def honest(newest: int = 20, lowest: int = 1) -> Served:
    return Served(CHAIN, header_at, lambda: newest, lowest)


def reach(*servers: RpcServer | str, **settings: str) -> CometChain:
    first, *more = [s if isinstance(s, str) else s.address for s in servers]
    made = connect_chain("cometbft", {"address": first, "rpc": ",".join(more), **settings})
    assert isinstance(made, CometChain)
    return made


DEAD = "127.0.0.1:1"


def test_the_next_endpoint_is_asked_where_one_does_not_answer(serve: Serve) -> None:
    server = serve(honest())
    chain = reach(DEAD, server)
    assert (chain.chain_id, chain.latest_height()) == (CHAIN, 20)
    assert len(chain.headers(3, 20, ED25519)) == 1
    assert chain.source.endpoints.first.address == server.address
    refused(Reason.CHAIN_UNREACHABLE, reach(DEAD).latest_height)


def test_pruned_heights_are_noticed_and_asked_of_the_others(serve: Serve) -> None:
    pruned, archive = serve(honest(lowest=15)), serve(honest())
    error = refused(Reason.HEIGHT_NOT_FOUND, lambda: reach(pruned).headers(0, 3, ED25519))
    assert "keeps 15 and above" in error.detail
    assert error.data["lowest"] == "15"
    assert len(reach(pruned, archive).headers(0, 3, ED25519)) == 1
    error = refused(Reason.HEIGHT_NOT_FOUND, lambda: reach(pruned, archive).headers(0, 21, ED25519))
    refused(Reason.HEIGHT_NOT_FOUND, lambda: reach(archive).headers(9, 3, ED25519))


def test_sets_are_read_page_by_page(serve: Serve) -> None:
    names = [f"v{n}" for n in range(40)]
    server = serve(Served(CHAIN, lambda h: decoded(raw_header(h, names)), lambda: 9))
    assert Endpoint(server.address).validators(2) == set_of(names)
    import adapters.cometbft.rpc as rpc

    before, rpc.PER_PAGE = rpc.PER_PAGE, 15
    try:
        assert Endpoint(server.address).validators(2) == set_of(names)
        assert server.calls.count("validators") == 4
    finally:
        rpc.PER_PAGE = before


def test_a_second_history_is_evidence(serve: Serve) -> None:
    def forked(height: int) -> CometHeader:
        return header_at(height, app_hash=bytes(40))

    one, two = serve(honest()), serve(Served(CHAIN, forked, lambda: 20))
    chain = reach(one, two)
    refused(Reason.HEAD_CONFLICT, lambda: chain.headers(3, 20, ED25519))
    (evidence,) = chain.source.evidence
    known = {header_at(20).set_hash}
    found = verify_misbehaviour(_client(), STATE, known, evidence, START + 60)
    assert len(found.culprits) == 4


def _client() -> Any:
    from adapters.cometbft.light import CLIENT

    return CLIENT


def test_a_witness_that_lies_alone_stops_nothing(serve: Serve) -> None:
    """Another header that nobody but two of four signed, and one of strangers: no evidence."""
    weak = serve(
        Served(CHAIN, lambda h: header_at(h, app_hash=bytes(40), signers="ab"), lambda: 20)
    )
    strange = serve(Served(CHAIN, lambda h: decoded(raw_header(h, "wxyz")), lambda: 20))
    chain = reach(serve(honest()), weak, strange, DEAD)
    assert len(chain.headers(3, 20, ED25519)) == 1
    assert not chain.source.evidence


@pytest.mark.parametrize(
    "lie",
    [
        lambda height: decoded(raw_header(height, "wxyz")),
        lambda height: header_at(height, app_hash=bytes(40), signers="ab"),
        lambda height: decoded(raw_header(height, "abcd" if height < 12 else "wxyz")),
    ],
    ids=["strangers", "too few", "a set that was never announced"],
)
def test_the_first_node_that_lies_stops_nothing_either(
    serve: Serve, lie: Callable[[int], CometHeader], tmp_path: Path
) -> None:
    """What it shows is refused, and then the next is asked."""
    world = World(tmp_path, Clock(START + 60))
    hub = world.node("hub", "relay")
    client = hub.create_client(STATE, raw_header(3, "abcd"))
    chain = reach(serve(Served(CHAIN, lie, lambda: 20)), serve(honest()))
    deliveries = Deliveries(chain, LocalChain(hub))
    for _ in range(2):
        with suppress(LianqiaoError):
            deliveries.update(Ends("", client), 20, SideReport())
    assert LocalChain(hub).client(client).latest_height == 20
    world.close()


def test_heights_that_there_are_not_and_heights_kept_back_are_noticed(serve: Serve) -> None:
    class Boasting(Served):
        def __call__(self, method: str, params: dict[str, Any]) -> Any:
            if method == "status":
                return super().__call__(method, params)
            raise Refusal("height 1 must be less than or equal to the current blockchain height 0")

    boasting = Boasting(CHAIN, header_at, lambda: 2**62)
    chain = reach(serve(boasting), serve(honest(20)))
    assert chain.latest_height() == 2**62
    refused(Reason.HEIGHT_NOT_FOUND, lambda: chain.headers(0, 2**62, ED25519))
    assert chain.latest_height() == 20
    ahead = 20 + MAX_BEHIND
    for newest, shown in ((ahead, 20), (ahead + 1, ahead + 1)):
        late = reach(serve(honest(20)), serve(honest(newest)))
        assert len(late.verified_heads([CHAIN])) == 1
        assert late.latest_height() == shown


def test_other_endpoints_are_shown_to_the_watch(serve: Serve) -> None:
    chain = reach(serve(honest(20)), serve(honest(18)), DEAD)
    heads = chain.verified_heads([CHAIN])
    assert [decoded(head.header).height for head in heads] == [18]
    assert not chain.verified_heads(["another"])


@pytest.mark.parametrize(
    ("name", "answer", "reasons"),
    [
        ("no JSON", lambda m, p: b"<html>", {Reason.MALFORMED}),
        ("a list", lambda m, p: b"[]", {Reason.MALFORMED}),
        ("nothing", lambda m, p: b"", {Reason.MALFORMED}),
        ("deep", lambda m, p: b"[" * 100_000, {Reason.MALFORMED}),
        ("null", lambda m, p: None, {Reason.MALFORMED}),
        ("an object", lambda m, p: {}, {Reason.MALFORMED}),
        ("a number", lambda m, p: b'{"result": 1e999}', {Reason.MALFORMED}),
    ],
)
def test_answers_that_are_none(serve: Serve, name: str, answer: Any, reasons: set[Reason]) -> None:
    node = Endpoint(serve(answer).address)
    for call in (
        node.status,
        lambda: node.signed_header(2),
        lambda: node.validators(2),
        lambda: node.block_txs(2),
        lambda: node.block_results(2),
        lambda: node.query("/x", b"k", 2),
    ):
        refused(reasons, call)


def test_answers_without_end_and_without_haste(serve: Serve, monkeypatch: Any) -> None:
    import adapters.cometbft.rpc as rpc

    monkeypatch.setattr(rpc, "MAX_ANSWER_BYTES", 1000)
    node = Endpoint(serve(lambda m, p: b"x" * 2000).address)
    refused(Reason.LIMIT_EXCEEDED, node.status)
    times = iter(range(0, 10_000, 6))
    slow = Endpoint(serve(honest()).address, seconds=5, clock=lambda: float(next(times)))
    refused(Reason.CHAIN_UNREACHABLE, slow.status)


def changed_answer(method: str, change: Callable[[Any], Any]) -> Any:
    inner = honest()

    def answer(asked: str, params: dict[str, Any]) -> Any:
        found = inner(asked, params)
        return change(found) if asked == method else found

    return answer


def _other_height(result: Any) -> Any:
    return {"signed_header": signed(19)}


def signed(height: int) -> Any:
    from tests.adapters.cometbft.rpc_server import signed_header

    return signed_header(header_at(height))


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("commit", _other_height),
        ("commit", lambda r: {"signed_header": {**r["signed_header"], "commit": None}}),
        ("validators", lambda r: {**r, "block_height": "19"}),
        ("validators", lambda r: {**r, "validators": []}),
        ("validators", lambda r: {**r, "validators": r["validators"][:3], "total": "3"}),
        ("validators", lambda r: {**r, "validators": r["validators"] * 60, "total": "9999"}),
        ("status", lambda r: {**r, "node_info": {"network": 7}}),
    ],
)
def test_nodes_that_contradict_themselves(
    serve: Serve, method: str, change: Callable[[Any], Any]
) -> None:
    chain = reach(serve(changed_answer(method, change)))
    if method == "status":
        refused(Reason.MALFORMED, lambda: chain.chain_id)
    else:
        refused((Reason.MALFORMED, Reason.LIMIT_EXCEEDED), lambda: chain.headers(0, 20, ED25519))
        good = reach(serve(changed_answer(method, change)), serve(honest()))
        assert len(good.headers(0, 20, ED25519)) == 1


def test_where_there_is_no_node_nothing_is_delivered(serve: Serve) -> None:
    from relay.chain import Delivery

    chain = reach(serve(honest()))
    refused(Reason.CLIENT_NOT_FOUND, lambda: chain.packets("a", 0, 1))
    refused(Reason.CLIENT_NOT_FOUND, lambda: chain.client("a"))
    refused(Reason.CLIENT_NOT_FOUND, lambda: chain.submit([Delivery("a")]))
    refused(Reason.PATH_NOT_FOUND, lambda: chain.prove([b"x"], 3))
    assert not chain.sent("a", 3, 9)


@pytest.mark.parametrize(
    "settings",
    [
        {"address": "nowhere"},
        {"address": ""},
        {"address": "a:0"},
        {"address": "a:1", "rpc": "b"},
        {"address": "a:1", "rpc": ",".join(f"b:{n}" for n in range(1, 20))},
        {"address": "a:1", "colour": "red"},
        {"address": "a:1", "proof": "word of honour"},
        {"address": "a:1", "tls": "maybe"},
        {"address": "a:1", "trust_level": "1/4"},
        {"address": "a:1", "trust_level": "3/3"},
        {"address": "a:1", "trust_level": "one"},
        {"address": "a:1", "node": "nowhere"},
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, str]) -> None:
    refused(Reason.CONFIG_INVALID, lambda: connect(settings))


def test_waiting_polls_where_no_websocket_answers(serve: Serve) -> None:
    heights = iter([5, 5, 6])
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    server = serve(honest())
    blocks = Blocks(server.address, lambda: next(heights), clock=lambda: now[0], sleep=sleep)
    assert blocks.wait(5, 60)
    assert blocks.pushes == 0
    still = Blocks(server.address, lambda: 5, clock=lambda: now[0], sleep=sleep)
    assert not still.wait(5, 3)
    blocks.close()


def test_endpoints_prefer_a_known_absence_to_silence() -> None:
    from relay.errors import NotFound, Unavailable

    def answer(node: Endpoint) -> int:
        if node.address == "a:1":
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "pruned")
        raise Unavailable(Reason.CHAIN_UNREACHABLE, "dead")

    for order in (("a:1", "b:1"), ("b:1", "a:1")):
        endpoints = Endpoints([Endpoint(address) for address in order])
        refused(Reason.HEIGHT_NOT_FOUND, lambda e=endpoints: e.ask(answer))


# --- any JSON


NAMES = (
    *("header", "commit", "version", "block", "time", "height", "signatures", "hash"),
    *("block_id", "parts", "total", "pub_key", "type", "value", "chain_id"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1", "-1", "00", "AB", "2024-02-30T00:00:00Z", "0001-01-01T00:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_malformed(value: Any) -> None:
    for read in (
        answers.signed_header_of,
        answers.header_of,
        answers.commit_of,
        answers.validator_of,
        answers.block_id_of,
        answers.time_of,
    ):
        with suppress(Malformed):
            read(value)  # type: ignore[operator]


@given(st.data())
def test_true_answers_with_one_member_changed(data: st.DataObject) -> None:
    answer = signed(19)
    part = answer[data.draw(st.sampled_from(["header", "commit"]))]
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    with suppress(Malformed):
        answers.signed_header_of(answer)


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00:00+00:00",
        "2024-01-01T00:00:00.1234567890Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٤-01-01T00:00:00Z",
        "",
    ],
)
def test_times_that_are_none(text: str) -> None:
    refused(Reason.MALFORMED, lambda: answers.time_of(text))


@pytest.mark.parametrize("sent", [b"", b'{"result": {', b"x" * 99])
def test_an_answer_that_ends_early_may_be_asked_for_again(sent: bytes) -> None:
    """A connection that breaks is no answer of other bytes: it accuses nobody."""
    import socket
    import threading

    from adapters.cometbft.engine.local_rpc import LocalRpc

    listener = socket.create_server(("127.0.0.1", 0))

    def break_off() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + sent)

    thread = threading.Thread(target=break_off)
    thread.start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    refused(Reason.CHAIN_UNREACHABLE, Endpoint(address).status)
    refused(Reason.CHAIN_UNREACHABLE, LocalRpc(address).status)
    thread.join()
    listener.close()


def _store_answer(value: str | None, height: str = "19") -> Any:
    inner = honest()

    def answer(method: str, params: dict[str, Any]) -> Any:
        if method != "abci_query":
            return inner(method, params)
        assert bytes.fromhex(params["data"]) == b"nextSequenceSend/07-tendermint-3"
        assert (params["path"], params["height"]) == ("/store/ibc/key", "19")
        return {"response": {"code": 0, "height": height, "value": value}}

    return answer


def test_a_store_is_asked_for_what_was_sent(serve: Serve) -> None:
    """The state under the header of 20 is that of 19. What is on its way yet is no statement."""
    nine = b64encode((9).to_bytes(8, "big")).decode()
    chain = reach(serve(_store_answer(nine)), proof="ics23")
    (claim,) = chain.sent("07-tendermint-3", 20, 9)
    assert (claim.path, claim.value) == (b"nextSequenceSend/07-tendermint-3", bytes(7) + b"\x09")
    assert chain.sent("07-tendermint-3", 20, 8) == ()
    assert reach(serve(_store_answer(None)), proof="ics23").sent("07-tendermint-3", 20, 9) == ()
    lying = reach(serve(_store_answer(nine, "18")), proof="ics23")
    refused(Reason.MALFORMED, lambda: lying.sent("07-tendermint-3", 20, 9))
    assert reach(serve(honest()), proof="tx").sent("07-tendermint-3", 20, 9) == ()
