"""Figures of spectra: errors of all methods, residuals and noise (paper Fig. 6), power (paper Fig. 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import BAND_ALPHA, TRUTH_COLOUR, WAVELENGTH_SHORT, new_figure, styled
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from kspecsr.evaluation.figures.panels import (
    COLOURS,
    GUIDE,
    Arrays,
    Measured,
    row_per_method,
)
from kspecsr.evaluation.methods import TITLES
from kspecsr.measures.estimate import Estimate
from kspecsr.measures.residuals import (
    INTERMEDIATE,
    MAP_PIXELS,
    bin_starts,
    frequencies,
    residual_curve,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# -- the error of all methods and its guards


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
    _Panel("pairs_kept/unresolved_by_prism", "Pairs kept resolved\n(blended in the prism)", 1.0),
)


@styled
def draw_error_bars(summaries: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Median of each metric with its bootstrap interval (thick) and the 16th to 84th percentile (thin).

    Args:
        summaries: method to its figures (see `kspecsr.measures.spectrum_shape`), in the order in which
            methods are listed.
    """
    figure = new_figure(2.0 + 0.36 * max(len(summaries), 3))
    grid = figure.subplots(2, 3, sharey=True)
    heights = row_per_method(grid[0, 0], summaries)
    for axes, panel in zip(grid.flat, _PANELS, strict=True):
        _draw_guides(axes, panel)
        for y, (method, metrics) in zip(heights, summaries.items(), strict=True):
            _draw_estimate(axes, metrics.get(panel.metric), y, COLOURS[method])
        low, high = axes.get_xlim()
        if panel.logarithmic:
            axes.set_xlim(min(low, 0.8), max(high, 2.2))
        else:
            axes.set_xlim(min(low, 0.0) - 0.03 * (high - low), max(high, 1.05))
        axes.set_title(panel.title, fontsize=8)
        axes.tick_params(axis="y", which="minor", left=False, right=False)
    return figure


def _draw_guides(axes: Axes, panel: _Panel) -> None:
    if panel.sane:
        axes.axvspan(*panel.sane, color="#1b9e77", alpha=0.15, linewidth=0)
    axes.axvline(panel.best, **GUIDE)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks((0.5, 1.0, 2.0, 4.0, 8.0))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")


def _draw_estimate(axes: Axes, estimate: Estimate | None, y: float, colour: str) -> None:
    if estimate is None or not np.isfinite(estimate.value):
        axes.text(0.5, y, "none", transform=axes.get_yaxis_transform(), va="center", color="0.5")
        return
    if estimate.p16 is not None:
        axes.plot([estimate.p16, estimate.p84], [y, y], color=colour, linewidth=0.8)
    axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=3.0, alpha=0.6)
    axes.plot(estimate.value, y, "o", color=colour, markersize=3.5)


# -- residuals sorted by redshift, and their scatter against the noise

_SHOWN = 95.0  # percentile of the absolute residuals at which colours end


@styled
def draw_residual_noise(
    redshift: np.ndarray,
    measured: Measured,
    high: str = "sr2",
    grid: UnifiedGrid = UNIFIED_GRID,
) -> Figure:
    """Maps of prism less reference, prism less output, and output less reference; below, scatter and noise.

    Args:
        redshift: (B,) true; galaxies without one are left out.
        measured: method to its arrays, as of `kspecsr.measures.spectrum_shape.measure`.
        high: the method that is shown.
        grid: of the targets.
    """
    redshift = np.asarray(redshift)
    order = np.argsort(redshift, kind="stable")
    order = order[np.isfinite(redshift[order])]
    prism, output = ({k: np.asarray(v)[order] for k, v in measured[name].items()} for name in ("cubic", high))
    title = TITLES[high]
    panels = (
        ("prism − truth", _difference(prism), "residual_prism_noise", "prism noise"),
        (f"prism − {title}", _difference(prism, output), "residual_prism_noise", "prism noise"),
        (f"{title} − truth", _difference(output), "residual_noise", "reference noise"),
    )
    limit = _colour_limit(panels[0][1][0])
    figure = new_figure(5.6)
    axes = figure.subplots(2, 3, sharex=True, sharey="row", height_ratios=(1.35, 1.0))
    for column, (name, (image, at), noise, noise_name) in enumerate(panels):
        mesh = _draw_map(axes[0, column], image, redshift[order], grid, limit)
        axes[0, column].set_title(name)
        _draw_curve(axes[1, column], residual_curve(grid, at, output[noise]), noise_name)
        axes[1, column].set_xlabel(WAVELENGTH_SHORT)
    axes[0, 0].set_ylabel("Redshift (galaxies in its order)")
    axes[1, 0].set_ylabel("Normalised flux density")
    axes[1, 0].set_ylim(*_curve_limits(axes[1]))
    figure.colorbar(mesh, ax=axes[0], label="Residual / median prism flux", extend="both", pad=0.01)
    return figure


def _difference(arrays: Arrays, other: Arrays | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Map and single-pixel residuals of a method, or less those of another: the truth cancels."""
    image, at = (arrays[name].astype(np.float32) for name in ("residual_map", "residual_at"))
    if other is None:
        return image, at
    return image - other["residual_map"].astype(np.float32), at - other["residual_at"].astype(np.float32)


def _colour_limit(image: np.ndarray) -> float:
    seen = np.abs(image[np.isfinite(image)])
    return float(np.percentile(seen, _SHOWN)) if seen.size and seen.any() else 1.0


def _draw_map(axes: Axes, image: np.ndarray, redshift: np.ndarray, grid: UnifiedGrid, limit: float):
    start = np.append(bin_starts(grid, MAP_PIXELS), grid.size) - 0.5
    edges = grid.start * np.exp(start / grid.sampling)
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "rasterized": True}
    mesh = axes.pcolormesh(edges, np.arange(len(image) + 1), image, **options)
    axes.set_facecolor("0.8")
    axes.set_ylim(0, max(len(image), 1))
    whole = np.arange(0, np.floor(redshift.max(initial=0.0)) + 1)
    place = np.searchsorted(redshift, whole)
    # High redshifts are rare: marks there would overlap.
    apart = np.concatenate([[True], np.diff(place) > 0.035 * len(image)]) & (place < len(image))
    axes.set_yticks(place[apart], [f"{z:g}" for z in whole[apart]])
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    return mesh


def _draw_curve(axes: Axes, curve, noise_name: str) -> None:
    positive = np.where(curve.sigma > 0, curve.sigma, np.nan)
    axes.plot(curve.wavelength, positive, color="0.1", linewidth=1.0, label=r"$\sigma_{\rm resid}$")
    axes.plot(curve.wavelength, curve.noise, color="0.5", linewidth=1.0, linestyle="--", label=noise_name)
    axes.set_yscale("log")
    axes.set_xlim(curve.wavelength[0], curve.wavelength[-1])
    axes.legend(loc="upper right")


def _curve_limits(panels) -> tuple[float, float]:
    drawn = np.concatenate([line.get_ydata() for axes in panels for line in axes.lines])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if drawn.size == 0:
        return 0.1, 10.0
    return float(drawn.min()) / 1.3, float(np.percentile(drawn, 99.8)) * 3.0


# -- power of sharp structure in truth, interpolated prism and output, and of residuals

_DECADES = 6.0  # shown below the highest curve


@styled
def draw_power_spectrum(measured: Measured, high: str = "sr2") -> Figure:
    """Median over galaxies with the 16th to 84th percentile; left the spectra, right the residuals.

    Args:
        measured: method to its arrays, as of `kspecsr.measures.spectrum_shape.measure`.
        high: the method that is shown.
    """
    low = "cubic"  # stands for the prism
    figure = new_figure(3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    title = TITLES[high]
    _draw_power(left, measured[high]["power_truth"], TRUTH_COLOUR, "truth")
    _draw_power(left, measured[low]["power_output"], COLOURS[low], "prism, interpolated")
    _draw_power(left, measured[high]["power_output"], COLOURS[high], title)
    _draw_power(right, measured[low]["power_residual"], COLOURS[low], "prism − truth")
    _draw_power(right, measured[high]["power_residual"], COLOURS[high], f"{title} − truth")
    top = max(np.nanmax(line.get_ydata(), initial=1e-30) for axes in (left, right) for line in axes.lines)
    for axes, name in ((left, "High-pass parts"), (right, "Residuals of high-pass parts")):
        axes.set(yscale="log", xlim=(0.0, 1.0), xlabel=r"Spatial frequency $k / k_{\rm Nyq}$", title=name)
        axes.axvline(INTERMEDIATE, **GUIDE)
        axes.legend(loc="upper right")
    place = {"xycoords": left.get_xaxis_transform(), "xytext": (3, 0), "textcoords": "offset points"}
    left.annotate(r"0.3 $k_{\rm Nyq}$", (INTERMEDIATE, 0.03), fontsize=8, **place)
    left.set_ylabel("Power / (median prism flux)²")
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
