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

import ipaddress
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from relay.errors import LianqiaoError, Malformed, Reason
from relay.light.keys import check_public_key
from relay.light.states import MAX_WITNESSES
from relay.light.types import MAX_VALIDATORS, Witness

MAX_FILE_BYTES = 1024 * 1024
MAX_LANES = 64
MAX_SETTINGS = 16
ENVIRONMENT_PREFIX = "LIANQIAO_"
ROLE_CONTRACTS = {"ledger": ("registry", "escrow"), "relay": ("recognition", "settlement")}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID_RULE = "must be 1-64 letters, digits, '.', '_' or '-', beginning with a letter or digit"


def check_id(value: str) -> str:
    """A chain id, validator name or client id. Raises ValueError."""
    if not _ID.fullmatch(value):
        raise ValueError(_ID_RULE)
    return value


def check_listen(value: str) -> str:
    """`host:port` of this machine's loopback interface. Raises ValueError.

    Who may call is decided by certificates later; until then nobody from elsewhere can.
    """
    host, port = split_address(value)
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"{value} is not a loopback address; use 127.0.0.1:{port}, and an SSH tunnel to reach "
            "it from elsewhere"
        )
    return value


def check_address(value: str) -> str:
    """`host:port` of a node, not port 0. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and _is_port(port) and int(port)) or not value.isprintable():
        raise ValueError("must be HOST:PORT")
    return value


def split_address(value: str) -> tuple[str, int]:
    """Host without brackets, and port, of `127.0.0.1:7101`, `localhost:0` or `[::1]:7101`.

    Raises ValueError.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not _is_port(port):
        raise ValueError("must be an IP address and a port, such as 127.0.0.1:7101")
    if host == "localhost":
        return host, int(port)
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port)
    except ValueError as error:
        raise ValueError("must be an IP address and a port, such as 127.0.0.1:7101") from error


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable text")
    return value


def _no_address(value: str) -> str:
    if value == "address":
        raise ValueError("the address stands beside the settings")
    return value


def _check_database(value: str) -> str:
    if "://" not in value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("postgresql", "postgresql+psycopg"):
        raise ValueError("must be a file (SQLite), or an address postgresql://USER@HOST/NAME")
    if parts.password:
        raise ValueError("must not hold a password; use a password file (PGPASSFILE)")
    return value


Id = Annotated[str, AfterValidator(check_id)]
Listen = Annotated[str, Field(max_length=64), AfterValidator(check_listen)]
Address = Annotated[str, Field(max_length=256), AfterValidator(check_address)]
Database = Annotated[str, Field(max_length=1024), AfterValidator(_check_database)]
Algorithm = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
SettingName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$"), AfterValidator(_no_address)]
SettingValue = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]


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


class WitnessPeerConfig(_Section):
    """One witness that is asked to co-sign every head of this node."""

    name: Id
    """Key name on its signature lines."""
    address: Address
    """HOST:PORT of the node that is the witness."""
    key: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}:[0-9a-f]{2,512}$")]
    """Algorithm, colon, public key in hex, as `lianqiao status` of that node shows it."""

    @property
    def pinned(self) -> Witness:
        """Name, algorithm, key."""
        algorithm, _, key = self.key.partition(":")
        return Witness(self.name, algorithm, bytes.fromhex(key))


class LogConfig(_Section):
    """One line a call and a tick, on standard error; never any patient data."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable on a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""


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
                f"witness_quorum is {self.witness_quorum}, and there are {len(names)} [[witnesses]]"
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
        raise _explain(error, path) from None
    except ValueError as error:  # a variable of the environment that cannot be read
        raise _invalid(path, _first_line(error)) from None
    return _absolute(config, path.absolute().parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _invalid(
            path, f"cannot be read: {error.strerror}", "lianqiao init makes a directory with one"
        ) from None
    if len(raw) > MAX_FILE_BYTES:
        raise _invalid(path, f"is larger than {MAX_FILE_BYTES} bytes")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise _invalid(path, "begins with a byte order mark", "save it as UTF-8 without BOM")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _invalid(path, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _invalid(path, f"is not TOML: {error}") from None
    except RecursionError:
        raise _invalid(path, "is nested too deeply") from None


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


# --- mistakes


def _invalid(path: Path, detail: str, hint: str = "", key: str = "") -> Malformed:
    hint = hint or "deploy/*.example.toml show every key"
    return Malformed(
        f"{path}: {detail}", reason=Reason.CONFIG_INVALID, hint=hint, file=path, key=key
    )


def _explain(error: ValidationError, path: Path) -> Malformed:
    """The first mistake, an unknown key before others, since it is often their cause."""
    found = error.errors(include_url=False, include_input=False)
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    location = first["loc"]
    key = _name(location)
    if first["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return _invalid(path, f"unknown key {key}", hint, key)
    if first["type"] == "missing":
        return _invalid(path, f"{key} is missing", key=key)
    text = first["msg"].removeprefix("Value error, ")
    return _invalid(path, f"{key}: {text}" if key else text, key=key)


def _name(location: tuple[str | int, ...]) -> str:
    """`validators[0].power`, as a reader of the file would say it; at most 100 characters."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".").replace("\n", " ")[:100]


_SECTIONS: dict[str, type[BaseModel]] = {
    "validators": ValidatorConfig,
    "vault": VaultConfig,
    "lanes": LaneConfig,
    "witness": WitnessConfig,
    "witnesses": WitnessPeerConfig,
    "log": LogConfig,
}


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    section = _SECTIONS.get(str(location[0])) if location else None
    return list((section or Config).model_fields)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
