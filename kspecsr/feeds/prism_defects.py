"""What prism spectra of other releases lack: stretches, the ends of the range, the fine sampling."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import pixel_bounds
from data_pipeline.resampling import resampler, to_pixels
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import DETECTOR_PIXELS_PER_PIXEL
from kspecsr.configuration import FeedConfig

MISSING_PIXELS = (5, 60)  # shortest and longest stretch
EARLIER_RELEASE = 674  # JADES DR3 has the first 674 pixels of DR4's 706
LATE_START = (0.8, 1.2)  # um
EARLY_STOP = (4.5, 5.3)  # um
_PHASES = 4  # positions of the detector pixels between the released ones


@lru_cache(maxsize=_PHASES)
def detector_grid(phase: int) -> np.ndarray:
    """(424,) centres [um] of detector pixels under the released prism pixels, one of four positions."""
    released = load_instrument(PRISM).wavelength
    step = 1.0 / DETECTOR_PIXELS_PER_PIXEL
    place = np.arange(0.5 * step * (1.0 + phase / _PHASES), released.size - 1 - 0.5 * step, step)
    return np.interp(place, np.arange(released.size), released)


def bin_to_detector(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, phase: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One prism spectrum (706,) on detector pixels, as DJA releases it, conserving flux.

    Returns:
        Flux, error, mask on `detector_grid`; NaN where masked.
    """
    own = load_instrument(PRISM)
    return resampler(own.bounds, pixel_bounds(detector_grid(phase))).resample(flux, error, mask)


def sample_coarsely(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, phase: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One prism spectrum (706,) as it comes back from detector pixels; NaN where masked."""
    return to_pixels(
        detector_grid(phase), *bin_to_detector(flux, error, mask, phase), load_instrument(PRISM).wavelength
    )


def apply_defects(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, feed: FeedConfig, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes from some spectra what other releases lack.

    Args:
        flux: (b, 706), any unit; not used where masked.
        error: (b, 706).
        mask: (b, 706) bool.
        feed: shares of the spectra that lack something.
        draws: random numbers of these galaxies.

    Returns:
        Flux, error and mask, (b, 706) each; flux and error may be NaN where masked.
    """
    mask = mask | _missing_stretch(mask.shape, feed, draws) | _truncated(feed, draws)
    chance = draws.uniform("coarse sampling", 2)
    coarse = np.flatnonzero((chance[:, 0] < feed.coarse_fraction) & ((~mask).sum(axis=1) > 3))
    if coarse.size:
        flux, error = flux.copy(), error.copy()
        for row in coarse:
            phase = int(chance[row, 1] * _PHASES)
            flux[row], error[row], mask[row] = sample_coarsely(flux[row], error[row], mask[row], phase)
    return flux, error, mask


def _missing_stretch(shape: tuple[int, int], feed: FeedConfig, draws: Draws) -> np.ndarray:
    chance = draws.uniform("missing stretch", 3)
    low, high = MISSING_PIXELS
    length = low + np.floor((high - low + 1) * chance[:, 1])
    start = np.floor(chance[:, 2] * (shape[1] - length))
    pixel = np.arange(shape[1])
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    return inside & (chance[:, :1] < feed.gap_fraction)


def _truncated(feed: FeedConfig, draws: Draws) -> np.ndarray:
    chance = draws.uniform("truncation", 3)
    wavelength = load_instrument(PRISM).wavelength

    def between(limits: tuple[float, float]) -> np.ndarray:
        return limits[0] + (limits[1] - limits[0]) * chance[:, 2:]

    beyond = np.select(
        [chance[:, 1:2] < 1 / 3, chance[:, 1:2] < 2 / 3],
        [(np.arange(wavelength.size) >= EARLIER_RELEASE)[None], wavelength < between(LATE_START)],
        wavelength > between(EARLY_STOP),
    )
    return beyond & (chance[:, :1] < feed.truncated_fraction)
