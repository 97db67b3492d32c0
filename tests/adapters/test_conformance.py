"""The adapters of this repository pass the suite that foreign ones must pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.conformance import Conformance
from tests.adapters.subjects import CheckpointSubject


@pytest.fixture(scope="module", params=["memory", "lianqiao"])
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CheckpointSubject]:
    """A lianqiao node, in this process and over gRPC, for all tests: they add and take nothing."""
    made = CheckpointSubject(tmp_path_factory.mktemp(request.param), request.param)
    yield made
    made.close()


class TestOurs(Conformance):
    """`memory` and `lianqiao`."""
