"""Where coincurve or safe-pysha3 are not installed, only chains of this family cannot be judged."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules[{missing!r}] = None
from relay.errors import NotFound
from relay.registry import client_types
assert client_types().named("checkpoint").name == "checkpoint"
for _ in range(2):
    try:
        client_types().named("evm")
    except NotFound as err:
        assert err.reason == "CLIENT_TYPE_UNKNOWN", err
        assert "lianqiao[evm]" in err.hint and {missing!r} in err.detail, err
    else:
        raise SystemExit("it loaded")
"""


@pytest.mark.parametrize("missing", ["coincurve", "sha3"])
def test_the_reason_names_what_to_install(missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(missing=missing)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
