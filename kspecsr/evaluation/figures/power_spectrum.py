"""Power of sharp structure in truth, interpolated prism and output, and of residuals (paper Fig. 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import BAND_ALPHA, new_figure, styled
from kspecsr.evaluation.config import TITLES
from kspecsr.measures.power_spectrum import INTERMEDIATE, frequencies
from kspecsr.results.picture import OUTPUT_COLOUR, TRUTH_COLOUR
from kspecsr.results.picture import RECOVERED_TRUTH_PRISM_COLOUR as PRISM_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DECADES = 6.0  # shown below the highest curve


@styled
def draw_power_spectrum(
    measured: Mapping[str, Mapping[str, np.ndarray]], low: str = "cubic", high: str = "sr2"
) -> Figure:
    """Median over galaxies with the 16th to 84th percentile; left the spectra, right the residuals.

    Args:
        measured: method to its arrays, as of `kspecsr.measures.spectrum_shape.measure`.
        low: the method that stands for the prism, interpolated.
        high: the method that is shown.
    """
    figure = new_figure(3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    title = TITLES.get(high, high)
    _draw_power(left, measured[high]["power_truth"], TRUTH_COLOUR, "truth")
    _draw_power(left, measured[low]["power_output"], PRISM_COLOUR, "prism, interpolated")
    _draw_power(left, measured[high]["power_output"], OUTPUT_COLOUR, title)
    _draw_power(right, measured[low]["power_residual"], PRISM_COLOUR, "prism − truth")
    _draw_power(right, measured[high]["power_residual"], OUTPUT_COLOUR, f"{title} − truth")
    for axes, name in ((left, "High-pass parts"), (right, "Residuals of high-pass parts")):
        axes.set_yscale("log")
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel(r"Spatial frequency $k / k_{\rm Nyq}$")
        axes.axvline(INTERMEDIATE, color="0.45", linestyle=(0, (4, 3)), linewidth=0.7)
        axes.set_title(name)
        axes.legend(loc="upper right")
    left.annotate(
        r"0.3 $k_{\rm Nyq}$",
        (INTERMEDIATE, 0.03),
        xycoords=left.get_xaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=8,
    )
    left.set_ylabel("Power / (median prism flux)²")
    top = max(np.nanmax(line.get_ydata(), initial=1e-30) for a in (left, right) for line in a.lines[:-1])
    left.set_ylim(top * 10.0**-_DECADES, top * 30.0)
    return figure


def _draw_power(axes: Axes, power: np.ndarray, colour: str, label: str) -> None:
    power = np.asarray(power, np.float64)
    power = power[np.isfinite(power).all(axis=1)]
    if len(power) == 0:
        return
    low, middle, high = np.percentile(power, (16, 50, 84), axis=0)
    k = frequencies()
    axes.fill_between(k, np.maximum(low, 1e-30), high, color=colour, alpha=BAND_ALPHA, linewidth=0)
    axes.plot(k, middle, color=colour, linewidth=1.2, label=label)
