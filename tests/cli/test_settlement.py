"""Settlement as finance people type it: real nodes, every command, plain and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from relay.keys import SigningKey
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.client import anchor
from relay.light.types import ClientState
from relay.trust import Trust, TrustedChain, encode_trust
from tests.cli.conftest import Run
from tests.record.test_bill import bill
from tests.service.clearing import HK, HUB, SZ, Clearing

DAY = "2026-10-30"
KEYS = ("insurer", "maker", "hospital")


@dataclass
class Desk:
    clearing: Clearing
    folder: Path
    hub: str
    hk: str
    sz: str

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    # Nodes of this very process must not log to the output that the commands are judged by.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    folder = tmp_path_factory.mktemp("desk")
    clearing = Clearing(folder / "nodes", now=int(time.time()), opened=False)
    for name in KEYS:
        SigningKey.generate().save(folder / f"{name}.pem")
    chains = []
    for node in (clearing.hub, clearing[HK], clearing[SZ]):
        state = ClientState("checkpoint", f"{node.node.chain_id}/0")
        (raw,) = node.client.headers(0, node.client.head().size)
        chains.append(TrustedChain(state, anchor(CHECKPOINT, state, raw, clearing.clock())[0]))
    (folder / "trust.json").write_bytes(encode_trust(Trust(tuple(chains))))
    yield Desk(clearing, folder, clearing.hub.address, clearing[HK].address, clearing[SZ].address)
    clearing.stop()
    structlog.reset_defaults()


def test_a_bill_from_quote_to_books(desk: Desk, run: Run) -> None:
    """The whole path, as relay/README.md shows it."""
    hub = ("--node", desk.hub)
    for account, code, owner, key, node in (
        ("insurer", "HKD", "hk-insurer", "insurer", desk.hk),
        ("maker-hkd", "HKD", "maker-1", "maker", desk.hk),
        ("maker-cny", "CNY", "maker-1", "maker", desk.sz),
        ("hospital", "CNY", "sz-hospital", "hospital", desk.sz),
    ):
        opening = ("accounts", "open", account, code, "--owner", owner, "--key", desk.key(key))
        assert run(*opening, "--node", node, "--relay", desk.hub).code == 0
    for account, code, node in (("insurer", "HKD", desk.hk), ("maker-cny", "CNY", desk.sz)):
        done = run("accounts", "deposit", account, "5000.00", code, "--node", node, "--json")
        assert done.json["accounts"][0]["balance"] == 500_000
    loading = ("settlement", "rates", "policy", "CNY", "HKD", "--name", "cny-hkd", "--date", DAY)
    assert run(*loading, *hub).code == 0
    assert "1.1792912305" in run("settlement", "rates", "policies", *hub).out

    quote, file, paper = (desk.folder / n for n in ("quote.json", "instruction.json", "bill.json"))
    paper.write_bytes(bill())
    asked = ("settlement", "quote", "1180.00", "CNY", "--policy", "cny-hkd", "--maker", "maker-1")
    made = run(*asked, "--date", DAY, "-o", quote, *hub)
    assert "1391.56 HKD" in made.out
    prepared = run(
        *("settlement", "prepare", quote, "--relay", HUB, "--payer", f"{HK}/insurer"),
        *("--maker-in", f"{HK}/maker-hkd", "--maker-out", f"{SZ}/maker-cny"),
        *("--payee", f"{SZ}/hospital", "--bill", paper, "-o", file),
    )
    assert prepared.code == 0, prepared.err
    assert len((desk.folder / "bill.json.salt").read_text()) == 64
    assert run("settlement", "instruct", file, *hub).reason == "MALFORMED", "unsigned"
    for party, key in ((f"{HK}/insurer", "insurer"), (f"{SZ}/maker-cny", "maker")):
        signing = ("settlement", "sign", file, "--as", party, "--key", desk.key(key))
        assert run(*signing).code == 0
    begun = run("settlement", "instruct", file, *hub, "--json").json
    assert begun["state"] == "LOCKING"
    desk.clearing.settle()

    shown = run("settlement", "show", begun["uetr"], *hub)
    for told in ("SETTLED", "everything is locked", "commit", "released", "closed", "decision/"):
        assert told in shown.out
    assert run("settlement", "show", begun["settlement"], *hub, "--json").json["closed"]
    assert "SETTLED" in run("settlement", "list", *hub).out
    assert run("settlement", "list", "--open", *hub, "--json").json == {"settlements": []}
    positions = run("settlement", "position", *hub, "--json").json["positions"]
    assert {(p["account"], p["in"], p["out"], p["open"]) for p in positions} == {
        ("insurer", 0, 139_156, 0),
        ("maker-hkd", 139_156, 0, 0),
        ("maker-cny", 0, 118_000, 0),
        ("hospital", 118_000, 0, 0),
    }
    taken = ("accounts", "withdraw", "hospital", "180.00", "CNY", "--key", desk.key("hospital"))
    assert run(*taken, "--node", desk.sz).code == 0
    assert "1000.00" in run("accounts", "show", "hospital", "--node", desk.sz).out
    assert "nostro:CNY" in run("accounts", "list", "--node", desk.sz).out


def test_statements_and_documents(desk: Desk, run: Run) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime(desk.clearing.clock() + 8 * 3600))
    of = ("settlement", "statement", "hospital", "--node", desk.sz, "--date")
    told = run(*of, today, "--json").json["statement"]
    assert (told["opening"], told["closing"]) == (0, 100_000)
    assert told["entries"][0]["uetr"]
    assert "closing  1000.00 CNY" in run(*of, today).out
    assert run(*of, "2026-02-30").reason == "MALFORMED"
    pytest.importorskip("pyiso20022")
    assert run(*of, today, "--xml", desk.folder / "camt.xml").code == 0
    made = ("settlement", "documents", told["entries"][0]["uetr"], "--node", desk.hub)
    assert run(*made, "-o", desk.folder / "iso").code == 0
    assert {p.name for p in (desk.folder / "iso").iterdir()} == {
        "pacs.002.xml",
        "pacs.008-1.xml",
        "pacs.009-0.xml",
    }


def test_books_are_reconciled_on_line_and_from_a_file(desk: Desk, run: Run) -> None:
    trust, books = desk.folder / "trust.json", desk.folder / "books.json"
    nodes = [arg for address in (desk.hub, desk.hk, desk.sz) for arg in ("--node", address)]
    done = run("reconcile", *nodes, "--trust", trust, "--save", books)
    assert done.code == 0, done.err + done.out
    assert "1 settlements: 1 committed" in done.out
    offline = run("reconcile", books, "--trust", trust, "--json")
    assert offline.json["agrees"]
    raw = books.read_bytes()
    place = raw.index(b'{"amount":'.hex().encode()) + 40
    books.write_bytes(
        raw[:place] + (b"0" if raw[place : place + 1] != b"0" else b"1") + raw[place + 1 :]
    )
    assert run("reconcile", books, "--trust", trust).code != 0
    short = run("reconcile", "--node", desk.hub, "--node", desk.hk, "--trust", trust)
    assert short.code == 1
    assert "no books of this ledger were given" in short.out


def test_what_an_operator_sets(desk: Desk, run: Run) -> None:
    hub = ("--node", desk.hub)
    assert run("settlement", "pause", SZ, *hub).code == 0
    assert run("settlement", "resume", SZ, *hub).code == 0
    assert run("settlement", "window", "open", "w-1", *hub).code == 0
    assert run("settlement", "window", "cut-off", "w-1", *hub, "--json").code == 0
    assert "w-1" in run("settlement", "window", "list", *hub).out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("accounts", "deposit", "insurer", "1.005", "HKD"), "AMOUNT_INVALID"),
        (("accounts", "deposit", "insurer", "1.00", "CNH"), "CURRENCY_UNKNOWN"),
        (("accounts", "show", "nobody"), "ACCOUNT_NOT_FOUND"),
        (("accounts", "deposit", "insurer", "1", "HKD", "--reference", "ab"), "MALFORMED"),
    ],
)
def test_what_a_ledger_refuses(
    desk: Desk, run: Run, arguments: tuple[str, ...], reason: str
) -> None:
    assert run(*arguments, "--node", desk.hk).reason == reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "00"), "MALFORMED"),
        (("show", "zz"), "MALFORMED"),
        (("show", "aa" * 32), "NOT_FOUND"),
        (("window", "cut-off", "none"), "NOT_FOUND"),
    ],
)
def test_what_a_relay_refuses(
    desk: Desk, run: Run, arguments: tuple[str, ...], reason: str
) -> None:
    assert run("settlement", *arguments, "--node", desk.hub).reason == reason
