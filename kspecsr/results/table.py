"""One row about a result, for tables of results, pages, surveys and lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from kspecsr.results.data import SpectrumResult
from kspecsr.results.flags import POOR_CHI_SQUARE, detection
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA, LINE_FLUX_UNIT, line_qtable
from kspecsr.results.prism_input import display_name
from kspecsr.results.reading import read_result

if TYPE_CHECKING:
    from astropy.table import QTable

SUFFIX = "_sr.fits"
CLOSE = 0.005  # |dz| / (1 + z) that counts as the same redshift


def _column(meaning: str, unit: str = "", **default: float | str) -> Any:
    return field(metadata={"unit": unit, "meaning": meaning}, **default)


@dataclass(frozen=True)
class ResultRow:
    """One result in short, for tables and text; unit and meaning of each field are in its metadata.

    Numbers are NaN where there is none.
    """

    name: str = _column("name of the spectrum")
    z: float = _column("redshift at which lines are placed")
    z_error: float = _column("one sigma; 0 where given")
    z_confidence: float = _column("mass of z's mode within 0.01 (1 + z)")
    z_given: bool = _column("known to the user, not inferred")
    flags: str = _column("why no lines are reported unless kept, separated by commas; empty: they are")
    chi_square: float = _column("prism consistency per good pixel")
    sn_continuum: float = _column("S/N of the weighted mean flux on the model's range")
    sn_feature: float = _column("S/N of the best three neighbouring pixels on the model's range")
    sn_pixel: float = _column("median S/N of a good prism pixel")
    coverage: float = _column("share of good prism pixels")
    lines_detected: int = _column(f"lines above {LIMIT_SIGMA:g} sigma that are likely there")
    brightest_line: str = _column("of them, the one with the most flux")
    brightest_flux: float = _column("its flux", LINE_FLUX_UNIT)
    brightest_flux_error: float = _column("one sigma", LINE_FLUX_UNIT)
    no_redshift: float = _column("chance that there is none; NaN: the model does not say", default=math.nan)
    object_class: str = _column("the most probable class; empty: the model does not say", default="")
    p_fit: float = _column("share of simulated spectra that fit worse; NaN: not stated", default=math.nan)
    notes: str = _column("what was masked, assumed or ignored, separated by semicolons", default="")
    known: float = _column("redshift that the user knows", default=math.nan)

    @property
    def brightest_snr(self) -> float:
        """S/N of the brightest line; NaN for none."""
        return self.brightest_flux / self.brightest_flux_error

    @property
    def offset(self) -> float:
        """Dz / (1 + z) from the known redshift; NaN where either is missing or the result's was given."""
        return math.nan if self.z_given else (self.z - self.known) / (1.0 + self.known)

    @property
    def summary(self) -> str:
        """Redshift, confidence, consistency and brightest line in one line of text."""
        place = "no redshift" if math.isnan(self.z) else f"z {self.z:.4f}"
        given = " (given)" if self.z_given else ""
        confidence, consistency = f"Z_CONF {self.z_confidence:.2f}", f"CHI2NU {self.chi_square:.2f}"
        parts = [f"{self.name}: {place}{given}", confidence, consistency]
        if self.flags:
            parts.append(f"{'flags' if self.brightest_line else 'no lines'}: {self.flags.replace(',', ', ')}")
        elif not self.brightest_line:
            parts.append(f"no line above {LIMIT_SIGMA:g} sigma")
        if self.brightest_line:
            flux, error = self.brightest_flux, self.brightest_flux_error
            parts.append(f"{self.brightest_line} {flux:.3e} +- {error:.1e} erg/s/cm2")
        return ", ".join(parts) + (f"; {self.notes}" if self.notes else "")


# unit and meaning of the fields that surveys have too
ROW_COLUMNS = {
    one.name: (one.metadata["unit"], one.metadata["meaning"])
    for one in fields(ResultRow)
    if one.name not in ("name", "known")
}


def row_of(result: SpectrumResult, name: str, known: float = math.nan) -> ResultRow:
    """The row of a result.

    Args:
        result: any.
        name: name of the spectrum.
        known: redshift that the user knows; NaN for none.
    """
    redshift, lines, grid = result.redshift, result.measurements, result.model.grid
    seen = (result.prism_flux, result.prism_error, result.prism_mask)
    inside = (result.prism_wavelength >= grid.start) & (result.prism_wavelength <= grid.stop)
    continuum, feature = detection(*(values[inside] for values in seen))
    good = ~result.prism_mask
    ratio = result.prism_flux[good] / result.prism_error[good]
    brightest = lines.brightest()
    found = brightest is not None
    return ResultRow(
        name=name,
        z=redshift.value,
        z_error=redshift.error,
        z_confidence=redshift.confidence,
        z_given=redshift.given,
        flags=",".join(result.flags),
        chi_square=result.chi_square,
        sn_continuum=continuum,
        sn_feature=feature,
        sn_pixel=float(np.median(ratio)) if ratio.size else math.nan,
        coverage=float(good.mean()),
        lines_detected=int(lines.detected.sum()),
        brightest_line=str(lines.line[brightest]) if found else "",
        brightest_flux=float(lines.flux[brightest]) if found else math.nan,
        brightest_flux_error=float(lines.flux_error[brightest]) if found else math.nan,
        no_redshift=redshift.none,
        object_class=result.object_class,
        p_fit=result.fit_probability,
        notes="; ".join(result.notes),
        known=known,
    )


def lines_of(results: Iterable[SpectrumResult], names: Iterable[str] | None = None) -> QTable:
    """One table of the lines of many results, a row for each line that lies on data.

    Args:
        results: any number of them, at least one; an iterator is read one by one.
        names: of the spectra, one for each; None takes file names, targets or ids.

    Returns:
        Columns ``SPECTRUM``, ``Z``, those of `kspecsr.results.lines.LINE_COLUMNS`, and ``DETECTED``: above 3
        sigma and likely there. The flags of spectra that have no rows are in ``meta["without_lines"]``.

    Raises:
        ValueError: for no results, or another number of names.
    """
    parts: list[dict[str, np.ndarray]] = []
    without = {}
    named = zip(results, repeat(None)) if names is None else zip(results, names, strict=True)
    for result, name in named:
        name, lines = name or display_name(result.observed), result.measurements
        kept = lines.reported
        if not kept.any():
            without[name] = list(result.flags)
        columns = {"SPECTRUM": np.full(kept.size, name), "Z": np.full(kept.size, result.redshift.value)}
        columns |= {**lines.columns(), "DETECTED": lines.detected}
        parts.append({column: values[kept] for column, values in columns.items()})
    if not parts:
        raise ValueError("a table of lines: expected one result or more, got none")
    table = line_qtable({column: np.concatenate([part[column] for part in parts]) for column in parts[0]})
    for column, meaning, form in (
        ("SPECTRUM", "name of the spectrum", None),
        ("Z", "redshift at which lines are placed", ".4f"),
        ("DETECTED", f"SNR above {LIMIT_SIGMA:g} and PRESENCE above {LIKELY:g}", None),
    ):
        table[column].info.description, table[column].info.format = meaning, form
    table.meta["without_lines"] = without
    return table


def result_files(paths: Iterable[str | Path]) -> list[Path]:
    """Result files among these paths, and in folders among them.

    Raises:
        FileNotFoundError: for a path that is not there, or if there is no result at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(path.rglob(f"*{SUFFIX}"))
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    if not found:
        raise FileNotFoundError(f"no result (*{SUFFIX}) found; make some with kspecsr enhance")
    return found


def read_row(path: Path, known: KnownRedshifts) -> ResultRow:
    """The row of one result file.

    Args:
        path: file that ``kspecsr enhance`` wrote.
        known: redshifts that the user knows.

    Raises:
        ValueError: for a file that is no result, naming it.
    """
    result = read_result(path, SpectrumResult)
    name, meta = path.name.removesuffix(SUFFIX), result.observed.meta
    return row_of(result, name, known.of(Path(meta.path or name), meta))


def as_text(rows: list[ResultRow], compare: bool) -> str:
    """For people: a line per result.

    Args:
        rows: one or more.
        compare: also show known redshifts, and how found ones agree.
    """
    width = max(len(row.name) for row in rows)
    head = f"{'spectrum':{width}s}" + (f" {'known z':>8s}" if compare else "")
    head += f" {'z':>8s} {'Z_ERR':>7s} {'Z_CONF':>6s}" + (f" {'dz/(1+z)':>9s}" if compare else "")
    lines = [f"{head} {'CHI2NU':>7s}  {'line':12s} {'flux':>8s} {'error':>7s}  flags"]
    for row in rows:
        error = "given" if row.z_given else f"{row.z_error:.4f}"
        text = f"{row.name:{width}s}" + (f" {row.known:8.4f}" if compare else "")
        text += f" {row.z:8.4f} {error:>7s} {row.z_confidence:6.3f}"
        text += f" {row.offset:+9.4f}" if compare else ""
        flux, flux_error = row.brightest_flux * 1e20, row.brightest_flux_error * 1e20
        text += f" {row.chi_square:7.2f}  {row.brightest_line:12s} {flux:8.1f} {flux_error:7.1f}"
        lines.append(f"{text}  {row.flags or 'poor fit' * (row.chi_square > POOR_CHI_SQUARE)}".rstrip())
    lines.append(f"fluxes in 1e-20 erg/s/cm2, of the brightest line with S/N > {LIMIT_SIGMA:g}")
    return "\n".join(lines + ([agreement(rows)] if compare else []))


def agreement(rows: list[ResultRow]) -> str:
    """How found redshifts agree with known ones; given ones prove nothing and are counted apart."""
    compared = [row for row in rows if math.isfinite(row.known) and not row.z_given]
    offset = np.array([row.offset for row in compared])
    unflagged = np.array([not row.flags for row in compared], dtype=bool) & np.isfinite(offset)
    close = np.abs(offset) <= CLOSE
    spread = f"{1.4826 * np.median(np.abs(offset[unflagged])):.5f}" if unflagged.any() else "unknown"
    text = (
        f"{len(compared)} known redshifts: {int((unflagged & close).sum())} within {CLOSE:g} (1 + z), "
        f"{int((unflagged & ~close).sum())} further off and not flagged, {int((~unflagged).sum())} flagged; "
        f"NMAD {spread} of those not flagged"
    )
    given = sum(row.z_given for row in rows)
    unknown = sum(not math.isfinite(row.known) and not row.z_given for row in rows)
    text += f"; {unknown} results without a redshift in the table" if unknown else ""
    return text + (f"; {given} made at a given redshift, not compared" if given else "")


# Columns of the written table, and the fields that they hold.
_TABLE = {
    "NAME": "name",
    "Z_KNOWN": "known",
    "Z_GIVEN": "z_given",
    "Z": "z",
    "Z_ERR": "z_error",
    "Z_CONF": "z_confidence",
    "CHI2NU": "chi_square",
    "FLAGS": "flags",
    "LINE": "brightest_line",
    "LINE_FLUX": "brightest_flux",
    "LINE_FLUX_ERR": "brightest_flux_error",
}


def as_table(rows: list[ResultRow]) -> Table:
    """For programs: the same with units and descriptions."""
    metadata = {one.name: one.metadata for one in fields(ResultRow)}
    table = Table({column: [getattr(row, name) for row in rows] for column, name in _TABLE.items()})
    for column, name in _TABLE.items():
        table[column].unit = metadata[name]["unit"] or None
        table[column].description = metadata[name]["meaning"]
    return table
