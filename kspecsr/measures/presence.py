"""Is a presence of 0.7 right in 7 of 10 cases, and does it tell lines from none?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kspecsr.measures.estimate import RESAMPLES, Estimate, bootstrap, estimates_of_sums, rate_estimate
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import judged_lines, measured_lines

BINS = 10
_THERE = 3.0  # S/N in the prism, where it is not known what the gratings would show


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """(B, K) ``line_flux``, ``line_flux_error`` and ``line_presence`` of the method, NaN out of range."""
    return measured_lines(held_out, made)


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Reliability in 10 bins, its mean deviation, Brier score, areas under the ROC curve.

    Args:
        columns: of the held-out galaxies; see `there`.
        measured: see `measure`.
        resamples: of the bootstrap.

    Returns:
        ``presence_observed[0.1-0.2]``: share of lines that are there among those with such a presence;
        ``presence_calibration``: mean of |observed - stated| over the lines; ``presence_bias``: mean of
        stated - observed; ``presence_brier``; ``presence_auc``; ``snr_auc``: of flux over error, which
        methods without presence have too.
    """
    galaxy, truth, judged = np.asarray(columns["galaxy"]), there(columns), judged_lines(columns)
    presence = measured["line_presence"].astype(float)
    given = judged & np.isfinite(presence)
    found: dict[str, Estimate | None] = {}
    place = presence_bin(presence)
    for number in range(BINS):
        name = f"presence_observed[{number / BINS:.1f}-{(number + 1) / BINS:.1f}]"
        found[name] = rate_estimate(galaxy, truth, given & (place == number), resamples)
    found |= estimates_of_sums(galaxy, _sums(presence, truth, given), _STATISTICS, resamples)
    for name, score in (("presence_auc", presence), ("snr_auc", signal_to_noise(measured))):
        use = judged & np.isfinite(score)
        rows = np.broadcast_to(galaxy[:, None], use.shape)[use]
        found[name] = bootstrap(area_under_roc, rows, score[use], truth[use], resamples=resamples)
    return {name: value for name, value in found.items() if value is not None and value.n}


def there(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: the line exceeds 3 sigma at the depth of the gratings.

    That is what presence is trained to say. Columns without ``line_detectable`` fall back to 3 sigma of
    the prism, which is less deep: a presence that is right then looks too confident.
    """
    if "line_detectable" in columns:
        return np.asarray(columns["line_detectable"], bool)
    return np.asarray(columns["line_snr"]) > _THERE


def signal_to_noise(measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) flux over error, NaN where not measured."""
    error = measured["line_flux_error"].astype(float)
    return measured["line_flux"] / np.where(error > 0, error, np.nan)


def presence_bin(presence: np.ndarray) -> np.ndarray:
    """Bin of each presence, -1 for NaN."""
    place = np.nan_to_num(presence * BINS, nan=-1.0)
    return np.where(np.isnan(presence), -1, np.clip(place, 0, BINS - 1)).astype(np.int64)


def reliability(presence: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reliability diagram.

    Args:
        presence: (n,) finite.
        truth: (n,) bool.

    Returns:
        (10,) mean stated presence, share that is there, and number of lines; NaN in empty bins.
    """
    place = presence_bin(presence)
    count = np.bincount(place, minlength=BINS)
    filled = np.where(count > 0, count, np.nan)
    stated = np.bincount(place, presence, BINS) / filled
    return stated, np.bincount(place, truth, BINS) / filled, count


def roc(score: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Receiver operating characteristic.

    Args:
        score: (n,) finite, larger for lines that are there.
        truth: (n,) bool.

    Returns:
        Shares of false and of true detections, from (0, 0) to (1, 1), one step per score.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits, misses = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    true, false = (np.append(0.0, counts) / max(counts[-1], 1) for counts in (hits, misses))
    return false, true


def area_under_roc(score: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a line that is there has the larger score; NaN unless there are both."""
    if truth.all() or not truth.any():
        return float("nan")
    false, true = roc(score, truth)
    return float(np.trapezoid(true, false))


def _sums(presence: np.ndarray, truth: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(B, 3 BINS + 2) count, stated and observed of each bin, squared error, number."""
    rows = len(presence)
    value, place = np.where(given, presence, 0.0), np.where(given, presence_bin(presence), BINS)
    flat = (place + (BINS + 1) * np.arange(rows)[:, None]).ravel()
    per_bin = [
        np.bincount(flat, weight.ravel(), rows * (BINS + 1)).reshape(rows, BINS + 1)[:, :BINS]
        for weight in (given.astype(float), value, (given & truth).astype(float))
    ]
    square = np.where(given, (value - truth) ** 2, 0.0).sum(axis=1)
    return np.column_stack([*per_bin, square, given.sum(axis=1)])


def _calibration(sums: np.ndarray) -> np.ndarray:
    stated, observed = sums[..., BINS : 2 * BINS], sums[..., 2 * BINS : 3 * BINS]
    return np.abs(stated - observed).sum(axis=-1) / np.maximum(sums[..., -1], 1)


def _bias(sums: np.ndarray) -> np.ndarray:
    stated, observed = sums[..., BINS : 2 * BINS], sums[..., 2 * BINS : 3 * BINS]
    return (stated - observed).sum(axis=-1) / np.maximum(sums[..., -1], 1)


_STATISTICS = {
    "presence_calibration": _calibration,
    "presence_bias": _bias,
    "presence_brier": lambda sums: sums[..., -2] / np.maximum(sums[..., -1], 1),
}
