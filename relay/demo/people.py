"""Invented people. Names are put together by lot; numbers have a scheme of our own.

Never numbers in the form of real identity cards: a random one with a right check digit may be
somebody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

PATIENT_SCHEME = "urn:lianqiao:demo:health-card"

_FAMILY = (
    ("赵", "Zhao"), ("钱", "Qian"), ("孙", "Sun"), ("周", "Zhou"), ("吴", "Wu"), ("郑", "Zheng"),
    ("冯", "Feng"), ("陈", "Chen"), ("褚", "Chu"), ("蒋", "Jiang"), ("沈", "Shen"), ("韩", "Han"),
    ("朱", "Zhu"), ("秦", "Qin"), ("许", "Xu"), ("欧阳", "Ouyang"), ("诸葛", "Zhuge"),
)  # fmt: skip
_GIVEN = (
    ("安然", "Anran", "female"), ("明远", "Mingyuan", "male"), ("秀兰", "Xiulan", "female"),
    ("建国", "Jianguo", "male"), ("雨桐", "Yutong", "female"), ("子轩", "Zixuan", "male"),
    ("若水", "Ruoshui", "female"), ("浩然", "Haoran", "male"), ("静", "Jing", "female"),
    ("磊", "Lei", "male"), ("思齐", "Siqi", "female"), ("文博", "Wenbo", "male"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """A patient of the demonstration."""

    number: str
    """Health card number in PATIENT_SCHEME."""
    name_zh: str
    name_en: str
    gender: str
    born: str
    """YYYY-MM-DD."""


def person(random: Random) -> Person:
    """Somebody, by lot."""
    family_zh, family_en = random.choice(_FAMILY)
    given_zh, given_en, gender = random.choice(_GIVEN)
    born = f"{random.randint(1940, 2007)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
    return Person(
        number=f"DEMO-{random.randrange(10**10):010d}",
        name_zh=family_zh + given_zh,
        name_en=f"{given_en} {family_en}",
        gender=gender,
        born=born,
    )
