"""Steps of an escrow done again, and held against its storage: no chain, tries made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.books import proven
from adapters.evm.books.fold import Memory, fold
from adapters.evm.books.proven import BOOKS
from adapters.evm.books.steps import EMPTY, BookStep, history_of, named_by
from adapters.evm.engine.logs import Block, Called, Place
from adapters.evm.engine.mirror import Mirror, last_read
from adapters.evm.escrow import terms_argument
from adapters.evm.light.crypto import keccak
from adapters.evm.light.state import encode_proof
from relay.chain import PacketStep, Step
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.escrow import last_line
from relay.contracts.payloads import DecisionAnswer, DecisionNotice, Ended, Lock, LockAnswer, Ruling
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.undelivered import payload_for
from relay.errors import LianqiaoError, Reason, Refused
from relay.host import HostState
from relay.light.types import ClientState, ConsensusState
from relay.node import create
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet
from tests.adapters.evm.money import HOSPITAL_K, MAKER_K, ON_EVM, signed_here
from tests.adapters.evm.sealing import QBFT, state_of
from tests.adapters.evm.tries import Account, WorldState
from tests.contracts.money_flow import terms
from tests.contracts.money_world import HUB, SZ, decision, instruction
from tests.contracts.world import NOW, digest
from tests.databases import everyday_url, new_store
from tests.world import keys_of, set_of

HOLDER, ENDPOINT, ESCROW_AT, CODE = b"\x11" * 20, b"\x0e" * 20, b"\x0a" * 20, b"\xcd" * 32
ORDER = instruction()
FUNDS = 500_000


def call(name: str, *arguments: Any, at: int = NOW) -> BookStep:
    return BookStep(at, HOLDER, calls.encode(name, arguments, "Escrow"))


def opening(account: str, version: int = 1, **more: Any) -> BookStep:
    code, owner, person = ON_EVM[account]
    body = terms(account, code, owner, person, version, **more)
    return call("openAccount", terms_argument(body, HOLDER))


def packet(value: bytes, answer: bytes, at: int = NOW) -> BookStep:
    return BookStep(at, ENDPOINT, value, answer)


def story() -> list[BookStep]:
    """Opened, filled, locked, released, assigned nothing, withdrawn."""
    made = decision(Ruling.COMMIT, ORDER)
    accepted = LockAnswer(SZ, ORDER.settlement, None, NOW).encode()
    released = DecisionAnswer(SZ, ORDER.settlement, Ended.RELEASED, NOW).encode()
    return [
        call("openCurrency", b"CNY", "0x" + "22" * 20, 6),
        opening("maker-cny"),
        opening("hospital"),
        call("deposit", "maker-cny", FUNDS, digest("in")),
        packet(Lock(HUB, SZ, signed_here(ORDER)).encode(), accepted),
        packet(DecisionNotice(SZ, made).encode(), released),
        call("withdraw", "hospital", 1_000, "0x" + "33" * 20, digest("out")),
    ]


def balances(state: Memory) -> dict[str, tuple[int, int]]:
    lines = {a: last_line(state, a) for a in ("maker-cny", "hospital", "nostro:CNY")}
    return {a: (line.balance, line.held) for a, line in lines.items()}


def test_steps_done_again_come_to_the_books_of_any_ledger() -> None:
    state, findings = fold(SZ, story())
    assert findings == []
    bill = ORDER.quote.bill.amount
    assert balances(state) == {
        "maker-cny": (FUNDS - bill, 0),
        "hospital": (bill - 1_000, 0),
        "nostro:CNY": (1_000 - FUNDS, 0),
    }
    assert state.scan(b"ended/")
    kinds = sorted(json.loads(value)["kind"] for _, value in state.scan(b"moved/"))
    assert kinds == ["deposit", "withdrawal"]


def test_a_step_is_one_encoding() -> None:
    for step in story():
        raw = step.encode()
        assert BookStep.decode(raw) == step
        with pytest.raises(LianqiaoError):
            BookStep.decode(raw + b"\0")
        with pytest.raises(LianqiaoError):
            BookStep.decode(raw[:-1])


def test_the_word_is_over_all_of_a_step() -> None:
    (first, *_) = story()
    words = first.time.to_bytes(32, "big") + HOLDER.rjust(32, b"\0") + keccak(first.data)
    assert first.after(EMPTY) == keccak(EMPTY + words + bytes(32))
    answered = replace(first, answer=b"yes")
    assert answered.after(EMPTY) == keccak(EMPTY + words + keccak(b"yes"))
    assert history_of([first, first]) == first.after(first.after(EMPTY))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (lambda s: [*s, call("deposit", "nobody", 1, digest("x"))], "ACCOUNT_NOT_FOUND"),
        (lambda s: [*s, call("withdraw", "hospital", 10**9, "0x" + "33" * 20, digest("x"))],
         "FUNDS_MISSING"),
        (lambda s: [*s, call("deposit", "hospital", 1, digest("in"))], "REQUEST_ID_REUSED"),
        (lambda s: [*s, call("withdraw", "hospital", 1, "0x" + "33" * 20, digest("in"))],
         "REQUEST_ID_REUSED"),
        (lambda s: [*s, opening("hospital", 3)], "CONFLICT"),
        (lambda s: [*s, call("assign", "hospital", 1, digest("x"))], "FUNDS_MISSING"),
        (lambda s: [*s, packet(b"{}", b"{}")], "MALFORMED"),
        (lambda s: [*s[:4], replace(s[4], answer=LockAnswer(
            SZ, ORDER.settlement, Reason.QUOTE_USED, NOW).encode())], "the chain answers"),
        (lambda s: [*s[:5], replace(s[5], answer=DecisionAnswer(
            SZ, ORDER.settlement, Ended.REFUNDED, NOW).encode())], "the chain answers"),
    ],
)  # fmt: skip
def test_what_would_not_be_done_here_is_told_and_leaves_nothing(
    steps: Callable[[list[BookStep]], list[BookStep]], said: str
) -> None:
    given = steps(story())
    before, _ = fold(SZ, given[:-1])
    state, (found,) = fold(SZ, given)
    assert found.startswith(f"step {len(given)}: ")
    assert said in found
    assert state.records == before.records


def test_a_lock_refused_for_want_of_cover_is_foreseen() -> None:
    answer = LockAnswer(SZ, ORDER.settlement, Reason.FUNDS_MISSING, NOW).encode()
    state, findings = fold(SZ, [*story()[:4], replace(story()[4], answer=answer)])
    assert findings == []
    assert not state.scan(b"lock/")
    assert balances(state)["maker-cny"] == (FUNDS, 0)


def test_a_lock_that_is_refused_here_too_is_refused_for_the_same() -> None:
    """Want of cover explains why the chain does not take what is taken here, and nothing else."""
    other = replace(ORDER, settlement=digest("another"))
    answer = LockAnswer(SZ, other.settlement, Reason.FUNDS_MISSING, NOW).encode()
    again = packet(Lock(HUB, SZ, signed_here(other)).encode(), answer)
    _, (found,) = fold(SZ, [*story()[:5], again])
    assert "QUOTE_USED" in found


def test_memory_takes_nothing_twice_and_sends_nothing() -> None:
    state = Memory(SZ)
    state.begin("hub", {})
    state.put(b"a", b"1")
    state.put(b"a", b"1")
    with pytest.raises(Refused) as err:
        state.put(b"a", b"2")
    assert err.value.reason is Reason.PATH_WRITTEN
    assert state.scan(b"", after=b"a") == []
    state.undo()
    assert state.get(b"a") is None
    assert state.last(b"") is None
    for run in (
        lambda: state.send("c", payload_for("escrow", "settlement", b"{}"), 1),
        lambda: state.acknowledge("c", 1, b""),
        lambda: state.client_of("x"),
        lambda: state.verify_membership("c", 1, b"", b"", b""),
    ):
        with pytest.raises(LianqiaoError):
            run()


# --- against storage


def words_of(steps: Sequence[BookStep], **changed: int) -> dict[bytes, bytes]:
    """The storage that the contract has after them; `changed` by name."""
    state, _ = fold(SZ, steps)
    named = named_by(steps)
    booked = -last_line(state, "nostro:CNY").balance
    values = [
        len(named.accounts) | changed.get("length", len(steps)) << 40,
        int.from_bytes(history_of(steps), "big"),
        int("22" * 20, 16) | (booked + changed.get("booked", 0)) << 160,
        last_line(state, "suspense:CNY").balance + changed.get("suspense", 0),
    ]
    values[0] += changed.get("count", 0)
    for account in named.accounts:
        line = last_line(state, account)
        balance = max(0, line.balance) + changed.get(f"{account}.balance", 0)
        values.append(balance | (line.held + changed.get(f"{account}.held", 0)) << 64 | 7 << 128)
    slots = named.slots()
    return {slot: v.to_bytes(32, "big") for slot, v in zip(slots, values, strict=True)}


class Shown:
    """What an auditor is given of one state."""

    def __init__(self, steps: Sequence[BookStep], **changed: int) -> None:
        self.steps = [step.encode() for step in steps]
        self.slots = named_by(steps).slots()
        self.world = WorldState(
            {
                ESCROW_AT: Account(CODE, words_of(steps, **changed)),
                ENDPOINT: Account(bytes(32), {}),
            }
        )
        pinned = {"escrow": "0x" + ESCROW_AT.hex(), "escrow-code": "0x" + CODE.hex()}
        base = state_of(QBFT)
        parameters = tuple(sorted({**dict(base.parameters), **pinned}.items()))
        self.state: ClientState = replace(base, chain_id=f"{SZ}/0", parameters=parameters)
        self.consensus = ConsensusState(9, NOW, self.world.root, bytes(32), bytes(32), bytes(32))

    def proofs(self) -> list[tuple[int, bytes]]:
        """As the node before the chain makes them."""
        return [
            (len(part), encode_proof(ESCROW_AT, self.world.nodes(ESCROW_AT, part)))
            for part in proven.parts(self.slots)
        ]

    def records(self, **more: Any) -> tuple[dict[bytes, bytes], list[str]]:
        """As verify_books asks."""
        given = {"state": self.state, "consensus": self.consensus, "steps": self.steps, **more}
        return BOOKS.records(proofs=given.pop("proofs", self.proofs()), **given)


def refused(reason: Reason, run: Callable[[], object]) -> None:
    with pytest.raises(LianqiaoError) as err:
        run()
    assert err.value.reason is reason, err.value


def test_books_are_proven_by_the_contracts_own_words() -> None:
    records, findings = Shown(story()).records()
    assert findings == []
    assert records == fold(SZ, story())[0].records


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hospital.balance": 1}, "balance of hospital: the chain says 117001, the books 117000"),
        ({"maker-cny.held": 3}, "held of maker-cny: the chain says 3, the books 0"),
        ({"booked": 2}, "CNY on all accounts: the chain says 499002, the books 499000"),
        ({"suspense": 4}, "suspense:CNY: the chain says 4, the books 0"),
    ],
)
def test_each_word_that_is_otherwise_is_found(changed: dict[str, int], said: str) -> None:
    assert Shown(story(), **changed).records()[1] == [said]


def test_steps_are_all_of_them_and_as_they_were() -> None:
    shown = Shown(story())
    last = story()[-1]
    for steps in (
        shown.steps[:-1],
        [*shown.steps, shown.steps[-1]],
        [*shown.steps[:-1], replace(last, time=last.time + 1).encode()],
        [*shown.steps[:-1], replace(last, by=bytes(20)).encode()],
    ):
        refused(Reason.BUNDLE_INCOMPLETE, lambda steps=steps: shown.records(steps=steps))
    refused(Reason.BUNDLE_INCOMPLETE, Shown(story(), length=8).records)
    refused(Reason.BUNDLE_INCOMPLETE, Shown(story(), count=1).records)
    refused(Reason.MALFORMED, lambda: shown.records(steps=[b"", *shown.steps[1:]]))
    for unknown in (
        BookStep(NOW, HOLDER, b"\1\2\3\4"),
        call("suspense", b"CNY"),  # it changes nothing
    ):
        steps = [*shown.steps, unknown.encode()]
        refused(Reason.MALFORMED, lambda steps=steps: shown.records(steps=steps))


def test_a_proof_is_of_the_pinned_escrow_under_the_header() -> None:
    shown = Shown(story())
    ((words, proof),) = shown.proofs()
    other = Shown(story(), suspense=4)
    nodes = shown.world.nodes(ESCROW_AT, shown.slots)
    for bad in (
        encode_proof(ENDPOINT, nodes),
        encode_proof(ESCROW_AT, nodes[:-1]),
        encode_proof(ESCROW_AT, [*nodes, b"\xc0"]),
        other.proofs()[0][1],
    ):
        refused(Reason.INVALID_PROOF, lambda bad=bad: shown.records(proofs=[(words, bad)]))
    for proofs in ([], [(words + 1, proof)], [(words, proof), (1, proof)]):
        refused(Reason.BUNDLE_INCOMPLETE, lambda proofs=proofs: shown.records(proofs=proofs))

    def pinned(**changes: str) -> ClientState:
        named = {**dict(shown.state.parameters), **changes}
        return replace(shown.state, parameters=tuple(sorted(named.items())))

    code = pinned(**{"escrow-code": "0x" + "ab" * 32})
    refused(Reason.INVALID_PROOF, lambda: shown.records(state=code))
    elsewhere = pinned(escrow="0x" + ENDPOINT.hex())
    refused(Reason.INVALID_PROOF, lambda: shown.records(state=elsewhere))
    refused(Reason.MALFORMED, lambda: shown.records(state=state_of(QBFT)))


def test_many_accounts_are_proven_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven, "WORDS", 4)
    steps = [story()[0]]
    for number in range(5):
        body = terms(f"a-{number}", "CNY", "sz-hospital", HOSPITAL_K)
        steps.append(call("openAccount", terms_argument(body, HOLDER)))
    shown = Shown(steps)
    assert [count for count, _ in shown.proofs()] == [4, 4, 1]
    assert shown.records()[1] == []
    first, second, third = shown.proofs()
    refused(Reason.INVALID_PROOF, lambda: shown.records(proofs=[second, first, third]))
    refused(Reason.BUNDLE_INCOMPLETE, lambda: shown.records(proofs=[first, second]))


ODD = (
    b"",
    b"a/b",
    b"nostro:CNY",
    b"x" * 5000,
    "\u5e10\u6237".encode(),
    b"\0",
    b"line/a/1",
    b"\xff",
)


@pytest.mark.parametrize("name", ODD)
def test_an_account_that_is_named_as_none_can_be_is_told(name: bytes) -> None:
    """The chain takes any text; here it is no account, and nobody's books are read for it."""
    named = list(terms_argument(terms("odd", "CNY", "sz-odd", MAKER_K), HOLDER))
    named[0] = "x" * len(name)
    odd = call("openAccount", tuple(named))
    odd = replace(odd, data=odd.data.replace(b"x" * len(name), name, 1)) if name else odd
    records, findings = Shown([*story(), odd]).records()
    assert findings
    assert findings[0].startswith("step 8: done on the chain, and refused here")
    assert records == fold(SZ, story())[0].records


# --- in a node's tables


def test_a_node_keeps_steps_and_tells_what_is_different(tmp_path: Any) -> None:
    store = new_store(everyday_url(tmp_path / "node.db"))
    create(store, SZ, "ledger", set_of(keys_of(SZ, 1), SZ), epoch=0, now=NOW)
    mirror = Mirror(SZ, f"{HUB}/0", {"registry": REGISTRY, "escrow": ESCROW}, ENDPOINT)
    told: list[Any] = []
    for sequence, step in enumerate(story(), 1):
        if step.answer is None:
            told.append(Called(step.by, step.data))
            continue
        payload = payload_for("escrow", "settlement", step.data)
        carried = Packet(sequence, "evm-0", "checkpoint-0", NOW + 60, (payload,))
        told.append(PacketStep(sequence, 1, Step.RECEIVE, carried, (step.answer,)))
    reverted = Packet(
        99, "evm-0", "checkpoint-0", NOW + 60, (payload_for("escrow", "settlement", b"{}"),)
    )
    told.append(PacketStep(99, 1, Step.RECEIVE, reverted, (ERROR_ACKNOWLEDGEMENT,)))
    place = Place(7, 3, history_of(story()))
    with store.reading() as tx:
        mirror.fold(tx, [Block(1, NOW, tuple(told))], place)
        state = HostState(mirror, tx, "escrow", NOW)
        assert dict(state.scan(b"")) == fold(SZ, story())[0].records
        kept = HostState(mirror, tx, "evm", NOW)
        assert [v for _, v in kept.scan(b"step/")] == [s.encode() for s in story()]
        assert kept.scan(b"differs/") == []
        assert last_read(tx, mirror) == place
        odd = call("deposit", "nobody", 1, digest("x"))
        mirror.fold(tx, [Block(8, NOW, (Called(odd.by, odd.data),))], Place(8, 3))
        ((where, value),) = kept.scan(b"differs/")
        assert where == b"differs/%016d" % 8
        assert b"ACCOUNT_NOT_FOUND" in value
        assert MAKER_K.public not in value
    store.close()
