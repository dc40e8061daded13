"""What the networks see of a prism spectrum."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.layers.geometry import prism_position, prism_wavelength, unified_grid


@keras.saving.register_keras_serializable("kspecsr")
class PrismChannels(keras.layers.Layer):
    """Channels on the prism's pixels: flux, S/N, error, what is masked, and where on the detector.

    Inputs:
        flux, error, good, amplitude: (B, P) of `PrismNormalisation`.

    Output shape:
        (B, P, 7).
    """

    def call(self, flux, error, good, amplitude):
        """See the class."""
        centre = prism_wavelength()
        place = np.linspace(-1.0, 1.0, centre.size)
        # pixels are not evenly spaced in log wavelength: dispersion differs by a factor of four
        dispersion = np.log(np.gradient(centre) / centre) + 5.5
        fixed = np.stack([place, dispersion], axis=-1).astype("float32")
        fixed = ops.broadcast_to(fixed, (ops.shape(flux)[0], *fixed.shape))
        channels = ops.stack(
            [
                ops.arcsinh(flux),
                0.3 * ops.arcsinh(flux / error) * good,
                0.3 * ops.log(error),
                good,
                flux / amplitude * good,
            ],
            axis=-1,
        )
        return ops.concatenate([channels, fixed], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class ToGridChannels(keras.layers.Layer):
    """Stacks maps into channels, (B, n) each to (B, n, maps)."""

    def call(self, *maps):
        """See the class."""
        return ops.stack(maps, axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class SubPixelPhase(keras.layers.Layer):
    """Adds what depends on where within its prism pixel each pixel of the unified grid lies.

    Interpolated features know the prism's pixels only; a line is sharper than those.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Input shape:
        (B, N, C).

    Output shape:
        The same.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def build(self, input_shape):
        """Weights from phase and pixel size to the channels."""
        self._phase = _phase_channels(self.grid).astype("float32")
        self.kernel = self.add_weight(
            shape=(self._phase.shape[1], input_shape[-1]), initializer="glorot_uniform", name="kernel"
        )

    def call(self, x):
        """See the class."""
        phase = ops.cast(ops.convert_to_tensor(self._phase), x.dtype)
        return x + ops.matmul(phase, ops.cast(self.kernel, x.dtype))

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}


def _phase_channels(grid) -> np.ndarray:
    """(N, 5) sines and cosines of the phase and of its double, log of grid pixels per prism pixel."""
    wavelength = unified_grid(grid).wavelength
    place = prism_position(wavelength)
    per_pixel = 1.0 / np.maximum(np.gradient(place), 1e-6)
    angle = 2.0 * np.pi * (place - np.floor(place))
    waves = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
    return np.stack([*waves, np.log(per_pixel) - 2.0], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class SignalToNoise(keras.layers.Layer):
    """Compressed S/N per pixel, 0 where bad.

    Inputs:
        flux, error, good: (B, P).

    Output shape:
        (B, P).
    """

    def call(self, flux, error, good):
        """See the class."""
        return 0.5 * ops.arcsinh(flux / error) * good
