"""What reaches a replicated node before anybody has signed for it: transactions, founding files."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.cometbft.engine.asked import Asked, decode_asked, encode_asked
from adapters.cometbft.engine.genesis import Genesis, decode_genesis, encode_genesis
from adapters.cometbft.engine.home import Join, decode_join, encode_join
from relay.light.wire import Writer
from tests.fuzz.target import Target
from tests.test_actions import EVERY
from tests.world import keys_of, set_of

MAX_SIGNATURE = 512


def targets() -> tuple[Target, ...]:
    """Every decoder of the engine."""
    return (
        Target("chain transaction", decode_asked, transactions, _again),
        Target("chain genesis", decode_genesis, genesis),
        Target("join", decode_join, joins),
    )


def transactions() -> Sequence[bytes]:
    """Every action, signed by an operator."""
    (key,) = keys_of("operator", 1)
    return [
        encode_asked("hub/0", "operator-0", key, 1_800_000_000, bytes([n]) * 16, action)
        for n, action in enumerate(EVERY)
    ]


def _again(asked: Asked) -> bytes:
    """There is one encoding, or an action could be asked for twice under one nonce."""
    return asked.signed + Writer().data(asked.signature, MAX_SIGNATURE).done()


def genesis() -> Sequence[bytes]:
    """As it stands in CometBFT's genesis file."""
    operators = set_of(keys_of("operator"), "operator")
    return [encode_genesis(Genesis(role, operators, 3)) for role in ("relay", "ledger")]


def joins() -> Sequence[bytes]:
    """As `init` writes it."""
    join = Join(
        "hub/0", "relay", "zj", "ed25519:" + "ab" * 32, "cd" * 32, "ef" * 20,
        "10.1.0.1:26656", 1_800_000_000,
    )  # fmt: skip
    return [encode_join(join)]
