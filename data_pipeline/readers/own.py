"""The project's own FITS spectra, as `data_pipeline.writers.spectrum_fits.write_spectrum` writes them."""

from __future__ import annotations

from data_pipeline.readers.format import Format, ReadOptions, metadata, text_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

# Field of SpectrumMeta to FITS keyword, for the writer too.
NUMBER_KEYWORDS = {"ra": "RA", "dec": "DEC", "exposure_time": "XPOSURE"}
KEYWORDS = {
    "target": "TARGET",
    "source_id": "SOURCEID",
    "disperser": "GRATING",
    "filter": "FILTER",
    "tier": "TIER",
    "field": "FIELD",
    "program": "PROPOSID",
    "extraction": "EXTRACT",
    **NUMBER_KEYWORDS,
}
FORMAT_KEYWORD, FORMAT_NAME, TABLE_NAME = "SPECFMT", "kspecsr", "SPECTRUM"


def identify(source: Source) -> bool:
    """True if the primary header says so."""
    return text_of(source.primary, FORMAT_KEYWORD) == FORMAT_NAME


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read the table SPECTRUM after comparing its DATASUM."""
    hdu = source.table(TABLE_NAME if options.hdu is None else options.hdu)
    wavelength = source.column(hdu, "wavelength")
    if "DATASUM" in hdu.header and not _datasum_holds(hdu):
        raise SpectrumError(
            f"{source.where(hdu)}: DATASUM does not match, so the data were altered after writing. "
            "Get an unaltered copy."
        )
    flux = source.column(hdu, options.flux_column or "flux")
    mask = source.integers(hdu, "mask") != 0
    meta = metadata(source, hdu, FORMAT_NAME, [source.primary], KEYWORDS)
    return ObservedSpectrum.from_quantities(wavelength, flux, source.column(hdu, "uncertainty"), mask, meta)


def _datasum_holds(hdu) -> bool:
    try:
        return bool(hdu.verify_datasum())
    except ValueError:  # the card itself is no number
        return False


OWN = Format("kspecsr", "the project's own FITS spectrum", identify, read)
