"""Assembly of the output spectrum from continuum and lines."""

import keras
import numpy as np
from keras import ops

# In units of the amplitude: the error of a pixel may fall to 3e-4 of it, and no further, or one confident
# pixel is the whole loss of a batch.
_LOG_SIGMA = (-8.0, 3.0)


@keras.saving.register_keras_serializable("kspecsr")
class Refinement(keras.layers.Layer):
    """The second super-resolution: SR1 plus a smooth continuum correction plus lines (paper section 3.3).

    The continuum branch proposes a smooth continuum and, per pixel, how far to go towards it from SR1: fully
    under lines, which the line branch then draws, and hardly elsewhere.

    Args:
        residual_cap: largest correction in units of the brightest prism pixel.

    Inputs:
        sr1_flux: (B, N) in units of the scale.
        smooth: (B, N, 3) proposed continuum, logit of its weight against SR1, log sigma.
        amplitude: (B, N).
        lines, line_variance: (B, N) of `LineRendering`.
        brightest: (B, 1) brightest flux.

    Returns:
        Flux, error, continuum and the part of the error that lines have no share in, (B, N) each, in units
        of the scale.
    """

    def __init__(self, residual_cap=50.0, **options):
        super().__init__(**options)
        self.residual_cap = float(residual_cap)

    def call(self, sr1_flux, smooth, amplitude, lines, line_variance, brightest):
        share = ops.sigmoid(smooth[..., 1])
        # Of the brightest pixel and not of the pixel itself: a line may outshine its continuum a hundredfold,
        # but nothing can be brighter than what the prism saw by more than its loss of resolution.
        cap = self.residual_cap * brightest
        correction = ops.clip(share * (smooth[..., 0] - sr1_flux), -cap, cap)
        continuum = sr1_flux + correction
        # Capped apart from each other: otherwise a large continuum correction could hide a large line of the
        # other sign.
        flux = continuum + ops.clip(lines, -cap, cap)
        sigma = amplitude * ops.exp(ops.clip(smooth[..., 2] - 1.5, *_LOG_SIGMA))
        # Continuum and lines err independently; the calibration scales the two parts by factors of their own,
        # hence both are returned.
        return flux, ops.sqrt(sigma**2 + line_variance), continuum, sigma

    def get_config(self):
        return {**super().get_config(), "residual_cap": self.residual_cap}


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
        amplitude = ops.maximum(amplitude, _LEAST_AMPLITUDE)
        flux = base + amplitude * raw[..., 0]
        sigma = amplitude * ops.exp(ops.clip(raw[..., 1] - 1.5, *_LOG_SIGMA))
        return flux * scale, sigma * scale


# Six is 3 to either side: a share of 0.95 under lines and of 0.05 elsewhere, which training can still move.
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
        # Convolutions do not know where they are; the prism's flux calibration and its line-spread function
        # do depend on it.
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
        logit = 4.0 * raw[..., 1] + _UNDER_LINES * line_mask - 0.5 * _UNDER_LINES
        return ops.stack([base + amplitude * raw[..., 0], logit, raw[..., 2], amplitude], axis=-1)
