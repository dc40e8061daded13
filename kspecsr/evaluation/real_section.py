"""Real spectra on the page: pictures, and lines beside those of gratings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.spectrum import SpectrumError
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.evaluation.real_pairs import PairComparison, PairFiles, compare_pair
from kspecsr.evaluation.report import Section, ShownFigure, ShownTable

if TYPE_CHECKING:
    from kspecsr.result import Result
    from kspecsr.super_resolver import SuperResolver

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
