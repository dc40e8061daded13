"""Results as FITS files, and their headers read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
from astropy.io import fits

from data_pipeline.writers.atomic import replacing
from kspecsr.line_measurements import LINE_COLUMNS
from kspecsr.result_provenance import Card, provenance_cards

if TYPE_CHECKING:
    from kspecsr.result import Result

# Outputs of the networks are float32; wavelengths and what was read are not.
_SPECTRUM_COMMENTS = {
    "WAVELENGTH": "pixel centres, vacuum",
    "FLUX": "super-resolved",
    "FLUX_ERR": "one sigma",
    "MASK": "T: no input to rest on",
    "CONTINUUM": "without lines",
    "FLUX_SR1": "first stage alone",
    "ERR_SR1": "one sigma",
}


def write_fits(result: Result, path: str | os.PathLike) -> list[Path]:
    """Writes PRIMARY (provenance and redshift), SPEC1D, LINES, PZ and INPUT, with CHECKSUM and DATASUM.

    Args:
        result: what is written.
        path: the file; replaced if it exists.

    Returns:
        The one file.
    """
    hdus = [
        fits.PrimaryHDU(header=_header(provenance_cards(result))),
        _spectrum_hdu(result),
        _lines_hdu(result),
        _pz_hdu(result),
        _input_hdu(result),
    ]
    # astropy would refuse the temporary name, so it gets the open file
    with replacing(path) as temporary, temporary.open("wb") as stream:
        fits.HDUList(hdus).writeto(stream, checksum=True)
    return [Path(path)]


def _header(cards: list[Card]) -> fits.Header:
    header = fits.Header()
    for keyword, value, comment in cards:
        name = keyword if len(keyword) <= 8 and " " not in keyword else f"HIERARCH {keyword}"
        if isinstance(value, str):
            value = _printable(value)
        header[name] = (value, comment if _fits_card(value, comment) else "")
    return header


def _printable(text: str) -> str:
    """FITS holds printable ASCII; a file name may hold anything."""
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(letter if 32 <= ord(letter) < 127 else "?" for letter in text)


def _fits_card(value: str | float | bool | None, comment: str) -> bool:
    """Whether value and comment go on one card of 80 characters; if not, the value matters."""
    length = len(value.replace("'", "''")) + 2 if isinstance(value, str) else 20
    return 10 + max(20, length) + 3 + len(comment) <= 80


def _spectrum_hdu(result: Result) -> fits.BinTableHDU:
    columns = {
        "FLUX": result.flux,
        "FLUX_ERR": result.flux_error,
        "CONTINUUM": result.continuum,
        "FLUX_SR1": result.sr1_flux,
        "ERR_SR1": result.sr1_error,
    }
    unit = result.flux_unit.to_string("fits")
    values = {name: np.where(result.mask, np.nan, result.in_flux_unit(c)) for name, c in columns.items()}
    table = _table(
        "SPEC1D",
        {"WAVELENGTH": result.wavelength, **values, "MASK": result.mask},
        {"WAVELENGTH": "um", **dict.fromkeys(columns, unit)},
        order=tuple(_SPECTRUM_COMMENTS),
        double=("WAVELENGTH",),
    )
    return _commented(table, _SPECTRUM_COMMENTS)


def _lines_hdu(result: Result) -> fits.BinTableHDU:
    units = {name: u.Unit(unit).to_string("fits") for name, (unit, _) in LINE_COLUMNS.items() if unit}
    double = ("WAVE_REST", "WAVE_OBS")
    table = _table("LINES", result.measurements.columns(), units, tuple(LINE_COLUMNS), double)
    return _commented(table, {name: text for name, (_, text) in LINE_COLUMNS.items()})


def _pz_hdu(result: Result) -> fits.BinTableHDU:
    redshift = result.redshift
    table = _table("PZ", {"Z": redshift.grid, "PDF": redshift.density}, {}, ("Z", "PDF"), ("Z",))
    for number, mode in enumerate(redshift.modes[:9], start=1):
        table.header[f"ZMODE{number}"] = (mode.redshift, "mode of P(z)")
        table.header[f"ZMERR{number}"] = (mode.error, "its width, one sigma")
        table.header[f"ZMASS{number}"] = (mode.mass, "its mass")
    return _commented(table, {"Z": "redshift", "PDF": "probability per unit redshift"})


def _input_hdu(result: Result) -> fits.BinTableHDU:
    observed = result.observed
    unit = result.flux_unit.to_string("fits")
    columns = {
        "WAVELENGTH": observed.wavelength,
        "FLUX": result.in_flux_unit(observed.flux, observed.wavelength),
        "FLUX_ERR": result.in_flux_unit(observed.error, observed.wavelength),
        "MASK": observed.mask,
    }
    units = {"WAVELENGTH": "um", "FLUX": unit, "FLUX_ERR": unit}
    table = _table("INPUT", columns, units, tuple(columns), double=("WAVELENGTH", "FLUX", "FLUX_ERR"))
    for text in observed.meta.notes:
        table.header["COMMENT"] = _printable(text)
    return _commented(table, {"MASK": "T: bad"})


def _table(
    name: str,
    columns: Mapping[str, np.ndarray],
    units: Mapping[str, str],
    order: tuple[str, ...],
    double: tuple[str, ...],
) -> fits.BinTableHDU:
    made = []
    for key in order:
        values = np.asarray(columns[key])
        kind = values.dtype.kind
        if kind == "U":
            form = f"{max(1, values.dtype.itemsize // 4)}A"
        else:
            form = {"b": "L", "f": "D" if key in double else "E"}[kind]
        made.append(fits.Column(key, form, units.get(key), array=values))
    return fits.BinTableHDU.from_columns(made, name=name)


def _commented(table: fits.BinTableHDU, comments: Mapping[str, str]) -> fits.BinTableHDU:
    for number, name in enumerate(table.columns.names, start=1):
        if name in comments:
            table.header.comments[f"TTYPE{number}"] = comments[name]
    return table
