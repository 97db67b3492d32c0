"""Fixtures that several folders share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests import conflicts
from tests.databases import EVERYDAY, KINDS, UrlOf, url_of

MEMORY = Path("/dev/shm")
ROOM = 1 << 30


def pytest_configure() -> None:
    """Puts what tests write in memory, where there is such a place with room: a suite waits for
    a disk some thousand times, and no test is about the disk itself."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(params=EVERYDAY)
def urls(request: pytest.FixtureRequest) -> UrlOf:
    """A test that takes this runs on each kind of database that the run is for."""
    return url_of(request.param)


@pytest.fixture(params=KINDS)
def all_urls(request: pytest.FixtureRequest) -> UrlOf:
    """A test that takes this runs on every kind of database in every run."""
    return url_of(request.param)


if conflicts.ENABLED:
    conflicts.install()
