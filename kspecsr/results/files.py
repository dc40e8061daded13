"""Results as FITS files, and their headers read back."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
from astropy.io import fits

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.readers.own import NUMBER_KEYWORDS
from data_pipeline.writers.atomic import replacing
from kspecsr.results.lines import LINE_COLUMNS

if TYPE_CHECKING:
    from kspecsr.results.result import Result


FORMAT_KEYWORD, FORMAT_NAME = "SPECFMT", "kspecsr-sr"
MODEL_HASH, INPUT_HASH, Z_SOURCE, EXTRACTION = "MODELSHA", "INPUTSHA", "ZSOURCE", "EXTRACT"
INPUT_NAME, INPUT_PATH_HASH = "INPUT", "INPUTPSH"
GIVEN, INFERRED = "given", "spectrum"
_TEXT_KEYWORDS = {"target": "TARGET", "source_id": "SOURCEID", "field": "FIELD", "tier": "TIER"}
Card = tuple[str, str | float | bool | None, str]


def path_hash(path: str | os.PathLike) -> str:
    """Tells files of one name in two folders apart, without saying in a header that is shared where they lay.

    Returns:
        16 digits of the SHA-256 of the absolute path; empty for no path.
    """
    text = os.fspath(path)
    return hashlib.sha256(os.fsencode(os.path.abspath(text))).hexdigest()[:16] if text else ""


def provenance_cards(result: Result) -> list[Card]:
    """Keyword, value and comment of each card; unknown numbers have the value None."""
    return [
        (FORMAT_KEYWORD, FORMAT_NAME, "layout of this file"),
        # a reader that asks for the disperser learns that this is no observed prism spectrum
        ("DISPERSE", "SUPER-RESOLVED", "not observed: an estimate from the prism"),
        *_redshift_cards(result),
        ("CHI2NU", _number(result.chi_square), "degraded output against input, per 2/3 ERR^2"),
        ("FLAGS", ",".join(result.flags), "why no lines are reported; empty: they are"),
        *_source_cards(result),
        *_model_cards(result),
        ("DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "UTC, when this was made"),
    ]


def _redshift_cards(result: Result) -> list[Card]:
    redshift = result.redshift
    low, median, high = redshift.quantile((0.16, 0.5, 0.84)) if redshift.modes else [math.nan] * 3
    return [
        ("Z", _number(redshift.value), "redshift at which lines are placed"),
        ("Z_ERR", _number(redshift.error), "one sigma; 0 where given"),
        ("Z_CONF", _number(redshift.confidence), "mass of Z's mode within 0.01 (1 + Z)"),
        (Z_SOURCE, GIVEN if redshift.given else INFERRED, "given by the caller, or from the spectrum"),
        ("Z_P16", _number(low), "quantiles of P(z)"),
        ("Z_P50", _number(median), ""),
        ("Z_P84", _number(high), ""),
    ]


def _source_cards(result: Result) -> list[Card]:
    meta = result.observed.meta
    cards: list[Card] = [
        (INPUT_NAME, Path(meta.path).name, "file that was read"),
        (INPUT_PATH_HASH, path_hash(meta.path), "of its path, SHA-256, 16 digits"),
        (INPUT_HASH, result.input_sha256, "SHA-256 of it"),
        ("INHDU", meta.hdu, "HDU that was read"),
        ("INFORMAT", meta.format, "its format"),
        ("INDISP", meta.disperser, "its disperser"),
        (EXTRACTION, meta.extraction, "its extraction"),
    ]
    cards += [(key, getattr(meta, name), "") for name, key in _TEXT_KEYWORDS.items() if getattr(meta, name)]
    numbers = {key: getattr(meta, name) for name, key in NUMBER_KEYWORDS.items()}
    cards += [(key, value, "") for key, value in numbers.items() if math.isfinite(value)]
    return cards


def _model_cards(result: Result) -> list[Card]:
    model, grid = result.model, result.model.grid
    prism, sharp = load_instrument(PRISM), reference_instrument(grid)
    return [
        ("MODEL", model.name, "name of the model"),
        (MODEL_HASH, model.sha256, "SHA-256 of its weights"),
        ("GRIDLO", grid.start, "[um] first pixel of the output, vacuum"),
        ("GRIDHI", grid.stop, "[um] upper end of the grid"),
        ("GRIDSAMP", grid.sampling, "lambda/dlambda of a pixel"),
        ("LSF", f"{sharp.name}, {sharp.illumination} illumination", "of the output"),
        ("LSFIN", f"{prism.name}, {prism.illumination} illumination", "of the input"),
        ("LSFINSCL", prism.scale, "factor on the tabulated resolving power"),
        *((f"VERSION {name.upper()}", number, "") for name, number in model.software.items()),
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


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


def lines_path(path: str | os.PathLike) -> Path:
    """Where the lines lie that belong to a spectrum: ``NAME.ecsv`` to ``NAME_lines.ecsv``."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.ecsv')}_lines.ecsv")


def write_ecsv(result: Result, path: str | os.PathLike) -> list[Path]:
    """Writes columns and units of the FITS table SPEC1D; the cards of its primary header are the metadata.

    P(z) is given by its modes and quantiles. The lines are written first, so that a spectrum that is there
    has its lines.

    Args:
        result: what is written.
        path: the spectrum's file; replaced if it exists.

    Returns:
        Files of the spectrum and of the lines.
    """
    from astropy.table import QTable  # slow to import: only where a table is written

    path, unit = Path(path), result.flux_unit
    meta = {keyword: value for keyword, value, _ in provenance_cards(result)}
    meta["PZ_MODES"] = [
        {"z": mode.redshift, "error": mode.error, "mass": mode.mass} for mode in result.redshift.modes
    ]

    def column(values: np.ndarray) -> np.ndarray:
        return np.where(result.mask, np.nan, result.in_flux_unit(values)).astype(np.float32) * unit

    table = QTable(
        {
            "WAVELENGTH": result.wavelength,
            "FLUX": column(result.flux),
            "FLUX_ERR": column(result.flux_error),
            "MASK": result.mask,
            "CONTINUUM": column(result.continuum),
            "FLUX_SR1": column(result.sr1_flux),
            "ERR_SR1": column(result.sr1_error),
        },
        units={"WAVELENGTH": "um"},
        meta=meta,
    )
    lines = result.lines
    for target, content in ((lines_path(path), lines), (path, table)):
        with replacing(target) as temporary:
            content.write(temporary, format="ascii.ecsv")
    return [path, lines_path(path)]
