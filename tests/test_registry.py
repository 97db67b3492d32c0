"""What is installed is found by name, loaded when it is used, and refused where it is ambiguous."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from relay import registry
from relay.errors import LianqiaoError, Reason
from relay.light.checkpoint_client import CHECKPOINT
from relay.registry import Installed


def _installed(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> Installed[object]:
    found = [EntryPoint(name, value, "group") for name, value in points]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    return Installed("group", Reason.CLIENT_TYPE_UNKNOWN, "client type")


def _reason(installed: Installed[object], name: str) -> Reason:
    with pytest.raises(LianqiaoError) as err:
        installed.named(name)
    return err.value.reason


def test_our_own_are_installed() -> None:
    assert registry.client_types()["checkpoint"] is CHECKPOINT
    assert {"lianqiao", "memory"} <= set(registry.chains())
    assert {"recognition", "registry"} <= set(registry.contracts())
    assert "journal" in registry.engines()


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (registry.client_types, Reason.CLIENT_TYPE_UNKNOWN),
        (registry.chains, Reason.CONFIG_INVALID),
        (registry.contracts, Reason.PORT_NOT_FOUND),
        (registry.engines, Reason.CONFIG_INVALID),
    ],
)
def test_an_unknown_name_has_its_groups_reason(group: object, reason: Reason) -> None:
    assert callable(group)
    assert _reason(group(), "nobody-offers-this") is reason
    assert group().get("nobody-offers-this") is None


def test_contracts_are_given_by_port() -> None:
    with pytest.raises(LianqiaoError) as err:
        registry.contracts_on(("nobody-offers-this",))
    assert err.value.reason is Reason.PORT_NOT_FOUND
    assert registry.contracts_on(()) == {}


def test_the_same_entry_point_seen_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable installation may show its metadata twice."""
    installed = _installed(monkeypatch, ("a", "math:pi"), ("a", "math:pi"))
    assert (list(installed), len(installed)) == (["a"], 1)
    assert isinstance(installed.named("a"), float)


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = _installed(monkeypatch, ("a", "math:pi"), ("a", "math:e"), ("b", "math:e"))
    assert _reason(installed, "a") is Reason.CONFIG_INVALID
    assert installed.named("b")


@pytest.mark.parametrize("value", ["no.such.module:X", "math:no_such_name", "not an entry point"])
def test_a_broken_package_spoils_only_its_own_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    installed = _installed(monkeypatch, ("bad", value), ("good", "math:pi"))
    assert _reason(installed, "bad") is Reason.CONFIG_INVALID
    assert installed.named("good")


def test_finding_a_client_type_loads_neither_grpc_nor_sql() -> None:
    """`lianqiao verify` starts quickly, and verifies with nothing it does not need."""
    code = (
        "import sys; from relay.registry import client_types; client_types()['checkpoint'];"
        "print([m for m in ('grpc', 'sqlalchemy', 'sqlmodel', 'google.protobuf')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
