"""An EVM ledger as a chain: entry point `lianqiao.chains: evm`. README.md has a whole file.

Settings: `address` (HOST:PORT of a JSON-RPC node), `rpc` (more of them, by commas), `endpoint`,
`variant` (qbft-seal, ibft2-seal, ibft1-seal), `validators` (as the client pins it), `key` (file
with the sender's private key in hex; without it nothing is submitted), `max_gas_price` (wei; the
node's own price is taken up to it), `from_block` (where the endpoint was deployed), `witnesses`
(NAME=secp256k1:HEX, by commas, in the endpoint's order: whose co-signatures it counts), `registry`
(told for the nodes before the ledger; nothing is asked of it here).

Every answer is untrusted: headers and proofs are verified by whoever they are given to; steps carry
a number that the endpoint counts, so a node that leaves out a log is noticed and the next is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.evm import calls
from adapters.evm.headers import Headers, prove_words
from adapters.evm.light import CLIENT as LIGHT
from adapters.evm.light.state import CLIENT_ID, SENT, encode_proof, slot_of
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from adapters.evm.settings import invalid, read_settings
from adapters.evm.step_log import StepLog
from relay.chain import (
    MAX_BATCH,
    Chain,
    ClientStatus,
    Delivery,
    DeliveryResult,
    Outcome,
    PacketStep,
    Submission,
)
from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused, Unavailable
from relay.light.membership import decode_membership_proof
from relay.light.types import MAX_INT, Claim, Header, Witness
from relay.packet import receipt_path

MAX_PATHS = 4_096
SLOTS_A_CALL = 256


class EvmChain:
    """relay.chain.StatingChain over JSON-RPC. Thread-safe; one lane of nonces."""

    as_of_head = True
    """See relay.chain.states_as_of_head."""

    def __init__(
        self,
        rpc: Rpc,
        endpoint: bytes,
        variant: str,
        source: bytes,
        sender: Sender | None,
        from_block: int,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._rpc = rpc
        self._endpoint = endpoint
        self._headers = Headers(rpc, variant, source)
        self._sender = sender
        self._steps = StepLog(rpc, endpoint, from_block, self._count)
        self._lock = threading.RLock()
        self._chain_id = ""
        self._witnesses = tuple(witnesses)
        self._compared = not witnesses

    @property
    def chain_id(self) -> str:
        """The name in the endpoint's code, asked once. Raises Unavailable(CHAIN_UNREACHABLE)."""
        if not self._chain_id:
            (name,) = self._view("NAME")
            self._chain_id = bytes(name).rstrip(b"\0").decode("ascii", "replace")
        return self._chain_id

    def latest_height(self) -> int:
        """See relay.chain.Chain."""
        return self._rpc.number("eth_blockNumber", [])

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "",
        witnesses: Sequence[Witness] = (),
    ) -> Sequence[bytes]:
        """See relay.chain.Chain: one header, with the trusted set where it is another."""
        if not 1 <= height <= self._bounded(self.latest_height()) or trusted_height < 0:
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "the chain has no header of that height")
        if trusted_height >= height:
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "nothing leads from there to that height")
        raw = self._headers.present(self.chain_id, height)
        if trusted_height == 0 or trusted_height + 1 == height:
            return [raw]
        header, trusted = (
            LIGHT.decode_header(raw),
            LIGHT.decode_header(self._headers.present(self.chain_id, trusted_height)),
        )
        if header.set_hash in (trusted.set_hash, trusted.next_set_hash):
            return [raw]
        return [LIGHT.encode_header(replace(header, trusted_validators=trusted.validators))]

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        self._check_client(client_id)
        self._compare_witnesses()
        size, time, _, _, following = self._view("latest")
        return ClientStatus(
            client_id=CLIENT_ID,
            counterparty_client_id=str(self._view("counterparty")[0]),
            chain_id=str(self._view("origin")[0]),
            algorithm="secp256k1",
            latest_height=size,
            latest_time=time,
            set_hash=bytes(following),
            trusting_period=self._view("trustingPeriod")[0],
            frozen=bool(self._view("frozen")[0]),
            witnesses=self._witnesses,
        )

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain. A cursor is the number that the endpoint gave a step."""
        self._check_client(client_id)
        if not 0 <= after <= MAX_INT and after != -1:
            raise Malformed("a cursor lies between 0 and 2^63 - 1")
        if limit < 1:
            raise Malformed("a limit is positive")
        after, limit = max(after, 0), min(limit, MAX_BATCH)
        with self._lock:
            if len(self._steps) < after + limit:
                self._steps.read(self._bounded(self.latest_height()))
            return self._steps.after(after, limit)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain. That a receipt is absent is proven, too; any other path must be
        written."""
        if not 1 <= height <= self._bounded(self.latest_height()):
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "the chain has no header of that height")
        if not 1 <= len(paths) <= MAX_PATHS:
            raise Malformed(f"a proof is of 1 to {MAX_PATHS} paths")
        nodes: dict[bytes, None] = {}
        of_storage: list[bytes] = []
        for at in range(0, len(paths), SLOTS_A_CALL):
            part = paths[at : at + SLOTS_A_CALL]
            account, words = prove_words(
                self._rpc, self._endpoint, [slot_of(p) for p in part], height
            )
            nodes.update(dict.fromkeys(account))
            for path, (word, proof) in zip(part, words, strict=True):
                if word == 0 and path[:-8] != receipt_path(CLIENT_ID, 0)[:-8]:
                    raise NotFound(Reason.PATH_NOT_FOUND, "nothing is written there at that height")
                of_storage += proof
        nodes.update(dict.fromkeys(of_storage))
        return encode_proof(self._endpoint, list(nodes))

    def prove_storage(self, address: bytes, slots: Sequence[bytes], height: int) -> bytes:
        """A proof of a contract's words, those that are zero too, in the form of
        `adapters.evm.light.state`. Raises Malformed, Unavailable."""
        account, words = prove_words(self._rpc, address, slots, height)
        nodes = dict.fromkeys([*account, *(node for _, proof in words for node in proof)])
        return encode_proof(address, list(nodes))

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain: the endpoint's own count, at that block."""
        self._check_client(client_id)
        if not 1 <= height <= self._bounded(self.latest_height()):
            return ()
        _, ((word, _),) = prove_words(self._rpc, self._endpoint, [slot_of(SENT)], height)
        if word % 2**64 > before:
            return ()
        return (Claim(SENT, word.to_bytes(32, "big")),)

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain: tried first, so that a refusal costs nothing; as many calls as a
        block's gas asks for, each with its own part of the proof."""
        for delivery in deliveries:
            self._check_client(delivery.client_id)
        results = []
        for delivery in deliveries:
            parts = [self._deliver(part) for part in calls.parts_of(delivery)]
            items = tuple(item for part in parts for item in part.items)
            results.append(DeliveryResult(parts[0].headers, items))
        return results

    def doubt(self) -> None:
        """See relay.chain.DoubtedChain."""
        self._rpc.distrust("gave a header that was refused")

    def close(self) -> None:
        """Nothing is kept open."""

    def _count(self, height: int) -> int:
        """How many steps the endpoint had at a block."""
        return int(self._view("steps", height=height)[0])

    # --- deliveries

    def _deliver(self, delivery: Delivery) -> DeliveryResult:
        try:
            updates, fresh = self._updates(delivery.headers)
        except Unavailable:
            raise
        except LianqiaoError as err:
            refusal = _refused(err.reason.value, err.detail)
            return DeliveryResult(refusal, (refusal,) * len(delivery.items))
        answer = Submission(Outcome.DONE if fresh else Outcome.NOOP)
        if delivery.items:
            try:
                done = self._items(updates, delivery)
                return DeliveryResult(answer, done)
            except _Reverted as err:
                if err.reason in calls.OF_HEADERS and updates:
                    refusal = _refused(err.reason)
                    return DeliveryResult(refusal, (refusal,) * len(delivery.items))
                items = (_refused(err.reason),) * len(delivery.items)
            except (Malformed, Refused) as err:
                items = (_refused(err.reason.value, err.detail),) * len(delivery.items)
        else:
            items = ()
        if updates:
            try:
                self._call(updates, (), calls.NO_PROOF)
            except _Reverted as err:
                refusal = _refused(err.reason)
                return DeliveryResult(refusal, items or ())
        return DeliveryResult(answer, items)

    def _updates(self, raw: Sequence[bytes]) -> tuple[list[Any], int]:
        """What of the headers is new, as the endpoint takes it. Stores sets that it lacks."""
        size = self._view("latest")[0]
        decoded = [calls.decode_checkpoint(one) for one in raw]
        new: list[Header] = []
        for header in decoded:
            known = bytes(self._view("heads", header.height)[0]) if header.height <= size else b""
            if known == calls.head_word(header):
                continue
            new.append(header)
            self._ensure_set(header)
        return [calls.update_of(header, self._witnesses) for header in new], len(new)

    def _ensure_set(self, header: Header) -> None:
        if not self._view("knowsSet", header.set_hash)[0]:
            encoded, ys = calls.set_of(header.validators)
            self._transact("registerSet", [encoded, ys])

    def _items(self, updates: list[Any], delivery: Delivery) -> tuple[Submission, ...]:
        if not 0 <= delivery.height <= MAX_INT:
            raise Malformed("a height lies between 0 and 2^63 - 1")
        items = [calls.item_of(item) for item in delivery.items]
        claims = calls.claims_of(delivery)
        root, time = self._head(delivery)
        try:
            indexes, hashes = decode_membership_proof(delivery.proof)
        except Malformed:
            if not all(code == calls.NOOP for code in self._dry(updates, items)):
                raise
            indexes, hashes = (), []
        proof = calls.proof_of(delivery, root, time, indexes, hashes, claims)
        codes = self._call(updates, items, proof)
        return tuple(calls.submission_of(code) for code in codes)

    def _dry(self, updates: list[Any], items: list[Any]) -> list[bytes]:
        try:
            return self._simulate([updates, items, calls.NO_PROOF])
        except _Reverted:
            return [b""] * len(items)

    def _head(self, delivery: Delivery) -> tuple[bytes, int]:
        """(root, time) of the head that a delivery proves under."""
        for raw in delivery.headers:
            header = calls.decode_checkpoint(raw)
            if header.height == delivery.height:
                return header.root, header.time
        size, time, root, _, _ = self._view("latest")
        if size == delivery.height:
            return bytes(root), time
        topics = [calls.HEAD_TOPIC, "0x" + delivery.height.to_bytes(32, "big").hex()]
        asked = {"address": "0x" + self._endpoint.hex(), "fromBlock": "0x0", "topics": topics}
        return calls.read_head(self._rpc.ask("eth_getLogs", [asked]))

    def _call(self, updates: list[Any], items: Sequence[Any], proof: Any) -> list[bytes]:
        """What a call would answer; sent only where it changes something."""
        arguments = [updates, list(items), proof]
        codes = self._simulate(arguments)
        if updates or any(code == calls.DONE for code in codes):
            return calls.read_outcomes(self._transact("deliver", arguments))
        return codes

    def _simulate(self, arguments: list[Any]) -> list[bytes]:
        data = calls.encode("deliver", arguments)
        result = self._rpc.call(self._endpoint, data, sender=self._address())
        if result.reverted:
            raise _Reverted(calls.reason_of(result.data))
        return [bytes(code) for code in calls.decode("deliver", result.data)[1]]

    def _transact(self, name: str, arguments: list[Any]) -> dict[str, Any]:
        if self._sender is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                "this lane has no key to submit with",
                hint="give the adapter the setting `key`",
            )
        with self._lock:
            receipt = self._sender.send(self._rpc, self._endpoint, calls.encode(name, arguments))
        if receipt.get("status") != "0x1":
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE, "the call was mined and reverted: try again"
            )
        return receipt

    # --- small things

    def _address(self) -> bytes:
        return self._sender.address if self._sender is not None else bytes(20)

    def _view(self, name: str, *arguments: Any, height: int | None = None) -> tuple[Any, ...]:
        data = calls.encode(name, list(arguments))
        result = self._rpc.call(self._endpoint, data, height=height)
        if result.reverted or not result.data:
            raise self._rpc.distrust("has no endpoint at that address")
        return calls.decode(name, result.data)

    def _compare_witnesses(self) -> None:
        """That the endpoint pins those whom the settings name. Raises Refused(CONFIG_INVALID)."""
        if self._compared:
            return
        for at, witness in enumerate(self._witnesses):
            if self._pinned_witness(at) != calls.witness_address(witness):
                raise invalid(f"the endpoint's witness {at} is not {witness.name}")
        self._compared = True

    def _pinned_witness(self, at: int) -> bytes:
        done = self._rpc.call(self._endpoint, calls.encode("witnesses", [at]))
        return b"" if done.reverted else done.data[-20:]

    def _bounded(self, height: int) -> int:
        if not 0 <= height <= MAX_INT:
            raise Malformed("the node tells a height that cannot be")
        return height

    def _check_client(self, client_id: str) -> None:
        if client_id != CLIENT_ID:
            raise NotFound(
                Reason.CLIENT_NOT_FOUND, f"an endpoint has one client, {CLIENT_ID}", client_id="?"
            )


class _Reverted(Exception):
    """The endpoint refused a call as a whole."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _refused(reason: str, detail: str = "") -> Submission:
    return Submission(Outcome.REFUSED, reason, detail or "the endpoint says so")


def connect(settings: Mapping[str, str]) -> Chain:
    """The endpoint that `settings` name. Whether it answers shows at the first call.

    Raises Refused(CONFIG_INVALID).
    """
    return EvmChain(*read_settings(settings))
