"""A node's own files, opened in the order in which mistakes are best explained.

Config → lock → keys → database → contracts. Only `init`, `serve`, `migrate` and `fsck` come here;
every other command asks a node.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused

if TYPE_CHECKING:
    from relay.config import Config, ValidatorConfig
    from relay.keys import SigningKey
    from relay.light.types import ValidatorSet
    from relay.store import Store

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
    from relay.keys import SigningKey

    signers = []
    for validator in config.validators:
        for algorithm, path in validator.keys.items():
            try:
                key = SigningKey.load(path)
            except LianqiaoError as error:
                raise Malformed(
                    f"validator {validator.name}: {error.detail}",
                    reason=Reason.CONFIG_INVALID,
                    hint=error.hint or "the key file is named in the configuration",
                ) from None
            if key.algorithm != algorithm:
                raise Malformed(
                    f"validator {validator.name}: {path} holds a key of {key.algorithm}, "
                    f"the configuration says {algorithm}",
                    reason=Reason.CONFIG_INVALID,
                    hint=f"write {key.algorithm} = … or name another file",
                )
            signers.append((validator.name, key))
    return signers


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
    """The database, which must be there. Raises NotFound(NOT_FOUND)."""
    from relay.store import Store

    file = config.database_file
    if file is not None and not file.is_file():
        raise NotFound(
            Reason.NOT_FOUND,
            f"no database {file}",
            hint="lianqiao init makes a directory with one; `database` in the config names it",
        )
    return Store(config.database_url)
