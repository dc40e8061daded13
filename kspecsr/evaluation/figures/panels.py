"""Drawing that the figures share: one colour and name per method, medians and scatter in bins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import ARM_COLOURS, OUTPUT_COLOUR, TRUTH_COLOUR
from kspecsr.evaluation.methods import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Arrays = Mapping[str, np.ndarray]
Measured = Mapping[str, Arrays]  # method to the arrays of one group

# Interpolation and deconvolutions are warm, direct fits black and grey, networks blue and green, oracles
# purple. The prism interpolated is as red, and the output as blue, as in pictures of single spectra.
COLOURS = {
    "cubic": ARM_COLOURS["PRISM"],
    "wiener": "#e69f00",
    "tikhonov": "#8c6d1f",
    "richardson_lucy": "#cc79a7",
    "direct_fit": TRUTH_COLOUR,
    "direct_fit_found_z": "#8a8a8a",
    "sr1": "#56b4e9",
    "sr2": OUTPUT_COLOUR,
    "sr2_known_z": "#009e73",
    "truth_found_z": "#5b3a8c",
    "truth_bound_z": "#b39ddb",
    "template_fit": "#8d6e63",
    "population_posterior": "#5b3a8c",
}
GUIDE = {"linestyle": "--", "color": "0.4", "linewidth": 0.7, "zorder": 0.6}  # of lines of reference


def percentiles(values: np.ndarray) -> np.ndarray:
    """16th, 50th and 84th percentile."""
    return np.percentile(values, (16, 50, 84))


def per_bin(
    statistic: Callable[[np.ndarray], np.ndarray | float],
    values: np.ndarray,
    place: np.ndarray,
    bins: int,
    least: int,
) -> np.ndarray:
    """A statistic of the finite values of each bin.

    Args:
        statistic: of (n,) values.
        values: of any shape.
        place: likewise, bin of each value; values with another number count nowhere.
        bins: number of bins.
        least: values that a bin needs.

    Returns:
        (bins, ...); NaN in bins with too few values.
    """
    chosen = [values[(place == i) & np.isfinite(values)].astype(float) for i in range(bins)]
    nothing = np.full(np.shape(statistic(np.ones(least))), np.nan)
    return np.array([statistic(one) if one.size >= least else nothing for one in chosen])


def set_apart(edges: np.ndarray, number: int, count: int, spread: float) -> np.ndarray:
    """Middles of logarithmic bins for one of several methods, which stand beside each other in a bin.

    Args:
        edges: (bins + 1,) of the bins.
        number: of the method.
        count: of the methods.
        spread: share of a bin over which methods are set apart.
    """
    step = np.diff(np.log10(edges))
    shift = spread * (number - 0.5 * (count - 1)) / max(count - 1, 1)
    return 10.0 ** (np.log10(edges[:-1]) + step * (0.5 + shift))


def draw_bins(axes: Axes, x: np.ndarray, found: np.ndarray, colour: str, label: str | None = None) -> None:
    """Medians joined by a line, with bars from the 16th to the 84th percentile.

    Args:
        axes: where.
        x: (bins,) places.
        found: (bins, 3) percentiles.
        colour: of the method.
        label: for the legend.
    """
    low, middle, high = found.T
    axes.vlines(x, low, high, color=colour, linewidth=0.9, alpha=0.8)
    axes.plot(x, middle, "o-", color=colour, markersize=3, linewidth=0.8, label=label)


def row_per_method(axes: Axes, methods: Iterable[str]) -> np.ndarray:
    """Names of methods along the vertical axis, the first on top; returns their heights."""
    titles = [TITLES[name] for name in methods]
    place = np.arange(len(titles))[::-1]
    axes.set_yticks(place, titles)
    axes.set_ylim(-0.6, max(len(titles), 1) - 0.4)
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    return place
