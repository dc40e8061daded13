"""Real prism spectra beside gratings of the same source: line by line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import FWHM_PER_SIGMA, SPEED_OF_LIGHT, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.single_line import fit_profile
from data_pipeline.pairs.preprocessing import Pair, PreprocessingConfig, QualityError, make_pair
from data_pipeline.pictures.line_marks import line_title
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import SpectrumError
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.evaluation.report import NOTHING, Section, ShownFigure, ShownTable
from kspecsr.methods.direct_fit import fit_prism_lines

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
        path: prism file.
        redshift: known redshift; NaN where none is known.
        result: of the model, with the redshift that it inferred.
        lines: the brightest first; empty without gratings, or where they show none.
    """

    path: Path
    redshift: float
    result: Result
    lines: tuple[LineComparison, ...] = ()


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
        # The first row of a source with a redshift counts: rows of other gratings may leave it blank.
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
    # Without the known redshift: it is judged as a user would call it.
    result = resolver(prism)
    return PairComparison(files.prism, files.redshift, result, _lines(pair, files.redshift, result))


def _lines(pair: Pair, redshift: float, result: Result) -> tuple[LineComparison, ...]:
    """Lines that the gratings detect and the direct fit covers, the brightest first."""
    names, observed, model = load_lines().names, result.observed, result.measurements
    arrays = (observed.flux[None] / UNIT, observed.error[None] / UNIT, observed.mask[None])
    fit = fit_prism_lines(*arrays, np.array([redshift]), wavelength=observed.wavelength)
    with np.errstate(invalid="ignore", divide="ignore"):
        # NaN, a line outside of the gratings, becomes 0: not detected.
        snr = np.nan_to_num(pair.lines.flux / pair.lines.error)
    lines = [
        LineComparison(
            names[k],
            *(float(array[k] / UNIT) for array in (pair.lines.flux, pair.lines.error)),
            *(float(array[k] / UNIT) for array in (model.flux, model.flux_error)),
            *(float(array[0, k]) for array in (fit.line_flux, fit.line_flux_error)),
            *_shape(pair, redshift, result, k),
        )
        for k in np.flatnonzero((snr > _DETECTED) & fit.line_in_range[0])
    ]
    return tuple(sorted(lines, key=lambda line: -line.grating_flux))


def _shape(pair: Pair, redshift: float, result: Result, k: int) -> tuple[float, float]:
    """Shift [km/s] and width of a line in the model's spectrum against the gratings'."""
    stitched, grid = pair.stitched, result.model.grid
    centre = load_lines().wavelength[k] * (1.0 + redshift)
    sharp = float(reference_instrument(grid).fwhm(centre))
    width = float(np.hypot(sharp, FWHM_PER_SIGMA * centre * pair.lines.velocity_width / SPEED_OF_LIGHT))
    bad = result.mask | ~np.isfinite(result.flux)
    flux, error = np.where(bad, 0.0, result.flux), np.where(bad, 1.0, result.flux_error)
    gratings = (stitched.wavelength, grid.bounds, stitched.flux, stitched.error, stitched.mask)
    try:
        reference = fit_profile(*gratings, centre, width)
        profile = fit_profile(result.wavelength, grid.bounds, flux, error, bad, centre, width)
    except ValueError:
        return float("nan"), float("nan")
    ratio = profile.fwhm / reference.fwhm if reference.fwhm > 0 else float("nan")
    return profile.velocity_from(reference), ratio


# -- the section of the page


def real_section(
    networks: SuperResolver, files: Sequence[str], pairs: Sequence[PairFiles], folder: Path
) -> tuple[Section, list[str]]:
    """Super-resolves real spectra and draws them; what cannot be read is listed, and the rest goes on.

    Args:
        networks: the model.
        files: prism spectra, patterns or folders, as for ``kspecsr enhance``.
        pairs: prism spectra with gratings.
        folder: of the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unread: list[str] = []
    compared: list[PairComparison] = []
    for pair in pairs:
        try:
            compared.append(compare_pair(pair, networks))
        except (ValueError, OSError) as error:
            unread.append(str(error))
    done = {one.path.resolve() for one in compared}
    for given in list_inputs(list(files)) if files else []:
        path = Path(given.path)
        if path.resolve() in done:
            continue
        try:
            compared.append(PairComparison(path, float("nan"), networks(given.path)))
        except (SpectrumError, OSError) as error:
            unread.append(str(error))
    figures = []
    for number, one in enumerate(compared):
        picture = folder / f"{number:03d}_{one.path.name.split('.')[0]}.png"
        one.result.plot(picture)
        figures.append(ShownFigure(picture, _caption(one)))
    tables = [_redshift_table(compared)] if compared else []
    text = ["Spectra that were named on the command line; none was used in training."]
    if done:
        tables.append(_line_table(compared))
        text.append(_brightest(compared))
    return Section("Real spectra", text, figures, tables), unread


def _caption(one: PairComparison) -> str:
    redshift = one.result.redshift
    text = (
        f"{one.path.name}: z = {redshift.value:.4f} ± {redshift.error:.4f}, Z_CONF {redshift.confidence:.2f}"
    )
    if np.isfinite(one.redshift):
        text += f" (known: {one.redshift:.4f})"
    if one.result.flags:
        text += f"; flags {', '.join(one.result.flags)}"
    return text + "."


def _redshift_table(compared: Sequence[PairComparison]) -> ShownTable:
    rows = []
    for one in compared:
        redshift, known = one.result.redshift, np.isfinite(one.redshift)
        offset = (redshift.value - one.redshift) / (1.0 + one.redshift)
        rows.append(
            [
                one.path.name,
                f"{one.redshift:.4f}" if known else NOTHING,
                f"{redshift.value:.4f}",
                f"{redshift.confidence:.3f}",
                f"{offset:+.4f}" if np.isfinite(offset) else NOTHING,
                f"{one.result.chi_square:.2f}",
                ", ".join(one.result.flags) or "none",
            ]
        )
    names = ("spectrum", "known z", "z", "Z_CONF", "dz / (1 + z)", "chi-square", "flags")
    return ShownTable("Redshifts", names, rows, True)


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


def _line_table(compared: Sequence[PairComparison]) -> ShownTable:
    rows = [
        [
            one.path.name.split(".")[0],
            line_title(line.line),
            f"{line.grating_flux:.0f} ± {line.grating_error:.0f}",
            f"{line.flux:.0f} ± {line.error:.0f}",
            f"{line.direct_flux:.0f} ± {line.direct_error:.0f}",
            f"{line.flux / line.grating_flux:.2f}",
            f"{line.direct_flux / line.grating_flux:.2f}",
            f"{line.velocity:+.0f}",
            f"{line.width_ratio:.2f}",
        ]
        for one in compared
        for line in one.lines
    ]
    return ShownTable("Lines beside those of gratings", _COLUMNS, rows, True)


def _brightest(compared: Sequence[PairComparison]) -> str:
    """The brightest line of each pair in one sentence."""
    lines = [one.lines[0] for one in compared if one.lines and np.isfinite(one.lines[0].flux)]
    if not lines:
        return "No line of the gratings is in the range of the prism."
    parts = []
    for name, attribute in (("model", "flux"), ("direct fit", "direct_flux")):
        ratios = [getattr(line, attribute) / line.grating_flux for line in lines]
        low, middle, high = np.percentile(ratios, (16, 50, 84))
        parts.append(f"{name} {middle:.2f} ({low:.2f}-{high:.2f})")
    return (
        f"Brightest line of {len(lines)} pairs, flux over that in the gratings, median and 16-84 %: "
        f"{'; '.join(parts)}. Prism and gratings of one source differ by 10-35 % in flux by themselves."
    )
