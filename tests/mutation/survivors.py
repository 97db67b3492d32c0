"""The mutants that no test can notice, each with the reason why that is no gap.

An entry is a part of a mutant's name (`file::function::kind::check`), and the reason. A mutant that
is noticed after all, or that is not there any more, must leave the list: a test says so.
"""

from __future__ import annotations

from tests.mutation.mutants import Mutant

_FASTER = "only reads ahead, in one statement, what is read one by one where it was not"
_LIBRARY = "the library installed today refuses it as well; the written rule stands before any"
_TYPES = "what is missing has been refused; the type checker wants to hear it again"
_NO_INPUT = "no input stands at the bound itself"
_SAME = "both ways give the same hash; this one is quicker"
_BELT = "nothing is staged where a refusal is raised today; undoing it is for those of tomorrow"

EXPLAINED: dict[str, str] = {
    "relay/packet_rows.py::prefetch::": _FASTER,
    "relay/channel.py::Channel.deliver::skip::prefetch(tx, delivery)": _FASTER,
    "relay/channel.py::Channel.deliver::skip::self.clients.load(tx, client_id)": (
        "the client is loaded again below; here its absence is told before headers are decoded"
    ),
    "relay/channel.py::Channel.deliver::skip::tx.rollback(mark) #2": _BELT,
    "relay/channel.py::Channel._take_sent::skip::tx.rollback(mark)": _BELT,
    "relay/channel.py::_why::skip::_log.error": "a line of the log for the operator, no effect",
    "relay/contracts/accounts.py::check_signed::drop::one is None": (
        "whoever decodes a signed instruction asks for the signature of each debtor"
    ),
    "relay/contracts/recognition/decide.py::decide::drop::receiver is None": _TYPES,
    "relay/contracts/recognition/decide.py::decide::drop::rule is None": _TYPES,
    "relay/contracts/recognition/decide.py::decide::drop::rule is not None": _TYPES,
    "relay/contracts/recognition/item_checks.py::_issuers::drop::case.attestation is not None": (
        "an item is one of an attestation; the type checker wants to hear it"
    ),
    "relay/contracts/escrow/locks.py::_cut_off::drop::b'' of shown": (
        "the host has asked for the entry; the type checker wants to hear what stands without it"
    ),
    "relay/contracts/escrow/audit.py::_pair::invert::pays #2": (
        "the two sides cancel each other, whichever of them counts as one more"
    ),
    "relay/light/client.py::verify_header::edge::header.height < trusted.height": (
        "equal heights have been judged above"
    ),
    "relay/light/narrow.py::narrow_membership::drop::b'' of claim.value or b''": (
        "all claims of a proof that is narrowed were verified as inclusions"
    ),
    "relay/light/keys.py::_verify_ed25519::never::len(signature) != 64": _LIBRARY,
    "relay/light/keys.py::_verify_ed25519::never::int.from_bytes(signature[32:]": _LIBRARY,
    "relay/light/keys.py::_verify_ed25519::drop::y >= _P25519": _LIBRARY,
    "relay/light/keys.py::_load_ec::drop::": _LIBRARY,
    "relay/light/keys.py::_ecdsa::drop::not 1 <= r < order": _LIBRARY,
    "relay/light/keys.py::_verify_ed25519::edge::int.from_bytes(signature[32:]": _LIBRARY,
    "relay/light/keys.py::_verify_ed25519::edge::y >= _P25519": _LIBRARY,
    "relay/light/keys.py::_ecdsa::edge::1 <= r < order @0": (
        "r = 1 is refused by the mutant alone, and nobody knows a nonce for it"
    ),
    "relay/light/keys.py::_ecdsa::edge::1 <= r < order @1": _LIBRARY,
    "relay/light/membership.py::decode_membership_proof::edge::len(raw) > MAX_PROOF_BYTES": (
        _NO_INPUT
    ),
    "relay/light/merkle.py::root_from_multi::never::indexes[-1] - indexes[0] + 1": _SAME,
    "relay/light/merkle.py::_hash_at::edge::end <= size": _SAME,
    "relay/light/merkle.py::_needed_count::edge::width > 1": (
        "at the root there is one index, a run without gaps, for which nothing is counted"
    ),
    "relay/light/merkle.py::_needed_count::never::high - low + 1": (
        "both ways give the same count; this one is quicker"
    ),
    "relay/light/validators.py::check_algorithm_name::edge::set(name) <= _ALGORITHM": (
        "a name of 32 characters cannot hold all 37"
    ),
    "relay/bundle_writer.py::BundleWriter._own_hop::drop::error.reason is not": (
        "the height is one of this node's heads; what is missing below it is a path"
    ),
    "relay/bundle_writer.py::BundleWriter._kept_headers::drop::not rows of": (
        "a delivery is kept with its header: there is one row"
    ),
    "relay/bundle_writer.py::BundleWriter._pinned::never::value is None": (
        "a lineage begins with an entry"
    ),
    "adapters/cometbft/light/block.py::_read_commit::never::len(places) > MAX_VALIDATORS": (
        "the same bound stands where commits are checked; here nothing is built of what is beyond"
    ),
    "adapters/cometbft/light/block.py::_read_commit::edge::len(places) > MAX_VALIDATORS": (
        "the same bound stands where commits are checked"
    ),
    "adapters/cometbft/light/ics23.py::other_is_empty::drop::not spec.empty_child of": (
        "a child of a tree is never empty bytes"
    ),
    "relay/bundle_format.py::encode_bundle::skip::decode_bundle(raw)": (
        "what the writer makes is read back before it leaves; nothing that it makes is refused"
    ),
    "adapters/cometbft/light/zip215.py::verify::drop::len(signature) != 64": _LIBRARY,
    "adapters/evm/light/client.py::EvmClient.succeeds::drop::next_height": (
        "whoever decoded the header has compared its parent's number with its own"
    ),
    "adapters/evm/light/parameters.py::_decimal::drop::not text.isascii()": (
        "a number in other digits is not what its own value is written as"
    ),
}


def explained(mutant: Mutant) -> str | None:
    """Why this mutant may survive, or None where it must be noticed."""
    return next((why for part, why in EXPLAINED.items() if mutant.name.startswith(part)), None)
