"""The file by which a relay is joined to a chain of another kind: `lianqiao connect --chain FILE`.

TOML. It says how the chain is reached, and what an operator pins of it after comparing a header
with the chain's own operators by other means:

    adapter = "cometbft"                # entry point in the group lianqiao.chains
    address = "127.0.0.1:26657"         # HOST:PORT; what it is, the adapter's README says
    chain_id = "zj-medical"             # as the chain's headers say it
    algorithm = "ed25519-zip215"        # the one signature algorithm that is counted
    proof_kind = "journal"              # how its state is proven
    trusted_height = 12
    trusted_hash = "0F3A…"              # 64 hex digits
    trusting_days = 14                  # how long a header can be built upon
    # client_type = "cometbft"          # entry point in lianqiao.clients; the adapter's name
    # clock_drift_seconds = 10
    # threshold = { numerator = 2, denominator = 3, strict = true }
    # trust_level = { numerator = 1, denominator = 3, strict = true }
    # assurance = "…"                   # in words, what a verified header means
    # node = "127.0.0.1:7101"           # where the chain's own lianqiao API answers, if it has one
    # counterparty = "relay-0"          # else: the chain's own client that follows the relay
    # lane = false                      # follow the chain only, and carry no packets
    # [parameters]                      # what the adapter's family pins beside (its README)
    # [settings]                        # what the adapter needs beside the address
    # rpc = "127.0.0.1:26667,127.0.0.1:26677"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relay.cli.options import read_file
from relay.config import MAX_SETTINGS, Address, Algorithm, Id, SettingName, SettingValue
from relay.errors import Malformed, Reason
from relay.light.states import (
    MAX_CHAIN_ID_BYTES,
    MAX_CLOCK_DRIFT,
    MAX_PARAMETERS,
    MAX_THRESHOLD,
)
from relay.light.types import DAY, DEFAULT_CLOCK_DRIFT, MAX_INT, ClientState, Threshold

MAX_FILE_BYTES = 64 * 1024
_ASCII = r"^[!-~]+$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ThresholdSection(_Section):
    """`relay.light.types.Threshold`, every field stated."""

    numerator: int = Field(ge=1, le=MAX_THRESHOLD)
    denominator: int = Field(ge=1, le=MAX_THRESHOLD)
    strict: bool

    @property
    def value(self) -> Threshold:
        """The threshold."""
        return Threshold(self.numerator, self.denominator, self.strict)


class ChainFile(_Section):
    """What the file says (module docstring)."""

    adapter: Id
    address: Address
    client_type: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    chain_id: str = Field(min_length=1, max_length=MAX_CHAIN_ID_BYTES, pattern=_ASCII)
    algorithm: Algorithm
    tree_hash: Algorithm = "sha256"
    proof_kind: Algorithm
    threshold: ThresholdSection = ThresholdSection(numerator=2, denominator=3, strict=True)
    trust_level: ThresholdSection = ThresholdSection(numerator=1, denominator=3, strict=True)
    trusted_height: int = Field(ge=1, le=MAX_INT)
    trusted_hash: str = Field(pattern=r"^[0-9A-Fa-f]{64}$")
    trusting_days: int = Field(ge=1, le=3650)
    clock_drift_seconds: int = Field(DEFAULT_CLOCK_DRIFT, ge=0, le=MAX_CLOCK_DRIFT)
    assurance: str = Field("", max_length=512, pattern=r"^[ -~]*$")
    node: Address | None = None
    counterparty: Id | None = None
    lane: bool = True
    parameters: dict[str, str] = Field({}, max_length=MAX_PARAMETERS)
    settings: Annotated[dict[SettingName, SettingValue], Field(max_length=MAX_SETTINGS)] = {}

    @property
    def state(self) -> ClientState:
        """What the relay pins."""
        share = f"{self.threshold.numerator}/{self.threshold.denominator}"
        quorum = f"more than {share} of the power" if self.threshold.strict else f"{share}"
        return ClientState(
            client_type=self.client_type or self.adapter,
            chain_id=self.chain_id,
            algorithm=self.algorithm,
            tree_hash=self.tree_hash,
            proof_kind=self.proof_kind,
            threshold=self.threshold.value,
            trust_level=self.trust_level.value,
            trusting_period=self.trusting_days * DAY,
            clock_drift=self.clock_drift_seconds,
            assurance=self.assurance
            or f"signed by {quorum} of the validators of {self.chain_id}"[:512],
            parameters=tuple(sorted(self.parameters.items())),
        )

    @property
    def adapter_settings(self) -> dict[str, str]:
        """What the adapter is told."""
        return {**self.settings, "address": self.address}


def read_chain_file(path: Path) -> ChainFile:
    """The file, every key known. Raises Malformed(CONFIG_INVALID)."""
    raw = read_file(path, MAX_FILE_BYTES)
    try:
        chain = ChainFile(**tomllib.loads(raw.decode()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])[:64]
        raise _invalid(path, f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
    except UnicodeDecodeError as error:
        raise _invalid(path, f"is not UTF-8 at byte {error.start}") from None
    except (tomllib.TOMLDecodeError, RecursionError, TypeError) as error:
        raise _invalid(path, f"is not TOML: {str(error)[:200]}") from None
    if chain.node is not None and chain.counterparty is not None:
        raise _invalid(
            path, "give node or counterparty, not both: the node is asked for its client"
        )
    return chain


def _invalid(path: Path, detail: str) -> Malformed:
    return Malformed(
        f"{path}: {detail}",
        reason=Reason.CONFIG_INVALID,
        hint="lianqiao connect --help; adapters/<name>/README.md shows a whole file",
        file=path,
    )
