"""Ports for processes that are told where to listen before they are started."""

from __future__ import annotations

import socket

import pytest

from relay.demo import ports
from relay.demo.ports import PORTS, free_ports
from relay.errors import Reason, Unavailable


def test_they_are_distinct_and_none_that_a_connection_going_out_could_take() -> None:
    found = free_ports(100)
    assert len(set(found)) == 100
    assert all(PORTS[0] <= port < PORTS[1] for port in found)
    for port in found:
        socket.create_server(("127.0.0.1", port)).close()


def test_one_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = free_ports(1)
    with socket.create_server(("127.0.0.1", taken)):
        monkeypatch.setattr(ports, "PORTS", (taken, taken + 2))
        monkeypatch.setattr(ports, "PORT_TRIES", 100)
        assert free_ports(1) == [taken + 1]
        with pytest.raises(Unavailable) as err:
            free_ports(2)
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
