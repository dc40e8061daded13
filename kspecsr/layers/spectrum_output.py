"""From raw network output to flux and error on the unified grid."""

from __future__ import annotations

import keras
from keras import ops

_LOG_SIGMA = (-8.0, 3.0)
_LEAST_AMPLITUDE = 1e-4  # of the spectrum's scale


@keras.saving.register_keras_serializable("kspecsr")
class SpectrumOutput(keras.layers.Layer):
    """Flux as a correction to the up-sampled prism, and its error, both in units of the local amplitude.

    Inputs:
        raw: (B, N, 2) correction and log sigma, of order one.
        base: (B, N) up-sampled prism flux in units of the scale.
        amplitude: (B, N) up-sampled local amplitude.
        scale: (B, 1).

    Returns:
        Flux (B, N) and one-sigma error (B, N) in the unit of the input spectrum.
    """

    def call(self, raw, base, amplitude, scale):
        """See the class."""
        amplitude = ops.maximum(amplitude, _LEAST_AMPLITUDE)
        flux = base + amplitude * raw[..., 0]
        sigma = amplitude * ops.exp(ops.clip(raw[..., 1] - 1.5, *_LOG_SIGMA))
        return flux * scale, sigma * scale
