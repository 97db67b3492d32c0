"""Which tests are shown the mutants of a module: those that are about it, and quick.

A check that only a distant test notices, such as a whole network of nodes, is not pinned down: who
breaks it learns it late. So mutants are shown to the tests named here (to all by `--tests tests`);
the first prefix that fits a file counts.
"""

from __future__ import annotations

from collections.abc import Iterable

_RECORDS = tuple(
    f"tests/contracts/test_{name}.py"
    for name in (
        "recognition",
        "registry",
        "routing",
        "path",
        "outcomes",
        "policy",
        "policy_examples",
        "payloads",
        "codes",
        "base",
    )
)
_MONEY = tuple(
    f"tests/contracts/test_{name}.py"
    for name in (
        "escrow",
        "audit",
        "settlement",
        "netting",
        "itemised",
        "retry",
        "telling",
        "able",
        "money_payloads",
        "base",
    )
)
_BUNDLES = (
    "tests/test_bundle.py",
    "tests/test_bundle_writer.py",
    "tests/test_bundle_witnesses.py",
    "tests/test_entries.py",
)
_CHANNEL = (
    "tests/test_channel.py",
    "tests/test_channel_payloads.py",
    "tests/test_channel_model.py",
    "tests/test_sent.py",
    "tests/test_entries.py",
)
NEAR: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("relay/light/", ("tests/light", "tests/test_sent.py")),
    ("relay/packet_rows", _CHANNEL),
    ("relay/packet", ("tests/test_packet.py", "tests/test_packet_bytes.py")),
    ("relay/bundle", _BUNDLES),
    ("relay/channel", _CHANNEL),
    ("relay/contracts/recognition/", _RECORDS),
    ("relay/contracts/registry/", _RECORDS),
    ("relay/contracts/policy/", _RECORDS),
    ("relay/contracts/codes", _RECORDS),
    ("relay/contracts/escrow/calls", (*_MONEY, "tests/adapters/evm/test_books_fold.py")),
    ("relay/contracts/escrow/", _MONEY),
    ("relay/contracts/settlement/", _MONEY),
    ("relay/contracts/accounts", _MONEY),
    ("relay/contracts/quotes", _MONEY),
    ("relay/contracts/undelivered", ("tests/contracts/test_undelivered.py",)),
    ("relay/contracts/", tuple(dict.fromkeys((*_RECORDS, *_MONEY)))),
    ("adapters/cometbft/", ("tests/adapters/cometbft",)),
    ("adapters/evm/", ("tests/adapters/evm",)),
)


def near(files: Iterable[str]) -> tuple[str, ...]:
    """The tests for the mutants of these files, each once."""
    found: dict[str, None] = {}
    for file in files:
        tests = next((tests for prefix, tests in NEAR if file.startswith(prefix)), ("tests",))
        found |= dict.fromkeys(tests)
    return tuple(found)
