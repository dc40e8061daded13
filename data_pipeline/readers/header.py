"""Header cards as clean text and numbers."""

from __future__ import annotations

import numbers

from astropy.io import fits


def text_of(header: fits.Header, *keys: str) -> str:
    """The first of `keys` that holds something, as stripped text; empty if none does."""
    for key in keys:
        value = header.get(key)
        if value is not None and not isinstance(value, fits.card.Undefined) and str(value).strip():
            return str(value).strip()
    return ""


def value_of(header: fits.Header, *keys: str) -> float:
    """The first of `keys` that holds a number; NaN if none does."""
    for key in keys:
        value = header.get(key)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
    return float("nan")


def strip_zeros(identifier: str) -> str:
    """An identifier without leading zeros; ``0`` stays ``0``."""
    return identifier.lstrip("0") or identifier[-1:]
