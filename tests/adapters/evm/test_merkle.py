"""The Merkle proofs of the endpoint against those of relay.light.merkle, on a real EVM."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from adapters.evm import calls
from adapters.evm.deploy import deploy
from adapters.evm.rpc import Rpc
from adapters.evm.sdk import Web3
from adapters.evm.sender import Sender
from relay.light.merkle import (
    consistency_proof,
    leaf_hash,
    multi_proof,
    root,
)
from tests.adapters.evm.ledger import KEY, SealedAnvil
from tests.world import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LEAVES = [leaf_hash(sha256(b"%d" % i).digest() * 2) for i in range(65)]
SIZES = [*range(1, 18), 31, 32, 33, 63, 64, 65]


def node(level: int, index: int) -> bytes:
    """A complete node of the tree over LEAVES."""
    return root(LEAVES[index << level : (index + 1) << level])


class Harness:
    """The contract that shows the library."""

    def __init__(self, path: Path, anvil: SealedAnvil) -> None:
        key = path / "key"
        key.write_text(KEY)
        self.rpc = Rpc([anvil.address])
        self.address = deploy(self.rpc, Sender(key, 10**12), "Harness").address
        self.abi = Web3().eth.contract(abi=calls.artifacts()["Harness"]["abi"])

    def call(self, name: str, *arguments: object) -> bytes | str:
        """What it answers, or the reason for which it refuses."""
        data = bytes.fromhex(self.abi.encode_abi(name, args=list(arguments))[2:])
        done = self.rpc.call(self.address, data)
        return calls.reason_of(done.data) if done.reverted else done.data


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    anvil = SealedAnvil(Clock())
    yield Harness(tmp_path_factory.mktemp("harness"), anvil)
    anvil.close()


def test_multi_proofs(harness: Harness) -> None:
    dice = random.Random(6)
    for size in SIZES:
        for _ in range(4):
            count = dice.randint(1, min(size, 9))
            at = sorted(dice.sample(range(size), count))
            proof = multi_proof(at, size, node)
            row = [LEAVES[i] for i in at]
            top = root(LEAVES[:size])
            assert harness.call("multi", size, at, row, proof) == top
            longer = harness.call("multi", size, at, row, [*proof, bytes(32)])
            assert longer == "INVALID_PROOF"
            if proof:
                assert harness.call("multi", size, at, row, proof[:-1]) == "INVALID_PROOF"
                turned = [*proof[:-1], bytes(32)]
                assert harness.call("multi", size, at, row, turned) != top
            assert harness.call("multi", size, [*at[:-1], size], row, proof) == "INVALID_PROOF"
            if count > 1:
                assert harness.call("multi", size, at[::-1], row, proof) == "INVALID_PROOF"
                twice = [at[0], at[0], *at[2:]]
                assert harness.call("multi", size, twice, row, proof) == "INVALID_PROOF"
            assert harness.call("multi", size, at, row[:-1], proof) == "INVALID_PROOF"
    assert harness.call("multi", 3, [], [], []) == "INVALID_PROOF"


def test_consistency_proofs(harness: Harness) -> None:
    for newer in SIZES:
        for older in {1, 2, 3, newer // 2, newer - 1, 8, 16, 21}:
            if not 0 < older < newer:
                continue
            proof = consistency_proof(older, newer, node)
            roots = root(LEAVES[:older]), root(LEAVES[:newer])
            assert harness.call("consistency", older, newer, *roots, proof) == b""
            for wrong in (
                (older, newer, roots[0], bytes(32), proof),
                (older, newer, bytes(32), roots[1], proof),
                (older, newer, *roots, [*proof, bytes(32)]),
                (older, newer, *roots, proof[:-1]),
                (older, newer, *roots, [bytes(32), *proof[1:]]),
            ):
                assert harness.call("consistency", *wrong) == "INVALID_CONSISTENCY"
