"""The frozen words of a decision: each code with its meaning in English and Chinese.

A code names the check that was not passed (DOMAIN §1's list, in that order), a detail says which
side of it. Both are written on ledgers and counted by health authorities, so neither is ever
renamed or reused; what is new gets a new word. On the wire a finding is `CODE` or `CODE/DETAIL`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relay.errors import Malformed


class Verdict(StrEnum):
    """What was decided on one item."""

    RECOGNISED = "RECOGNISED"
    RECOGNISED_WITH_FLAG = "RECOGNISED_WITH_FLAG"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"


class Code(StrEnum):
    """The check that failed, or the flag that was raised; refusals in their order of precedence."""

    POLICY = "POLICY"
    HEAD_STALE = "HEAD_STALE"
    SRC_AUTH = "SRC_AUTH"
    STATUS = "STATUS"
    TYPE = "TYPE"
    CATALOGUE = "CATALOGUE"
    MARK = "MARK"
    LEVEL = "LEVEL"
    QC = "QC"
    AGE = "AGE"
    PERSON = "PERSON"
    UNIT = "UNIT"
    CONSENT = "CONSENT"
    # --- on outcomes
    OUTCOME = "OUTCOME"
    # --- flags: recognised, and worth a look
    CONSENT_ASSERTED = "CONSENT_ASSERTED"
    QC_LATER_FAIL = "QC_LATER_FAIL"
    MAP_WIDER = "MAP_WIDER"


class Detail(StrEnum):
    """Which side of a check; empty where the code alone says it."""

    NONE = ""
    # --- POLICY
    NO_RULE = "NO_RULE"
    # --- SRC_AUTH
    NOT_CONNECTED = "NOT_CONNECTED"
    UNKNOWN_RECORD = "UNKNOWN_RECORD"
    UNKNOWN_INSTITUTION = "UNKNOWN_INSTITUTION"
    OTHER_LEDGER = "OTHER_LEDGER"
    KEY = "KEY"
    REVISED = "REVISED"
    RETRACTED = "RETRACTED"
    CONFLICT = "CONFLICT"
    # --- TYPE
    NOT_AN_ITEM = "NOT_AN_ITEM"
    CONCLUSION = "CONCLUSION"
    CATEGORY = "CATEGORY"
    # --- CATALOGUE
    NOT_LISTED = "NOT_LISTED"
    NOT_LISTED_AT_ISSUE = "NOT_LISTED_AT_ISSUE"
    SPECIMEN = "SPECIMEN"
    METHOD = "METHOD"
    MAPPING = "MAPPING"
    AMBIGUOUS = "AMBIGUOUS"
    # --- MARK
    NO_MARK = "NO_MARK"
    REGION = "REGION"
    CITY = "CITY"
    # --- QC
    EQA = "EQA"
    IQC = "IQC"
    # --- AGE
    TOO_OLD = "TOO_OLD"
    FUTURE = "FUTURE"
    TIME_MISSING = "TIME_MISSING"
    # --- PERSON
    REQUESTER = "REQUESTER"
    CLINICIAN = "CLINICIAN"
    CLINICIAN_LICENCE = "CLINICIAN_LICENCE"
    STATEMENT = "STATEMENT"
    STATEMENT_TIME = "STATEMENT_TIME"
    PATIENT = "PATIENT"
    AUTHOR = "AUTHOR"
    LABORATORY = "LABORATORY"
    # --- UNIT
    NOT_CONVERTIBLE = "NOT_CONVERTIBLE"
    REFERENCE_RANGE = "REFERENCE_RANGE"
    # --- CONSENT
    SIGNATURE = "SIGNATURE"
    SIGNER = "SIGNER"
    GRANTEE = "GRANTEE"
    PERIOD = "PERIOD"
    PURPOSE = "PURPOSE"
    COVERAGE = "COVERAGE"
    SCOPE = "SCOPE"
    # --- OUTCOME
    UNKNOWN_REQUEST = "UNKNOWN_REQUEST"
    OTHER_INSTITUTION = "OTHER_INSTITUTION"
    NOT_RECOGNISED = "NOT_RECOGNISED"
    ALREADY_REPORTED = "ALREADY_REPORTED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason or flag of a decision."""

    code: Code
    detail: Detail = Detail.NONE

    def __str__(self) -> str:
        return f"{self.code}/{self.detail}" if self.detail else str(self.code)


_FINDINGS = {str(f): f for f in (Finding(code, detail) for code in Code for detail in Detail)}


def finding(text: str) -> Finding:
    """The finding that `text` (`CODE` or `CODE/DETAIL`) stands for. Raises Malformed."""
    known = _FINDINGS.get(text)
    if known is None:
        raise Malformed("not a code of a decision", code=text)
    return known


class Reexamination(StrEnum):
    """The six situations in which an examination may be repeated (Measures 2022, article 17)."""

    R1 = "R1"
    R2 = "R2"
    R3 = "R3"
    R4 = "R4"
    R5 = "R5"
    R6 = "R6"


MEANINGS: dict[str, tuple[str, str]] = {
    "RECOGNISED": ("recognised", "予以互认"),
    "RECOGNISED_WITH_FLAG": ("recognised, with a flag to look at", "予以互认(有提示)"),
    "NOT_ELIGIBLE": ("not eligible for recognition", "不符合互认条件"),
    "POLICY": ("no rule is in force for the receiving region", "接诊地区没有生效的互认规则"),
    "HEAD_STALE": (
        "it is not known whether the source ledger has sent a revocation lately",
        "无法确认来源账本近期是否已发出撤回",
    ),
    "SRC_AUTH": (
        "the source is not authentic, or the record is not current",
        "来源不可信或记录已失效",
    ),
    "STATUS": ("the result is not final", "报告状态不是最终报告"),
    "TYPE": ("not an examination result that can be recognised", "不属于可互认的检查检验结果"),
    "CATALOGUE": ("the item is not in the catalogue as examined", "项目不在互认目录内"),
    "MARK": ("no HR mark that holds in the receiving region", "互认标识(HR)不覆盖接诊地区"),
    "LEVEL": ("the source institution's level is too low here", "来源机构级别不符合接诊地区规则"),
    "QC": ("quality assessment does not cover the examination", "检查当日无合格的质量评价"),
    "AGE": ("outside the time in which this item is recognised", "超出该项目的互认时限"),
    "PERSON": ("a person or licence could not be confirmed", "人员或执业资质未能确认"),
    "UNIT": (
        "unit or reference range is missing or not convertible",
        "单位或参考区间缺失或不可换算",
    ),
    "CONSENT": ("the consent does not allow it", "患者授权不覆盖本次使用"),
    "OUTCOME": ("the outcome does not fit the decision", "反馈结果与互认决定不符"),
    "CONSENT_ASSERTED": (
        "consent was asserted by signature; no register of consents exists yet to confirm it",
        "授权由签名声明,尚无授权登记可核实",
    ),
    "QC_LATER_FAIL": (
        "the laboratory failed a later quality assessment of this item",
        "该实验室此项目在之后的质量评价中不合格",
    ),
    "MAP_WIDER": ("the local code was mapped to a wider item", "本地编码映射到了更宽的项目"),
    "NO_RULE": ("no rule for this region", "该地区没有规则"),
    "NOT_CONNECTED": ("the source ledger is not connected to this relay", "来源账本未接入本中继"),
    "UNKNOWN_RECORD": ("no attestation of this record was proven here", "本中继没有该记录的存证"),
    "UNKNOWN_INSTITUTION": ("the institution is not accredited", "机构不在认可名单内"),
    "OTHER_LEDGER": ("the institution belongs to another ledger", "该机构属于另一账本"),
    "KEY": ("the signing key was not valid for the institution then", "签名密钥当时对该机构无效"),
    "REVISED": ("a later version of the record exists", "该记录已有更正版本"),
    "RETRACTED": ("the record was retracted", "该记录已撤回"),
    "CONFLICT": ("another attestation of this record was proven before", "该记录已有不同的存证"),
    "NOT_AN_ITEM": ("this part is not an attested item", "该部分不是已存证的项目"),
    "CONCLUSION": (
        "the report and its diagnosis are never recognised, only its results",
        "互认不包括医师出具的诊断结论",
    ),
    "CATEGORY": ("this category is not recognised here", "该类别不在互认范围"),
    "NOT_LISTED": ("not in the catalogue in force now", "不在现行互认目录内"),
    "NOT_LISTED_AT_ISSUE": ("not in the catalogue in force at issue", "出具报告时不在互认目录内"),
    "SPECIMEN": ("another specimen than the catalogue names", "标本与目录不符"),
    "METHOD": ("another method than the catalogue names", "方法与目录不符"),
    "MAPPING": ("the local code maps only inexactly", "本地编码只能不精确映射"),
    "AMBIGUOUS": ("the code stands for several catalogue items", "编码对应多个目录项目"),
    "NO_MARK": ("the item carries no HR mark", "项目没有互认标识"),
    "REGION": ("the mark does not hold in this region", "标识不适用于该地区"),
    "CITY": ("the mark is another city's", "标识仅限其他城市"),
    "EQA": ("no passed external quality assessment on that date", "当日无合格的室间质评"),
    "IQC": ("internal quality control was not in control", "室内质控失控或缺失"),
    "TOO_OLD": ("older than the rule allows", "超过规定天数"),
    "FUTURE": ("issued in the future, or before it was examined", "报告时间晚于当前或早于检查时间"),
    "TIME_MISSING": ("examination or issue time is missing", "缺少检查或报告时间"),
    "REQUESTER": (
        "the requesting institution is not accredited on the requesting ledger",
        "申请机构不在申请账本的认可名单内",
    ),
    "CLINICIAN": (
        "the clinician or the key is not registered there",
        "接诊医师或其密钥未在该机构登记",
    ),
    "CLINICIAN_LICENCE": ("the clinician's licence was not valid", "接诊医师执业资质无效"),
    "STATEMENT": ("the clinician's signature is wrong", "接诊医师签名无效"),
    "STATEMENT_TIME": (
        "the clinician's statement is too old or in the future",
        "接诊医师声明时间无效",
    ),
    "PATIENT": ("the patient reference is not the record's", "患者引用与记录不符"),
    "AUTHOR": ("the issuing doctor's licence was not valid at issue", "出具报告医师当时资质无效"),
    "LABORATORY": ("the laboratory's licence was not valid then", "实验室当时资质无效"),
    "NOT_CONVERTIBLE": ("the unit cannot be converted to the catalogue's", "单位不能换算"),
    "REFERENCE_RANGE": ("no reference range is carried", "缺少参考区间"),
    "SIGNATURE": ("the consent's signature is wrong", "授权签名无效"),
    "SIGNER": ("policy does not accept this signer", "政策不接受该授权签署人"),
    "GRANTEE": ("the consent is for another institution", "授权给了其他机构"),
    "PERIOD": ("outside the period of the consent", "不在授权有效期内"),
    "PURPOSE": ("the consent is for another purpose", "授权用途不符"),
    "COVERAGE": ("the consent does not cover this record", "授权不覆盖该记录"),
    "SCOPE": ("the consent does not cover this item", "授权不覆盖该项目"),
    "UNKNOWN_REQUEST": ("no decision on this request was made here", "本中继没有该申请的决定"),
    "OTHER_INSTITUTION": ("the request was another institution's", "该申请属于其他机构"),
    "NOT_RECOGNISED": ("what was not recognised cannot be adopted", "未获互认的项目不能采用"),
    "ALREADY_REPORTED": ("this outcome of the item was already reported", "该项目此结果已反馈"),
    "R1": (
        "changed condition, or the result does not fit the clinical picture",
        "病情变化,结果与临床表现、疾病诊断不符,难以满足诊疗需求",
    ),
    "R2": (
        "the result changes fast in the course of the disease",
        "结果在疾病发展演变过程中变化较快",
    ),
    "R3": (
        "decisive for treatment, such as before surgery or transfusion",
        "对诊疗意义重大(如手术、输血等重大医疗措施前)",
    ),
    "R4": ("emergency or rescue", "患者处于急诊、急救等紧急状态"),
    "R5": ("forensic, disability or retirement appraisal", "涉及司法、伤残及病退等鉴定"),
    "R6": ("another situation that needs it, explained off-ledger", "其他情形确需复查(须说明)"),
}
"""Every word above → (English, Chinese), one line each."""


def meaning(word: str, language: str = "en") -> str:
    """What a verdict, code, detail, finding or R-code means; `language` is `en` or `zh`.

    A finding's code and detail are both told. Raises Malformed for a word that is not ours.
    """
    parts = word.split("/")
    if any(part not in MEANINGS for part in parts):
        raise Malformed("not a code of a decision", code=word)
    index = 1 if language == "zh" else 0
    return ("\uff1a" if index else ": ").join(MEANINGS[part][index] for part in parts)
