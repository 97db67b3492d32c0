"""The deep tier: its parts are commands that exist, and its figures go where they are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import deep
from tests.deep import BEGIN, END, README, ROOT, Ended, Part, key, parts, write
from tests.simulation.test_fault_points import NAMES, PARTS


@pytest.mark.slow
def test_every_part_is_a_command_that_exists() -> None:
    for part in parts(0.01, 1, 0):
        for piece in part.pieces[:1]:
            module = piece[1]
            if module != "pytest":
                asked = [sys.executable, "-m", module, "--help"]
                done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                flags = {word for word in piece[2:] if word.startswith("--")}
                assert all(flag in done.stdout for flag in flags), (part.name, flags)


def test_every_fault_point_and_planted_bug_is_in_a_piece() -> None:
    pieces = next(part.pieces for part in parts(1.0, 2, 0) if part.name == "points")
    chosen = [piece[piece.index("-k") + 1] for piece in pieces if "-k" in piece]
    assert chosen == [f"every_point[{name}-{part}]" for name in NAMES for part in range(PARTS)]
    rest = [piece for piece in pieces if "-k" not in piece]
    assert [word for word in rest[0] if word.endswith("test_every_point")]
    files = {word for piece in rest for word in piece if word.endswith(".py")}
    assert files == {
        f"tests/simulation/test_{name}.py" for name in ("fault_points", "planted", "money")
    }


def test_pieces_are_the_whole_and_a_share_is_a_share_of_each() -> None:
    seeds = [word for part in parts(1.0, 2, 0)[:1] for piece in part.pieces for word in piece]
    ranges = [word.split("-") for word in seeds if word[0].isdigit() and "-" in word]
    covered = [seed for a, b in ranges for seed in range(int(a), int(b) + 1)]
    assert covered == list(range(10_000))
    tenth = {part.name: part for part in parts(0.1, 2, 50)}
    assert tenth["seeds"].what == "1000 seeds"
    assert "50-99" in tenth["seeds"].pieces[0]
    assert tenth["money"].pieces[-1][-1] == "297-299"
    assert sum(int(piece[-1]) for piece in tenth["fuzz"].pieces) == 1_000_000
    assert tenth["mutation"].what == "every 10th mutant"


def test_figures_replace_those_before(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    seeds = Part("seeds", "7 seeds", (("-m", "a"), ("-m", "b")))
    fuzz = Part("fuzz", "9 inputs", (("-m", "c"),))
    early = Ended(True, 1.0, 0.5, "seed 3 passed", "2026-11-27", "abc")
    late = Ended(True, 2.0, 0.25, "seed 6 passed", "2026-11-29", "def")
    write(readme, [seeds], {"-m a": early})
    assert "| seeds | 7 seeds | 1 of 2 | not yet whole | 1.0 | 0.5 |" in readme.read_text()
    write(readme, [fuzz], {"-m c": Ended(False, 1.0, 0.5, "a | b", "2026-11-28", "abc*")})
    write(readme, [seeds], {"-m a": early, "-m b": late})
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| seeds |") == text.count("| fuzz |") == 1
    assert "| fuzz | 9 inputs | 0 of 1 | FAILED (1) |" in text
    row = "| seeds | 7 seeds | 2 of 2 | passed | 3.0 | 0.8 | 2026-11-27, 2026-11-29 | abc, def |"
    assert text.index(row) < text.index("| fuzz |")


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed is not run again, what failed is; a failure does not stop what comes after it."""
    readme, broken = tmp_path / "README.md", tmp_path / "broken"
    readme.write_text(f"{BEGIN}\n{END}\n")
    broken.touch()
    count = f"open({str(tmp_path / 'ran')!r}, 'a').write"
    sound = ("-c", f"{count}('s')")
    failing = ("-c", f"import os; {count}('f'); exit(os.path.exists({str(broken)!r}))")
    part = Part("seeds", "three", (sound, failing, (*sound, "--jobs", "2")))
    monkeypatch.setattr(deep, "README", readme)
    monkeypatch.setattr(deep, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(deep, "MAP", tmp_path / "kept.map")
    monkeypatch.setattr(deep, "parts", lambda *_: [part])
    assert deep.main(["--within", "0"]) == 1
    assert not (tmp_path / "ran").exists()
    assert deep.main([]) == 1
    assert (tmp_path / "ran").read_text() == "sf"
    broken.unlink()
    assert deep.main([]) == 0
    assert (tmp_path / "ran").read_text() == "sff"
    assert deep.main([]) == 0
    assert (tmp_path / "ran").read_text() == "sff"
    assert deep.main(["--anew"]) == 0
    assert (tmp_path / "ran").read_text() == "sffsf"
    assert key(part.pieces[2]) == key(sound)


def test_the_readme_has_a_place_for_them() -> None:
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
