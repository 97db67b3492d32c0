"""What is proven under a header of CometBFT, by the kind of proof that the client state pins.

    journal   a lianqiao node run by this engine: app hash = BE64(size) ‖ root of its journal, 40
              bytes; claims are entries of that tree, proven as those of a checkpoint are
              (`relay.light.membership`). It shows what was written, never that something was not.
    ics23     a chain of the Cosmos SDK: app hash = root over its stores, a claim's path is a key
              of the store `ibc` (IBC v2, merkle path ["ibc", ""]). Presence and absence.
    tx        transactions of the block before, with their results (`txproof`).

The tree hash is SHA-256 in all of them. An ics23 proof, in the encoding of `relay.light.wire`:

    u8 version = 1, data CommitmentProof of the store `ibc` among the stores,
    u32 count, data CommitmentProof in that store for each claim, in their order

All claims are under one store root, which the first proof shows. A path longer than the app hash
of the *next* header cannot be had: state of height H is in header H + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.cometbft.light import ics23, txproof
from adapters.cometbft.light.ics23_ops import IAVL, SIMPLE
from relay.errors import Invalid, Malformed, Reason
from relay.light.membership import journal_root, verify_membership
from relay.light.narrow import narrow_membership
from relay.light.types import MAX_PROOF_BYTES, Claim, ClientState, ConsensusState
from relay.light.wire import Reader, Writer

JOURNAL, ICS23, TX = "journal", "ics23", "tx"
STORE = b"ibc"
MAX_CLAIMS = 4096
_VERSION = 1


def verify(
    state: ClientState, consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]
) -> None:
    """Raises unless the proof shows every claim, in order, by the pinned kind.

    Malformed, Invalid(INVALID_PROOF), Refused(ABSENCE_NOT_PROVABLE).
    """
    if len(proof) > MAX_PROOF_BYTES:
        raise Malformed(f"a proof is at most {MAX_PROOF_BYTES} bytes long")
    if state.tree_hash != "sha256" or state.proof_kind not in (JOURNAL, ICS23, TX):
        raise Invalid(Reason.INVALID_PROOF, "the client pins another kind of tree or proof")
    if state.proof_kind == JOURNAL:
        root, size = journal_root(consensus.root)
        verify_membership(root, size, proof, claims)
    elif state.proof_kind == ICS23:
        _verify_store(consensus.root, proof, claims)
    else:
        txproof.verify(consensus, proof, claims)


def narrow(
    consensus: ConsensusState,
    kind: str,
    proof: bytes,
    claims: Sequence[Claim],
    wanted: Sequence[int],
) -> bytes:
    """The verified proof cut down to the claims at positions `wanted`. Raises Malformed."""
    if kind == JOURNAL:
        return narrow_membership(journal_root(consensus.root)[1], proof, claims, wanted)
    if kind == ICS23:
        store, shown = decode_store_proof(proof)
        return encode_store_proof(store, [shown[position] for position in wanted])
    return txproof.narrow(proof, wanted)


def encode_store_proof(store: bytes, shown: Sequence[bytes]) -> bytes:
    """An ics23 proof (module docstring) of encoded CommitmentProofs. Raises Malformed."""
    writer = Writer().u8(_VERSION).data(store, ics23.MAX_PROOF_BYTES)
    writer.count(len(shown), MAX_CLAIMS)
    for one in shown:
        writer.data(one, ics23.MAX_PROOF_BYTES)
    return writer.done()


def decode_store_proof(raw: bytes) -> tuple[bytes, list[bytes]]:
    """(proof of the store, proofs in it), still encoded. Raises Malformed."""
    reader = Reader(raw, "ics23 proof")
    if reader.u8() != _VERSION:
        raise Malformed("ics23 proof: unknown version")
    store = reader.data(ics23.MAX_PROOF_BYTES)
    shown = [reader.data(ics23.MAX_PROOF_BYTES) for _ in range(reader.count(MAX_CLAIMS))]
    reader.end()
    return store, shown


def _verify_store(app_hash: bytes, proof: bytes, claims: Sequence[Claim]) -> None:
    encoded, shown = decode_store_proof(proof)
    if not shown or len(shown) != len(claims):
        raise Invalid(Reason.INVALID_PROOF, "ics23 proof: one proof for each claim")
    store = ics23.decode_proof(encoded)
    if not isinstance(store, ics23.Existence):
        raise Invalid(Reason.INVALID_PROOF, "ics23 proof: the store must be there")
    ics23.verify_existence(store, SIMPLE, app_hash, STORE, store.value)
    for claim, raw in zip(claims, shown, strict=True):
        one = ics23.decode_proof(raw)
        if claim.value is None:
            ics23.verify_non_existence(one, IAVL, store.value, claim.path)
        else:
            ics23.verify_existence(one, IAVL, store.value, claim.path, claim.value)
