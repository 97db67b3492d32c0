"""Books of an EVM ledger against a verified header: every step, and the balances it came to.

Entry point `lianqiao.books: evm` (relay.books.Bookkeeper). The client pins, beside the endpoint,
`escrow` and `escrow-code`. A proof has the form of `adapters.evm.light.state`, of the escrow's
account and of up to WORDS words in the order of `Named.slots`; the words are those that are due by
the steps, so that a proof shows nothing by leaving something out.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.evm.books.fold import Memory, fold
from adapters.evm.books.steps import BookStep, Named, history_of, named_by
from adapters.evm.light.parameters import pinned
from adapters.evm.light.state import account, decode_proof, storage
from adapters.evm.light.trie import Nodes
from relay.contracts.escrow import last_line, nostro, suspense
from relay.errors import Invalid, Malformed, Reason
from relay.light.checkpoint import chain_name
from relay.light.types import ClientState, ConsensusState

WORDS = 256
"""Under one proof."""
_U64 = 2**64 - 1


class EvmBooks:
    """relay.books.Bookkeeper."""

    def records(
        self,
        state: ClientState,
        consensus: ConsensusState,
        steps: Sequence[bytes],
        proofs: Sequence[tuple[int, bytes]],
    ) -> tuple[dict[bytes, bytes], list[str]]:
        """See Bookkeeper. Raises Malformed, Invalid(INVALID_PROOF, BUNDLE_INCOMPLETE)."""
        done = [BookStep.decode(raw) for raw in steps]
        named = named_by(done)
        words = self._words(state, consensus, named, proofs)
        count = words[0] >> 40 & _U64
        if count != len(done) or words[1] != int.from_bytes(history_of(done), "big"):
            raise Invalid(Reason.BUNDLE_INCOMPLETE, "these are not the steps of the escrow")
        if words[0] & 0xFFFFFFFF != len(named.accounts):
            raise Invalid(Reason.BUNDLE_INCOMPLETE, "the escrow has another number of accounts")
        folded, findings = fold(chain_name(state.chain_id), done)
        findings += _compared(folded, named, words[2:])
        return folded.records, findings

    def _words(
        self,
        state: ClientState,
        consensus: ConsensusState,
        named: Named,
        proofs: Sequence[tuple[int, bytes]],
    ) -> list[int]:
        """The words that are due, each proven."""
        own, slots = pinned(state), named.slots()
        if own.escrow is None:
            raise Malformed(
                "no escrow is pinned of this chain",
                hint="its parameters `escrow` and `escrow-code` pin one",
            )
        address, code = own.escrow
        if [count for count, _ in proofs] != [len(s) for s in parts(slots)]:
            raise Invalid(Reason.BUNDLE_INCOMPLETE, "not the proofs that are due by the steps")
        words = []
        for part, (_, proof) in zip(parts(slots), proofs, strict=True):
            named_address, listed = decode_proof(proof)
            if named_address != address:
                raise Invalid(Reason.INVALID_PROOF, "the proof is of another escrow than pinned")
            nodes = Nodes(listed)
            root, code_hash = account(consensus.root, address, nodes)
            if code_hash != code:
                raise Invalid(Reason.INVALID_PROOF, "the escrow has other code than was pinned")
            words += [int.from_bytes(storage(root, slot, nodes), "big") for slot in part]
            nodes.end()
        return words


def parts(slots: Sequence[bytes]) -> list[Sequence[bytes]]:
    """What each proof is of."""
    return [slots[at : at + WORDS] for at in range(0, len(slots), WORDS)]


def _compared(folded: Memory, named: Named, words: Sequence[int]) -> list[str]:
    """What is otherwise in the contract's storage than in the books."""
    found = []

    def compare(what: str, there: int, here: int) -> None:
        if there != here:
            found.append(f"{what}: the chain says {there}, the books {here}")

    for at, code in enumerate(named.currencies):
        booked, suspended = words[2 * at] >> 160 & _U64, words[2 * at + 1] & _U64
        compare(f"{code} on all accounts", booked, -last_line(folded, nostro(code)).balance)
        compare(suspense(code), suspended, last_line(folded, suspense(code)).balance)
    for name, word in zip(named.accounts, words[2 * len(named.currencies) :], strict=True):
        line = last_line(folded, name)
        compare(f"balance of {name}", word & _U64, line.balance)
        compare(f"held of {name}", word >> 64 & _U64, line.held)
    return found


BOOKS = EvmBooks()
