"""Real GoQuorum networks: four validators whose seals are followed, counted, voted on, attacked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.evm.chain import EvmChain
from adapters.evm.deploy import deploy_play_money, transact
from adapters.evm.light import CLIENT, rlp
from adapters.evm.light.client import present
from adapters.evm.light.header import IBFT1, QBFT, split_header
from adapters.evm.light.validators import addresses_of, read_source
from adapters.evm.practice.chain import KEYS
from adapters.evm.rpc import Rpc
from adapters.evm.sdk import Web3
from adapters.evm.sender import Sender
from relay.contracts.catalogue import shipped
from relay.demo.clearing.attacks import cheats
from relay.demo.clearing.evm import MoneyStage
from relay.demo.clearing.story import HK, closed, set_up, settle_bill
from relay.demo.clearing.story import ROLES as CLEARING
from relay.demo.clearing.texts import speaker
from relay.demo.evm import EvmStage
from relay.demo.generator import generate
from relay.demo.lots import tell_story
from relay.demo.ports import free_ports
from relay.demo.stage import ASKING, RELAY, SOURCE
from relay.demo.story import cases_of_generated, introduce
from relay.errors import Reason
from relay.fixings import fixing, last_day
from relay.light.client import anchor, verify_header
from relay.light.types import ClientState, ConsensusState, Header
from relay.registry import connect_chain
from tests.adapters.evm.network import EPOCH, VALIDATOR_CONTRACT, Network, binary
from tests.adapters.evm.sealing import state_of
from tests.refusals import refused

pytestmark = [pytest.mark.slow, pytest.mark.deep, pytest.mark.timeout(900)]
binary()
SPARE = 4


@dataclass
class Followed:
    """A network, a chain of the adapter before it, and what a receiver of its headers pins."""

    network: Network
    chain: EvmChain
    state: ClientState

    def first(self, height: int = 1) -> ConsensusState:
        raw = self.chain.headers(0, height)[-1]
        return anchor(CLIENT, self.state, raw, int(time.time()))[0]

    def follow(self, trusted: ConsensusState, raw: bytes | Header) -> ConsensusState:
        header = CLIENT.decode_header(raw) if isinstance(raw, bytes) else raw
        return verify_header(CLIENT, self.state, trusted, header, int(time.time()))

    def step(self, trusted: ConsensusState, until: int) -> ConsensusState:
        """Each header after the one before, up to a height."""
        for height in range(trusted.height + 1, until + 1):
            (raw,) = self.chain.headers(height - 1, height)
            assert CLIENT.encode_header(CLIENT.decode_header(raw)) == raw
            trusted = self.follow(trusted, raw)
        return trusted

    def header(self, height: int) -> Header:
        return CLIENT.decode_header(self.chain.headers(0, height)[-1])

    def set_at(self, height: int) -> set[bytes]:
        return set(addresses_of(self.header(height).validators))

    def until(self, holds: Callable[[int], bool]) -> int:
        """The first height from now on of which something holds."""
        height = self.network.wait_height(1)
        while not holds(height):
            height = self.network.wait_height(height + 1)
        return height


def followed(path: Path, kind: str) -> Iterator[Followed]:
    variant = IBFT1 if kind == "ibft1" else QBFT
    contract = kind == "contract"
    network = Network(path, variant, spare=1, contract=contract)
    try:
        network.wait_height(3)
        source = f"contract:{VALIDATOR_CONTRACT}:0" if contract else f"header:{EPOCH}"
        chain = connect_chain(
            "evm",
            {"address": network.addresses[0], "rpc": ",".join(network.addresses[1:4]),
             "endpoint": "0x" + "00" * 20, "variant": variant, "validators": source},
        )  # fmt: skip
        assert isinstance(chain, EvmChain)
        chain._chain_id = "sz-money"  # no endpoint is here
        yield Followed(network, chain, state_of(variant, validators=source))
    finally:
        network.close()


@pytest.fixture(scope="module", params=["qbft", "ibft1", "contract"])
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    yield from followed(tmp_path_factory.mktemp(request.param), request.param)


def test_each_header_verifies_after_the_one_before(live: Followed) -> None:
    height = live.network.wait_height(8)
    trusted = live.step(live.first(), height)
    assert trusted.height == height
    skipped = live.follow(live.first(), live.chain.headers(1, height)[-1])
    assert skipped == trusted


def test_its_hash_is_the_one_that_the_chain_tells(live: Followed) -> None:
    for height in range(1, live.network.wait_height(4)):
        told = live.network.rpc.ask("eth_getBlockByNumber", [hex(height), False])
        assert live.header(height).hash.hex() == told["hash"][2:]
        assert live.header(height).root.hex() == told["stateRoot"][2:]


def test_two_seals_of_four_are_too_few(live: Followed) -> None:
    height = live.network.wait_height(5)
    trusted, true = live.first(height - 1), live.header(height)
    assert len(true.signatures) >= 3
    assert len({s.signer for s in true.signatures}) == len(true.signatures)
    for count in (0, 1, 2):
        few = replace(true, signatures=true.signatures[:count])
        refused(Reason.QUORUM_NOT_REACHED, live.follow, trusted, few)
    twice = replace(true, signatures=(*true.signatures[:2], true.signatures[0]))
    refused(Reason.DUPLICATE_SIGNER, live.follow, trusted, twice)
    assert live.follow(trusted, replace(true, signatures=true.signatures[:3])).height == height


def test_a_changed_root_is_sealed_by_nobody(live: Followed) -> None:
    height = live.network.wait_height(5)
    raw = live.chain._headers.raw(height)
    body, seals = split_header(live.chain._headers._variant, raw)
    items = rlp.fields(rlp.decode(raw), "header")
    forged = rlp.encode([*items[:3], b"\x66" * 32, *items[4:]])
    assert split_header(live.chain._headers._variant, forged)[1] == seals
    assert split_header(live.chain._headers._variant, forged)[0] != body
    source = live.header(height).validators.source
    link = live.header(height).link
    shown = present(live.chain._headers._variant, "sz-money/0", source, forged, link=link)
    refused(Reason.UNKNOWN_SIGNER, live.follow, live.first(height - 1), shown)


def test_one_validator_may_be_away(live: Followed) -> None:
    """Rounds in which it should have proposed are repeated by others; what is sealed verifies."""
    before = live.network.wait_height(4)
    trusted = live.first(before)
    live.network.stop(0)
    try:
        height = live.network.wait_height(before + 6, number=1)
        trusted = live.step(trusted, height)
        assert trusted.height == height
        if live.chain._headers._variant == QBFT:
            rounds = [_round(live, h) for h in range(before + 1, height + 1)]
            assert any(rounds), rounds
    finally:
        live.network.start(0)
        live.network.wait_height(before + 6, number=0)


def _round(live: Followed, height: int) -> int:
    items = rlp.fields(rlp.decode(live.chain._headers.raw(height)), "header")
    extra = rlp.fields(rlp.decode(rlp.octets(items[12], "extra")), "extra")
    return rlp.integer(extra[3], "round", 2**32)


def test_validators_come_and_go(live: Followed) -> None:
    start = trusted = live.first(live.network.wait_height(4))
    newcomer = live.network.sealers[SPARE]
    old = live.set_at(trusted.height)
    assert newcomer.address not in old
    _change(live, add=True)
    height = live.until(lambda h: newcomer.address in live.set_at(h))
    trusted = live.step(trusted, height)
    assert live.set_at(height) == old | {newcomer.address}
    height = live.network.wait_height(height + 3)
    trusted = live.step(trusted, height)
    # Whoever slept over the change skips to it, since most of whom he knows sealed it.
    (skipping,) = live.chain.headers(start.height, height)
    assert CLIENT.decode_header(skipping).trusted_validators is not None
    assert live.follow(start, skipping) == trusted
    unshown = replace(CLIENT.decode_header(skipping), trusted_validators=None)
    refused(Reason.NOT_ENOUGH_TRUST, live.follow, start, unshown)
    _change(live, add=False)
    height = live.until(lambda h: newcomer.address not in live.set_at(h))
    trusted = live.step(trusted, live.network.wait_height(height + 2))
    assert live.set_at(trusted.height) == old


def _change(live: Followed, *, add: bool) -> None:
    _, contract, _ = read_source(live.chain._headers._source)
    network, spare = live.network, live.network.sealers[SPARE]
    if not contract:
        network.propose(spare, add, range(4))
        return
    listed = [s.address for s in network.sealers[:4]] + ([spare.address] if add else [])
    transact(
        Rpc([network.addresses[1]]), network.sender(), contract, "setValidators",
        [[Web3.to_checksum_address("0x" + a.hex()) for a in listed]], "Validators",
    )  # fmt: skip


class OnNetwork(EvmStage):
    """A stage whose chain is there: it seals, and nothing is re-sealed."""

    network: Network

    @property
    def _rpc(self) -> str:
        return self.network.addresses[0]

    def begin(self) -> None:
        """See EvmStage."""
        count = len(self.roles) + len(self.on_chain)
        self._listen = [f"127.0.0.1:{port}" for port in free_ports(count)]
        for (name, role), address in zip(self.roles.items(), self._listen, strict=False):
            where = self.directory / "nodes" / name
            init = ["init", str(where), "--chain-id", name, "--role", role, "--listen", address]
            if role == "relay":
                init += ["--algorithm", "ed25519", "--algorithm", "secp256k1"]
            self._made[name] = (where, address, self.begin_command(init))
        (self.directory / "keys").mkdir(parents=True, exist_ok=True)
        for name, known in zip(self._accounts, KEYS, strict=False):
            self._key(name).write_text(known)

    def command(self, *arguments: str) -> str:
        """See Stage; a deployment names the seals."""
        if arguments[:2] == ("evm", "deploy"):
            arguments = (*arguments, "--variant", self.network.variant)
        return super().command(*arguments)

    def _wait_for_chain(self) -> None:
        self.network.wait_height(2)


class LiveStage(OnNetwork):
    """The record story with its source and its asking ledger on a chain that seals."""

    on_chain = (SOURCE, ASKING)

    def __init__(self, directory: Path, network: Network) -> None:
        super().__init__(directory, keep=False)
        self.network = network


class LiveMoneyStage(OnNetwork, MoneyStage):
    """The settlement story with its Hong Kong dollars on a chain that seals."""

    def __init__(self, directory: Path, network: Network) -> None:
        super().__init__(directory, False, CLEARING)
        self.network = network

    def _tokens(self) -> list[str]:
        owner = Sender(self._key(HK), 10**12)
        made = deploy_play_money(Rpc([self._rpc]), owner, [owner.address])
        return [f"HKD=0x{made.hex()}"]


@pytest.mark.parametrize("variant", [QBFT, IBFT1])
def test_records_cross_between_ledgers_on_a_chain_that_seals(tmp_path: Path, variant: str) -> None:
    """Contracts, client, lane and nodes by the commands that operators type; nothing re-sealed."""
    now = int(time.time())
    cases = cases_of_generated(generate(json.loads(shipped()), seed=11, now=now, count=6))
    (tmp_path / "chain").mkdir()
    network = Network(tmp_path / "chain", variant)
    try:
        network.wait_height(2)
        stage = LiveStage(tmp_path / "stage", network)
        stage.prepare()
        with stage:
            stage.begin()
            stage.start()
            stage.join()
            introduce(stage, now)
            tell_story(stage, cases, now, lambda *_: None)
            assert all(case.as_expected for case in cases), [c.findings for c in cases]
            assert any(case.fetched is not None for case in cases)
            for name in (SOURCE, RELAY, ASKING):
                while stage.node(name).status().packets_open:
                    time.sleep(0.2)
    finally:
        network.close()


@pytest.mark.parametrize("variant", [QBFT, IBFT1])
def test_money_is_settled_on_a_chain_that_seals(tmp_path: Path, variant: str) -> None:
    """Payment against payment, cheats on the endpoint, books that are proven under real seals."""
    (tmp_path / "chain").mkdir()
    network = Network(tmp_path / "chain", variant)
    try:
        network.wait_height(2)
        stage = LiveMoneyStage(tmp_path / "stage", network)
        stage.prepare()
        with stage:
            stage.begin()
            cast = set_up(stage, fixing("CNY", "HKD", last_day()), lambda *_: None)
            _, shown = settle_bill(cast, lambda *_: None)
            assert closed(shown)
            tried = cheats(cast, shown, speaker("en"), lambda *_: None)
            assert [t for t in tried if not t.ok] == []
            nodes = [w for n in CLEARING for w in ("--node", stage.processes[n].address)]
            trust = ("--trust", str(stage.trust_file), "--json")
            told = json.loads(stage.command("reconcile", *nodes, *trust))
            assert told["agrees"] is True
            assert told["settlements"] == 2
    finally:
        network.close()
