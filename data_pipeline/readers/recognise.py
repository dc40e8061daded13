"""Recognises the format of a file and reads it."""

from __future__ import annotations

import os

from data_pipeline.readers.dja import DJA
from data_pipeline.readers.euclid import EUCLID
from data_pipeline.readers.gto import GTO
from data_pipeline.readers.header import Format, ReadOptions
from data_pipeline.readers.jades import JADES_DR3, JADES_DR4
from data_pipeline.readers.opening import open_source
from data_pipeline.readers.own import OWN
from data_pipeline.readers.source import Source
from data_pipeline.readers.specutils_fallback import SPECUTILS
from data_pipeline.readers.stsci import CEERS, STSCI
from data_pipeline.readers.table import TABLE
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

# The first that recognises a file reads it: the particular before the general. JADES and CEERS come before
# STScI, whose names they borrow; plain tables and specutils, which accept almost anything, come last.
FORMATS: tuple[Format, ...] = (OWN, JADES_DR4, JADES_DR3, GTO, DJA, EUCLID, CEERS, STSCI, TABLE, SPECUTILS)


def identify_format(path: str | os.PathLike) -> Format:
    """The format of a file, from its headers alone.

    Raises:
        SpectrumError: for a file of no known format, or one that cannot be opened.
    """
    with open_source(path) as source:
        return _identify(source)


def read_spectrum(
    path: str | os.PathLike,
    *,
    extraction: str = "3pix",
    hdu: str | int | None = None,
    flux_column: str | None = None,
) -> ObservedSpectrum:
    """Reads a spectrum of any known format.

    Args:
        path: FITS (also gzip) or ECSV file.
        extraction: ``3pix`` or ``5pix``, for formats that hold both (JADES DR4, GTO v5); where a file lacks
            the one asked for, the other is read and a note says so.
        hdu: extension to read instead of the format's own.
        flux_column: flux column (GTO: extension) to read instead of the format's own.

    Returns:
        Wavelength [um], flux and error [erg/s/cm2/A] and mask, each (n,), with metadata.

    Raises:
        SpectrumError: for anything that cannot be read; names file, HDU and cure.
    """
    options = ReadOptions(extraction, hdu, flux_column)
    with open_source(path) as source:
        return _identify(source).read(source, options)


def _identify(source: Source) -> Format:
    for known in FORMATS:
        if known.identify(source):
            return known
    raise SpectrumError(
        f"{source.path}: no known format; the file has {source.hdu_names()}. Known: "
        f"{'; '.join(known.description for known in FORMATS)}."
    )
