"""Figures of lines: recovered flux, S/N before and after (paper Fig. 8), ratios, and presence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import legend_below, new_figure, styled
from kspecsr.evaluation.figures.panels import (
    COLOURS,
    GUIDE,
    Arrays,
    Measured,
    draw_bins,
    per_bin,
    percentiles,
    row_per_method,
    set_apart,
)
from kspecsr.evaluation.methods import TITLES
from kspecsr.measures.estimate import robust_scatter
from kspecsr.measures.line_ratios import RATIOS, closer_than_prism, fainter_snr, ratio_parts
from kspecsr.measures.line_recovery import (
    area_under_roc,
    flux_pull,
    flux_ratio,
    log_ratio,
    reliability,
    roc,
    signal_to_noise,
    there,
)
from kspecsr.measures.line_signal_to_noise import LINES
from kspecsr.measures.lines import detected_lines, judged_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# -- recovered flux against the true S/N in the prism

_EDGES = np.array([0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 100.0])
_LEAST = 5  # lines in a bin that is drawn
_SPREAD = 0.22  # of a bin over which methods are set apart
_RATIO, _SCATTER, _PULL = (0.0, 2.5), (0.01, 5.0), (-1.5, 3.5)


@styled
def draw_line_recovery(columns: Arrays, measured: Measured) -> Figure:
    """Recovered over true flux, its scatter, the pull, and completeness at 3 sigma, in bins of true S/N.

    Points are medians and bars the 16th to 84th percentile of the lines of a bin; numbers are lines of the
    first method.

    Args:
        columns: of the held-out galaxies.
        measured: method to `lines.measured_lines`; methods without lines are left out.
    """
    figure = new_figure(5.0)
    panels = figure.subplots(2, 2, sharex=True)
    shown = {name: arrays for name, arrays in measured.items() if np.isfinite(arrays["line_flux"]).any()}
    for number, (method, arrays) in enumerate(shown.items()):
        x = set_apart(_EDGES, number, len(shown), _SPREAD)
        count = _draw_recovery(panels, x, columns, arrays, COLOURS[method], TITLES[method])
        if number == 0:
            _write_counts(panels[0, 0], count)
    _dress_recovery(panels)
    legend_below(figure, panels[1, 1:])
    return figure


def _draw_recovery(
    panels: np.ndarray, x: np.ndarray, columns: Arrays, arrays: Arrays, colour: str, label: str
) -> np.ndarray:
    """One method in all panels; returns the number of lines per bin."""
    judged = judged_lines(columns) & np.isfinite(arrays["line_flux"]).any(axis=0)
    place = np.where(judged, np.digitize(np.asarray(columns["line_snr"]), _EDGES) - 1, -1)
    ratio, pull, detected = flux_ratio(columns, arrays), flux_pull(columns, arrays), detected_lines(arrays)

    def binned(statistic, values: np.ndarray) -> np.ndarray:
        return per_bin(statistic, values, place, x.size, _LEAST)

    draw_bins(panels[0, 0], x, binned(percentiles, ratio), colour)
    draw_bins(panels[1, 0], x, binned(percentiles, pull), colour)
    scatter = binned(robust_scatter, pull)
    panels[1, 0].plot(x, scatter, "s:", color=colour, markersize=3, mfc="white", linewidth=0.8)
    scatter = binned(lambda values: robust_scatter(log_ratio(values)), ratio)
    panels[0, 1].plot(x, scatter, "o-", color=colour, markersize=3, linewidth=0.9)
    complete = binned(np.mean, detected.astype(float))
    panels[1, 1].plot(x, complete, "o-", color=colour, markersize=3, linewidth=0.9, label=label)
    return np.array([np.sum(np.isfinite(ratio) & (place == i)) for i in range(x.size)])


def _write_counts(axes: Axes, counts: np.ndarray) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    transform = axes.get_xaxis_transform()
    for x, count in zip(set_apart(_EDGES, 0, 1, 0.0), counts, strict=True):
        axes.text(x, 0.035, f"{count:d}", ha="center", fontsize=6.5, transform=transform, bbox=box)


def _dress_recovery(panels: np.ndarray) -> None:
    panels[0, 0].axhline(1.0, **GUIDE)
    panels[0, 0].set(ylim=_RATIO, ylabel="recovered / true flux")
    panels[0, 1].set(yscale="log", ylim=_SCATTER, ylabel="scatter of ln(recovered / true)")
    panels[0, 1].plot(_EDGES, 1.0 / _EDGES, **GUIDE)
    panels[0, 1].text(55.0, 0.0112, "1 / (S/N)", color="0.3", fontsize=7.5, ha="right")
    for value in (0.0, 1.0):
        panels[1, 0].axhline(value, **GUIDE)
    panels[1, 0].set(ylim=_PULL, ylabel="pull: median ●, robust scatter □")
    panels[1, 1].set(ylim=(-0.02, 1.02), ylabel="share with flux > 3 error")
    for axes in panels[1]:
        axes.set(xscale="log", xlim=(_EDGES[0], _EDGES[-1]), xlabel="true S/N in the prism")
        axes.xaxis.set_major_formatter("{x:g}")


# -- S/N of lines in the output against that in the prism

_SNR_TITLES = {"[OII]": "[O II] 3728", "Hbeta": "Hβ", "[OIII]_5008": "[O III] 5008", "Halpha": "Hα"}
_CELLS = 26  # hexagons across
_SNR_RANGE = (0.3, 3e4)


@styled
def draw_line_signal_to_noise(measured: Measured) -> Figure:
    """Hexagons of galaxies, a row per method and a panel per line; dashed: one to one.

    Galaxies beyond the axes, S/N below zero among them, are counted at the edge.

    Args:
        measured: method to `line_signal_to_noise.measure`.
    """
    from matplotlib.colors import LogNorm

    figure = new_figure(0.5 + 1.85 * max(len(measured), 1))
    panels = figure.subplots(max(len(measured), 1), len(LINES), sharex=True, sharey=True, squeeze=False)
    drawn = []
    for row, (method, arrays) in zip(panels, measured.items(), strict=False):
        for number, axes in enumerate(row):
            drawn += _draw_cells(axes, *(arrays[name][:, number].astype(float) for name in ("snr_lr", "snr")))
        row[0].set_ylabel(f"S/N\n{TITLES[method]}")
    for axes, line in zip(panels[0], LINES, strict=True):
        axes.set_title(_SNR_TITLES[line])
    figure.supxlabel("S/N = A / δA of the line in the prism, interpolated", fontsize=9)
    top = max([2.0, *(float(np.asarray(cells.get_array()).max(initial=1.0)) for cells in drawn)])
    for cells in drawn:
        cells.set_norm(LogNorm(1.0, top))
    if drawn:
        figure.colorbar(drawn[-1], ax=panels, label="galaxies", pad=0.01)
    return figure


def _draw_cells(axes: Axes, before: np.ndarray, after: np.ndarray) -> list:
    both = np.isfinite(before) & np.isfinite(after)
    x, y = (np.clip(values[both], *_SNR_RANGE) for values in (before, after))
    axes.plot(_SNR_RANGE, _SNR_RANGE, **{**GUIDE, "zorder": 3})
    axes.set(xscale="log", yscale="log", xlim=_SNR_RANGE, ylim=_SNR_RANGE)
    axes.set_xticks([1, 10, 100, 1000, 1e4])
    axes.minorticks_off()
    if not x.size:
        return []
    text = f"{np.mean(y > x):.0%} above\nn = {x.size}"
    axes.text(0.96, 0.04, text, ha="right", fontsize=7.5, transform=axes.transAxes)
    options = {"gridsize": _CELLS, "extent": tuple(np.log10(_SNR_RANGE)) * 2, "mincnt": 1, "linewidths": 0.1}
    return [axes.hexbin(x, y, xscale="log", yscale="log", cmap="viridis", **options)]


# -- line ratios

_LIMIT = 1.0  # dex


@styled
def draw_line_ratios(columns: Arrays, measured: Measured) -> Figure:
    """Recovered over true ratio [dex]: median, 16th to 84th percentile; a panel per ratio, a row per method.

    Ratios whose fainter side has true S/N > 3. Filled: the prism resolves the pair; open: it blends it.
    At the right: share of ratios with a side at zero or less, which have no logarithm.

    Args:
        columns: of the held-out galaxies.
        measured: method to `line_ratios.measure`; methods without any ratio are left out.
    """
    shown = {name: arrays for name, arrays in measured.items() if (arrays["ratio_measured"] > 0).any()}
    figure = new_figure(1.3 + 0.4 * max(len(shown), 2))
    panels = figure.subplots(1, len(RATIOS), sharey=True)
    enough = dict(ratio_parts(columns)).get("", np.zeros(fainter_snr(columns).shape, bool))
    near = closer_than_prism(columns["redshift"])
    heights = row_per_method(panels[0], shown)
    for number, (axes, ratio) in enumerate(zip(panels, RATIOS.values(), strict=True)):
        axes.axvline(0.0, **GUIDE)
        for y, (method, arrays) in zip(heights, shown.items(), strict=True):
            use = enough[:, number] & (arrays["ratio_measured"][:, number] > 0)
            error = arrays["ratio_error"][:, number].astype(float)
            for blended, offset in ((False, 0.14), (True, -0.14)):
                chosen = error[use & (near[:, number] == blended)]
                _draw_ratio(axes, chosen, y + offset, COLOURS[method], blended)
            lost = f"{np.mean(~np.isfinite(error[use])):.0%}" if use.any() else ""
            place = {"ha": "right", "va": "center", "transform": axes.get_yaxis_transform()}
            axes.text(0.93, y, lost, fontsize=6.5, **place)
        title = ratio.title.replace("] 6", "]\n6")  # [S II] 6718 / 6733 is too long for one line
        axes.set_title(f"{title}\nn = {int(enough[:, number].sum())}", fontsize=8)
        axes.set_xlim(-_LIMIT, _LIMIT * 1.25)
        axes.set_xticks([-0.5, 0.0, 0.5], ["−0.5", "0", "0.5"], fontsize=7)
        axes.tick_params(axis="y", which="minor", left=False, right=False)
    note = "(filled: resolved by the prism, open: blended)"
    figure.supxlabel(f"recovered / true ratio [dex]\n{note}", fontsize=9)
    return figure


def _draw_ratio(axes: Axes, error: np.ndarray, y: float, colour: str, blended: bool) -> None:
    error = error[np.isfinite(error)]
    if error.size < 2:
        return
    low, middle, high = np.clip(percentiles(error), -_LIMIT, _LIMIT)
    axes.hlines(y, low, high, color=colour, linewidth=1.1)
    axes.plot(middle, y, "o", color=colour, markersize=4, mfc="white" if blended else colour)


# -- presence: is a stated probability right, and does it tell lines from none?

_LEAST_FALSE = 1e-4  # share of absent lines at which ROC curves begin
_POINTS = 2000  # of a curve that is drawn


@styled
def draw_presence(columns: Arrays, measured: Measured) -> Figure:
    """Left: share of lines that are there against stated presence, with 1-sigma binomial bars and histogram.

    Right: true against false detections for a moving threshold: on presence (solid), and on flux over error
    (dotted), which methods without presence have too; the area under each curve is in the legend.

    Args:
        columns: of the held-out galaxies.
        measured: method to `lines.measured_lines`.
    """
    figure = new_figure(4.0)
    axes = figure.subplot_mosaic([["reliability", "roc"], ["counts", "roc"]], height_ratios=(3, 1))
    axes["reliability"].sharex(axes["counts"])
    truth, judged = there(columns), judged_lines(columns)
    axes["reliability"].plot([0, 1], [0, 1], **GUIDE)
    for method, arrays in measured.items():
        presence = arrays["line_presence"].astype(float)
        use = judged & np.isfinite(presence)
        if use.any():
            _draw_reliability(axes["reliability"], axes["counts"], presence[use], truth[use], COLOURS[method])
        for score, style, name in ((presence, "-", "presence"), (signal_to_noise(arrays), ":", "S/N")):
            use = judged & np.isfinite(score)
            label = f"{TITLES[method]}, {name}"
            _draw_roc(axes["roc"], score[use], truth[use], COLOURS[method], style, label)
    axes["reliability"].set(ylim=(-0.03, 1.03), ylabel="share that is there")
    axes["reliability"].tick_params(labelbottom=False)
    axes["counts"].set(xlim=(0, 1), yscale="log", xlabel="stated presence", ylabel="lines")
    axes["roc"].set(xscale="log", xlim=(_LEAST_FALSE, 1), ylim=(0, 1.01))
    axes["roc"].set_xlabel("share of absent lines that are found")
    axes["roc"].set_ylabel("share of present lines that are found")
    legend_below(figure, [axes["roc"]], fontsize=7)
    return figure


def _draw_reliability(axes: Axes, counts: Axes, presence: np.ndarray, truth: np.ndarray, colour: str) -> None:
    stated, observed, count = reliability(presence, truth)
    bar = np.sqrt(observed * (1.0 - observed) / np.maximum(count, 1))
    options = {"fmt": "o-", "color": colour, "markersize": 3, "linewidth": 0.9}
    axes.errorbar(*(values[count > 0] for values in (stated, observed, bar)), **options)
    edges = np.linspace(0.0, 1.0, count.size + 1)
    counts.stairs(np.maximum(count, 0.5), edges, baseline=0.5, color=colour)


def _draw_roc(axes: Axes, score: np.ndarray, truth: np.ndarray, colour: str, style: str, label: str) -> None:
    area = area_under_roc(score, truth) if score.size else np.nan
    if np.isnan(area):
        return
    false, true = roc(score, truth)
    at = np.geomspace(_LEAST_FALSE, 1.0, _POINTS)
    # the highest share of true detections at no more than so many false ones
    step = np.searchsorted(false, at, side="right") - 1
    axes.plot(at, true[step], style, color=colour, linewidth=1.1, label=f"{label}: {area:.3f}")
