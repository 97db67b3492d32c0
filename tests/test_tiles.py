"""The stored tree against the plain one: same root, same proofs, few rows and hashes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from relay import tiles
from relay.light import merkle
from relay.store import Store
from relay.tiles import Edge, TileCache, extend, load_edge, write_tiles
from tests.databases import everyday_url, new_store


def _leaves(count: int) -> list[bytes]:
    return [sha256(i.to_bytes(4, "big")).digest() for i in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = new_store(everyday_url(tmp_path / "node.db"))
    return opened


@pytest.mark.parametrize("batch", [1, 3, 100, 256, 257, 700])
def test_edge_has_the_root_of_its_leaves_whatever_the_batches(batch: int) -> None:
    leaves, edge = _leaves(1030), Edge()
    for start in range(0, len(leaves), batch):
        edge, _ = extend(edge, leaves[start : start + batch])
        assert edge.root() == merkle.root(leaves[: edge.size])


def test_empty_edge_has_the_empty_root() -> None:
    assert Edge().root() == sha256(b"").digest()


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 513, 1030])
def test_stored_edge_equals_the_one_in_memory(store: Store, size: int) -> None:
    leaves, edge = _leaves(size), Edge()
    with store.transaction() as tx:
        for start in range(0, size, 97):
            edge, touched = extend(edge, leaves[start : start + 97])
            write_tiles(tx.connection, touched)
    with store.read() as connection:
        loaded = load_edge(connection, size)
        again, _ = extend(loaded, _leaves(5))
        assert loaded.root() == edge.root()
        assert again.root() == extend(edge, _leaves(5))[0].root()


def test_proofs_from_tiles_verify_at_every_stored_size(store: Store) -> None:
    leaves = _leaves(600)
    edge, touched = extend(Edge(), leaves)
    with store.transaction() as tx:
        write_tiles(tx.connection, touched)
    with store.read() as connection:
        node = TileCache().getter(connection)
        for size in (1, 255, 256, 300, 512, 600):
            root = merkle.root(leaves[:size])
            index = size - 1
            proof = merkle.inclusion_proof(index, size, node)
            merkle.verify_inclusion(root, size, index, leaves[index], proof)
            indexes = list(range(0, size, 7))
            many = merkle.multi_proof(indexes, size, node)
            merkle.verify_multi(root, size, [(i, leaves[i]) for i in indexes], many)
            old = merkle.consistency_proof(size, 600, node)
            merkle.verify_consistency(size, 600, root, edge.root(), old)


def test_a_thousand_appended_leaves_cost_a_thousand_node_hashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = 0
    real = merkle.node_hash

    def counting(left: bytes, right: bytes) -> bytes:
        nonlocal counted
        counted += 1
        return real(left, right)

    edge, _ = extend(Edge(), _leaves(1000))
    monkeypatch.setattr(tiles, "node_hash", counting)
    extended, touched = extend(edge, _leaves(1000))
    # Once on the stack, once more inside each of the four tiles that became full.
    assert counted <= 1000 + 4 * 255
    assert len(touched) == 4 + 1 + 1
    assert extended.size == 2000
