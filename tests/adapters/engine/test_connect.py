"""`connect` where several operators decide: they agree on one head, or on nothing."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.cometbft.light.zip215 import ED25519
from relay.actions import (
    CreateBound,
    CreateClient,
    ProposeRecovery,
    RegisterCounterparty,
    SubmitMisbehaviour,
)
from relay.cli.lanes import Lanes
from relay.errors import Refused
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.types import ClientState
from relay.proposals import creation_digest
from tests.adapters.cometbft.maker import raw_header
from tests.adapters.engine.chain import MAKERS, Chain, Single
from tests.adapters.engine.replicas import Replica, asked
from tests.cli.conftest import Done, Run, run  # noqa: F401
from tests.echo import Echo
from tests.world import Clock, World


def error(done: Done) -> dict[str, Any]:
    """The error that `--json` printed, of a run that was refused."""
    assert done.code == 1, done.out + done.err
    found: dict[str, Any] = json.loads(done.err.splitlines()[-1])
    return found


@pytest.fixture
def clock() -> Clock:
    """A while ago, so that the test can let time pass and nothing is from the future."""
    return Clock(int(time.time()) - 1000)


@pytest.fixture
def hub(tmp_path: Path, clock: Clock) -> Iterator[Chain]:
    """A relay of three institutions, two of which must agree."""
    lanes = {n: Lanes(tmp_path / f"lanes-{n}.json", ()) for n in range(3)}
    made = Chain(tmp_path / "hub", clock, quorum=2, contracts=lambda: [Echo()], lanes=lanes)
    yield made
    made.stop()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Single]:
    made = Single(World(tmp_path, clock), "zj")
    yield made
    made.stop()


def newer(ledger: Single) -> int:
    """The ledger has another newest head; its size."""
    ledger.clock.advance(100)
    ledger.node.tick()
    return size_of(ledger)


def size_of(ledger: Single) -> int:
    with ledger.client() as node:
        return node.head().size


def line(said: dict[str, Any], old: str, new: str) -> list[str]:
    """What the next operator types: the printed line with his own node's address."""
    arguments = shlex.split(said["data"]["next"])
    assert arguments[0] == "lianqiao"
    return [new if part == old else part for part in arguments[1:]]


def test_the_first_pins_a_head_and_the_others_agree_on_it(
    hub: Chain,
    ledger: Single,
    run: Run,  # noqa: F811
) -> None:
    one, two, three = hub.institutions
    size = size_of(ledger)
    first = run("connect", "--node", ledger.address, "--relay", one.address, "--json")
    said = error(first)
    assert (said["reason"], said["data"]["approved"], said["data"]["needed"]) == (
        "APPROVAL_PENDING", "1", "2",
    )  # fmt: skip
    assert f"--anchor {size} --proposal {said['data']['proposal']}" in said["hint"]
    assert newer(ledger) > size
    # whoever takes the newest head asks for something else, which is counted by itself
    other = error(run("connect", "--node", ledger.address, "--relay", two.address, "--json"))
    assert (other["reason"], other["data"]["approved"]) == ("APPROVAL_PENDING", "1")
    assert other["data"]["proposal"] != said["data"]["proposal"]
    assert not list(one.client().clients())
    # the printed line is all that the second needs
    done = run(*line(said, one.address, two.address))
    assert done.code == 0, done.err
    assert f"zj/0, size {size}, root " in done.out
    (ours,) = three.client().clients()
    (theirs,) = ledger.client().clients()
    assert (ours.counterparty_client_id, theirs.counterparty_client_id) == (
        theirs.client_id,
        ours.client_id,
    )
    # of the relay, too, the head is shown that was pinned, when the first asked
    pinned = theirs.latest
    assert f"hub/0, height {pinned.height}, hash {pinned.header_hash.hex()}" in done.out
    assert pinned.height < hub.nodes[0].shown_size
    assert [lane.client_id for lane in two.client().lanes()] == [ours.client_id]
    # and the first, who repeats it, carries packets too: nobody has to agree again
    assert "connected already" in run(*line(said, one.address, one.address)).out
    assert len(list(one.client().lanes())) == 1
    assert len({tuple(one.rows()) for one in hub.institutions}) == 1
    assert [one.fsck() for one in hub.institutions] == [[]] * 3


def test_another_head_under_the_same_digest_is_refused_before_anything_is_asked(
    hub: Chain,
    ledger: Single,
    run: Run,  # noqa: F811
) -> None:
    one, two, _ = hub.institutions
    said = error(run("connect", "--node", ledger.address, "--relay", one.address, "--json"))
    before = two.rows()
    arguments = line(said, one.address, two.address)
    at = arguments.index("--anchor") + 1
    changed = [*arguments[:at], str(newer(ledger)), *arguments[at + 1 :]]
    for tried in (
        changed,
        [*arguments, "--trusting-days", "91"],
        [*arguments[:-1], "00" * 32],
    ):
        done = run(*tried)
        assert (done.code, done.reason) == (1, "PROPOSAL_MISMATCH"), done.err
    assert run(*arguments[:-1], "00").code == 2
    missing = [*arguments[:at], "1000000", *arguments[at + 1 :]]
    assert run(*missing).reason == "HEIGHT_NOT_FOUND"
    assert two.rows() == before
    assert run(*arguments).code == 0


def test_a_replicated_ledger_and_a_replicated_relay(
    tmp_path: Path,
    clock: Clock,
    hub: Chain,
    run: Run,  # noqa: F811
) -> None:
    """Both sides have several operators: of each the second repeats what the first was told."""
    zj = Chain(tmp_path / "zj", clock, name="zj", role="ledger", quorum=2)
    try:
        (here, there, _), (one, two, _) = zj.institutions, hub.institutions
        said = error(run("connect", "--node", here.address, "--relay", one.address, "--json"))
        height = hub.nodes[0].shown_size
        assert f"--relay-anchor {height} --proposal " in said["hint"]
        hub.block()
        # the ledger's second operator brings its client about, and asks the relay's for theirs
        said = error(run(*line(said, here.address, there.address), "--json"))
        assert said["data"]["approved"] == "1"
        assert "--anchor" in said["hint"]
        zj.block()
        # the relay's second operator decides there; then the ledger is told its counterparty
        said = error(run(*line(said, one.address, two.address), "--json"))
        assert (said["reason"], said["data"]["needed"]) == ("APPROVAL_PENDING", "2")
        done = run("connect", "--node", here.address, "--relay", one.address)
        assert done.code == 0, done.err
        (ours,), (theirs,) = one.client().clients(), here.client().clients()
        assert (ours.state.client_type, ours.counterparty_client_id) == ("cometbft", "cometbft-0")
        assert theirs.counterparty_client_id == ours.client_id
        assert [one.fsck() for one in (*zj.institutions, *hub.institutions)] == [[]] * 6
    finally:
        zj.stop()


def test_a_chain_of_a_file_is_agreed_upon_too(
    tmp_path: Path,
    clock: Clock,
    hub: Chain,
    run: Run,  # noqa: F811
) -> None:
    zj = Chain(tmp_path / "zj", clock, name="zj", role="ledger")
    try:
        (here, *_), (one, two, _) = zj.institutions, hub.institutions
        header = zj._headers[2]
        file = tmp_path / f"{'a long name ' * 15}.toml"
        file.write_text(
            f'adapter = "cometbft"\naddress = "{here.rpc.address}"\nchain_id = "zj/0"\n'
            f'algorithm = "{ED25519}"\nproof_kind = "journal"\ntrusted_height = 2\n'
            f'trusted_hash = "{header.hash.hex()}"\ntrusting_days = 14\nnode = "{here.address}"\n'
            f'[settings]\nnode = "{here.address}"\n'
        )
        said = error(run("connect", "--chain", file, "--relay", one.address, "--json"))
        assert said["data"]["proposal"] in said["hint"]
        assert "--anchor" not in said["hint"]
        file.write_text(file.read_text().replace("trusting_days = 14", "trusting_days = 15"))
        arguments = line(said, one.address, two.address)
        done = run(*arguments)
        assert done.reason == "PROPOSAL_MISMATCH", done.err
        file.write_text(file.read_text().replace("trusting_days = 15", "trusting_days = 14"))
        # the relay's client is there; that it has a counterparty is decided next
        said = error(run(*arguments, "--json"))
        assert said["data"]["approved"] == "1"
        done = run("connect", "--chain", file, "--relay", one.address)
        assert done.code == 0, done.err
        (ours,), (theirs,) = one.client().clients(), here.client().clients()
        assert (ours.counterparty_client_id, theirs.counterparty_client_id) == (
            theirs.client_id,
            ours.client_id,
        )
        refused = run("connect", "--chain", file, "--relay", one.address, "--anchor", "2")
        assert refused.code == 2
    finally:
        zj.stop()


def test_operators_are_listed_and_changed(
    hub: Chain,
    run: Run,  # noqa: F811
) -> None:
    from tests.world import keys_of

    one, two, three = hub.institutions
    listed = run("operators", "list", "--node", one.address, "--json")
    found = json.loads(listed.out[listed.out.index("\n{") :])
    assert found["quorum"] == 2
    assert [v["name"] for v in found["operators"]] == [f"hub-op-{n}" for n in range(3)]
    (new,) = keys_of("new", 1)
    change = ("operators", "change", f"newcomer=ed25519:{new.public.hex()}", "hub-op-0=")
    assert run(*change, "--node", one.address).reason == "APPROVAL_PENDING"
    assert run(*change, "--node", three.address).code == 0
    names = {v.name for v in two.client().operators()[0].validators}
    assert names == {"hub-op-1", "hub-op-2", "newcomer"}
    # whoever was removed asks for nothing any more
    assert run("operators", "change", "hub-op-1=", "--node", one.address).code == 1
    for changes, reason in (
        (("hub-op-0=",), "NOT_FOUND"),
        (("hub-op-1=", "hub-op-2="), "LIMIT_EXCEEDED"),
        (("weak=ed25519:" + "00" * 32,), "WEAK_KEY"),
        (("nobody",), "MALFORMED"),
        (("x=ed25519:zz",), "MALFORMED"),
    ):
        assert run("operators", "change", *changes, "--node", two.address).reason == reason
    alone = ("operators", "change", "hub-op-1=", "hub-op-2=", "--quorum", "1")
    assert run(*alone, "--node", two.address).reason == "APPROVAL_PENDING"
    assert run(*alone, "--node", three.address).code == 0
    assert two.client().operators()[1] == 1
    listed = run("operators", "list", "--node", one.address)
    assert "1 of them must ask for the very same" in listed.out
    assert [one.fsck() for one in hub.institutions] == [[]] * 3


def test_the_quorum_alone_is_changed(
    hub: Chain,
    run: Run,  # noqa: F811
) -> None:
    one, two, three = hub.institutions
    change = ("operators", "change", "--quorum", "3")
    assert run(*change, "--node", one.address).reason == "APPROVAL_PENDING"
    assert run(*change, "--node", two.address).code == 0
    assert three.client().operators()[1] == 3
    back = ("operators", "change", "--quorum", "2")
    for replica in (one, two):
        assert run(*back, "--node", replica.address).reason == "APPROVAL_PENDING"
    assert run(*back, "--node", three.address).code == 0
    assert run("operators", "change", "--node", one.address).reason == "MALFORMED"
    many = ("operators", "change", "--quorum", "4")
    assert run(*many, "--node", one.address).reason == "LIMIT_EXCEEDED"
    assert [one.fsck() for one in hub.institutions] == [[]] * 3


def test_a_node_of_one_institution_has_no_operators_to_list(
    ledger: Single,
    run: Run,  # noqa: F811
) -> None:
    assert run("operators", "list", "--node", ledger.address).reason == "NOT_PERMITTED"
    change = ("operators", "change", "a=ed25519:" + "11" * 32, "--node", ledger.address)
    assert run(*change).reason == "NOT_PERMITTED"


# --- by the blocks alone


STATE = ClientState("cometbft", "zj", ED25519, proof_kind="journal", trusting_period=100_000)


def header(height: int = 5, signers: str = "abcd", **fields: object) -> bytes:
    return raw_header(height, MAKERS, signers=tuple(signers), chain_id="zj", **fields)


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    made = Replica(tmp_path / "one.db")
    made.init(quorum=2, time=1_800_000_000)
    yield made
    made.stop()


def logs(replica: Replica, *actions: Any) -> list[str]:
    """One block of these actions, by one operator after the other; a reason each."""
    height = replica.info()[0] + 1
    now = 1_800_000_100
    txs = [asked(a, 100 * height + n, n, now=now) for n, a in enumerate(actions)]
    return [result.log for result in replica.block(height, txs, now).tx_results]


def test_a_head_is_the_same_whoever_of_its_signers_is_shown(replica: Replica) -> None:
    first, second = CreateClient(STATE, header()), CreateClient(STATE, header(signers="bcd"))
    assert first.anchor_header != second.anchor_header
    assert logs(replica, first, second) == ["APPROVAL_PENDING", ""]


@pytest.mark.parametrize(
    "second",
    [
        CreateClient(STATE, header(6)),
        CreateClient(STATE, header(app_hash=b"x" * 40)),
        CreateClient(replace(STATE, trusting_period=99_999), header()),
        CreateClient(replace(STATE, clock_drift=11), header()),
        CreateBound(STATE, header(), "checkpoint-0"),
    ],
    ids=["height", "app hash", "trusting period", "clock drift", "counterparty"],
)
def test_what_differs_never_adds_up(replica: Replica, second: Any) -> None:
    first = CreateClient(STATE, header())
    assert logs(replica, first, second) == ["APPROVAL_PENDING"] * 2
    assert logs(replica, second, first) == ["", ""]


def test_a_counterparty_is_part_of_what_is_agreed(replica: Replica) -> None:
    first, other = (CreateBound(STATE, header(), f"checkpoint-{n}") for n in range(2))
    assert logs(replica, first, other) == ["APPROVAL_PENDING"] * 2
    assert logs(replica, other, first) == ["", "CHAIN_BOUND"]


def test_nobody_approves_of_a_head_that_its_own_set_did_not_sign(replica: Replica) -> None:
    bad = CreateClient(STATE, header(signers="ab"))
    before = len(replica.rows())
    assert logs(replica, bad, bad) == ["QUORUM_NOT_REACHED"] * 2
    assert len(replica.rows()) == before + 1 + 2, "the block and two nonces, no approval"


def test_a_recovery_is_agreed_upon_by_its_head(replica: Replica) -> None:
    create = CreateClient(STATE, header())
    assert logs(replica, create, create) == ["APPROVAL_PENDING", ""]
    ask = ProposeRecovery("cometbft-0", STATE, header(6), 3600)
    assert logs(replica, ask) == ["RECOVERY_NOT_NEEDED"], "nobody has to agree on that"
    evidence = encode_evidence(Evidence(header(5), header(5, app_hash=b"x" * 40)))
    assert logs(replica, SubmitMisbehaviour("cometbft-0", evidence)) == [""]
    assert logs(replica, ask, replace(ask, anchor_header=header(7))) == ["APPROVAL_PENDING"] * 2
    longer = replace(ask, delay=3601)
    assert logs(replica, longer) == ["APPROVAL_PENDING"]
    same = replace(longer, anchor_header=header(6, "bcd"))
    assert logs(replica, replace(same, client_id="cometbft-1"), same) == ["CLIENT_NOT_FOUND", ""]
    assert logs(replica, ask) == ["RECOVERY_PENDING"]


def test_what_changes_nothing_needs_nobody(replica: Replica) -> None:
    bound = CreateBound(STATE, header(), "checkpoint-0")
    assert logs(replica, bound, bound) == ["APPROVAL_PENDING", ""]
    again = RegisterCounterparty("cometbft-0", "checkpoint-0")
    other = RegisterCounterparty("cometbft-0", "checkpoint-1")
    assert logs(replica, again, other) == ["", "COUNTERPARTY_EXISTS"]


def test_the_digest_is_that_of_the_chain(replica: Replica) -> None:
    from relay.light.client import consensus_of
    from tests.adapters.cometbft.maker import decoded

    tx = asked(CreateClient(STATE, header()), 1, now=1_800_000_100)
    replica.block(1, [tx], 1_800_000_100)
    refused = replica.result(tx).error
    assert isinstance(refused, Refused)
    digest = creation_digest(STATE, consensus_of(decoded(header())))
    assert refused.data["proposal"] == digest.hex()
