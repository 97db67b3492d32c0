"""What the adapter `evm` is told: the settings of a chain, read and refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from adapters.evm import calls
from adapters.evm.light.header import VARIANTS
from adapters.evm.light.parameters import hexadecimal, read_source_text
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.errors import Malformed, Reason, Refused
from relay.light.types import Witness

NAMES = {
    "address", "rpc", "endpoint", "variant", "validators", "key", "max_gas_price", "from_block",
    "witnesses", "registry", "escrow",
}  # fmt: skip
_T = TypeVar("_T")


class Settings(NamedTuple):
    """What EvmChain is made of."""

    rpc: Rpc
    endpoint: bytes
    variant: str
    source: bytes
    sender: Sender | None
    from_block: int
    witnesses: tuple[Witness, ...] = ()


def read_settings(settings: Mapping[str, str]) -> Settings:
    """What the settings of a chain name. Raises Refused(CONFIG_INVALID)."""
    unknown = sorted(set(settings) - NAMES)
    if unknown:
        raise invalid(f"the adapter evm knows no setting {unknown[0][:64]!r}")
    for name in ("address", "endpoint", "variant", "validators"):
        if name not in settings:
            raise invalid(f"the adapter evm needs the setting {name!r}")
    if settings["variant"] not in VARIANTS:
        raise invalid(f"variant is one of {', '.join(VARIANTS)}")
    source = _read(lambda: read_source_text(settings["validators"]))
    more = [one for one in settings.get("rpc", "").split(",") if one]
    rpc = Rpc([settings["address"], *more])
    sender = None
    if "key" in settings:
        price = _number(settings, "max_gas_price", 10**12)
        sender = _read(lambda: Sender(Path(settings["key"]), price))
    return Settings(
        rpc,
        _read(lambda: hexadecimal(settings["endpoint"], 20)),
        settings["variant"],
        source,
        sender,
        _number(settings, "from_block", 0),
        _read(lambda: read_witnesses(settings.get("witnesses", ""))),
    )


def read_witnesses(text: str) -> tuple[Witness, ...]:
    """Witnesses in the form of the setting. Raises Malformed."""
    found = []
    for one in filter(None, text.split(",")):
        name, _, rest = one.partition("=")
        algorithm, _, key = rest.partition(":")
        try:
            found.append(Witness(name, algorithm, bytes.fromhex(key)))
            calls.witness_address(found[-1])
        except ValueError as err:
            raise Malformed("witnesses: NAME=secp256k1:HEX, by commas") from err
    return tuple(found)


def _read(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except Malformed as err:
        raise invalid(err.detail) from err


def _number(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise invalid(f"{name} is a decimal number")
    return int(text)


def invalid(detail: str) -> Refused:
    """What is raised for settings that cannot be."""
    return Refused(Reason.CONFIG_INVALID, detail, hint="adapters/evm/README.md shows a whole file")
