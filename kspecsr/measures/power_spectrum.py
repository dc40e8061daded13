"""Power of sharp structure against spatial frequency: truth, output and residual (paper Fig. 7)."""

from __future__ import annotations

import numpy as np
from scipy.fft import next_fast_len, rfft

from kspecsr.measures.spectrum import Comparison

BINS = 100  # from zero to the Nyquist frequency
INTERMEDIATE = 0.3  # of the Nyquist frequency: structure below, noise above (paper Fig. 7)
_FEWEST = 500  # pixels


def measure_power_spectrum(comparison: Comparison) -> dict[str, np.ndarray]:
    """Power spectral density of the high-pass parts, in units of `Comparison.scale` squared.

    Its mean over all frequencies is the variance per good pixel, so that galaxies with gaps can be averaged
    with others. Gaps are filled with 0.

    Returns:
        ``power_truth``, ``power_output``, ``power_residual`` (B, 100); NaN for a galaxy with fewer than 500
        good pixels.
    """
    count = comparison.good.sum(axis=1)
    known = count >= _FEWEST
    unit = np.where(known, comparison.scale**2 * count, np.nan)[:, None]
    spectra = {
        "power_truth": comparison.high_truth,
        "power_output": comparison.high_output,
        "power_residual": comparison.high_output - comparison.high_truth,
    }
    return {name: (_binned_power(values) / unit).astype(np.float32) for name, values in spectra.items()}


def frequencies() -> np.ndarray:
    """(100,) middle of the bins in units of the Nyquist frequency of the unified grid."""
    return (np.arange(BINS) + 0.5) / BINS


def _binned_power(values: np.ndarray) -> np.ndarray:
    size = next_fast_len(max(values.shape[1], 2 * BINS), real=True)
    power = np.abs(rfft(values, size, axis=1)) ** 2
    place = np.minimum((np.arange(power.shape[1]) * 2 * BINS) // size, BINS - 1)
    start = np.searchsorted(place, np.arange(BINS))
    # A frequency stands for its negative, too, but for zero and the highest.
    weight = np.full(power.shape[1], 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    return np.add.reduceat(power * weight, start, axis=1) / np.add.reduceat(weight, start)


def band_power(power: np.ndarray, band: str) -> np.ndarray:
    """(B,) power below (``low``) or above (``high``) 0.3 of the Nyquist frequency.

    Args:
        power: (B, 100).
        band: ``low`` or ``high``.

    Raises:
        ValueError: for another band.
    """
    if band not in ("low", "high"):
        raise ValueError(f"band: expected 'low' or 'high', got {band!r}")
    below = frequencies() < INTERMEDIATE
    return np.asarray(power, np.float64)[:, below if band == "low" else ~below].sum(axis=1)
