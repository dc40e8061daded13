"""Figures of stated errors and of what they rest on: calibration, prism consistency, response to the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import WAVELENGTH_SHORT, legend_below, new_figure, styled
from kspecsr.evaluation.figures.panels import (
    COLOURS,
    GUIDE,
    Arrays,
    Measured,
    draw_bins,
    per_bin,
    percentiles,
    set_apart,
)
from kspecsr.evaluation.methods import TITLES
from kspecsr.measures.calibration import PIT_BINS, central_coverage, ks_distance, line_sums
from kspecsr.measures.prior_response import CHANGES, changed_line_snr
from kspecsr.measures.prism_consistency import chi_square
from kspecsr.measures.spectrum import REGIONS
from kspecsr.measures.splits import WAVELENGTH, labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# -- coverage of stated errors, and the histograms behind it

_PANELS = {"core": "line cores", "wing": "line wings", "continuum": "continuum", "lines": "line fluxes"}
_HIGHEST = 4.0  # density of the histograms that is shown; what is higher leaves the panel


@styled
def draw_calibration(pixels: Measured, lines: Measured) -> Figure:
    """Coverage of central intervals against their nominal probability, and PIT histograms.

    Above: the share of values inside; below the dashed diagonal errors are too small. Middle: density of the
    probability integral transform: flat where errors are right, a bowl where they are too small, a hump where
    too large, a slope where values are biased. Below: its Kolmogorov-Smirnov distance from a uniform one.
    Methods without errors are left out.

    Args:
        pixels: method to `calibration.measure_pixels`.
        lines: method to `calibration.measure_lines`.
    """
    figure = new_figure(5.6)
    panels = figure.subplots(3, len(_PANELS), sharex="row", sharey="row", height_ratios=(1, 1, 0.6))
    methods = list(dict.fromkeys([*pixels, *lines]))
    edges = np.linspace(0.0, 1.0, PIT_BINS + 1)
    for (coverage, pit, distance), (panel, title) in zip(panels.T, _PANELS.items(), strict=True):
        coverage.plot([0, 1], [0, 1], **GUIDE)
        pit.axhline(1.0, **GUIDE)
        for number, method in enumerate(methods):
            counts = _pit_counts(panel, pixels.get(method), lines.get(method))
            if counts.sum() == 0:
                continue
            nominal, found = (np.append(0.0, values) for values in central_coverage(counts))
            coverage.plot(nominal, found, color=COLOURS[method], linewidth=1.2, label=TITLES[method])
            pit.stairs(counts * PIT_BINS / counts.sum(), edges, color=COLOURS[method], linewidth=1.0)
            distance.barh(-number, ks_distance(counts), color=COLOURS[method], height=0.8)
        coverage.set_title(title)
        coverage.set(xlabel="nominal", xticks=[0.0, 0.5, 1.0])
        pit.set(xlabel="PIT", xticks=[0.0, 0.5, 1.0])
        distance.set(xlabel="KS distance", yticks=[])
    panels[0, 0].set(xlim=(0, 1), ylim=(0, 1), ylabel="share inside")
    panels[1, 0].set(xlim=(0, 1), ylim=(0, _HIGHEST), ylabel="density")
    panels[2, 0].set(xlim=(0, None), ylabel="methods")
    for distance in panels[2]:
        distance.tick_params(axis="y", which="minor", left=False, right=False)
    legend_below(figure, panels[0])
    return figure


def _pit_counts(panel: str, pixels: Arrays | None, lines: Arrays | None) -> np.ndarray:
    """(`PIT_BINS`,) histogram over all galaxies."""
    if panel in REGIONS and pixels is not None:
        return np.asarray(pixels["pixel_pit"], float)[:, REGIONS.index(panel)].sum(axis=(0, 1))
    if panel not in REGIONS and lines is not None:
        return line_sums(lines)[..., :PIT_BINS].sum(axis=(0, 1))
    return np.zeros(PIT_BINS)


# -- chi-square of the outputs, degraded to the prism

_CHI_SQUARE = (0.1, 100.0)


@styled
def draw_prism_consistency(measured: Measured) -> Figure:
    """Share of galaxies below a chi-square per pixel, and medians against wavelength.

    A right output has 1; below it a method fits noise. Bars span 16 to 84 % of the galaxies.

    Args:
        measured: method to `prism_consistency.measure`.
    """
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    waves = labels("", WAVELENGTH)
    for number, (method, arrays) in enumerate(measured.items()):
        total = chi_square(arrays)
        total = np.sort(total[np.isfinite(total)])
        if total.size == 0:
            continue
        share = np.arange(1, total.size + 1) / total.size
        options = {"where": "post", "color": COLOURS[method], "linewidth": 1.2}
        left.step(total, share, label=TITLES[method], **options)
        offset = 0.5 * (number / max(len(measured) - 1, 1) - 0.5)
        for wave in range(len(waves)):
            values = chi_square(arrays, wave)
            values = values[np.isfinite(values)]
            if values.size:
                low, middle, high = percentiles(values)
                right.vlines(wave + offset, low, high, color=COLOURS[method], linewidth=0.9)
                right.plot(wave + offset, middle, "o", color=COLOURS[method], markersize=3)
    left.axvline(1.0, **GUIDE)
    right.axhline(1.0, **GUIDE)
    left.set(xscale="log", xlim=_CHI_SQUARE, ylim=(0, 1), ylabel="share of galaxies below")
    left.set_xlabel("chi-square per prism pixel")
    right.set(yscale="log", ylim=_CHI_SQUARE, ylabel="chi-square per prism pixel", xlabel=WAVELENGTH_SHORT)
    right.set_xticks(range(len(waves)), waves, minor=False)
    right.tick_params(axis="x", which="minor", bottom=False, top=False)
    legend_below(figure, [left])
    return figure


# -- how much of a change of a line the output follows

_EDGES = np.array([0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
_CHANGED = {"[NII]_6585": "[N II] against Hα", "Hbeta": "Hβ against [O III]"}
_RESPONSES = {"response": "exponent: d log out / d log in", "followed": "share of the change followed"}
_LEAST = 4  # changes in a bin that is drawn
_SPREAD = 0.3  # of a bin over which methods are set apart


@styled
def draw_prior_response(columns: Arrays, measured: Measured) -> Figure:
    """Median response to changes of a line, with the 16th to 84th percentile, per bin of S/N.

    1 reads the data, 0 recites the prior. Above, the exponent d log(recovered ratio) / d log(true ratio), of
    ratios that stay above zero: of faint lines those are the ones that noise made bright, so that even an
    unbiased method falls below 1. Below, the change of the line's flux, which is defined for all.

    Args:
        columns: of the galaxies of the test, before the change.
        measured: method to `prior_response.measure`.
    """
    lines = list(dict.fromkeys(change.line for change in CHANGES))
    figure = new_figure(4.6)
    panels = figure.subplots(len(_RESPONSES), len(lines), sharex=True, sharey=True, squeeze=False)
    snr = changed_line_snr(columns)
    place = np.where(np.isnan(snr), -1, np.digitize(snr, _EDGES) - 1)
    for row, (name, label) in zip(panels, _RESPONSES.items(), strict=True):
        row[0].set_ylabel(label)
        for axes, line in zip(row, lines, strict=True):
            chosen = np.where([change.line == line for change in CHANGES], place, -1)
            for value, text in ((1.0, "reads the data"), (0.0, "recites the prior")):
                axes.axhline(value, **GUIDE)
                axes.text(90.0, value + 0.04, text, ha="right", fontsize=7, color="0.35")
            for number, (method, arrays) in enumerate(measured.items()):
                found = per_bin(percentiles, arrays[name], chosen, _EDGES.size - 1, _LEAST)
                x = set_apart(_EDGES, number, len(measured), _SPREAD)
                draw_bins(axes, x, found, COLOURS[method], TITLES[method])
    for axes, line in zip(panels[0], lines, strict=True):
        axes.set_title(_CHANGED.get(line, line))
    for axes in panels[-1]:
        axes.set(xscale="log", xlim=(_EDGES[0], _EDGES[-1]), ylim=(-0.6, 1.9))
        axes.set_xlabel("S/N of the changed line in the prism")
        axes.xaxis.set_major_formatter("{x:g}")
    legend_below(figure, panels[0, :1])
    return figure
