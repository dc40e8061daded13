"""Lines of a list on the pixels: positions, windows around them, rendering, widths."""

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import ANGSTROM_PER_UM, FWHM_PER_SIGMA
from data_pipeline.lines import load_lines
from kspecsr.layers import geometry
from kspecsr.layers.geometry import GridLayer, look_up, normal_shares


@keras.saving.register_keras_serializable("kspecsr")
class LinePositions(GridLayer):
    """Observed wavelengths and pixels of a list of lines.

    Args:
        grid: of `GridLayer`.
        lines: name of the list.

    Input shape:
        (B,) redshift.

    Returns:
        Dictionary of (B, K): ``wavelength`` [um]; ``prism_pixel`` and ``grid_pixel``, fractional;
        ``prism_sigma`` and ``reference_sigma`` [um], one-sigma widths of an unresolved line without the
        pixel's; ``in_range``, 1 where the line lies on both grids.
    """

    def __init__(self, grid, lines="first", **options):
        super().__init__(grid, **options)
        self.lines = str(lines)

    def call(self, redshift):
        rest = load_lines(self.lines).wavelength.astype("float32")
        wavelength = rest * (1.0 + redshift[:, None])  # (B, K)
        table = geometry.position_lookup(self.grid)
        log = ops.log(wavelength)
        place = (log - table["start"]) / table["step"]
        # Pixels by table: the prism's dispersion has no formula, while the grid is logarithmic by definition.
        prism_pixel = look_up(place, table["pixel"])
        grid_pixel = (log - np.log(self.grid[0])) * self.grid[2]
        last = self.unified.size - 1
        on_grid = ops.logical_and(grid_pixel >= 0.0, grid_pixel <= last)
        on_prism = ops.logical_and(prism_pixel >= 0.0, prism_pixel <= geometry.prism_wavelength().size - 1.0)
        return {
            "wavelength": wavelength,
            "prism_pixel": prism_pixel,
            "grid_pixel": grid_pixel,
            "prism_sigma": look_up(place, table["prism_sigma"]),
            "reference_sigma": look_up(place, table["reference_sigma"]),
            "in_range": ops.cast(ops.logical_and(on_grid, on_prism), "float32"),
        }

    def get_config(self):
        return {**super().get_config(), "lines": self.lines}


_MASK_REACH = 32  # pixels of the unified grid at sampling 3000, on either side of a line


@keras.saving.register_keras_serializable("kspecsr")
class LineMask(GridLayer):
    """Soft mask of the line list at a redshift (paper section 3.3).

    Every line in range adds a Gaussian with unit peak whose width is that of the reference instrument and of
    the redshift's own error together; the sum is capped at 1. It marks where lines may be, present or not.

    Inputs:
        grid_pixel, wavelength, reference_sigma, in_range: (B, K) of `LinePositions`.
        redshift, redshift_error: (B,).

    Output shape:
        (B, N), 0-1.
    """

    def call(self, grid_pixel, wavelength, reference_sigma, in_range, redshift, redshift_error):
        pixels = self.unified.size
        reach = int(np.ceil(_MASK_REACH * self.grid[2] / 3000.0))
        uncertain = (redshift_error / (1.0 + redshift))[:, None]
        width = self.grid[2] * ops.sqrt((reference_sigma / wavelength) ** 2 + uncertain**2 + 1e-12)
        # Wider ones would be cut by the window, and the cut would be an edge in the mask.
        width = ops.minimum(width, reach / 3.0)  # pixels
        # An infinite pixel becomes an undefined integer; clipped it lands outside, where `inside` drops it.
        nearest = ops.round(ops.clip(grid_pixel, -1e6, 1e6))
        offset = np.arange(-reach, reach + 1)
        place = offset.astype("float32") - (grid_pixel - nearest)[..., None]
        shape = ops.exp(-0.5 * (place / width[..., None]) ** 2) * in_range[..., None]
        index = ops.cast(nearest, "int32")[..., None] + offset.astype("int32")
        inside = ops.logical_and(index >= 0, index < pixels)
        batch = ops.shape(grid_pixel)[0]
        row = ops.arange(batch, dtype="int32")[:, None, None] * pixels
        # One list over the whole batch: segments are what every backend adds up without an (N, K) matrix per
        # spectrum.
        flat = ops.reshape(ops.where(inside, index, 0) + row, (-1,))
        shape = ops.reshape(ops.where(inside, shape, 0.0), (-1,))
        total = ops.segment_sum(shape, flat, num_segments=batch * pixels)
        return ops.stop_gradient(ops.minimum(ops.reshape(total, (batch, pixels)), 1.0))


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
        offset = self.spacing * np.arange(-self.half_width, self.half_width + 1, dtype="float32")
        place = pixel[..., None] + offset  # (B, K, window)
        lines, window = pixel.shape[1], offset.size
        values = geometry.sample(channels, ops.reshape(place, (-1, lines * window)))
        return ops.reshape(values, (-1, lines, window, channels.shape[-1]))

    def get_config(self):
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
                # Bins overlap where the window is no multiple of them, as in PyTorch's adaptive pooling: none
                # is empty.
                low, high = b * window // bins, -(-(b + 1) * window // bins)
                rows.append(np.isin(np.arange(window), np.arange(low, high)) / (high - low))
        self._average = np.array(rows, "float32")  # (bins, window)

    def call(self, x):
        average = ops.cast(ops.convert_to_tensor(self._average), x.dtype)
        pooled = ops.matmul(average, x)  # (B, bins, C)
        return ops.reshape(pooled, (-1, self._average.shape[0] * x.shape[-1]))


_PIXEL_VARIANCE = 1.0 / 12.0  # of a pixel's width [pixels^2]
_FARTHEST = 80.0  # squared distance from a line's centre, in its variance, that float32 follows
# The same for all lines, since windows of one batch have one shape; it is what rendering costs, and 2,500
# km/s is the broadest line that the decoder makes.
_DRAWN_REACH = 0.032  # of the wavelength, on either side of a line's centre: 3.8 sigma at 2,500 km/s


@keras.saving.register_keras_serializable("kspecsr")
class LineRendering(GridLayer):
    """Render lines on the unified grid, integrated over pixels so that each keeps its flux.

    The variance of a line is that of the reference instrument plus that of its velocities, so that no line is
    narrower than the instrument (paper section 3.3).

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

    def build(self, *_):
        """Prepare the widths of the pixels and the reach of a line."""
        unified = self.unified
        self._pixels, self._reach = unified.size, int(np.ceil(_DRAWN_REACH * self.grid[2]))
        width = np.diff(unified.bounds, axis=0)[0] * ANGSTROM_PER_UM
        self._width = width.astype("float32")  # Angstrom

    def call(self, flux, spread, place_error, wavelength, sigma, in_range):
        place = (ops.log(wavelength) - np.log(self.grid[0])) * self.grid[2]  # (B, K) pixels
        place = ops.clip(place, -1e6, 1e6)
        # Lines out of range may have any width; 0 would divide by 0, and NaN times `in_range` stays NaN.
        width = ops.maximum(sigma / wavelength * self.grid[2], 1e-3)
        nearest = ops.round(place)
        window = np.arange(-self._reach, self._reach + 1)
        edges = np.arange(-self._reach, self._reach + 2, dtype="float32") - 0.5
        # Relative to the nearest pixel: pixel numbers reach 6,000, and their differences would lose three of
        # float32's seven digits.
        share = normal_shares(edges, place - nearest, width)  # (B, K, window), adds up to 1
        index = ops.cast(nearest, "int32")[..., None] + window.astype("int32")
        inside = ops.logical_and(index >= 0, index < self._pixels)
        share = share * ops.cast(inside, "float32") * in_range[..., None]
        index = ops.where(inside, index, 0)
        per_angstrom = share / ops.take(ops.convert_to_tensor(self._width), index)
        shifted = self._displacement(window, place - nearest, width, place_error / wavelength * self.grid[2])
        height = flux[..., None] / ops.take(ops.convert_to_tensor(self._width), index)
        displaced = height**2 * shifted * ops.cast(inside, "float32") * in_range[..., None]
        # Lines are taken as independent here: variances of blended ones add up. What they share is learned in
        # their spread.
        variance = (spread[..., None] * per_angstrom) ** 2 + displaced
        values = ops.stack([flux[..., None] * per_angstrom, variance], axis=-1)
        drawn = self._deposit(values, index)  # (B, N, 2)
        return drawn[..., 0], drawn[..., 1]

    def _displacement(self, window, centre, width, place_error):
        """Mean square of what moving a line by a normal error of its place changes, (B, K, window).

        Of a Gaussian g of unit area: the mean of (g(x - d) - g(x))^2 over d, in closed form. Arguments are in
        pixels: the window from the pixel nearest to the line, and the line's (B, K) centre from there.
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


@keras.saving.register_keras_serializable("kspecsr")
class Fwhm(GridLayer):
    """Observed full width at half maximum, the pixel's width included.

    Inputs:
        sigma, wavelength: (B, K) [um].

    Output shape:
        (B, K) [um].
    """

    def call(self, sigma, wavelength):
        pixel = wavelength / self.grid[2]
        return np.float32(FWHM_PER_SIGMA) * ops.sqrt(sigma**2 + pixel**2 / 12.0)


@keras.saving.register_keras_serializable("kspecsr")
class EquivalentWidth(keras.layers.Layer):
    """Rest-frame equivalent widths [Angstrom]; NaN where the continuum is not detected.

    Inputs:
        line_flux: (B, K); continuum, error: (B, N); grid_pixel, in_range: (B, K); redshift: (B,).

    Output shape:
        (B, K).
    """

    def call(self, line_flux, continuum, error, grid_pixel, in_range, redshift):
        last = continuum.shape[1] - 1
        # clipped as an integer, so that a NaN stays with its spectrum
        index = ops.clip(ops.cast(ops.round(ops.clip(grid_pixel, -1e6, 1e6)), "int32"), 0, last)
        level = ops.take_along_axis(continuum, index, axis=1)
        # Forty pixels to the blue (4,000 km/s): under the line the error is the line's own.
        noise = ops.take_along_axis(error, ops.clip(index - 40, 0, last), axis=1)  # beside the line
        seen = ops.logical_and(level > noise, in_range > 0)
        width = line_flux / ops.where(seen, level, 1.0) / (1.0 + redshift[:, None])
        return ops.where(seen, width, float("nan"))
