"""Euclid SIR combined spectra (NISP grism): WAVELENGTH, SIGNAL, VAR, MASK, scaled by FSCALE."""

import numpy as np

from data_pipeline.readers.columns import column_names, column_unit, find_column
from data_pipeline.readers.format import Format, ReadOptions, masked_note, metadata, text_of, value_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, parse_unit

_COLUMNS = ("WAVELENGTH", "SIGNAL", "VAR", "MASK")
_KEYWORDS = {
    "source_id": "SOURC_ID EXTNAME",
    "ra": "RA RA_OBJ",
    "dec": "DEC DEC_OBJ",
    "exposure_time": "EXPTIME",
}
_WORST_FLAG = 64


def _is_spectrum(hdu) -> bool:
    return all(find_column(hdu, [name]) for name in _COLUMNS)


def identify(source: Source) -> bool:
    """True if there is a table with Euclid's four columns."""
    return bool(_spectra(source))


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read one spectrum; pixels with an odd MASK or one of 64 and more are masked."""
    hdu = source.table(_only_spectrum(source) if options.hdu is None else options.hdu)
    scale = value_of(hdu.header, "FSCALE")
    if not (np.isfinite(scale) and scale > 0):
        raise SpectrumError(
            f"{source.where(hdu)}: keyword FSCALE is missing or not positive; SIGNAL has no scale without it."
        )
    flux = source.column(hdu, options.flux_column or "SIGNAL") * scale
    _check_variance_unit(source, hdu, flux.unit)
    with np.errstate(invalid="ignore"):  # a negative variance becomes NaN, which masks the pixel
        error = np.sqrt(source.values(hdu, "VAR")) * scale * flux.unit
    flags = source.integers(hdu, "MASK")
    disperser = text_of(hdu.header, "GRISM", "GRATING") or "RGS"
    known = {"target": source.label(hdu), "disperser": disperser, "program": "euclid"}
    mask = (flags % 2 == 1) | (flags >= _WORST_FLAG)
    known["notes"] = masked_note(mask, f"MASK is odd, or {_WORST_FLAG} or more")
    meta = metadata(source, hdu, "euclid-sir", [hdu.header], _KEYWORDS, **known)
    return ObservedSpectrum.from_quantities(source.column(hdu, "WAVELENGTH"), flux, error, mask, meta)


def _spectra(source: Source) -> list[int]:
    return [i for i, hdu in enumerate(source.all_hdus()) if i and column_names(hdu) and _is_spectrum(hdu)]


def _only_spectrum(source: Source) -> int:
    hdus, spectra = source.all_hdus(), _spectra(source)
    if len(spectra) > 1:
        raise SpectrumError(
            f"{source.path}: holds {len(spectra)} spectra; choose one by index or source id, such as "
            f'hdu={spectra[0]} or hdu="{hdus[spectra[0]].name}".'
        )
    return spectra[0]


def _check_variance_unit(source: Source, hdu, flux_unit) -> None:
    text = column_unit(hdu, find_column(hdu, ["VAR"])) or ""
    try:
        squared = parse_unit(text)
    except ValueError:
        squared = None
    if squared is None or not squared.is_equivalent(flux_unit**2):
        raise SpectrumError(
            f"{source.where(hdu)}: column VAR has the unit {text!r}, expected that of SIGNAL squared."
        )


EUCLID = Format("euclid-sir", "Euclid SIR combined spectrum", identify, read)
