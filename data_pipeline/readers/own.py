"""The project's own FITS spectra, as `data_pipeline.writers.write_spectrum` writes them."""

from __future__ import annotations

from data_pipeline.readers.header import Format, ReadOptions, text_of, value_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

# What `write_spectrum` writes and this module reads: SpectrumMeta field to FITS keyword.
TEXT_KEYWORDS = {
    "target": "TARGET",
    "source_id": "SOURCEID",
    "disperser": "GRATING",
    "filter": "FILTER",
    "tier": "TIER",
    "field": "FIELD",
    "program": "PROPOSID",
    "extraction": "EXTRACT",
}
NUMBER_KEYWORDS = {"ra": "RA", "dec": "DEC", "exposure_time": "XPOSURE"}
FORMAT_KEYWORD, FORMAT_NAME, TABLE_NAME = "SPECFMT", "kspecsr", "SPECTRUM"


def identify(source: Source) -> bool:
    """True if the primary header says so."""
    return text_of(source.primary, FORMAT_KEYWORD) == FORMAT_NAME


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads the table SPECTRUM after comparing its DATASUM."""
    hdu = source.table(TABLE_NAME if options.hdu is None else options.hdu)
    wavelength = source.column(hdu, "wavelength")
    if "DATASUM" in hdu.header and not _datasum_holds(hdu):
        raise SpectrumError(
            f"{source.path}[{source.label(hdu)}]: DATASUM does not match, so the data were altered after "
            "writing. Get an unaltered copy."
        )
    texts = {name: text_of(source.primary, keyword) for name, keyword in TEXT_KEYWORDS.items()}
    numbers = {name: value_of(source.primary, keyword) for name, keyword in NUMBER_KEYWORDS.items()}
    meta = SpectrumMeta(
        **texts,
        **numbers,
        format=FORMAT_NAME,
        path=str(source.path),
        hdu=source.label(hdu),
        notes=source.notes(),
    )
    return ObservedSpectrum.from_quantities(
        wavelength,
        source.column(hdu, options.flux_column or "flux"),
        source.column(hdu, "uncertainty"),
        source.integers(hdu, "mask") != 0,
        meta,
    )


def _datasum_holds(hdu) -> bool:
    try:
        return bool(hdu.verify_datasum())
    except ValueError:  # the card itself is no number
        return False


OWN = Format("kspecsr", "the project's own FITS spectrum", identify, read)
