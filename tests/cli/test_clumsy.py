"""What a hurried or hostile hand types: told with a reason before anything is asked or made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.service import nodes

NOBODY = ("--node", "127.0.0.1:1")
HUGE = "99999999999999999999"


@pytest.mark.parametrize(
    "args",
    [
        ("packets", "trace", f"checkpoint-0/{HUGE}/out", *NOBODY),
        ("packets", "show", f"checkpoint-0/{2**63}", *NOBODY),
        ("packets", "clear", "checkpoint-0", "--to", HUGE, *NOBODY),
        ("packets", "clear", "checkpoint-0", "--from", "9", "--to", "1", *NOBODY),
        ("clients", "skip", "checkpoint-0", HUGE, *NOBODY),
        ("institutions", "register", "h1", "--public", "ed25519:00", "--version", HUGE, *NOBODY),
        ("status", "--node", "http://127.0.0.1:7100"),
        ("status", "--node", "127.0.0.1:" + "9" * 5000),
    ],
)
def test_what_no_call_can_carry_is_wrong_usage(run: Run, args: tuple[str, ...]) -> None:
    done = run(*args)
    assert (done.code, done.reason) == (2, "MALFORMED"), done.err


def test_connect_makes_nothing_where_its_trust_file_cannot_be_written(
    run: Run, tmp_path: Path
) -> None:
    clock = nodes.Clock()
    ledger = nodes.run(tmp_path / "ledger", "zj", "ledger", clock=clock)
    relay = nodes.run(tmp_path / "relay", "hub", "relay", clock=clock)
    ends = ("connect", "--node", ledger.address, "--relay", relay.address)
    (tmp_path / "torn.json").write_text("{")
    try:
        for name in ("nowhere/trust.json", "torn.json"):
            done = run(*ends, "--trust", tmp_path / name)
            assert (done.code, done.reason) == (2, "MALFORMED")
            assert not list(ledger.client.clients())
            assert not list(relay.client.clients())
    finally:
        ledger.stop()
        relay.stop()
