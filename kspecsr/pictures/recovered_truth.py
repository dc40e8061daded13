"""Recovered beside true: a simulated galaxy before and after super-resolution, with what was put in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.flux_axis import flux_limits, flux_unit
from data_pipeline.pictures.line_marks import CLOSE_LINES, KEY_LINES, mark_lines
from data_pipeline.pictures.style import WAVELENGTH_LABEL, WAVELENGTH_SHORT, draw_steps, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH_COLOUR, OUTPUT_COLOUR, PRISM_COLOUR = "#111111", "#d95f0e", "#5b3a8c"
# Rest wavelengths [um] of the windows, the first two that lie in range are drawn.
_WINDOWS = (("Hβ + [O III]", 0.475, 0.510), ("Hα + [N II]", 0.640, 0.680), ("[O II]", 0.362, 0.393))


@dataclass(frozen=True)
class RecoveredTruth:
    """What is compared; flux densities in erg/s/cm2/A.

    Attributes:
        name: of the galaxy.
        redshift: true redshift.
        found: redshift that the model inferred.
        prism: wavelength [um], flux, error, mask of the input, (n,) each.
        output: wavelength [um], flux, error, mask of the output, (N,) each.
        truth: (N,) noise-free spectrum on the output's pixels.
    """

    name: str
    redshift: float
    found: float
    prism: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    output: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    truth: np.ndarray


@styled
def draw_recovered_truth(case: RecoveredTruth) -> Figure:
    """The whole range above, two windows on blended lines below."""
    figure = new_figure(5.4)
    wavelength = case.output[0]
    windows = [
        (label, low * (1 + case.redshift), high * (1 + case.redshift))
        for label, low, high in _WINDOWS
        if low * (1 + case.redshift) > wavelength[0] and high * (1 + case.redshift) < wavelength[-1]
    ][:2]
    rows = figure.subplot_mosaic([["all", "all"], ["a", "b"]], height_ratios=[1.0, 1.1])
    _panel(rows["all"], case, wavelength[0], wavelength[-1], KEY_LINES)
    rows["all"].set_xlabel(WAVELENGTH_LABEL)
    found = f"{case.found:.4f}" if np.isfinite(case.found) else "none"
    rows["all"].set_title(f"{case.name}: true z = {case.redshift:.4f}, found z = {found}", loc="left", pad=48)
    rows["all"].legend(loc="upper right", ncols=3)
    for key, window in zip("ab", windows, strict=False):
        label, low, high = window
        _panel(rows[key], case, low, high, CLOSE_LINES)
        rows[key].set_xlabel(f"{WAVELENGTH_SHORT}   {label}")
    for key in "ab"[len(windows) :]:
        rows[key].set_axis_off()
    return figure


def _panel(axes: Axes, case: RecoveredTruth, low: float, high: float, lines) -> None:
    """Prism, output with its band, and truth between two wavelengths."""
    near = (case.output[0] >= low) & (case.output[0] <= high)
    seen = (case.prism[0] >= low) & (case.prism[0] <= high)
    wavelength, flux, error, mask = (part[near] for part in case.output)
    limits = flux_limits((flux, error, mask), (case.truth[near], error, mask))
    unit, label = flux_unit(limits)
    draw_steps(
        axes,
        case.prism[0][seen],
        case.prism[1][seen] / unit,
        None,
        case.prism[3][seen],
        PRISM_COLOUR,
        "prism",
    )
    axes.step(
        wavelength, case.truth[near] / unit, where="mid", color=TRUTH_COLOUR, linewidth=1.3, label="truth"
    )
    draw_steps(axes, wavelength, flux / unit, error / unit, mask, OUTPUT_COLOUR, "super-resolved")
    top = max(limits[1], float(np.nanmax(case.truth[near])) * 1.08)
    axes.set_ylim(limits[0] / unit, top / unit)
    axes.set_xlim(low, high)
    axes.set_ylabel(label)
    mark_lines(axes, case.redshift, (low, high), lines, label_gap=0.021 if high - low > 2 else 0.055)
