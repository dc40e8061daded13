"""Spectrum metrics of all methods beside each other: the error and its four guards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.config import TITLES
from kspecsr.measures.estimate import Estimate
from kspecsr.results.picture import OUTPUT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OTHER = "0.35"


@dataclass(frozen=True)
class _Panel:
    """One metric: name in the summaries, title, best value, sane range, logarithmic axis."""

    metric: str
    title: str
    best: float
    sane: tuple[float, float] | None = None
    logarithmic: bool = False


_PANELS = (
    _Panel("scale_free/core", "Scale-free error, line cores\n(1: no line drawn)", 0.0),
    _Panel("amplitude_ratio", "Amplitude ratio, line cores\n(shaded: 0.9 to 1.15)", 1.0, (0.9, 1.15)),
    _Panel("fwhm_ratio", "FWHM / true FWHM\n(isolated lines, S/N > 10)", 1.0, None, True),
    _Panel("scale_free/continuum", "Scale-free error, continuum\n(1: a constant)", 0.0),
    _Panel("line_area_ratio", "Line flux / true flux\n(same lines, ± 20 pixels)", 1.0, (0.9, 1.15)),
    _Panel("pairs_kept/unresolved_by_prism", "Pairs kept resolved\n(those blended in the prism)", 1.0),
)


@styled
def draw_error_bars(summaries: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Median of each metric with its bootstrap interval (thick) and the 16th to 84th percentile (thin).

    Args:
        summaries: method to its figures (see `kspecsr.measures.spectrum_shape`), in the order in
            which methods are listed, those that start with ``sr`` in colour.
    """
    figure = new_figure(2.0 + 0.36 * max(len(summaries), 3))
    grid = figure.subplots(2, 3, sharey=True)
    place = np.arange(len(summaries))[::-1]
    for axes, panel in zip(grid.flat, _PANELS, strict=True):
        _draw_panel(axes, panel, [one.get(panel.metric) for one in summaries.values()], place, summaries)
        axes.set_title(panel.title, fontsize=8.5)
        axes.set_ylim(-0.6, len(summaries) - 0.4)
        axes.tick_params(axis="y", which="minor", left=False, right=False)
    grid[0, 0].set_yticks(place, [TITLES.get(name, name) for name in summaries])
    return figure


def _draw_panel(axes: Axes, panel: _Panel, found: list, place: np.ndarray, names: Mapping) -> None:
    if panel.sane:
        axes.axvspan(*panel.sane, color="#1b9e77", alpha=0.15, linewidth=0)
    axes.axvline(panel.best, color="0.6", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0.5)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks((0.5, 1.0, 2.0, 4.0, 8.0))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    for y, name, estimate in zip(place, names, found, strict=True):
        if estimate is None or not np.isfinite(estimate.value):
            axes.text(0.5, y, "none", transform=axes.get_yaxis_transform(), va="center", color="0.5")
            continue
        colour = OUTPUT_COLOUR if name.startswith("sr") else _OTHER
        if estimate.p16 is not None:
            axes.plot([estimate.p16, estimate.p84], [y, y], color=colour, linewidth=0.8)
        axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=3.0, alpha=0.6)
        axes.plot(estimate.value, y, "o", color=colour, markersize=3.5)
    low, high = axes.get_xlim()
    if panel.logarithmic:
        axes.set_xlim(min(low, 0.8), max(high, 2.2))
    else:
        axes.set_xlim(min(low, 0.0) - 0.03 * (high - low), max(high, 1.05))
