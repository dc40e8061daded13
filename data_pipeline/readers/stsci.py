"""STScI pipeline x1d, and the CEERS release of it: table EXTRACT1D with FLUX, FLUX_ERROR and DQ."""

import re
from dataclasses import replace

from data_pipeline.readers.columns import column_names, find_column
from data_pipeline.readers.format import (
    Format,
    ReadOptions,
    masked_note,
    metadata,
    strip_zeros,
    text_of,
    value_of,
)
from data_pipeline.readers.quality import bad_pixels
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

DO_NOT_USE = 1
# ERROR is the name that pipelines before 1.1 gave
ERROR_COLUMNS = {"FLUX": ("FLUX_ERROR", "ERROR"), "SURF_BRIGHT": ("SB_ERROR",)}
# Looked for in the table's header, then in the primary one.
_KEYWORDS = {"ra": "SRCRA RA TARG_RA", "dec": "SRCDEC DEC TARG_DEC"}
_CEERS_NAME = re.compile(r"hlsp_ceers_jwst_nirspec_(?P<pointing>nirspec\d+)-(?P<id>\d+)_")


def _has_pipeline_columns(hdu) -> bool:
    return all(find_column(hdu, names) for names in (("WAVELENGTH",), ("FLUX",), ERROR_COLUMNS["FLUX"]))


def identify(source: Source) -> bool:
    """True for a table EXTRACT1D of JWST with the pipeline's columns."""
    hdu = source.get("EXTRACT1D")
    return hdu is not None and _has_pipeline_columns(hdu)


def identify_ceers(source: Source) -> bool:
    """True if HDU 1 has the pipeline's columns and the file calls itself CEERS."""
    hdu = source.get(1)
    if hdu is None or not _has_pipeline_columns(hdu):
        return False
    told = text_of(source.primary, "HLSPID") + (source.path.name if hdu.name == "" else "")
    return "ceers" in told.lower()


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read EXTRACT1D; pixels with DQ bit 1 (DO_NOT_USE) are masked."""
    if options.hdu is None:
        several = [number for number, hdu in enumerate(source.all_hdus()) if hdu.name == "EXTRACT1D"]
        if len(several) > 1:
            raise SpectrumError(
                f"{source.path}: holds {len(several)} spectra (HDUs {several}); choose one, "
                f"such as hdu={several[0]} in Python, --hdu {several[0]} on the command line."
            )
    hdu = source.table("EXTRACT1D" if options.hdu is None else options.hdu)
    return _read_table(source, hdu, options, _metadata(source, hdu, "stsci-x1d"))


def read_ceers(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read HDU 1. The masked files drop rows, so the grid has jumps; they stay jumps."""
    hdu = source.table(1 if options.hdu is None else options.hdu)
    meta = _metadata(source, hdu, "ceers")
    name = _CEERS_NAME.search(source.path.name)
    if name:
        meta = replace(meta, source_id=strip_zeros(name["id"]), tier=f"ceers-{name['pointing']}")
    return _read_table(source, hdu, options, meta)


def _read_table(source: Source, hdu, options: ReadOptions, meta: SpectrumMeta) -> ObservedSpectrum:
    flux_name = (options.flux_column or "FLUX").upper()
    flux = source.column(hdu, flux_name)
    if any(base.physical_type == "angle" for base in flux.unit.decompose().bases):
        raise SpectrumError(
            f"{meta.origin}: column {flux_name} is a surface brightness ({flux.unit}), expected a flux "
            'density; use flux_column="FLUX".'
        )
    error_name = find_column(hdu, ERROR_COLUMNS.get(flux_name, (f"{flux_name}_ERROR",)))
    error = source.column(hdu, error_name or f"{flux_name}_ERROR")
    names, where = column_names(hdu), source.where(hdu)
    mask, notes = bad_pixels(names, lambda name: source.flags(hdu, name), where, known=("DQ",))
    if find_column(hdu, ["DQ"]):
        unusable = (source.integers(hdu, "DQ") & DO_NOT_USE) != 0
        notes += masked_note(unusable, "DQ has the bit 1 (DO_NOT_USE)")
        mask = unusable if mask is None else mask | unusable
    meta = replace(meta, notes=meta.notes + notes)
    return ObservedSpectrum.from_quantities(source.column(hdu, "WAVELENGTH"), flux, error, mask, meta)


def _metadata(source: Source, hdu, format_name: str) -> SpectrumMeta:
    primary, header = source.primary, hdu.header
    target = text_of(header, "SRCNAME") or text_of(primary, "TARGNAME", "TARGPROP", "TARGET")
    return metadata(
        source,
        hdu,
        format_name,
        [header, primary],
        _KEYWORDS,
        target=target,
        source_id=text_of(header, "SOURCEID") or text_of(primary, "SOURCEID") or target,
        disperser=text_of(primary, "GRATING") or text_of(header, "GRATING"),
        filter=text_of(primary, "FILTER") or text_of(header, "FILTER"),
        field=text_of(primary, "HLSPTARG", "TARGNAME").lower(),
        program=strip_zeros(text_of(primary, "PROGRAM", "PROPOSID")),
        exposure_time=value_of(primary, "EFFEXPTM", "XPOSURE", "EXPTIME"),
    )


STSCI = Format("stsci-x1d", "STScI JWST pipeline x1d", identify, read)
CEERS = Format("ceers", "CEERS HLSP x1d", identify_ceers, read_ceers)
