"""Puts a mutant of the contracts under the tests: see tests/mutation/solidity.py."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.practice.chain import SealedAnvil
from tests.mutation.solidity import FIRST

FOLDER = Path(os.environ["LIANQIAO_MUTANT_FOLDER"])
MUTANT = os.environ["LIANQIAO_MUTANT"]
_wait, _forward = SealedAnvil._wait, SealedAnvil._forward
_hits: dict[str, tuple[float, set[int]]] = {}
_now: list[Any] = ["", 0.0]


def _switched(chain: SealedAnvil) -> None:
    """As before, then one wei for the address of the mutant."""
    _wait(chain)
    if MUTANT:
        chain.ask("anvil_setBalance", f"0x{int(MUTANT, 16):040x}", "0x1")


def _traced(chain: SealedAnvil, asked: dict[str, Any]) -> dict[str, Any]:
    """As before; which mutants a call has met is noted."""
    if asked.get("method") in ("eth_call", "eth_estimateGas"):
        question = [asked["params"][0], "latest", {"tracer": "prestateTracer"}]
        told = _forward(
            chain, {"jsonrpc": "2.0", "id": 1, "method": "debug_traceCall", "params": question}
        )
        for address in told.get("result") or ():
            number = int(address, 16) - FIRST
            if 0 <= number < 10_000:
                _hits.setdefault(_now[0], (0.0, set()))[1].add(number)
    return _forward(chain, asked)


def pytest_configure() -> None:
    """Before any chain starts."""
    SealedAnvil._wait = _switched  # type: ignore[method-assign]
    calls.ARTIFACTS = FOLDER / "artifacts.json"
    calls.artifacts.cache_clear()
    if not MUTANT:
        SealedAnvil._forward = _traced  # type: ignore[method-assign]


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins, with the fixtures that it is the first to need."""
    _now[:] = [nodeid, time.monotonic()]


def pytest_runtest_logfinish(nodeid: str) -> None:
    """A test has ended."""
    if nodeid in _hits:
        _hits[nodeid] = (time.monotonic() - _now[1], _hits[nodeid][1])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What was met goes to the parent."""
    if not MUTANT:
        kept = {test: (seconds, sorted(met)) for test, (seconds, met) in _hits.items()}
        (FOLDER / "hits.json").write_text(json.dumps(kept))
