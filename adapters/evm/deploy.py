"""Puts an endpoint and its applications on a chain: what an operator does once.

The endpoint is anchored in a head of the relay that its operator compared by other means, as every
client is; it becomes the owner's, who should be a contract of several signers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.evm import calls
from adapters.evm.light.crypto import keccak
from adapters.evm.light.parameters import hexadecimal
from adapters.evm.rpc import Rpc, decode_hex, decode_number
from adapters.evm.sdk import Web3
from adapters.evm.sender import Sender
from relay.errors import Malformed, Reason, Refused, Unavailable
from relay.light.checkpoint import split_origin
from relay.light.types import DAY, DEFAULT_CLOCK_DRIFT, DEFAULT_TRUSTING_PERIOD, Header, Witness
from relay.money import check_currency

MAX_SHORT = 31


@dataclass(frozen=True, slots=True)
class Deployed:
    """Where a contract lies."""

    address: bytes
    code_hash: bytes
    """Keccak-256 of its code, immutables included: what a client pins."""
    block: int
    gas: int


def deploy_endpoint(
    rpc: Rpc,
    sender: Sender,
    name: str,
    anchor: Header,
    *,
    trusting_period: int = DEFAULT_TRUSTING_PERIOD,
    clock_drift: int = DEFAULT_CLOCK_DRIFT,
    witnesses: Sequence[Witness] = (),
    witness_quorum: int = 0,
) -> Deployed:
    """An endpoint of the ledger `name` for the relay whose verified head is `anchor`, of whose
    heads `witness_quorum` of `witnesses` (secp256k1) must have co-signed each.

    Raises Malformed for a name longer than 31 bytes and for other keys, Unavailable.
    """
    relay, epoch = split_origin(anchor.chain_id)
    if anchor.set_hash != anchor.next_set_hash:
        raise Malformed("anchor the endpoint in a head that announces no other set")
    encoded, ys = calls.set_of(anchor.validators)
    body = (anchor.height, anchor.time, anchor.root, anchor.set_hash, anchor.next_set_hash)
    who = ["0x" + calls.witness_address(witness).hex() for witness in witnesses]
    pinned: tuple[object, ...] = (
        epoch, trusting_period, clock_drift, witness_quorum, who, body,
    )  # fmt: skip
    return deploy(rpc, sender, "Endpoint", _short(name), _short(relay), pinned, encoded, ys)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator decides of a new ledger."""

    chain_id: str
    trusting_days: int
    witnesses: Sequence[Witness] = ()
    witness_quorum: int = 0
    currencies: Sequence[tuple[str, bytes]] = ()
    """(code, token) of what money is kept in; none: the ledger keeps no money."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """A new ledger's contracts, in hex as settings take them."""

    endpoint: str
    registry: str
    code: str
    block: int
    escrow: str = ""
    """Empty where it keeps no money."""
    escrow_code: str = ""


def deploy_ledger(rpc: Rpc, sender: Sender, anchor: Header, wanted: Wanted) -> Ledger:
    """Endpoint and registry, joined to each other, the sender admitted; with currencies, the escrow
    over their tokens. Raises as `deploy`, and Refused(CURRENCY_MISMATCH)."""
    digits = [digits_of(rpc, token) for _, token in wanted.currencies]
    made = deploy_endpoint(
        rpc, sender, wanted.chain_id, anchor,
        trusting_period=wanted.trusting_days * DAY,
        witnesses=wanted.witnesses, witness_quorum=wanted.witness_quorum,
    )  # fmt: skip
    endpoint = "0x" + made.address.hex()
    kept = deploy(rpc, sender, "Registry", Web3.to_checksum_address(endpoint))
    registry = "0x" + kept.address.hex()
    transact(rpc, sender, made.address, "registerApp", ["registry", registry])
    account = "0x" + sender.address.hex()
    transact(rpc, sender, kept.address, "registerInstitution", [account, True], "Registry")
    found = Ledger(endpoint, registry, "0x" + made.code_hash.hex(), made.block)
    if not wanted.currencies:
        return found
    money = deploy(rpc, sender, "Escrow", Web3.to_checksum_address(endpoint))
    escrow = "0x" + money.address.hex()
    for (code, token), each in zip(wanted.currencies, digits, strict=True):
        asked = [code.encode(), "0x" + token.hex(), each]
        transact(rpc, sender, money.address, "openCurrency", asked, "Escrow")
    transact(rpc, sender, made.address, "registerApp", ["escrow", escrow])
    return replace(found, escrow=escrow, escrow_code="0x" + money.code_hash.hex())


def read_currencies(texts: Sequence[str]) -> list[tuple[str, bytes]]:
    """(code, token) of each CODE=0xTOKEN. Raises Malformed."""
    found = []
    for text in texts:
        code, equals, token = text.partition("=")
        if not equals:
            raise Malformed(f"--currency: {text[:80]!r} is not CODE=0xTOKEN")
        found.append((check_currency(code), hexadecimal(token.lower(), 20)))
    if len({code for code, _ in found}) != len(found):
        raise Malformed("--currency: each once")
    return found


def digits_of(rpc: Rpc, token: bytes) -> int:
    """The decimals of a token. Raises Refused(CURRENCY_MISMATCH), Unavailable."""
    done = rpc.call(token, calls.encode("decimals", [], "Token"))
    digits = int.from_bytes(done.data, "big")
    if done.reverted or len(done.data) != 32 or digits > 36:
        raise Refused(
            Reason.CURRENCY_MISMATCH,
            f"0x{token.hex()} is no token that says how many digits it has",
            hint="it must be an ERC-20 of this chain",
        )
    return digits


def deploy_play_money(rpc: Rpc, sender: Sender, holders: Sequence[bytes]) -> bytes:
    """A token without worth that anybody can mint, of which each holder has 10^12 whole ones; its
    address. Raises Unavailable."""
    made = deploy(rpc, sender, "Token")
    for holder in holders:
        amount = 10 ** (12 + digits_of(rpc, made.address))
        transact(rpc, sender, made.address, "mint", ["0x" + holder.hex(), amount], "Token")
    return made.address


def deploy(rpc: Rpc, sender: Sender, contract: str, *arguments: object) -> Deployed:
    """One contract of contracts/artifacts.json. Raises Unavailable, Malformed."""
    receipt = sender.send(rpc, None, calls.creation(contract, arguments))
    if receipt.get("status") != "0x1":
        raise Malformed("the contract refused to be made: see its constructor")
    address = decode_hex(receipt.get("contractAddress"), "address")
    code = decode_hex(rpc.ask("eth_getCode", ["0x" + address.hex(), "latest"]), "code")
    return Deployed(
        address,
        keccak(code),
        int(receipt["blockNumber"], 16),
        int(receipt["gasUsed"], 16),
    )


def _short(text: str) -> bytes:
    raw = text.encode()
    if not 1 <= len(raw) <= MAX_SHORT:
        raise Malformed(f"a name on an EVM ledger has 1 to {MAX_SHORT} bytes")
    return raw.ljust(32, b"\0")


def transact(
    rpc: Rpc,
    sender: Sender,
    to: bytes,
    name: str,
    arguments: Sequence[object],
    contract: str = "Endpoint",
) -> int:
    """One call of a contract; the block that holds it. Raises Refused with its reason,
    Unavailable."""
    data = calls.encode(name, [_checksummed(a) for a in arguments], contract)
    tried = rpc.call(to, data, sender=sender.address)
    if tried.reverted:
        reason = calls.reason_of(tried.data)
        raise Refused(
            Reason(reason) if reason in set(Reason) else Reason.CONTRACT_REFUSED,
            f"the {contract.lower()} refuses {name}: {reason}",
        )
    receipt = sender.send(rpc, to, data)
    if receipt.get("status") != "0x1":
        raise Unavailable(Reason.CHAIN_UNREACHABLE, "the call was mined and reverted: try again")
    return decode_number(receipt.get("blockNumber"))


def view(rpc: Rpc, endpoint: bytes, name: str) -> object:
    """What the endpoint tells of itself, without arguments. Raises Malformed, Unavailable."""
    done = rpc.call(endpoint, calls.encode(name, []))
    if done.reverted or not done.data:
        raise rpc.distrust("has no endpoint at that address")
    return calls.decode(name, done.data)[0]


def _checksummed(argument: object) -> object:
    address = isinstance(argument, str) and len(argument) == 42 and argument[:2] == "0x"
    return Web3.to_checksum_address(str(argument)) if address else argument
