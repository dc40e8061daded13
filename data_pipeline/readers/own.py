"""The project's own files: spectra of `data_pipeline.writers.spectrum_fits`, and results of kspecsr."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data_pipeline.readers.format import Format, ReadOptions, masked_note, metadata, text_of, value_of
from data_pipeline.readers.source import Source
from data_pipeline.readers.table import read_table
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

# Field of SpectrumMeta to FITS keyword, for the writer too.
NUMBER_KEYWORDS = {"ra": "RA", "dec": "DEC", "exposure_time": "XPOSURE", "zero_point": "ZEROPT"}
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
RESULT_FORMAT = "kspecsr-sr"  # files of `kspecsr.results.result.Result`
_HEAD = 4096  # characters of an ECSV result that hold the metadata needed here


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
    notes = masked_note(mask, "column mask is true")
    meta = metadata(source, hdu, FORMAT_NAME, [source.primary], KEYWORDS, notes=notes)
    return ObservedSpectrum.from_quantities(wavelength, flux, source.column(hdu, "uncertainty"), mask, meta)


def _datasum_holds(hdu) -> bool:
    try:
        return bool(hdu.verify_datasum())
    except ValueError:  # the card itself is no number
        return False


def identify_result(source: Source) -> bool:
    """True if the primary header, or the metadata of an ECSV table, name a result."""
    return text_of(_result_cards(source), FORMAT_KEYWORD) == RESULT_FORMAT


def read_result_spectrum(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read the super-resolved spectrum of a result; it does not pass for an observed one."""
    spectrum, cards = read_table(source, options), _result_cards(source)
    texts = {"disperser": text_of(cards, "DISPERSE"), "format": RESULT_FORMAT}
    return spectrum.replace(meta=replace(spectrum.meta, redshift=value_of(cards, "Z"), **texts))


def _result_cards(source: Source) -> Mapping[str, Any]:
    """Primary header; of an ECSV table, the first entries of its metadata."""
    if source.hdus is not None:
        return source.primary
    rows = dict(re.findall(r"^# - \{(\w+): (.*)\}$", source.text[:_HEAD], re.MULTILINE))
    redshift = rows.get("Z", "null")
    return {**rows, "Z": None if redshift == "null" else float(redshift)}


OWN = Format(FORMAT_NAME, "the project's own FITS spectrum", identify, read)
RESULT = Format(RESULT_FORMAT, "a result of kspecsr (FITS or ECSV)", identify_result, read_result_spectrum)
