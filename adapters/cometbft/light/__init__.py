"""The light client for CometBFT chains, as the entry point `lianqiao.clients: cometbft` names it.

    proto        the protobuf wire format, strictly
    block        header, commit, votes: encoding, hashes, sign bytes, rules
    validators   validator sets, addresses, kinds of keys
    zip215       the signature algorithm `ed25519-zip215`
    client       the client type: what a raw header is
    bisection    which headers lead a client from one height to another
    proofs       kinds of proof: `journal`, `ics23`, `tx`
    ics23_ops    one step of an ICS-23 proof, and the specifications of trees
    ics23        existence and absence
    txproof      transactions of a block and their results

Pure: plain values and `now`. `relay.light` decides what a header is worth.
"""

from __future__ import annotations

from adapters.cometbft.light.client import COMETBFT
from relay.light.types import ClientType

CLIENT: ClientType = COMETBFT
