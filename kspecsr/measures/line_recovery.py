"""Recovered line fluxes against the truth, lines that are not there and were found, and stated presence."""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.lines import list_of
from kspecsr.measures.estimate import (
    WHOLE,
    Block,
    median,
    robust_scatter,
    share,
    statistic,
)
from kspecsr.measures.lines import (
    DETECTED,
    KEY_LINES,
    PRESENT,
    STRONG,
    detected_lines,
    judged_lines,
)
from kspecsr.measures.splits import galaxy_parts, line_parts, line_snr_parts, line_wavelength_parts

ABSENT = 0.2  # true S/N in the prism below which a line is not there for it
BINS = 10  # of stated presence
_FLUX_RANGE = 100.0  # recovered over true flux is taken to lie within this factor of 1 in logarithms
_INVENTED = 2.0  # times the true flux
_FAINT = ((0.2, 1.0), (1.0, 3.0))  # true S/N of lines that are there and too faint to be seen

Arrays = Mapping[str, np.ndarray]


# ---- recovered fluxes


def flux_ratio(columns: Arrays, measured: Arrays) -> np.ndarray:
    """(B, K) recovered over true flux; NaN where either is not known.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `kspecsr.measures.lines.measured_lines`.
    """
    true = np.where(judged_lines(columns), columns["line_flux"], np.nan).astype(float)
    return measured["line_flux"] / np.where(true > 0, true, np.nan)


def flux_pull(columns: Arrays, measured: Arrays) -> np.ndarray:
    """(B, K) flux less true flux over the error, that of the known flux added in quadrature."""
    error = np.hypot(measured["line_flux_error"].astype(float), columns["line_error"])
    true = np.where(judged_lines(columns), columns["line_flux"], np.nan).astype(float)
    return (measured["line_flux"] - true) / np.where(error > 0, error, np.nan)


def log_ratio(ratio: np.ndarray) -> np.ndarray:
    """Natural log; a line that came out at zero or less counts as 100 times too faint."""
    # Negative fluxes have no logarithm, but leaving them out would make a method that loses faint lines look
    # unbiased.
    return np.log(np.clip(ratio, 1.0 / _FLUX_RANGE, _FLUX_RANGE))


def measurable_lines(columns: Arrays, measured: Arrays) -> np.ndarray:
    """(B, K) bool: lines of some true flux that the method measures in any galaxy.

    Where a wrong redshift puts such a line out of range it is lost; one that the method never measures is
    not. A flux that was measured may be negative.
    """
    judged = judged_lines(columns) & (np.asarray(columns["line_snr"]) != 0)
    return judged & np.isfinite(measured["line_flux"]).any(axis=0)


def _scatter_of_logs(ratio: np.ndarray) -> float:
    return robust_scatter(log_ratio(ratio))


def recovery_blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Recovery of lines with S/N > 5 in the prism, pulls of all known lines.

    ``recovery``: median of recovered over true flux, ``recovery_scatter``: robust, natural log;
    ``completeness``: share at 3 sigma or more (see `measurable_lines`); ``pull_median`` and ``pull_scatter``:
    robust, of (flux - true) / error. By true S/N ``[snr 5-10]`` (there of lines of any S/N), redshift,
    wavelength and line ``/Halpha``.
    """
    snr = np.asarray(columns["line_snr"])
    ratio, pull = flux_ratio(columns, measured), flux_pull(columns, measured)
    judged = measurable_lines(columns, measured)
    # a reference with errors must see the line itself: others are picked for their noise
    of_key_lines = line_parts(KEY_LINES, of=list_of(snr.shape[1]).names)
    strong = judged & (snr > STRONG) & (columns["line_flux"] > STRONG * np.asarray(columns["line_error"]))
    by_snr = list(line_snr_parts(snr))
    others = [WHOLE, *galaxy_parts(columns), *line_wavelength_parts(columns), *of_key_lines]
    yield (
        [
            median("recovery", ratio, judged),
            statistic("recovery_scatter", _scatter_of_logs, ratio, use=judged),
            share("completeness", detected_lines(measured), judged),
        ],
        [*((label, chosen & strong) for label, chosen in others), *by_snr],
    )
    yield (
        [
            median("pull_median", pull, judged),
            statistic("pull_scatter", robust_scatter, pull, use=judged),
        ],
        [*others, *by_snr],
    )


# ---- lines that are not there


def absent_lines(columns: Arrays, below: float = ABSENT) -> np.ndarray:
    """(B, K) bool: known lines that are too faint for the prism, and for the gratings where that is known.

    Args:
        columns: small columns of the held-out galaxies.
        below: true S/N in the prism. The goal of a training takes a larger one: it has few galaxies.
    """
    absent = judged_lines(columns) & (np.asarray(columns["line_snr"]) < below)
    if "line_detectable" in columns:
        absent &= ~np.asarray(columns["line_detectable"], bool)
    return absent


def invented_lines(columns: Arrays, measured: Arrays, found: np.ndarray) -> np.ndarray:
    """(B, K) bool: lines that were found, (B, K) bool, at more than twice the true flux."""
    return found & (measured["line_flux"] > _INVENTED * np.asarray(columns["line_flux"]))


def false_detection_blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Rates on lines whose true flux is below 0.2 sigma of the prism.

    A line that the gratings would show (column ``line_detectable``, where there is one) is there.
    ``false_3sigma``: flux over error above 3; ``false_presence``: presence above one half;
    ``false_detection``: either; ``invented``: either, at more than twice the true flux. The last two also by
    line and redshift, and ``invented[snr 0.2-1]``, ``[snr 1-3]`` for lines that are faint.
    """
    absent, measurable = absent_lines(columns), np.isfinite(measured["line_flux"])
    significant, names = detected_lines(measured), list_of(absent.shape[1]).names
    with np.errstate(invalid="ignore"):
        present = measured["line_presence"] > PRESENT
    either = significant | present
    invented = invented_lines(columns, measured, either)
    among = absent & measurable
    with_presence = among & np.isfinite(measured["line_presence"])
    yield (
        [share("false_3sigma", significant, among), share("false_presence", present, with_presence)],
        [WHOLE],
    )
    yield (
        [share("false_detection", either, among), share("invented", invented, among)],
        [WHOLE, *galaxy_parts(columns), *line_parts(names, of=names)],
    )
    snr = np.asarray(columns["line_snr"])
    yield (
        [share("invented", invented, judged_lines(columns) & measurable)],
        [(f"[snr {low:g}-{high:g}]", (snr >= low) & (snr < high)) for low, high in _FAINT],
    )


# ---- stated presence of lines


def there(columns: Arrays) -> np.ndarray:
    """(B, K) bool: the line exceeds 3 sigma at the depth of the gratings.

    That is what presence is trained to say. Columns without ``line_detectable`` fall back to 3 sigma of
    the prism, which is less deep: a presence that is right then looks too confident.
    """
    if "line_detectable" in columns:
        return np.asarray(columns["line_detectable"], bool)
    return np.asarray(columns["line_snr"]) > DETECTED


def signal_to_noise(measured: Arrays) -> np.ndarray:
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
    truth = np.asarray(truth, bool)
    if truth.all() or not truth.any():
        return float("nan")
    false, true = roc(score, truth)
    return float(np.trapezoid(true, false))


def presence_gap(presence: np.ndarray, truth: np.ndarray) -> float:
    """Mean over lines of |observed - stated| of their bin."""
    stated, observed, count = reliability(presence, truth)
    return float(np.nansum(np.abs(stated - observed) * count) / count.sum())


def presence_blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Reliability of the stated presence in 10 bins, Brier score, areas under the ROC curve.

    ``presence_calibration``: see `presence_gap`; ``presence_bias``: mean of stated - observed;
    ``presence_brier``; ``presence_auc``; ``snr_auc``: of flux over error, which methods without presence have
    too; ``presence_observed[0.1-0.2]``: share of lines that are there among those with such a presence.
    """
    truth, judged = there(columns), judged_lines(columns)
    presence = measured["line_presence"].astype(float)
    given, place = judged & np.isfinite(presence), presence_bin(presence)
    yield (
        [
            statistic("presence_calibration", presence_gap, presence, truth, use=judged),
            share("presence_bias", presence - truth, given),
            share("presence_brier", (presence - truth) ** 2, given),
            statistic("presence_auc", area_under_roc, presence, truth, use=judged),
            statistic("snr_auc", area_under_roc, signal_to_noise(measured), truth, use=judged),
        ],
        [WHOLE],
    )
    yield (
        [share("presence_observed", truth, given)],
        [(f"[{i / BINS:.1f}-{(i + 1) / BINS:.1f}]", place == i) for i in range(BINS)],
    )


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """All figures of `kspecsr.measures.lines.measured_lines`."""
    for of in (recovery_blocks, false_detection_blocks, presence_blocks):
        yield from of(columns, measured)
