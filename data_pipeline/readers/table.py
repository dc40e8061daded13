"""Any FITS or ECSV table whose columns can be told by name."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import astropy.units as u
import numpy as np
from astropy.io import fits

from data_pipeline.readers.columns import chosen_row, column_names, find_column, first_of, is_fill, listed
from data_pipeline.readers.format import WAVELENGTH_NAMES, Format, ReadOptions, metadata, value_of
from data_pipeline.readers.identity import check_wavelengths
from data_pipeline.readers.quality import bad_pixels, may_mark
from data_pipeline.readers.source import DAMAGE, Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta, parse_unit, split_mask

FLUX_NAMES = ("flux", "flux_density", "signal", "flam", "f_lambda", "fnu", "f_nu", "fluxes")
ERROR_NAMES = (
    *("error", "err", "flux_err", "flux_error", "fluxerr", "uncertainty", "sigma", "noise", "std"),
    *("flux_unc", "unc", "e_flux", "error_flux", "flux_sigma"),
)
IVAR_NAMES = ("ivar", "inverse_variance", "flux_ivar")
VARIANCE_NAMES = ("var", "variance", "flux_var")
# Of several tables, one of these names is the spectrum, and one of those is something else.
_SPECTRUM_HDUS = ("SPEC1D", "SPECTRUM", "EXTRACT1D", "SPEC", "COADD", "SCI")
_OTHER_HDUS = re.compile(r"TEMPL|MODEL|SKY|BACKG|BKG|FIT|CONTIN|SED|TELLUR|STANDARD", re.IGNORECASE)
# Looked for in the table's header, then in the primary one.
_FITS_KEYWORDS = {
    "target": "OBJECT TARGET TARGNAME",
    "source_id": "SOURCEID OBJID ID",
    "ra": "RA RA_TARG",
    "dec": "DEC DEC_TARG",
    "disperser": "GRATING DISPERSE DISPERSER",
    "filter": "FILTER",
    "program": "PROPOSID PROGRAM",
}
_ECSV_KEYWORDS = {
    "target": "TARGET OBJECT",
    "source_id": "SOURCE_ID SOURCEID ID",
    "ra": "RA",
    "dec": "DEC",
    "disperser": "DISPERSER GRATING",
    "filter": "FILTER",
    "exposure_time": "EXPTIME",
}


def identify_table(source: Source) -> bool:
    """True for an ECSV file, or FITS with a table that has a wavelength and a flux column."""
    return source.hdus is None or bool(_tables(source))


def _tables(source: Source) -> list[int]:
    """Numbers of the tables with wavelength and flux."""
    tables = enumerate(source.all_hdus())
    names = {k: column_names(h) for k, h in tables if isinstance(h, fits.BinTableHDU | fits.TableHDU)}
    return [k for k, own in names.items() if first_of(WAVELENGTH_NAMES, own) and first_of(FLUX_NAMES, own)]


def _only_table(source: Source) -> tuple[int, tuple[str, ...]]:
    """The table that holds the spectrum, and a note on others that were passed over."""
    found, hdus = _tables(source), source.all_hdus()
    left = found
    for is_likely in (
        lambda hdu: find_column(hdu, (*ERROR_NAMES, *IVAR_NAMES, *VARIANCE_NAMES)),
        lambda hdu: not _OTHER_HDUS.search(hdu.name),
        lambda hdu: hdu.name.upper() in _SPECTRUM_HDUS,
    ):
        if len(left) > 1:
            left = [k for k in left if is_likely(hdus[k])] or left
    if len(left) > 1:
        raise SpectrumError(
            f"{source.path}: holds {len(left)} spectra (HDUs {left}); choose one, such as hdu={left[0]} in "
            f"Python, --hdu {left[0]} on the command line. The file has {source.hdu_names()}."
        )
    others = ", ".join(source.label(hdus[k]) for k in found if k not in left)
    return left[0], ((f"HDU {source.label(hdus[left[0]])} was read, not {others}",) if others else ())


def read_table(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read wavelength, flux, error (or inverse variance, or variance) and mask by their usual names."""
    if source.hdus is None:
        return _read_ecsv(source, options)
    number, notes = _only_table(source) if options.hdu is None else (options.hdu, ())
    hdu = source.table(number)
    headers = [hdu.header, source.primary]
    exposure = value_of(hdu.header, "EXPTIME", "XPOSURE")
    meta = metadata(source, hdu, "table", headers, _FITS_KEYWORDS, exposure_time=exposure, notes=notes)

    def column(name: str) -> u.Quantity:
        return source.column(hdu, name)

    def flags(name: str) -> np.ndarray:
        if name in images:
            return np.asarray(source.data(images[name]))
        return source.flags(hdu, name)

    # masks that lie in images of their own, of a number per row
    rows = hdu.header.get("NAXIS2")
    images = {
        f"HDU {other.name}": other
        for other in source.all_hdus()
        if isinstance(other, fits.ImageHDU) and may_mark(other.name) and other.shape == (rows,)
    }
    return _assemble([*column_names(hdu), *images], column, flags, meta, options)


def _read_ecsv(source: Source, options: ReadOptions) -> ObservedSpectrum:
    if options.hdu is not None:
        raise SpectrumError(
            f"{source.path}: hdu={options.hdu!r} was asked for, but a text table has no HDUs."
        )
    from astropy.table import QTable  # slow to import: only for text tables

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on style; units and values are checked below
            table = QTable.read(source.text, format="ascii.ecsv")
    except DAMAGE as error:
        raise SpectrumError(
            f"{source.path}: no readable ECSV table ({error}). Write it again with astropy."
        ) from error
    if source.notes():  # the last row is cut, and its numbers with it
        table = table[:-1]
    inner = [value for value in table.meta.values() if isinstance(value, Mapping)]  # such as a FITS header
    parts = (*inner, table.meta)
    header = {str(key).upper().replace(" ", "_"): value for part in parts for key, value in part.items()}
    meta = metadata(source, None, "table", [header], _ECSV_KEYWORDS)
    wave = first_of(WAVELENGTH_NAMES, table.colnames)
    if wave:
        info = table[wave].info
        check_wavelengths(meta.origin, [], [wave, info.description, *map(str, info.meta.values())])

    def flags(name: str) -> np.ndarray:
        return chosen_row(table[name], source.row, f"{source.path}: column {name}")

    def column(name: str) -> u.Quantity:
        where, text = f"{source.path}: column {name}", str(getattr(table[name], "unit", None) or "")
        if not text:
            raise SpectrumError(f"{where} has no unit. State it in the ECSV header, e.g. um.")
        given = flags(name)
        if given.dtype.kind not in "biuf":
            raise SpectrumError(
                f"{where} does not hold real numbers but {given.dtype}; write it as float64, or choose "
                "another with flux_column=."
            )
        stored, null = split_mask(given)
        values = np.asarray(getattr(stored, "value", stored))
        try:
            unit = parse_unit(text)  # spellings that the FITS reader knows, too
        except ValueError as error:
            raise SpectrumError(
                f"{where} has the unknown unit {text!r}. State a linear one in the ECSV header, e.g. um or "
                "erg / (s cm2 Angstrom)."
            ) from error
        null = null | is_fill(values, table[name].info.meta or {})
        return u.Quantity(np.where(null, np.nan, values.astype(np.float64)), unit)

    return _assemble(table.colnames, column, flags, meta, options)


def _assemble(
    names: Sequence[str],
    column: Callable[[str], u.Quantity],
    flags: Callable[[str], np.ndarray],
    meta: SpectrumMeta,
    options: ReadOptions,
) -> ObservedSpectrum:
    """The spectrum from the functions that give a column as a quantity and as flags."""
    flux_name = options.flux_column or first_of(FLUX_NAMES, names)
    wave_name = first_of(WAVELENGTH_NAMES, names)
    for what, name, aliases in (("wavelength", wave_name, WAVELENGTH_NAMES), ("flux", flux_name, FLUX_NAMES)):
        if name is None or name.lower() not in [present.lower() for present in names]:
            raise SpectrumError(
                f"{meta.origin}: no {what} column; looked for {name or ', '.join(aliases)}, the table has "
                f"{listed(names)}. Rename the column or choose with flux_column=."
            )
    wavelength, flux = column(wave_name), column(flux_name)
    error = _error(names, column, meta, flux_name)
    known = (wave_name, flux_name)
    mask, notes = bad_pixels(names, flags, meta.origin, known, of_any_name=True)
    meta = replace(meta, notes=meta.notes + notes)
    return ObservedSpectrum.from_quantities(wavelength, flux, error, mask, meta)


def _error(names, column, meta: SpectrumMeta, flux_name: str) -> u.Quantity:
    if name := first_of((f"{flux_name}_err", f"{flux_name}_error", *ERROR_NAMES), names):
        return column(name)
    with np.errstate(invalid="ignore", divide="ignore"):  # zero weight gives inf, which masks the pixel
        if name := first_of(IVAR_NAMES, names):
            return 1 / np.sqrt(column(name))
        if name := first_of(VARIANCE_NAMES, names):
            return np.sqrt(column(name))
    aliases = ", ".join((*ERROR_NAMES, *IVAR_NAMES, *VARIANCE_NAMES))
    raise SpectrumError(
        f"{meta.origin}: no error column; looked for {aliases}; the table has {listed(names)}. Errors are "
        "needed: add a column named as one of these."
    )


TABLE = Format("table", "FITS or ECSV table with wavelength, flux, error", identify_table, read_table)
