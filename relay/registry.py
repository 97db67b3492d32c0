"""What is installed: client types, chain adapters, contracts and engines, by entry point.

    group               name             value
    lianqiao.clients    client type      a relay.light.types.ClientType
    lianqiao.chains     adapter          connect(settings) -> relay.chain.Chain
    lianqiao.books      client type      a relay.books.Bookkeeper, where a chain writes no records
    lianqiao.contracts  port             a relay.contract.Contract
    lianqiao.engines    engine           a callable that serves a node
    lianqiao.commands   group of them    a typer application of an adapter's own commands

This module knows names and nothing else of them: `relay` never imports `adapters`, and a name is
loaded when it is first used, so that verifying a bundle loads no SDK of a chain. Two packages that
offer one name are refused: which of them verifies must not depend on the order of a directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from relay.chain import Chain
from relay.contract import Contract
from relay.errors import LianqiaoError, NotFound, Reason, Refused
from relay.light.types import ClientType

if TYPE_CHECKING:
    from relay.books import Bookkeeper

CLIENTS, CHAINS = "lianqiao.clients", "lianqiao.chains"
CONTRACTS, ENGINES = "lianqiao.contracts", "lianqiao.engines"
COMMANDS, BOOKS = "lianqiao.commands", "lianqiao.books"

Settings = Mapping[str, str]
"""What an adapter is told, from the configuration: at least `address`."""
Connect = Callable[[Settings], Chain]
Engine = Callable[..., Any]

_T = TypeVar("_T")


class Installed(Mapping[str, _T], Generic[_T]):
    """The entry points of one group by name; loaded one at a time, when asked for."""

    def __init__(self, group: str, unknown: Reason, what: str) -> None:
        self._group = group
        self._unknown = unknown
        self._what = what
        self._points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=group):
            points = self._points.setdefault(point.name, [])
            if all(point.value != known.value for known in points):
                points.append(point)
        self._loaded: dict[str, _T] = {}

    def __getitem__(self, name: str) -> _T:
        """Raises KeyError for a name that nobody offers, and what `named` raises but that."""
        if name not in self._points:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = cast(_T, self._load(name))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._points))

    def __len__(self) -> int:
        return len(self._points)

    def named(self, name: str) -> _T:
        """What is installed under that name.

        Raises NotFound with the group's reason, or Refused(CONFIG_INVALID) where its package does
        not load or two packages offer it.
        """
        try:
            return self[name]
        except KeyError:
            raise NotFound(
                self._unknown,
                f"no {self._what} {name[:64]!r} is installed",
                hint=f"installed: {', '.join(self) or 'none'}",
                name=name,
            ) from None

    def _load(self, name: str) -> object:
        points = self._points[name]
        if len(points) > 1:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"{len(points)} packages offer the {self._what} {name!r}",
                hint="uninstall all but one: " + ", ".join(p.value for p in points),
            )
        try:
            return points[0].load()
        except LianqiaoError:
            raise
        except Exception as err:  # whatever a foreign package does when it is imported
            raise Refused(
                Reason.CONFIG_INVALID,
                f"the {self._what} {name!r} does not load: {type(err).__name__}",
                hint=f"{points[0].value} is broken or lacks a dependency; install it again",
            ) from err


@cache
def client_types() -> Installed[ClientType]:
    """Installed client types by name. Unknown: CLIENT_TYPE_UNKNOWN."""
    return Installed(CLIENTS, Reason.CLIENT_TYPE_UNKNOWN, "client type")


@cache
def chains() -> Installed[Connect]:
    """Installed chain adapters by name. Unknown: CONFIG_INVALID."""
    return Installed(CHAINS, Reason.CONFIG_INVALID, "chain adapter")


@cache
def bookkeepers() -> Installed[Bookkeeper]:
    """Installed bookkeepers by client type."""
    return Installed(BOOKS, Reason.CLIENT_TYPE_UNKNOWN, "bookkeeper")


@cache
def contracts() -> Installed[Contract]:
    """Installed contracts by port. Unknown: PORT_NOT_FOUND."""
    return Installed(CONTRACTS, Reason.PORT_NOT_FOUND, "contract")


@cache
def engines() -> Installed[Engine]:
    """Installed engines by name. Unknown: CONFIG_INVALID."""
    return Installed(ENGINES, Reason.CONFIG_INVALID, "engine")


@cache
def commands() -> Installed[Any]:
    """Installed groups of commands by name. Unknown: CONFIG_INVALID."""
    return Installed(COMMANDS, Reason.CONFIG_INVALID, "group of commands")


def connect_chain(adapter: str, settings: Settings) -> Chain:
    """A chain through the adapter of that name, which takes what it needs from `settings`.

    Raises NotFound(CONFIG_INVALID) for an unknown adapter, Refused(CONFIG_INVALID) and what the
    adapter raises; whether the chain answers shows at the first call.
    """
    return chains().named(adapter)(settings)


def contracts_on(ports: tuple[str, ...]) -> dict[str, Contract]:
    """The contracts on these ports. Raises NotFound(PORT_NOT_FOUND)."""
    return {port: contracts().named(port) for port in ports}
