"""Coverage of stated errors against the nominal one, and the histograms behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.gaussian_calibration import PIT_BINS, central_coverage, ks_distance
from kspecsr.measures.line_calibration import line_sums
from kspecsr.measures.regions import REGIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Measured = Mapping[str, Mapping[str, np.ndarray]]
_PANELS = {"core": "line cores", "wing": "line wings", "continuum": "continuum", "lines": "line fluxes"}
_HIGHEST = 4.0  # density of the histograms that is shown; what is higher leaves the panel


@styled
def draw_calibration(pixels: Measured, lines: Measured) -> Figure:
    """Coverage of central intervals against their nominal probability, and PIT histograms.

    Above: the share of values inside; below the dotted diagonal errors are too small. Below: density of the
    probability integral transform: flat where errors are right, a bowl where they are too small, a hump where
    too large, a slope where values are biased. Methods without errors are left out.

    Args:
        pixels: method to `pixel_calibration.measure`.
        lines: method to `line_calibration.measure`.
    """
    figure = new_figure(4.6)
    axes = figure.subplots(2, len(_PANELS), sharex="row", sharey="row")
    methods = list(dict.fromkeys([*pixels, *lines]))
    colours = method_colours(methods)
    for column, (panel, title) in enumerate(_PANELS.items()):
        above, below = axes[:, column]
        above.plot([0, 1], [0, 1], ":", color="0.4", linewidth=0.8)
        below.axhline(1.0, linestyle=":", color="0.4", linewidth=0.8)
        for method in methods:
            counts = _counts(panel, pixels.get(method), lines.get(method))
            if counts.sum() > 0:
                _draw(above, below, counts, colours[method], method_title(method))
        above.set_title(title)
        above.set_xticks([0.0, 0.5, 1.0])
        below.set_xticks([0.0, 0.5, 1.0])
        above.set_xlabel("nominal")
        below.set_xlabel("PIT")
    axes[0, 0].set(xlim=(0, 1), ylim=(0, 1), ylabel="share inside")
    axes[1, 0].set(xlim=(0, 1), ylim=(0, _HIGHEST), ylabel="density")
    handles = {h.get_label(): h for panel in axes[0] for h in panel.get_legend_handles_labels()[0]}
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=min(len(handles), 4))
    return figure


def _counts(panel: str, pixels: Mapping | None, lines: Mapping | None) -> np.ndarray:
    """(`PIT_BINS`,) histogram over all galaxies."""
    if panel in REGIONS and pixels is not None:
        return np.asarray(pixels["pixel_pit"], float)[:, REGIONS.index(panel)].sum(axis=(0, 1))
    if panel not in REGIONS and lines is not None:
        return line_sums(lines, np.ones(lines["line_pit"].shape, bool))[:, :PIT_BINS].sum(axis=0)
    return np.zeros(PIT_BINS)


def _draw(above: Axes, below: Axes, counts: np.ndarray, colour: str, label: str) -> None:
    nominal, found = central_coverage(counts)
    above.plot(np.append(0.0, nominal), np.append(0.0, found), color=colour, linewidth=1.2, label=label)
    edges = np.linspace(0.0, 1.0, PIT_BINS + 1)
    density = counts * PIT_BINS / counts.sum()
    below.stairs(density, edges, color=colour, linewidth=1.0, label=f"{ks_distance(counts):.3f}")
    below.legend(title="KS distance", loc="upper center", ncols=2, fontsize=6.5, title_fontsize=6.5)
