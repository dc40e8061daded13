"""How much of the truth's sharp structure a spectrum has: 1 for all of it, less when shrunk or smoothed."""

from __future__ import annotations

import numpy as np

from kspecsr.measures.spectrum import Comparison

_FEWEST = 5  # pixels
_DETECTED = 3.0  # sigma of the target's noise, for a pixel to count


def measure_amplitude_ratio(comparison: Comparison) -> dict[str, np.ndarray]:
    """Slope of the output's high-pass part on the truth's in line cores, through the origin.

    The slope of least absolute deviations, which is the median of the pixels' quotients weighted with the
    truth: one line that is missing or invented does not set it. From 0.9 to 1.15 is sane.

    Returns:
        ``amplitude_ratio`` (B,).
    """
    chosen = comparison.core & (comparison.high_truth**2 > _DETECTED**2 * comparison.variance)
    chosen &= comparison.high_truth != 0
    truth, output, used = _compact(chosen, comparison.high_truth, comparison.high_output)
    slope = _weighted_median(output / np.where(used, truth, 1.0), np.where(used, np.abs(truth), 0.0))
    return {"amplitude_ratio": np.where(used.sum(axis=1) >= _FEWEST, slope, np.nan).astype(np.float32)}


def _compact(chosen: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Chosen pixels of each row moved to its front, (B, M) each, and which of those are used."""
    count = chosen.sum(axis=1)
    shape = (len(chosen), max(int(count.max(initial=0)), 1))
    row, column = np.nonzero(chosen)
    place = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    packed = []
    for array in arrays:
        out = np.zeros(shape)
        out[row, place] = array[row, column]
        packed.append(out)
    return *packed, np.arange(shape[1]) < count[:, None]


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) over the last axis."""
    order = np.argsort(values, axis=1)
    total = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    place = np.argmax(total >= 0.5 * total[:, -1:], axis=1)
    return np.take_along_axis(values, np.take_along_axis(order, place[:, None], axis=1), axis=1)[:, 0]
