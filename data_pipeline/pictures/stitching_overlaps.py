"""How the gratings of one galaxy were joined: arms before and after, overlaps, residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pairs.stitching import Overlap, StitchedSpectrum
from data_pipeline.pictures.flux_axis import flux_limits, flux_unit, leave_headroom
from data_pipeline.pictures.line_marks import mark_lines
from data_pipeline.pictures.style import WAVELENGTH_LABEL, arm_colour, draw_steps, new_figure, note, styled
from data_pipeline.pixel_grid import pixel_bounds
from data_pipeline.resampling import resampler
from data_pipeline.spectrum import ObservedSpectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Segment = tuple[np.ndarray, np.ndarray, np.ndarray]

_OVERLAP_COLOUR = "#f2d9a0"
_BIN = 40  # grid pixels: a scale of some per cent is seen only where the noise is averaged


@styled
def draw_stitching(
    gratings: Sequence[ObservedSpectrum], stitched: StitchedSpectrum, redshift: float, name: str
) -> Figure:
    """Arms as read, arms after scaling, and for each overlap a magnified view with residuals.

    Args:
        gratings: as read.
        stitched: what joining them gave.
        redshift: marks lines; NaN marks none.
        name: for the title.
    """
    arms = {s.meta.disperser: s for s in gratings}
    shared = [(key, overlap) for key, overlap in stitched.overlaps.items() if overlap.bins > 0]
    shared.sort(key=lambda item: item[1].low)
    figure = new_figure(7.8 if shared else 4.4)
    heights = (1, 1, 1, 0.65) if shared else (1, 1)
    rows = figure.add_gridspec(len(heights), max(len(shared), 1), height_ratios=heights)
    before = figure.add_subplot(rows[0, :])
    after = figure.add_subplot(rows[1, :], sharex=before)
    limits = flux_limits(
        *((s.flux, s.error, s.mask) for s in gratings if s.meta.disperser in stitched.arms),
        *stitched.segments.values(),
    )
    unit, label = flux_unit(limits)
    good = stitched.wavelength[~stitched.mask]
    before.set_xlim(good[0], good[-1])
    _draw_arms(before, after, arms, stitched, unit)
    for axes in (before, after):
        axes.set_ylim(limits[0] / unit, limits[1] / unit)
        leave_headroom(axes)
        for _, overlap in shared:
            axes.axvspan(overlap.low, overlap.high, color=_OVERLAP_COLOUR, alpha=0.5, zorder=0.1, linewidth=0)
    for seam in stitched.seams:
        after.axvline(seam, color="0.2", linestyle=":", linewidth=0.9, zorder=0.6)
    before.tick_params(labelbottom=False)
    if np.isfinite(redshift):
        mark_lines(before, redshift, before.get_xlim())
    after.set_xlabel(WAVELENGTH_LABEL)
    figure.supylabel(label, fontsize=9)
    known = f" · z = {redshift:.4f}" if np.isfinite(redshift) else ""
    how = "shaded: overlaps; dotted: seams" if shared else "no overlap from which to scale"
    figure.suptitle(f"{name}{known} · {how}", fontsize=9.5)
    for column, (key, overlap) in enumerate(shared):
        view = figure.add_subplot(rows[2, column])
        residual = figure.add_subplot(rows[3, column], sharex=view)
        changes = {arm: change_of(arms[arm], stitched, overlap) for arm in key}
        _draw_overlap(view, changes, overlap, stitched, unit)
        _draw_residual(residual, changes, overlap, stitched.wavelength)
    return figure


def scale_text(stitched: StitchedSpectrum, arm: str) -> str:
    """An arm's scale factor with its error, for the legend."""
    others = [(key, overlap) for key, overlap in stitched.overlaps.items() if arm in key]
    far = [overlap for key, overlap in others if _far_arm(stitched, key) == arm]
    if not far:
        return f"{arm}: reference"
    if not np.isfinite(far[0].scale_error):
        return f"{arm}: not scaled, no overlap"
    return f"{arm} × {stitched.scales[arm]:.3f} ± {far[0].scale_error:.3f}"


def _far_arm(stitched: StitchedSpectrum, key: tuple[str, str]) -> str:
    """The member of a pair that was brought to the other: the one farther from the reference arm.

    Scales run outwards, so each arm is the far member of one pair at most, and the reference of none.
    """
    position = stitched.arms.index
    home = position(next(iter(stitched.scales)))  # scales are found from the reference outwards
    return max(key, key=lambda arm: abs(position(arm) - home))


@dataclass(frozen=True)
class ArmChange:
    """What stitching did to an arm, on the unified grid.

    Attributes:
        segments: as read, and scaled: (flux, error, mask) each.
        oversampling: grid pixels per pixel of the arm, 1 or more, in the overlap.
    """

    segments: tuple[Segment, Segment]
    oversampling: float


def change_of(spectrum: ObservedSpectrum, stitched: StitchedSpectrum, overlap: Overlap) -> ArmChange:
    """An arm as read, resampled as stitching does, beside its segment."""
    bounds, grid = pixel_bounds(spectrum.wavelength), pixel_bounds(stitched.wavelength)
    read = resampler(bounds, grid).resample(spectrum.flux, spectrum.error, spectrum.mask)
    middle = 0.5 * (overlap.low + overlap.high)
    own, common = (
        np.interp(middle, edges.mean(axis=0), np.diff(edges, axis=0)[0]) for edges in (bounds, grid)
    )
    return ArmChange((read, stitched.segments[spectrum.meta.disperser]), max(1.0, float(own / common)))


def binned(
    wavelength: np.ndarray, segment: Segment, inside: np.ndarray, oversampling: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over runs of grid pixels: wavelength, flux, error of the mean.

    Errors take the arm's own pixels as independent; grid pixels that share one are not.

    Args:
        wavelength: (n,) grid [um].
        segment: flux, error, mask, (n,) each.
        inside: (n,) bool, pixels to use, good ones only.
        oversampling: grid pixels per pixel of the arm.
    """
    flux, error, _ = segment
    rows = np.flatnonzero(inside)
    number = rows // _BIN
    number -= number[0]
    count = np.bincount(number)
    filled = count > count.max() // 4
    count = np.maximum(count, 1)
    return (
        (np.bincount(number, wavelength[rows]) / count)[filled],
        (np.bincount(number, flux[rows]) / count)[filled],
        (np.sqrt(oversampling * np.bincount(number, error[rows] ** 2)) / count)[filled],
    )


def _draw_arms(
    before: Axes, after: Axes, arms: Mapping[str, ObservedSpectrum], stitched: StitchedSpectrum, unit: float
) -> None:
    for arm in stitched.arms:
        s, colour = arms[arm], arm_colour(arm)
        flux, _, mask = stitched.segments[arm]
        draw_steps(before, s.wavelength, s.flux / unit, None, s.mask, colour, arm, 0.6)
        draw_steps(
            after, stitched.wavelength, flux / unit, None, mask, colour, scale_text(stitched, arm), 0.6
        )
    for axes, text in ((before, "as read"), (after, "scaled")):
        note(axes, text)
        axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
        axes.legend(loc="upper right", ncols=len(stitched.arms), columnspacing=1.2)


def _draw_overlap(
    axes: Axes, changes: Mapping[str, ArmChange], overlap: Overlap, stitched: StitchedSpectrum, unit: float
) -> None:
    """Binned means of both arms: hollow as read, filled after scaling."""
    wavelength = stitched.wavelength
    inside = _common(changes, wavelength, overlap)
    shown: list[float] = []
    for arm, change in changes.items():
        colour = arm_colour(arm)
        read, scaled = change.segments
        x, y, e = binned(wavelength, scaled, inside, change.oversampling)
        axes.errorbar(x, y / unit, e / unit, fmt="o-", color=colour, markersize=3, linewidth=0.8, label=arm)
        if stitched.scales[arm] != 1.0:
            x, y_read, _ = binned(wavelength, read, inside)
            name = f"{arm} as read"
            axes.plot(
                x, y_read / unit, "o--", color=colour, mfc="white", markersize=3, linewidth=0.6, label=name
            )
        sure = e < 5.0 * np.median(e)  # bins of an arm's noisy end may lie outside
        shown += [*(y - e)[sure], *(y + e)[sure]]
    low, high = min(shown) / unit, max(shown) / unit
    axes.set_ylim(low - 0.05 * (high - low), high + 0.45 * (high - low))
    axes.set_xlim(overlap.low, overlap.high)
    axes.set_facecolor("#fdf8ec")
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", ncols=2, handlelength=1.2, columnspacing=1.0)
    axes.set_title(f"{' and '.join(changes)}: means of {_BIN} pixels", fontsize=8.5, pad=3)


def _draw_residual(
    axes: Axes, changes: Mapping[str, ArmChange], overlap: Overlap, wavelength: np.ndarray
) -> None:
    """Difference of the two arms over its error, before (hollow) and after (filled)."""
    inside = _common(changes, wavelength, overlap)
    worst = 3.0
    for when, style in ((0, {"mfc": "white", "color": "0.6"}), (1, {"color": "0.1"})):
        (x, y_blue, e_blue), (_, y_red, e_red) = (
            binned(wavelength, change.segments[when], inside, change.oversampling)
            for change in changes.values()
        )
        sigma = (y_blue - y_red) / np.hypot(e_blue, e_red)
        rms = float(np.sqrt(np.mean(sigma**2)))
        axes.plot(x, sigma, "o", markersize=3, label=f"{('as read', 'scaled')[when]}, rms {rms:.1f}", **style)
        worst = max(worst, float(np.abs(sigma).max()))
    axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
    axes.axhspan(-1, 1, color="0.9", zorder=0.1)
    axes.set_ylim(-1.15 * worst, 1.9 * worst)
    axes.legend(loc="upper center", ncols=2, columnspacing=1.0, handletextpad=0.2, borderaxespad=0.1)
    axes.set_xlabel("Wavelength [µm]")
    axes.set_ylabel("Difference [σ]", fontsize=8)


def _common(changes: Mapping[str, ArmChange], wavelength: np.ndarray, overlap: Overlap) -> np.ndarray:
    """Grid pixels of an overlap that both arms see, before and after."""
    inside = (wavelength >= overlap.low) & (wavelength <= overlap.high)
    for change in changes.values():
        for _, _, mask in change.segments:
            inside &= ~mask
    return inside
