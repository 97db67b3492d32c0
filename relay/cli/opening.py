"""A node's own files, opened in the order in which mistakes are best explained.

Config → lock → keys → database → contracts. Only `init`, `serve`, `migrate` and `fsck` come here;
every other command asks a node.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relay.errors import Invalid, LianqiaoError, Malformed, NotFound, Reason, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from relay.config import Config, ValidatorConfig
    from relay.keys import SigningKey
    from relay.light.types import ValidatorSet
    from relay.node import Node
    from relay.store import Store
    from relay.witness import Witness

_SQLITE = b"SQLite format 3\x00"
_RESTORE = "restore it from its backup: a new key is another signer, whom nobody has pinned"
Signers = list[tuple[str, "SigningKey"]]


@contextmanager
def only_process(config: Config) -> Iterator[None]:
    """Holds the data directory for one process. Raises Refused(CONFLICT) where another has it."""
    path = config.data / "node.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Malformed(
            f"{path}: {error.strerror}",
            reason=Reason.CONFIG_INVALID,
            hint="`data` must be a directory that this user can write; lianqiao init makes one",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(
                Reason.CONFLICT,
                f"another process serves {config.data}",
                hint="one node a directory: stop the other one first",
            ) from None
        yield
    finally:
        os.close(descriptor)


def load_signers(config: Config) -> Signers:
    """(validator name, key) of every key file. Raises CONFIG_INVALID, naming the file."""
    return [
        (validator.name, key)
        for validator in config.validators
        for key in _load_keys(f"validator {validator.name}", validator.keys)
    ]


def open_witness(config: Config, node: Node) -> Witness | None:
    """This node as a witness; None without [witness]. Raises CONFIG_INVALID, naming the file."""
    from relay.witness import Witness

    if config.witness is None:
        return None
    name = config.witness.name
    keys = _load_keys(f"witness {name}", config.witness.keys)
    return Witness(node, name, keys, config.witness_folder)


def _load_keys(owner: str, files: Mapping[str, Path]) -> list[SigningKey]:
    from relay.keys import SigningKey

    keys = []
    for algorithm, path in files.items():
        try:
            key = SigningKey.load(path)
        except LianqiaoError as error:
            hint = error.hint or "the key file is named in the configuration"
            raise Malformed(
                f"{owner}: {error.detail}",
                reason=Reason.CONFIG_INVALID,
                hint=_RESTORE if isinstance(error, NotFound) else hint,
            ) from None
        if key.algorithm != algorithm:
            raise Malformed(
                f"{owner}: {path} holds a key of {key.algorithm}, "
                f"the configuration says {algorithm}",
                reason=Reason.CONFIG_INVALID,
                hint=f"write {key.algorithm} = … or name another file",
            )
        keys.append(key)
    return keys


def set_of(validators: tuple[ValidatorConfig, ...], signers: Signers) -> ValidatorSet:
    """The validator set that these names, powers and keys make. Raises Malformed, WEAK_KEY."""
    from relay.light.types import Validator
    from relay.light.validators import validator_set

    keys: dict[str, list[tuple[str, bytes]]] = {}
    for name, key in signers:
        keys.setdefault(name, []).append((key.algorithm, key.public))
    return validator_set(
        [Validator(v.name, v.power, tuple(sorted(keys[v.name]))) for v in validators]
    )


def open_store(config: Config) -> Store:
    """The database, which must be there.

    Raises NotFound(NOT_FOUND), Invalid(JOURNAL_CORRUPT), Unavailable(DATABASE_UNREACHABLE).
    """
    from relay.store import Store

    file = config.database_file
    if file is not None and not file.is_file():
        raise NotFound(
            Reason.NOT_FOUND,
            f"no database {file}",
            hint="lianqiao init makes a directory with one; `database` in the config names it",
        )
    if file is not None:
        with file.open("rb") as opened:
            if opened.read(len(_SQLITE)) != _SQLITE:
                raise Invalid(
                    Reason.JOURNAL_CORRUPT,
                    f"{file} is not a database",
                    hint="restore it from the newest backup; keep this file as evidence",
                )
    store = Store(config.database_url)
    try:
        with store.read():
            return store
    except BaseException:
        store.close()
        raise


def open_node(config: Config, clock: Callable[[], int]) -> Node:
    """The node of a configuration, its files checked against each other.

    Raises CONFIG_INVALID, NOT_FOUND, WRONG_SCHEMA, WRONG_CHAIN, JOURNAL_CORRUPT, STALE_RESTORE.
    """
    from relay.light.validators import set_hash
    from relay.node import Node
    from relay.registry import client_types, contracts_on
    from relay.signing import CheckpointSigner, HighWaterMark
    from relay.store.cosignatures import Shown
    from relay.store.damage import check_whole

    signers = load_signers(config)
    validators = set_of(config.validators, signers)
    contracts = contracts_on(config.ports)
    store = open_store(config)
    try:
        check_configured(store, config)
        with store.read() as connection:
            check_whole(connection)
        node = Node(
            chain_id=config.chain_id,
            role=config.role,
            store=store,
            signer=CheckpointSigner(signers, HighWaterMark(config.mark_file)),
            client_types=client_types(),
            contracts=contracts,
            clock=clock,
            epoch=config.epoch,
            tick_seconds=config.tick_seconds,
            shown=Shown(*config.shown),
        )
        if node.head.next_set_hash != set_hash(validators):
            raise Malformed(
                "the configured validators are not the set in force on the journal",
                reason=Reason.CONFIG_INVALID,
                hint="names, powers and keys must be those of the set that was announced last",
            )
    except BaseException:
        store.close()
        raise
    return node


def check_configured(store: Store, config: Config) -> None:
    """Raises WRONG_SCHEMA, WRONG_CHAIN, and CONFIG_INVALID where the database was made with another
    role or epoch."""
    store.check(config.chain_id)
    _check_written(store.meta("role"), config.role, "role")
    _check_written(store.meta("epoch"), str(config.epoch), "epoch")


def _check_written(written: str | None, configured: str, what: str) -> None:
    if written is not None and written != configured:
        raise Malformed(
            f"the database was made with {what} {written}, the configuration says {configured}",
            reason=Reason.CONFIG_INVALID,
            hint=f"correct `{what}`, or name the database that belongs to it",
        )
