"""Redshifts of identical networks on three inputs, as a picture (paper Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.redshift import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INPUTS = {"lr": "LR: prism, interpolated", "sr": "SR: this model", "hr": "HR: gratings"}
_CELLS = 100  # of the map from which contours are drawn, each way
_SMOOTHING = 2.0  # cells
_REGIONS = ((0.95, 0.8), (0.68, 1.6))  # share of the galaxies inside, width of the contour [point]


@styled
def draw_identical_networks(true: np.ndarray, inferred: Mapping[str, np.ndarray]) -> Figure:
    """A panel per input: hexagonal density, one-to-one line, contours of the densest 68 % and 95 %.

    All panels have the same limits and colours.

    Args:
        true: (n,) true redshifts.
        inferred: input (``lr``, ``sr``, ``hr``) to redshifts (n,).
    """
    from matplotlib.colors import LogNorm

    figure = new_figure(3.1)
    panels = figure.subplots(1, len(inferred), sharex=True, sharey=True, squeeze=False)[0]
    top = 1.03 * max(float(np.max(array, initial=1.0)) for array in (true, *inferred.values()))
    options = {"gridsize": 38, "extent": (0, top, 0, top), "mincnt": 1, "cmap": "Blues"}
    maps = [
        axes.hexbin(true, redshift, **options)
        for axes, redshift in zip(panels, inferred.values(), strict=True)
    ]
    # from below 1, so that a single galaxy can be seen
    norm = LogNorm(0.5, max(2.0, *(float(np.max(one.get_array())) for one in maps if len(one.get_array()))))
    for axes, cells, (name, redshift) in zip(panels, maps, inferred.items(), strict=True):
        cells.set_norm(norm)
        axes.plot([0, top], [0, top], color="0.2", linewidth=0.7)
        _draw_contours(axes, true, redshift, top)
        words = describe((redshift - true) / (1.0 + true))
        axes.set_title(f"{_INPUTS.get(name, name)}\n{words}", fontsize=8)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="true z")
    panels[0].set_ylabel("inferred z")
    figure.colorbar(maps[-1], ax=panels, label="galaxies", pad=0.01)
    return figure


def _draw_contours(axes: Axes, true: np.ndarray, inferred: np.ndarray, top: float) -> None:
    edges = np.linspace(0.0, top, _CELLS + 1)
    density = gaussian_filter(np.histogram2d(true, inferred, bins=(edges, edges))[0], _SMOOTHING)
    if density.sum() == 0:
        return
    ordered = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    middle = 0.5 * (edges[1:] + edges[:-1])
    for share, width in _REGIONS:
        level = ordered[np.searchsorted(inside, share)]
        if 0 < level < ordered[0]:
            axes.contour(middle, middle, density.T, levels=[level], colors="#d55e00", linewidths=width)
