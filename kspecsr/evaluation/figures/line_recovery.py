"""What becomes of a line's flux, against its true S/N in the prism."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.estimate import robust_scatter
from kspecsr.measures.line_recovery import flux_pull, flux_ratio, log_ratio
from kspecsr.measures.lines import detected_lines, judged_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGES = np.array([0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 100.0])
_LEAST = 5  # lines in a bin that is drawn
_SPREAD = 0.22  # of a bin over which methods are set apart
_RATIO, _SCATTER, _PULL = (0.0, 2.5), (0.01, 5.0), (-1.5, 3.5)


@styled
def draw_line_recovery(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, Mapping[str, np.ndarray]]
) -> Figure:
    """Recovered over true flux, its scatter, the pull, and completeness at 3 sigma, in bins of true S/N.

    Points are medians and bars the 16th to 84th percentile of the lines of a bin; numbers are lines of the
    first method.

    Args:
        columns: of the held-out galaxies.
        measured: method to `line_recovery.measure`; methods without lines are left out.
    """
    figure = new_figure(5.0)
    panels = figure.subplots(2, 2, sharex=True)
    shown = {name: m for name, m in measured.items() if np.isfinite(m["line_flux"]).any()}
    colours = method_colours(shown)
    counts: list[str] = []
    for number, (method, arrays) in enumerate(shown.items()):
        shift = _SPREAD * (number - 0.5 * (len(shown) - 1)) / max(len(shown) - 1, 1)
        found = _binned(columns, arrays)
        _draw(panels, found, shift, colours[method], method_title(method))
        counts = counts or [f"{n:d}" for n in found["n"]]
    _dress(panels, counts)
    if shown:
        handles, titles = panels[1, 1].get_legend_handles_labels()
        figure.legend(handles, titles, loc="outside lower center", ncols=4)
    return figure


def _binned(columns: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per bin: percentiles of ratio and pull (bins, 3), scatters, completeness, number."""
    judged = judged_lines(columns) & np.isfinite(arrays["line_flux"]).any(axis=0)
    place = np.digitize(np.asarray(columns["line_snr"]), _EDGES) - 1
    ratio, pull, detected = flux_ratio(columns, arrays), flux_pull(columns, arrays), detected_lines(arrays)
    bins = _EDGES.size - 1
    nothing = np.full(3, np.nan)
    found: dict[str, list] = {k: [] for k in ("ratio", "scatter", "pull", "pull_scatter", "complete", "n")}
    for number in range(bins):
        here = judged & (place == number)
        ratios, pulls = ratio[here & np.isfinite(ratio)], pull[here & np.isfinite(pull)]
        enough = ratios.size >= _LEAST
        found["ratio"].append(np.percentile(ratios, (16, 50, 84)) if enough else nothing)
        found["scatter"].append(robust_scatter(log_ratio(ratios)) if enough else np.nan)
        enough_pulls = pulls.size >= _LEAST
        found["pull"].append(np.percentile(pulls, (16, 50, 84)) if enough_pulls else nothing)
        found["pull_scatter"].append(robust_scatter(pulls) if enough_pulls else np.nan)
        found["complete"].append(np.mean(detected[here]) if here.sum() >= _LEAST else np.nan)
        found["n"].append(ratios.size)
    return {name: np.array(values) for name, values in found.items()}


def _draw(panels: np.ndarray, found: Mapping[str, np.ndarray], shift: float, colour: str, label: str) -> None:
    step = np.diff(np.log10(_EDGES))
    x = 10.0 ** (np.log10(_EDGES[:-1]) + step * (0.5 + shift))
    for axes, name in ((panels[0, 0], "ratio"), (panels[1, 0], "pull")):
        low, middle, high = found[name].T
        axes.vlines(x, low, high, color=colour, linewidth=0.9, alpha=0.8)
        axes.plot(x, middle, "o-", color=colour, markersize=3, linewidth=0.8)
    panels[1, 0].plot(x, found["pull_scatter"], "s:", color=colour, markersize=3, mfc="white", linewidth=0.8)
    for axes, name in ((panels[0, 1], "scatter"), (panels[1, 1], "complete")):
        axes.plot(x, found[name], "o-", color=colour, markersize=3, linewidth=0.9, label=label)


def _dress(panels: np.ndarray, counts: list[str]) -> None:
    x = np.sqrt(_EDGES[:-1] * _EDGES[1:])
    first: Axes = panels[0, 0]
    for place, count in zip(x, counts, strict=False):
        first.text(
            place,
            0.035,
            count,
            ha="center",
            fontsize=6.5,
            transform=first.get_xaxis_transform(),
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
        )
    first.axhline(1.0, linestyle="--", color="0.4", linewidth=0.7)
    first.set(ylim=_RATIO, ylabel="recovered / true flux")
    panels[0, 1].set(yscale="log", ylim=_SCATTER, ylabel="scatter of ln(recovered / true)")
    panels[0, 1].plot(x, 1.0 / x, "--", color="0.4", linewidth=0.7)
    panels[0, 1].text(9.0, 0.075, "1 / (S/N)", color="0.3", fontsize=7.5, ha="right", va="top")
    for value in (0.0, 1.0):
        panels[1, 0].axhline(value, linestyle="--", color="0.4", linewidth=0.7)
    panels[1, 0].set(ylim=_PULL, ylabel="pull: median ●, robust scatter □")
    panels[1, 1].set(ylim=(-0.02, 1.02), ylabel="share with flux > 3 error")
    for axes in panels[1]:
        axes.set(xscale="log", xlim=(_EDGES[0], _EDGES[-1]), xlabel="true S/N in the prism")
        axes.xaxis.set_major_formatter("{x:g}")
