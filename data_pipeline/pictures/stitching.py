"""Picture of the stitching of one galaxy: arms before and after, overlaps, residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import HAND_OVERS, arm_shares
from data_pipeline.pairs.arm_comparison import GRATING_CORRELATION
from data_pipeline.pairs.stitching import Overlap, StitchedSpectrum
from data_pipeline.pictures import style
from data_pipeline.pictures.line_marks import mark_lines
from data_pipeline.pixel_grid import pixel_bounds
from data_pipeline.resampling import resampler
from data_pipeline.spectrum import ObservedSpectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Segment = tuple[np.ndarray, np.ndarray, np.ndarray]

_OVERLAP_COLOUR = "#fbf3e0"
_HAND_OVER_COLOUR = "#f4dcab"
_BIN = 40  # grid pixels: a scale of some per cent is seen only where the noise is averaged
_PALE = 0.25
_SURE = 5.0  # bins with errors beyond this many medians, at an arm's noisy end, set no limit


@style.styled
def draw_stitching(
    gratings: Sequence[ObservedSpectrum], stitched: StitchedSpectrum, redshift: float, name: str
) -> Figure:
    """Arms as read, arms scaled and joined, and for each overlap a magnified view with residuals.

    A redshift of NaN marks no lines.
    """
    arms = {s.meta.disperser: s for s in gratings}
    shared = [(key, overlap) for key, overlap in stitched.overlaps.items() if overlap.bins > 0]
    shared.sort(key=lambda item: item[1].low)
    several = len(stitched.arms) > 1
    figure = style.new_figure(8.4 if shared else 4.6 if several else 3.2)
    heights = (1, 1, 1, 0.65) if shared else (1, 1) if several else (1,)
    rows = figure.add_gridspec(len(heights), max(len(shared), 1), height_ratios=heights)
    before = figure.add_subplot(rows[0, :])
    main = [before, figure.add_subplot(rows[1, :], sharex=before)] if several else [before]
    limits = _limits(gratings, stitched)
    unit, label = style.flux_unit(limits)
    good = stitched.wavelength[~stitched.mask]
    before.set_xlim(good[0], good[-1])
    for axes in main:
        axes.set_ylim(limits[0] / unit, limits[1] / unit)
        style.leave_headroom(axes)
        _shade(axes, shared)
    beyond = _draw_read(before, arms, stitched, unit)
    if several:
        beyond += _draw_joined(main[1], stitched, unit)
        before.tick_params(labelbottom=False)
    if np.isfinite(redshift):
        mark_lines(before, redshift, before.get_xlim())
    main[-1].set_xlabel(style.WAVELENGTH_LABEL)
    figure.supylabel(label, fontsize=9)
    figure.suptitle(_title(name, redshift, bool(shared), several, beyond), fontsize=8.5)
    for column, (key, overlap) in enumerate(shared):
        view = figure.add_subplot(rows[2, column])
        residual = figure.add_subplot(rows[3, column], sharex=view)
        changes = {arm: change_of(arms[arm], stitched, overlap) for arm in key}
        for axes in (view, residual):
            _shade(axes, [(key, overlap)])
        _draw_overlap(view, changes, overlap, stitched, unit)
        _draw_residual(residual, changes, overlap, stitched.wavelength)
    return figure


def _title(name: str, redshift: float, overlaps: bool, several: bool, beyond: int) -> str:
    """Galaxy; below, what shades, pale lines and triangles mean."""
    first = f"{name} · z = {redshift:.4f}" if np.isfinite(redshift) else name
    if beyond:
        first += f" · good pixels beyond the axes: {beyond} (triangles)"
    if not several:
        return f"{first}\none grating: no overlap, nothing to scale"
    if not overlaps:
        return f"{first}\nno overlap from which to scale"
    return (
        f"{first}\nshaded: overlaps, where scales are measured; darker, between seams: hand-overs; "
        f"pale lines do not count\nerrors of means allow for a correlation of {GRATING_CORRELATION[1]:.2f} "
        "between neighbouring pixels"
    )


def _limits(gratings: Sequence[ObservedSpectrum], stitched: StitchedSpectrum) -> tuple[float, float]:
    """Of the flux axes: arms as read, and what each scaled one gives to the result."""
    read = [(s.flux, s.error, s.mask) for s in gratings if s.meta.disperser in stitched.arms]
    used = contributions(stitched)
    joined = [(flux, error, ~used[arm]) for arm, (flux, error, _) in stitched.segments.items()]
    return style.flux_limits(*read, *joined)


def contributions(stitched: StitchedSpectrum) -> dict[str, np.ndarray]:
    """Disperser to (n,) bool: grid pixels at which the stitched spectrum takes its flux in."""
    shares = arm_shares(stitched.wavelength)
    good = {arm: ~stitched.segments[arm][2] for arm in stitched.arms}
    charged = {arm: good[arm] & (shares.get(arm, 1.0) > 0) for arm in stitched.arms}
    blind = ~np.any(list(charged.values()), axis=0)
    return {arm: charged[arm] | (good[arm] & blind) for arm in stitched.arms}


def _shade(axes: Axes, shared: Sequence[tuple[tuple[str, str], Overlap]]) -> None:
    """Overlaps, and in them the hand-overs between dotted seams."""
    for key, overlap in shared:
        axes.axvspan(overlap.low, overlap.high, color=_OVERLAP_COLOUR, zorder=0.1, linewidth=0)
        if key in HAND_OVERS:
            axes.axvspan(*HAND_OVERS[key], color=_HAND_OVER_COLOUR, zorder=0.2, linewidth=0)
            for seam in HAND_OVERS[key]:
                axes.axvline(seam, color="0.2", linestyle=":", linewidth=0.9, zorder=0.6)


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
    """An arm as read and scaled, (flux, error, mask); ``oversampling``: grid pixels per pixel of it."""

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

    Grid pixels that share a pixel of the arm count as one, and neighbours of the arm's own correlate.
    ``inside`` (n,) chooses good pixels only; ``oversampling`` is grid pixels per pixel of the arm.
    """
    flux, error, _ = segment
    rows = np.flatnonzero(inside)
    number = rows // _BIN
    number -= number[0]
    count = np.bincount(number)
    filled = count > count.max() // 4
    count = np.maximum(count, 1)
    inflation = oversampling * (1.0 + 2.0 * sum(GRATING_CORRELATION[1:]))
    return (
        (np.bincount(number, wavelength[rows]) / count)[filled],
        (np.bincount(number, flux[rows]) / count)[filled],
        (np.sqrt(inflation * np.bincount(number, error[rows] ** 2)) / count)[filled],
    )


def _draw_read(
    axes: Axes, arms: Mapping[str, ObservedSpectrum], stitched: StitchedSpectrum, unit: float
) -> int:
    """Arms on their own pixels; returns how many good ones lie beyond the axis."""
    beyond = 0
    for arm in stitched.arms:
        s, colour = arms[arm], style.arm_colour(arm)
        style.draw_steps(axes, s.wavelength, s.flux / unit, None, s.mask, colour, arm, 0.6)
        beyond += style.mark_beyond(axes, s.wavelength, s.flux / unit, s.mask, colour)
    _finish(axes, "as read", len(stitched.arms))
    return beyond


def _draw_joined(axes: Axes, stitched: StitchedSpectrum, unit: float) -> int:
    """Scaled arms: pale where the other one is in charge; returns how many pixels lie beyond the axis."""
    beyond, used = 0, contributions(stitched)
    for arm in stitched.arms:
        colour, (flux, _, mask) = style.arm_colour(arm), stitched.segments[arm]
        x, y, label = stitched.wavelength, flux / unit, scale_text(stitched, arm)
        axes.step(x, style.gapped(y, mask), where="mid", color=colour, linewidth=0.5, alpha=_PALE, zorder=1.5)
        style.draw_steps(axes, x, y, None, ~used[arm], colour, label, 0.6)
        beyond += style.mark_beyond(axes, x, y, ~used[arm], colour)
    _finish(axes, "scaled, joined", len(stitched.arms))
    return beyond


def _finish(axes: Axes, text: str, columns: int) -> None:
    style.note(axes, text)
    style.draw_zero(axes)
    axes.legend(loc="upper right", ncols=columns, columnspacing=1.2)


def _draw_overlap(
    axes: Axes, changes: Mapping[str, ArmChange], overlap: Overlap, stitched: StitchedSpectrum, unit: float
) -> None:
    """Binned means of both arms: hollow as read, filled after scaling."""
    wavelength = stitched.wavelength
    inside = _common(changes, wavelength, overlap)
    shown: list[float] = []
    for arm, change in changes.items():
        colour = style.arm_colour(arm)
        read, scaled = change.segments
        x, y, e = binned(wavelength, scaled, inside, change.oversampling)
        axes.errorbar(x, y / unit, e / unit, fmt="o-", color=colour, markersize=3, linewidth=0.8, label=arm)
        if stitched.scales[arm] != 1.0:
            x, y_read, _ = binned(wavelength, read, inside, change.oversampling)
            shown += list(y_read[e < _SURE * np.median(e)])
            name = f"{arm} as read"
            axes.plot(
                x, y_read / unit, "o--", color=colour, mfc="white", markersize=3, linewidth=0.6, label=name
            )
        sure = e < _SURE * np.median(e)
        shown += [*(y - e)[sure], *(y + e)[sure]]
    low, high = min(shown) / unit, max(shown) / unit
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_xlim(overlap.low, overlap.high)
    axes.tick_params(labelbottom=False)
    # Above the axes: inside, it would cover points of one galaxy or another.
    axes.legend(
        title=f"{' and '.join(changes)}: means of {_BIN} pixels",
        title_fontsize=8.5,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=4,
        handlelength=1.2,
        columnspacing=0.8,
        handletextpad=0.3,
    )


def _draw_residual(
    axes: Axes, changes: Mapping[str, ArmChange], overlap: Overlap, wavelength: np.ndarray
) -> None:
    """Difference of the two arms over its error, before (hollow) and after (filled)."""
    inside = _common(changes, wavelength, overlap)
    worst = 3.0
    for when, look in ((0, {"mfc": "white", "color": "0.6"}), (1, {"color": "0.1"})):
        (x, y_blue, e_blue), (_, y_red, e_red) = (
            binned(wavelength, change.segments[when], inside, change.oversampling)
            for change in changes.values()
        )
        sigma = (y_blue - y_red) / np.hypot(e_blue, e_red)
        rms = float(np.sqrt(np.mean(sigma**2)))
        axes.plot(x, sigma, "o", markersize=3, label=f"{('as read', 'scaled')[when]}, rms {rms:.1f}", **look)
        worst = max(worst, float(np.abs(sigma).max()))
    style.draw_zero(axes)
    axes.axhspan(-1, 1, color="0.5", alpha=0.25, zorder=0.3, linewidth=0)
    axes.set_ylim(-1.15 * worst, 1.9 * worst)
    axes.legend(loc="upper center", ncols=2, columnspacing=1.0, handletextpad=0.2, borderaxespad=0.1)
    axes.set_xlabel(style.WAVELENGTH_SHORT)
    axes.set_ylabel("Difference [σ]", fontsize=8)


def _common(changes: Mapping[str, ArmChange], wavelength: np.ndarray, overlap: Overlap) -> np.ndarray:
    """Grid pixels of an overlap that both arms see, before and after."""
    inside = (wavelength >= overlap.low) & (wavelength <= overlap.high)
    for change in changes.values():
        for _, _, mask in change.segments:
            inside &= ~mask
    return inside
