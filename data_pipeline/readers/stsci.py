"""STScI pipeline x1d: table EXTRACT1D with FLUX, FLUX_ERROR and DQ."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from data_pipeline.readers.header import Format, ReadOptions, strip_zeros, text_of, value_of
from data_pipeline.readers.source import Source, find_column
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

DO_NOT_USE = 1
# ERROR is the name that pipelines before 1.1 gave
ERROR_COLUMNS = {"FLUX": ("FLUX_ERROR", "ERROR"), "SURF_BRIGHT": ("SB_ERROR",)}


def has_pipeline_columns(hdu) -> bool:
    """True if a table has the pipeline's wavelength, flux and flux error."""
    return all(find_column(hdu, names) for names in (("WAVELENGTH",), ("FLUX",), ERROR_COLUMNS["FLUX"]))


def identify(source: Source) -> bool:
    """True for a table EXTRACT1D of JWST with the pipeline's columns."""
    hdu = source.get("EXTRACT1D")
    return hdu is not None and has_pipeline_columns(hdu)


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads EXTRACT1D; pixels with DQ bit 1 (DO_NOT_USE) are masked."""
    key = options.hdu
    if key is None:
        several = [number for number, hdu in enumerate(source.all_hdus()) if hdu.name == "EXTRACT1D"]
        if len(several) > 1:
            raise SpectrumError(
                f"{source.path}: holds {len(several)} spectra (HDUs {several}); choose one, "
                f"such as hdu={several[0]}."
            )
        key = "EXTRACT1D"
    hdu = source.table(key)
    return read_pipeline_table(source, hdu, options, pipeline_metadata(source, hdu, "stsci-x1d"))


def read_pipeline_table(source: Source, hdu, options: ReadOptions, meta: SpectrumMeta) -> ObservedSpectrum:
    """Reads a table with the pipeline's columns, DQ included."""
    flux_name = (options.flux_column or "FLUX").upper()
    flux = source.column(hdu, flux_name)
    if "solid angle" in _dimensions(flux.unit):
        raise SpectrumError(
            f"{meta.origin}: column {flux_name} is a surface brightness ({flux.unit}), expected a flux "
            'density; use flux_column="FLUX".'
        )
    error_name = find_column(hdu, ERROR_COLUMNS.get(flux_name, (f"{flux_name}_ERROR",)))
    error = source.column(hdu, error_name or f"{flux_name}_ERROR")
    mask = np.zeros(flux.shape, bool)
    if find_column(hdu, ["DQ"]):
        mask = (source.integers(hdu, "DQ") & DO_NOT_USE) != 0
    return ObservedSpectrum.from_quantities(source.column(hdu, "WAVELENGTH"), flux, error, mask, meta)


def _dimensions(unit) -> list[str]:
    """``solid angle`` if any base of the unit is one."""
    return ["solid angle" for base in unit.decompose().bases if base.physical_type == "angle"]


def pipeline_metadata(source: Source, hdu, format_name: str) -> SpectrumMeta:
    """Metadata from the keywords of the JWST pipeline."""
    primary, header = source.primary, hdu.header
    target = text_of(header, "SRCNAME") or text_of(primary, "TARGNAME", "TARGPROP", "TARGET")
    identifier = text_of(header, "SOURCEID") or text_of(primary, "SOURCEID") or target
    ra = value_of(header, "SRCRA", "RA")
    dec = value_of(header, "SRCDEC", "DEC")
    return SpectrumMeta(
        target=target,
        source_id=strip_zeros(identifier),
        ra=ra if np.isfinite(ra) else value_of(primary, "SRCRA", "RA", "TARG_RA"),
        dec=dec if np.isfinite(dec) else value_of(primary, "SRCDEC", "DEC", "TARG_DEC"),
        disperser=(text_of(primary, "GRATING") or text_of(header, "GRATING")).upper(),
        filter=(text_of(primary, "FILTER") or text_of(header, "FILTER")).upper(),
        field=text_of(primary, "HLSPTARG", "TARGNAME").lower(),
        program=strip_zeros(text_of(primary, "PROGRAM", "PROPOSID")),
        exposure_time=value_of(primary, "EFFEXPTM", "XPOSURE", "EXPTIME"),
        format=format_name,
        path=str(source.path),
        hdu=source.label(hdu),
        notes=source.notes(),
    )


STSCI = Format("stsci-x1d", "STScI JWST pipeline x1d", identify, read)


_NAME = re.compile(r"hlsp_ceers_jwst_nirspec_(?P<pointing>nirspec\d+)-(?P<id>\d+)_")


def identify_ceers(source: Source) -> bool:
    """True if HDU 1 has the pipeline's columns but no name, or the primary header says CEERS."""
    hdu = source.get(1)
    if hdu is None or not has_pipeline_columns(hdu):
        return False
    return hdu.name == "" or "ceers" in text_of(source.primary, "HLSPID").lower()


def read_ceers(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads HDU 1. The masked files drop rows, so the grid has jumps; they stay jumps."""
    hdu = source.table(1 if options.hdu is None else options.hdu)
    meta = pipeline_metadata(source, hdu, "ceers")
    name = _NAME.search(source.path.name)
    if name:
        meta = replace(meta, source_id=strip_zeros(name["id"]), tier=f"ceers-{name['pointing']}")
    return read_pipeline_table(source, hdu, options, meta)


CEERS = Format("ceers", "CEERS HLSP x1d", identify_ceers, read_ceers)
