"""Fixtures that several folders share."""

from __future__ import annotations

import pytest

from tests.databases import EVERYDAY, KINDS, UrlOf, url_of


@pytest.fixture(params=EVERYDAY)
def urls(request: pytest.FixtureRequest) -> UrlOf:
    """A test that takes this runs on each kind of database that the run is for."""
    return url_of(request.param)


@pytest.fixture(params=KINDS)
def all_urls(request: pytest.FixtureRequest) -> UrlOf:
    """A test that takes this runs on every kind of database in every run."""
    return url_of(request.param)
