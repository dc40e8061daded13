"""Prism and gratings of one galaxy (paper Figure 1), with the brightest line groups magnified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.flux_axis import flux_limits, leave_headroom, line_significance, mark_beyond
from data_pipeline.pictures.line_marks import CLOSE_LINES, KEY_LINES, mark_lines, observed_wavelengths
from data_pipeline.pictures.style import (
    BAND_ALPHA,
    WAVELENGTH_LABEL,
    WAVELENGTH_SHORT,
    arm_colour,
    draw_steps,
    new_figure,
    styled,
)
from data_pipeline.spectrum import ObservedSpectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Rest wavelengths [um] of groups of lines that the prism blends.
WINDOWS = (
    (0.1860, 0.1960),
    (0.3660, 0.3910),
    (0.4280, 0.4450),
    (0.4800, 0.5070),
    (0.6460, 0.6810),
    (0.8960, 0.9630),
    (1.0700, 1.1060),
    (1.2650, 1.3000),
    (1.8550, 1.8960),
)
_MOST_WINDOWS = 3
_NEAR = 0.006  # of the wavelength: redshift errors and the prism's wavelength zero point


@styled
def draw_galaxy_pair(
    prism: ObservedSpectrum, gratings: Sequence[ObservedSpectrum], redshift: float, name: str
) -> Figure:
    """Prism in red, G140M in green, G235M in blue, G395M in black; key lines dashed.

    The prism is divided by its peak in one line, the gratings together by theirs in the same line:
    resolution, not flux scale, is what the picture compares. Pixels are those of the files.

    Args:
        prism: of the galaxy.
        gratings: one or more.
        redshift: where lines are marked.
        name: for the title.
    """
    arms = sorted(gratings, key=lambda s: s.wavelength[0])
    scale, text = normalisation(prism, arms, redshift)
    spectra = [(prism, scale[0]), *((arm, scale[1]) for arm in arms)]
    windows = line_windows(prism, arms, redshift)
    figure = new_figure(5.7 if windows else 3.5)
    if windows:
        grid = figure.add_gridspec(2, len(windows), height_ratios=(1.25, 1))
        main = figure.add_subplot(grid[0, :])
    else:
        main = figure.add_subplot()
    good = np.concatenate([s.wavelength[~s.mask] for s, _ in spectra])
    main.set_xlim(good.min(), good.max())
    _draw_arms(main, spectra)
    main.set_ylim(*flux_limits(*((s.flux / by, s.error / by, s.mask) for s, by in spectra)))
    leave_headroom(main)
    mark_lines(main, redshift, (float(good.min()), float(good.max())))
    main.legend(loc="upper right", ncols=len(spectra), columnspacing=1.2)
    main.set_xlabel(WAVELENGTH_LABEL)
    main.set_ylabel(f"Flux density / own {text}")
    beyond = sum(
        mark_beyond(main, s.wavelength, s.flux / by, s.mask, arm_colour(s.meta.disperser))
        for s, by in spectra
    )
    figure.suptitle(_title(name, redshift, text, beyond), fontsize=9)
    panels = [figure.add_subplot(grid[1, column]) for column in range(len(windows))]
    for panel, window in zip(panels, windows, strict=True):
        _draw_window(panel, spectra, window, redshift)
    if panels:
        panels[0].set_ylabel(f"Flux density\n/ own {text}")
        _explain_bands(figure)
    return figure


def _title(name: str, redshift: float, text: str, beyond: int) -> str:
    """Galaxy; below, what the flux axis is and what triangles mean."""
    below = [f"prism and gratings each divided by their own {text}"]
    if beyond:
        below.append(f"good pixels beyond the axis: {beyond} (triangles)")
    return f"{name} · z = {redshift:.4f}\n" + "; ".join(below)


def _explain_bands(figure: Figure) -> None:
    """Legend entry, below the magnified panels, for the shading that is drawn in them."""
    from matplotlib.patches import Patch  # as all of matplotlib: only once something is drawn

    figure.legend(
        handles=[Patch(color="0.5", alpha=BAND_ALPHA, linewidth=0)],
        labels=["shading in the magnified panels: ± 1 σ of each spectrum"],
        loc="outside lower center",
    )


def normalisation(
    prism: ObservedSpectrum, gratings: Sequence[ObservedSpectrum], redshift: float
) -> tuple[tuple[float, float], str]:
    """What prism and gratings are divided by [erg/s/cm2/A], and its name.

    The peak in the key line of highest S/N in the gratings that the prism detects, too; without one, the
    median absolute flux of each.
    """
    best: tuple[float, float, float, str] | None = None
    for line in KEY_LINES:
        at = float(observed_wavelengths(line.names[:1], redshift)[0])
        low = _peak([prism], at)
        high = _peak(gratings, at)
        if low[1] > 0 and high[1] > 0 and (best is None or high[1] > best[0]):
            best = (high[1], low[0], high[0], line.label)
    if best is not None:
        return (best[1], best[2]), f"peak of {best[3]}"
    medians = [
        float(np.median(np.concatenate([np.abs(s.flux[~s.mask]) for s in group]))) or 1.0
        for group in ([prism], gratings)
    ]
    return (medians[0], medians[1]), "median"


def _peak(spectra: Sequence[ObservedSpectrum], at: float) -> tuple[float, float]:
    """Flux and S/N of the most significant line pixel near a wavelength; 0 for none."""
    best = (0.0, 0.0)
    for s in spectra:
        near = np.abs(s.wavelength - at) < _NEAR * at
        excess = np.where(near, line_significance(s.flux, s.error, s.mask), 0.0)
        row = int(np.argmax(excess))
        if excess[row] > best[1]:
            best = (float(s.flux[row]), float(excess[row]))
    return best


def line_windows(
    prism: ObservedSpectrum, gratings: Sequence[ObservedSpectrum], redshift: float
) -> list[tuple[float, float]]:
    """Observed windows [um] of the groups with the brightest pixels in the gratings, blue to red."""
    ranked = []
    for low, high in np.array(WINDOWS) * (1.0 + redshift):
        if not np.any(~prism.mask & (prism.wavelength > low) & (prism.wavelength < high)):
            continue
        peak = 0.0
        for arm in gratings:
            inside = (arm.wavelength > low) & (arm.wavelength < high)
            excess = line_significance(arm.flux, arm.error, arm.mask)
            peak = max(peak, float(np.max(excess[inside], initial=0.0)))
        if peak > 0:
            ranked.append((peak, float(low), float(high)))
    return sorted((low, high) for _, low, high in sorted(ranked, reverse=True)[:_MOST_WINDOWS])


def _draw_arms(axes: Axes, spectra: Sequence[tuple[ObservedSpectrum, float]], band: bool = False) -> None:
    axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
    # The prism last: it is the smoother one, and stays visible on top.
    for s, by in [*spectra[1:], spectra[0]]:
        draw_steps(
            axes,
            s.wavelength,
            s.flux / by,
            s.error / by if band else None,
            s.mask,
            arm_colour(s.meta.disperser),
            s.meta.disperser.replace("PRISM", "prism"),
            width=1.1 if s is spectra[0][0] else 0.7,
        )


def _draw_window(
    axes: Axes,
    spectra: Sequence[tuple[ObservedSpectrum, float]],
    window: tuple[float, float],
    redshift: float,
) -> None:
    axes.set_xlim(*window)
    _draw_arms(axes, spectra, band=True)
    inside = []
    for s, by in spectra:
        rows = (s.wavelength > window[0]) & (s.wavelength < window[1])
        good = rows & ~s.mask
        if good.any():
            value, sigma = s.flux[good] / by, s.error[good] / by
            lines = line_significance(s.flux, s.error, s.mask)[good] > 0
            inside += [*np.percentile(value, (1, 98)), *(value + sigma)[lines]]
    low, high = min(0.0, *inside), max(inside)
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    mark_lines(axes, redshift, window, CLOSE_LINES, label_gap=0.085)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(WAVELENGTH_SHORT)
