"""All published vectors of Besu, GoQuorum and Ethereum, with their verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rlp as pyrlp
from trie import HexaryTrie

from adapters.evm.light import CLIENT, rlp
from adapters.evm.light.client import present
from adapters.evm.light.crypto import keccak, recover
from adapters.evm.light.header import (
    IBFT1,
    IBFT2,
    QBFT,
    Block,
    decode_body,
    hashed_header,
    split_header,
)
from adapters.evm.light.receipts import verify_receipt
from adapters.evm.light.state import account, storage
from adapters.evm.light.trie import EMPTY_ROOT, Nodes, lookup
from adapters.evm.light.validators import header_source, name_of, voted
from relay.errors import LianqiaoError, Malformed, Reason
from relay.light.client import anchor, consensus_of, verify_header
from relay.light.quorum import verify_commit
from tests.adapters.evm.sealing import CHAIN, EPOCH, extra, state_of
from tests.refusals import refusing
from tests.vectors_dir import vectors

VECTORS = vectors("chains")
KINDS = {"qbft": QBFT, "ibft2": IBFT2}


READ = {
    "besu/extradata_vectors.json",
    "besu/ibft2_header_from_besu_unit_test.json",
    "besu/qbft_header_real_besu.json",
    "besu/qbft_ibft2_synthetic_cases.json",
    "besu/app/src/test/resources/ibft.blocks",
    "besu/consensys-qbft-tests/BftExtraDataRLPTests/bft_extra_data.json",
    "besu/consensys-qbft-tests/MessageRLPTests/messages.json",
    "ethereum/RLPTests/RandomRLPTests/example.json",
    "ethereum/RLPTests/invalidRLPTest.json",
    "ethereum/RLPTests/rlptest.json",
    "ethereum/TrieTests/hex_encoded_securetrie_test.json",
    "ethereum/TrieTests/trieanyorder.json",
    "ethereum/TrieTests/trieanyorder_secureTrie.json",
    "ethereum/TrieTests/trietest.json",
    "ethereum/TrieTests/trietest_secureTrie.json",
    "ethereum/TrieTests/trietestnextprev.json",
    "ethereum/anvil_1.7.1_block.json",
    "ethereum/mpt_proofs_from_TrieTests.json",
}
"""What the tests here read, by name; `open_vector` opens nothing else."""
GENESIS = ("besu/acceptance-tests/", "besu/app/", "besu/consensus/")
"""Folders whose JSON files are genesis files, read by test_extra_data_of_genesis_files."""


def open_vector(name: str) -> bytes:
    assert name in READ, name
    return (VECTORS / name).read_bytes()


def load(name: str) -> Any:
    return json.loads(open_vector(name))


def test_every_vector_is_read() -> None:
    """A file that comes new with the vectors is not passed over in silence."""
    kinds = {"besu", "ethereum"}
    found = {str(p.relative_to(VECTORS)) for k in kinds for p in (VECTORS / k).rglob("*")
             if p.is_file() and p.name not in ("LICENSE", "README.md")}  # fmt: skip
    genesis = {name for name in found if name.startswith(GENESIS) and name.endswith(".json")}
    assert len(genesis) >= 9
    assert found - genesis == READ


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def blocks(raw: bytes) -> list[bytes]:
    """The headers of a file of RLP blocks."""
    found, at = [], 0
    while at < len(raw):
        _, end = rlp._extent(raw, at, len(raw), raw[at] - 0xC0)
        item = rlp.fields(rlp.decode(raw[at:end]), "block")
        found.append(rlp.encode(item[0]))
        at = end
    return found


def accept(variant: str, raw: bytes, now: int) -> Block:
    body, _ = split_header(variant, raw)
    shown = present(variant, CHAIN, header_source(EPOCH), raw)
    assert CLIENT.encode_header(CLIENT.decode_header(shown)) == shown
    anchor(CLIENT, state_of(variant), shown, now)
    return decode_body(variant, body)


def test_a_real_header_of_besu() -> None:
    case = load("besu/qbft_header_real_besu.json")
    raw = hexed(case["header_rlp"])
    body, seals = split_header(QBFT, raw)
    assert body == hexed(case["header_rlp_without_seals"])
    block = accept(QBFT, raw, decode_body(QBFT, body).time + 5)
    assert (block.number, len(seals), len(block.validators)) == (7528, 3, 4)
    assert all(recover(block.digest, seal) in block.validators for seal in seals)
    assert block.digest != block.hash
    assert all(recover(block.hash, seal) not in block.validators for seal in seals)
    for key in ("block_hash", "hash"):
        assert key not in case or block.hash == hexed(case[key])


def test_extra_data_of_both_families() -> None:
    for case in load("besu/extradata_vectors.json"):
        raw = hexed(case["rlp"])
        parts = rlp.fields(rlp.decode(raw), "extra data")
        assert rlp.encode(parts) == raw
        header = rlp.fields(rlp.decode(hexed(REAL())), "header")
        header[12] = raw
        variant = KINDS[case["kind"]]
        body, seals = split_header(variant, rlp.encode(header))
        block = decode_body(variant, body)
        assert len(block.validators) == (4 if not seals else 2)
        assert (block.vote is None) == (not seals)
        said = parts[3]
        assert isinstance(said, bytes)
        assert int.from_bytes(said, "big") == case["round"]


def REAL() -> str:
    return str(load("besu/qbft_header_real_besu.json")["header_rlp"])


def test_the_header_of_besus_unit_test_for_ibft2() -> None:
    case = load("besu/ibft2_header_from_besu_unit_test.json")
    body, seals = split_header(IBFT2, hexed(case["header_rlp"]))
    block = decode_body(IBFT2, body)
    assert block.digest == hexed(case["committed_seal_hash"])
    assert block.hash == hexed(case["block_hash"])
    assert keccak(hashed_header(IBFT2, body)) == block.hash
    assert [name_of(recover(block.digest, s)) for s in seals] == case["committers"]


CASES = load("besu/qbft_ibft2_synthetic_cases.json")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_synthetic_cases(case: dict[str, Any]) -> None:
    variant, raw = KINDS[case["kind"]], hexed(case["header_rlp"])
    block = decode_body(variant, split_header(variant, raw)[0])
    assert block.digest == hexed(case["committed_seal_hash"])
    assert block.hash == hexed(case["block_hash"])
    trusted = sorted(hexed(a) for a in case["trusted_validators"])

    def judge() -> None:
        header = CLIENT.decode_header(present(variant, CHAIN, header_source(EPOCH), raw))
        if list(block.validators) != trusted:
            raise Malformed("another set than the trusted one")
        verify_commit(CLIENT, state_of(variant), header)

    if case["verdict"] == "accept":
        judge()
    else:
        with pytest.raises(LianqiaoError):
            judge()


def test_a_hundred_real_blocks_of_goquorum() -> None:
    raw = open_vector("besu/app/src/test/resources/ibft.blocks")
    state, trusted, now = state_of(IBFT1), None, 1_600_000_000
    found = blocks(raw)
    assert len(found) == 101
    assert rlp.fields(rlp.decode(found.pop(0)), "genesis")[8] == b""
    before: Block | None = None
    for one in found:
        body, _ = split_header(IBFT1, one)
        block = decode_body(IBFT1, body)
        shown = present(IBFT1, CHAIN, header_source(EPOCH), one)
        header = CLIENT.decode_header(shown)
        if before is None:
            now = block.time + 86_400
            trusted = anchor(CLIENT, state, shown, now)[0]
        else:
            assert block.parent == before.hash
            assert trusted is not None
            assert list(block.validators) in (
                list(before.validators),
                voted(before.validators, before.vote, before.number, EPOCH),
            )
            trusted = verify_header(CLIENT, state, trusted, header, now)
        assert trusted == consensus_of(header)
        before = block
    first = anchor(CLIENT, state, present(IBFT1, CHAIN, header_source(EPOCH), found[0]), now)[0]
    last = CLIENT.decode_header(present(IBFT1, CHAIN, header_source(EPOCH), found[-1]))
    assert verify_header(CLIENT, state, first, last, now).height == last.height


def test_stale_extra_data_of_2021_is_refused() -> None:
    header = rlp.fields(rlp.decode(hexed(REAL())), "header")
    cases = load("besu/consensys-qbft-tests/BftExtraDataRLPTests/bft_extra_data.json")
    assert cases
    for name, case in cases.items():
        header[12] = hexed(case["rlp"])
        with refusing(Reason.MALFORMED):
            split_header(QBFT, rlp.encode(header))
        assert name


def test_rlp() -> None:
    def item(value: Any) -> Any:
        if isinstance(value, list):
            return [item(v) for v in value]
        if isinstance(value, int):
            return rlp.encode_integer(value)
        if value.startswith("#"):
            return rlp.encode_integer(int(value[1:]))
        return value.encode()

    for case in load("ethereum/RLPTests/rlptest.json").values():
        expected = hexed(case["out"])
        assert rlp.encode(item(case["in"])) == expected
        assert rlp.encode(rlp.decode(expected)) == expected
    for name, case in load("ethereum/RLPTests/invalidRLPTest.json").items():
        with refusing(Reason.MALFORMED):
            rlp.decode(hexed(case["out"]))
        assert name


def test_rlp_of_other_suites() -> None:
    """Valid items come back byte by byte: a random one, and the messages of 2021."""
    for case in load("ethereum/RLPTests/RandomRLPTests/example.json").values():
        assert case["in"] == "VALID"
        assert rlp.encode(rlp.decode(hexed(case["out"]))) == hexed(case["out"])
    for name, case in load("besu/consensys-qbft-tests/MessageRLPTests/messages.json").items():
        raw = hexed(case["rlp"])
        assert rlp.encode(rlp.decode(raw)) == raw, name
        with refusing(Reason.MALFORMED):
            split_header(QBFT, raw)


def text_of(value: str) -> bytes:
    """As these suites write bytes: 0x and hex, else the text itself."""
    return hexed(value) if value.startswith("0x") else value.encode()


def proven(trie: HexaryTrie, key: bytes) -> bytes | None:
    """What our verifier makes of the proof that another implementation gives."""
    raw = [pyrlp.encode(node) for node in trie.get_proof(key)]
    nodes = Nodes([node for at, node in enumerate(raw) if at == 0 or len(node) >= 32])
    found = lookup(bytes(trie.root_hash), key, nodes)
    nodes.end()
    return found


@pytest.mark.parametrize(
    "name",
    [
        "hex_encoded_securetrie_test", "trieanyorder", "trieanyorder_secureTrie", "trietest",
        "trietest_secureTrie",
    ],
)  # fmt: skip
def test_tries(name: str) -> None:
    """The root of each is the published one, and every key is proven, or proven absent, in it."""
    secure = "secure" in name
    for title, case in load(f"ethereum/TrieTests/{name}.json").items():
        given = case["in"]
        pairs = list(given.items()) if isinstance(given, dict) else given
        trie, last = HexaryTrie({}), dict[bytes, bytes | None]()
        for key, value in pairs:
            at = keccak(text_of(key)) if secure else text_of(key)
            last[at] = None if value is None else text_of(value)
            if value is None:
                del trie[at]
            else:
                trie[at] = text_of(value)
        assert bytes(trie.root_hash) == hexed(case["root"]), title
        if any(value is not None for value in last.values()):
            for at, expected in last.items():
                assert proven(trie, at) == expected, title


def test_neighbours_in_a_trie_are_not_taken_for_each_other() -> None:
    for title, case in load("ethereum/TrieTests/trietestnextprev.json").items():
        trie = HexaryTrie({})
        for key in case["in"]:
            trie[key.encode()] = key.encode()
        for asked, *neighbours in case["tests"]:
            held = asked.encode() if asked in case["in"] else None
            assert proven(trie, asked.encode()) == held, title
            assert all(n == "" or n in case["in"] for n in neighbours)


def test_trie_proofs() -> None:
    cases = load("ethereum/mpt_proofs_from_TrieTests.json")
    assert len(cases) == 128
    for case in cases:
        root, key = hexed(case["root"]), hexed(case["key"])
        proof = [hexed(node) for node in case["proof"]]
        nodes = Nodes(proof)
        found = lookup(root, key, nodes)
        nodes.end()
        assert found == (hexed(case["value"]) if case["verdict"] == "present" else None)
        if not proof:  # nothing is in the trie
            assert root == EMPTY_ROOT
            continue
        for changed in (
            [*proof[:-1], proof[-1][:-1] + bytes((proof[-1][-1] ^ 1,))],
            proof[:-1],
            [*proof, proof[-1]],
        ):
            with refusing(Reason.INVALID_PROOF):
                bad = Nodes(changed)
                lookup(root, key, bad)
                bad.end()


def test_a_real_block_of_anvil() -> None:
    case = load("ethereum/anvil_1.7.1_block.json")
    items = rlp.fields(rlp.decode(hexed(case["header_rlp"])), "header")
    assert keccak(hexed(case["header_rlp"])) == hexed(case["block"]["hash"])
    root, receipts = hexed(case["block"]["stateRoot"]), hexed(case["block"]["receiptsRoot"])
    assert items[3] == root
    shown = case["receipt_proof"]
    listed = [hexed(node) for node in shown["proof"]]
    receipt = verify_receipt(receipts, shown["index"], listed)
    told = case["receipts"][shown["index"]]
    assert receipt.succeeded == (told["status"] == "0x1")
    assert receipt.gas == int(told["cumulativeGasUsed"], 16)
    assert [log.data for log in receipt.logs] == [hexed(log["data"]) for log in told["logs"]]
    assert [log.topics for log in receipt.logs] == [
        tuple(hexed(t) for t in log["topics"]) for log in told["logs"]
    ]
    with refusing(Reason.INVALID_PROOF):
        verify_receipt(receipts, shown["index"] + 1, listed)
    got = case["eth_getProof"]
    base = [hexed(node) for node in got["accountProof"]]
    for entry in got["storageProof"]:
        nodes = Nodes([*base, *(hexed(n) for n in entry["proof"])])
        storage_root, code = account(root, hexed(got["address"]), nodes)
        assert code == hexed(got["codeHash"])
        slot = (
            hexed(entry["key"]).rjust(32, b"\0")
            if len(entry["key"]) % 2 == 0
            else (int(entry["key"], 16).to_bytes(32, "big"))
        )
        word = storage(storage_root, slot, nodes)
        nodes.end()
        assert int.from_bytes(word, "big") == int(entry["value"], 16)
    absent = case["eth_getProof_absent_account"]
    nodes = Nodes([hexed(node) for node in absent["accountProof"]])
    assert lookup(root, keccak(hexed(absent["address"])), nodes) is None
    nodes.end()


def test_extra_data_of_genesis_files() -> None:
    """What chains start with: lists in header mode, nothing where a contract keeps them."""
    folder = VECTORS / "besu"
    seen = 0
    for path in sorted(folder.rglob("*.json")):
        text = path.read_text()
        if not str(path.relative_to(VECTORS)).startswith(GENESIS):
            continue
        assert '"extraData"' in text
        said = json.loads(text)["extraData"]
        if said.startswith("%"):  # filled in by the test that uses the file
            continue
        raw = hexed(said)
        seen += 1
        if raw[:1] >= b"\xc0":
            parts = rlp.fields(rlp.decode(raw), "extra data")
            assert len(rlp.octets(parts[0], "vanity")) == 32
    assert seen >= 5
    assert extra(QBFT, []) == hexed("e5a0" + "00" * 32 + "c0c080c0")
