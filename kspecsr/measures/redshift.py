"""How right redshifts, their P(z) and their confidence are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from kspecsr.measures.estimate import (
    RESAMPLES,
    Estimate,
    bootstrap,
    estimates_of_sums,
    median_estimate,
    robust_scatter,
)
from kspecsr.measures.gaussian_calibration import (
    LEVELS,
    PIT_BINS,
    inside_levels,
    ks_distance,
    normal_distance,
    pit_bin,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.splits import galaxy_splits, line_snr_splits
from kspecsr.results.redshift import BIN_WIDTH, redshift_cdf


def redshift_crps(probability: np.ndarray, bins: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    """(B,) continuous ranked probability score of ln(1 + z), so in units of dz / (1 + z); less is better.

    E|X - x| - E|X - X'| / 2 for independent X, X' of the mixture (Grimit et al. 2006, Q. J. R. Meteorol. Soc.
    132, 2925); the second term is a sum over lags of the autocorrelation of the probabilities.

    Args:
        probability: (B, Z), adds up to 1.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: (B,) true.
    """
    step, count = float(bins[1] - bins[0]), bins.size
    width = BIN_WIDTH * step
    first = (probability * normal_distance(np.log1p(redshift)[:, None] - bins, width)).sum(axis=1)
    length = next_fast_len(2 * count, real=True)
    power = np.abs(rfft(probability, length, axis=1)) ** 2
    overlap = irfft(power, length, axis=1)[:, :count]
    apart = normal_distance(step * np.arange(count), np.sqrt(2.0) * width)
    weight = np.where(np.arange(count) > 0, 2.0, 1.0)  # each lag but 0 in both directions
    return first - 0.5 * overlap @ (weight * apart)


CATASTROPHIC, RIGHT = 0.15, 0.01  # of |dz| / (1 + z)
CONFIDENT = 0.9
CONFIDENCE = (0.0, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)  # edges of the bins of its reliability


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """Redshifts beside the true ones, and where these lie in P(z).

    Args:
        held_out: galaxies.
        made: redshifts, with or without P(z) and confidence.

    Returns:
        (B,) float32, NaN where not measured: ``redshift_true``, ``redshift_found``; ``redshift_offset``,
        dz / (1 + z), infinite where the method gave no redshift to a galaxy that has one;
        ``redshift_confidence``, of galaxies without a true redshift too; ``redshift_pit``; ``redshift_crps``
        in units of dz / (1 + z).
    """
    count, known = len(held_out), np.isfinite(held_out.redshift)
    names = ("true", "found", "offset", "confidence", "pit", "crps")
    found = {f"redshift_{name}": np.full(count, np.nan, np.float32) for name in names}
    found["redshift_true"][:] = held_out.redshift
    if made.redshift is not None:
        estimate = np.asarray(made.redshift, float)
        found["redshift_found"][:] = estimate
        offset = (estimate - held_out.redshift) / (1.0 + held_out.redshift)
        found["redshift_offset"][:] = np.where(known & ~np.isfinite(estimate), np.inf, offset)
    if made.confidence is not None:
        found["redshift_confidence"][:] = made.confidence
    if made.redshift_probability is not None and made.redshift_bins is not None:
        probability, total = _normalised(made.redshift_probability)
        judged = known & (total > 0)
        case = probability[judged], np.asarray(made.redshift_bins, float), held_out.redshift[judged]
        found["redshift_pit"][judged] = redshift_cdf(*case)
        found["redshift_crps"][judged] = redshift_crps(*case)
    return found


def _normalised(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probability = np.asarray(probability, np.float64)
    probability = np.where(np.isfinite(probability), probability, 0.0)
    total = probability.sum(axis=1)
    return probability / np.where(total > 0, total, 1.0)[:, None], total


def nmad(offset: np.ndarray) -> float:
    """1.4826 times the median of |offset - median offset|, as in `kspecsr.measures.goal`.

    Args:
        offset: dz / (1 + z), not dz; missing redshifts (infinite) are left out.
    """
    return robust_scatter(offset[np.isfinite(offset)])


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Figures of redshifts.

    ``redshift_nmad`` is of dz / (1 + z) less its median, ``redshift_bias`` this median;
    ``redshift_outliers_0.15`` and ``redshift_outliers_0.01`` are shares of galaxies that are off by more in
    |dz| / (1 + z), ``redshift_confident`` the share with a confidence above 0.9,
    ``redshift_confident_outliers`` the share of these off by more than 0.01; ``coverage_68/redshift``,
    ``pit_ks/redshift`` and ``crps/redshift`` [dz / (1 + z)] are of P(z). All are split by the S/N of the best
    line (``[best line snr 5-10]``), continuum S/N and redshift.
    ``confidence_right[0.7-0.9]`` is the share off by less than 0.01 among galaxies of that stated confidence,
    ``confidence_stated[0.7-0.9]`` their mean stated one, ``confidence_gap`` the difference averaged over the
    bins. ``false_confidence`` is the share above 0.9 among galaxies that have no redshift.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `measure`.
        resamples: of the bootstrap over galaxies.
    """
    galaxy = columns["galaxy"]
    found = {}
    for label, rows in _splits(columns):
        part = {name: np.asarray(array, float)[rows] for name, array in measured.items()}
        found |= _of_offsets(galaxy[rows], part, label, resamples)
        found |= _of_distributions(galaxy[rows], part, label, resamples)
    found |= _of_confidence(galaxy, measured, resamples)
    return {name: estimate for name, estimate in found.items() if estimate.n > 0}


def _splits(columns: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    yield "", np.ones(len(columns["galaxy"]), bool)
    snr = np.where(columns["line_known"], columns["line_snr"], -np.inf).max(axis=1)
    for label, rows in line_snr_splits(np.where(np.isfinite(snr), snr, np.nan)):
        yield label.replace("[", "[best line "), rows
    yield from galaxy_splits(columns)


def _of_offsets(
    galaxy: np.ndarray, measured: Mapping[str, np.ndarray], label: str, resamples: int
) -> dict[str, Estimate]:
    offset, confidence = measured["redshift_offset"], measured["redshift_confidence"]
    known = ~np.isnan(offset)
    galaxy, offset, confidence = galaxy[known], offset[known], confidence[known]
    stated = np.isfinite(confidence)
    sure, far = confidence > CONFIDENT, np.abs(offset) > RIGHT
    finite = np.where(np.isfinite(offset), offset, np.nan)
    shares = {
        f"outliers_{CATASTROPHIC}": (galaxy, np.abs(offset) > CATASTROPHIC),
        f"outliers_{RIGHT}": (galaxy, far),
        "confident": (galaxy[stated], sure[stated]),
        "confident_outliers": (galaxy[sure], far[sure]),
    }
    return {
        f"redshift_nmad{label}": bootstrap(nmad, galaxy, offset, resamples=resamples),
        f"redshift_bias{label}": median_estimate(galaxy, finite, resamples=resamples),
        **{f"redshift_{name}{label}": _share(*case, resamples) for name, case in shares.items()},
    }


def _of_distributions(
    galaxy: np.ndarray, measured: Mapping[str, np.ndarray], label: str, resamples: int
) -> dict[str, Estimate]:
    used = np.isfinite(measured["redshift_pit"])
    pit, crps = measured["redshift_pit"][used], measured["redshift_crps"][used]
    counts = np.zeros((pit.size, PIT_BINS))
    counts[np.arange(pit.size), pit_bin(pit)] = 1.0
    rows = np.column_stack([counts, inside_levels(pit), crps, np.ones(pit.size)])
    statistics = {
        f"coverage_{round(100 * level)}/redshift{label}": _ratio(PIT_BINS + i)
        for i, level in enumerate(LEVELS)
    }
    statistics[f"pit_ks/redshift{label}"] = lambda sums: ks_distance(sums[..., :PIT_BINS])
    statistics[f"crps/redshift{label}"] = _ratio(-2)
    return estimates_of_sums(galaxy[used], rows, statistics, resamples)


def _ratio(column: int):
    return lambda sums: sums[..., column] / sums[..., -1]


def reliability(measured: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bin of stated confidence of each galaxy, and whether its redshift is right.

    Args:
        measured: of `measure`.

    Returns:
        (B,) index of the bin of `CONFIDENCE`, -1 where nothing is stated or known; (B,) bool.
    """
    confidence = np.asarray(measured["redshift_confidence"], float)
    offset = np.asarray(measured["redshift_offset"], float)
    place = np.clip(np.searchsorted(CONFIDENCE, confidence, side="right") - 1, 0, len(CONFIDENCE) - 2)
    return np.where(np.isfinite(confidence) & ~np.isnan(offset), place, -1), np.abs(offset) < RIGHT


def _of_confidence(
    galaxy: np.ndarray, measured: Mapping[str, np.ndarray], resamples: int
) -> dict[str, Estimate]:
    place, right = reliability(measured)
    confidence = np.asarray(measured["redshift_confidence"], float)
    found = {}
    for i, (low, high) in enumerate(pairwise(CONFIDENCE)):
        rows = place == i
        found[f"confidence_right[{low:g}-{high:g}]"] = _share(galaxy[rows], right[rows], resamples)
        found[f"confidence_stated[{low:g}-{high:g}]"] = _share(galaxy[rows], confidence[rows], resamples)
    rows = place >= 0
    found["confidence_gap"] = bootstrap(
        _gap, galaxy[rows], place[rows], right[rows], confidence[rows], resamples=resamples
    )
    without = np.isnan(np.asarray(measured["redshift_true"], float)) & np.isfinite(confidence)
    found["false_confidence"] = _share(galaxy[without], confidence[without] > CONFIDENT, resamples)
    return found


def _gap(place: np.ndarray, right: np.ndarray, confidence: np.ndarray) -> float:
    """Mean over galaxies of |share right - mean stated| of their bin."""
    count = np.bincount(place, minlength=len(CONFIDENCE) - 1)
    excess = np.bincount(place, right - confidence, minlength=count.size)
    return float(np.abs(excess).sum() / count.sum())


def _share(galaxy: np.ndarray, values: np.ndarray, resamples: int) -> Estimate:
    """Mean of values, 0 to 1 each."""
    rows = np.column_stack([np.asarray(values, float), np.ones(len(values))])
    found = estimates_of_sums(galaxy, rows, {"share": _ratio(0)}, resamples)
    return found.get("share", Estimate(float("nan"), float("nan"), float("nan"), 0, 0))
