"""A pytest plugin: writes which files were opened to LIANQIAO_READ, one a line."""

from __future__ import annotations

import os
import sys
from typing import Any

_opened: set[str] = set()


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | os.PathLike):
        _opened.add(os.path.realpath(arguments[0]))


sys.addaudithook(_note)


def pytest_unconfigure() -> None:
    """At the end of the run."""
    with open(os.environ["LIANQIAO_READ"], "w", encoding="utf-8") as file:
        file.write("\n".join(sorted(_opened)))
