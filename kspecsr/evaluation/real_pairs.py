"""Real prism spectra beside gratings of the same source: line by line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import FWHM_PER_SIGMA, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.grating_fit import LIGHT_SPEED
from data_pipeline.lines.single_line import LineProfile, fit_profile
from data_pipeline.pairs.preprocessing import Pair, PreprocessingConfig, QualityError, make_pair
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import SpectrumError
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.evaluation.report import Section, ShownFigure, ShownTable
from kspecsr.methods import fit_prism_lines
from kspecsr.results.prism_input import prism_input

if TYPE_CHECKING:
    from kspecsr.results.result import Result
    from kspecsr.super_resolver import SuperResolver


_PRISM, _GRATING = "prism_file", "grating_file"
_DETECTED = 5.0  # S/N in the gratings of the lines that are compared
UNIT = 1e-20  # erg/s/cm2 of the fluxes here


@dataclass(frozen=True)
class PairFiles:
    """Files of one source.

    Attributes:
        prism: path.
        gratings: paths.
        redshift: known redshift.
    """

    prism: Path
    gratings: tuple[Path, ...]
    redshift: float


@dataclass(frozen=True)
class LineComparison:
    """One line in gratings, model and direct fit; fluxes in 1e-20 erg/s/cm2.

    Attributes:
        line: name.
        grating_flux, grating_error: fitted on the gratings' own pixels and flux scale.
        flux, error: of the model, with its own redshift.
        direct_flux, direct_error: of the direct fit at the known redshift.
        velocity: centre in the model's spectrum against that in the gratings [km/s]; NaN if not fitted.
        width_ratio: FWHM in the model's spectrum over that in the gratings; NaN if not fitted.
    """

    line: str
    grating_flux: float
    grating_error: float
    flux: float
    error: float
    direct_flux: float
    direct_error: float
    velocity: float
    width_ratio: float


@dataclass(frozen=True)
class PairComparison:
    """One source.

    Attributes:
        name: of the prism file.
        redshift: known.
        result: of the model.
        lines: the brightest first; empty where gratings show none.
    """

    name: str
    redshift: float
    result: Result
    lines: tuple[LineComparison, ...]


def read_pairs(table: str | Path, columns: Sequence[str] = ()) -> list[PairFiles]:
    """Reads a table of pairs (CSV): ``prism_file``, ``grating_file`` and a redshift; files beside the table.

    Rows with the same prism file are one source with several gratings.

    Args:
        table: CSV file.
        columns: with the redshift, the first that is a number counts; without any, those whose name starts
            with ``z_grating``, ``z_spec``, ``redshift``, ``z_`` or is ``z``.

    Raises:
        ValueError: for a table that cannot be read or lacks a column, naming it.
    """
    table = Path(table)
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--pairs {table}: cannot be read ({error})") from error
    if not rows:
        raise ValueError(f"--pairs {table}: no rows")
    names = list(rows[0])
    missing = [name for name in (_PRISM, _GRATING, *columns) if name not in names]
    if missing:
        raise ValueError(f"--pairs {table}: no column {', '.join(missing)}; it has {', '.join(names)}")
    wanted = list(columns) or _redshift_columns(names)
    found: dict[str, PairFiles] = {}
    for row in rows:
        redshift = next((z for z in (_number(row[name]) for name in wanted) if np.isfinite(z)), np.nan)
        files = found.get(row[_PRISM])
        before = files.gratings if files else ()
        known = files.redshift if files and np.isfinite(files.redshift) else redshift
        gratings = (*before, table.parent / row[_GRATING])
        found[row[_PRISM]] = PairFiles(table.parent / row[_PRISM], gratings, known)
    without = [name for name, pair in found.items() if not np.isfinite(pair.redshift)]
    if without:
        raise ValueError(
            f"--pairs {table}: no redshift of {', '.join(without[:3])} in {', '.join(wanted) or 'any column'}"
        )
    return list(found.values())


def _redshift_columns(names: Sequence[str]) -> list[str]:
    starts = ("z_grating", "z_spec", "redshift", "z_")
    return [name for start in starts for name in names if name.lower().startswith(start)] + [
        name for name in names if name == "z"
    ]


def _number(text: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")


def compare_pair(files: PairFiles, resolver: SuperResolver) -> PairComparison:
    """Super-resolves a prism spectrum, redshift inferred, and compares its lines with the gratings'.

    Raises:
        ValueError: for files that cannot be read or give no pair, naming them.
    """
    prism = read_spectrum(files.prism)
    gratings = [read_spectrum(path) for path in files.gratings]
    try:
        pair = make_pair(prism, gratings, files.redshift, PreprocessingConfig())
    except QualityError as error:
        raise ValueError(f"{files.prism}: {error.step}: {error}") from error
    result = resolver(prism)
    return PairComparison(files.prism.name, files.redshift, result, _lines(pair, files.redshift, result))


def _lines(pair: Pair, redshift: float, result: Result) -> tuple[LineComparison, ...]:
    lines, seen = load_lines(), prism_input(result.observed)
    fit = fit_prism_lines(
        seen.flux[None] / UNIT, seen.error[None] / UNIT, seen.mask[None], np.array([redshift])
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.nan_to_num(pair.lines.flux / pair.lines.error)
    found = []
    for k in np.flatnonzero(snr > _DETECTED):
        if not fit.line_in_range[0, k]:
            continue
        velocity, ratio = _shape(pair, redshift, result, k)
        found.append(
            LineComparison(
                lines.names[k],
                float(pair.lines.flux[k] / UNIT),
                float(pair.lines.error[k] / UNIT),
                float(result.measurements.flux[k] / UNIT),
                float(result.measurements.flux_error[k] / UNIT),
                float(fit.line_flux[0, k]),
                float(fit.line_flux_error[0, k]),
                velocity,
                ratio,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.grating_flux))


def _shape(pair: Pair, redshift: float, result: Result, k: int) -> tuple[float, float]:
    """Shift [km/s] and width of a line in the model's spectrum against the gratings'."""
    stitched = pair.stitched
    centre = load_lines().wavelength[k] * (1.0 + redshift)
    sharp = float(reference_instrument(result.model.grid).fwhm(centre))
    width = float(np.hypot(sharp, FWHM_PER_SIGMA * centre * pair.lines.velocity_width / LIGHT_SPEED))
    bounds = result.model.grid.bounds
    try:
        theirs = fit_profile(
            stitched.wavelength, bounds, stitched.flux, stitched.error, stitched.mask, centre, width
        )
        bad = result.mask | ~np.isfinite(result.flux)
        ours = fit_profile(
            result.wavelength,
            bounds,
            np.where(bad, 0.0, result.flux),
            np.where(bad, 1.0, result.flux_error),
            bad,
            centre,
            width,
        )
    except ValueError:
        return float("nan"), float("nan")
    return _against(ours, theirs)


def _against(ours: LineProfile, theirs: LineProfile) -> tuple[float, float]:
    return ours.velocity_from(theirs), ours.fwhm / theirs.fwhm if theirs.fwhm > 0 else float("nan")


_COLUMNS = (
    "spectrum",
    "line",
    "gratings [1e-20]",
    "model [1e-20]",
    "direct fit [1e-20]",
    "model / gratings",
    "direct fit / gratings",
    "shift [km/s]",
    "width ratio",
)


def real_section(
    networks: SuperResolver, files: Sequence[str], pairs: Sequence[PairFiles], folder: Path
) -> tuple[Section, list[str]]:
    """Super-resolves real spectra and draws them; what cannot be read is listed, and the rest goes on.

    Args:
        networks: the model.
        files: prism spectra, patterns or folders, as for ``python -m kspecsr.enhance``.
        pairs: prism spectra with gratings.
        folder: of the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unread: list[str] = []
    figures, found, compared = [], [], []
    for pair in pairs:
        try:
            one = compare_pair(pair, networks)
        except (ValueError, OSError) as error:
            unread.append(str(error))
            continue
        compared.append(one)
        found.append((pair.prism, one.result, one.redshift))
    done = {path.resolve() for path, _, _ in found}
    for given in list_inputs(list(files)) if files else []:
        if Path(given.path).resolve() in done:
            continue
        try:
            found.append((Path(given.path), networks(given.path), float("nan")))
        except (SpectrumError, OSError) as error:
            unread.append(str(error))
    for number, (path, result, known) in enumerate(found):
        picture = folder / f"{number:03d}_{path.name.split('.')[0]}.png"
        result.plot(picture)
        figures.append(ShownFigure(picture, _caption(path, result, known)))
    tables = [_redshifts(found)] if found else []
    if compared:
        tables.append(ShownTable("Lines beside those of gratings", _COLUMNS, _line_rows(compared), True))
    text = (
        "Spectra that were named on the command line; none was used in training.",
        _brightest(compared) if compared else "",
    )
    return Section("Real spectra", [line for line in text if line], figures, tables), unread


def _caption(path: Path, result: Result, known: float) -> str:
    redshift = result.redshift
    text = f"{path.name}: z = {redshift.value:.4f} ± {redshift.error:.4f}, Z_CONF {redshift.confidence:.2f}"
    if np.isfinite(known):
        text += f" (known: {known:.4f})"
    if result.flags:
        text += f"; flags {', '.join(result.flags)}"
    return text + "."


def _redshifts(found: Sequence[tuple[Path, Result, float]]) -> ShownTable:
    rows = []
    for path, result, known in found:
        offset = (result.redshift.value - known) / (1.0 + known)
        rows.append(
            [
                path.name,
                f"{known:.4f}" if np.isfinite(known) else "–",
                f"{result.redshift.value:.4f}",
                f"{result.redshift.confidence:.3f}",
                f"{offset:+.4f}" if np.isfinite(offset) else "–",
                f"{result.chi_square:.2f}",
                ", ".join(result.flags) or "none",
            ]
        )
    names = ("spectrum", "known z", "z", "Z_CONF", "dz / (1 + z)", "chi-square", "flags")
    return ShownTable("Redshifts", names, rows, True)


def _line_rows(compared: Sequence[PairComparison]) -> list[list[str]]:
    rows = []
    for one in compared:
        for line in one.lines:
            rows.append(
                [
                    one.name.split(".")[0],
                    line.line,
                    f"{line.grating_flux:.0f} ± {line.grating_error:.0f}",
                    f"{line.flux:.0f} ± {line.error:.0f}",
                    f"{line.direct_flux:.0f} ± {line.direct_error:.0f}",
                    f"{line.flux / line.grating_flux:.2f}",
                    f"{line.direct_flux / line.grating_flux:.2f}",
                    f"{line.velocity:+.0f}",
                    f"{line.width_ratio:.2f}",
                ]
            )
    return rows


def _brightest(compared: Sequence[PairComparison]) -> str:
    """The brightest line of each pair in one sentence."""
    lines = [one.lines[0] for one in compared if one.lines and np.isfinite(one.lines[0].flux)]
    if not lines:
        return "No line of the gratings is in the range of the prism."
    ours = [line.flux / line.grating_flux for line in lines]
    theirs = [line.direct_flux / line.grating_flux for line in lines]
    parts = []
    for name, ratios in (("model", ours), ("direct fit", theirs)):
        low, middle, high = np.percentile(ratios, (16, 50, 84))
        parts.append(f"{name} {middle:.2f} ({low:.2f}-{high:.2f})")
    return (
        f"Brightest line of {len(lines)} pairs, flux over that in the gratings, median and 16-84 %: "
        f"{'; '.join(parts)}. Prism and gratings of one source differ by 10-35 % in flux by themselves."
    )
