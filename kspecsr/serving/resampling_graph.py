"""Spectra on any pixels onto the prism's: `data_pipeline.resampling.to_prism_pixels` in TensorFlow.

Everything is in float64, with the arithmetic of NumPy row by row: fluxes of 1e-20 squared twice are below the
range of float32, and wavelengths in float32 are off by a hundred-thousandth of a pixel.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline.instrument.prism_pixels import SHARED_NOISE
from data_pipeline.pixel_grid import pixel_bounds
from data_pipeline.resampling import COARSE

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
    """Resample spectra onto the prism's pixels: coarse ones are interpolated linearly, fine ones averaged.

    Args:
        target: (m,) pixel centres of the prism [um].
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
    coverage = np.diff(pixel_bounds(target), axis=0)[0]
    between, between_error, lost, span = _interpolated(target, pixels, bounds)
    coarse, same = span > COARSE * coverage, found[:, None]
    at = tf.maximum(row, 0)
    unknown = (row < 0) | ~tf.gather(pixels.good, at, batch_dims=1)
    bad = tf.where(same, unknown, tf.where(coarse, lost, seen < _HALF * coverage * _WHOLE))
    result_flux = tf.where(same, tf.gather(pixels.flux, at, batch_dims=1), tf.where(coarse, between, mean))
    result_error = tf.where(
        same, tf.gather(pixels.error, at, batch_dims=1), tf.where(coarse, between_error, sigma)
    )
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
    within = (wavelength > target[0] * (1 - _SAME)) & (wavelength < target[-1] * (1 + _SAME))
    within &= tf.range(tf.shape(wavelength)[1]) < count
    held, given = (tf.reduce_sum(tf.cast(some, tf.int32), axis=1) for some in (within, inside))
    found = (given > 0) & tf.equal(held, given) & tf.reduce_all(tf.equal(same, inside), axis=1)
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


def _interpolated(target: np.ndarray, pixels: Pixels, bounds) -> tuple[tf.Tensor, ...]:
    """Flux and error between the two pixels around each target pixel, (B, m) each.

    A bad one of the two is left out, and in a gap there is nothing: which target pixels are lost (B, m), and
    the distance of the two [um].
    """
    lower, upper = bounds
    wavelength, last = pixels.wavelength, pixels.count[:, None] - 1
    targets = tf.broadcast_to(target, (tf.shape(wavelength)[0], target.size))
    right = tf.searchsorted(wavelength, targets, side="left")
    left, right = _within(right - 1, 0, last), _within(right, 0, last)

    def at(values, index):
        return tf.gather(values, index, batch_dims=1)

    start, above, below = at(wavelength, left), at(upper, left), at(lower, right)
    span = at(wavelength, right) - start
    share = tf.math.divide_no_nan(targets - start, span)
    gap = above < below - 1e-12
    share = tf.where(gap, tf.round(share), _within(share, 0.0, 1.0))
    shares = [
        (1.0 - share) * tf.cast(at(pixels.good, left), tf.float64),
        share * tf.cast(at(pixels.good, right), tf.float64),
    ]
    seen = shares[0] + shares[1]
    lost = (targets < lower[:, :1]) | (targets > at(upper, last)) | (seen < _HALF)
    lost |= gap & (targets > above) & (targets < below)
    flux, error = (
        tf.math.divide_no_nan(shares[0] * at(values, left) + shares[1] * at(values, right), seen)
        for values in (pixels.flux, SHARED_NOISE * pixels.error)
    )
    return flux, error, lost, span


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
