"""What the RPC of CometBFT answers, as JSON, turned into plain values. All of it is untrusted.

Integers of 64 bits are decimal strings, hashes upper-case hex, keys and signatures base64, times
RFC 3339 with up to nine digits of a second. Raises Malformed and nothing else.
"""

from __future__ import annotations

import binascii
import calendar
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.cometbft.light.block import (
    COMMIT,
    NOBODY,
    BlockCommit,
    BlockHeader,
    BlockId,
    CommitSig,
    Timestamp,
    check_commit,
    check_header,
)
from adapters.cometbft.light.validators import SECP256K1, make_validator
from adapters.cometbft.light.zip215 import ED25519
from relay.errors import Malformed, Reason
from relay.light.types import MAX_VALIDATORS, Validator

KEY_TYPES = {
    "tendermint/PubKeyEd25519": ED25519,
    "tendermint/PubKeySecp256k1": SECP256K1,
}
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
Json = Any


def members(value: Json, what: str) -> Mapping[str, Json]:
    """An object."""
    if not isinstance(value, dict):
        raise Malformed(f"{what}: must be an object")
    return value


def member(value: Json, name: str) -> Json:
    """A member that must be there."""
    found = members(value, name)
    if name not in found:
        raise Malformed(f"{name[:32]} is missing from an answer")
    return found[name]


def elements(value: Json, what: str, limit: int) -> Sequence[Json]:
    """A list of at most `limit`; null is an empty one, as Go writes it."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > limit:
        raise Malformed(f"{what}: must be a list of at most {limit}")
    return value


def number(value: Json, what: str) -> int:
    """An integer of 64 bits, as a decimal string or as a number."""
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", text, re.ASCII):
        raise Malformed(f"{what}: must be an integer")
    return int(text)


def text(value: Json, what: str, limit: int = 4096) -> str:
    """Text of at most `limit` characters."""
    if not isinstance(value, str) or len(value) > limit:
        raise Malformed(f"{what}: must be text of at most {limit} characters")
    return value


def hex_bytes(value: Json, what: str, limit: int = 64) -> bytes:
    """Bytes in hex."""
    try:
        return bytes.fromhex(text(value, what, 2 * limit))
    except ValueError:
        raise Malformed(f"{what}: must be hex") from None


def base64_bytes(value: Json, what: str, limit: int) -> bytes:
    """Bytes in base64; null is none."""
    if value is None:
        return b""
    try:
        return b64decode(text(value, what, 4 * limit // 3 + 4), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what}: must be base64") from None


def time_of(value: Json, what: str = "time") -> Timestamp:
    """A moment of RFC 3339 in UTC."""
    found = _TIME.fullmatch(text(value, what, 40))
    if found is None:
        raise Malformed(f"{what}: must be a time in UTC")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    in_year = year >= 1 and 1 <= month <= 12
    if not in_year or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise Malformed(f"{what}: no such day")
    if hour > 23 or minute > 59 or second > 59:
        raise Malformed(f"{what}: no such hour")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return Timestamp(seconds, int((found[7] or "").ljust(9, "0")))


def block_id_of(value: Json) -> BlockId:
    """A block id; null, as old versions write an empty one, is empty."""
    if value is None:
        return BlockId()
    found = members(value, "block_id")
    parts = found.get("parts", found.get("part_set_header"))
    if parts is None:
        return BlockId(hex_bytes(member(value, "hash"), "hash"))
    return BlockId(
        hex_bytes(member(value, "hash"), "hash"),
        number(member(parts, "total"), "total"),
        hex_bytes(member(parts, "hash"), "hash"),
    )


def header_of(value: Json) -> BlockHeader:
    """A block header, its rules not yet checked."""

    def digest(name: str) -> bytes:
        return hex_bytes(members(value, "header").get(name) or "", name)

    version = members(member(value, "version"), "version")
    return BlockHeader(
        block_protocol=number(version.get("block", 0), "block"),
        app_protocol=number(version.get("app", 0), "app"),
        chain_id=text(member(value, "chain_id"), "chain_id", 64),
        height=number(member(value, "height"), "height"),
        time=time_of(member(value, "time")),
        last_block_id=block_id_of(members(value, "header").get("last_block_id")),
        last_commit_hash=digest("last_commit_hash"),
        data_hash=digest("data_hash"),
        validators_hash=digest("validators_hash"),
        next_validators_hash=digest("next_validators_hash"),
        consensus_hash=digest("consensus_hash"),
        app_hash=digest("app_hash"),
        last_results_hash=digest("last_results_hash"),
        evidence_hash=digest("evidence_hash"),
        proposer_address=digest("proposer_address"),
    )


def commit_of(value: Json) -> BlockCommit:
    """A commit; whoever did not vote for the block is absent in it."""
    places = elements(member(value, "signatures"), "signatures", MAX_VALIDATORS)
    return BlockCommit(
        height=number(member(value, "height"), "height"),
        round=number(member(value, "round"), "round"),
        block_id=block_id_of(member(value, "block_id")),
        signatures=tuple(_place_of(place) for place in places),
    )


def signed_header_of(value: Json) -> tuple[BlockHeader, BlockCommit]:
    """(header, commit) of an answer of /commit, the rules of each checked."""
    header, commit = header_of(member(value, "header")), commit_of(member(value, "commit"))
    check_header(header)
    check_commit(commit)
    return header, commit


def validator_of(value: Json) -> Validator:
    """One validator of an answer of /validators. UNSUPPORTED_VERSION for other kinds of keys."""
    key = member(value, "pub_key")
    kind = text(member(key, "type"), "type", 64)
    algorithm = KEY_TYPES.get(kind)
    if algorithm is None:
        raise Malformed(
            f"a validator has a key of {kind[:32]!r}, which this program does not verify",
            reason=Reason.UNSUPPORTED_VERSION,
        )
    power = number(members(value, "validator").get("voting_power", 0), "voting_power")
    return make_validator(algorithm, base64_bytes(member(key, "value"), "key", 64), power)


def _place_of(value: Json) -> CommitSig:
    if number(member(value, "block_id_flag"), "block_id_flag") != COMMIT:
        return NOBODY
    return CommitSig(
        COMMIT,
        hex_bytes(member(value, "validator_address"), "validator_address"),
        time_of(member(value, "timestamp")),
        base64_bytes(member(value, "signature"), "signature", 256),
    )
