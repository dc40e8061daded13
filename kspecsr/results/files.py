"""Results as FITS and ECSV files; `kspecsr.results.reading` reads them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.readers.own import FORMAT_KEYWORD, NUMBER_KEYWORDS, RESULT_FORMAT
from data_pipeline.spectrum import FLUX_UNIT
from data_pipeline.writers.atomic import replacing
from kspecsr.results.arm_files import ARM_COLUMNS, NAMES, SOURCE_MEANING, arm_cards, arm_columns
from kspecsr.results.arms import ArmFit, Measured
from kspecsr.results.data import SpectrumResult
from kspecsr.results.joint_lines import JointLines
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.ratios import ratio_columns, ratio_table
from kspecsr.results.redshift import RedshiftSummary

if TYPE_CHECKING:
    from astropy.table import QTable

FORMATS = ("fits", "ecsv")
MODEL_HASH, INPUT_HASH, Z_SOURCE, EXTRACTION = "MODELSHA", "INPUTSHA", "ZSOURCE", "EXTRACT"
INPUT_NAME, INPUT_PATH_HASH = "INPUT", "INPUTPSH"
NO_REDSHIFT, CLASS_CHANCE, FIT = "P_NONE", "PCLASS", "P_FIT"
KEPT = "KEPTLINE"
# of `BroadLines`: keyword and comment
BROAD_CARDS = {
    "probability": ("P_BROAD", "chance of broad components"),
    "fwhm": ("FWHM_BRD", "[km/s] their width"),
    "fwhm_error": ("FWHM_BRE", "[km/s] one sigma"),
}
GIVEN, INFERRED = "given", "spectrum"
# Fields of SpectrumMeta: keyword and comment; those without a comment only where they hold something.
META_CARDS = {
    "sha256": (INPUT_HASH, "SHA-256 of it"),
    "hdu": ("INHDU", "HDU that was read"),
    "format": ("INFORMAT", "its format"),
    "disperser": ("INDISP", "its disperser"),
    "extraction": (EXTRACTION, "its extraction"),
    "target": ("TARGET", ""),
    "source_id": ("SOURCEID", ""),
    "field": ("FIELD", ""),
    "tier": ("TIER", ""),
}
QUANTILES = {"Z_P16": 0.16, "Z_P50": 0.5, "Z_P84": 0.84}
# cards that a rewritten file takes from the old one: the path is not kept, and instruments may change
STATED = (INPUT_PATH_HASH, "LSF", "LSFIN", "LSFINSCL")
VERSION = "VERSION "
SOURCE = "SOURCE"
MOST_MODES = 9  # of P(z), with cards of their own
CARD_LENGTH = 72  # characters of a HISTORY card
# Outputs of the networks are float32; wavelengths and what was read are not.
_DOUBLE = ("WAVELENGTH", "WAVE_REST", "WAVE_OBS", "Z")
SPECTRUM_COLUMNS = {
    "FLUX": ("flux", "super-resolved"),
    "FLUX_ERR": ("flux_error", "one sigma"),
    "MASK": ("mask", "T: no input data here"),
    "CONTINUUM": ("continuum", "without lines"),
    "FLUX_SR1": ("sr1_flux", "first stage alone"),
    "ERR_SR1": ("sr1_error", "one sigma"),
}
COVARIANCE, _COVARIANCE_UNIT = "COVARIANCE", "erg2 / (s2 cm4)"
Card = tuple[str, str | float | bool | None, str]


def path_hash(path: str | os.PathLike) -> str:
    """Tells files of one name in two folders apart, without saying in a header that is shared where they lay.

    Returns:
        16 digits of the SHA-256 of the absolute path; empty for no path.
    """
    text = os.fspath(path)
    return hashlib.sha256(os.fsencode(os.path.abspath(text))).hexdigest()[:16] if text else ""


def provenance_cards(result: SpectrumResult) -> list[Card]:
    """Keyword, value and comment of each card; unknown numbers have the value None."""
    cards = [
        (FORMAT_KEYWORD, RESULT_FORMAT, "layout of this file"),
        # a reader that asks for the disperser learns that this is no observed prism spectrum
        ("DISPERSE", "SUPER-RESOLVED", "not observed: an estimate from the prism"),
        *_redshift_cards(result),
        *_class_cards(result),
        *_broad_cards(result),
        ("CHI2NU", _number(result.chi_square), "degraded output against input, per 2/3 ERR^2"),
        *_fit_cards(result),
        *arm_cards(result.arms, Measured(result.redshift.value, result.redshift.error)),
        ("FLAGS", ",".join(result.flags), "why no lines are reported; empty: they are"),
        *([(KEPT, True, "lines are reported all the same")] if result.lines_kept else []),
        *_source_cards(result),
        *_model_cards(result),
        ("DATE", result.date, "UTC, when this was made"),
    ]
    return [(keyword, result.stated.get(keyword, value), comment) for keyword, value, comment in cards]


def _redshift_cards(result: SpectrumResult) -> list[Card]:
    redshift = result.redshift
    shares = list(QUANTILES.values())
    quantiles = redshift.quantile(shares) if redshift.modes else [math.nan] * len(shares)
    comments = ("quantiles of P(z)", "", "")
    return [
        ("Z", _number(redshift.value), "redshift at which lines are placed"),
        ("Z_ERR", _number(redshift.error), "one sigma; 0 where given"),
        ("Z_CONF", _number(redshift.confidence), "mass of Z's mode within 0.01 (1 + Z)"),
        (Z_SOURCE, GIVEN if redshift.given else INFERRED, "given by the caller, or from the spectrum"),
        *zip(QUANTILES, map(_number, quantiles), comments, strict=True),
    ]


def _class_cards(result: SpectrumResult) -> list[Card]:
    """Of models that know of more than galaxies."""
    if not result.class_probability:
        return []
    return [
        (NO_REDSHIFT, _number(result.redshift.none), "chance that there is no redshift; Z_CONF has it"),
        ("CLASS", result.object_class, "the most probable class"),
        *(
            (f"{CLASS_CHANCE}{number}", _number(chance), f"probability of: {name}")
            for number, (name, chance) in enumerate(result.class_probability.items(), start=1)
        ),
    ]


def _broad_cards(result: SpectrumResult) -> list[Card]:
    """Of models whose permitted lines have broad components."""
    broad = result.measurements.broad
    if broad is None:
        return []
    return [(key, _number(getattr(broad, name)), text) for name, (key, text) in BROAD_CARDS.items()]


def _fit_cards(result: SpectrumResult) -> list[Card]:
    """Of models whose calibration says what fit is usual."""
    share = _number(result.fit_probability)
    return [] if share is None else [(FIT, share, "share of simulated ones of this S/N that fit worse")]


def _source_cards(result: SpectrumResult) -> list[Card]:
    meta = result.observed.meta
    texts = [(keyword, getattr(meta, name), comment) for name, (keyword, comment) in META_CARDS.items()]
    numbers = [(keyword, getattr(meta, name), "") for name, keyword in NUMBER_KEYWORDS.items()]
    return [
        (INPUT_NAME, Path(meta.path).name, "file that was read"),
        (INPUT_PATH_HASH, path_hash(meta.path), "of its path, SHA-256, 16 digits"),
        *(card for card in texts if card[1] or card[2]),
        *(card for card in numbers if math.isfinite(card[1])),
    ]


def _model_cards(result: SpectrumResult) -> list[Card]:
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
        *((f"{VERSION}{name.upper()}", number, "") for name, number in model.software.items()),
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _header(cards: list[Card], notes: Iterable[str]) -> fits.Header:
    header = fits.Header()
    for keyword, value, comment in cards:
        name = keyword if len(keyword) <= 8 and " " not in keyword else f"HIERARCH {keyword}"
        if isinstance(value, str):
            value = _printable(value)
        header[name] = (value, comment if _fits_card(name, value, comment) else "")
    for text in notes:
        header["HISTORY"] = _printable(text)
    return header


def _printable(text: str) -> str:
    """FITS holds printable ASCII; a file name may hold anything."""
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(letter if 32 <= ord(letter) < 127 else "?" for letter in text).rstrip()


def _fits_card(name: str, value: str | float | bool | None, comment: str) -> bool:
    """Whether value and comment go on one card of 80 characters; if not, the value matters."""
    length = len(value.replace("'", "''")) + 2 if isinstance(value, str) else 20
    return max(10, len(name) + 3) + max(20, length) + 3 + len(comment) <= 80


def lines_path(path: str | os.PathLike) -> Path:
    """Path of the lines of a spectrum: ``NAME.ecsv`` to ``NAME_lines.ecsv``."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.ecsv')}_lines.ecsv")


def write_result(result: SpectrumResult, path: str | os.PathLike, format: str | None = None) -> list[Path]:
    """Writes a result; see `kspecsr.results.result.Result.write`."""
    path = Path(path)
    ending = path.suffix.lower().removeprefix(".")
    if format is None and ending not in FORMATS:
        raise ValueError(
            f"{path}: the ending does not say which format is wanted; expected .fits or .ecsv, or "
            "format='fits' or format='ecsv'"
        )
    format = ending if format is None else format
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is unknown; expected one of {', '.join(FORMATS)}")
    return _write_fits(result, path) if format == "fits" else _write_ecsv(result, path)


def _write_fits(result: SpectrumResult, path: Path) -> list[Path]:
    """PRIMARY (provenance and redshift), SPEC1D, LINES, PZ, INPUT, with CHECKSUM and DATASUM.

    LINECOV and RATIOS too, where the model states how line errors are correlated, and an HDU for each
    grating that was joined.
    """
    lines = _stored_lines(result.measurements)
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(header=_header(provenance_cards(result), result.notes)),
            _hdu("SPEC1D", _spectrum_table(result)),
            _hdu("LINES", lines.to_table()),
            _pz_hdu(result.redshift),
            _input_hdu(result),
            *([] if lines.correlation is None else _joint_hdus(lines)),
            *([] if result.arms is None else map(_arm_hdu, result.arms.arms)),
        ]
    )
    hdus.update_extend()
    for hdu in hdus:  # the comments hold a time: of the result, so that it is written the same again
        hdu.add_datasum(when=f"data unit checksum updated {result.date}")
        hdu.add_checksum(when=f"HDU checksum updated {result.date}", override_datasum=True)
    # astropy would refuse the temporary name, so it gets the open file
    with replacing(path) as temporary, temporary.open("wb") as stream:
        hdus.writeto(stream)
    return [path]


def _write_ecsv(result: SpectrumResult, path: Path) -> list[Path]:
    """Columns of SPEC1D with the cards of the primary header, and the lines in a file of their own.

    P(z) is given by its modes and quantiles. Lines whose errors are correlated have a column of covariances,
    and the rows of RATIOS in their metadata. The lines are written first, so that a spectrum that is there
    has its lines.
    """
    spectrum = _spectrum_table(result)
    spectrum.meta = {keyword: value for keyword, value, _ in provenance_cards(result)}
    spectrum.meta["HISTORY"] = list(result.notes)
    spectrum.meta["PZ_MODES"] = [
        {"z": mode.redshift, "error": mode.error, "mass": mode.mass} for mode in result.redshift.modes
    ]
    lines = result.line_table()
    if result.measurements.correlation is not None:
        joint = _stored_joint(result.measurements)
        lines[COVARIANCE], lines[COVARIANCE].info.description = joint.covariance, "of FLUX, with all lines"
        lines[COVARIANCE].unit = _COVARIANCE_UNIT
        ratios = ratio_columns(joint, result.measurements.prior_weight)
        lines.meta["ratios"] = {name: values.tolist() for name, values in ratios.items()}
    for target, content in ((lines_path(path), lines), (path, spectrum)):
        with replacing(target) as temporary:
            content.write(temporary, format="ascii.ecsv")
    return [path, lines_path(path)]


def _table(columns: Mapping[str, Any], meanings: Mapping[str, str], units: Mapping[str, Any]) -> QTable:
    from astropy.table import QTable  # slow to import: only where a table is written

    known = {name: text for name, text in meanings.items() if name in columns}
    return QTable(dict(columns), units=dict(units), descriptions=known)


def _spectrum_table(result: SpectrumResult) -> QTable:
    columns = {"WAVELENGTH": result.wavelength}
    for name, (attribute, _) in SPECTRUM_COLUMNS.items():
        values = getattr(result, attribute)
        if name != "MASK":
            values = np.where(result.mask, np.nan, result.in_flux_unit(values)).astype(np.float32)
        columns[name] = values
    meanings = {"WAVELENGTH": "pixel centres, vacuum", SOURCE: f"sum of {SOURCE_MEANING}"}
    if result.arms is not None:
        columns[SOURCE] = result.arms.source
    meanings |= {name: meaning for name, (_, meaning) in SPECTRUM_COLUMNS.items()}
    units = dict.fromkeys((name for name in SPECTRUM_COLUMNS if name != "MASK"), result.flux_unit)
    return _table(columns, meanings, {"WAVELENGTH": "um", **units})


def _stored_lines(lines: LineMeasurements) -> LineMeasurements:
    """As FITS holds them, so that S/N, limits and ratios follow from what is in the file."""
    names = ("flux", "flux_error", "prior_weight")
    stored = {name: np.asarray(getattr(lines, name), np.float32).astype(np.float64) for name in names}
    return replace(lines, **stored)


def _pz_hdu(redshift: RedshiftSummary) -> fits.BinTableHDU:
    meanings = {"Z": "redshift", "PDF": "probability per unit redshift"}
    hdu = _hdu("PZ", _table({"Z": redshift.grid, "PDF": redshift.density}, meanings, {}))
    for number, mode in enumerate(redshift.modes[:MOST_MODES], start=1):
        hdu.header[f"ZMODE{number}"] = (mode.redshift, "mode of P(z)")
        hdu.header[f"ZMERR{number}"] = (mode.error, "its width, one sigma")
        hdu.header[f"ZMASS{number}"] = (mode.mass, "its mass")
    return hdu


def _input_hdu(result: SpectrumResult) -> fits.BinTableHDU:
    observed, unit = result.observed, result.flux_unit

    def stored(values: np.ndarray) -> np.ndarray:
        values = result.in_flux_unit(values, observed.wavelength)
        return values if unit == FLUX_UNIT else _rounded(values)

    columns = {
        "WAVELENGTH": observed.wavelength,
        "FLUX": stored(observed.flux),
        "FLUX_ERR": stored(observed.error),
        "MASK": observed.mask,
    }
    units = {"WAVELENGTH": "um", "FLUX": unit, "FLUX_ERR": unit}
    return _hdu("INPUT", _table(columns, {"MASK": "T: bad"}, units), double=tuple(units))


def _joint_hdus(lines: LineMeasurements) -> list[fits.BinTableHDU]:
    """LINECOV, a row with a vector of covariances for each reported line, and RATIOS."""
    joint = _stored_joint(lines)
    rows = np.flatnonzero(np.isfinite(np.diagonal(joint.covariance)))
    columns = {"NAME": lines.line[rows], COVARIANCE: joint.covariance[np.ix_(rows, rows)]}
    meanings = {"NAME": "line", COVARIANCE: "of FLUX with the lines of all rows"}
    table = _table(columns, meanings, {COVARIANCE: _COVARIANCE_UNIT})
    return [
        _hdu("LINECOV", table, double=(COVARIANCE,)),
        _hdu("RATIOS", ratio_table(joint, lines.prior_weight)),
    ]


def _stored_joint(lines: LineMeasurements) -> JointLines:
    """Fluxes with covariances that are the same when they are read and written again."""
    joint = JointLines.of(lines)
    return replace(joint, covariance=_rounded(joint.covariance))


def _arm_hdu(arm: ArmFit) -> fits.BinTableHDU:
    """The pixels of a grating [erg/s/cm2/A] and what was fitted to them."""
    columns = arm_columns(arm)
    units = {name: FLUX_UNIT for name, values in columns.items() if values.dtype.kind == "f"}
    meanings = {name: meaning for name, (_, meaning) in ARM_COLUMNS.items()}
    meanings["WAVELENGTH"] = "pixel centres as read, vacuum"
    return _hdu(arm.name, _table(columns, meanings, units | {"WAVELENGTH": "um"}))


def _rounded(values: np.ndarray) -> np.ndarray:
    """To 46 of 53 bits: converted to erg/s/cm2/A and back, which costs the last two, they are the same."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**46) / 2.0**46, exponent)


def _hdu(name: str, table: QTable, double: Iterable[str] = _DOUBLE) -> fits.BinTableHDU:
    """A table with its descriptions as comments of TTYPE; floats but those in ``double`` as float32."""
    for column in table.colnames:
        if table[column].dtype.kind == "f" and column not in double:
            description = table[column].info.description
            table[column] = table[column].astype(np.float32)
            table[column].info.description = description
    hdu = fits.table_to_hdu(table)
    hdu.name = name
    for number, column in enumerate(table.colnames, start=1):
        if text := table[column].info.description:
            hdu.header.comments[f"TTYPE{number}"] = text
    return hdu


def read_header(path: Path) -> Mapping[str, Any]:
    """Provenance of a result file, without its tables; empty for a FITS file with other HDUs than a result's.

    Raises:
        OSError, ValueError, KeyError, TypeError: for a damaged file; astropy warns of a truncated one.
    """
    if path.suffix != ".ecsv":
        with fits.open(path, memmap=False) as hdus:
            _ = hdus[-1].header  # a truncated file has no last HDU
            names = {hdu.name for hdu in hdus[1:]} - {"LINECOV", "RATIOS", *NAMES}
            return dict(hdus[0].header) if names == {"SPEC1D", "LINES", "PZ", "INPUT"} else {}
    from astropy.table.meta import get_header_from_yaml  # slow to import: only for text tables

    with path.open(encoding="utf-8") as file:
        rows = []
        for row in file:
            if not row.startswith("#"):
                break
            rows.append(row.removeprefix("# ").rstrip("\n"))
    return get_header_from_yaml(rows[2:])["meta"]
