"""The running integral of spectra, interpolated with a cubic spline, inside a graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def running_integral(
    count: tf.Tensor, bounds: tuple[tf.Tensor, tf.Tensor], flux: tf.Tensor, out: np.ndarray
) -> tuple[tf.Tensor, tf.Tensor]:
    """Integral of the flux over other pixels, as far as they lie on the spectra.

    The spline through the integral at the pixels' bounds is the not-a-knot one, as SciPy's `CubicSpline`.

    Args:
        count: (B,) pixels of each spectrum, four or more; what comes after them is none.
        bounds: lower and upper bounds of the pixels [um], (B, n) float64 each.
        flux: (B, n) float64.
        out: (2, m) bounds of the other pixels [um].

    Returns:
        Integral and width of the other pixels, clipped to the spectra, (B, m) each; the width is 1 where
        nothing is left.
    """
    lower, upper = bounds
    n = tf.shape(lower)[1]
    knots = _knots(count, lower, upper)  # (B, n + 1), of which count + 1 are real
    real = tf.range(n) < count[:, None]
    step = knots[:, 1:] - knots[:, :-1]
    total = tf.cumsum(tf.where(real, flux * step, 0.0), axis=1)
    total = tf.concat([tf.zeros_like(total[:, :1]), total], axis=1)
    slope = (total[:, 1:] - total[:, :-1]) / step
    derivative = _derivatives(count, knots, step, slope)

    last = tf.gather(knots, count, batch_dims=1)[:, None]

    def value_at(x: tf.Tensor) -> tf.Tensor:
        k = tf.searchsorted(knots, x, side="right") - 1
        k = tf.maximum(tf.minimum(k, count[:, None] - 1), 0)
        x0, h, secant, y, s0 = (
            tf.gather(values, k, batch_dims=1) for values in (knots, step, slope, total, derivative)
        )
        s1 = tf.gather(derivative, k + 1, batch_dims=1)
        t = (s0 + s1 - 2.0 * secant) / h
        along = x - x0
        return ((t / h * along + (secant - s0) / h - t) * along + s0) * along + y

    rows = tf.shape(lower)[0]
    low, high = (
        tf.minimum(tf.maximum(tf.broadcast_to(edge, (rows, edge.size)), knots[:, :1]), last)
        for edge in np.ascontiguousarray(out)
    )
    width = high - low
    return value_at(high) - value_at(low), tf.where(width > 0, width, 1.0)


def _knots(count: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Lower bounds and the last upper one; evenly spaced beyond."""
    n = tf.shape(lower)[1]
    place = tf.range(n + 1)
    last = tf.gather(upper, count - 1, batch_dims=1)[:, None]
    inside = place < count[:, None]
    padded = tf.pad(lower, [[0, 0], [0, 1]])
    return tf.where(inside, padded, last + tf.cast(place - count[:, None], tf.float64))


def _derivatives(count: tf.Tensor, knots: tf.Tensor, step: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Derivative of the spline at its knots, (B, n + 1); 0 beyond the real ones."""
    last = count[:, None]  # number of the last knot
    place = tf.range(tf.shape(knots)[1])

    def at_end(values: tf.Tensor, back: int) -> tf.Tensor:
        return tf.gather(values, last - back, batch_dims=1)

    zero, one = tf.zeros_like(step[:, :1]), tf.ones_like(step[:, :1])
    before, after = tf.concat([zero, step], axis=1), tf.concat([step, zero], axis=1)
    slope_before, slope_after = tf.concat([zero, slope], axis=1), tf.concat([slope, zero], axis=1)
    first, second = step[:, :1], step[:, 1:2]
    start = knots[:, 2:3] - knots[:, :1]
    end = at_end(knots, 0) - at_end(knots, 2)
    final, ahead = at_end(step, 1), at_end(step, 2)
    at_start, is_last, beyond = place == 0, place == last, place > last
    diagonal = 2.0 * (before + after)
    diagonal = tf.where(at_start, second, tf.where(is_last, ahead, tf.where(beyond, one, diagonal)))
    above = tf.where(at_start, start, tf.where(is_last | beyond, zero, before))
    below = tf.where(is_last, end, tf.where(beyond, zero, after))
    right = 3.0 * (after * slope_before + before * slope_after)
    at_first = ((first + 2 * start) * second * slope[:, :1] + first**2 * slope[:, 1:2]) / start
    at_last = (final**2 * at_end(slope, 2) + (2 * end + final) * ahead * at_end(slope, 1)) / end
    right = tf.where(at_start, at_first, tf.where(is_last, at_last, tf.where(beyond, zero, right)))
    diagonals = tf.stack([above, diagonal, below], axis=1)
    return tf.linalg.tridiagonal_solve(diagonals, right[..., None])[..., 0]
