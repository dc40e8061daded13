"""Redshifts, their P(z) and their confidence against the truth."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.measures.calibration import calibration_figures, calibration_sums, normal_distance
from kspecsr.measures.estimate import WHOLE, Block, Statistic, median, robust_scatter, share, statistic
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.splits import best_line_parts, galaxy_parts, interval_labels
from kspecsr.results.redshift import BIN_WIDTH, redshift_cdf

CATASTROPHIC, RIGHT = 0.15, 0.01  # of |dz| / (1 + z)
CONFIDENT = 0.9
CONFIDENCE = (0.0, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)  # edges of the bins of its reliability

Arrays = Mapping[str, np.ndarray]


# ---- P(z) at the true redshift


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
    # Twice as long: the autocorrelation must not wrap around.
    length = next_fast_len(2 * count, real=True)
    power = np.abs(rfft(probability, length, axis=1)) ** 2
    overlap = irfft(power, length, axis=1)[:, :count]
    apart = normal_distance(step * np.arange(count), np.sqrt(2.0) * width)
    weight = np.where(np.arange(count) > 0, 2.0, 1.0)  # each lag but 0 in both directions
    return first - 0.5 * overlap @ (weight * apart)


# ---- estimates beside the true redshifts


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Redshifts beside the true ones, and where these lie in P(z).

    Args:
        held_out: galaxies.
        reconstruction: redshifts, with or without P(z) and confidence.

    Returns:
        (B,) float32, NaN where not measured: ``redshift_true``, ``redshift_found``; ``redshift_offset``,
        dz / (1 + z), infinite where the method gave no redshift to a galaxy that has one;
        ``redshift_confidence``, of galaxies without a true redshift too; ``redshift_pit``; ``redshift_crps``
        in units of dz / (1 + z); ``class_found``, number of the most probable one of `OBJECT_CLASSES`.
    """
    count, known = len(held_out), np.isfinite(held_out.redshift)
    names = ("true", "found", "offset", "confidence", "pit", "crps")
    found = {f"redshift_{name}": np.full(count, np.nan, np.float32) for name in names}
    found["class_found"] = np.full(count, np.nan, np.float32)
    if reconstruction.class_probability is not None:
        found["class_found"][:] = np.argmax(reconstruction.class_probability, axis=1)
    found["redshift_true"][:] = held_out.redshift
    if reconstruction.redshift is not None:
        estimate = np.asarray(reconstruction.redshift, float)
        found["redshift_found"][:] = estimate
        offset = (estimate - held_out.redshift) / (1.0 + held_out.redshift)
        # Infinite, so that a method cannot improve its share of outliers by saying nothing.
        found["redshift_offset"][:] = np.where(known & ~np.isfinite(estimate), np.inf, offset)
    if reconstruction.confidence is not None:
        found["redshift_confidence"][:] = reconstruction.confidence
    if reconstruction.redshift_probability is not None and reconstruction.redshift_bins is not None:
        probability, total = _normalised(reconstruction.redshift_probability)
        judged = known & (total > 0)
        case = probability[judged], np.asarray(reconstruction.redshift_bins, float), held_out.redshift[judged]
        found["redshift_pit"][judged] = redshift_cdf(*case)
        found["redshift_crps"][judged] = redshift_crps(*case)
    return found


def _normalised(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probability = np.asarray(probability, np.float64)
    probability = np.where(np.isfinite(probability), probability, 0.0)
    total = probability.sum(axis=1)
    return probability / np.where(total > 0, total, 1.0)[:, None], total


def nmad(offset: np.ndarray) -> float:
    """Normalised median absolute deviation: robust scatter of dz / (1 + z).

    Args:
        offset: dz / (1 + z), not dz; missing redshifts (infinite) are left out.
    """
    return robust_scatter(offset[np.isfinite(offset)])


def outliers(offset: np.ndarray, limit: float) -> np.ndarray:
    """(B,) bool: redshifts that are off by more than a limit in |dz| / (1 + z), missing ones among them."""
    return np.abs(offset) > limit


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Figures of redshifts, of P(z) and of their confidence.

    ``redshift_nmad`` is of dz / (1 + z) less its median, ``redshift_bias`` this median;
    ``redshift_outliers_0.15`` and ``redshift_outliers_0.01`` are shares of galaxies that are off by more in
    |dz| / (1 + z), ``redshift_confident`` the share with a confidence above 0.9,
    ``redshift_confident_outliers`` the share of these off by more than 0.01; ``coverage_68/redshift``,
    ``pit_ks/redshift`` and ``crps/redshift`` [dz / (1 + z)] are of P(z). All are split by the S/N of the best
    line (``[best line snr 5-10]``), continuum S/N and redshift.
    ``confidence_right[0.7-0.9]`` is the share off by less than 0.01 among everything of that stated
    confidence, ``confidence_stated[0.7-0.9]`` their mean stated one, ``confidence_gap`` the difference
    averaged over the bins; ``sure_wrong`` is the share not within 0.01 among everything above 0.9. What has
    no redshift is never right. ``false_confidence`` is the share above 0.9 among that,
    ``false_confidence[star]`` among one kind of it. ``redshift_outliers_0.01[quiescent]``,
    ``redshift_confident[...]`` and ``redshift_confident_outliers[...]`` are of galaxies of one kind, or in
    one trouble; ``redshift_of_second`` is the share of those with another galaxy in the slit that get its
    redshift, to 0.01. ``class_right`` is the share of right classes, ``class_said[star|nothing]`` the share
    of one true class that is called another.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `measure`.
    """
    measured = {name: np.asarray(array, float) for name, array in measured.items()}
    offset, confidence = measured["redshift_offset"], measured["redshift_confidence"]
    known, stated, sure = ~np.isnan(offset), np.isfinite(confidence), confidence > CONFIDENT
    far, catastrophic = outliers(offset, RIGHT), outliers(offset, CATASTROPHIC)
    sums = calibration_sums(measured["redshift_pit"], measured["redshift_crps"])
    yield (
        [
            # infinite offsets, of missing redshifts, are left out by `nmad` itself
            Statistic("redshift_nmad", nmad, (offset[:, None],), known[:, None]),
            median("redshift_bias", offset),
            share(f"redshift_outliers_{CATASTROPHIC}", catastrophic, known),
            share(f"redshift_outliers_{RIGHT}", far, known),
            share("redshift_confident", sure, known & stated),
            share("redshift_confident_outliers", far, known & sure),
            calibration_figures("redshift", sums[:, None], stated=False),
        ],
        [WHOLE, *best_line_parts(columns), *galaxy_parts(columns)],
    )
    place, right = reliability(measured)
    for i, label in enumerate(interval_labels(CONFIDENCE)):
        of_bin = [("confidence_right", right), ("confidence_stated", confidence)]
        yield [share(name + label, values, place == i) for name, values in of_bin], [WHOLE]
    without = np.isnan(measured["redshift_true"]) & stated
    yield (
        [
            statistic("confidence_gap", _gap, place, right, confidence, use=place >= 0),
            share("false_confidence", sure, without),
            share("sure_wrong", ~right, sure & (place >= 0)),
        ],
        [WHOLE],
    )
    yield from _class_blocks(columns, measured["class_found"])
    yield from _labelled_blocks(columns, measured, sure, far)


def _labelled_blocks(columns: Arrays, measured: Arrays, sure: np.ndarray, far: np.ndarray) -> Iterator[Block]:
    """Figures by kind of what has no redshift, by trouble of galaxies, and of two in a slit."""
    stated, known = np.isfinite(measured["redshift_confidence"]), np.isfinite(measured["redshift_true"])
    without, known = ~known & stated, known & stated
    second = columns.get("second_redshift")
    if second is not None:
        others = np.abs(measured["redshift_found"] - second) < RIGHT * (1.0 + second)
        yield [share("redshift_of_second", others, known & np.isfinite(second))], [WHOLE]
    for label, rows in _named(columns.get("kind"), without):
        yield [share(f"false_confidence{label}", sure, without & rows)], [WHOLE]
    for name in ("kind", "trouble"):
        for label, rows in _named(columns.get(name), known):
            yield (
                [
                    share(f"redshift_outliers_{RIGHT}{label}", far, known & rows),
                    share(f"redshift_confident{label}", sure, known & rows),
                    share(f"redshift_confident_outliers{label}", far, known & sure & rows),
                ],
                [WHOLE],
            )


def _class_blocks(columns: Arrays, said: np.ndarray) -> Iterator[Block]:
    """Right classes, and what each true class is called."""
    true = columns.get("object_class")
    if true is None:
        return
    judged = (true >= 0) & np.isfinite(said)
    yield [share("class_right", said == true, judged)], [WHOLE]
    for (i, one), (k, other) in product(enumerate(OBJECT_CLASSES), repeat=2):
        yield [share(f"class_said[{one}|{other}]", said == k, judged & (true == i))], [WHOLE]


def _named(names: np.ndarray | None, among: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Label and (B,) bool of each name that occurs among some galaxies; none for what has no name."""
    for name in np.unique(names[among]) if names is not None else ():
        if name:
            yield f"[{name}]", names == name


def reliability(measured: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bin of stated confidence of each galaxy, and whether its redshift is right.

    Args:
        measured: of `measure`.

    Returns:
        (B,) index of the bin of `CONFIDENCE`, -1 where nothing is stated; (B,) bool, False for what has no
        redshift.
    """
    confidence = np.asarray(measured["redshift_confidence"], float)
    offset = np.asarray(measured["redshift_offset"], float)
    place = np.clip(np.searchsorted(CONFIDENCE, confidence, side="right") - 1, 0, len(CONFIDENCE) - 2)
    # NaN is no small number
    return np.where(np.isfinite(confidence), place, -1), np.abs(offset) < RIGHT


def _gap(place: np.ndarray, right: np.ndarray, confidence: np.ndarray) -> float:
    """Mean over galaxies of |share right - mean stated| of their bin."""
    place = place.astype(np.int64)
    count = np.bincount(place, minlength=len(CONFIDENCE) - 1)
    excess = np.bincount(place, right - confidence, minlength=count.size)
    return float(np.abs(excess).sum() / count.sum())
