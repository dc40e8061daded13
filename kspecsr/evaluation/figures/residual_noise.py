"""Residuals sorted by redshift, and their scatter against the noise (paper Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import WAVELENGTH_SHORT, new_figure, styled
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from kspecsr.evaluation.config import TITLES
from kspecsr.measures.residual_noise import MAP_PIXELS, bin_starts, residual_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CURVE_COLOUR = "#2347c5"
_SHOWN = 95.0  # percentile of the absolute residuals at which colours end


@styled
def draw_residual_noise(
    redshift: np.ndarray,
    measured: Mapping[str, Mapping[str, np.ndarray]],
    low: str = "cubic",
    high: str = "sr2",
    grid: UnifiedGrid = UNIFIED_GRID,
) -> Figure:
    """Maps of prism less reference, prism less output, and output less reference; below, scatter and noise.

    Args:
        redshift: (B,) true; galaxies without one are left out.
        measured: method to its arrays, as of `kspecsr.measures.spectrum_shape.measure`.
        low: the method that stands for the prism, interpolated.
        high: the method that is shown.
        grid: of the targets.
    """
    order = np.argsort(redshift, kind="stable")
    order = order[np.isfinite(np.asarray(redshift)[order])]
    prism, output = ({k: np.asarray(v)[order] for k, v in measured[name].items()} for name in (low, high))
    title = TITLES.get(high, high)
    panels = (
        ("prism − truth", _difference(prism), "residual_prism_noise", "prism noise"),
        (f"prism − {title}", _difference(prism, output), "residual_prism_noise", "prism noise"),
        (f"{title} − truth", _difference(output), "residual_noise", "reference noise"),
    )
    limit = _limit(panels[0][1][0])
    figure = new_figure(5.6)
    axes = figure.subplots(2, 3, sharex=True, sharey="row", height_ratios=(1.35, 1.0))
    for column, (name, (image, at), noise, noise_name) in enumerate(panels):
        mesh = _draw_map(axes[0, column], image, np.asarray(redshift)[order], grid, limit)
        axes[0, column].set_title(name)
        _draw_curve(axes[1, column], residual_curve(grid, at, output[noise]), noise_name)
        axes[1, column].set_xlabel(WAVELENGTH_SHORT)
    axes[0, 0].set_ylabel("Redshift (galaxies in its order)")
    axes[1, 0].set_ylabel("Normalised flux density")
    axes[1, 0].set_ylim(*_curve_limits(axes[1]))
    figure.colorbar(mesh, ax=axes[0], label="Residual / median prism flux", extend="both", pad=0.01)
    return figure


def _difference(one: Mapping, other: Mapping | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Map and single-pixel residuals of a method less those of another: the truth cancels."""
    names = ("residual_map", "residual_at")
    arrays = [one[name].astype(np.float32) for name in names]
    if other is not None:
        arrays = [array - other[name].astype(np.float32) for array, name in zip(arrays, names, strict=True)]
    return arrays[0], arrays[1]


def _limit(image: np.ndarray) -> float:
    seen = np.abs(image[np.isfinite(image)])
    return float(np.percentile(seen, _SHOWN)) if seen.size and seen.any() else 1.0


def _draw_map(axes: Axes, image: np.ndarray, redshift: np.ndarray, grid: UnifiedGrid, limit: float):
    start = np.append(bin_starts(grid, MAP_PIXELS), grid.size) - 0.5
    edges = grid.start * np.exp(start / grid.sampling)
    mesh = axes.pcolormesh(
        edges, np.arange(len(image) + 1), image, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True
    )
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
    axes.plot(curve.wavelength, positive, color=_CURVE_COLOUR, linewidth=1.0, label=r"$\sigma_{\rm resid}$")
    axes.plot(curve.wavelength, curve.noise, color="0.4", linewidth=1.0, linestyle="--", label=noise_name)
    axes.set_yscale("log")
    axes.set_xlim(curve.wavelength[0], curve.wavelength[-1])
    axes.legend(loc="upper right")


def _curve_limits(axes) -> tuple[float, float]:
    drawn = np.concatenate([line.get_ydata() for panel in axes for line in panel.lines])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if drawn.size == 0:
        return 0.1, 10.0
    return float(drawn.min()) / 1.3, float(np.percentile(drawn, 99.8)) * 3.0
