"""Spectra on any pixels onto the prism's: `data_pipeline.resampling.to_pixels` in TensorFlow operations.

Everything is in float64, with the arithmetic of NumPy row by row: fluxes of 1e-20 squared twice are below the
range of float32, and wavelengths in float32 are off by a hundred-thousandth of a pixel.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline.pixel_grid import pixel_bounds


def running_integral(
    count: tf.Tensor, bounds: tuple[tf.Tensor, tf.Tensor], flux: tf.Tensor, out: np.ndarray
) -> tuple[tf.Tensor, tf.Tensor]:
    """Integral of the flux over other pixels, as far as they lie on the spectra.

    The spline through the integral at the pixels' bounds is the not-a-knot one, as SciPy's `CubicSpline`.
    Spectra have (B,) four pixels or more; their arrays (B, n), float64, may be longer. ``out`` (2, m) are the
    bounds of the other pixels. Integral and width (B, m) are clipped to the spectra, the width to 1 where
    nothing is left.
    """
    lower, upper = bounds
    n = tf.shape(lower)[1]
    # Filling is spaced evenly behind the last pixel: knots must rise throughout, or one short spectrum would
    # make the solver divide by 0 for the whole batch.
    knots = _knots(count, lower, upper)  # (B, n + 1), of which count + 1 are real
    real = tf.range(n) < count[:, None]
    step = knots[:, 1:] - knots[:, :-1]
    total = tf.cumsum(tf.where(real, flux * step, 0.0), axis=1)
    total = tf.concat([tf.zeros_like(total[:, :1]), total], axis=1)
    slope = (total[:, 1:] - total[:, :-1]) / step
    derivative = _derivatives(count, knots, step, slope)

    last = tf.gather(knots, count, batch_dims=1)[:, None]

    def value_at(x: tf.Tensor) -> tf.Tensor:
        # The last edge lies on the last knot, behind which there is no interval.
        k = tf.searchsorted(knots, x, side="right") - 1
        k = tf.maximum(tf.minimum(k, count[:, None] - 1), 0)
        x0, h, secant, y, s0 = (
            tf.gather(values, k, batch_dims=1) for values in (knots, step, slope, total, derivative)
        )
        s1 = tf.gather(derivative, k + 1, batch_dims=1)
        # Hermite's form on the interval, in the order of SciPy's operations, so that both agree to rounding.
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
    # Rows of the spline's equations; not-a-knot in the first and the last, and 1 x = 0 in those of the
    # filling.
    diagonal = 2.0 * (before + after)
    diagonal = tf.where(at_start, second, tf.where(is_last, ahead, tf.where(beyond, one, diagonal)))
    above = tf.where(at_start, start, tf.where(is_last | beyond, zero, before))
    below = tf.where(is_last, end, tf.where(beyond, zero, after))
    right = 3.0 * (after * slope_before + before * slope_after)
    at_first = ((first + 2 * start) * second * slope[:, :1] + first**2 * slope[:, 1:2]) / start
    at_last = (final**2 * at_end(slope, 2) + (2 * end + final) * ahead * at_end(slope, 1)) / end
    right = tf.where(at_start, at_first, tf.where(is_last, at_last, tf.where(beyond, zero, right)))
    diagonals = tf.stack([above, diagonal, below], axis=1)
    # The one batched banded solver of stock TensorFlow; its diagonals are stacked superdiagonal first.
    return tf.linalg.tridiagonal_solve(diagonals, right[..., None])[..., 0]


LEAST_PIXELS = 4  # with a wavelength; fewer are no spectrum
_BEYOND = 1e30  # [um] wavelength of the filling after the last pixel
_REACH = 5  # of the running median of pixel steps, as in `pixel_bounds`
_SAME = 1e-6  # relative: pixels this close are the same
_HALF = 0.5  # share of a target pixel that good input must cover
_WHOLE = 1.0 - 1e-9


class Pixels(NamedTuple):
    """Spectra with their pixels in order, (B, n) each; the first ``count`` are real."""

    count: tf.Tensor
    wavelength: tf.Tensor
    flux: tf.Tensor
    error: tf.Tensor
    good: tf.Tensor


def resample_to(
    target: np.ndarray, wavelength: tf.Tensor, flux: tf.Tensor, error: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Resample spectra onto other pixels, conserving flux.

    Args:
        target: (m,) pixel centres [um].
        wavelength: (B, n) pixel centres [um, vacuum], float64, rising or falling. NaN and values of 0 or less
            are no pixels, nor is a last value that is repeated or equals the first: spectra of several
            lengths share a batch.
        flux: (B, n) float64.
        error: (B, n) one sigma; pixels without finite flux and finite, positive error are bad.

    Returns:
        Flux, error and mask (B, m), True = bad, where flux and error have no meaning; and whether the
        wavelengths are valid (B,): spectra without valid ones are masked throughout.
    """
    pixels, valid = _in_order(wavelength, flux, error)
    # Pixels that are the prism's own are taken over, not resampled: interpolation onto the same place is
    # exact for the flux, but would smear a mask.
    found, row = _rows_of(target, pixels)
    bounds = _bounds(pixels)
    mean, sigma, seen = _overlap_mean(target, pixels, bounds)
    smooth, width = running_integral(pixels.count, bounds, _bridged(pixels), pixel_bounds(target))
    coverage = np.diff(pixel_bounds(target), axis=0)[0]
    # Where good pixels cover only a part, their mean; the spline would fill the rest with what it guesses.
    resampled_flux = tf.where(seen < coverage * _WHOLE, mean, smooth / width)
    bad = tf.where(
        found[:, None],
        (row < 0) | ~tf.gather(pixels.good, tf.maximum(row, 0), batch_dims=1),
        seen < _HALF * coverage * _WHOLE,
    )
    row = tf.maximum(row, 0)
    result_flux = tf.where(found[:, None], tf.gather(pixels.flux, row, batch_dims=1), resampled_flux)
    result_error = tf.where(found[:, None], tf.gather(pixels.error, row, batch_dims=1), sigma)
    return result_flux, result_error, bad | ~valid[:, None], valid


def _in_order(wavelength, flux, error) -> tuple[Pixels, tf.Tensor]:
    """Pixels with a wavelength first, rising; a stand-in of evenly spaced, bad pixels for invalid ones."""
    wavelength = tf.where(_filled_up(wavelength), tf.constant(np.nan, tf.float64), wavelength)
    nothing = tf.constant([[0, 0], [0, LEAST_PIXELS]])
    wavelength, flux, error = (
        tf.pad(values, nothing, constant_values=np.nan) for values in (wavelength, flux, error)
    )
    placed = tf.math.is_finite(wavelength) & (wavelength > 0)
    count = tf.reduce_sum(tf.cast(placed, tf.int32), axis=1)
    place = tf.range(tf.shape(wavelength)[1])
    # Those without a wavelength go behind all others, whose order stays: a stable sort by way of numbers.
    order = tf.sort(tf.where(placed, place, tf.shape(place)[0] + place), axis=1) % tf.shape(place)[0]
    wavelength = tf.gather(wavelength, order, batch_dims=1)
    between = place[:-1] < count[:, None] - 1
    step = wavelength[:, 1:] - wavelength[:, :-1]
    falls = tf.reduce_all((step < 0) | ~between, axis=1) & (count > 1)
    turned = tf.where(falls[:, None] & (place < count[:, None]), count[:, None] - 1 - place, place)
    order = tf.gather(order, turned, batch_dims=1)
    wavelength = tf.gather(wavelength, turned, batch_dims=1)
    step = wavelength[:, 1:] - wavelength[:, :-1]
    rises = tf.reduce_all((step > 0) | ~between, axis=1)
    # Invalid spectra go on with even, bad pixels: an exception would end the batch of all other callers.
    valid = rises & (count >= LEAST_PIXELS)
    count = tf.where(valid, count, tf.shape(place)[0])
    real = place < count[:, None]
    wavelength = tf.where(valid[:, None], wavelength, tf.cast(1 + place, tf.float64))
    last = tf.gather(wavelength, count - 1, batch_dims=1)[:, None]
    wavelength = tf.where(real, wavelength, last + tf.cast(1 + place - count[:, None], tf.float64))
    flux, error = (tf.gather(values, order, batch_dims=1) for values in (flux, error))
    good = tf.math.is_finite(flux) & tf.math.is_finite(error) & (error > 0) & real & valid[:, None]
    zero = tf.zeros_like(flux)
    return Pixels(count, wavelength, tf.where(good, flux, zero), tf.where(good, error, zero), good), valid


def _filled_up(wavelength: tf.Tensor) -> tf.Tensor:
    """(B, n) bool: filling that TensorFlow Serving appends to shorter spectra when it joins requests.

    It repeats the first value of a request (``pad_variable_length_inputs``).
    """
    at_end = tf.cast(tf.equal(wavelength, wavelength[:, -1:]), tf.int32)
    # From the end backwards: a value that is repeated in the middle is an error of the caller, not filling.
    at_end = tf.math.cumprod(at_end, axis=1, reverse=True)
    repeated = tf.reduce_sum(at_end, axis=1, keepdims=True) > 1
    return (at_end > 0) & (repeated | tf.equal(wavelength, wavelength[:, :1]))


def _rows_of(target: np.ndarray, pixels: Pixels) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether spectra have the target's pixels already, (B,), and the pixel for each target or -1 (B, m)."""
    wavelength, count = pixels.wavelength, pixels.count[:, None]
    targets = tf.broadcast_to(target, (tf.shape(wavelength)[0], target.size))
    row = _within(tf.searchsorted(wavelength, targets), 1, count - 1)
    before, after = (tf.gather(wavelength, row - step, batch_dims=1) for step in (1, 0))
    row -= tf.cast((target - before) < (after - target), tf.int32)
    same = tf.abs(tf.gather(wavelength, row, batch_dims=1) - target) < _SAME * target
    last = tf.gather(wavelength, count - 1, batch_dims=1)
    inside = (target > wavelength[:, :1] * (1 - _SAME)) & (target < last * (1 + _SAME))
    found = tf.reduce_any(inside, axis=1) & tf.reduce_all(tf.equal(same, inside), axis=1)
    return found, tf.where(inside, row, -1)


def _bounds(pixels: Pixels) -> tuple[tf.Tensor, tf.Tensor]:
    """Lower and upper bounds of the pixels, (B, n) each, as `data_pipeline.pixel_grid.pixel_bounds`."""
    wavelength, count = pixels.wavelength, pixels.count[:, None]
    step = wavelength[:, 1:] - wavelength[:, :-1]  # (B, n - 1), of which count - 1 are real
    # As in NumPy: a step across a gap is no wider pixel.
    half = 0.5 * tf.minimum(step, 1.5 * _running_median(step, pixels.count - 1))
    place = tf.range(tf.shape(wavelength)[1])
    before = tf.concat([half[:, :1], half], axis=1)
    last = tf.gather(half, count - 2, batch_dims=1)
    after = tf.where(place == count - 1, last, tf.concat([half, half[:, -1:]], axis=1))
    lower, upper = wavelength - before, wavelength + after
    # one rounding for a bound that two pixels share
    shared = tf.equal(half, 0.5 * step)
    lower = tf.concat([lower[:, :1], tf.where(shared, upper[:, :-1], lower[:, 1:])], axis=1)
    return lower, upper


def _running_median(step: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Median of up to 11 neighbouring steps, (B, n - 1); ``count`` of them (B,) are real."""
    count = count[:, None]
    odd = tf.minimum(2 * _REACH + 1, count - 1 + count % 2)
    reach = odd // 2
    place = tf.range(tf.shape(step)[1])
    around = []
    for offset in range(-_REACH, _REACH + 1):
        near = tf.gather(step, _within(place + offset, 0, count - 1), batch_dims=1)
        around.append(tf.where(abs(offset) <= reach, near, tf.constant(_BEYOND, tf.float64)))
    window = tf.sort(tf.stack(around, axis=-1), axis=-1)
    middle = tf.broadcast_to(reach, tf.shape(step))
    return tf.gather(window, middle, batch_dims=2)


def _bridged(pixels: Pixels) -> tf.Tensor:
    """Flux with bad pixels interpolated between their good neighbours, and constant beyond these, (B, n)."""
    # Neighbours are found by sorting and counting: a running fill has no batched operation in stock
    # TensorFlow.
    n = tf.shape(pixels.good)[1]
    listed = tf.sort(tf.where(pixels.good, tf.range(n), n), axis=1)  # good pixels first, in order
    rank = tf.cumsum(tf.cast(pixels.good, tf.int32), axis=1)  # of them, up to and including each pixel
    last = tf.maximum(rank[:, -1:] - 1, 0)
    numbers = (_within(rank - 1, 0, last), _within(rank, 0, last))
    before, after = (_within(tf.gather(listed, one, batch_dims=1), 0, n - 1) for one in numbers)
    x0, x1 = (tf.gather(pixels.wavelength, one, batch_dims=1) for one in (before, after))
    y0, y1 = (tf.gather(pixels.flux, one, batch_dims=1) for one in (before, after))
    slope = tf.math.divide_no_nan(y1 - y0, x1 - x0)
    return tf.where(pixels.good, pixels.flux, y0 + slope * (pixels.wavelength - x0))


def _within(values: tf.Tensor, low, high) -> tf.Tensor:
    """Clipped, with limits that may be broadcast."""
    return tf.maximum(tf.minimum(values, high), low)


def _overlap_mean(target: np.ndarray, pixels: Pixels, bounds) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mean flux over each target pixel, its error, and the width that good pixels cover, (B, m) each.

    One neighbour of each target pixel after the other, so that memory does not grow with their number.
    """
    lower, upper = bounds
    place = tf.range(tf.shape(lower)[1])
    real = place < pixels.count[:, None]
    beyond = tf.constant(_BEYOND, tf.float64)
    lower, upper = tf.where(real, lower, beyond), tf.where(real, upper, beyond)
    out = np.ascontiguousarray(pixel_bounds(target))
    rows = tf.shape(lower)[0]
    low_out, high_out = (tf.broadcast_to(edge, (rows, target.size)) for edge in out)
    # Filling lies at 1e30 um, behind every target, so that rows of a batch stay sorted.
    low = tf.searchsorted(upper, low_out, side="right")
    high = tf.searchsorted(lower, high_out, side="left")
    weight = tf.cast(pixels.good, tf.float64)
    variance = pixels.error**2

    def add(k, seen, total, square):
        column = _within(low + k, 0, tf.shape(lower)[1] - 1)
        left, right, share, value, var = (
            tf.gather(values, column, batch_dims=1)
            for values in (lower, upper, weight, pixels.flux, variance)
        )
        shared = tf.maximum(tf.minimum(high_out, right) - tf.maximum(low_out, left), 0.0)
        shared = tf.where(low + k < high, shared * share, 0.0)
        return k + 1, seen + shared, total + shared * value, square + shared**2 * var

    zero = tf.zeros((rows, target.size), tf.float64)
    # As many turns as the finest spectrum of the batch has pixels per target pixel.
    most = tf.reduce_max(high - low)
    _, seen, total, square = tf.while_loop(lambda k, *_: k < most, add, (0, zero, zero, zero))
    return tf.math.divide_no_nan(total, seen), tf.math.divide_no_nan(tf.sqrt(square), seen), seen
