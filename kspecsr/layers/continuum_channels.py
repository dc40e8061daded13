"""Input and output of the continuum branch, on the prism's pixels."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

_UNDER_LINES = 6.0  # logit: how far the branch starts on the side of its own continuum under lines


@keras.saving.register_keras_serializable("kspecsr")
class ContinuumChannels(keras.layers.Layer):
    """Channels of the continuum branch, in units of the local amplitude where they are fluxes.

    Inputs:
        flux, error, good, amplitude: (B, P) of `PrismNormalisation`.
        base, model, line_mask: (B, P) of `DirectLineFit`.
        sr1_flux, sr1_error: (B, P) the first stage as the prism would see it.

    Output shape:
        (B, P, 10).
    """

    def call(self, flux, error, good, amplitude, base, model, line_mask, sr1_flux, sr1_error):
        """See the class."""
        place = np.linspace(-1.0, 1.0, flux.shape[-1]).astype("float32")
        return ops.stack(
            [
                ops.arcsinh(flux),
                0.3 * ops.arcsinh(flux / error) * good,
                0.3 * ops.log(error),
                good,
                (flux - base) / amplitude * good,
                0.5 * ops.arcsinh((flux - model) / error) * good,
                (sr1_flux - base) / amplitude,
                0.3 * ops.log(ops.maximum(sr1_error / amplitude, 1e-4)),
                line_mask,
                ops.broadcast_to(place, ops.shape(flux)),
            ],
            axis=-1,
        )


@keras.saving.register_keras_serializable("kspecsr")
class SmoothContinuum(keras.layers.Layer):
    """The continuum that the branch proposes, and how far to go towards it.

    Inputs:
        raw: (B, P, 3); base, amplitude, line_mask: (B, P).

    Output shape:
        (B, P, 4): continuum, logit of the share, log sigma, amplitude.
    """

    def call(self, raw, base, amplitude, line_mask):
        """See the class."""
        logit = 4.0 * raw[..., 1] + _UNDER_LINES * line_mask - 0.5 * _UNDER_LINES
        return ops.stack([base + amplitude * raw[..., 0], logit, raw[..., 2], amplitude], axis=-1)
