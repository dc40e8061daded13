"""DAWN JWST Archive (msaexp) ``*.spec.fits``, versions 1 to 4: table SPEC1D."""

from __future__ import annotations

import re

import numpy as np

from data_pipeline.readers.header import Format, ReadOptions, strip_zeros, text_of, value_of
from data_pipeline.readers.source import Source, find_column
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

_ERROR_COLUMN = {"flux": "err", "aper_flux": "aper_err"}
_VERSION = re.compile(r"-v\d+$")
_ROOT = re.compile(r"^(?P<root>.+)_(?P<disperser>[a-z0-9]+)-(?P<filter>[a-z0-9]+)_[^_]+_[^_]+\.spec\.fits")


def identify(source: Source) -> bool:
    """True if there is a table SPEC1D with wave, flux and err."""
    hdu = source.get(1)
    if hdu is None or hdu.name != "SPEC1D":
        return False
    return all(find_column(hdu, [name]) for name in ("wave", "flux", "err"))


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads SPEC1D. Bad pixels are NaN since v2, flux = err = 0 in v1, and False in ``valid``.

    Like msaexp, a polynomial in ln(wave / Angstrom) in the POLY* cards and an ``escale`` column are applied.
    """
    hdu = source.table("SPEC1D" if options.hdu is None else options.hdu)
    flux_name = (options.flux_column or "flux").lower()
    if flux_name not in _ERROR_COLUMN:
        raise SpectrumError(
            f"{source.path}[{source.label(hdu)}]: no error column is known for flux_column={flux_name!r}; "
            f"choose {' or '.join(_ERROR_COLUMN)}."
        )
    wavelength = source.column(hdu, "wave")
    flux = source.column(hdu, flux_name)
    error = source.column(hdu, _ERROR_COLUMN[flux_name])
    notes: list[str] = []
    # v1 has zeros where v2 and later have NaN
    empty = (flux.value == 0) & (error.value == 0)
    if empty.any():
        notes.append(f"{empty.sum()} pixels masked: flux and error are zero")
    mask = empty
    if find_column(hdu, ["valid"]):
        mask = mask | (source.integers(hdu, "valid") == 0)
    if find_column(hdu, ["escale"]):
        error = error * source.values(hdu, "escale")
        notes.append("errors multiplied by the column escale")
    coefficients = [hdu.header[f"POLY{k}"] for k in range(10) if f"POLY{k}" in hdu.header]
    if coefficients:
        scale = np.polyval(coefficients, np.log(wavelength.to_value("Angstrom")))
        flux, error = flux * scale, error * scale
        notes.append("flux and error multiplied by the polynomial of the POLY cards")
    meta = _metadata(source, hdu, tuple(notes) + source.notes())
    return ObservedSpectrum.from_quantities(wavelength, flux, error, mask, meta)


def _metadata(source: Source, hdu, notes: tuple[str, ...]) -> SpectrumMeta:
    header = hdu.header
    target = text_of(header, "SRCNAME")
    program, _, identifier = target.partition("_")
    name = _ROOT.match(source.path.name)
    root = name["root"] if name else ""
    return SpectrumMeta(
        target=target,
        source_id=strip_zeros(identifier or text_of(header, "SOURCEID")),
        ra=value_of(header, "SRCRA"),
        dec=value_of(header, "SRCDEC"),
        disperser=text_of(header, "GRATING").upper(),
        filter=text_of(header, "FILTER").upper(),
        tier=root,
        field=text_of(header, "TARGNAME").lower() or _VERSION.sub("", root),
        program=strip_zeros(text_of(header, "PROGRAM") or program),
        exposure_time=value_of(header, "EFFEXPTM", "EXPTIME"),
        format="dja",
        path=str(source.path),
        hdu=source.label(hdu),
        notes=notes,
    )


DJA = Format("dja", "DAWN JWST Archive (msaexp) spec.fits, v1 to v4", identify, read)
