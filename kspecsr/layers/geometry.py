"""Pixel geometry that several layers share: the unified grid, look-up tables, interpolation in a graph."""

from functools import lru_cache

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.lines.profile import line_sigma
from data_pipeline.pixel_grid import UnifiedGrid

Grid = tuple[float, float, float]  # start [um], stop [um], sampling: a `UnifiedGrid` as plain numbers

# Wider than any pixel grid: lines out of range are looked up too, and held ends would put them all on one
# pixel. With 8192 nodes linear interpolation is right to 0.013 prism pixels.
_LOOKUP = (0.30, 7.0, 8192)  # um, um, nodes of the logarithmic look-up of pixel and width


def plain_grid(grid: UnifiedGrid) -> Grid:
    """The grid as the arguments that layers keep in their configuration."""
    return (grid.start, grid.stop, grid.sampling)


class GridLayer(keras.layers.Layer):
    """A layer that depends on the unified grid.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    @property
    def unified(self) -> UnifiedGrid:
        """The grid, N pixels."""
        return UnifiedGrid(*self.grid)

    def get_config(self):
        return {**super().get_config(), "grid": list(self.grid)}


@lru_cache(maxsize=1)
def prism_wavelength() -> np.ndarray:
    """(P,) centres of the prism's pixels [um]."""
    return load_instrument(PRISM).wavelength


@lru_cache(maxsize=8)
def position_lookup(grid: Grid) -> dict[str, np.ndarray | float]:
    """Tables over log wavelength: prism pixel, sigma of the prism, sigma of the reference instrument.

    Returns:
        ``start`` and ``step`` of the natural logarithm of the wavelength [um], and three arrays of the
        values at the nodes: ``pixel``, ``prism_sigma`` and ``reference_sigma`` [um], the pixel's own width
        taken off both.
    """
    low, high, nodes = _LOOKUP
    log = np.linspace(np.log(low), np.log(high), nodes)
    wavelength = np.exp(log)
    prism, reference = load_instrument(PRISM), reference_instrument(UnifiedGrid(*grid))
    return {
        "start": float(log[0]),
        "step": float(log[1] - log[0]),
        "pixel": prism.position(wavelength),
        # The pixel's width is taken off since lines are integrated over pixels where they are drawn: it would
        # count twice.
        "prism_sigma": line_sigma(prism, wavelength, 0.0),
        "reference_sigma": line_sigma(reference, wavelength, 0.0, pixel=wavelength / grid[2]),
    }


def look_up(place, table: np.ndarray):
    """Linear interpolation in a plain table (n,) at fractional indices of any shape; its ends are held."""
    n = table.shape[0]
    place = ops.clip(place, 0.0, n - 1.0)
    # The last node belongs to the interval before it, or the node after it would be read beyond the table.
    left = ops.minimum(ops.floor(place), n - 2.0)
    share = place - left
    # clipped once more: a NaN becomes some integer, and a gather beyond the table would end the whole batch
    left = ops.clip(ops.cast(left, "int32"), 0, n - 2)
    # Made a tensor in the call, not in `build`: a tensor that is made while one graph is traced cannot be
    # used in another.
    values = ops.convert_to_tensor(table.astype("float32"))
    return ops.take(values, left) * (1.0 - share) + ops.take(values, left + 1) * share


def sample(x, place):
    """Channels (B, n, C) at fractional pixels (B, m), by linear interpolation; ends are held; (B, m, C)."""
    n, channels, samples = x.shape[1], x.shape[2], place.shape[1]
    place = ops.clip(place, 0.0, n - 1.0)
    left = ops.minimum(ops.floor(place), n - 2.0)
    share = (place - left)[..., None]
    # rows of all spectra in one list: along an axis, TensorFlow goes by way of 64-bit indices
    row = ops.arange(ops.shape(x)[0], dtype="int32")[:, None] * n
    index = ops.reshape(ops.clip(ops.cast(left, "int32"), 0, n - 2) + row, (-1,))  # NaN: as above
    rows = ops.reshape(x, (-1, channels))
    before, after = (
        ops.reshape(ops.take(rows, index + step, axis=0), (-1, samples, channels)) for step in (0, 1)
    )
    return before * (1.0 - share) + after * share


def normal_shares(edges, centre, sigma):
    """Share of each line's flux in pixels (B, K, n): twin of `data_pipeline.lines.profile.pixel_mean`.

    Edges (..., n + 1) of neighbouring pixels, centres and one-sigma widths (B, K) before the integration over
    pixels, all in one unit.
    """
    cumulative = half_erf(edges, centre, sigma)
    return cumulative[..., 1:] - cumulative[..., :-1]


def half_erf(place, centre, sigma):
    """Cumulative normal distribution less one half, (B, K, n) for (..., n) places and (B, K) lines."""
    # Float32's error function is 1 beyond 4; clipped, its gradient is an exact 0 there, and a line that lies
    # infinitely far outside gives none that is not finite.
    scaled = (place - centre[..., None]) / (np.float32(np.sqrt(2.0)) * sigma[..., None])
    return 0.5 * ops.erf(ops.clip(scaled, -5.0, 5.0))
