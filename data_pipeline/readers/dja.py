"""DAWN JWST Archive (msaexp) ``*.spec.fits``, versions 1 to 4: table SPEC1D."""

import re

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.instrument.prism_pixels import DJA_ZERO_POINT
from data_pipeline.readers.columns import find_column
from data_pipeline.readers.format import Format, ReadOptions, masked_note, metadata, strip_zeros, text_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta, wavelength_in_um

_ERROR_COLUMN = {"flux": "err", "aper_flux": "aper_err"}
_KEYWORDS = {
    "target": "SRCNAME",
    "ra": "SRCRA",
    "dec": "SRCDEC",
    "disperser": "GRATING",
    "filter": "FILTER",
    "exposure_time": "EFFEXPTM EXPTIME",
}
_VERSION = re.compile(r"-v\d+$")
_ROOT = re.compile(r"^(?P<root>.+)_(?P<disperser>[a-z0-9]+)-(?P<filter>[a-z0-9]+)_[^_]+_[^_]+\.spec\.fits")


def identify(source: Source) -> bool:
    """True if there is a table SPEC1D with wave, flux and err."""
    hdu = source.get("SPEC1D")
    return hdu is not None and all(find_column(hdu, [name]) for name in ("wave", "flux", "err"))


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read SPEC1D. Bad pixels are NaN since v2, flux = err = 0 in v1, and False in ``valid``.

    Like msaexp, a polynomial in ln(wave / Angstrom) in the POLY* cards and an ``escale`` column are applied.
    """
    hdu = source.table("SPEC1D" if options.hdu is None else options.hdu)
    flux_name = (options.flux_column or "flux").lower()
    if flux_name not in _ERROR_COLUMN:
        raise SpectrumError(
            f"{source.where(hdu)}: no error column is known for flux_column={flux_name!r}; "
            f"choose {' or '.join(_ERROR_COLUMN)}."
        )
    wavelength = source.column(hdu, "wave")
    flux = source.column(hdu, flux_name)
    error = source.column(hdu, _ERROR_COLUMN[flux_name])
    notes: list[str] = []
    # v1 has zeros where v2 and later have NaN
    mask = (flux.value == 0) & (error.value == 0)
    if mask.any():
        notes.append(f"{mask.sum()} pixels masked: flux and error are zero")
    if find_column(hdu, ["valid"]):
        invalid = source.integers(hdu, "valid") <= 0  # -1: blank
        notes += masked_note(invalid, "column valid is false")
        mask = mask | invalid
    if find_column(hdu, ["escale"]):
        error = error * source.values(hdu, "escale")
        notes.append("errors multiplied by the column escale")
    coefficients = [hdu.header[f"POLY{k}"] for k in range(10) if f"POLY{k}" in hdu.header]
    if coefficients:
        where = SpectrumMeta(path=str(source.path), hdu=source.label(hdu))
        with np.errstate(all="ignore"):  # pixels without a wavelength are dropped later
            scale = np.polyval(coefficients, np.log(wavelength_in_um(wavelength, where) * ANGSTROM_PER_UM))
        flux, error = flux * scale, error * scale
        notes.append("flux and error multiplied by the polynomial of the POLY cards")
    if text_of(hdu.header, "GRATING") == "PRISM":
        low, high = DJA_ZERO_POINT
        notes.append(
            f"zero point not corrected: prism redshifts of DJA exceed gratings' by {low:g} to {high:g} km/s "
            "in the median (159 in 13 pairs of v4, 68 % from 36 to 249); --zero-point takes one off"
        )
    return ObservedSpectrum.from_quantities(wavelength, flux, error, mask, _metadata(source, hdu, notes))


def _metadata(source: Source, hdu, notes: list[str]) -> SpectrumMeta:
    header = hdu.header
    # SRCNAME is <programme>_<id>
    program, _, identifier = text_of(header, "SRCNAME").partition("_")
    name = _ROOT.match(source.path.name)
    root = name["root"] if name else ""
    return metadata(
        source,
        hdu,
        "dja",
        [header],
        _KEYWORDS,
        source_id=identifier or text_of(header, "SOURCEID"),
        tier=root,
        field=text_of(header, "TARGNAME").lower() or _VERSION.sub("", root),
        program=strip_zeros(text_of(header, "PROGRAM") or program),
        notes=notes,
    )


DJA = Format("dja", "DAWN JWST Archive (msaexp) spec.fits, v1 to v4", identify, read)
