"""Puts prism spectra on a scale of their own, and fills what is masked."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.layers.geometry import prism_wavelength

_LEAST_ERROR = 1e-4  # of the spectrum's scale: float32 squares below it mean nothing
_REACH = 2.5  # pixels over which the local amplitude is averaged, a little less than the line-spread FWHM


@keras.saving.register_keras_serializable("kspecsr")
class PrismNormalisation(keras.layers.Layer):
    """Normalises prism spectra so that everything after it is free of the flux unit.

    A pixel is good where it is not masked and flux and error are finite and the error positive. The scale is
    the geometric mean over good pixels of sqrt(flux^2 + error^2): neither one bright line nor the noisy ends
    of the range set it. All outputs but ``scale`` and ``good`` are in units of the scale.

    Inputs:
        flux: (B, P) any unit of order one.
        error: (B, P) one sigma.
        mask: (B, P) bool, True = bad.

    Returns:
        Dictionary of ``scale`` (B, 1); ``flux``, filled from good neighbours where bad (B, P); ``error``
        (B, P), large where bad; ``good`` (B, P), 1 or 0; ``amplitude`` (B, P), root mean square of flux and
        error in the neighbourhood, the natural unit of corrections.
    """

    def build(self, *_):
        """Fixed averaging kernels over the pixels."""
        distance = np.abs(np.subtract.outer(np.arange(self._pixels), np.arange(self._pixels)))
        fill = 1.0 / (0.25 + distance.astype(float)) ** 4
        near = np.exp(-0.5 * (distance / _REACH) ** 2) + 1e-6 / (1.0 + distance) ** 2
        self._fill = (fill / fill.sum(axis=1, keepdims=True)).astype("float32").T
        self._near = (near / near.sum(axis=1, keepdims=True)).astype("float32").T

    @property
    def _pixels(self) -> int:
        return prism_wavelength().size

    def call(self, flux, error, mask):
        """See the class."""
        usable = ops.logical_and(ops.isfinite(flux), ops.logical_and(ops.isfinite(error), error > 0))
        good_pixel = ops.logical_and(ops.logical_not(ops.cast(mask, "bool")), usable)
        good = ops.cast(good_pixel, "float32")  # (B, P)
        flux, error = ops.where(good_pixel, flux, 0.0), ops.where(good_pixel, error, 1.0)
        # the logarithm of the larger number first: its square may overflow
        largest = ops.maximum(ops.abs(flux), error)
        ratio = ops.minimum(ops.abs(flux), error) / largest
        log_size = ops.log(largest) + 0.5 * ops.log1p(ratio * ratio)
        count = ops.maximum(ops.sum(good, axis=-1, keepdims=True), 1.0)
        scale = ops.exp(ops.sum(good * log_size, axis=-1, keepdims=True) / count)  # (B, 1)
        flux, error = flux / scale, ops.maximum(error / scale, _LEAST_ERROR)
        seen = ops.matmul(good, self._fill)
        filled = ops.matmul(flux * good, self._fill) / ops.maximum(seen, 1e-20)
        near = ops.maximum(ops.matmul(good, self._near), 1e-20)
        square = ops.matmul(good * (flux * flux + error * error), self._near) / near
        amplitude = ops.sqrt(square + _LEAST_ERROR**2)
        return {
            "scale": scale,
            "flux": ops.where(good_pixel, flux, filled),
            "error": ops.where(good_pixel, error, 10.0 * amplitude),
            "good": good,
            "amplitude": amplitude,
        }
