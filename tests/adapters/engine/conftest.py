"""Fixtures of more than one file here."""

from tests.cli.conftest import run as run
