"""The mode of P(z) that a redshift lies in, as `kspecsr.redshift_summary.find_modes` cuts them, as ops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kspecsr.predictive import BIN_WIDTH
from kspecsr.redshift_summary import CLOSE, LOCAL, NEAR, SMALLEST_PEAK, VALLEY


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
