"""Whatever the demonstration says, it says in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import relay.demo
from relay.demo.attacks import PLANS
from relay.demo.texts import LANGUAGES, TEXTS, Words

SOURCES = Path(relay.demo.__file__).parent


def fields(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("key", TEXTS)
def test_each_text_is_there_in_both_and_names_the_same_values(key: str) -> None:
    english, chinese = TEXTS[key]
    assert english.strip()
    assert fields(english) == fields(chinese)
    if any("\u4e00" <= c <= "\u9fff" for c in english):
        raise AssertionError(key)
    if key != "comma":
        assert any("\u4e00" <= c <= "\u9fff" for c in chinese), key


def test_every_text_that_is_asked_for_is_there_and_none_is_unused() -> None:
    asked = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                asked.add(node.value)
    assert TEXTS.keys() <= asked
    words = {language: Words(language) for language in LANGUAGES}
    assert words["en"]("yes") != words["zh"]("yes")
    with pytest.raises(KeyError):
        words["en"]("no such text")
    with pytest.raises(KeyError):
        Words("fr")


def test_every_attack_is_named_in_both() -> None:
    for plan in PLANS:
        assert plan.en
        assert any("\u4e00" <= c <= "\u9fff" for c in plan.zh), plan.name
