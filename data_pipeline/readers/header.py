"""Header cards as clean text and numbers."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass

from astropy.io import fits

from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError


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


EXTRACTIONS = ("3pix", "5pix")


@dataclass(frozen=True)
class ReadOptions:
    """What the caller chose to read.

    Attributes:
        extraction: ``3pix`` or ``5pix``; only formats with two extractions have the choice.
        hdu: extension name or index instead of the format's own; None for the format's own.
        flux_column: column (GTO: image extension) that holds the flux; None for the format's own.
    """

    extraction: str = "3pix"
    hdu: str | int | None = None
    flux_column: str | None = None

    def __post_init__(self):
        if self.extraction not in EXTRACTIONS:
            raise SpectrumError(
                f"extraction={self.extraction!r} is unknown; expected one of {', '.join(EXTRACTIONS)}."
            )


@dataclass(frozen=True)
class Format:
    """One file layout.

    Attributes:
        name: as `SpectrumMeta.format` gives it, e.g. ``jades-dr4``.
        description: one line for people.
        identify: True if the opened file has this layout; looks at headers only.
        read: reads the opened file.
    """

    name: str
    description: str
    identify: Callable[[Source], bool]
    read: Callable[[Source, ReadOptions], ObservedSpectrum]
