"""The validators that make blocks of a replicated chain, as its journal holds them.

Each change is an entry that holds the whole table, so the last one says who is in force next. A
change that an engine could not carry out (a removal of nobody, the removal of all) is refused here,
before it is decided.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.channel import Channel
from relay.errors import Malformed, NotFound, Reason, Refused
from relay.light.keys import check_public_key
from relay.light.wire import Reader, Writer
from relay.packet import be64
from relay.paths import Kind, host_path
from relay.store import Transaction

MAX_VALIDATORS = 100
MAX_POWER = 2**32
MAX_CHANGES = 10_000
ALGORITHMS = ("ed25519",)
"""What the genesis of a chain of ours allows (`pub_key_types`). CometBFT stops for good at a block
that gives a validator another kind of key, and clients count one kind."""


@dataclass(frozen=True, slots=True)
class Power:
    """What one validator's voice weighs."""

    algorithm: str
    key: bytes
    power: int
    """0 to 2^32; 0 removes it."""


@dataclass(frozen=True, slots=True)
class ChangePowers:
    """Gives validators other powers, or adds or removes them."""

    powers: tuple[Power, ...]

    def apply(self, channel: Channel, tx: Transaction, now: int) -> tuple[Power, ...]:
        """The changes, for the engine to carry out.

        Raises Malformed, Invalid(WEAK_KEY), NotFound(NOT_FOUND) for a removal of nobody,
        Refused(LIMIT_EXCEEDED) where nobody would be left, or too many.
        """
        check_powers(self.powers)
        table = {(p.algorithm, p.key): p.power for p in current_powers(tx, channel.chain_id)}
        for one in self.powers:
            if one.power:
                table[one.algorithm, one.key] = one.power
            elif table.pop((one.algorithm, one.key), None) is None:
                raise NotFound(Reason.NOT_FOUND, "no validator has that key", key=one.key.hex())
        if not 1 <= len(table) <= MAX_VALIDATORS:
            raise Refused(Reason.LIMIT_EXCEEDED, f"a chain has 1 to {MAX_VALIDATORS} validators")
        write_powers(tx, channel.chain_id, table)
        return self.powers


def write_powers(tx: Transaction, chain_id: str, table: dict[tuple[str, bytes], int]) -> None:
    """Appends the whole table."""
    powers = tuple(Power(*key, power) for key, power in sorted(table.items()))
    tx.append(host_path(Kind.POWERS, chain_id, be64(tx.size)), encode_powers(powers))


def current_powers(tx: Transaction, chain_id: str) -> tuple[Power, ...]:
    """The last table written; empty on a chain that has none."""
    base = host_path(Kind.POWERS, chain_id)
    found = tx.scan(base, base + b"\xff" * 9, MAX_CHANGES)
    if not found:
        return ()
    reader = Reader(found[-1][1], "powers")
    powers = read_powers(reader)
    reader.end()
    return powers


def check_powers(powers: tuple[Power, ...]) -> None:
    """Raises Malformed, Invalid(WEAK_KEY)."""
    keys = [(p.algorithm, p.key) for p in powers]
    if not powers or keys != sorted(set(keys)):
        raise Malformed("powers ascend by key, each once, at least one")
    for one in powers:
        if one.algorithm not in ALGORITHMS or not 0 <= one.power <= MAX_POWER:
            raise Malformed(f"a power lies between 0 and {MAX_POWER}, of {' or '.join(ALGORITHMS)}")
        check_public_key(one.algorithm, one.key)


def encode_powers(powers: tuple[Power, ...]) -> bytes:
    """The one encoding: u32 count, then text algorithm, data key, u64 power each."""
    writer = Writer().count(len(powers), MAX_VALIDATORS)
    for one in powers:
        writer.text(one.algorithm, 32).data(one.key, 64).u64(one.power)
    return writer.done()


def read_powers(reader: Reader) -> tuple[Power, ...]:
    """Raises Malformed."""
    return tuple(
        Power(reader.text(32), reader.data(64), reader.u64())
        for _ in range(reader.count(MAX_VALIDATORS))
    )
