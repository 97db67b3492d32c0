"""What is wrong in a configuration file: the key, the file, and the nearest key that is known."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ValidationError

from relay.config.sections import SECTIONS
from relay.errors import Malformed, Reason


def invalid(path: Path, detail: str, hint: str = "", key: str = "") -> Malformed:
    """CONFIG_INVALID about a file, with what to do."""
    hint = hint or "deploy/*.example.toml show every key"
    return Malformed(
        f"{path}: {detail}", reason=Reason.CONFIG_INVALID, hint=hint, file=path, key=key
    )


def explain(error: ValidationError, path: Path, whole: type[BaseModel]) -> Malformed:
    """The first mistake, an unknown key before others, since it is often their cause."""
    found = error.errors(include_url=False, include_input=False)
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    location = first["loc"]
    key = _name(location)
    if first["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], whole)
        if len(location) > 1 and location[-1] in whole.model_fields:
            hint = f"{location[-1]} stands above the first [section] of the file"
            return invalid(path, f"unknown key {key}", hint, key)
        near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return invalid(path, f"unknown key {key}", hint, key)
    if first["type"] == "missing":
        return invalid(path, f"{key} is missing", key=key)
    text = first["msg"].removeprefix("Value error, ")
    return invalid(path, f"{key}: {text}" if key else text, key=key)


def _name(location: tuple[str | int, ...]) -> str:
    """`validators[0].power`, as a reader of the file would say it; at most 100 characters."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".").replace("\n", " ")[:100]


def _known_keys(location: tuple[str | int, ...], whole: type[BaseModel]) -> list[str]:
    section = SECTIONS.get(str(location[0])) if location else None
    return list((section or whole).model_fields)


def first_line(error: Exception) -> str:
    """The first line of an error, at most 200 characters."""
    return str(error).partition("\n")[0][:200]
