"""Many results as tables: a row for each, and their lines and ratios; as text, and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Column, Table, vstack

from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.results.arm_files import ARM_ROW
from kspecsr.results.data import SpectrumResult
from kspecsr.results.flags import POOR_MEANING
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA, line_qtable
from kspecsr.results.prism_input import display_name
from kspecsr.results.ratios import COLUMNS, ratio_columns
from kspecsr.results.table import ROW_COLUMNS, ResultRow

if TYPE_CHECKING:
    from astropy.table import QTable

CLOSE = 0.005  # |dz| / (1 + z) that counts as the same redshift


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
    names_of_all = dict.fromkeys(
        column for part in parts for column in part
    )  # some models have no broad lines
    table = line_qtable(
        {
            column: np.concatenate([part.get(column, np.full(len(part["Z"]), np.nan)) for part in parts])
            for column in names_of_all
        }
    )
    for column, meaning, form in (
        ("SPECTRUM", "name of the spectrum", None),
        ("Z", "redshift at which lines are placed", ".4f"),
        ("DETECTED", f"SNR above {LIMIT_SIGMA:g} and PRESENCE above {LIKELY:g}", None),
    ):
        table[column].info.description, table[column].info.format = meaning, form
    table.meta["without_lines"] = without
    return table


def ratios_of(results: Iterable[SpectrumResult], names: Iterable[str]) -> Table:
    """One table of the ratios, sums of lines and reddenings of many results that have lines.

    Args:
        results: any number of them; an iterator is read one by one.
        names: of the spectra, one for each.

    Returns:
        Columns ``SPECTRUM``, ``Z``, those of `kspecsr.results.ratios.COLUMNS`, and ``CORRELATED``: whether
        the model states correlations, without which errors of blended lines are not known.
    """
    parts: list[Table] = []
    for result, name in zip(results, names, strict=True):
        if not result.measurements.reported.any():
            continue
        table = Table(ratio_columns(result.joint_lines, result.measurements.prior_weight))
        table.add_columns([[name], [result.redshift.value]], names=["SPECTRUM", "Z"], indexes=[0, 0])
        table["CORRELATED"] = result.joint_lines.correlated
        parts.append(table)
    if not parts:
        return Table(names=["SPECTRUM", "Z", *COLUMNS, "CORRELATED"])
    table = vstack(parts)
    described = {"SPECTRUM": "name of the spectrum", "Z": "redshift at which lines are placed", **COLUMNS}
    described["CORRELATED"] = "the model states how errors of lines are correlated"
    for column, meaning in described.items():
        table[column].description = meaning
    return table


def as_text(rows: list[ResultRow], compare: bool) -> str:
    """For people: a line per result.

    Args:
        rows: one or more.
        compare: also show known redshifts, and how found ones agree.
    """
    width = max(len(row.name) for row in rows)
    head = f"{'spectrum':{width}s}" + (f" {'known z':>8s}" if compare else "")
    head += f" {'z':>8s} {'Z_ERR':>7s} {'Z_CONF':>6s}" + (f" {'dz/(1+z)':>9s}" if compare else "")
    judged = any(not math.isnan(row.p_fit) for row in rows)
    kind = max(len(row.object_class) for row in rows)
    head += f" {'CHI2NU':>7s}" + (f" {'P_FIT':>7s}" if judged else "")
    head += f"  {'line':12s} {'flux':>8s} {'error':>7s}" + (f"  {'class':{kind}s}" if kind else "")
    lines = [f"{head}  flags"]
    for row in rows:
        error = "given" if row.z_given else f"{row.z_error:.4f}"
        text = f"{row.name:{width}s}" + (_cell(row.known, 8, ".4f") if compare else "")
        text += f" {row.z:8.4f} {error:>7s} {row.z_confidence:6.3f}"
        text += _cell(row.offset, 9, "+.4f") if compare else ""
        flux, flux_error = row.brightest_flux * 1e20, row.brightest_flux_error * 1e20
        text += f" {row.chi_square:7.2f}" + (_cell(row.p_fit, 7, ".2g") if judged else "")
        text += f"  {row.brightest_line or '-':12s}" + _cell(flux, 8, ".1f") + _cell(flux_error, 7, ".1f")
        text += f"  {row.object_class:{kind}s}" if kind else ""
        lines.append(f"{text}  {row.flags or 'poor fit' * row.poor_fit}".rstrip())
    lines.append(f"fluxes in 1e-20 erg/s/cm2, of the brightest line with S/N > {LIMIT_SIGMA:g}")
    return "\n".join(lines + ([agreement(rows)] if compare else []))


def _cell(value: float, width: int, form: str) -> str:
    """A number of a row, after a blank; a dash where there is none."""
    return f" {'-' if math.isnan(value) else format(value, form):>{width}s}"


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
    "P_NONE": "no_redshift",
    "CLASS": "object_class",
    "CHI2NU": "chi_square",
    "P_FIT": "p_fit",
    "FLAGS": "flags",
    "P_BROAD": "p_broad",
    "FWHM_BROAD": "fwhm_broad",
    "FWHM_BROAD_ERR": "fwhm_broad_error",
    "LINE": "brightest_line",
    "LINE_FLUX": "brightest_flux",
    "LINE_FLUX_ERR": "brightest_flux_error",
}
_WITH_ARMS = ("arms", "z_prism", "z_prism_error")  # only where some result has gratings


def as_table(rows: list[ResultRow]) -> Table:
    """For programs: the same with units and descriptions."""
    metadata = {one.name: one.metadata for one in fields(ResultRow)}
    table = Table({column: [getattr(row, name) for row in rows] for column, name in _TABLE.items()})
    for column, name in _TABLE.items():
        table[column].unit = metadata[name]["unit"] or None
        table[column].description = metadata[name]["meaning"]
    # vectors only where some model states them: other rows have NaN
    if any(row.class_probability for row in rows):
        for number, name in enumerate(OBJECT_CLASSES):
            chance = [row.class_probability[number] if row.class_probability else math.nan for row in rows]
            table[f"PCLASS{number + 1}"] = Column(chance, description=f"probability of: {name}")
    if any(row.arms for row in rows):
        for name, (unit, meaning) in ({n: ROW_COLUMNS[n] for n in _WITH_ARMS} | ARM_ROW).items():
            numbers = [row.by_arm[name] if name in ARM_ROW else getattr(row, name) for row in rows]
            column = name.upper().replace("_ERROR", "_ERR")
            table[column] = Column(numbers, unit=unit or None, description=meaning)
    table["POOR_FIT"] = Column([row.poor_fit for row in rows], description=POOR_MEANING)
    return table
