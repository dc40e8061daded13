"""JADES HLSP x1d: DR3 (one 5-pixel extraction, EXTRACT1D) and DR4 (EXTRACT5PIX1D and EXTRACT3PIX1D)."""

from __future__ import annotations

from dataclasses import replace

from data_pipeline.jades_names import normalise_tier, parse_jades_file_name, sky_field
from data_pipeline.readers.header import Format, ReadOptions, strip_zeros, text_of, value_of
from data_pipeline.readers.source import Source, find_column
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta

EXTRACTION_HDU = {"3pix": "EXTRACT3PIX1D", "5pix": "EXTRACT5PIX1D"}
# The DR4 notes call the last FLUX_NOD2_ERR, the released files FLUX_ERR_NOD2.
_ERROR_COLUMNS = {"FLUX": ("FLUX_ERR",), "FLUX_NOD2": ("FLUX_ERR_NOD2", "FLUX_NOD2_ERR")}


def _first_table(source: Source):
    return source.get(1) if source.hdus is not None else None


def identify_dr4(source: Source) -> bool:
    """True if the first extension is one of the two DR4 extractions."""
    hdu = _first_table(source)
    return hdu is not None and hdu.name in EXTRACTION_HDU.values()


def identify_dr3(source: Source) -> bool:
    """True for EXTRACT1D with FLUX_ERR, which the STScI pipeline calls FLUX_ERROR."""
    hdu = _first_table(source)
    return hdu is not None and hdu.name == "EXTRACT1D" and find_column(hdu, ["FLUX_ERR"]) is not None


def read_dr4(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads the chosen extraction of a DR4 file."""
    key = EXTRACTION_HDU[options.extraction] if options.hdu is None else options.hdu
    hdu = source.table(key)
    extraction = next((name for name, hdu_name in EXTRACTION_HDU.items() if hdu.name == hdu_name), "")
    return _read(source, hdu, options, "jades-dr4", extraction, ())


def read_dr3(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads a DR3 file, whose only extraction has 5 pixels; asked for 3, it says so in a note."""
    hdu = source.table("EXTRACT1D" if options.hdu is None else options.hdu)
    asked_other = options.extraction != "5pix" and options.hdu is None
    notes = (
        ("the file has the 5-pixel extraction only; 3pix was asked for, 5pix read",) if asked_other else ()
    )
    return _read(source, hdu, options, "jades-dr3", "5pix", notes)


def _read(source, hdu, options, format_name, extraction, notes) -> ObservedSpectrum:
    flux_column = options.flux_column or "FLUX"
    error_column = find_column(hdu, _ERROR_COLUMNS.get(flux_column.upper(), ())) or f"{flux_column}_ERR"
    meta = replace(_metadata(source, hdu, format_name), extraction=extraction, notes=notes + source.notes())
    return ObservedSpectrum.from_quantities(
        source.column(hdu, "WAVELENGTH"),
        source.column(hdu, flux_column),
        source.column(hdu, error_column),
        meta=meta,
    )


def _metadata(source: Source, hdu, format_name: str) -> SpectrumMeta:
    primary = source.primary
    # HLSPTIER is spelt in three ways, so the tier comes from the file name; the header is second best
    name = parse_jades_file_name(source.path.name)
    tier = name.tier if name else normalise_tier(text_of(primary, "HLSPTIER"))
    identifier = name.source_id if name else text_of(hdu.header, "SOURCEID") or text_of(primary, "TARGET")
    return SpectrumMeta(
        target=text_of(primary, "TARGET"),
        source_id=strip_zeros(identifier),
        ra=value_of(primary, "RA"),
        dec=value_of(primary, "DEC"),
        disperser=text_of(primary, "GRATING").upper(),
        filter=text_of(primary, "FILTER").upper(),
        tier=tier,
        field=sky_field(tier, text_of(primary, "HLSPTARG")),
        program=text_of(primary, "PROPOSID"),
        exposure_time=value_of(primary, "XPOSURE"),
        format=format_name,
        path=str(source.path),
        hdu=source.label(hdu),
    )


JADES_DR4 = Format("jades-dr4", "JADES HLSP x1d, DR4 (3- and 5-pixel extraction)", identify_dr4, read_dr4)
JADES_DR3 = Format("jades-dr3", "JADES HLSP x1d, DR1 to DR3 (5-pixel extraction)", identify_dr3, read_dr3)
