"""The sections of a configuration: validators, vault, lanes, witnesses, log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relay.config.values import (
    Address,
    Algorithm,
    Id,
    Listen,
    SettingName,
    SettingValue,
    Signer,
    WitnessAddress,
)
from relay.errors import Malformed
from relay.light.note import decode_verifier_key
from relay.light.types import Witness

MAX_SETTINGS = 16
_MAX_LINE = 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ValidatorConfig(_Section):
    """One voice of this chain's validator set, with the files of the private keys held here."""

    name: Id
    """Unique in the set; also the key name on signed checkpoints."""
    power: int = Field(1, ge=1, le=2**32)
    """Voting power. A quorum is more than two thirds of the sum."""
    keys: dict[Algorithm, Path] = Field(min_length=1, max_length=8)
    """Algorithm (`ed25519`, `secp256k1`, `p256`) to PEM file of mode 0600."""


class VaultConfig(_Section):
    """Where a ledger keeps the originals of its records, encrypted."""

    directory: Path = Path("vault")
    """Directory of the encrypted parts."""
    key: Path
    """File of the key, mode 0600. Without it no original can be read again."""


class LaneConfig(_Section):
    """One chain that this relay serves: how to reach it. What is trusted is in the client."""

    adapter: Id = "lianqiao"
    """Entry point in the group `lianqiao.chains`."""
    address: Address
    """HOST:PORT of a node of that chain."""
    client: Id
    """This relay's client of that chain, such as `checkpoint-0`."""
    settings: dict[SettingName, SettingValue] = Field({}, max_length=MAX_SETTINGS)
    """What the adapter needs beside the address; its README names them. Files by their names here,
    never secrets themselves."""

    @property
    def ordered(self) -> tuple[tuple[str, str], ...]:
        """The settings in ascending order of name."""
        return tuple(sorted(self.settings.items()))


class WitnessConfig(_Section):
    """The keys by which this node co-signs heads of the chains that it follows."""

    name: Id
    """Key name on its signature lines; others pin it together with the key."""
    keys: dict[Algorithm, Path] = Field(min_length=1, max_length=8)
    """Algorithm to PEM file of mode 0600. What it has signed is kept beside the first."""
    http: Listen | None = None
    """Loopback address and port of the C2SP witness protocol over HTTP; absent: gRPC alone."""


class WitnessPeerConfig(_Section):
    """One witness that is asked to co-sign every head of this node: a table, or one line
    `NAME ALGORITHM:KEY ADDRESS`, or `NAME+HASH+KEY ADDRESS` with the verifier key of C2SP."""

    name: Signer
    """Key name on its signature lines."""
    address: WitnessAddress
    """HOST:PORT of the node that is the witness, or http(s)://HOST[:PORT][/PATH] of any witness
    that speaks the C2SP protocol."""
    key: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}:[0-9a-f]{2,512}$")]
    """Algorithm, colon, public key in hex, as `lianqiao status` of that node shows it."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_line(cls, value: Any) -> Any:
        return _witness_fields(value) if isinstance(value, str) else value

    @property
    def pinned(self) -> Witness:
        """Name, algorithm, key."""
        algorithm, _, key = self.key.partition(":")
        return Witness(self.name, algorithm, bytes.fromhex(key))


def _witness_fields(line: str) -> dict[str, str]:
    """What a line says of a witness. Raises ValueError."""
    words = line.split() if len(line) <= _MAX_LINE else []
    if len(words) == 2:
        try:
            name, key = decode_verifier_key(words[0])
        except Malformed as error:
            raise ValueError(error.detail) from None
        words[:1] = name, f"ed25519:{key.hex()}"
    if len(words) != 3:
        raise ValueError("must be NAME ALGORITHM:KEY ADDRESS, as `lianqiao witness` prints it")
    return dict(zip(("name", "key", "address"), words, strict=True))


class LogConfig(_Section):
    """One line a call and a tick, on standard error; never any patient data."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable on a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""


SECTIONS: dict[str, type[BaseModel]] = {
    "validators": ValidatorConfig,
    "vault": VaultConfig,
    "lanes": LaneConfig,
    "witness": WitnessConfig,
    "witnesses": WitnessPeerConfig,
    "log": LogConfig,
}
