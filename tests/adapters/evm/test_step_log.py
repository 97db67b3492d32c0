"""Steps of an endpoint that sends much: read in parts, few of them kept, others asked for again."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.evm import calls, step_log
from adapters.evm.rpc import Rpc
from adapters.evm.sdk import Web3
from adapters.evm.step_log import LOG_BLOCKS, StepLog
from relay.chain import PacketStep
from relay.errors import Malformed, Reason
from tests.refusals import refusing

ENDPOINT = b"\x11" * 20
KINDS = calls.PACKET.replace("string", "bytes")


class Chain(Rpc):
    """A node whose endpoint has sent a packet in every block, but for each third."""

    def __init__(self, blocks: int, most: int = 10**9) -> None:
        super().__init__(["127.0.0.1:1"])
        self.most = most
        """Logs in one answer."""
        self.asked: list[tuple[int, int]] = []
        self.left_out, self.show_all = 0, False
        self.logs = [
            self._log(block, at)
            for at, block in enumerate((b for b in range(1, blocks + 1) if b % 3), 1)
        ]

    def _log(self, block: int, cursor: int) -> dict[str, Any]:
        names = (b"registry", b"recognition", b"v", b"json")
        words = (cursor, b"checkpoint-0", b"evm-0", 99, *names, b"%d" % cursor * 100)
        return {
            "topics": [calls.SENT_TOPIC, f"0x{cursor:064x}", f"0x{cursor:064x}"],
            "blockNumber": hex(block),
            "data": "0x" + Web3().codec.encode([KINDS], [words]).hex(),
        }

    def ask(self, method: str, params: Any) -> Any:
        """See Rpc."""
        assert method == "eth_getLogs"
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        assert 0 <= first <= last < first + LOG_BLOCKS
        self.asked.append((first, last))
        found = [log for log in self.logs if first <= int(log["blockNumber"], 16) <= last]
        found = self.logs if self.show_all else found
        if len(found) > self.most:
            raise Malformed("too many", reason=Reason.LIMIT_EXCEEDED)
        return [log for log in found if int(log["topics"][1], 16) != self.left_out]

    def count(self, height: int) -> int:
        """What the endpoint says at a block."""
        return sum(int(log["blockNumber"], 16) <= height for log in self.logs)


def log_of(chain: Chain) -> StepLog:
    return StepLog(chain, ENDPOINT, 1, chain.count)


def all_of(log: StepLog, limit: int = 7) -> list[PacketStep]:
    found: list[PacketStep] = []
    while page := log.after(len(found), limit):
        assert len(page) <= limit
        found += page
    return found


@pytest.mark.parametrize("most", [1, 3, 10**9])
@pytest.mark.parametrize("kept", [0, 5, 10**6])
def test_every_step_is_read_whatever_is_kept(
    monkeypatch: pytest.MonkeyPatch, most: int, kept: int
) -> None:
    monkeypatch.setattr(step_log, "KEPT", kept)
    chain = Chain(90, most)
    log = log_of(chain)
    log.read(45)
    assert len(log) == chain.count(45)
    log.read(90)
    assert [s.cursor for s in all_of(log)] == list(range(1, 61))
    assert all_of(log) == calls.read_steps(chain.logs)
    assert len(log._kept) == min(kept, 60)
    assert log.after(60, 5) == []


def test_what_is_kept_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_log, "KEPT_BYTES", 10_000)
    log = log_of(Chain(150))
    log.read(150)
    assert 0 < log._bytes <= 10_000
    assert log._bytes == sum(map(step_log._size, log._kept))
    assert [s.cursor for s in all_of(log)] == list(range(1, 101))


def test_what_is_kept_is_not_asked_for_again() -> None:
    chain = Chain(30)
    log = log_of(chain)
    log.read(30)
    before = list(chain.asked)
    all_of(log)
    assert chain.asked == before


def test_a_question_that_is_always_too_much_ends() -> None:
    chain = Chain(300, 0)
    with refusing(Reason.LIMIT_EXCEEDED):
        log_of(chain).read(300)
    assert len(chain.asked) < 20


@pytest.mark.parametrize("left_out", [1, 7, 20])
def test_a_step_that_was_shown_and_is_left_out_later(
    monkeypatch: pytest.MonkeyPatch, left_out: int
) -> None:
    monkeypatch.setattr(step_log, "KEPT", 0)
    chain = Chain(30)
    log = log_of(chain)
    log.read(30)
    chain.left_out = left_out
    with refusing(Reason.CHAIN_UNREACHABLE, said="left out"):
        all_of(log, 20)
    chain.left_out = 0
    log.read(30)
    assert [s.cursor for s in all_of(log)] == list(range(1, 21))


@pytest.mark.parametrize("block", [0, 31, 2**70])
def test_a_step_of_a_block_that_was_not_asked_for(block: int) -> None:
    """Its number is the right one, and whoever waits for that block waits for ever."""
    chain = Chain(30)
    true = chain.logs[-1]["blockNumber"]
    chain.logs[-1]["blockNumber"] = hex(block)
    chain.show_all = True
    log = log_of(chain)
    with refusing(Reason.CHAIN_UNREACHABLE, said="not asked for"):
        log.read(30)
    chain.logs[-1]["blockNumber"], chain.show_all = true, False
    log.read(30)
    assert [s.cursor for s in all_of(log)] == list(range(1, 21))
