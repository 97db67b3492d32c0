"""Every published vector for CometBFT and ICS-23, each with its verdict."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.cometbft import answers
from adapters.cometbft.light import CLIENT, ics23, proofs, txproof
from adapters.cometbft.light.block import BlockId, header_hash, vote_sign_bytes
from adapters.cometbft.light.client import encode_light_block
from adapters.cometbft.light.ics23_ops import (
    IAVL,
    TENDERMINT,
    InnerOp,
    LeafOp,
    Spec,
    apply_inner,
    apply_leaf,
    check_leaf,
    do_hash,
)
from adapters.cometbft.light.validators import hash_set, make_set
from adapters.cometbft.light.zip215 import verify as verify_zip215
from relay.errors import Invalid, LianqiaoError, NotEnoughTrust, Reason
from relay.light.client import consensus_of, verify_header
from relay.light.merkle import leaf_hash
from relay.light.types import Claim, ClientState, ConsensusState, Header, ValidatorSet
from tests.refusals import refusing
from tests.vectors_dir import vectors

MBT = "ibc/lightclient-mbt-tendermint-rs"


def load(name: str) -> Any:
    return json.loads(vectors(name).read_text())


# --- Ed25519 by ZIP-215


def test_zip215_accepts_all_that_the_rule_accepts() -> None:
    cases = load("ibc/ed25519/zip215.json")
    assert len(cases) == 196
    for key, signature in cases:
        verify_zip215(bytes.fromhex(key), b"Zcash", bytes.fromhex(signature))
        with pytest.raises(Invalid) as err:
            verify_zip215(bytes.fromhex(key), b"zcash", bytes.fromhex(signature[:126] + "ff"))
        assert err.value.reason == Reason.INVALID_SIGNATURE


def test_speccheck_verdicts() -> None:
    cases = load("ibc/ed25519/speccheck_cases.json")
    for case, verdict in zip(cases, "TTTTTTFFFTTT", strict=True):
        key, message, signature = (
            bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature")
        )
        if verdict == "T":
            verify_zip215(key, message, signature)
            continue
        with pytest.raises(Invalid) as err:
            verify_zip215(key, message, signature)
        assert err.value.reason == Reason.INVALID_SIGNATURE


# --- hashes and sign bytes


def _moment(text: str) -> Any:
    return answers.time_of(text.split(" ")[0])


@pytest.mark.parametrize(
    ("name", "key", "want"),
    [
        ("chains/cometbft/signbytes_headerhash.json", "vote_sign_bytes", "want"),
        ("ibc/transcribed/vote_sign_bytes.json", "cases", "sign_bytes"),
    ],
)
def test_vote_sign_bytes(name: str, key: str, want: str) -> None:
    cases = load(name)[key]
    assert len(cases) == 6
    for case in cases:
        assert case["block_id"] is None
        made = vote_sign_bytes(
            case["chain_id"],
            case["height"],
            case["round"],
            None,
            _moment(case["timestamp"]),
            case["type"],
        )
        assert made.hex() == case[want]


def test_header_hashes() -> None:
    cases = load("ibc/transcribed/header_hash.json")["cases"]
    assert len(cases) == 2
    for case in cases:
        header = answers.header_of(case["header"])
        assert header_hash(header).hex().upper() == case["hash"].upper()
        assert header_hash(replace(header, validators_hash=b"")) == b""
    (first, _) = cases
    self_made = load("chains/cometbft/signbytes_headerhash.json")["header_hash"]
    assert self_made["want"] == first["hash"]
    fixture = load("ibc/tendermint-rpc-fixtures/header_with_known_hash.json")
    header = answers.header_of(fixture)
    assert header_hash(header) == bytes.fromhex(KNOWN_HASH)


KNOWN_HASH = "F30A71F2409FB15AACAEDB6CC122DFA2525BEE9CAE521721B06BFDCA291B8D56"
"""Of header 1608 of `dockerchain`, as tendermint-rs `header.rs` has it."""


def test_rpc_fixtures_hold_what_they_say() -> None:
    for name in ("gaia", "kvstore_v0_34", "kvstore_v0_37", "kvstore_v0_38"):
        fixture = load(f"ibc/tendermint-rpc-fixtures/{name}_commit_at_height_10.json")
        header, commit = answers.signed_header_of(fixture["result"]["signed_header"])
        assert commit.block_id.hash == header_hash(header)
        assert commit.height == header.height == 10


def test_transaction_proofs_of_fixtures() -> None:
    cases = load("ibc/tendermint-rpc-fixtures/tx_search_with_prove.json")["result"]["txs"]
    assert len(cases) == 9
    from hashlib import sha256

    for case in cases:
        shown = case["proof"]
        proof = shown["proof"]
        tx_hash = sha256(b64decode(case["tx"])).digest()
        assert tx_hash.hex().upper() == case["hash"]
        assert leaf_hash(tx_hash) == b64decode(proof["leaf_hash"])
        aunts = tuple(b64decode(a) for a in proof["aunts"])
        place = txproof.TxPlace(int(proof["index"]), int(proof["total"]), aunts, ())
        root = bytes.fromhex(shown["root_hash"])
        txproof.verify_tx(root, tx_hash, place)
        for wrong in (replace(place, total=place.total + 9), replace(place, index=place.total)):
            with pytest.raises(Invalid) as err:
                txproof.verify_tx(root, tx_hash, wrong)
            assert err.value.reason == Reason.INVALID_PROOF


def test_self_made_transaction_proofs() -> None:
    from hashlib import sha256

    cases = load("chains/cometbft/selfmade_txproofs_and_multistore.json")["tx_proofs"]
    assert cases
    for case in cases:
        aunts = tuple(b64decode(a) for a in case["aunts"])
        place = txproof.TxPlace(case["index"], case["total"], aunts, ())
        root, tx_hash = bytes.fromhex(case["data_hash"]), sha256(b64decode(case["tx"])).digest()
        txproof.verify_tx(root, tx_hash, place)
        for at in range(len(aunts)):
            changed = (*aunts[:at], bytes(32), *aunts[at + 1 :])
            with refusing(Reason.INVALID_PROOF):
                txproof.verify_tx(root, tx_hash, replace(place, aunts=changed))


# --- the light client, step by step


def mbt_files() -> list[str]:
    try:
        folder = vectors(MBT)
    except BaseException:  # the folder is not there: each case says so
        return ["absent"]
    return sorted(path.name for path in Path(folder).glob("*.json"))


def test_the_model_based_files_are_all_there() -> None:
    vectors(MBT)
    assert len(mbt_files()) == 37


def _set(value: Any) -> ValidatorSet:
    return make_set(answers.validator_of(v) for v in value["validators"])


def _light_block(value: Any, trusted: ValidatorSet) -> Header:
    """What a receiver decodes of a block that skips, with the trusted set where it is another."""
    header, commit = answers.signed_header_of(value["signed_header"])
    validators = _set(value["validator_set"])
    skips = hash_set(trusted) != hash_set(validators)
    return CLIENT.decode_header(
        encode_light_block(header, commit, validators, trusted if skips else None)
    )


@pytest.mark.parametrize("name", mbt_files())
def test_model_based_steps(name: str) -> None:
    case = load(f"{MBT}/{name}")
    initial = case["initial"]
    block, _ = answers.signed_header_of(initial["signed_header"])
    period = int(initial["trusting_period"]) // 10**9
    state = ClientState(
        "cometbft", "test-chain", "ed25519-zip215", trusting_period=period, clock_drift=0
    )
    announced = _set(initial["next_validator_set"])
    trusted = ConsensusState(
        block.height,
        block.time.seconds,
        block.app_hash,
        block.validators_hash,
        block.next_validators_hash,
        header_hash(block),
        block.time.nanos,
    )
    assert case["input"]
    for step in case["input"]:
        now = answers.time_of(step["now"]).seconds
        assert _verdict(state, trusted, announced, step["block"], now) == step["verdict"]
        if step["verdict"] == "SUCCESS":
            header = _light_block(step["block"], announced)
            trusted, announced = consensus_of(header), _set(step["block"]["next_validator_set"])


def _verdict(
    state: ClientState, trusted: ConsensusState, announced: ValidatorSet, block: Any, now: int
) -> str:
    try:
        header = _light_block(block, announced)
        verify_header(CLIENT, state, trusted, header, now)
    except NotEnoughTrust:
        return "NOT_ENOUGH_TRUST"
    except LianqiaoError:
        return "INVALID"
    return "SUCCESS"


# --- ICS-23


def _b64(value: str | None) -> bytes:
    return b64decode(value or "")


def _leaf(value: dict[str, Any]) -> LeafOp:
    return LeafOp(
        value.get("hash", 0),
        value.get("prehash_key", 0),
        value.get("prehash_value", 0),
        value.get("length", 0),
        _b64(value.get("prefix")),
    )


def _inner(value: dict[str, Any]) -> InnerOp:
    return InnerOp(value.get("hash", 0), _b64(value.get("prefix")), _b64(value.get("suffix")))


def _existence(value: dict[str, Any]) -> ics23.Existence:
    return ics23.Existence(
        _b64(value.get("key")),
        _b64(value.get("value")),
        _leaf(value["leaf"]) if value.get("leaf") else None,
        tuple(_inner(op) for op in value.get("path") or ()),
    )


def _spec(value: dict[str, Any]) -> Spec:
    inner = value.get("inner_spec") or {}
    leaf = _leaf(value.get("leaf_spec") or {})
    made = Spec(
        leaf,
        inner.get("child_size", 32),
        inner.get("min_prefix_length", 0),
        inner.get("max_prefix_length", 0),
        inner.get("hash", 0),
        _b64(inner.get("empty_child")),
        max_depth=value.get("max_depth") or 128,
        min_depth=value.get("min_depth", 0),
        prehash_compared=value.get("prehash_key_before_comparison", False),
    )
    return IAVL if replace(made, iavl=True) == IAVL else made


def _is_error(call: Any) -> bool:
    try:
        call()
    except Invalid as error:
        return error.reason is Reason.INVALID_PROOF
    return False


def test_ics23_hashes() -> None:
    cases = load("ibc/ics23/TestDoHashData.json")
    for case in cases.values():
        data = (case.get("Preimage") or case.get("PreImage")).encode()
        expected = case.get("ExpectedHash")
        assert do_hash(case["HashOp"], data).hex() == expected


def test_ics23_leaf_and_inner_operations() -> None:
    for name, case in load("ibc/ics23/TestLeafOpData.json").items():
        key, value = _b64(case.get("Key")), _b64(case.get("Value"))
        if case["IsErr"]:
            assert _is_error(lambda c=case, k=key, v=value: apply_leaf(_leaf(c["Op"]), k, v)), name
        else:
            assert apply_leaf(_leaf(case["Op"]), key, value) == _b64(case["Expected"]), name
    for name, case in load("ibc/ics23/TestInnerOpData.json").items():
        child = _b64(case.get("Child"))
        if case["IsErr"]:
            assert _is_error(lambda c=case, b=child: apply_inner(_inner(c["Op"]), b)), name
        else:
            assert apply_inner(_inner(case["Op"]), child) == _b64(case["Expected"]), name


def test_ics23_leaves_against_specifications() -> None:
    for name, case in load("ibc/ics23/TestCheckLeafData.json").items():
        spec = _spec({"leaf_spec": case["Spec"]})
        assert _is_error(lambda c=case, s=spec: check_leaf(_leaf(c["Leaf"]), s)) == case["IsErr"], (
            name
        )


def test_ics23_proofs_against_specifications() -> None:
    for name, case in load("ibc/ics23/TestCheckAgainstSpecData.json").items():
        proof, spec = _existence(case["Proof"]), _spec(case["Spec"])
        assert _is_error(lambda p=proof, s=spec: ics23.check_existence(p, s)) == bool(
            case.get("IsErr") or case.get("Err")
        ), name


def test_ics23_calculation() -> None:
    for name, case in load("ibc/ics23/TestExistenceProofData.json").items():
        proof = _existence(case["Proof"])
        if case["IsErr"]:
            assert _is_error(lambda p=proof: ics23.calculate(p)), name
        else:
            assert ics23.calculate(proof) == _b64(case["Expected"]), name


def test_ics23_empty_branches() -> None:
    cases = load("ibc/ics23/TestEmptyBranchData.json")
    for case in cases:
        spec, op = _spec(case["Spec"]), _inner(case["Op"])
        assert ics23.other_is_empty(spec, op, 1) == case["IsLeft"]
        assert ics23.other_is_empty(spec, op, 0) == case["IsRight"]


SMT = Spec(
    LeafOp(1, 1, 1, 0, b"\0"),
    child_size=32,
    min_prefix=1,
    max_prefix=1,
    empty_child=bytes(32),
    max_depth=256,
    prehash_compared=True,
)


@pytest.mark.parametrize(
    ("folder", "spec"), [("iavl", IAVL), ("tendermint", TENDERMINT), ("smt", SMT)]
)
def test_ics23_proof_files(folder: str, spec: Spec) -> None:
    for kind in ("exist", "nonexist"):
        for where in ("left", "middle", "right"):
            case = load(f"ibc/ics23/{folder}/{kind}_{where}.json")
            proof = ics23.decode_proof(bytes.fromhex(case["proof"]))
            root, key = bytes.fromhex(case["root"]), bytes.fromhex(case["key"])
            if kind == "exist":
                value = bytes.fromhex(case["value"])
                ics23.verify_existence(proof, spec, root, key, value)
                assert _is_error(
                    lambda p=proof, r=root, k=key: ics23.verify_non_existence(p, spec, r, k)
                )
            else:
                ics23.verify_non_existence(proof, spec, root, key)
                assert _is_error(
                    lambda p=proof, r=root, k=key: ics23.verify_existence(p, spec, r, k, b"x")
                )
            assert _is_error(
                lambda p=proof, k=key: ics23.verify_non_existence(p, spec, bytes(32), k)
            )


def test_a_cosmos_multistore() -> None:
    cases = load("chains/cometbft/selfmade_txproofs_and_multistore.json")["cosmos_multistore"]
    assert len(cases) == 2
    state = ClientState("cometbft", "c", "ed25519-zip215", proof_kind="ics23")
    for case in cases:
        lower, upper = (b64decode(op["data"]) for op in case["proof_ops"])
        consensus = ConsensusState(9, 9, bytes.fromhex(case["app_hash"]), *[bytes(32)] * 3)
        value = bytes.fromhex(case["value"]) if case["value"] is not None else None
        claim = Claim(bytes.fromhex(case["key"]), value)
        proof = proofs.encode_store_proof(upper, [lower])
        CLIENT.verify_membership(state, consensus, proof, [claim])
        other = replace(claim, value=b"x" if value is None else None)
        with pytest.raises(Invalid) as err:
            CLIENT.verify_membership(state, consensus, proof, [other])
        assert err.value.reason == Reason.INVALID_PROOF


def test_a_vote_for_a_block_differs_from_one_for_nil() -> None:
    time = answers.time_of("2024-01-01T00:00:00Z")
    block = BlockId(bytes(31) + b"\1", 1, bytes(31) + b"\2")
    assert vote_sign_bytes("c", 1, 0, block, time) != vote_sign_bytes("c", 1, 0, None, time)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length(length: int) -> None:
    from adapters.cometbft.light.zip215 import check_key

    for call in (
        lambda: check_key(bytes(length)),
        lambda: verify_zip215(bytes(length), b"", bytes(64)),
    ):
        with pytest.raises(Invalid) as err:
            call()
        assert err.value.reason is Reason.WEAK_KEY
