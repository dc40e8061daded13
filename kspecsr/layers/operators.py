"""The instrument as layers: up-sampling to the unified grid, and degradation back to the prism."""

import keras
import numpy as np
from keras import ops
from scipy import sparse

from data_pipeline.instrument import PRISM, LineSpreadOperator, degrading_operator, load_instrument
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from data_pipeline.resampling import cubic_interpolation
from kspecsr.layers.geometry import GridLayer

# Factor on the tabulated prism resolving power that reduced JADES spectra show.
PRISM_RESOLUTION_SCALE = load_instrument(PRISM).scale
_GRID_BLOCK, _PRISM_BLOCK = 64, 16  # output pixels that share one gathered stretch of input


@keras.saving.register_keras_serializable("kspecsr")
class Upsampling(GridLayer):
    """Cubic interpolation in prism pixels (paper section 3.1, as a layer).

    The matrix is applied in dense blocks of rows: no scatter in its gradient, little memory.

    Input shape:
        (B, P, C) on the prism's pixels.

    Output shape:
        (B, N, C) on the unified grid.
    """

    def build(self, *_):
        """Cuts the matrix into blocks."""
        prism = load_instrument(PRISM)
        place = prism.position(self.unified.wavelength)
        self._apply = BlockProduct(cubic_interpolation(place, prism.wavelength.size), _GRID_BLOCK)

    def call(self, x):
        channels = x.shape[-1]
        # pixels first: then each block is one large product over batch and channels together
        rows = ops.reshape(ops.transpose(x, (1, 0, 2)), (x.shape[1], -1))  # (P, B C)
        out = ops.reshape(self._apply(rows), (self.unified.size, -1, channels))
        return ops.transpose(out, (1, 0, 2))


class BlockProduct:
    """Product of a banded matrix (n_out, n_in) with (n_in, C), in blocks of rows (`matrix_blocks`)."""

    def __init__(self, matrix: sparse.csr_matrix, size: int):
        first, weights = matrix_blocks(matrix, size)
        self._blocks, self._size, self._width = weights.shape
        self._rows = matrix.shape[0]
        # Neighbouring blocks share input pixels, which are copied: matrix products want them side by side.
        self._index = (first[:, None] + np.arange(self._width)).reshape(-1).astype("int32")
        self._weights = weights.astype("float32")

    def __call__(self, x):
        count = ops.shape(x)[1]
        stretches = ops.reshape(ops.take(x, self._index, axis=0), (self._blocks, self._width, count))
        weights = ops.cast(ops.convert_to_tensor(self._weights), x.dtype)
        return ops.reshape(ops.matmul(weights, stretches), (self._blocks * self._size, count))[: self._rows]


def matrix_blocks(matrix: sparse.csr_matrix, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A banded matrix (n_out, n_in) as blocks of ``size`` rows.

    Returns:
        ``first`` (blocks,), the input pixel at which each block starts, and ``weights`` (blocks, size, width)
        so that rows of block b are ``weights[b] @ x[first[b] : first[b] + width]``. Rows beyond n_out are 0.
    """
    n_out, n_in = matrix.shape
    blocks = -(-n_out // size)
    stretches = []
    for b in range(blocks):
        columns = matrix[b * size : (b + 1) * size].indices
        stretches.append((columns.min(), columns.max() + 1) if columns.size else (0, 1))
    width = max(high - low for low, high in stretches)
    # All blocks read stretches of one width, so that they stack; at the end it is moved inwards.
    first = np.array([min(low, n_in - width) for low, _ in stretches])
    weights = np.zeros((blocks, size, width))
    for b in range(blocks):
        part = matrix[b * size : (b + 1) * size, first[b] : first[b] + width].toarray()
        weights[b, : part.shape[0]] = part
    return first, weights


class _ToPrism(GridLayer):
    """A layer that knows the line-spread operator from the unified grid to the prism's pixels.

    Args:
        grid: as in `GridLayer`.
        resolution_scale: factor on the tabulated prism resolving power (1.22, as in reduced spectra).
    """

    def __init__(self, grid, resolution_scale=PRISM_RESOLUTION_SCALE, **options):
        super().__init__(grid, **options)
        self.resolution_scale = float(resolution_scale)

    def operator(self) -> LineSpreadOperator:
        """From the grid, at the resolution of the reference, to the prism's pixels."""
        return degrading_operator(self.unified, self.resolution_scale)

    def get_config(self):
        return {**super().get_config(), "resolution_scale": self.resolution_scale}


@keras.saving.register_keras_serializable("kspecsr")
class PrismDegradation(_ToPrism):
    """Line-spread operator from the unified grid to the prism's pixels.

    The same matrix as `Instrument.line_spread_operator`, in dense blocks of rows: quicker on a CPU than
    gathering 400 neighbours for each of 700 pixels, and a seventh of the whole matrix. Pixels whose kernel
    reaches beyond the grid are scaled to the part that they see.

    Input shape:
        (B, N) on the unified grid.

    Output shape:
        (B, P) on the prism's pixels.
    """

    def build(self, *_):
        """Reads the operator, and cuts it into blocks."""
        operator = self.operator()
        seen = np.asarray(operator.matrix.sum(axis=1)).ravel()
        # Beyond the interior half the kernel may be missing; with less than half seen the pixel fades instead
        # of being blown up.
        scale = np.where(operator.interior, 1.0, 1.0 / np.maximum(seen, 0.5))
        matrix = sparse.csr_matrix(sparse.diags(scale) @ operator.matrix)
        self._apply = BlockProduct(matrix, _PRISM_BLOCK)

    def call(self, flux):
        return ops.transpose(self._apply(ops.transpose(flux)))


@keras.saving.register_keras_serializable("kspecsr")
class PrismConsistency(_ToPrism):
    """Chi-square per pixel of the degraded output against the prism.

    Squared residuals are divided by the variance that a released pixel has: 2/3 of the quoted one, since
    pixels are interpolated from coarser detector pixels. Pixels whose line-spread function
    reaches beyond the output's range do not count.

    Inputs:
        flux, error, good, model: (B, P).

    Returns:
        Chi-square per pixel (B,), and the pixels that count (B, P), 1 or 0.
    """

    def build(self, *_):
        """Pixels whose kernel lies on the grid."""
        self._interior = self.operator().interior.astype("float32")

    def call(self, flux, error, good, model):
        seen = good * self._interior
        square = seen * ((flux - model) / error) ** 2 / PIXEL_NOISE_VARIANCE
        return ops.sum(square, axis=-1) / ops.maximum(ops.sum(seen, axis=-1), 1.0), seen
