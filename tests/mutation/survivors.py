"""The mutants that no test can notice, each with the reason why that is no gap.

An entry is a part of a mutant's name (`file::function::kind::check`), and the reason. A mutant that
is noticed after all, or that is not there any more, must leave the list: a test says so.
"""

from __future__ import annotations

from tests.mutation.mutants import Mutant

_FASTER = "only reads ahead, in one statement, what is read one by one where it was not"
_LIBRARY = "the library installed today refuses it as well; the written rule stands before any"
_BELT = "nothing is staged where a refusal is raised today; undoing it is for those of tomorrow"

EXPLAINED: dict[str, str] = {
    "relay/channel.py::_prefetch::": _FASTER,
    "relay/channel.py::Channel.deliver::skip::_prefetch(tx, delivery)": _FASTER,
    "relay/channel.py::Channel.deliver::skip::self.clients.load(tx, client_id)": (
        "the client is loaded again below; here its absence is told before headers are decoded"
    ),
    "relay/channel.py::Channel.deliver::skip::tx.rollback(mark) #2": _BELT,
    "relay/channel.py::Channel._take_sent::skip::tx.rollback(mark)": _BELT,
    "relay/channel.py::_why::skip::_log.error": "a line of the log for the operator, no effect",
    "relay/light/keys.py::_verify_ed25519::never::len(signature) != 64": _LIBRARY,
    "relay/light/keys.py::_verify_ed25519::never::int.from_bytes(signature[32:]": _LIBRARY,
    "relay/light/keys.py::_verify_ed25519::drop::y >= _P25519": _LIBRARY,
    "relay/light/keys.py::_load_ec::drop::": _LIBRARY,
    "relay/light/keys.py::_ecdsa::drop::not 1 <= r < order": _LIBRARY,
    "relay/bundle_format.py::encode_bundle::skip::decode_bundle(raw)": (
        "what the writer makes is read back before it leaves; nothing that it makes is refused"
    ),
}


def explained(mutant: Mutant) -> str | None:
    """Why this mutant may survive, or None where it must be noticed."""
    return next((why for part, why in EXPLAINED.items() if mutant.name.startswith(part)), None)
