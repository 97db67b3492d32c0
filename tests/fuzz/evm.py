"""True encodings of EVM chains, each variant of seals, and what decodes or verifies them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from hashlib import sha256

from trie import HexaryTrie

from adapters.evm.books.steps import BookStep, read_call
from adapters.evm.light import CLIENT, rlp
from adapters.evm.light.header import VARIANTS, Vote, decode_body, read_parent, split_header
from adapters.evm.light.receipts import decode_receipt, verify_receipt
from adapters.evm.light.state import SENT, decode_proof, encode_proof, verify_claims
from adapters.evm.practice.seals import header, ring
from relay.light.types import Claim
from relay.light.wire import Reader, Writer
from relay.packet import commitment_path
from tests.adapters.evm.sealing import QBFT, raw_header
from tests.adapters.evm.test_books_fold import Shown, story
from tests.adapters.evm.test_state import Chain, kept
from tests.adapters.evm.tries import WorldState, endpoint
from tests.fuzz.target import Target

Raws = Sequence[bytes]
ADDRESS, CODE = b"\x0e" * 20, b"\xcd" * 32
CLAIMS = [
    *(Claim(commitment_path("checkpoint-0", i), sha256(b"%d" % i).digest()) for i in range(1, 9)),
    Claim(SENT, bytes(31) + b"\x07"),
]
_NODES = 4096


def chain_headers(variant: str) -> Raws:
    """As a chain gives them: with votes, rounds and later fields, and without."""
    sealers = ring(4)
    vote = Vote(b"\x42" * 20, True)
    return [
        header(variant, sealers),
        header(variant, sealers, vote=vote, number=7, round_=3),
        header(variant, sealers, optional=(b"\x07", bytes(32), b"", b"\x01")),
    ]


@cache
def shown_headers() -> Raws:
    """As a light client is given them; one that skips, and one in contract mode, among them."""
    found = [raw_header(v, raw) for v in VARIANTS for raw in chain_headers(v)]
    others = sorted(s.address for s in ring(3, "other"))
    found.append(raw_header(QBFT, chain_headers(QBFT)[0], trusted=others))
    chain, sealers = Chain(), ring(4)
    state = kept(sealers)
    first = chain.make(bytes(32), state.root, sealers, 1)
    parent = decode_body(QBFT, split_header(QBFT, first)[0]).hash
    second = chain.make(parent, state.root, sealers, 2)
    found.append(chain.shown(second, first, state, len(sealers)))
    return found


def bodies(variant: str) -> Raws:
    """Headers without seals."""
    return [split_header(variant, raw)[0] for raw in chain_headers(variant)]


@cache
def _world() -> WorldState:
    return WorldState({ADDRESS: endpoint(CODE, CLAIMS)})


def proofs() -> Raws:
    """Proofs of the endpoint's storage: one slot, and all."""
    paths = [claim.path for claim in CLAIMS]
    return [_world().prove(ADDRESS, paths[:1]), _world().prove(ADDRESS, paths)]


def membership(raw: bytes) -> None:
    """What a receiver does with the second of them."""
    verify_claims(_world().root, ADDRESS, CODE, raw, CLAIMS)


@cache
def receipts() -> Raws:
    """Legacy and typed, with logs and without."""
    log = [b"\x11" * 20, [b"\x22" * 32, b"\x33" * 32], b"some data"]
    plain = rlp.encode([b"\x01", b"\x52\x08", bytes(256), []])
    return [plain, b"\x02" + rlp.encode([b"", b"\x52\x09", bytes(256), [log, log]])]


@cache
def receipt_trie() -> tuple[bytes, bytes]:
    """(root, nodes that show the receipt at index 1)."""
    made = HexaryTrie({})
    for index, raw in enumerate(receipts()):
        made[rlp.encode(rlp.encode_integer(index))] = raw
    nodes = [rlp.encode(list(node)) for node in made.get_proof(rlp.encode(b"\x01"))]
    kept_nodes = [n for at, n in enumerate(nodes) if at == 0 or len(n) >= 32]
    writer = Writer().count(len(kept_nodes), _NODES)
    for node in kept_nodes:
        writer.data(node, _NODES)
    return bytes(made.root_hash), writer.done()


def proven_receipt(raw: bytes) -> None:
    """What a receiver does with a proof of a receipt."""
    reader = Reader(raw, "receipt proof")
    listed = [reader.data(_NODES) for _ in range(reader.count(64))]
    reader.end()
    verify_receipt(receipt_trie()[0], 1, listed)


@cache
def _books() -> Shown:
    return Shown(story())


def steps() -> Raws:
    """What was done to an escrow: calls, and packets with their answers."""
    return _books().steps


def called(raw: bytes) -> None:
    """The call in a step, as who does it again reads it."""
    read_call(BookStep.decode(raw))


def books(raw: bytes) -> None:
    """What an auditor does with the steps of a ledger, of which one is another."""
    _books().records(steps=[*_books().steps[:-1], raw])


def targets() -> tuple[Target, ...]:
    """Every decoder of the EVM's light client, and of its books."""
    found = [
        Target("evm rlp", rlp.decode, lambda: [*receipts()[:1], *bodies(QBFT)], rlp.encode),
        Target("evm header", CLIENT.decode_header, shown_headers, CLIENT.encode_header),
        Target("evm proof", decode_proof, proofs, lambda value: encode_proof(*value)),
        Target("evm membership", membership, lambda: proofs()[1:]),
        Target("evm receipt", decode_receipt, receipts),
        Target("evm receipt proof", proven_receipt, lambda: [receipt_trie()[1]]),
        Target("evm parent", read_parent, lambda: bodies(QBFT)),
        Target("evm step", BookStep.decode, steps, BookStep.encode),
        Target("evm call", called, lambda: [*steps()[:4], steps()[-1]]),
        Target("evm books", books, lambda: steps()[-1:]),
    ]
    for variant in VARIANTS:
        split, body = partial(split_header, variant), partial(decode_body, variant)
        found.append(Target(f"evm {variant}", split, partial(chain_headers, variant)))
        found.append(
            Target(f"evm {variant} body", body, partial(bodies, variant), lambda value: value.body)
        )
    return tuple(found)
