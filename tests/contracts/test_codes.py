"""The frozen words: none without a meaning in both languages, none renamed."""

from __future__ import annotations

from itertools import chain

from relay.contracts.codes import (
    MEANINGS,
    Code,
    Detail,
    Finding,
    Reexamination,
    Verdict,
    finding,
    meaning,
)
from relay.errors import Reason
from tests.refusals import refusing


def test_every_word_has_a_line_in_both_languages() -> None:
    words = {str(w) for w in chain(Verdict, Code, Detail, Reexamination) if w}
    assert words == set(MEANINGS)
    for english, chinese in MEANINGS.values():
        assert english.isascii()
        assert not chinese.isascii()
        assert "\n" not in english + chinese


def test_the_words_are_frozen() -> None:
    """Adding a word is adding it here; changing a line here breaks what ledgers hold."""
    assert " ".join(Code) == (
        "POLICY HEAD_STALE SRC_AUTH STATUS TYPE CATALOGUE MARK LEVEL QC AGE PERSON UNIT CONSENT "
        "OUTCOME CONSENT_ASSERTED QC_LATER_FAIL MAP_WIDER"
    )
    assert " ".join(Verdict) == "RECOGNISED RECOGNISED_WITH_FLAG NOT_ELIGIBLE"
    assert " ".join(Reexamination) == "R1 R2 R3 R4 R5 R6"


def test_findings_read_and_write() -> None:
    for code in Code:
        for detail in Detail:
            assert finding(str(Finding(code, detail))) == Finding(code, detail)
    for text in ("", "/", "AGE/", "AGE/X", "X", "AGE/TOO_OLD/", "age"):
        with refusing(Reason.MALFORMED):
            finding(text)


def test_meanings() -> None:
    assert meaning("AGE/TOO_OLD") == (
        "outside the time in which this item is recognised: older than the rule allows"
    )
    assert meaning("AGE/TOO_OLD", "zh") == "超出该项目的互认时限\uff1a超过规定天数"
    assert meaning("R4", "zh").startswith("患者处于急诊")
    for word in ("", "X", "AGE/X", "AGE/", "/TOO_OLD"):
        with refusing(Reason.MALFORMED):
            meaning(word)
