"""WitnessService: a node co-signs another's heads over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cosigning import Cosigning
from relay.errors import LianqiaoError, Reason
from relay.keys import SigningKey
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ValidatorSet
from relay.node import Node
from relay.store.cosignatures import Shown
from relay.witness import Witness
from tests.service.nodes import START, Clock, Running, follow, join, run, send


def witnessing(folder: Path) -> Running:
    """A ledger that is a witness."""
    made: list[Witness] = []

    class Late:
        """The witness of a node that is made with its server."""

        def __getattr__(self, name: str) -> object:
            return getattr(made[0], name)

    running = run(folder / "zj", "zj", "ledger", witness=Late())
    made.append(Witness(running.node, "zj", [SigningKey.generate()], folder / "seen"))
    return running


def grow(node: Node, validators: ValidatorSet) -> None:
    """One more entry: the set that is in force, announced again."""
    node.announce_set(validators)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Running, Running]]:
    zj, hub = witnessing(tmp_path), run(tmp_path / "hub", "hub", clock=Clock(START))
    yield zj, hub
    zj.stop()
    hub.stop()


def test_a_head_is_cosigned_over_the_network(pair: tuple[Running, Running]) -> None:
    zj, hub = pair
    pinned = zj.client.status().own_witness
    assert pinned is not None
    assert pinned.name == "zj"
    with pytest.raises(LianqiaoError) as err:
        zj.client.add_checkpoint(0, [], hub.node.head.note.encode(), b"")
    assert err.value.reason is Reason.CLIENT_NOT_FOUND
    follow(zj, hub)
    hub.node.shown = Shown((pinned,), 1)
    cosigning = Cosigning(hub.node, pinned, zj.address, zj.client)
    for _ in range(2):
        grow(hub.node, hub.validators)
        with pytest.raises(LianqiaoError) as err:
            hub.client.headers(0, 2**40)
        assert err.value.reason is Reason.HEIGHT_NOT_FOUND
        assert cosigning.tick(START)
        assert hub.client.head().size == hub.node.head.size
        (raw,) = hub.client.headers(0, hub.node.head.size, witnesses=[pinned])
        assert [c.signer for c in CHECKPOINT.decode_header(raw).cosignatures] == ["zj"]
        (raw,) = hub.client.headers(0, hub.node.head.size)
        assert CHECKPOINT.decode_header(raw).cosignatures == ()
    status = hub.client.status()
    assert (status.witness_quorum, status.signed_size) == (1, hub.node.head.size)


def test_a_watch_tells_of_what_is_shown(pair: tuple[Running, Running]) -> None:
    zj, hub = pair
    pinned = zj.client.status().own_witness
    assert pinned is not None
    _, there = join(zj, hub)
    hub.node.shown = Shown((pinned,), 1)
    hub.node._tell()
    send(hub, there, "hello")
    assert list(hub.client.watch(there, 0, 0.3)) == []
    assert Cosigning(hub.node, pinned, zj.address, zj.client).tick(START)
    assert [step is not None for _, step in hub.client.watch(there, 0, 0.3)] == [True]


def test_a_node_without_a_witness_key_says_so(pair: tuple[Running, Running]) -> None:
    _, hub = pair
    assert hub.client.status().own_witness is None
    with pytest.raises(LianqiaoError) as err:
        hub.client.add_checkpoint(0, [], hub.node.head.note.encode(), b"")
    assert err.value.reason is Reason.NOT_PERMITTED


@pytest.mark.parametrize(
    ("proof", "note", "reason"),
    [
        ([b"short"], b"x", Reason.MALFORMED),
        ([bytes(32)] * 129, b"x", Reason.LIMIT_EXCEEDED),
        ([], b"", Reason.MALFORMED),
        ([], b"x" * (128 * 1024 + 1), Reason.LIMIT_EXCEEDED),
    ],
)
def test_what_is_shown_is_bounded(
    pair: tuple[Running, Running], proof: list[bytes], note: bytes, reason: Reason
) -> None:
    zj, _ = pair
    with pytest.raises(LianqiaoError) as err:
        zj.client.add_checkpoint(0, proof, note, b"")
    assert err.value.reason is reason
