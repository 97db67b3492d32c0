"""Real CometBFT of both lines: four validators of `kvstore`, followed, skipped over, attacked."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.cometbft.chain import CometChain, connect
from adapters.cometbft.light import CLIENT
from adapters.cometbft.light.block import NOBODY, BlockCommit, CommitSig, header_hash
from adapters.cometbft.light.block import vote_sign_bytes as sign_bytes
from adapters.cometbft.light.client import CometHeader, encode_light_block
from adapters.cometbft.light.txproof import Result, decode_result
from adapters.cometbft.light.validators import SECP256K1, make_set
from adapters.cometbft.light.zip215 import ED25519
from relay.errors import Reason
from relay.light.client import anchor, verify_header
from relay.light.types import Claim, ClientState, ConsensusState
from tests.adapters.cometbft.network import LINES, Network
from tests.refusals import refused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STATE = ClientState("cometbft", "kv-chain", ED25519, proof_kind="tx", trusting_period=100_000)


@pytest.fixture(scope="module", params=LINES)
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("network"), line=request.param)
    try:
        made.wait_height(2)
        yield made
    finally:
        made.close()


@pytest.fixture
def chain(network: Network) -> Iterator[CometChain]:
    made = connect({"address": network.rpc[0], "rpc": ",".join(network.rpc[1:]), "proof": "tx"})
    assert isinstance(made, CometChain)
    yield made
    made.close()


def now() -> int:
    return int(time.time())


def anchored(chain: CometChain, height: int) -> ConsensusState:
    return anchor(CLIENT, STATE, chain.headers(0, height, ED25519)[-1], now())[0]


def follow(trusted: ConsensusState, raw: bytes) -> ConsensusState:
    return verify_header(CLIENT, STATE, trusted, CLIENT.decode_header(raw), now())


def test_headers_are_followed_live(network: Network, chain: CometChain) -> None:
    trusted = anchored(chain, 1)
    for _ in range(8):
        height = chain.latest_height()
        if height > trusted.height:
            for raw in chain.headers(trusted.height, height, ED25519):
                assert CLIENT.encode_header(CLIENT.decode_header(raw)) == raw
                trusted = follow(trusted, raw)
        assert chain.wait_block(height, 30)
    assert trusted.height >= 6
    assert chain._blocks is not None
    assert chain._blocks.pushes > 0


@pytest.mark.parametrize("line", LINES)
def test_validators_with_secp256k1_keys_are_followed(line: str, tmp_path: Path) -> None:
    network = Network(tmp_path, line=line, secp256k1=True)
    state = replace(STATE, algorithm=SECP256K1)
    chain = connect({"address": network.rpc[0], "rpc": ",".join(network.rpc[1:]), "proof": "tx"})
    try:
        height = network.wait_height(4)
        first, *rest = [chain.headers(at - 1, at, SECP256K1)[-1] for at in range(1, height + 1)]
        trusted = anchor(CLIENT, state, first, now())[0]
        for raw in rest:
            trusted = verify_header(CLIENT, state, trusted, CLIENT.decode_header(raw), now())
        assert trusted.height == height
        refused(Reason.ALGORITHM_NOT_PINNED, anchor, CLIENT, STATE, first, now())
    finally:
        chain.close()
        network.close()


def test_each_height_verifies_after_the_one_before(network: Network, chain: CometChain) -> None:
    height = network.wait_height(6)
    trusted = anchored(chain, 1)
    for at in range(2, height + 1):
        (raw,) = chain.headers(at - 1, at, ED25519)
        trusted = follow(trusted, raw)


def test_a_transaction_and_its_result(network: Network, chain: CometChain) -> None:
    tx = b"colour=%d" % now()
    height = network.send(tx)
    network.wait_height(height + 1)
    claimed = sha256(tx).digest()
    proof, (result,) = chain.source.prove_txs([claimed], height + 1)
    assert decode_result(result) == Result(0)
    consensus = anchored(chain, height + 1)
    CLIENT.verify_membership(STATE, consensus, proof, [Claim(claimed, result)])
    refused(
        Reason.INVALID_PROOF,
        lambda: CLIENT.verify_membership(STATE, consensus, proof, [Claim(claimed, b"\x08\x01")]),
    )
    earlier = anchored(chain, height)
    refused(
        Reason.INVALID_PROOF,
        lambda: CLIENT.verify_membership(STATE, earlier, proof, [Claim(claimed, result)]),
    )
    refused(Reason.PATH_NOT_FOUND, lambda: chain.prove([bytes(32)], height + 1))


def test_skipping_over_many_set_changes(network: Network, chain: CometChain) -> None:
    trusted = anchored(chain, network.wait_height(2))
    sets = set()
    for turn in range(6):
        # Each turn moves most of the power to another validator.
        height = network.set_power(turn % 4, 10 ** (2 + turn))
        network.wait_height(height + 3)
        sets.add(network.nodes[0].signed_header(height + 3)[0].validators_hash)
    assert len(sets) == 6
    height = chain.latest_height()
    way = chain.headers(trusted.height, height, ED25519)
    for raw in way:
        trusted = follow(trusted, raw)
    assert trusted.height == height
    assert 1 < len(way) < 30
    start = anchored(chain, 2)
    refused(Reason.NOT_ENOUGH_TRUST, lambda: follow(start, way[-1]))


def test_a_header_forged_by_a_third_of_the_validators(network: Network, chain: CometChain) -> None:
    for number in range(4):
        network.set_power(number, 997)
    height = network.wait_height(chain.latest_height() + 4)
    trusted = anchored(chain, height - 1)
    true = CLIENT.decode_header(chain.headers(0, height, ED25519)[-1])
    assert isinstance(true, CometHeader)
    for signers, reason in ((1, Reason.QUORUM_NOT_REACHED), (2, Reason.QUORUM_NOT_REACHED)):
        forged = _forge(network, true, signers)
        refused(reason, lambda f=forged: follow(trusted, f))
    # What makes the difference is the power behind it, and nothing else: three are enough to lie.
    assert follow(trusted, _forge(network, true, 3)).root == b"forged"


def _forge(network: Network, true: CometHeader, signers: int) -> bytes:
    block = replace(true.block, app_hash=b"forged")
    named = replace(true.block_id, hash=header_hash(block))
    secrets = {}
    for number in range(signers):
        key = network.key(number)
        secrets[key["address"]] = Ed25519PrivateKey.from_private_bytes(
            b64decode(key["priv_key"]["value"])[:32]
        )
    places = []
    for one in make_set(true.validators.validators).validators:
        if one.name not in secrets:
            places.append(NOBODY)
            continue
        message = sign_bytes(block.chain_id, block.height, true.round, named, block.time)
        signature = secrets[one.name].sign(message)
        places.append(CommitSig(2, bytes.fromhex(one.name), block.time, signature))
    commit = BlockCommit(block.height, true.round, named, tuple(places))
    return encode_light_block(block, commit, true.validators)


def test_one_validator_may_be_away(network: Network) -> None:
    chain = connect({"address": network.rpc[3], "rpc": ",".join(network.rpc[:3])})
    assert isinstance(chain, CometChain)
    before = chain.latest_height()
    network.stop(3)
    try:
        network.wait_height(before + 3, 0)
        height = chain.latest_height()
        assert height >= before + 3
        raw = chain.headers(0, height, ED25519)[-1]
        assert anchor(CLIENT, STATE, raw, now())[0].height == height
        assert chain.source.endpoints.first.address != network.rpc[3]
    finally:
        network.start(3)
        chain.close()


def test_connect_says_what_is_trusted(
    network: Network, chain: CometChain, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from relay.cli.root import run
    from tests.cli.conftest import Served, make

    height = network.wait_height(3)
    header = CLIENT.decode_header(chain.headers(0, height, ED25519)[-1])
    file = tmp_path / "kv.toml"
    file.write_text(
        f"""adapter = "cometbft"
address = "{network.rpc[0]}"
chain_id = "kv-chain"
algorithm = "{ED25519}"
proof_kind = "tx"
trusted_height = {height}
trusted_hash = "{header.hash.hex().upper()}"
trusting_days = 14
lane = false
[settings]
rpc = "{",".join(network.rpc[1:])}"
"""
    )
    hub = Served(make(tmp_path / "hub", "hub", "relay"))
    try:
        capfd.readouterr()
        command = ["connect", "--chain", str(file), "--relay", hub.address]
        assert run(command) == 0
        said = capfd.readouterr().out
        assert f"kv-chain, height {height}, hash {header.hash.hex()}" in said
        assert "4 validators" in said
        assert header.validators.validators[0].name in said
        assert run(command) == 0
        assert "connected already" in capfd.readouterr().out
        assert run(["clients", "list", "--node", hub.address]) == 0
        assert "cometbft-0" in capfd.readouterr().out
        file.write_text(file.read_text().replace(header.hash.hex().upper(), "00" * 32))
        assert run(command) == 1
        assert "HEAD_CONFLICT" in capfd.readouterr().err
    finally:
        assert hub.stop() == 0


def test_heights_that_are_not_there(network: Network, chain: CometChain) -> None:
    height = chain.latest_height()
    for wrong in (0, -1, height + 1_000_000, 2**63, 2**64):
        refused(Reason.HEIGHT_NOT_FOUND, lambda w=wrong: chain.headers(0, w, ED25519))
    # kvstore proves nothing of its state, and says so by having no operations.
    refused(
        (Reason.MALFORMED, Reason.HEIGHT_NOT_FOUND),
        lambda: _by_ics23(network).prove([b"colour"], height),
    )


def _by_ics23(network: Network) -> CometChain:
    made = connect({"address": network.rpc[0], "proof": "ics23"})
    assert isinstance(made, CometChain)
    return made
