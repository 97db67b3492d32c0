"""Headers of CometBFT that tests make themselves: the validators' keys are in their hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.cometbft.light.block import (
    COMMIT,
    NOBODY,
    BlockCommit,
    BlockHeader,
    BlockId,
    CommitSig,
    Timestamp,
    header_hash,
    vote_sign_bytes,
)
from adapters.cometbft.light.client import COMETBFT, CometHeader, encode_light_block
from adapters.cometbft.light.validators import hash_set, make_set, make_validator
from adapters.cometbft.light.zip215 import ED25519
from relay.light.types import ClientState, Validator, ValidatorSet

CHAIN = "test-chain"
START = 1_800_000_000
STATE = ClientState("cometbft", CHAIN, ED25519, proof_kind="journal", trusting_period=100_000)
PARTS = sha256(b"parts").digest()


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(b"key of " + name.encode()).digest())


def validator(name: str, power: int = 10) -> Validator:
    return make_validator(ED25519, private(name).public_key().public_bytes_raw(), power)


def key_of(name: str) -> str:
    """The name that CometBFT gives to a holder."""
    return validator(name).name


@dataclass
class Holders:
    """Who may sign: names of tests by names of CometBFT."""

    names: dict[str, str]

    def sign(self, address: str, message: bytes) -> bytes:
        return private(self.names[address]).sign(message)


def holders(names: Sequence[str]) -> Holders:
    return Holders({key_of(name): name for name in names})


ALL = holders([*"abcdefghijklmnopqrstuvwxyz", *(f"v{n}" for n in range(40))])


def set_of(names: Sequence[str], power: int = 10) -> ValidatorSet:
    return make_set(validator(name, power) for name in names)


def block_header(
    height: int,
    names: Sequence[str],
    following: Sequence[str] | None = None,
    **fields: object,
) -> BlockHeader:
    made = BlockHeader(
        block_protocol=11,
        app_protocol=1,
        chain_id=CHAIN,
        height=height,
        time=Timestamp(START + height, height),
        last_block_id=BlockId(sha256(b"last").digest(), 1, PARTS),
        last_commit_hash=bytes(32),
        data_hash=bytes(32),
        validators_hash=hash_set(set_of(names)),
        next_validators_hash=hash_set(set_of(names if following is None else following)),
        consensus_hash=bytes(32),
        app_hash=height.to_bytes(8, "big") + bytes(32),
        last_results_hash=bytes(32),
        evidence_hash=bytes(32),
        proposer_address=bytes(20),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def commit_for(
    header: BlockHeader,
    validators: ValidatorSet,
    signers: Sequence[str],
    *,
    block_id: BlockId | None = None,
    round_: int = 0,
    vote_time: Callable[[int], Timestamp] | None = None,
) -> BlockCommit:
    """A commit that `signers` (names of tests) signed."""
    named = block_id or BlockId(header_hash(header), 1, PARTS)
    voting = {key_of(name) for name in signers}
    places = []
    for index, one in enumerate(validators.validators):
        if one.name not in voting:
            places.append(NOBODY)
            continue
        time = vote_time(index) if vote_time else replace(header.time, nanos=7 + index)
        message = vote_sign_bytes(header.chain_id, header.height, round_, named, time)
        signature = ALL.sign(one.name, message)
        places.append(CommitSig(COMMIT, bytes.fromhex(one.name), time, signature))
    return BlockCommit(header.height, round_, named, tuple(places))


def raw_header(
    height: int,
    names: Sequence[str],
    *,
    signers: Sequence[str] | None = None,
    following: Sequence[str] | None = None,
    trusted: Sequence[str] | None = None,
    round_: int = 0,
    **fields: object,
) -> bytes:
    """A raw header of `height` by the set `names`, signed by `signers` (default: all)."""
    header = block_header(height, names, following, **fields)
    validators = set_of(names)
    commit = commit_for(header, validators, names if signers is None else signers, round_=round_)
    shown = None if trusted is None else set_of(trusted)
    return encode_light_block(header, commit, validators, shown)


def decoded(raw: bytes) -> CometHeader:
    header = COMETBFT.decode_header(raw)
    assert isinstance(header, CometHeader)
    return header
