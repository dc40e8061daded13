"""What the redshift network sees, in steps of log wavelength."""

from __future__ import annotations

import keras
from keras import ops

_SURROUNDINGS = 121  # steps of the running mean that is taken off


@keras.saving.register_keras_serializable("kspecsr")
class RedshiftChannels(keras.layers.Layer):
    """Channels on log wavelength from the first stage's output and the prism's S/N.

    Everything is zero where the prism has no data, so that a shifted spectrum gives shifted channels.

    Args:
        pooling: pixels of the unified grid per step.

    Inputs:
        flux, error: (B, N) of the first stage.
        scale: (B, 1).
        prism: (B, N, 2) S/N (arcsinh) and good pixels of the prism, up-sampled.

    Returns:
        Channels (B, M, 5) and coverage (B, M, 1), 1 or 0, with M = N // pooling.
    """

    def __init__(self, pooling, **options):
        super().__init__(**options)
        self.pooling = int(pooling)

    def call(self, flux, error, scale, prism):
        """See the class."""
        coverage = ops.cast(self._pooled(prism[..., 1]) > 0.5, "float32")
        mean = self._pooled(flux / scale) * coverage
        sigma = ops.maximum(self._pooled(error / scale), 1e-5)
        around = ops.average_pool(mean[..., None], _SURROUNDINGS, strides=1, padding="same")[..., 0]
        channels = ops.stack(
            [
                ops.arcsinh(mean),
                0.2 * ops.log(sigma),
                0.5 * ops.arcsinh(mean / sigma),
                0.5 * ops.arcsinh((mean - around) / sigma),
                self._pooled(prism[..., 0]),
            ],
            axis=-1,
        )
        return channels * coverage[..., None], coverage[..., None]

    def _pooled(self, x):
        length = x.shape[1] // self.pooling
        x = ops.reshape(x[:, : length * self.pooling], (-1, length, self.pooling))
        return ops.mean(x, axis=-1)

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "pooling": self.pooling}


@keras.saving.register_keras_serializable("kspecsr")
class LogProbability(keras.layers.Layer):
    """Normalised log probability over redshift bins from scores.

    Inputs:
        scores: (B, Z, G); refined: (B, Z, 1).

    Output shape:
        (B, Z).
    """

    def call(self, scores, refined):
        """See the class."""
        return ops.log_softmax(ops.sum(scores, axis=-1) + refined[..., 0], axis=-1)
