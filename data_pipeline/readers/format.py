"""A file format: its recognition, its reader, and the header keywords with its metadata."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from data_pipeline.readers.columns import column_card, column_names, first_of
from data_pipeline.readers.identity import check_wavelengths, disperser_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

EXTRACTIONS = ("3pix", "5pix")
WAVELENGTH_NAMES = (
    *("wavelength", "wave", "lambda", "lam", "wl", "spectral_axis", "wavelengths"),
    *("wave_vac", "wavelength_vac", "wave_obs", "obs_wave", "wavelength_obs", "lambda_obs", "lambda_vac"),
    *("observed_wavelength", "frequency", "freq", "nu", "energy"),
    # air and rest frame are refused by name
    *("wave_air", "wavelength_air", "lambda_air", "air_wavelength", "wave_rest", "rest_wave", "lambda_rest"),
    *("wavelength_rest", "rest_wavelength"),
)
_NUMBERS = ("ra", "dec", "exposure_time", "zero_point")
_UPPER_CASE = ("disperser", "filter")


@dataclass(frozen=True)
class ReadOptions:
    """The caller's choice of what to read.

    Attributes:
        extraction: ``3pix`` or ``5pix``; only formats with two extractions have the choice.
        hdu: extension name or index; None for the format's own.
        flux_column: column (GTO: image extension) with the flux; None for the format's own.
        row: which spectrum of a table with one per row, from 0; None for the only one.
    """

    extraction: str = "3pix"
    hdu: str | int | None = None
    flux_column: str | None = None
    row: int | None = None

    def __post_init__(self):
        if self.extraction not in EXTRACTIONS:
            raise SpectrumError(
                f"extraction={self.extraction!r} is unknown; expected one of {', '.join(EXTRACTIONS)}."
            )


@dataclass(frozen=True)
class Format:
    """One file layout.

    Attributes:
        name: value of `SpectrumMeta.format`, e.g. ``jades-dr4``.
        description: one line for people.
        identify: True if the opened file has this layout; looks at headers only.
        read: reads the opened file.
    """

    name: str
    description: str
    identify: Callable[[Source], bool]
    read: Callable[[Source, ReadOptions], ObservedSpectrum]


def text_of(header: Mapping, *keys: str) -> str:
    """Stripped text of the first keyword that holds something; empty if none does."""
    for key in keys:
        value = header.get(key)
        if value is not None and not isinstance(value, fits.card.Undefined) and str(value).strip():
            return str(value).strip()
    return ""


def value_of(header: Mapping, *keys: str) -> float:
    """The first keyword that holds a number; NaN if none does."""
    for key in keys:
        value = header.get(key)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
    return float("nan")


def masked_note(mask: np.ndarray, why: str) -> tuple[str, ...]:
    """A note on what a file itself marks as bad; none where that is nothing."""
    return (f"{mask.sum()} pixels masked: {why}",) if mask.any() else ()


def strip_zeros(identifier: str) -> str:
    """An identifier without leading zeros; ``0`` stays ``0``."""
    return identifier.lstrip("0") or identifier[-1:]


def metadata(
    source: Source, hdu, name: str, headers: Sequence[Mapping], keywords: Mapping[str, str], **known
) -> SpectrumMeta:
    """Metadata of a spectrum from header keywords.

    ``headers`` start with the most particular; ``keywords`` map a field to its keywords, blank-separated, the
    preferred first; ``known`` are fields that no keyword gives. The hdu is None for a text table.
    """
    fields: dict = {}
    for field, keys in keywords.items():
        look = value_of if field in _NUMBERS else text_of
        values = [look(header, *keys.split()) for header in headers]
        # NaN is the only value that differs from itself
        fields[field] = next((value for value in values if value != "" and value == value), values[-1])
    fields |= known
    fields |= {field: fields[field].upper() for field in _UPPER_CASE if field in fields}
    label = "" if hdu is None else source.label(hdu)
    told = (*headers, source.primary)
    fields["disperser"] = disperser_of(fields.get("disperser", ""), told, str(source.path))
    where = f"{source.path}[{label}]" if label else str(source.path)
    check_wavelengths(where, told, _axis(hdu), of_archive=name not in ("table", "specutils"))
    fields["source_id"] = strip_zeros(fields.get("source_id", ""))
    fields["notes"] = (*fields.get("notes", ()), *source.notes())
    return SpectrumMeta(format=name, path=str(source.path), hdu=label, **fields)


def _axis(hdu) -> list:
    """What a table's header says of its wavelengths."""
    name = None if hdu is None else first_of(WAVELENGTH_NAMES, column_names(hdu))
    told = ("TCTYP", "TUCD", "TCOMM", "TDESC", "TUTYP")
    return [name, *(column_card(hdu, name, key) for key in told)] if name else []
