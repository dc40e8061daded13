"""Recognise the format of a file and read it, with specutils where nothing here knows it.

The other way round, `register` gives the formats of this project to specutils. `data_pipeline/__init__.py`
has it called when specutils is imported, before or after `data_pipeline`, so that importing `data_pipeline`
alone costs nothing.
"""

import hashlib
import os
import warnings
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.readers.columns import column_names
from data_pipeline.readers.dja import DJA
from data_pipeline.readers.euclid import EUCLID
from data_pipeline.readers.format import Format, ReadOptions, metadata
from data_pipeline.readers.gto import GTO
from data_pipeline.readers.identity import check_wavelengths
from data_pipeline.readers.jades import JADES_DR3, JADES_DR4
from data_pipeline.readers.opening import open_source
from data_pipeline.readers.own import OWN, RESULT, RESULT_FORMAT
from data_pipeline.readers.quality import may_mark
from data_pipeline.readers.source import Source
from data_pipeline.readers.stsci import CEERS, STSCI
from data_pipeline.readers.table import TABLE
from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumError, parse_unit


def identify_specutils(source: Source) -> bool:
    """True for any other FITS file: specutils is asked when it is read."""
    return source.hdus is not None


def read_specutils(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read with one of specutils' own loaders."""
    # seconds to import: only for formats that nothing here knows
    from astropy.nddata import StdDevUncertainty
    from specutils import Spectrum

    if any(chosen is not None for chosen in (options.hdu, options.flux_column, options.row)):
        raise SpectrumError(
            f"{source.path}: no known format, so hdu=, row= and flux_column= cannot be honoured; the file "
            f"has {source.hdu_names()}."
        )
    cure = "Convert it to a table with wavelength, flux and error columns that state their units."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of third-party loaders; what matters is checked below
            spectrum = Spectrum.read(str(source.path))
    except Exception as error:  # whatever a third-party loader raises, the caller gets one kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise SpectrumError(
            f"{source.path}: not recognised; the file has {source.hdu_names()}, and specutils says: "
            f"{reason}. {cure}"
        ) from error
    if spectrum.uncertainty is None:
        raise SpectrumError(
            f"{source.path}: specutils reads it, but without errors, which are needed. {cure}"
        )
    if spectrum.flux.ndim != 1:
        raise SpectrumError(
            f"{source.path}: specutils reads an array of shape {spectrum.flux.shape}; expected one spectrum. "
            f"{cure}"
        )
    columns = [name for hdu in source.all_hdus() for name in column_names(hdu)]
    notes = tuple(f"column {name} was not read: it may mark bad pixels" for name in columns if may_mark(name))
    headers = [hdu.header for hdu in source.all_hdus()]
    meta = metadata(source, None, "specutils", headers, {}, notes=notes)
    check_wavelengths(meta.origin, [], columns)
    error = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity
    mask = None if spectrum.mask is None else np.asarray(spectrum.mask, dtype=bool)
    return ObservedSpectrum.from_quantities(spectrum.spectral_axis, spectrum.flux, error, mask, meta)


SPECUTILS = Format("specutils", "any format with a loader in specutils", identify_specutils, read_specutils)


# The first that recognises a file reads it: the particular before the general. JADES and CEERS come before
# STScI, whose names they borrow; plain tables and specutils, which accept almost anything, come last.
_OBSERVATORIES = (JADES_DR4, JADES_DR3, GTO, DJA, EUCLID, CEERS, STSCI)
FORMATS: tuple[Format, ...] = (OWN, RESULT, *_OBSERVATORIES, TABLE, SPECUTILS)


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
    row: int | None = None,
) -> ObservedSpectrum:
    """Read a spectrum of any known format.

    Args:
        path: FITS or ECSV file, plain or packed by gzip, bzip2 or xz.
        extraction: ``3pix`` or ``5pix``, for formats that hold both (JADES DR4, GTO v5); where a file lacks
            the one asked for, the other is read and a note says so.
        hdu: extension to read instead of the format's own.
        flux_column: flux column (GTO: extension) to read instead of the format's own.
        row: which spectrum of a table with one per row (vectors), from 0.

    Returns:
        Wavelength [um], flux and error [erg/s/cm2/A] and mask, each (n,), with metadata.

    Raises:
        SpectrumError: for anything that cannot be read; names file, HDU and cure.
    """
    options = ReadOptions(extraction, hdu, flux_column, row)
    with open_source(path) as source:
        source.row = row
        names = [one.name for one in source.all_hdus()] if isinstance(hdu, str) else []
        if names.count(str(hdu).upper()) > 1:
            raise SpectrumError(
                f"{path}: has {names.count(hdu.upper())} HDUs {hdu}; choose by number: {source.hdu_names()}."
            )
        spectrum = _identify(source).read(source, options)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return spectrum.replace(meta=replace(spectrum.meta, sha256=digest))


def _identify(source: Source) -> Format:
    for known in FORMATS:
        if known.identify(source):
            return known
    raise SpectrumError(
        f"{source.path}: no known format; the file has {source.hdu_names()}. Known: "
        f"{'; '.join(known.description for known in FORMATS)}."
    )


# Above specutils' own loaders, of which "JWST x1d" accepts JADES files but loses their errors.
PRIORITY = 100
# specutils reads plain tables and its own formats itself
REGISTERED: tuple[Format, ...] = tuple(known for known in FORMATS if known.name not in ("table", "specutils"))


def register(specutils) -> None:
    """Register a reader per format with the imported specutils, for `Spectrum.read`, `SpectrumList.read`."""
    from specutils.io.registers import data_loader  # specutils is imported already when this runs

    for known in REGISTERED:
        data_loader(
            f"kspecsr {known.name}",
            identifier=_identifier(known.name),
            dtype=specutils.Spectrum,
            extensions=["fits", "fits.gz", "ecsv"],
            priority=PRIORITY,
            force=True,
        )(_load)


def _load(file, **options):
    """Read one file; `options` are those of `data_pipeline.readers.read_spectrum`."""
    # astropy hands over the open file whenever it had to recognise the format
    path = file if isinstance(file, str | os.PathLike) else file.name
    spectrum = read_spectrum(path, **options)
    # results stay in the unit in which they were written
    own = spectrum.meta.format == RESULT_FORMAT
    return spectrum.to_specutils(parse_unit(spectrum.meta.flux_unit) if own else FLUX_UNIT)


def _identifier(name: str):
    def identify(origin, path, *args, **kwargs) -> bool:
        if origin != "read" or not isinstance(path, str | os.PathLike) or not Path(path).is_file():
            return False
        status = os.stat(path)
        return _format_name(os.fspath(path), status.st_mtime_ns, status.st_size) == name

    return identify


@lru_cache(maxsize=16)  # astropy asks every registered format in turn: open the file once
def _format_name(path: str, modified: int, size: int) -> str:
    try:
        return identify_format(path).name
    except SpectrumError:
        return ""  # not ours to judge: specutils goes on with its own loaders
