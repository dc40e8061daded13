"""CEERS HLSP x1d: the pipeline's table in HDU 1, whose EXTNAME is empty."""

from __future__ import annotations

import re
from dataclasses import replace

from data_pipeline.readers.format import Format, ReadOptions
from data_pipeline.readers.header import strip_zeros, text_of
from data_pipeline.readers.source import Source
from data_pipeline.readers.stsci import has_pipeline_columns, pipeline_metadata, read_pipeline_table
from data_pipeline.spectrum import ObservedSpectrum

_NAME = re.compile(r"hlsp_ceers_jwst_nirspec_(?P<pointing>nirspec\d+)-(?P<id>\d+)_")


def identify(source: Source) -> bool:
    """True if HDU 1 has the pipeline's columns but no name, or the primary header says CEERS."""
    hdu = source.get(1)
    if hdu is None or not has_pipeline_columns(hdu):
        return False
    return hdu.name == "" or "ceers" in text_of(source.primary, "HLSPID").lower()


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads HDU 1. The masked files drop rows, so the grid has jumps; they stay jumps."""
    hdu = source.table(1 if options.hdu is None else options.hdu)
    meta = pipeline_metadata(source, hdu, "ceers")
    name = _NAME.search(source.path.name)
    if name:
        meta = replace(meta, source_id=strip_zeros(name["id"]), tier=f"ceers-{name['pointing']}")
    return read_pipeline_table(source, hdu, options, meta)


CEERS = Format("ceers", "CEERS HLSP x1d", identify, read)
