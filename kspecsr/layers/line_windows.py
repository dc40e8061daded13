"""Stretches of the spectrum around each line, and their encoding at several scales."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.layers.table_lookup import sample

SCALES = (1, 3, 11)  # bins of the adaptive averages


@keras.saving.register_keras_serializable("kspecsr")
class LineWindows(keras.layers.Layer):
    """Samples channels around every line (paper section 3.3).

    Args:
        half_width: W; a window has 2 W + 1 samples.
        spacing: distance between samples [pixels of the input].

    Inputs:
        channels: (B, n, C).
        pixel: (B, K) fractional pixel of each line.

    Output shape:
        (B, K, 2 W + 1, C).
    """

    def __init__(self, half_width, spacing, **options):
        super().__init__(**options)
        self.half_width, self.spacing = int(half_width), float(spacing)

    def call(self, channels, pixel):
        """See the class."""
        offset = self.spacing * np.arange(-self.half_width, self.half_width + 1, dtype="float32")
        place = pixel[..., None] + offset  # (B, K, window)
        lines, window = pixel.shape[1], offset.size
        values = sample(channels, ops.reshape(place, (-1, lines * window)))
        return ops.reshape(values, (-1, lines, window, channels.shape[-1]))

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "half_width": self.half_width, "spacing": self.spacing}


@keras.saving.register_keras_serializable("kspecsr")
class MultiScalePooling(keras.layers.Layer):
    """Adaptive averages of a window in 1, 3 and 11 bins, side by side (paper section 3.3).

    Input shape:
        (B, window, C).

    Output shape:
        (B, 15 C); fewer where the window has fewer samples than bins.
    """

    def build(self, input_shape):
        """Averaging matrix."""
        window = input_shape[1]
        rows = []
        for bins in SCALES:
            if bins > window:
                continue
            for b in range(bins):
                low, high = b * window // bins, -(-(b + 1) * window // bins)
                rows.append(np.isin(np.arange(window), np.arange(low, high)) / (high - low))
        self._average = np.array(rows, "float32")  # (bins, window)

    def call(self, x):
        """See the class."""
        average = ops.cast(ops.convert_to_tensor(self._average), x.dtype)
        pooled = ops.matmul(average, x)  # (B, bins, C)
        return ops.reshape(pooled, (-1, self._average.shape[0] * x.shape[-1]))
