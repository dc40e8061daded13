"""Lines as pixel-integrated Gaussians on the unified grid."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import ANGSTROM_PER_UM
from kspecsr.layers.geometry import unified_grid

_PIXEL_VARIANCE = 1.0 / 12.0  # of a pixel's width [pixels^2]
_FARTHEST = 80.0  # squared distance from a line's centre, in its variance, that float32 follows
_REACH = 0.032  # of the wavelength, on either side of a line's centre: 3.8 sigma at 2,500 km/s


@keras.saving.register_keras_serializable("kspecsr")
class LineRendering(keras.layers.Layer):
    """Deposits lines on the unified grid; each carries its flux whatever its place within a pixel.

    The variance of a line is that of the reference instrument plus that of its velocities, so that no line is
    narrower than the instrument (paper section 3.3; DESIGN section 4).

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Inputs:
        flux: (B, K) line fluxes [flux density x Angstrom].
        spread: (B, K) one-sigma error of each line's profile, same unit.
        place_error: (B, K) one-sigma error of its centre [um], at most its width.
        wavelength: (B, K) centres [um].
        sigma: (B, K) one-sigma widths [um], without the pixel.
        in_range: (B, K) 1 or 0; lines with 0 leave nothing.

    Returns:
        Flux density (B, N) and its variance (B, N): of the profiles' heights, and of their places.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def build(self, *_):
        """Widths of the pixels, and room beyond both ends."""
        unified = unified_grid(self.grid)
        self._pixels, self._reach = unified.size, int(np.ceil(_REACH * self.grid[2]))
        width = np.diff(unified.bounds, axis=0)[0] * ANGSTROM_PER_UM
        self._width = width.astype("float32")  # Angstrom

    def call(self, flux, spread, place_error, wavelength, sigma, in_range):
        """See the class."""
        place = (ops.log(wavelength) - np.log(self.grid[0])) * self.grid[2]  # (B, K) pixels
        place = ops.clip(place, -1e6, 1e6)
        width = ops.maximum(sigma / wavelength * self.grid[2], 1e-3)
        nearest = ops.round(place)
        window = np.arange(-self._reach, self._reach + 1)
        edges = np.arange(-self._reach, self._reach + 2, dtype="float32") - 0.5
        from_centre = (edges - (place - nearest)[..., None]) / (np.float32(np.sqrt(2.0)) * width[..., None])
        cumulative = 0.5 * ops.erf(ops.clip(from_centre, -5.0, 5.0))
        share = cumulative[..., 1:] - cumulative[..., :-1]  # (B, K, window), adds up to 1
        index = ops.cast(nearest, "int32")[..., None] + window.astype("int32")
        inside = ops.logical_and(index >= 0, index < self._pixels)
        share = share * ops.cast(inside, "float32") * in_range[..., None]
        index = ops.where(inside, index, 0)
        per_angstrom = share / ops.take(ops.convert_to_tensor(self._width), index)
        shifted = self._displacement(window, place - nearest, width, place_error / wavelength * self.grid[2])
        height = flux[..., None] / ops.take(ops.convert_to_tensor(self._width), index)
        displaced = height**2 * shifted * ops.cast(inside, "float32") * in_range[..., None]
        variance = (spread[..., None] * per_angstrom) ** 2 + displaced
        values = ops.stack([flux[..., None] * per_angstrom, variance], axis=-1)
        drawn = self._deposit(values, index)  # (B, N, 2)
        return drawn[..., 0], drawn[..., 1]

    def _displacement(self, window, centre, width, place_error):
        """Mean square of what moving a line by a normal error of its place changes, (B, K, window).

        Of a Gaussian g of unit area: the mean of (g(x - d) - g(x))^2 over d, in closed form.

        Args:
            window: (window,) pixels from the nearest one.
            centre: (B, K) of the line, pixels from there.
            width: (B, K) one sigma without the pixel [pixels].
            place_error: (B, K) one sigma [pixels].
        """
        narrow = (width**2 + _PIXEL_VARIANCE)[..., None]  # variance of the profile, integrated over pixels
        moved = (place_error**2)[..., None] / narrow
        square = (window.astype("float32") - centre[..., None]) ** 2 / narrow
        square = ops.minimum(square, _FARTHEST)
        # logarithms of the means of g(x - d)^2 and g(x - d), in units of g(x)^2 and g(x): their differences
        # from 0 are what counts, and would be lost in float32
        of_square = 2.0 * moved * square / (1.0 + 2.0 * moved) - 0.5 * ops.log1p(2.0 * moved)
        of_mean = 0.5 * (moved * square / (1.0 + moved) - ops.log1p(moved))
        change = ops.maximum(ops.expm1(of_square) - 2.0 * ops.expm1(of_mean), 0.0)
        return change * ops.exp(-square) / (narrow * np.float32(2.0 * np.pi))

    def _deposit(self, values, index):
        """Adds (B, K, window, 2) values up at their pixels, (B, N, 2)."""
        batch = ops.shape(values)[0]
        row = ops.arange(batch, dtype="int32")[:, None, None] * self._pixels
        flat = ops.reshape(index + row, (-1,))
        total = ops.segment_sum(ops.reshape(values, (-1, 2)), flat, num_segments=batch * self._pixels)
        return ops.reshape(total, (batch, self._pixels, 2))

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}
