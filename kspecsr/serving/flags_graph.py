"""When a spectrum is outside the model's reach: `kspecsr.flags.find_flags` as TensorFlow ops."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kspecsr.flags import LOW_SN, NO_CLEAR_REDSHIFT, NO_COVERAGE, NO_LINE_IN_RANGE, NOT_FINITE, FlagThresholds


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
    """S/N of the weighted mean, and of the best three neighbouring pixels, as `kspecsr.flags.detection`."""
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
