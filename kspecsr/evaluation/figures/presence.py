"""Reliability of presence, and the ROC curve of finding lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.lines import judged_lines
from kspecsr.measures.presence import area_under_roc, reliability, roc, signal_to_noise, there

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_FALSE = 1e-4
_POINTS = 2000  # of a curve that is drawn


@styled
def draw_presence(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, Mapping[str, np.ndarray]]
) -> Figure:
    """Left: share of lines that are there against stated presence, with 1-sigma binomial bars and histogram.

    Right: true against false detections for a moving threshold: on presence (solid), and on flux over error
    (dotted), which methods without presence have too; the area under each curve is in the legend.

    Args:
        columns: of the held-out galaxies.
        measured: method to `presence.measure`.
    """
    figure = new_figure(4.0)
    axes = figure.subplot_mosaic([["reliability", "roc"], ["counts", "roc"]], height_ratios=(3, 1))
    axes["reliability"].sharex(axes["counts"])
    colours, truth, judged = method_colours(measured), there(columns), judged_lines(columns)
    axes["reliability"].plot([0, 1], [0, 1], "--", color="0.4", linewidth=0.7)
    for method, arrays in measured.items():
        presence = arrays["line_presence"].astype(float)
        use = judged & np.isfinite(presence)
        if use.any():
            _draw_reliability(axes, presence[use], truth[use], colours[method])
            label = f"{method_title(method)}, presence"
            _draw_roc(axes["roc"], presence[use], truth[use], colours[method], "-", label)
        score = signal_to_noise(arrays)
        use = judged & np.isfinite(score)
        if use.any():
            _draw_roc(
                axes["roc"], score[use], truth[use], colours[method], ":", f"{method_title(method)}, S/N"
            )
    axes["reliability"].set(ylim=(-0.03, 1.03), ylabel="share that is there")
    axes["reliability"].tick_params(labelbottom=False)
    axes["counts"].set(xlim=(0, 1), yscale="log", xlabel="stated presence", ylabel="lines")
    axes["roc"].set(xscale="log", xlim=(_LEAST_FALSE, 1), ylim=(0, 1.01))
    axes["roc"].set(
        xlabel="share of absent lines that are found", ylabel="share of present lines that are found"
    )
    if axes["roc"].lines:
        handles, titles = axes["roc"].get_legend_handles_labels()
        figure.legend(handles, titles, loc="outside lower center", ncols=3, fontsize=7)
    return figure


def _draw_reliability(axes: Mapping[str, Axes], presence: np.ndarray, truth: np.ndarray, colour: str) -> None:
    stated, observed, count = reliability(presence, truth)
    filled = count > 0
    bar = np.sqrt(observed * (1.0 - observed) / np.maximum(count, 1))
    axes["reliability"].errorbar(
        stated[filled], observed[filled], bar[filled], fmt="o-", color=colour, markersize=3, linewidth=0.9
    )
    edges = np.linspace(0.0, 1.0, count.size + 1)
    axes["counts"].stairs(np.maximum(count, 0.5), edges, baseline=0.5, color=colour)


def _draw_roc(axes: Axes, score: np.ndarray, truth: np.ndarray, colour: str, style: str, label: str) -> None:
    area = area_under_roc(score, truth)
    if np.isnan(area):
        return
    false, true = roc(score, truth)
    at = np.geomspace(_LEAST_FALSE, 1.0, _POINTS)
    # the highest share of true detections at no more than so many false ones
    step = np.searchsorted(false, at, side="right") - 1
    axes.plot(at, true[step], style, color=colour, linewidth=1.1, label=f"{label}: {area:.3f}")
