"""ISO 4217 currency codes and their minor units, pinned as data with a version.

A contract that is executed again in ten years must find the exponents of today: each published list
that we adopt is kept under its own version, and a new list is a new version, never a change.
Version 1 is ISO 4217 list one as published on 2026-01-01 (by the package `iso4217`
1.16.20260101, public domain); a test compares them. Codes without minor units (XXX, XTS, gold …)
cannot be paid and are not in it. Offshore renminbi is `CNY`: `CNH` is no ISO code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from relay.errors import Invalid, Reason

TABLE_VERSION = 1
"""The newest version; what is recorded with a decision is the version it used."""

_LIST_1 = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
        "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK "
        "LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO "
        "NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
        "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST "
        "XAD XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

TABLE: Mapping[int, Mapping[str, int]] = MappingProxyType(
    {
        1: MappingProxyType(
            {code: digits for digits, codes in _LIST_1.items() for code in codes.split()}
        )
    }
)
"""Digits of the minor unit by code, for each version of the list."""


def exponent(code: str, version: int = TABLE_VERSION) -> int:
    """Decimal digits of the minor unit of `code`: CNY 2, JPY 0, KWD 3.

    Raises Invalid(CURRENCY_UNKNOWN) where the list of that version has no such code, and
    Invalid(UNSUPPORTED_VERSION) where there is no such list.
    """
    table = TABLE.get(version)
    if table is None:
        raise Invalid(Reason.UNSUPPORTED_VERSION, "no list of currencies of that version")
    digits = table.get(code)
    if digits is None:
        raise Invalid(
            Reason.CURRENCY_UNKNOWN,
            f"{code[:8]!r} is no currency of ISO 4217",
            hint="offshore renminbi is CNY; the account says where it is held",
        )
    return digits


def check_currency(code: str, version: int = TABLE_VERSION) -> str:
    """`code`, if it can be paid. Raises Invalid(CURRENCY_UNKNOWN)."""
    exponent(code, version)
    return code
