"""The client type `evm`: chains of Besu or GoQuorum, by the seals of their validators.

    height = block number    root = state root    hash = block hash    time = the header's, seconds

A raw header (`relay.light.wire`):

    u8   version = 1, u8 variant: 1 QBFT, 2 IBFT2, 3 IBFT1
    text chain id         name and epoch, as pinned; no header of these chains says it
    data source           of the validators (`validators`)
    data body             the header's RLP without committed seals (`header`)
    u32  count, of each   20 bytes address, 65 bytes seal
    u32  count, of each   20 bytes: the set of the trusted header, where this one skips; else 0
    u32  count, data each in contract mode: the parent header in the form that its hash is over,
                          then the proof of the array under its state root; else 0

The chain id is presented and not sealed. What binds a header to its chain is the validators' keys,
and what binds a proof is the endpoint's code (`state`): two chains that share all keys are told
apart by the code, in which the number and name of the chain stand.

Sets: `validators`. A header announces the set that its vote asks for; that set, or the same one,
may sign the next header. Whether enough proposers voted so is not counted again: ceil(2N/3) of the
new set sign it, of whom at most one is new, and that is never fewer of the old set than the trust
level asks. In contract mode a set is proven under the state root of the parent: at the next height
that is the trusted header's own, further ahead it must overlap as every set that is skipped to.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from adapters.evm.light import header as headers
from adapters.evm.light import validators as sets
from adapters.evm.light.crypto import ADDRESS_BYTES, SEAL_BYTES, keccak, low_s, recover
from adapters.evm.light.header import Block, split_header
from adapters.evm.light.parameters import pinned
from adapters.evm.light.state import narrow, read_sent, verify_claims
from adapters.evm.light.trie import MAX_NODE_BYTES
from relay.errors import Invalid, Malformed, Reason
from relay.light.states import MAX_CHAIN_ID_BYTES
from relay.light.types import (
    MAX_HEADER_BYTES,
    MAX_VALIDATORS,
    Abilities,
    Claim,
    ClientState,
    ConsensusState,
    Header,
    Sent,
    Signature,
    Validator,
    ValidatorSet,
    Witness,
)
from relay.light.wire import Reader, Writer

MAX_LINK = 4096
_VERSION = 1
_block = lru_cache(maxsize=64)(headers.decode_body)


class EvmClient:
    """Implements `relay.light.types.ClientType`."""

    name = "evm"
    skips = True
    proves_absence = True
    equal_time = False
    strict_drift = False
    links = False
    abilities = Abilities(nets=False, algorithms=("secp256k1",))
    """Of Escrow.sol: relay.light.types.Abilities."""

    def decode_header(self, raw: bytes) -> Header:
        """See ClientType. Raises Malformed."""
        if len(raw) > MAX_HEADER_BYTES:
            raise Malformed(f"a header is at most {MAX_HEADER_BYTES} bytes long")
        reader = Reader(raw, "evm header")
        version, kind = reader.u8(), reader.u8()
        if version != _VERSION or not 1 <= kind <= len(headers.VARIANTS):
            raise Malformed("evm header: unknown version or variant")
        variant = headers.VARIANTS[kind - 1]
        chain_id = reader.text(MAX_CHAIN_ID_BYTES)
        source = reader.data(sets.MAX_SOURCE_BYTES)
        body = reader.data(headers.MAX_RLP_BYTES)
        signatures = tuple(
            Signature(sets.name_of(reader.fixed(ADDRESS_BYTES)), variant, reader.fixed(SEAL_BYTES))
            for _ in range(reader.count(MAX_VALIDATORS))
        )
        shown = [reader.fixed(ADDRESS_BYTES) for _ in range(reader.count(MAX_VALIDATORS))]
        link = tuple(reader.data(MAX_NODE_BYTES) for _ in range(reader.count(MAX_LINK)))
        reader.end()
        if shown != sorted(set(shown)):
            raise Malformed("evm header: the trusted set must ascend, each address once")
        block = _block(variant, body)
        addresses, following = _successors(block, source, link)
        return Header(
            chain_id=chain_id,
            height=block.number,
            time=block.time,
            root=block.state_root,
            hash=block.hash,
            validators=sets.make_set(variant, addresses, source),
            set_hash=sets.hash_set(addresses, source),
            next_set_hash=sets.hash_set(following, source),
            signatures=signatures,
            body=body,
            link=link,
            trusted_validators=sets.make_set(variant, shown, source) if shown else None,
        )

    def encode_header(self, header: Header) -> bytes:
        """See ClientType. Raises Malformed for a header that has no encoding."""
        sets.addresses_of(header.validators)
        shown = header.trusted_validators
        kind = headers.VARIANTS.index(_variant(header)) + 1
        writer = Writer().u8(_VERSION).u8(kind).text(header.chain_id, MAX_CHAIN_ID_BYTES)
        writer.data(header.validators.source, sets.MAX_SOURCE_BYTES)
        writer.data(header.body, headers.MAX_RLP_BYTES)
        writer.count(len(header.signatures), MAX_VALIDATORS)
        for signature in header.signatures:
            address = bytes.fromhex(signature.signer.removeprefix("0x"))
            writer.fixed(address, ADDRESS_BYTES).fixed(signature.value, SEAL_BYTES)
        trusted = sets.addresses_of(shown) if shown is not None else ()
        writer.count(len(trusted), MAX_VALIDATORS)
        for address in trusted:
            writer.fixed(address, ADDRESS_BYTES)
        writer.count(len(header.link), MAX_LINK)
        for node in header.link:
            writer.data(node, MAX_NODE_BYTES)
        return writer.done()

    def check_pinned(self, state: ClientState, header: Header) -> None:
        """See ClientType: the set is kept where it was pinned. VALIDATOR_SET_MISMATCH."""
        if header.validators.source != pinned(state).source:
            raise Invalid(
                Reason.VALIDATOR_SET_MISMATCH, "the set is kept elsewhere than where it was pinned"
            )

    def succeeds(self, trusted: ConsensusState, untrusted_header: Header) -> bool:
        """See ClientType: the set stays, or was read from the trusted state itself."""
        if untrusted_header.set_hash == trusted.set_hash:
            return True
        block = _block(_variant(untrusted_header), untrusted_header.body)
        next_height = untrusted_header.height == trusted.height + 1
        return bool(untrusted_header.link) and next_height and block.parent == trusted.header_hash

    def hash_validators(self, validators: ValidatorSet) -> bytes:
        """See ClientType. Raises Malformed."""
        return sets.hash_set(sets.addresses_of(validators), validators.source)

    def sign_bytes(self, header: Header, signer: Validator, signature: Signature) -> bytes:
        """See ClientType: the digest, 32 bytes."""
        return _block(_variant(header), header.body).digest

    def witness_of(self, signature: Signature, witnesses: Sequence[Witness]) -> Witness | None:
        """See ClientType: nobody co-signs these headers."""
        return None

    def cosign_bytes(self, header: Header, witness: Witness, signature: Signature) -> bytes:
        """See ClientType; never asked, since there are no witnesses."""
        raise Malformed("headers of EVM chains have no witnesses")

    def verify_link(self, trusted: ConsensusState, untrusted_header: Header) -> None:
        """See ClientType: the next header names the trusted one as its parent."""
        block = _block(_variant(untrusted_header), untrusted_header.body)
        if block.number == trusted.height + 1 and block.parent != trusted.header_hash:
            raise Invalid(
                Reason.INVALID_CONSISTENCY,
                "the next header has another parent than the trusted one",
            )

    def verify_membership(
        self, state: ClientState, consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]
    ) -> None:
        """See ClientType and `state`; absence too."""
        own = pinned(state)
        verify_claims(consensus.root, own.endpoint, own.code, proof, claims)

    def read_sent(self, consensus: ConsensusState, client_id: str, claims: Sequence[Claim]) -> Sent:
        """See relay.light.types.TellsSent and `state`: as of the header itself."""
        return read_sent(consensus.time, client_id, claims)

    def narrow_membership(
        self,
        state: ClientState,
        consensus: ConsensusState,
        proof: bytes,
        claims: Sequence[Claim],
        wanted: Sequence[int],
    ) -> bytes:
        """See ClientType."""
        return narrow(consensus.root, proof, claims, wanted)


def present(
    variant: str,
    chain_id: str,
    source: bytes,
    raw: bytes,
    *,
    trusted: Sequence[bytes] = (),
    link: Sequence[bytes] = (),
) -> bytes:
    """The raw header of a header as the chain gives it, its signers recovered and named.

    `trusted`: the set of the trusted header where it is skipped to, ascending; `link`: in contract
    mode. Raises Malformed, or Invalid(INVALID_SIGNATURE) for a seal that recovers to nobody.
    """
    body, seals = split_header(variant, raw)
    digest = _block(variant, body).digest
    writer = Writer().u8(_VERSION).u8(headers.VARIANTS.index(variant) + 1)
    writer.text(chain_id, MAX_CHAIN_ID_BYTES).data(source, sets.MAX_SOURCE_BYTES)
    writer.data(body, headers.MAX_RLP_BYTES).count(len(seals), MAX_VALIDATORS)
    for seal in map(low_s, seals):
        writer.fixed(recover(digest, seal), ADDRESS_BYTES).fixed(seal, SEAL_BYTES)
    writer.count(len(trusted), MAX_VALIDATORS)
    for address in trusted:
        writer.fixed(address, ADDRESS_BYTES)
    writer.count(len(link), MAX_LINK)
    for node in link:
        writer.data(node, MAX_NODE_BYTES)
    return writer.done()


def _variant(header: Header) -> str:
    return header.validators.validators[0].keys[0][0]


def _successors(
    block: Block, source: bytes, link: Sequence[bytes]
) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """(addresses that sign the block, addresses that it announces). Raises Malformed."""
    epoch, contract, slot = sets.read_source(source)
    if not contract:
        if link or not block.validators:
            raise Malformed("evm header: lists no validators, or brings needless proofs")
        return block.validators, sets.voted(block.validators, block.vote, block.number, epoch)
    if block.validators or block.vote or not link:
        raise Malformed("evm header: a contract keeps the validators, so the header lists none")
    number, root = headers.read_parent(link[0])
    if keccak(link[0]) != block.parent or number + 1 != block.number:
        raise Malformed("evm header: the parent is another header")
    addresses = sets.read_contract(root, contract, slot, link[1:])
    return addresses, addresses


EVM = EvmClient()
