"""The deep tier: its parts are commands that exist, and its figures go where they are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deep import BEGIN, END, README, ROOT, Ended, Part, parts, write


@pytest.mark.slow
def test_every_part_is_a_command_that_exists() -> None:
    for part in parts(0.01, 1, 0):
        module = part.command[1]
        if module != "pytest":
            asked = [sys.executable, "-m", module, "--help"]
            done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            flags = {word for word in part.command[2:] if word.startswith("--")}
            assert all(flag in done.stdout for flag in flags), (part.name, flags)


def test_a_share_is_a_share_of_each() -> None:
    whole, tenth = (" ".join(str(p.command) for p in parts(share, 2, 0)) for share in (1.0, 0.1))
    assert "0-9999" in whole
    assert "'10000000'" in whole
    assert "0-999'" in tenth
    assert "'1000000'" in tenth


def test_figures_replace_those_before(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    seeds = Part("seeds", "7 seeds", ())
    write(readme, [Ended(seeds, True, 1.0, 0.5, "seed 6 passed", "2026-11-27")])
    write(readme, [Ended(Part("fuzz", "9 inputs", ()), False, 1.0, 0.5, "a | b", "2026-11-28")])
    write(readme, [Ended(seeds, True, 2.0, 0.5, "seed 6 passed", "2026-11-29")])
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| seeds |") == text.count("| fuzz |") == 1
    assert "2026-11-27" not in text
    assert "FAILED" in text
    assert text.index("| seeds | 7 seeds | passed | 2.0") < text.index("| fuzz |")


def test_the_readme_has_a_place_for_them() -> None:
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
