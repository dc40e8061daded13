"""Noise: its level per tier and wavelength, its correlation between pixels, and the quoted errors."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL
from data_pipeline.simulation.survey import load_tiers
from data_pipeline.tables import read_table

_DEPTH_SCATTER = 0.75  # of the latent noise level within a tier
_LINE_ERROR_IN_PIXELS = 2.2  # error of a fitted line flux over (error per pixel x pixel width)


@lru_cache(maxsize=1)
def _prism_table() -> tuple[np.ndarray, np.ndarray]:
    table = read_table("jades_prism_noise.ecsv")
    return table["wavelength_um"], np.log(np.stack([table["p16"], table["p50"], table["p84"]]) * 1e-21)


def prism_error(wavelength: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """(b, n) error per prism pixel [erg/s/cm2/A] without source noise.

    Args:
        wavelength: (n,) um; beyond the table its end values hold.
        latent: (b,) noise level as a standard normal number: -1, 0 and 1 give the 16, 50 and 84 %.
    """
    x, table = _prism_table()
    low, middle, high = (np.interp(wavelength, x, row) for row in table)
    u = np.clip(latent, -3.5, 2.5)[:, None]
    return np.exp(middle + np.where(u > 0, u * (high - middle), u * (middle - low)))


def typical_prism_error(tier: np.ndarray, wavelength: float) -> np.ndarray:
    """(b,) error per prism pixel [erg/s/cm2/A] that is usual in a tier."""
    return prism_error(np.array([wavelength]), load_tiers().depth[tier])[:, 0]


def latent_noise_level(tier: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(b,) latent noise level: that of the tier, scattered."""
    return load_tiers().depth[tier] + _DEPTH_SCATTER * normal


@lru_cache(maxsize=1)
def _line_errors() -> tuple[np.ndarray, np.ndarray]:
    """Bin centres and (tiers, bins) log of the median line-flux errors [erg/s/cm2].

    Bins that a tier lacks take the tier's offset from all tiers in the nearest bin that it has.
    """
    table = read_table("jades_grating_line_errors.ecsv")
    everything = table["tier"] == "ALL"
    centre = np.sqrt(table["wavelength_lo"] * table["wavelength_hi"])
    log_all = np.log(table["p50"][everything] * 1e-20)
    rows = []
    for name in load_tiers().names:
        own = table["tier"] == name
        offset = np.log(table["p50"][own] * 1e-20) - np.interp(centre[own], centre[everything], log_all)
        rows.append(log_all + np.interp(centre[everything], centre[own], offset))
    return centre[everything], np.array(rows)


def grating_line_error(tier: np.ndarray, wavelength: np.ndarray) -> np.ndarray:
    """Typical one-sigma line-flux error [erg/s/cm2] of the medium gratings.

    Args:
        tier: (b,) index into the tiers.
        wavelength: (b, m) observed wavelength [um].
    """
    centre, log_error = _line_errors()
    x = np.log(wavelength)
    return np.exp(
        np.stack([np.interp(row, np.log(centre), log_error[t]) for row, t in zip(x, tier, strict=True)])
    )


def grating_error(
    tier: np.ndarray, wavelength: np.ndarray, bounds: np.ndarray, nominal_limit: float
) -> np.ndarray:
    """(b, n) error per grating pixel [erg/s/cm2/A] without source noise.

    The table's line error over pixel width and 2.2: fitted weak lines, with their source noise and a
    continuum that is fitted too, then have the table's errors. (Over sqrt(3) they would be 25 % larger.)

    Args:
        tier: (b,).
        wavelength: (n,) pixel centres [um].
        bounds: (2, n) pixel bounds [um].
        nominal_limit: red end of the nominal range [um], beyond which throughput falls.
    """
    tiers, place = np.unique(tier, return_inverse=True)
    line = grating_line_error(tiers, np.broadcast_to(wavelength, (tiers.size, wavelength.size)))[place]
    width = (bounds[1] - bounds[0]) * 1e4
    beyond = np.maximum(wavelength / nominal_limit - 1.0, 0.0)
    return line / (_LINE_ERROR_IN_PIXELS * width) * np.exp(2.0 * beyond)


def prism_noise(normal: np.ndarray, phase: np.ndarray, pixels: int) -> np.ndarray:
    """(b, pixels) noise with unit variance per detector pixel, seen on the finer released grid.

    White on detector pixels and interpolated linearly, as the pipeline rectifies: neighbours correlate by
    0.62 and the variance of a released pixel is 2/3 on average.

    Args:
        normal: (b, m) standard normal numbers, one per detector pixel, m >= 0.6 * pixels + 3.
        phase: (b,) where between two detector pixels the first released one lies, in [0, 1).
        pixels: number of released pixels.
    """
    place = phase[:, None] + DETECTOR_PIXELS_PER_PIXEL * np.arange(pixels)
    left = place.astype(np.int64)
    share = place - left
    row = np.arange(normal.shape[0])[:, None]
    return (1.0 - share) * normal[row, left] + share * normal[row, left + 1]


def detector_pixels(pixels: int) -> int:
    """Detector pixels under ``pixels`` released prism pixels, with one to spare on each side."""
    return int(np.ceil(DETECTOR_PIXELS_PER_PIXEL * pixels)) + 3


def grating_noise(normal: np.ndarray, correlation: float) -> np.ndarray:
    """(b, n) unit-variance noise whose neighbours correlate by ``correlation`` (at most 0.5).

    Args:
        normal: (b, n + 1) standard normal numbers.
        correlation: lag-1 autocorrelation.
    """
    theta = 0.0 if correlation == 0 else (1.0 - np.sqrt(1.0 - 4.0 * correlation**2)) / (2.0 * correlation)
    return (normal[:, 1:] + theta * normal[:, :-1]) / np.sqrt(1.0 + theta**2)
