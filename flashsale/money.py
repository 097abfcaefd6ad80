"""Amounts of money for people. Pure."""

from __future__ import annotations

_NO_DECIMALS = {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
_THREE_DECIMALS = {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}


def money(amount_minor: int, currency: str) -> str:
    """An amount for people, with the decimals its currency has (ISO 4217)."""
    decimals = 0 if currency in _NO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2
    return f"{amount_minor / 10**decimals:,.{decimals}f} {currency}"
