"""One lane of nonces on a real EVM: what sticks is replaced, what a crash left is passed over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.evm.light import rlp
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.errors import LianqiaoError, Reason
from tests.adapters.evm.ledger import KEY, SealedAnvil
from tests.world import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
GWEI = 10**9
TO = b"\x42" * 20


class Lane:
    """A chain that mines when it is told to, and senders with one key."""

    def __init__(self, path: Path, kind: type[SealedAnvil] = SealedAnvil) -> None:
        self.anvil = kind(Clock(int(time.time())))
        self.rpc = Rpc([self.anvil.address])
        self.key = path / "key.hex"
        self.key.write_text(KEY)
        self.anvil.ask("evm_setAutomine", False)

    def sender(self, seconds: float = 60, limit: int = 10**12, bump: float = 0.05) -> Sender:
        made = Sender(self.key, limit, bump_seconds=bump)
        made.receipt_seconds = seconds
        return made

    def mined(self, call: Callable[[], Any], seen: bytes = b"") -> Any:
        """What a call comes to while blocks are made, from when `seen` waits for one."""
        with ThreadPoolExecutor(1) as pool:
            running: Future[Any] = pool.submit(call)
            while seen and not running.done() and seen not in self.waiting():
                time.sleep(0.01)
            while not running.done():
                self.anvil.ask("evm_mine")
                time.sleep(0.05)
            return running.result()

    def waiting(self) -> list[bytes]:
        """The data of the calls that wait for a block."""
        pending = self.anvil.ask("txpool_content")["pending"]
        return [bytes.fromhex(t["input"][2:]) for ours in pending.values() for t in ours.values()]

    def left(self, count: int) -> list[str]:
        """Calls that a program sent before it was killed: their hashes."""
        with pytest.raises(LianqiaoError) as err:
            self.sender(0.2).send_all(self.rpc, [(TO, b"old %d" % i) for i in range(count)])
        assert err.value.reason is Reason.CHAIN_UNREACHABLE
        pending = self.anvil.ask("txpool_content")["pending"]
        (ours,) = pending.values()
        assert len(ours) == count
        return [ours[n]["hash"] for n in sorted(ours, key=int)]


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    made = Lane(tmp_path)
    yield made
    made.anvil.close()


def inputs(lane: Lane) -> list[bytes]:
    """The data of every call that was mined, in order."""
    found = []
    for number in range(1, int(lane.anvil.ask("eth_blockNumber"), 16) + 1):
        block = lane.anvil.ask("eth_getBlockByNumber", hex(number), True)
        found += [bytes.fromhex(t["input"][2:]) for t in block["transactions"]]
    return found


def test_calls_wait_side_by_side(lane: Lane) -> None:
    asked = [(TO, b"%d" % i) for i in range(20)]
    receipts = lane.mined(lambda: lane.sender().send_all(lane.rpc, asked))
    assert [r["status"] for r in receipts] == ["0x1"] * 20
    assert inputs(lane) == [data for _, data in asked]
    assert len({r["blockNumber"] for r in receipts[:16]}) < 16


def test_a_call_that_sticks_is_replaced_at_a_higher_price(lane: Lane) -> None:
    before = int(lane.anvil.ask("eth_gasPrice"), 16)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.sender().send, lane.rpc, TO, b"one")
        while not lane.anvil.ask("txpool_content")["pending"]:
            time.sleep(0.01)
        lane.anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(before * 3 // 2))
        while not running.done():
            lane.anvil.ask("evm_mine")
            time.sleep(0.05)
        receipt = running.result()
    assert receipt["status"] == "0x1"
    assert int(receipt["effectiveGasPrice"], 16) > before
    assert inputs(lane) == [b"one"]


def test_no_call_pays_more_than_the_limit(lane: Lane) -> None:
    limit = int(lane.anvil.ask("eth_gasPrice"), 16)
    lane.anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(limit * 4))
    with pytest.raises(LianqiaoError) as err:
        lane.mined(lambda: lane.sender(1, limit).send(lane.rpc, TO, b"one"))
    assert err.value.reason in (Reason.CHAIN_UNREACHABLE, Reason.MALFORMED)
    for pool in lane.anvil.ask("txpool_content").values():
        for ours in pool.values():
            assert all(int(t.get("gasPrice", "0x0"), 16) <= limit for t in ours.values())
    assert inputs(lane) == []


def test_what_a_crash_left_waiting_is_replaced(lane: Lane) -> None:
    lane.left(2)
    receipt = lane.mined(lambda: lane.sender().send(lane.rpc, TO, b"new"), b"new")
    assert receipt["status"] == "0x1"
    assert inputs(lane)[0] == b"new"
    again = lane.mined(lambda: lane.sender().send(lane.rpc, TO, b"next"))
    assert again["status"] == "0x1"
    assert inputs(lane).count(b"next") == 1


def test_a_gap_that_a_crash_left_is_filled(lane: Lane) -> None:
    first, *_ = lane.left(3)
    lane.anvil.ask("anvil_dropTransaction", first)
    receipt = lane.mined(lambda: lane.sender().send(lane.rpc, TO, b"new"))
    assert receipt["status"] == "0x1"
    assert b"new" in inputs(lane)
    more = lane.mined(
        lambda: lane.sender().send_all(lane.rpc, [(TO, b"a"), (TO, b"b"), (TO, b"c")])
    )
    assert [r["status"] for r in more] == ["0x1"] * 3
    assert [d for d in inputs(lane) if len(d) == 1] == [b"a", b"b", b"c"]


def test_a_nonce_that_another_call_used_is_left_to_it(lane: Lane) -> None:
    """Somebody else uses the key, against the rule: both calls are mined, each once."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.sender(bump=60).send, lane.rpc, TO, b"one")
        while not (pending := lane.anvil.ask("txpool_content")["pending"]):
            time.sleep(0.01)
        ((call,),) = (ours.values() for ours in pending.values())
        lane.anvil.ask("anvil_dropTransaction", call["hash"])
        other = {"from": call["from"], "to": call["to"], "data": "0x99", "nonce": call["nonce"]}
        lane.anvil.ask("eth_sendTransaction", other)
        while not running.done():
            lane.anvil.ask("evm_mine")
            time.sleep(0.05)
        assert running.result()["status"] == "0x1"
    assert inputs(lane) == [b"\x99", b"one"]


class FreeAnvil(SealedAnvil):
    """A chain without gas prices, which takes no call that offers one, as GoQuorum does."""

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """See SealedAnvil; the words of GoQuorum 24.4.1."""
        if asked.get("method") == "eth_gasPrice":
            return {"jsonrpc": "2.0", "id": asked["id"], "result": "0x0"}
        if asked.get("method") == "eth_sendRawTransaction":
            items = rlp.fields(rlp.decode(bytes.fromhex(asked["params"][0][2:])), "call")
            if rlp.octets(items[1], "price"):
                said = {"code": -32000, "message": "Gas price not 0"}
                return {"jsonrpc": "2.0", "id": asked["id"], "error": said}
        return super().answer(asked)


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Lane]:
    made = Lane(tmp_path, FreeAnvil)
    made.anvil.ask("anvil_setNextBlockBaseFeePerGas", "0x0")
    made.anvil.ask("evm_mine")
    yield made
    made.anvil.close()


def test_a_chain_without_gas_prices(free: Lane) -> None:
    """What sticks there cannot be replaced: it waits, and is found when it is mined."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(free.sender().send, free.rpc, TO, b"one")
        while b"one" not in free.waiting():
            time.sleep(0.01)
        time.sleep(0.3)  # several times as long as until a call is replaced
        assert not running.done()
        while not running.done():
            free.anvil.ask("evm_mine")
            time.sleep(0.05)
        assert running.result()["status"] == "0x1"
    assert inputs(free) == [b"one"]


def test_what_a_crash_left_waiting_on_a_chain_without_gas_prices(free: Lane) -> None:
    free.left(1)
    with pytest.raises(LianqiaoError) as err:
        free.sender().send(free.rpc, TO, b"new")
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
    free.anvil.ask("evm_mine")
    assert free.mined(lambda: free.sender().send(free.rpc, TO, b"new"))["status"] == "0x1"
    assert inputs(free) == [b"old 0", b"new"]
