"""Where the published test vectors are: LIANQIAO_VECTORS, or ../shared/vectors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def folder(*parts: str) -> Path:
    """The path of a vector file or folder, whether it is there or not."""
    base = os.environ.get("LIANQIAO_VECTORS")
    return (Path(base) if base else ROOT / "../shared/vectors").joinpath(*parts)


def vectors(*parts: str) -> Path:
    """The path of a vector file or folder; skips the calling test, visibly, where it is absent.

    With LIANQIAO_NEVER_SKIP set (continuous integration) an absent vector fails instead.
    """
    path = folder(*parts)
    if not path.exists():
        if os.environ.get("LIANQIAO_NEVER_SKIP"):
            pytest.fail(f"vectors absent: {path}", pytrace=False)
        pytest.skip(f"vectors absent: {path} (set LIANQIAO_VECTORS)", allow_module_level=True)
    return path
