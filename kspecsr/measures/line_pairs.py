"""Close pairs of lines that the reference resolves: are they still two in the reconstruction?"""

from __future__ import annotations

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from kspecsr.measures.spectrum import Comparison, median_of_rows

PAIRS = (
    ("[OIII]_4960", "[OIII]_5008"),
    ("Hgamma", "[OIII]_4364"),
    ("Halpha", "[NII]_6585"),
    ("[SII]_6718", "[SII]_6733"),
    ("[NeIII]_3870", "H8_3890"),
    ("HeI_10833", "Pagamma"),
)
_SNR = 5.0  # of both lines in the prism, were each alone
_RESOLVED = 0.3  # dip in the truth
KEPT = 0.1  # dip in the output
_LEAST = 0.1  # part of the true height that the lower peak must have to be one
_NOISE = 5.0  # sigma of the target's noise that a dip in it must exceed
_SEARCH = 0.3  # of the separation within which a peak may lie, and at most one FWHM


def measure_line_pairs(comparison: Comparison) -> dict[str, np.ndarray]:
    """Depth of the dip between two peaks, as a part of the lower one's height above the continuum.

    Returns:
        ``pair_dip`` (B, Q): of the output, for pairs in `PAIRS` that the truth shows as two (dip above 0.3)
        and whose lines both have prism S/N > 5; NaN for others, -1 without two peaks.
        ``pair_in_prism_elements`` (B, Q): separation over the prism's FWHM there; NaN where not measured.
    """
    shape = (len(comparison.good), len(PAIRS))
    dips, apart = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for number, pair in enumerate(PAIRS):
        left, right = (load_lines().index(name) for name in pair)
        both = comparison.places.known[:, [left, right]] & (comparison.line_snr[:, [left, right]] > _SNR)
        row = np.flatnonzero(both.all(axis=1))
        if row.size == 0:
            continue
        peaks = _PeakFinder(comparison, row, left, right)
        true_height, true_drop = peaks.find(comparison.truth)
        height, drop = peaks.find(comparison.output)
        resolved = peaks.covered & (true_drop > _RESOLVED * true_height) & (true_height > 0)
        resolved &= true_drop > _NOISE * peaks.noise
        two = (height > _LEAST * true_height) & (drop > 0)
        dip = np.where(two, drop / np.where(two, height, 1.0), -1.0)
        dips[row, number] = np.where(resolved, dip, np.nan)
        apart[row, number] = np.where(resolved, _prism_elements(comparison, row, left, right), np.nan)
    return {"pair_dip": dips, "pair_in_prism_elements": apart}


def _prism_elements(comparison: Comparison, row: np.ndarray, left: int, right: int) -> np.ndarray:
    grid, pixel = comparison.places.grid, comparison.places.pixel[row][:, [left, right]]
    middle = grid.start * np.exp(pixel.mean(axis=1) / grid.sampling)
    return (pixel[:, 1] - pixel[:, 0]) / grid.sampling * load_instrument(PRISM).resolving_power(middle)


class _PeakFinder:
    """Peaks of one pair of lines in several galaxies.

    Args:
        comparison: of truth and output.
        row: (n,) galaxies.
        left: the bluer line.
        right: the redder line.

    Attributes:
        covered: (n,) bool: every pixel from peak to peak is good, and the flanks have good ones.
        noise: (n,) median one-sigma noise of the target.
    """

    def __init__(self, comparison: Comparison, row: np.ndarray, left: int, right: int):
        places = comparison.places
        blue, red = places.pixel[row, left][:, None], places.pixel[row, right][:, None]
        fwhm = places.fwhm[row, left][:, None]
        first = np.floor(blue - 6.0 * fwhm).astype(np.int64)
        size = int(np.ceil(red + 6.0 * fwhm - first).max()) + 1
        index = first + np.arange(size)
        self._index = row[:, None], np.clip(index, 0, places.grid.size - 1)
        good = comparison.good[self._index] & (index >= 0) & (index < places.grid.size)
        reach = np.minimum(_SEARCH * (red - blue), fwhm)
        # Half a pixel more: a line may peak between two pixels.
        self._near = tuple(np.abs(index - at) <= np.maximum(reach, 0.5) for at in (blue, red))
        self._flanks = tuple(
            good & (sign * (index - at) > 2.5 * fwhm) & (sign * (index - at) <= 6.0 * fwhm)
            for sign, at in ((-1, blue), (1, red))
        )
        between = (index >= blue - fwhm) & (index <= red + fwhm)
        self.covered = (good | ~between).all(axis=1)
        self.covered &= np.all([flank.any(axis=1) for flank in self._flanks], axis=0)
        self.noise = np.sqrt(np.nan_to_num(median_of_rows(comparison.variance[self._index], good)))

    def find(self, spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Height of the lower peak above the continuum, and how far the valley lies below that peak, (n,)."""
        values = spectrum[self._index]
        at = [np.where(near, values, -np.inf).argmax(axis=1) for near in self._near]
        column, row = np.arange(values.shape[1]), np.arange(len(values))
        lower = np.minimum(values[row, at[0]], values[row, at[1]])
        inside = (column >= at[0][:, None]) & (column <= at[1][:, None])
        valley = np.where(inside, values, np.inf).min(axis=1)
        # The lower flank: the other one may hold a third line.
        base = np.fmin(*(median_of_rows(values, flank) for flank in self._flanks))
        return lower - np.nan_to_num(base), lower - np.where(np.isfinite(valley), valley, lower)
