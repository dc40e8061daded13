"""Writer of the project's own FITS spectra: units, mask, provenance and checksums."""

import os
from collections.abc import Mapping

import numpy as np
from astropy.io import fits

from data_pipeline.readers.own import FORMAT_KEYWORD, FORMAT_NAME, KEYWORDS, TABLE_NAME
from data_pipeline.spectrum import FLUX_UNIT, WAVELENGTH_UNIT, ObservedSpectrum
from data_pipeline.writers.atomic import replacing
from data_pipeline.writers.jades import table_hdu

_STRUCTURAL = {"SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "TFIELDS", "END"}
_RESERVED = _STRUCTURAL | {FORMAT_KEYWORD, "CHECKSUM", "DATASUM", *KEYWORDS.values()}


def write_spectrum(
    path: str | os.PathLike, spectrum: ObservedSpectrum, provenance: Mapping[str, str]
) -> None:
    """Write a spectrum as FITS; `data_pipeline.readers.read_spectrum` and specutils read it back.

    The table SPECTRUM holds wavelength [um], flux and uncertainty [erg/s/cm2/A] and mask (True = bad), all
    float64 and unrounded; the primary header holds the metadata and the provenance; both carry CHECKSUM and
    DATASUM.

    Args:
        path: the file; replaced if it exists.
        spectrum: the spectrum.
        provenance: keyword to text, such as ``{"SOFTWARE": "kspecsr 0.1.0", "INPUT": "x1d.fits"}``. Keywords
            longer than eight characters become HIERARCH cards, long texts CONTINUE cards.

    Raises:
        ValueError: for a keyword that the format uses itself, or text that FITS cannot hold.
    """
    primary = fits.PrimaryHDU(header=_primary_header(spectrum, provenance))
    names = {"wavelength": "wavelength", "flux": "flux", "uncertainty": "error", "mask": "mask"}
    columns = {column: getattr(spectrum, name) for column, name in names.items()}
    wavelength_unit, flux_unit = (unit.to_string("fits") for unit in (WAVELENGTH_UNIT, FLUX_UNIT))
    units = {"wavelength": wavelength_unit, "flux": flux_unit, "uncertainty": flux_unit}
    # astropy would refuse the temporary name, so it gets the open file
    with replacing(path) as temporary, temporary.open("wb") as stream:
        hdus = fits.HDUList([primary, table_hdu(TABLE_NAME, columns, units)])
        hdus.writeto(stream, checksum=True)


def _primary_header(spectrum: ObservedSpectrum, provenance: Mapping[str, str]) -> fits.Header:
    header = fits.Header()
    header[FORMAT_KEYWORD] = (FORMAT_NAME, "layout of this file")
    for name, keyword in KEYWORDS.items():
        value = getattr(spectrum.meta, name)
        if value != "" and (isinstance(value, str) or np.isfinite(value)):
            header[keyword] = value
    for keyword, text in provenance.items():
        if keyword.upper() in _RESERVED:
            raise ValueError(f"provenance keyword {keyword!r} is used by the format itself; choose another.")
        try:
            header[keyword if len(keyword) <= 8 else f"HIERARCH {keyword}"] = str(text)
        except ValueError as error:
            raise ValueError(
                f"provenance {keyword}={text!r} cannot stand in a FITS header: {error}"
            ) from error
    return header
