"""One picture per epoch: what the stage makes of a few fixed galaxies, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import (
    ARM_COLOURS,
    OTHER_COLOUR,
    OUTPUT_COLOUR,
    TRUTH_COLOUR,
    WAVELENGTH_LABEL,
    draw_steps,
    flux_label,
    new_figure,
    note,
    overview_limits,
    styled,
)
from kspecsr.measures.goal import Arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 4  # galaxies, or all where there are fewer


def shown_rows(x: Arrays, y: Arrays) -> np.ndarray:
    """Rows of the galaxies that are drawn: known redshift, from clear lines or continuum to faint ones."""
    good = ~np.asarray(x["prism_mask"]).astype(bool)
    snr = np.where(good, np.asarray(x["prism_flux"]) / np.asarray(x["prism_error"]), 0.0)
    clear = np.percentile(snr, 98, axis=1) + np.where(np.isfinite(y["true_redshift"]), 1e6, 0.0)
    order = np.argsort(-clear, kind="stable")
    places = np.linspace(0.03, 0.6, _SHOWN) * (len(order) - 1)
    return order[np.unique(np.round(places).astype(int))]


@styled
def draw_spectra(
    stage: str,
    epoch: int,
    outputs: Arrays,
    x: Arrays,
    y: Arrays,
    rows: np.ndarray,
    prism: np.ndarray,
    grid: np.ndarray,
) -> Figure:
    """Prism, prediction with one-sigma band, and truth, one panel per galaxy; wavelengths (P,), (N,) [um]."""
    names = ("sr1_flux", "sr1_error") if stage == "sr1" else ("flux", "flux_error")
    figure, panels = _panels(len(rows), 1.6, stage, epoch)
    for axes, row in zip(panels, rows, strict=True):
        truth = np.where(y["target_mask"][row], np.nan, y["target_flux"][row])
        flux, sigma = (np.asarray(outputs[name][row], float) for name in names)
        spectrum = (x["prism_flux"][row], x["prism_error"][row], np.asarray(x["prism_mask"][row], bool))
        draw_steps(axes, prism, spectrum[0], None, spectrum[2], ARM_COLOURS["PRISM"], "prism", 0.7)
        axes.plot(grid, truth, color=TRUTH_COLOUR, linewidth=0.7, label="truth")
        draw_steps(axes, grid, flux, sigma, np.zeros(len(grid), bool), OUTPUT_COLOUR, stage.upper(), 0.6)
        axes.set_ylim(*overview_limits(spectrum, truth, tallest=4.0))
        note(axes, _redshift_text(outputs, y, row))
    panels[0].legend(loc="upper right", ncols=3)
    panels[0].set_xlim(grid[0], grid[-1])
    panels[-1].set_xlabel(WAVELENGTH_LABEL)
    figure.supylabel(flux_label(-20), fontsize=9.0)
    return figure


@styled
def draw_redshifts(epoch: int, outputs: Arrays, y: Arrays, rows: np.ndarray, bins: np.ndarray) -> Figure:
    """P(z) with the true redshift, one panel per galaxy; bins (Z,) in ln(1 + z)."""
    figure, panels = _panels(len(rows), 1.4, "zhead", epoch)
    for axes, row in zip(panels, rows, strict=True):
        score = np.asarray(outputs["redshift_log_probability"][row], float)
        axes.plot(np.expm1(bins), (score - score.max()) / np.log(10.0), color=OUTPUT_COLOUR, linewidth=0.7)
        true, inferred = float(y["true_redshift"][row]), float(outputs["redshift"][row])
        if np.isfinite(true):
            axes.axvline(true, color=TRUTH_COLOUR, linestyle=":", linewidth=1.0, label="true z")
        axes.axvline(inferred, color=OTHER_COLOUR, linestyle="--", linewidth=0.7, label="z")
        axes.set_ylim(-6.0, 1.8)
        note(axes, _redshift_text(outputs, y, row))
    panels[0].legend(loc="upper right", ncols=2)
    panels[0].set_xlim(0.0, np.expm1(bins[-1]))
    panels[-1].set_xlabel("Redshift")
    figure.supylabel("log$_{10}$ P(z), highest = 0", fontsize=9.0)
    return figure


def _panels(count: int, height: float, stage: str, epoch: int) -> tuple[Figure, Sequence[Axes]]:
    """A titled figure with a panel per galaxy."""
    figure = new_figure(height * count + 0.6)
    figure.suptitle(f"{stage.upper()}, epoch {epoch}", fontsize=9.5)
    return figure, figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]


def _redshift_text(outputs: Arrays, y: Arrays, row: int) -> str:
    true = float(y["true_redshift"][row])
    text = f"true z {true:.4f}" if np.isfinite(true) else "no redshift"
    return f"{text}, z {float(outputs['redshift'][row]):.4f}" if "redshift" in outputs else text
