"""Measurements are of a disk: the everyday place of the tests' files is memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that survives a restart of the machine, as databases do."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)
