"""How results of catalogue items look: panel, unit, reference range, decimals, all as text.

Illustrative adult reference ranges as printed on reports in mainland China; not for clinical use.
Decimals are text from end to end: the number of decimals of a value is that of its range.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Analyte:
    """A quantity with its usual range; `low` is empty where only an upper limit is reported."""

    panel: str
    unit: str
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Panel:
    """What is ordered and reported together."""

    name_en: str
    name_zh: str
    specimen_en: str
    specimen_zh: str


_SERUM = ("Serum", "血清")
_BLOOD = ("Whole blood", "全血")

PANELS: dict[str, Panel] = {
    "ELECTROLYTES": Panel("Electrolytes", "电解质", *_SERUM),
    "LIVER": Panel("Liver function", "肝功能", *_SERUM),
    "KIDNEY": Panel("Kidney function and glucose", "肾功能与血糖", *_SERUM),
    "LIPIDS": Panel("Lipids", "血脂", *_SERUM),
    "ENZYMES": Panel("Enzymes", "心肌酶与淀粉酶", *_SERUM),
    "HEPATITIS": Panel("Hepatitis markers", "肝炎标志物", *_SERUM),
    "TUMOUR": Panel("Tumour markers", "肿瘤标志物", *_SERUM),
    "THYROID": Panel("Thyroid function", "甲状腺功能", *_SERUM),
    "IMMUNE": Panel("Immunoglobulins and complement", "免疫球蛋白与补体", *_SERUM),
    "BLOOD": Panel("Blood count", "血常规", *_BLOOD),
    "DIABETES": Panel("Glycated haemoglobin", "糖化血红蛋白", *_BLOOD),
}

ANALYTES: dict[str, Analyte] = {
    "K": Analyte("ELECTROLYTES", "mmol/L", "3.50", "5.30"),
    "NA": Analyte("ELECTROLYTES", "mmol/L", "137.0", "147.0"),
    "CL": Analyte("ELECTROLYTES", "mmol/L", "99.0", "110.0"),
    "CA": Analyte("ELECTROLYTES", "mmol/L", "2.11", "2.52"),
    "P": Analyte("ELECTROLYTES", "mmol/L", "0.85", "1.51"),
    "TP": Analyte("LIVER", "g/L", "65.0", "85.0"),
    "ALB": Analyte("LIVER", "g/L", "40.0", "55.0"),
    "ALT": Analyte("LIVER", "U/L", "9", "50"),
    "AST": Analyte("LIVER", "U/L", "15", "40"),
    "GGT": Analyte("LIVER", "U/L", "10", "60"),
    "ALP": Analyte("LIVER", "U/L", "45", "125"),
    "CREA": Analyte("KIDNEY", "umol/L", "57", "97"),
    "UREA": Analyte("KIDNEY", "mmol/L", "3.10", "8.00"),
    "UA": Analyte("KIDNEY", "umol/L", "208", "428"),
    "GLU": Analyte("KIDNEY", "mmol/L", "3.90", "6.10"),
    "HCY": Analyte("KIDNEY", "umol/L", "", "15.0"),
    "TC": Analyte("LIPIDS", "mmol/L", "", "5.20"),
    "TG": Analyte("LIPIDS", "mmol/L", "", "1.70"),
    "HDL": Analyte("LIPIDS", "mmol/L", "1.00", "1.90"),
    "LDL": Analyte("LIPIDS", "mmol/L", "", "3.40"),
    "LDH": Analyte("ENZYMES", "U/L", "120", "250"),
    "CK": Analyte("ENZYMES", "U/L", "50", "310"),
    "AMY": Analyte("ENZYMES", "U/L", "35", "135"),
    "HBSAG": Analyte("HEPATITIS", "", "", ""),
    "HBSAB": Analyte("HEPATITIS", "m[IU]/mL", "", "10.0"),
    "HCVAB": Analyte("HEPATITIS", "", "", ""),
    "AFP": Analyte("TUMOUR", "ng/mL", "", "7.0"),
    "CEA": Analyte("TUMOUR", "ng/mL", "", "5.0"),
    "PSA": Analyte("TUMOUR", "ng/mL", "", "4.00"),
    "CA125": Analyte("TUMOUR", "U/mL", "", "35.0"),
    "CA153": Analyte("TUMOUR", "U/mL", "", "25.0"),
    "BHCG": Analyte("TUMOUR", "m[IU]/mL", "", "5.0"),
    "TSH": Analyte("THYROID", "m[IU]/L", "0.27", "4.20"),
    "T3": Analyte("THYROID", "nmol/L", "1.30", "3.10"),
    "T4": Analyte("THYROID", "nmol/L", "66.0", "181.0"),
    "FT3": Analyte("THYROID", "pmol/L", "3.10", "6.80"),
    "FT4": Analyte("THYROID", "pmol/L", "12.0", "22.0"),
    "IGG": Analyte("IMMUNE", "g/L", "8.60", "17.40"),
    "IGM": Analyte("IMMUNE", "g/L", "0.50", "2.80"),
    "IGA": Analyte("IMMUNE", "g/L", "1.00", "4.20"),
    "C3": Analyte("IMMUNE", "g/L", "0.70", "1.40"),
    "C4": Analyte("IMMUNE", "g/L", "0.10", "0.40"),
    "WBC": Analyte("BLOOD", "10*9/L", "3.50", "9.50"),
    "RBC": Analyte("BLOOD", "10*12/L", "4.30", "5.80"),
    "HB": Analyte("BLOOD", "g/L", "130", "175"),
    "PLT": Analyte("BLOOD", "10*9/L", "125", "350"),
    "HCT": Analyte("BLOOD", "%", "40.0", "50.0"),
    "HBA1C": Analyte("DIABETES", "%", "4.0", "6.0"),
}
"""By the catalogue's item id. No unit: a result of presence, positive or negative."""
