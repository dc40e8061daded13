"""One picture per epoch: what the stage makes of a few fixed galaxies, beside the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import (
    ARM_COLOURS,
    OTHER_COLOUR,
    WAVELENGTH_LABEL,
    draw_steps,
    new_figure,
    note,
    styled,
)
from kspecsr.measures.goal import Arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 4  # galaxies
_TRUTH, _PREDICTION = "#111111", "#2347c5"


def shown_rows(x: Arrays, y: Arrays, count: int = SHOWN) -> np.ndarray:
    """Rows of the galaxies that are drawn: known redshift, from clear lines or continuum to faint ones.

    Args:
        x: inputs of the validation galaxies.
        y: targets.
        count: of rows; fewer where there are fewer galaxies.
    """
    good = ~np.asarray(x["prism_mask"]).astype(bool)
    snr = np.where(good, np.asarray(x["prism_flux"]) / np.asarray(x["prism_error"]), 0.0)
    clear = np.percentile(snr, 98, axis=1) + np.where(np.isfinite(y["true_redshift"]), 1e6, 0.0)
    order = np.argsort(-clear, kind="stable")
    places = np.linspace(0.03, 0.6, count) * (len(order) - 1)
    return order[np.unique(np.round(places).astype(int))]


@styled
def draw_spectra(
    stage: str, outputs: Arrays, x: Arrays, y: Arrays, rows: np.ndarray, prism: np.ndarray, grid: np.ndarray
) -> Figure:
    """Prism, prediction with one-sigma band, and truth, one panel per galaxy.

    Args:
        stage: ``sr1`` or ``sr2``.
        outputs: of the stage model, record units.
        x: inputs.
        y: targets.
        rows: of the galaxies.
        prism: (P,) wavelength [um].
        grid: (N,) wavelength [um].
    """
    names = ("sr1_flux", "sr1_error") if stage == "sr1" else ("flux", "flux_error")
    figure = new_figure(1.6 * len(rows) + 0.4)
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        target = np.where(y["target_mask"][row], np.nan, y["target_flux"][row])
        flux, sigma = (np.asarray(outputs[name][row], float) for name in names)
        mask = np.asarray(x["prism_mask"][row]).astype(bool)
        draw_steps(axes, prism, x["prism_flux"][row], None, mask, ARM_COLOURS["PRISM"], "prism", 0.7)
        axes.plot(grid, target, color=_TRUTH, linewidth=0.7, label="truth")
        draw_steps(axes, grid, flux, sigma, np.zeros(len(grid), bool), _PREDICTION, stage.upper(), 0.6)
        _set_limits(axes, target, np.where(mask, np.nan, x["prism_flux"][row]))
        note(axes, _redshift_text(outputs, y, row))
    panels[0].legend(loc="upper right", ncols=3)
    panels[0].set_xlim(grid[0], grid[-1])
    panels[-1].set_xlabel(WAVELENGTH_LABEL)
    figure.supylabel("Flux density [10$^{-20}$ erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$]", fontsize=9.0)
    return figure


@styled
def draw_redshifts(outputs: Arrays, y: Arrays, rows: np.ndarray, bins: np.ndarray) -> Figure:
    """P(z) with the true redshift, one panel per galaxy.

    Args:
        outputs: of the stage model.
        y: targets.
        rows: of the galaxies.
        bins: (Z,) ln(1 + z).
    """
    figure = new_figure(1.4 * len(rows) + 0.4)
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        score = np.asarray(outputs["redshift_log_probability"][row], float)
        axes.plot(np.expm1(bins), (score - score.max()) / np.log(10.0), color=_PREDICTION, linewidth=0.7)
        if np.isfinite(y["true_redshift"][row]):
            axes.axvline(
                float(y["true_redshift"][row]), color=_TRUTH, linestyle=":", linewidth=1.0, label="true z"
            )
        axes.axvline(
            float(outputs["redshift"][row]), color=OTHER_COLOUR, linestyle="--", linewidth=0.7, label="z"
        )
        axes.set_ylim(-6.0, 1.8)
        note(axes, _redshift_text(outputs, y, row))
    panels[0].legend(loc="upper right", ncols=2)
    panels[0].set_xlim(0.0, np.expm1(bins[-1]))
    panels[-1].set_xlabel("Redshift")
    figure.supylabel("log$_{10}$ P(z), highest = 0", fontsize=9.0)
    return figure


def _set_limits(axes: Axes, target: np.ndarray, prism: np.ndarray) -> None:
    """Room for the truth and most of the prism's noise; one wild pixel does not shrink the rest."""
    low = np.nanmin([np.nanpercentile(target, 0.5), np.nanpercentile(prism, 1.0), 0.0])
    high = max(np.nanpercentile(target, 99.9), np.nanpercentile(prism, 99.5))
    margin = 0.08 * max(high - low, 1e-6)
    axes.set_ylim(low - margin, high + 2.0 * margin)


def _redshift_text(outputs: Arrays, y: Arrays, row: int) -> str:
    true = float(y["true_redshift"][row])
    text = f"true z {true:.4f}" if np.isfinite(true) else "no redshift"
    return f"{text}, z {float(outputs['redshift'][row]):.4f}" if "redshift" in outputs else text
