"""From the networks' outputs to what is reported: `kspecsr.results.interpretation` as TensorFlow ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from kspecsr.layers import PrismDegradation, plain_grid
from kspecsr.results.consistency import seen_on_grid
from kspecsr.results.flags import (
    LOW_SN,
    NO_CLEAR_REDSHIFT,
    NO_COVERAGE,
    NO_LINE_IN_RANGE,
    NOT_FINITE,
    STATUS_BITS,
    FlagThresholds,
)
from kspecsr.results.prism_input import prism_pixel_of, prism_wavelength
from kspecsr.results.redshift import BIN_WIDTH, CLOSE, LOCAL, NEAR, SMALLEST_PEAK, VALLEY
from kspecsr.results.result import ModelIdentity
from kspecsr.serving.resampling_graph import good_neighbours


def bridged_gaps() -> np.ndarray:
    """(P, longest) bool: whether a gap from a prism pixel on, one pixel long and longer, is bridged."""
    prism = load_instrument(PRISM)
    low, high = prism.bounds
    longest, columns = 1, []
    while True:
        start = np.arange(low.size - longest + 1)
        stop = start + longest - 1
        bridged = high[stop] - low[start] <= prism.fwhm(0.5 * (low[start] + high[stop]))
        if not bridged.any():
            return np.stack(columns, axis=1)
        columns.append(np.pad(bridged, (0, longest - 1)))
        longest += 1


def output_mask_graph(prism_mask: tf.Tensor, wavelength: np.ndarray) -> tf.Tensor:
    """Pixels beyond the data, and in gaps wider than the instrument's resolution.

    Args:
        prism_mask: (B, P) bool, True = bad.
        wavelength: (N,) pixels of the output [um].

    Returns:
        (B, N) bool, True = no data.
    """
    table = bridged_gaps()
    pixels, longest = table.shape
    before, after = good_neighbours(~prism_mask)
    inner = prism_mask & (before >= 0) & (after < pixels)
    length = after - before - 1
    known = inner & (length <= longest)
    index = tf.where(known, (before + 1) * longest + length - 1, 0)
    bridged = known & tf.gather(tf.constant(table.ravel()), index)
    column, covered = prism_pixel_of(wavelength)
    return tf.gather(prism_mask & ~bridged, column, axis=1) | ~covered


class Mode(NamedTuple):
    """First bin, bin after the last, and bin of the peak, (B,) int32 each; ``found`` (B,) bool."""

    start: tf.Tensor
    stop: tf.Tensor
    peak: tf.Tensor
    found: tf.Tensor


def confidence_and_error(
    probability: tf.Tensor, bins: np.ndarray, redshift: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mass and width of the mode around a redshift.

    Args:
        probability: (B, Z) float64, rows that sum to 1 or are 0.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: (B,) float64.

    Returns:
        Mass within 0.01 (1 + z) of the redshift, 0 without a mode; one sigma of z, NaN without; (B,) each.
    """
    step = float(bins[-1] - bins[0]) / (bins.size - 1)
    place = tf.math.log1p(redshift)[:, None]
    mode = _holding(probability, bins, step, place[:, 0])
    column = tf.range(bins.size)
    inside = (column >= mode.start[:, None]) & (column < mode.stop[:, None]) & mode.found[:, None]
    zero = tf.zeros_like(probability)
    mass = tf.reduce_sum(tf.where(inside & (tf.abs(bins - place) <= NEAR), probability, zero), axis=1)
    # the stretch around the peak, up to where it has fallen to a hundredth
    peak = mode.peak[:, None]
    top = tf.gather(probability, peak, batch_dims=1)
    low = inside & (probability < LOCAL * top)
    first = tf.reduce_max(tf.where(low & (column < peak), column + 1, mode.start[:, None]), axis=1)
    last = tf.reduce_min(tf.where(low & (column > peak), column, mode.stop[:, None]), axis=1)
    around = (column >= first[:, None]) & (column < last[:, None])
    weight = tf.where(around, probability, zero)
    weight = tf.math.divide_no_nan(weight, tf.reduce_sum(weight, axis=1, keepdims=True))
    mean = tf.reduce_sum(weight * bins, axis=1, keepdims=True)
    variance = tf.reduce_sum(weight * (bins - mean) ** 2, axis=1) + (BIN_WIDTH * step) ** 2
    error = tf.exp(mean[:, 0]) * tf.sqrt(variance)
    return tf.minimum(mass, 1.0), tf.where(mode.found, error, tf.constant(np.nan, tf.float64))


def _holding(probability: tf.Tensor, bins: np.ndarray, step: float, place: tf.Tensor) -> Mode:
    """Peaks one after the other, neighbours merged; spectra beside each other."""
    size = bins.size
    peaks, count, valley, lowest = _peaks_and_valleys(probability)
    close = max(1, round(CLOSE / step))
    edge = tf.constant(np.append(bins - 0.5 * step, bins[-1] + 0.5 * step))
    height = tf.gather(probability, peaks, batch_dims=1)

    def keep(mode: Mode, start, stop, peak) -> Mode:
        holds = (tf.gather(edge, start) <= place) & (place <= tf.gather(edge, stop)) & ~mode.found
        return Mode(
            tf.where(holds, start, mode.start),
            tf.where(holds, stop, mode.stop),
            tf.where(holds, peak, mode.peak),
            mode.found | holds,
        )

    def follow(k, start, peak, top, low, where_low, mode):
        """Takes the k-th peak; the valley before it is the lowest bin since the last one that counts."""
        lower = lowest[:, k - 1] < low
        low = tf.where(lower, lowest[:, k - 1], low)
        where_low = tf.where(lower, valley[:, k - 1], where_low)
        here, its_height = peaks[:, k], height[:, k]
        there = k < count
        merged = (here - peak <= close) | (low >= VALLEY * tf.minimum(top, its_height))
        ends = there & ~merged
        kept = keep(mode, start, where_low, peak)
        mode = Mode(*(tf.where(ends, new, old) for new, old in zip(kept, mode, strict=True)))
        moved = there & (~merged | (its_height > top))
        infinite = tf.fill(tf.shape(low), tf.constant(np.inf, low.dtype))
        return (
            k + 1,
            tf.where(ends, where_low, start),
            tf.where(moved, here, peak),
            tf.where(moved, its_height, top),
            tf.where(moved, infinite, low),
            where_low,
            mode,
        )

    nowhere = tf.zeros_like(count)
    none = Mode(nowhere, nowhere, nowhere, tf.zeros_like(count, tf.bool))
    infinite = tf.fill(tf.shape(place), tf.constant(np.inf, probability.dtype))
    first = (tf.constant(1), nowhere, peaks[:, 0], height[:, 0], infinite, nowhere, none)
    _, start, peak, _, _, _, mode = tf.while_loop(lambda k, *_: k < tf.shape(peaks)[1], follow, first)
    last = keep(mode, start, tf.fill(tf.shape(start), size), peak)
    some = count > 0
    return last._replace(found=last.found & some)


def _peaks_and_valleys(probability: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Bins of the peaks (B, K), their number (B,), and the lowest bin after each, with its value (B, K)."""
    size = probability.shape[1]
    infinite = tf.fill([tf.shape(probability)[0], 1], tf.constant(-np.inf, probability.dtype))
    left = tf.concat([infinite, probability[:, :-1]], axis=1)
    right = tf.concat([probability[:, 1:], infinite], axis=1)
    high = probability >= SMALLEST_PEAK * tf.reduce_max(probability, axis=1, keepdims=True)
    local = (probability > left) & (probability >= right) & high & (probability > 0)
    count = tf.reduce_sum(tf.cast(local, tf.int32), axis=1)
    most = tf.maximum(tf.reduce_max(count), 1)
    column = tf.range(size)
    peaks = tf.minimum(-tf.math.top_k(tf.where(local, -column, -size), most).values, size - 1)
    # bins from a peak to the one before the next belong to it
    number = tf.cumsum(tf.cast(local, tf.int32), axis=1) - 1
    row = tf.range(tf.shape(probability)[0])[:, None]
    segment = tf.where(number >= 0, row * most + number, -1)
    groups = tf.shape(probability)[0] * most
    lowest = tf.math.unsorted_segment_min(probability, segment, groups)
    is_lowest = tf.equal(probability, tf.gather(lowest, tf.maximum(segment, 0)))
    places = tf.where(is_lowest, column, size)
    valley = tf.math.unsorted_segment_min(tf.broadcast_to(places, tf.shape(segment)), segment, groups)
    valley = tf.minimum(valley, size)  # of rows with fewer peaks: nothing is there
    shape = [-1, most]
    return peaks, count, tf.reshape(valley, shape), tf.reshape(lowest, shape)


def find_flags_graph(
    prism: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    on_range: np.ndarray,
    confidence: tf.Tensor,
    given: tf.Tensor,
    thresholds: FlagThresholds,
    lines_in_range: tf.Tensor | None = None,
    finite: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Flags of a batch.

    Args:
        prism: flux, error (B, P) float64 and mask (B, P) bool, True = bad.
        on_range: (P,) bool, pixels on the model's range.
        confidence: (B,) mass of the main mode of P(z).
        given: (B,) bool, whether the caller gave the redshift.
        thresholds: limits.
        lines_in_range: (B,) lines that fall on data; None where no lines are measured.
        finite: (B,) bool, whether the network's spectrum is; None where there is none.

    Returns:
        Flag to (B,) bool.
    """
    rows = np.flatnonzero(on_range)
    flux, error, mask = (tf.gather(values, rows, axis=1) for values in prism)
    good = ~mask
    covered = tf.reduce_mean(tf.cast(good, tf.float64), axis=1) >= thresholds.coverage
    continuum, feature = _detection(flux, error, good)
    faint = (continuum < thresholds.continuum_signal_to_noise) & (
        feature < thresholds.feature_signal_to_noise
    )
    flags = {
        NO_COVERAGE: ~covered,
        LOW_SN: covered & ~given & faint,
        NO_CLEAR_REDSHIFT: covered & ~given & ~(confidence >= thresholds.redshift_confidence),
    }
    if lines_in_range is not None:
        flags[NO_LINE_IN_RANGE] = covered & tf.equal(lines_in_range, 0)
    if finite is not None:
        flags[NOT_FINITE] = covered & ~finite
    return flags


def _detection(flux: tf.Tensor, error: tf.Tensor, good: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """S/N of the weighted mean, and of the best three neighbouring pixels, as `results.flags.detection`."""
    zero = tf.zeros_like(flux)
    safe = tf.where(good, error, tf.ones_like(error))
    least = tf.reduce_min(tf.where(good, error, tf.constant(np.inf, error.dtype)), axis=1, keepdims=True)
    least = tf.where(tf.math.is_finite(least), least, tf.ones_like(least))
    weight = tf.where(good, (least / safe) ** 2, zero)
    total = tf.sqrt(tf.reduce_sum(weight, axis=1)) * least[:, 0]
    continuum = tf.math.divide_no_nan(tf.reduce_sum(tf.where(good, flux, zero) * weight, axis=1), total)
    ratio = flux / safe
    a, b, c = ratio[:, :-2], ratio[:, 1:-1], ratio[:, 2:]
    middle = tf.maximum(tf.minimum(a, b), tf.minimum(tf.maximum(a, b), c))
    all_good = good[:, :-2] & good[:, 1:-1] & good[:, 2:]
    best = tf.reduce_max(tf.where(all_good, middle, tf.zeros_like(middle)), axis=1)
    return continuum, np.sqrt(3.0) * tf.maximum(best, 0.0)


_SPECTRA = ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error")
_BLANKED = ("flux", "flux_error", "wavelength", "fwhm", "equivalent_width", "prior_weight")
Tensors = dict[str, tf.Tensor]


class InterpretationGraph:
    """What `results.interpretation.Interpreter` does with one spectrum, for batches and inside a graph.

    Args:
        identity: which model.
        bins: (Z,) ln(1 + z) of P(z).
        thresholds: below what a spectrum is flagged.
    """

    def __init__(self, identity: ModelIdentity, bins: np.ndarray, thresholds: FlagThresholds):
        grid = identity.grid
        self.bins = np.asarray(bins, dtype=np.float64)
        self.thresholds = thresholds
        self.wavelength = grid.wavelength
        prism = prism_wavelength()
        self._on_range = (prism >= grid.start) & (prism <= grid.stop)
        self._interior = seen_on_grid(grid)
        self._degradation = PrismDegradation(plain_grid(grid), dtype="float32")

    def redshift(self, prism: tuple, outputs: Mapping[str, tf.Tensor], given: tf.Tensor) -> Tensors:
        """Redshift with error, confidence and P(z), and the flags as far as they go.

        Args:
            prism: flux, error (B, P) float64 and mask (B, P) bool.
            outputs: ``redshift`` (B,) and ``redshift_probability`` (B, Z) of the networks.
            given: (B,) float64, redshifts that the caller gave; NaN for none.

        Returns:
            ``redshift``, ``redshift_error``, ``redshift_confidence``, ``status`` (B,) and
            ``redshift_probability`` (B, Z).
        """
        summary = self._summary(outputs, given)
        known = tf.math.is_finite(given)
        flags = find_flags_graph(
            prism, self._on_range, summary["redshift_confidence"], known, self.thresholds
        )
        return {**_reported(summary, flags, known), "status": _status(flags)}

    def everything(self, prism: tuple, outputs: Mapping[str, tf.Tensor], given: tf.Tensor) -> Tensors:
        """All that is reported.

        Args:
            prism: as above.
            outputs: of the composed model.
            given: as above.

        Returns:
            As above, and spectra (B, N), ``line_*`` (B, K), ``chi_square`` (B,), ``prism_model`` (B, P).
        """
        flux, error, mask = prism
        lost = output_mask_graph(mask, self.wavelength)
        lines = self._lines(outputs, lost)
        summary = self._summary(outputs, given)
        known = tf.math.is_finite(given)
        finite = tf.math.is_finite(outputs["flux"]) & tf.math.is_finite(outputs["flux_error"])
        flags = find_flags_graph(
            prism,
            self._on_range,
            summary["redshift_confidence"],
            known,
            self.thresholds,
            tf.reduce_sum(tf.cast(lines["line_in_range"], tf.int32), axis=1),
            tf.reduce_all(finite | lost, axis=1),
        )
        flagged = tf.reduce_any(tf.stack(list(flags.values())), axis=0)[:, None]
        nan = tf.constant(np.nan, tf.float32)
        for name in _BLANKED:
            lines[f"line_{name}"] = tf.where(flagged, nan, lines[f"line_{name}"])
        lines["line_presence"] = tf.where(flagged, 0.0, lines["line_presence"])
        model = tf.where(self._interior, self._degradation(outputs["sr1_flux"]), nan)
        alone = {
            **outputs,
            "flux": outputs["sr1_flux"],
            "flux_error": outputs["sr1_error"],
            "continuum": tf.fill(tf.shape(outputs["continuum"]), nan),
        }
        spectra = {
            name: tf.where(lost, nan, tf.where(flagged, alone[name], outputs[name])) for name in _SPECTRA
        }
        chi_square = tf.cast(_chi_square(flux, error, mask, model), tf.float32)
        return {
            **spectra,
            **lines,
            **_reported(summary, flags, known),
            "prism_model": tf.where(flagged, model, outputs["prism_model"]),
            "chi_square": tf.where(flagged[:, 0], chi_square, outputs["chi_square"]),
            "status": _status(flags),
        }

    def _summary(self, outputs: Mapping[str, tf.Tensor], given: tf.Tensor) -> Tensors:
        redshift = tf.where(tf.math.is_finite(given), given, tf.cast(outputs["redshift"], tf.float64))
        probability = tf.cast(outputs["redshift_probability"], tf.float64)
        probability = tf.where(tf.math.is_finite(probability), probability, tf.zeros_like(probability))
        total = tf.reduce_sum(probability, axis=1, keepdims=True)
        probability = tf.math.divide_no_nan(probability, total)
        confidence, error = confidence_and_error(probability, self.bins, redshift)
        return {
            "redshift": redshift,
            "redshift_error": error,
            "redshift_confidence": confidence,
            "redshift_probability": probability,
        }

    def _lines(self, outputs: Mapping[str, tf.Tensor], lost: tf.Tensor) -> Tensors:
        """Lines, blank where their centre does not lie on data."""
        lines = {name: outputs[name] for name in outputs if name.startswith("line_")}
        size = self.wavelength.size
        centre = tf.cast(lines["line_wavelength"], tf.float64)
        place = tf.reshape(
            tf.searchsorted(tf.constant(self.wavelength), tf.reshape(centre, [-1])), tf.shape(centre)
        )
        place = tf.clip_by_value(place, 1, size - 1)
        before, after = (tf.gather(self.wavelength, place - step) for step in (1, 0))
        place -= tf.cast((centre - before) < (after - centre), tf.int32)
        flux, error = lines["line_flux"], lines["line_flux_error"]
        in_range = tf.not_equal(lines["line_in_range"], 0) & ~tf.gather(lost, place, batch_dims=1)
        in_range &= tf.math.is_finite(flux) & tf.math.is_finite(error) & (error > 0)
        nan = tf.constant(np.nan, tf.float32)
        for name in _BLANKED:
            lines[f"line_{name}"] = tf.where(in_range, lines[f"line_{name}"], nan)
        lines["line_presence"] = tf.where(in_range, lines["line_presence"], tf.zeros_like(flux))
        return {**lines, "line_in_range": in_range}


def _reported(summary: Tensors, flags: Tensors, known: tf.Tensor) -> Tensors:
    """The redshift as results state it: none without coverage, no error where it was given."""
    nothing = flags[NO_COVERAGE] & ~known
    nan = tf.constant(np.nan, tf.float64)
    zero = tf.zeros_like(summary["redshift"])
    error = tf.where(known, zero, summary["redshift_error"])
    changed = {
        "redshift": tf.where(nothing, nan, summary["redshift"]),
        "redshift_error": tf.where(nothing, nan, error),
        "redshift_confidence": tf.where(nothing, zero, summary["redshift_confidence"]),
        "redshift_probability": tf.where(nothing[:, None], zero[:, None], summary["redshift_probability"]),
    }
    return {name: tf.cast(values, tf.float32) for name, values in changed.items()}


def _status(flags: Tensors) -> tf.Tensor:
    return tf.add_n([STATUS_BITS[name] * tf.cast(values, tf.int32) for name, values in flags.items()])


def _chi_square(flux: tf.Tensor, error: tf.Tensor, mask: tf.Tensor, model: tf.Tensor) -> tf.Tensor:
    """Per good prism pixel, as `kspecsr.results.consistency.prism_chi_square`."""
    model = tf.cast(model, tf.float64)
    good = ~mask & tf.math.is_finite(model)
    residual = tf.where(good, (flux - model) / error, tf.zeros_like(flux))
    count = tf.reduce_sum(tf.cast(good, tf.float64), axis=1)
    return tf.reduce_sum(residual**2, axis=1) / count / PIXEL_NOISE_VARIANCE
