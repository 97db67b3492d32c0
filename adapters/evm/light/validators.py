"""Validator sets of EVM chains: where they are kept, how they change, and their hash.

    header mode     each header lists the set that signs it. Between one header and the next it
                    changes by the one address that the vote of the former names, or not at all;
                    never behind an epoch block, at which votes are void
    contract mode   lists and votes are empty; the set that signs header N is an `address[]` in the
                    storage of a pinned contract under the state root of header N - 1

    source (relay.light.wire)   u8 0, u64 epoch length  |  u8 1, 20 bytes contract, 32 bytes slot
    set hash                    SHA-256("lianqiao/evm-validators/v1\\n" ‖ data source ‖
                                        u32 count, 20 bytes each, ascending)

The source is under the hash and is pinned by parameters: a header must not choose which contract
tells who may sign it. Each validator has one voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from adapters.evm.light.crypto import ADDRESS_BYTES, keccak
from adapters.evm.light.header import Vote
from adapters.evm.light.state import account, storage
from adapters.evm.light.trie import Nodes
from relay.errors import Invalid, Malformed
from relay.light.types import MAX_INT, MAX_VALIDATORS, Validator, ValidatorSet
from relay.light.wire import Reader, Writer

MAX_SOURCE_BYTES = 64
_HEADER, _CONTRACT = 0, 1
_DOMAIN = b"lianqiao/evm-validators/v1\n"


def header_source(epoch: int) -> bytes:
    """The source of a chain whose headers list their validators; votes are void each `epoch`."""
    return Writer().u8(_HEADER).u64(epoch).done()


def contract_source(address: bytes, slot: int) -> bytes:
    """The source of a chain whose validators are an array of a contract, at a storage slot."""
    return Writer().u8(_CONTRACT).fixed(address, ADDRESS_BYTES).fixed(_word(slot), 32).done()


def read_source(source: bytes) -> tuple[int, bytes, int]:
    """(epoch length, contract, slot); the contract is empty in header mode. Raises Malformed."""
    reader = Reader(source, "source of validators")
    kind = reader.u8()
    if kind == _HEADER:
        found = (reader.u64(), b"", 0)
        if not 1 <= found[0] <= MAX_INT:
            raise Malformed("source of validators: an epoch has at least one block")
    elif kind == _CONTRACT:
        found = (0, reader.fixed(ADDRESS_BYTES), int.from_bytes(reader.fixed(32), "big"))
    else:
        raise Malformed("source of validators: unknown kind")
    reader.end()
    return found


def name_of(address: bytes) -> str:
    """The name of a validator: its address in lower-case hex."""
    return "0x" + address.hex()


def make_set(variant: str, addresses: Sequence[bytes], source: bytes) -> ValidatorSet:
    """The set of these addresses, each with one voice."""
    ordered = sorted(addresses)
    return ValidatorSet(tuple(Validator(name_of(a), 1, ((variant, a),)) for a in ordered), source)


def addresses_of(validators: ValidatorSet) -> tuple[bytes, ...]:
    """The addresses of a set made by `make_set`. Raises Malformed for another."""
    found = []
    for validator in validators.validators:
        if len(validator.keys) != 1 or validator.power != 1:
            raise Malformed("a validator of an EVM chain has one key and one voice")
        address = validator.keys[0][1]
        if len(address) != ADDRESS_BYTES or validator.name != name_of(address):
            raise Malformed("a validator of an EVM chain is named by its address")
        found.append(address)
    if not found or found != sorted(set(found)) or len(found) > MAX_VALIDATORS:
        raise Malformed("validators: 1 to 200 ascending addresses, each once")
    return tuple(found)


def hash_set(addresses: Sequence[bytes], source: bytes) -> bytes:
    """The 32 bytes that name a set (module docstring)."""
    writer = Writer().data(source, MAX_SOURCE_BYTES).count(len(addresses), MAX_VALIDATORS + 1)
    for address in addresses:
        writer.fixed(address, ADDRESS_BYTES)
    return sha256(_DOMAIN + writer.done()).digest()


def voted(addresses: Sequence[bytes], vote: Vote | None, number: int, epoch: int) -> list[bytes]:
    """The set that the vote of header `number` leads to, if it is the one that decides."""
    changed = set(addresses)
    if vote is not None and number % epoch:
        changed = changed | {vote.subject} if vote.add else changed - {vote.subject}
    return sorted(changed or addresses)


def read_contract(
    state_root: bytes, contract: bytes, slot: int, listed: Sequence[bytes]
) -> tuple[bytes, ...]:
    """The addresses in an `address[]` of a contract's storage, ascending. Raises Malformed."""
    try:
        nodes = Nodes(listed)
        root, _ = account(state_root, contract, nodes)
        count = int.from_bytes(storage(root, _word(slot), nodes), "big")
        if not 1 <= count <= MAX_VALIDATORS:
            raise Malformed("the contract holds no validators, or too many")
        first = int.from_bytes(keccak(_word(slot)), "big")
        words = [storage(root, _word((first + i) % 2**256), nodes) for i in range(count)]
        nodes.end()
    except Invalid as error:
        raise Malformed(f"validators of the contract: {error.detail}") from error
    if any(any(word[:12]) for word in words) or len(set(words)) != count:
        raise Malformed("the contract's validators are not distinct addresses")
    return tuple(sorted(word[12:] for word in words))


def array_slots(slot: int, count: int) -> list[int]:
    """The slots that `read_contract` reads, in its order."""
    first = int.from_bytes(keccak(_word(slot)), "big")
    return [slot, *((first + i) % 2**256 for i in range(count))]


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
