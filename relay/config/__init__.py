"""One TOML file a node: read once at start, frozen, refused where anything in it is unknown.

    lianqiao serve --config FILE

What stands in the file decides; a variable of the environment that begins with LIANQIAO_ replaces
one value (`LIANQIAO_LISTEN=127.0.0.1:7102`, `LIANQIAO_LOG__LEVEL=debug`). Relative paths are
relative to the file, wherever the program is started. Secrets are never in the file: keys are given
by path, and a database address that holds a password is refused.

Every mistake is `CONFIG_INVALID` with the key, the file and, for a key that is unknown, the nearest
one that is known. `deploy/*.example.toml` are loaded by the tests.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from relay.config.mistakes import explain, first_line, invalid
from relay.config.sections import (
    MAX_SETTINGS,
    LaneConfig,
    LogConfig,
    ValidatorConfig,
    VaultConfig,
    WitnessConfig,
    WitnessPeerConfig,
)
from relay.config.values import (
    Address,
    Algorithm,
    Database,
    Id,
    Listen,
    SettingName,
    SettingValue,
    check_address,
    check_id,
    check_listen,
    split_address,
)
from relay.errors import LianqiaoError
from relay.light.keys import check_public_key
from relay.light.states import MAX_WITNESSES
from relay.light.types import MAX_VALIDATORS, Witness

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_SETTINGS",
    "Address",
    "Algorithm",
    "Config",
    "Id",
    "LaneConfig",
    "LogConfig",
    "SettingName",
    "SettingValue",
    "ValidatorConfig",
    "check_address",
    "check_id",
    "check_listen",
    "load",
    "split_address",
]

MAX_FILE_BYTES = 1024 * 1024
MAX_LANES = 64
ENVIRONMENT_PREFIX = "LIANQIAO_"
ROLE_CONTRACTS = {"ledger": ("registry", "escrow"), "relay": ("recognition", "settlement")}


class Config(BaseSettings):
    """Everything a node is told. Made by `load` alone."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    chain_id: Id
    """Global id of this chain, for ever. Other chains pin it together with the epoch."""
    epoch: int = Field(0, ge=0, le=2**31 - 1)
    """Raised by the operators when a journal was lost for good and began anew."""
    role: Literal["ledger", "relay"]
    """`ledger` runs the registry of records, `relay` decides recognition and runs lanes."""
    data: Path = Path(".")
    """Directory of everything this node writes; one node a directory."""
    database: Database = ""
    """File, or address without a password. Default: `node.db` in `data`."""
    listen: Listen = "127.0.0.1:7100"
    """IP address and port to serve on; loopback only. Port 0 takes a free one."""
    tick_seconds: int = Field(60, ge=1, le=86_400)
    """A head older than this is renewed, so that it is never too old for those who verify it."""
    validators: tuple[ValidatorConfig, ...] = Field(min_length=1, max_length=MAX_VALIDATORS)
    """This chain's validator set, every key of it in this process."""
    vault: VaultConfig | None = None
    """Ledgers only, and required there."""
    lanes: tuple[LaneConfig, ...] = Field((), max_length=MAX_LANES)
    """Relays only: chains served from the start. `lianqiao connect` adds others while it runs."""
    witness: WitnessConfig | None = None
    """Absent: this node is nobody's witness."""
    witnesses: tuple[WitnessPeerConfig, ...] = Field((), max_length=MAX_WITNESSES)
    """Who co-signs the heads of this node."""
    witness_quorum: int = Field(0, ge=0, le=MAX_WITNESSES)
    """So many of them must have co-signed a head before others are shown it. 0: shown at once."""
    contracts: tuple[Id, ...] = Field((), max_length=64)
    """Ports of the contracts that run here. Default: those of the role (ROLE_CONTRACTS)."""
    engine: Id = "journal"
    """Entry point in the group `lianqiao.engines`: what serves and extends the journal."""
    engine_settings: dict[Id, str | int] = Field({}, max_length=32)
    """What that engine is told; it says itself what it knows."""
    log: LogConfig = LogConfig()
    """How to log."""
    reflection: bool = True
    """Whether gRPC reflection answers, for tools such as grpcurl."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then what `load` read from the file."""
        return (env_settings, init_settings)

    @model_validator(mode="after")
    def _check_whole(self) -> Config:
        names = [v.name for v in self.validators]
        files = [path for v in self.validators for path in v.keys.values()]
        files += self.witness.keys.values() if self.witness else ()
        for what, values in (("validators", names), ("key files", files)):
            if len(set(values)) != len(values):
                raise ValueError(f"two {what} are the same: each signer has a name and keys")
        self._check_witnesses()
        if self.role == "ledger" and self.vault is None:
            raise ValueError("a ledger needs a [vault] with the file of its key")
        if self.role == "ledger" and self.lanes:
            raise ValueError("only a relay runs lanes; remove [[lanes]]")
        if self.role == "relay" and self.vault is not None:
            raise ValueError("a relay keeps no originals; remove [vault]")
        return self

    def _check_witnesses(self) -> None:
        """Raises ValueError."""
        names = [witness.name for witness in self.witnesses]
        if len(set(names)) != len(names) or len({w.key for w in self.witnesses}) != len(names):
            raise ValueError("two witnesses are the same: each has a name and a key")
        if self.witness_quorum > len(names):
            raise ValueError(
                f"witness_quorum is {self.witness_quorum}, and there are {len(names)} witnesses"
            )
        for witness in self.witnesses:
            try:
                check_public_key(witness.pinned.algorithm, witness.pinned.key)
            except (LianqiaoError, ValueError) as error:
                raise ValueError(f"the key of witness {witness.name}: {error}") from None

    @property
    def shown(self) -> tuple[tuple[Witness, ...], int]:
        """Witnesses in order of name, and how many must have co-signed what others are shown."""
        pinned = (witness.pinned for witness in self.witnesses)
        return tuple(sorted(pinned, key=lambda witness: witness.name)), self.witness_quorum

    @property
    def witness_folder(self) -> Path:
        """Where this node as a witness keeps what it has signed: beside its key and not beside
        the database, so that an old copy of the one does not take the other back."""
        assert self.witness is not None
        return next(iter(self.witness.keys.values())).parent / f"{self.witness.name}.witness"

    @property
    def database_url(self) -> str:
        """The database as SQLAlchemy addresses it."""
        if "://" in self.database:
            return self.database
        return f"sqlite:///{self.database_file}"

    @property
    def database_file(self) -> Path | None:
        """The database where it is a file of this machine, else None."""
        if "://" in self.database:
            return None
        return Path(self.database) if self.database else self.data / "node.db"

    @property
    def mark_file(self) -> Path:
        """The high-water mark: beside the first signing key and not beside the database, so that a
        backup of the one restored without the other is noticed."""
        first = next(iter(self.validators[0].keys.values()))
        return first.parent / f"{self.chain_id}.{self.epoch}.mark"

    @property
    def ports(self) -> tuple[str, ...]:
        """Ports of the contracts that run here."""
        return self.contracts or ROLE_CONTRACTS[self.role]


def load(path: Path) -> Config:
    """The configuration in a file, its paths absolute.

    Raises Malformed(CONFIG_INVALID).
    """
    values = _read(path)
    try:
        config = Config(**values)
    except ValidationError as error:
        raise explain(error, path, Config) from None
    except ValueError as error:  # a variable of the environment that cannot be read
        raise invalid(path, first_line(error)) from None
    return _absolute(config, path.absolute().parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise invalid(
            path, f"cannot be read: {error.strerror}", "lianqiao init makes a directory with one"
        ) from None
    if len(raw) > MAX_FILE_BYTES:
        raise invalid(path, f"is larger than {MAX_FILE_BYTES} bytes")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise invalid(path, "begins with a byte order mark", "save it as UTF-8 without BOM")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise invalid(path, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise invalid(path, f"is not TOML: {error}") from None
    except RecursionError:
        raise invalid(path, "is nested too deeply") from None


def _absolute(config: Config, base: Path) -> Config:
    """The same with every path absolute, relative ones taken from the file's directory."""
    database = config.database
    if database and "://" not in database:
        database = str(base / database)
    vault = config.vault
    if vault is not None:
        vault = vault.model_copy(
            update={"directory": base / vault.directory, "key": base / vault.key}
        )
    validators = tuple(
        v.model_copy(update={"keys": {name: base / key for name, key in v.keys.items()}})
        for v in config.validators
    )
    witness = config.witness
    if witness is not None:
        keys = {name: base / key for name, key in witness.keys.items()}
        witness = witness.model_copy(update={"keys": keys})
    return config.model_copy(
        update={
            "data": base / config.data,
            "database": database,
            "vault": vault,
            "validators": validators,
            "witness": witness,
        }
    )
