"""JADES HLSP x1d: DR3 (one 5-pixel extraction, EXTRACT1D) and DR4 (EXTRACT5PIX1D and EXTRACT3PIX1D)."""

from dataclasses import replace

from data_pipeline.jades_names import normalise_tier, parse_jades_file_name, sky_field
from data_pipeline.readers.columns import column_names, find_column
from data_pipeline.readers.format import Format, ReadOptions, metadata, text_of
from data_pipeline.readers.quality import bad_pixels
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta

EXTRACTION_HDU = {"3pix": "EXTRACT3PIX1D", "5pix": "EXTRACT5PIX1D"}
# The DR4 notes call the last FLUX_NOD2_ERR, the released files FLUX_ERR_NOD2.
_ERROR_COLUMNS = {"FLUX": ("FLUX_ERR",), "FLUX_NOD2": ("FLUX_ERR_NOD2", "FLUX_NOD2_ERR")}
_KEYWORDS = {
    "target": "TARGET",
    "ra": "RA",
    "dec": "DEC",
    "disperser": "GRATING",
    "filter": "FILTER",
    "program": "PROPOSID",
    "exposure_time": "XPOSURE",
}


def identify_dr4(source: Source) -> bool:
    """True if the file has one of the two DR4 extractions."""
    return any(source.get(name) is not None for name in EXTRACTION_HDU.values())


def identify_dr3(source: Source) -> bool:
    """True for EXTRACT1D with FLUX_ERR, which the STScI pipeline calls FLUX_ERROR."""
    hdu = source.get("EXTRACT1D")
    return hdu is not None and find_column(hdu, ["FLUX_ERR"]) is not None


def read_dr4(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read the chosen extraction of a DR4 file."""
    hdu = source.table(EXTRACTION_HDU[options.extraction] if options.hdu is None else options.hdu)
    extraction = next((name for name, hdu_name in EXTRACTION_HDU.items() if hdu.name == hdu_name), "")
    return _read(source, hdu, options, _metadata(source, hdu, "jades-dr4", extraction))


def read_dr3(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read a DR3 file, whose only extraction has 5 pixels; asked for 3, it says so in a note."""
    hdu = source.table("EXTRACT1D" if options.hdu is None else options.hdu)
    notes = ()
    if options.extraction != "5pix" and options.hdu is None:
        notes = ("the file has the 5-pixel extraction only; 3pix was asked for, 5pix read",)
    return _read(source, hdu, options, _metadata(source, hdu, "jades-dr3", "5pix", notes))


def _read(source: Source, hdu, options: ReadOptions, meta: SpectrumMeta) -> ObservedSpectrum:
    flux_column = options.flux_column or "FLUX"
    error_column = find_column(hdu, _ERROR_COLUMNS.get(flux_column.upper(), ())) or f"{flux_column}_ERR"
    columns = [source.column(hdu, name) for name in ("WAVELENGTH", flux_column, error_column)]
    mask, notes = bad_pixels(column_names(hdu), lambda name: source.flags(hdu, name), source.where(hdu))
    return ObservedSpectrum.from_quantities(*columns, mask, replace(meta, notes=meta.notes + notes))


def _metadata(source: Source, hdu, format_name: str, extraction: str, notes=()) -> SpectrumMeta:
    primary = source.primary
    # HLSPTIER is spelt in three ways, so the tier comes from the file name; the header is second best
    name = parse_jades_file_name(source.path.name)
    tier = name.tier if name else normalise_tier(text_of(primary, "HLSPTIER"))
    identifier = name.source_id if name else text_of(hdu.header, "SOURCEID") or text_of(primary, "TARGET")
    return metadata(
        source,
        hdu,
        format_name,
        [primary],
        _KEYWORDS,
        source_id=identifier,
        tier=tier,
        field=sky_field(tier, text_of(primary, "HLSPTARG")),
        extraction=extraction,
        notes=notes,
    )


JADES_DR4 = Format("jades-dr4", "JADES HLSP x1d, DR4 (3- and 5-pixel extraction)", identify_dr4, read_dr4)
JADES_DR3 = Format("jades-dr3", "JADES HLSP x1d, DR1 to DR3 (5-pixel extraction)", identify_dr3, read_dr3)
