"""Settlement as finance people type it: real nodes, every command, plain and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from relay.canonical import decode, encode
from relay.keys import SigningKey
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.client import anchor
from relay.light.types import ClientState
from relay.trust import Trust, TrustedChain, encode_trust
from tests.cli.conftest import Run
from tests.contracts.money_world import quote
from tests.record.test_bill import bill, lines, payment, total
from tests.service.clearing import HK, HUB, SZ, Clearing

DAY = "2026-10-30"
KEYS = ("insurer", "maker", "hospital", "officer", "stranger")


@dataclass
class Desk:
    clearing: Clearing
    folder: Path
    hub: str
    hk: str
    sz: str

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def public(self, name: str) -> str:
        key = SigningKey.load(self.key(name))
        return f"{key.algorithm}:{key.public.hex()}"

    def quote(self, run: Run, amount: str = "100.00", **more: str) -> Path:
        """A quote in a file."""
        where = self.folder / f"quote-{amount}.json"
        asked = ("settlement", "quote", amount, "CNY", "--maker", "maker-1", "-o", where)
        options = {"policy": "cny-hkd", "date": DAY, "node": self.hub, **more}
        given = [word for name, value in options.items() for word in (f"--{name}", value)]
        done = run(*asked, *given)
        assert done.code == 0, done.err
        return where

    def prepare(self, quote: Path, *more: object) -> tuple[object, ...]:
        """The command that makes an instruction of a quote."""
        return (
            *("settlement", "prepare", quote, "--relay", HUB, "--payer", f"{HK}/insurer"),
            *("--maker-in", f"{HK}/maker-hkd", "--maker-out", f"{SZ}/maker-cny"),
            *("--payee", f"{SZ}/hospital", *more),
        )

    def sign(self, run: Run, file: Path, *parties: tuple[str, str]) -> None:
        """Signed by the owners of the accounts."""
        for party, key in parties or ((f"{HK}/insurer", "insurer"), (f"{SZ}/maker-cny", "maker")):
            signing = ("settlement", "sign", file, "--as", party, "--key", self.key(key))
            assert run(*signing).code == 0


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


@pytest.mark.parametrize("command", ["deposit", "assign"])
def test_money_is_moved_under_a_name_that_is_told_before(run: Run, command: str) -> None:
    """Where no answer comes it may have been moved: only under that name it is not moved twice."""
    asked = ("accounts", command, "hospital", "1.00", "CNY", "--node", "127.0.0.1:1")
    failed = run(*asked)
    assert failed.reason == "CHAIN_UNREACHABLE"
    named = failed.err.split("reference ")[1].split()[0]
    assert len(bytes.fromhex(named)) == 32
    assert f"--reference {named}" in " ".join(failed.err.split())
    assert "--reference" in run(*asked, "--json").err


def test_whoever_signs_sees_what_is_paid_beside(desk: Desk, run: Run) -> None:
    """A fee that somebody else put into the file, and to whom it goes."""
    file, said = desk.folder / "beside.json", "12.00 to somebody"
    (desk.folder / "beside-quote.json").write_bytes(encode(quote().to_json()))
    made = desk.prepare(desk.folder / "beside-quote.json", "--fee", "somebody=12.00", "-o", file)
    assert said in run(*made).out
    key = desk.key("insurer")
    assert said in run("settlement", "sign", file, "--as", f"{HK}/insurer", "--key", key).out


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
        opened = run(*opening, "--node", node, "--relay", desk.hub)
        assert opened.code == 0
        assert f"told by hand, on its operator's word: {desk.hub}" in opened.err
    for account, code, node in (("insurer", "HKD", desk.hk), ("maker-cny", "CNY", desk.sz)):
        done = run("accounts", "deposit", account, "5000.00", code, "--node", node, "--json")
        assert done.json["accounts"][0]["balance"] == 500_000
    loading = ("settlement", "rates", "policy", "CNY", "HKD", "--name", "cny-hkd", "--date", DAY)
    assert run(*loading, *hub).code == 0
    assert "1.1792912305" in run("settlement", "rates", "policies", *hub).out

    quote, file, paper = (desk.folder / n for n in ("quote.json", "instruction.json", "bill.json"))
    paper.write_bytes(bill())
    signing = ("settlement", "sign-bill", paper, "--insurer", "hk-insurer")
    assert run(*signing, "--key", desk.key("insurer")).code == 0
    asked = ("settlement", "quote", "1180.00", "CNY", "--policy", "cny-hkd", "--maker", "maker-1")
    made = run(*asked, "--date", DAY, "-o", quote, *hub)
    assert "1391.56 HKD" in made.out
    preparing = desk.prepare(quote, "--bill", paper, "--payer-node", desk.hk, "-o")
    prepared = run(*preparing, file)
    assert prepared.code == 0, prepared.err
    for told in ("880.00", "1037.78", "353.79", "rounding difference", "-0.01", "1391.56"):
        assert told in prepared.out
    salt = desk.folder / "bill.json.salt"
    kept = salt.read_text()
    assert len(kept) == 64
    again = run(*preparing, desk.folder / "again.json", "--json").json["instruction"]
    assert salt.read_text() == kept, "it alone opens what was prepared first"
    assert again["subject"] == decode(file.read_bytes())["instruction"]["subject"]  # type: ignore
    salt.write_text("lost")
    assert run(*preparing, desk.folder / "again.json").reason == "MALFORMED"
    salt.write_text(kept)
    unsigned = run("settlement", "instruct", file, *hub)
    assert unsigned.reason == "MALFORMED"
    assert f"settlement sign {file} --as {HK}/insurer" in unsigned.err, "and who must sign"
    for party, key in ((f"{HK}/insurer", "insurer"), (f"{SZ}/maker-cny", "maker")):
        signing = ("settlement", "sign", file, "--as", party, "--key", desk.key(key))
        done = run(*signing)
        assert done.code == 0
        assert "353.79" in done.out, "whoever signs sees the lines"
        for told in ("hospital", "maker-hkd", SZ, HUB):
            assert told in done.out, "and whom he pays, where"
    begun = run("settlement", "instruct", file, *hub, "--json").json
    assert begun["state"] == "LOCKING"
    desk.clearing.settle()

    shown = run("settlement", "show", begun["uetr"], *hub)
    for told in ("SETTLED", "everything is locked", "commit", "released", "closed", "decision/"):
        assert told in shown.out
    assert "rounding difference, posted" in shown.out
    found = run("settlement", "show", begun["settlement"], *hub, "--json").json
    assert found["closed"]
    assert found["itemised"]["difference"] == -1
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
    named = run(*taken, "--node", desk.sz).err.split("reference ")[1].split()[0]
    again = run(*taken, "--node", desk.sz, "--reference", named)
    # Signed in the same second it is the same withdrawal, later another: paid once either way.
    assert again.code == 0 or again.reason == "REQUEST_ID_REUSED"
    assert "1000.00" in run("accounts", "show", "hospital", "--node", desk.sz).out
    assert "nostro:CNY" in run("accounts", "list", "--node", desk.sz).out


def test_statements_and_documents(desk: Desk, run: Run) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime(desk.clearing.clock() + 8 * 3600))
    of = ("settlement", "statement", "hospital", "--node", desk.sz, "--date")
    told = run(*of, today, "--json").json["statement"]
    assert (told["opening"], told["closing"]) == (0, 100_000)
    assert told["entries"][0]["uetr"]
    assert "closing  1000.00 CNY" in run(*of, today).out
    paid = run("settlement", "statement", "insurer", "--node", desk.hk, "--date", today)
    for said in ("-1391.57", "rounding_back", "rounding differences in it  0.01 HKD"):
        assert said in paid.out
    assert run(*of, "2026-02-30").reason == "MALFORMED"
    pytest.importorskip("pyiso20022")
    assert run(*of, today, "--xml", desk.folder / "camt.xml").code == 0
    made = ("settlement", "documents", told["entries"][0]["uetr"], "--node", desk.hub)
    written = run(*made, "-o", desk.folder / "iso", "--json").json["files"]
    assert len(written) == 3
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
    each = []
    for name, address in (("hub", desk.hub), ("hk", desk.hk), ("sz", desk.sz)):
        each.append(desk.folder / f"{name}-books.json")
        alone = run("reconcile", "--node", address, "--trust", trust, "--save", each[-1], "--json")
        assert alone.code == 0, alone.err
        assert len(alone.json["books"]) == 1
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    given = [path.rename(elsewhere / path.name) for path in each]
    assert run("reconcile", *given, "--trust", trust, "--json").json["agrees"]
    assert run("reconcile", *given, given[1], "--trust", trust).reason == "MALFORMED"
    assert run("reconcile", *given[1:], "--trust", trust).reason == "MALFORMED", "no relay"
    short = run("reconcile", "--node", desk.hub, "--node", desk.hk, "--trust", trust)
    assert short.code == 1
    assert "no books of this ledger were given" in short.out


def test_a_bill_must_be_signed_by_the_insurer_who_pays(desk: Desk, run: Run) -> None:
    paper, file = desk.folder / "other.json", desk.folder / "other-instruction.json"
    paper.write_bytes(bill(item="", total=total("100.00"), payment=payment("100.00")))
    quote = desk.quote(run)
    command = desk.prepare(quote, "--bill", paper, "-o", file)
    pinned = ("--insurer-key", desk.public("insurer"))
    assert run(*command).reason == "BILL_INVALID", "there is no signature"
    signature = desk.folder / "other.json.sig"
    signature.write_bytes(b"{}")
    assert run(*command, *pinned).reason == "MALFORMED"
    signing = ("settlement", "sign-bill", paper, "--json", "--insurer")
    forged = run(*signing, "hk-insurer", "--key", desk.key("stranger")).json
    assert forged["bill"]["amount"] == 10_000
    assert run(*command).reason == "MALFORMED", "whose signature counts is not said"
    assert run(*command, *pinned).reason == "UNKNOWN_SIGNER"
    assert run(*command, "--payer-node", desk.hk).reason == "UNKNOWN_SIGNER"
    assert run(*command, "--payer-node", desk.sz).reason == "CHAIN_ID_MISMATCH"
    assert run(*signing, "sz-hospital", "--key", desk.key("hospital")).code == 0
    assert run(*command, "--payer-node", desk.hk).reason == "UNKNOWN_SIGNER", "not who pays"
    assert run(*signing, "hk-insurer", "--key", desk.key("insurer")).code == 0
    raw = signature.read_bytes()
    signature.write_bytes(raw.replace(b'"hk-insurer"', b'"hk-insurex"'))
    assert run(*command, *pinned).reason == "INVALID_SIGNATURE"
    signature.write_bytes(raw)
    paper.write_bytes(paper.read_bytes() + b"\n")
    assert run(*command, *pinned).reason == "RECORD_MISMATCH"
    paper.write_bytes(paper.read_bytes()[:-1])
    assert not file.exists()
    other = desk.prepare(desk.quote(run, "100.01"), "--bill", paper, "-o", file, *pinned)
    assert run(*other).reason == "BILL_INVALID", "quoted for another amount"
    done = run(*command, *pinned, "--json").json
    assert done["insurer"] == "hk-insurer"
    assert done["itemised"] is None, "it has no lines"


def test_a_bill_whose_lines_do_not_add_up_is_not_signed(desk: Desk, run: Run) -> None:
    paper = desk.folder / "sums.json"
    paper.write_bytes(bill(item=lines("880.00", "299.99")))
    signing = ("settlement", "sign-bill", paper, "--insurer", "hk-insurer")
    assert run(*signing, "--key", desk.key("insurer")).reason == "BILL_INVALID"


def test_lines_adjustment_and_difference_make_what_is_payable(desk: Desk, run: Run) -> None:
    """Each line rounded for show; the difference to the total stands in a line of its own."""
    paper, file = desk.folder / "itemised.json", desk.folder / "itemised-instruction.json"
    parts = ["0.37"] * 30 + ["100.00"]
    paper.write_bytes(
        bill(
            item=lines(*parts), total=total("111.10"),
            payment=payment("100.00", adjustment="11.10"),
        )
    )  # fmt: skip
    signing = ("settlement", "sign-bill", paper, "--insurer", "hk-insurer")
    assert run(*signing, "--key", desk.key("insurer")).code == 0
    command = desk.prepare(desk.quote(run), "--bill", paper, "-o", file)
    found = run(*command, "--insurer-key", desk.public("insurer"), "--json").json["itemised"]
    shown = sum(line["payable"] for line in found["lines"])
    assert (len(found["lines"]), found["adjustment"]) == (31, {"bill": 1_110, "payable": 1_309})
    assert shown - 1_309 + found["difference"] == found["total"]["payable"] == 11_793
    assert found["difference"] != 0
    pinned = ("--insurer-key", desk.public("insurer"), "--json")
    bare = run(*command, *pinned, "--total-only").json
    assert bare["itemised"] is None
    assert "itemised" not in bare["instruction"]
    paper.write_bytes(bill(item=lines(*["0.01"] * 1001), total=total("10.01"),
                           payment=payment("10.01")))  # fmt: skip
    assert run(*signing, "--key", desk.key("insurer")).code == 0
    command = desk.prepare(desk.quote(run, "10.01"), "--bill", paper, "-o", file)
    refused = run(*command, *pinned[:2])
    assert refused.reason == "LIMIT_EXCEEDED"
    assert "--total-only" in refused.err
    assert run(*command, *pinned, "--total-only").code == 0


def test_instructions_of_a_window_settle_with_it(desk: Desk, run: Run) -> None:
    hub = ("--node", desk.hub)
    opened = run("settlement", "window", "open", "day-1", "--hours", "2", *hub, "--json").json
    assert opened["deadline"] - opened["due"] == 30 * 60
    files = []
    for number in range(2):
        file = desk.folder / f"netted-{number}.json"
        quote = desk.quote(run, f"{10 + number}.00")
        done = run(*desk.prepare(quote, "--window", "day-1", *hub, "-o", file))
        assert "window day-1" in done.out, done.err
        desk.sign(run, file)
        files.append(file)
    assert run(*desk.prepare(desk.quote(run), "--window", "day-1", "-o", "x")).reason == "MALFORMED"
    closed = desk.prepare(desk.quote(run), "--window", "none", *hub, "-o", "x")
    assert run(*closed).reason == "WINDOW_CLOSED"
    late = desk.prepare(desk.quote(run), "--deadline", "2030-01-01T00:00:00Z", "-o", "x")
    assert run(*late).reason == "MALFORMED", "a deadline without a window"
    wrong = desk.folder / "wrong-deadline.json"
    told = ("--window", "day-1", "--deadline", str(opened["deadline"] + 1), "-o", wrong)
    assert run(*desk.prepare(desk.quote(run, "12.00"), *told)).code == 0
    desk.sign(run, wrong)
    begun = run("settlement", "instruct", *files, wrong, *hub, "--json")
    assert begun.code == 1
    assert [one["state"] for one in begun.json["settlements"]] == ["WINDOW", "WINDOW"]
    assert [one["reason"] for one in begun.json["refused"]] == ["WINDOW_CLOSED"]
    uetr = begun.json["settlements"][0]["uetr"]
    assert "waits for the cut-off of window day-1" in run("settlement", "show", uetr, *hub).out
    assert run("settlement", "retry", uetr, *hub).reason == "WINDOW_CLOSED"
    assert run("settlement", "window", "cut-off", "day-1", *hub).code == 0
    desk.clearing.settle()
    assert "settles with it under" in run("settlement", "show", uetr, *hub).out
    today = time.strftime("%Y-%m-%d", time.gmtime(desk.clearing.clock() + 8 * 3600))
    told_all = run("settlement", "statement", "hospital", "--node", desk.sz, "--date", today)
    assert told_all.out.count("of it") == 2
    assert uetr in told_all.out


def test_a_settlement_is_given_back_in_part_and_only_once(desk: Desk, run: Run) -> None:
    hub = ("--node", desk.hub)
    first = desk.folder / "first.json"
    assert run(*desk.prepare(desk.quote(run, "50.00"), "-o", first, "--fee", "x")).code == 2
    assert run(*desk.prepare(desk.quote(run, "50.00"), "-o", first)).code == 0
    desk.sign(run, first)
    uetr = run("settlement", "instruct", first, *hub, "--json").json["uetr"]
    back = desk.folder / "back.json"
    giving = ("settlement", "return", uetr, "-o", back, *hub)
    assert run(*giving, "--amount", "50.01").reason == "AMOUNT_INVALID"
    desk.clearing.settle()
    made = run(*giving, "--amount", "20.00")
    assert f"gives back {uetr}" in made.out
    assert f"--as {SZ}/hospital" in made.out
    desk.sign(run, back, (f"{HK}/maker-hkd", "maker"), (f"{SZ}/hospital", "hospital"))
    returned = run("settlement", "instruct", back, *hub, "--json").json
    desk.clearing.settle()
    shown = run("settlement", "show", returned["uetr"], *hub)
    assert "SETTLED" in shown.out
    assert uetr in shown.out
    amounts = {leg["ledger"]: leg["amount"] for leg in returned["signed"]["instruction"]["legs"]}
    assert amounts == {HK: 2_359, SZ: 2_000}
    assert run(*giving).code == 0
    desk.sign(run, back, (f"{HK}/maker-hkd", "maker"), (f"{SZ}/hospital", "hospital"))
    assert run("settlement", "instruct", back, *hub).reason == "SETTLEMENT_DECIDED"


def test_fixings_and_factors_by_versioned_policies(desk: Desk, run: Run) -> None:
    hub = ("--node", desk.hub)
    rates = ("settlement", "rates")
    now = time.gmtime(desk.clearing.clock() + 8 * 3600)
    today, month = time.strftime("%Y-%m-%d", now), time.strftime("%Y-%m", now)
    policy = (*rates, "policy", "CNY", "HKD", "--source", "HK-GOV", "--rate", "1.18", *hub)
    assert run(*policy, "--name", "daily", "--mode", "fixing").code == 0
    assert (
        run(*policy, "--name", "monthly", "--mode", "factor", "--json").json["policy"][
            "max_age_days"
        ]
        == 31
    )
    again = run(*policy, "--name", "daily", "--mode", "fixing", "--collar", "20000", "--json")
    assert again.json["policy"]["version"] == 2
    desk.clearing.clock.now = int(time.time()) + 1  # the second version is in force from now on
    load = (*rates, "load", "daily", *hub, "--date", today)
    assert run(*load).reason == "MALFORMED", "what HK-GOV publishes is not known here"
    assert run(*load, "--rate", "1.30").reason == "RATE_COLLAR"
    assert run(*load, "--rate", "1.19").code == 0
    assert run(*load, "--rate", "1.18").reason == "CONFLICT", "a day has one rate"
    assert run(*rates, "load", "monthly", *hub, "--date", month, "--rate", "1.18").code == 0
    shown = run(*rates, "show", "daily", *hub)
    assert "daily@2" in shown.out
    assert today in shown.out
    told = run(*rates, "show", "monthly", *hub, "--json").json
    assert [(r["day"], r["rate"]) for r in told["rates"]] == [
        (month, {"denominator": 50, "numerator": 59})
    ]
    assert run(*rates, "show", "none", *hub).reason == "POLICY_NOT_FOUND"
    for name, of, due in (("daily", today, 11_900), ("monthly", month, 11_800)):
        file = desk.folder / f"{name}.json"
        quote = desk.quote(run, policy=name, date=of)
        assert run(*desk.prepare(quote, "-o", file)).code == 0
        desk.sign(run, file)
        begun = run("settlement", "instruct", file, *hub, "--json").json
        assert begun["signed"]["instruction"]["quote"]["payable"]["amount"] == due
    asked = ("settlement", "quote", "1.00", "CNY", "--maker", "maker-1", "-o", "x", *hub)
    assert run(*asked, "--policy", "daily", "--date", "2020-01-01").reason == "RATE_NOT_FOUND"
    assert run(*asked, "--policy", "daily", "--rate", "1.19").reason == "MALFORMED"
    desk.clearing.settle()


def test_terms_change_by_versions_and_cosigners_sign_above_a_threshold(
    desk: Desk, run: Run
) -> None:
    ledger, hub = ("--node", desk.hk), ("--node", desk.hub)
    change = ("accounts", "change", "insurer", *ledger)
    assert run(*change, "--officer-above", "1.00").reason == "MALFORMED", "nobody could co-sign"
    officer = ("--officer", f"ho={desk.public('officer')}")
    assert run(*change, "--officer", "ho").reason == "MALFORMED"
    changed = run(*change, "--officer-above", "1.00", *officer)
    assert changed.code == 0
    assert "told: hub" in changed.err
    desk.clearing.settle()
    shown = run("accounts", "show", "insurer", *ledger)
    assert "version 2" in shown.out
    assert "hub knows version 2" in shown.out, "by a packet, and by nobody's hand"
    assert "officer ho" in shown.out
    file = desk.folder / "cosigned.json"
    assert run(*desk.prepare(desk.quote(run, "30.00"), "-o", file)).code == 0
    desk.sign(run, file)
    assert run("settlement", "instruct", file, *hub).reason == "COSIGNATURE_MISSING"
    signing = ("settlement", "sign", file, "--officer", "ho", "--key", desk.key("officer"))
    assert "signed by every debtor" in run(*signing).out
    assert run("settlement", "instruct", file, *hub).code == 0
    desk.clearing.settle()
    assert run(*change, "--officer-above", "0", "--daily", "100000").code == 0
    announce = ("accounts", "announce", *ledger)
    assert "hk-fees" not in run(*announce, "insurer", "--json").json["accounts"]
    assert run(*announce).out.startswith("2 accounts, hub")
    assert run(*announce, "--to", "hub-9").reason == "CLIENT_NOT_FOUND"
    desk.clearing.settle()
    told = run("accounts", "show", "insurer", *ledger, "--json").json["told"]
    assert [(t["relay"], t["version"], t["reason"]) for t in told] == [("hub", 3, "")]
    assert run("accounts", "show", "insurer", *ledger, "--json").json["account"]["terms"][
        "limits"
    ] == {"counterparty": 0, "daily": 10_000_000, "officer": 0, "regulator": 0}
    assert run("accounts", "change", "hospital", "--close", "--node", desk.sz).reason == (
        "ACCOUNT_CLOSED"
    ), "it holds money"
    assert run("accounts", "change", "nostro:HKD", *ledger).reason == "MALFORMED"
    assigning = ("accounts", "assign", "hospital", "1.00", "CNY", "--node", desk.sz)
    assert run(*assigning).reason == "FUNDS_MISSING", "nothing is in suspense"


def test_what_is_closed_is_not_asked_again(desk: Desk, run: Run) -> None:
    """tests/service/test_settlement.py has one that stands still, and is asked again."""
    found = run("settlement", "list", "--node", desk.hub, "--json").json["settlements"]
    done = next(one for one in found if one["state"] == "SETTLED")
    asked = ("settlement", "retry", done["settlement"], "--node", desk.hub)
    assert run(*asked).reason == "SETTLEMENT_DECIDED"


def test_what_an_operator_sets(desk: Desk, run: Run) -> None:
    hub = ("--node", desk.hub)
    assert run("settlement", "pause", SZ, *hub).code == 0
    assert run("settlement", "resume", SZ, *hub, "--json").json == {"ledger": SZ, "paused": False}
    assert run("settlement", "window", "open", "w-1", *hub).code == 0
    assert run("settlement", "window", "cut-off", "w-1", *hub, "--json").code == 0
    assert "w-1" in run("settlement", "window", "list", *hub).out
    none = ("settlement", "window", "open", "w-2", "--hours", "1", "--cut-off-before", "60")
    assert run(*none, *hub).reason == "MALFORMED"


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


def test_an_account_that_is_open_and_was_told_to_nobody(desk: Desk, run: Run) -> None:
    """It looked as if nothing had been done; the same again was a conflict without a way on."""
    opening = ("accounts", "open", "untold", "HKD", "--owner", "o", "--key", desk.key("insurer"))
    on = (*opening, "--node", desk.hk)
    failed = run(*on, "--relay", "127.0.0.1:9")
    assert (failed.code, failed.reason) == (1, "CHAIN_UNREACHABLE")
    assert f"version 1 of untold is written on {HK}; only the telling is missing" in failed.err
    assert f"lianqiao accounts announce untold --node {desk.hk}" in failed.err
    assert "told by hand" not in failed.err
    assert "untold" in failed.out
    again = failed.err.rpartition("again with ")[2].split()
    assert run(*on, "--relay", desk.hub, *again).code == 0
    refused = run(*on, "--from", str(int(time.time()) + 60))
    assert refused.reason == "CONFLICT"
    assert "accounts change writes the next version" in refused.err
    changed = run("accounts", "change", "untold", "--daily", "5.00", "--node", desk.hk,
                  "--relay", "127.0.0.1:9")  # fmt: skip
    assert f"version 2 of untold is written on {HK}; only the telling is missing" in changed.err
    assert "again with" not in changed.err
