"""The flux axis: its unit, and limits that wild pixels do not set and lines do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import median_filter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLUX_UNIT_TEXT = r"erg s$^{-1}$ cm$^{-2}$ $\mathrm{\AA}^{-1}$"
_LINE_SN = 5.0  # a line's peak above its surroundings, in sigma of its pixel
_NEIGHBOUR = 0.25  # ... and the brighter neighbour has at least this share of it: a line is no single pixel
_SURROUNDINGS = 51  # pixels of the running median
_EDGE = 4  # good pixels at each end, and beside each gap, that alone do not set a limit
_OUTLIER = 8.0  # sigma
_QUIET_ERROR = 6.0  # pixels with errors beyond this many medians do not set a limit ...
_CONTINUUM_SN = 3.0  # ... unless the continuum there has this S/N per pixel


def flux_unit(limits: tuple[float, float]) -> tuple[float, str]:
    """Power of ten that makes a flux axis readable.

    Args:
        limits: of the axis [erg/s/cm2/A].

    Returns:
        Value of one axis unit [erg/s/cm2/A], and the axis label.
    """
    exponent = int(np.floor(np.log10(max(map(abs, limits)))))
    return 10.0**exponent, flux_label(exponent)


def flux_label(exponent: int) -> str:
    """Axis label of flux density in units of a power of ten [erg/s/cm2/A]."""
    return rf"Flux density [$10^{{{exponent}}}$ {FLUX_UNIT_TEXT}]"


def line_significance(flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How far pixels of emission lines stand above their surroundings.

    Args:
        flux: (n,).
        error: (n,) one sigma.
        mask: (n,) bool, True = bad.

    Returns:
        (n,) excess over the running median in sigma where it is above 5, no single pixel, and beside no end
        or gap; 0 elsewhere.
    """
    good = ~mask & np.isfinite(flux) & np.isfinite(error)
    significance = np.zeros(flux.size)
    if not good.any():
        return significance
    height = np.full(flux.size, -np.inf)
    height[good] = flux[good] - median_filter(flux[good], _SURROUNDINGS, mode="nearest")
    beside = np.maximum(np.append(height[1:], -np.inf), np.append(-np.inf, height[:-1]))
    significance[good] = height[good] / error[good]
    line = (significance > _LINE_SN) & (beside >= _NEIGHBOUR * height) & ~_beside_bad(~good)
    return np.where(line, significance, 0.0)


def _trusted(flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Good pixels that are no outliers, with errors as usual or on a continuum that is detected."""
    outlier = np.abs(flux - median_filter(flux, 3, mode="nearest")) > _OUTLIER * error
    detected = median_filter(flux / error, 9, mode="nearest") > _CONTINUUM_SN
    return ~outlier & ((error < _QUIET_ERROR * np.median(error)) | detected)


def _beside_bad(bad: np.ndarray) -> np.ndarray:
    """Pixels within a few of an end or of a run of three or more bad ones: extraction is wild there."""
    run = np.concatenate([np.ones(_EDGE, bool), bad, np.ones(_EDGE, bool)])
    long = run[:-2] & run[1:-1] & run[2:]
    long = np.convolve(long, np.ones(3, bool))[: run.size] > 0
    near = np.convolve(long, np.ones(2 * _EDGE + 1), mode="same") > 0
    return near[_EDGE:-_EDGE]


def flux_limits(*spectra: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Limits that show every emission line in full, and the continuum with its noise.

    Single outliers, edges of a spectrum, and pixels of outsize error may lie outside.

    Args:
        *spectra: (flux, error, mask) each, in one unit.

    Returns:
        Lower and upper limit.
    """
    low, high = [0.0], [0.0]
    for flux, error, mask in spectra:
        good = ~mask & np.isfinite(flux) & np.isfinite(error)
        if not good.any():
            continue
        quiet = good & ~_beside_bad(~good)
        quiet[good] &= _trusted(flux[good], error[good])
        if quiet.any():
            lowest, highest = np.percentile(flux[quiet], (0.3, 99.7))
            low.append(float(lowest))
            high.append(float(highest))
        lines = line_significance(flux, error, mask) > 0
        if lines.any():
            high.append(float(flux[lines].max()))
    bottom, top = min(low), max(high)
    span = top - bottom or 1.0
    return bottom - 0.06 * span, top + 0.08 * span


def leave_headroom(axes: Axes, share: float = 0.13) -> None:
    """Raises the upper limit, so that legends and notes at the top stand clear of the data."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def mark_beyond(axes: Axes, wavelength: np.ndarray, flux: np.ndarray, mask: np.ndarray, colour: str) -> int:
    """Small triangles at the axis' ends for good pixels outside its limits; returns how many."""
    low, high = axes.get_ylim()
    good = ~mask & np.isfinite(flux)
    count = 0
    for rows, marker, place in ((good & (flux > high), "^", 0.985), (good & (flux < low), "v", 0.015)):
        if rows.any():
            count += int(rows.sum())
            axes.plot(
                wavelength[rows],
                np.full(int(rows.sum()), place),
                marker,
                color=colour,
                markersize=2.5,
                transform=axes.get_xaxis_transform(),
                linestyle="none",
            )
    return count
