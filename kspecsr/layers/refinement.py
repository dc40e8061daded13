"""Continuum and lines put together, and compared with what was observed."""

from __future__ import annotations

import keras
from keras import ops

from kspecsr.consistency import PIXEL_NOISE_VARIANCE
from kspecsr.layers.geometry import PRISM_RESOLUTION_SCALE, degradation_matrix

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
        smooth: (B, N, 3) proposed continuum, logit of the share, log sigma.
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
        """See the class."""
        share = ops.sigmoid(smooth[..., 1])
        cap = self.residual_cap * brightest
        correction = ops.clip(share * (smooth[..., 0] - sr1_flux), -cap, cap)
        continuum = sr1_flux + correction
        flux = continuum + ops.clip(lines, -cap, cap)
        sigma = amplitude * ops.exp(ops.clip(smooth[..., 2] - 1.5, *_LOG_SIGMA))
        return flux, ops.sqrt(sigma**2 + line_variance), continuum, sigma

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "residual_cap": self.residual_cap}


@keras.saving.register_keras_serializable("kspecsr")
class PrismConsistency(keras.layers.Layer):
    """Chi-square per pixel of the degraded output against the prism (DESIGN section 2, point 3).

    Squared residuals are divided by the variance that a released pixel has: 2/3 of the quoted one, since
    pixels are interpolated from coarser detector pixels (facts, section 6). Pixels whose line-spread function
    reaches beyond the output's range do not count.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.
        resolution_scale: as in `PrismDegradation`.

    Inputs:
        flux, error, good, model: (B, P).

    Returns:
        Chi-square per pixel (B,), and the pixels that count (B, P), 1 or 0.
    """

    def __init__(self, grid, resolution_scale=PRISM_RESOLUTION_SCALE, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)
        self.resolution_scale = float(resolution_scale)

    def build(self, *_):
        """Pixels whose kernel lies on the grid."""
        self._interior = degradation_matrix(self.grid, self.resolution_scale)[1].astype("float32")

    def call(self, flux, error, good, model):
        """See the class."""
        seen = good * self._interior
        square = seen * ((flux - model) / error) ** 2 / PIXEL_NOISE_VARIANCE
        return ops.sum(square, axis=-1) / ops.maximum(ops.sum(seen, axis=-1), 1.0), seen

    def get_config(self):
        """Arguments, for saving."""
        return {
            **super().get_config(),
            "grid": list(self.grid),
            "resolution_scale": self.resolution_scale,
        }


@keras.saving.register_keras_serializable("kspecsr")
class EquivalentWidth(keras.layers.Layer):
    """Rest-frame equivalent widths [Angstrom]; NaN where the continuum is not detected.

    Inputs:
        line_flux: (B, K); continuum, error: (B, N); grid_pixel, in_range: (B, K); redshift: (B,).

    Output shape:
        (B, K).
    """

    def call(self, line_flux, continuum, error, grid_pixel, in_range, redshift):
        """See the class."""
        last = continuum.shape[1] - 1
        # clipped as an integer, so that a NaN stays with its spectrum
        index = ops.clip(ops.cast(ops.round(ops.clip(grid_pixel, -1e6, 1e6)), "int32"), 0, last)
        level = ops.take_along_axis(continuum, index, axis=1)
        noise = ops.take_along_axis(error, ops.clip(index - 40, 0, last), axis=1)  # beside the line
        seen = ops.logical_and(level > noise, in_range > 0)
        width = line_flux / ops.where(seen, level, 1.0) / (1.0 + redshift[:, None])
        return ops.where(seen, width, float("nan"))
