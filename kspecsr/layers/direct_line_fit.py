"""Direct line fit inside the graph: lines and continuum through the line-spread function."""

from functools import cache

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import ANGSTROM_PER_UM, PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import CORRELATED_NOISE
from data_pipeline.lines import list_of
from data_pipeline.lines.design import (
    BREAK_MARGIN,
    BREAKS,
    LEAST_SEEN,
    STAR_STEP,
    continuum_hats,
    stellar_absorption,
    tied_lines,
)
from kspecsr.layers.geometry import half_erf, look_up, normal_shares, position_lookup

# Much smaller than the data's own weight of a line that is seen (1 after scaling), and large enough that two
# lines in one pixel leave a matrix that float32 can factorise.
RIDGE = 3e-4  # of a column's own weight: shares flux evenly between lines that cannot be told apart
# Finite, since its logarithm goes into the tokens; far beyond any error in units of the spectrum.
_UNMEASURED = 1e6  # error of what is not measured, in scale x Angstrom
# Without it the brightest lines would be known to 0.1 %, and what the tabulated line-spread function gets
# wrong would be fitted with faint neighbours.
SYSTEMATIC = 0.02  # of the local amplitude: imperfect line-spread function, flat field


class PrismColumns(keras.layers.Layer):
    """Columns of a linear model of the prism spectrum: lines, hat functions, breaks, stars.

    Args:
        knots: number of hat functions of the continuum.
        stars: a column for the Balmer break and absorption lines of stars (`stellar_absorption`).
    """

    def __init__(self, knots=30, stars=False, **options):
        super().__init__(**options)
        self.knots, self.stars = int(knots), bool(stars)

    def build(self, *_):
        """Prepare the columns that are the same for all spectra."""
        # Kept as NumPy arrays, not as weights: constants of the instrument are in no weight file, and a
        # change of the tables reaches old models.
        prism = load_instrument(PRISM)
        edges = np.append(prism.bounds[0], prism.bounds[1, -1])  # neighbours share theirs
        self._edges = edges.astype("float32")
        self._width = (np.diff(edges) * ANGSTROM_PER_UM).astype("float32")  # Angstrom
        self._centre = prism.wavelength.astype("float32")
        self._hats = continuum_hats(self._centre.size, self.knots).astype("float32")
        if self.stars:
            self._star_start, table = stellar_absorption(prism)
            self._star_table = table.astype("float32")

    def _profiles(self, wavelength, sigma):
        """(B, K, P) unit-flux lines on the pixels [1/Angstrom]."""
        return normal_shares(self._edges, wavelength, sigma) / self._width

    def _continuum(self, redshift):
        """(B, knots + breaks, P) hat functions, smoothed steps at the breaks, and stars where asked for."""
        table = position_lookup((0.7, 5.3, 3000.0))  # the prism's width does not depend on the grid
        at = np.array(BREAKS, "float32") * (1.0 + redshift[:, None])
        sigma = look_up((ops.log(at) - table["start"]) / table["step"], table["prism_sigma"])
        # The break is smoothed by the prism's own width at that place; a sharp edge would leave residuals of
        # the size of a line.
        step = 0.5 + half_erf(self._centre, at, sigma)
        # A step at the very end of the data is all but a constant, which the hat functions already are.
        inside = ops.logical_and(at > self._centre[BREAK_MARGIN], at < self._centre[-1 - BREAK_MARGIN])
        hats = ops.broadcast_to(self._hats, (ops.shape(redshift)[0], *self._hats.shape))
        columns = [hats, step * ops.cast(inside, "float32")[..., None]]
        if self.stars:
            columns.append(self._star_column(redshift)[:, None])
        return ops.concatenate(columns, axis=1)

    def _star_column(self, redshift):
        """(B, P) of `stellar_absorption`, linear between its steps."""
        pixels, length = self._star_table.shape
        logarithm = np.log(self._centre) - ops.log1p(redshift)[:, None]
        place = ops.clip((logarithm - self._star_start) / STAR_STEP, 0.0, length - 1.001)
        below = ops.floor(place)
        row = ops.cast(below, "int32") + length * np.arange(pixels, dtype="int32")
        low, high = (ops.take(self._star_table.reshape(-1), row + one) for one in (0, 1))
        return low + (place - below) * (high - low)

    def get_config(self):
        return {**super().get_config(), "knots": self.knots, "stars": self.stars}


@cache
def _ties(count):
    """(K, K') flux of each line per free flux, of the list that has so many lines; float32."""
    return tied_lines(list_of(count)).matrix(count).astype("float32")


@keras.saving.register_keras_serializable("kspecsr")
class DirectLineFit(PrismColumns):
    """Linear least squares for line fluxes and continuum at a known redshift.

    Columns: the prism's line profile for every line, doublets tied at their tabulated ratios; hat functions;
    smoothed steps at the Lyman, Balmer and 4000 Angstrom breaks; and stars. One Cholesky factorisation per
    spectrum.

    Args:
        knots, stars: of `PrismColumns`.

    Inputs:
        flux: (B, P) in units of the spectrum's scale.
        error: (B, P) one sigma.
        good: (B, P) 1 or 0.
        amplitude: (B, P) local amplitude.
        wavelength, prism_sigma, in_range: (B, K) of `LinePositions`.
        redshift: (B,).

    Returns:
        Dictionary: ``flux`` and ``error`` of each line (B, K) [scale x Angstrom]; ``isolated_error`` (B, K),
        the error if nothing else had to be fitted; ``constrained`` (B, K), 1 where good pixels see the line;
        ``continuum`` and ``model`` (B, P); ``line_mask`` (B, P), 0-1, where lines may be.
    """

    def call(self, flux, error, good, amplitude, wavelength, prism_sigma, in_range, redshift):
        # Lines out of range leave a column of zeros rather than no column: shapes stay fixed, which tracing
        # and batching need.
        profile = self._profiles(wavelength, prism_sigma) * in_range[..., None]  # (B, K, P)
        tie = _ties(wavelength.shape[1])
        weight = good / (error**2 + (SYSTEMATIC * amplitude) ** 2)  # (B, P)
        tied = ops.matmul(tie.T, profile)  # (B, K', P)
        # Continuum and breaks are columns too and are solved for together with the lines: a continuum that is
        # taken off first keeps part of every broad blend.
        columns = ops.concatenate([tied, self._continuum(redshift)], axis=1)  # (B, n, P)
        # unit weighted norm; a column outside the range stays zero and costs nothing
        norm = ops.sqrt(ops.einsum("bnp,bp->bn", columns**2, weight))
        # Unseen columns get 1 on the diagonal below: the matrix stays positive definite, and their solution
        # is 0.
        seen = ops.cast(norm > 1e-6, "float32")
        scaled = columns * (seen / ops.maximum(norm, 1e-6))[..., None]
        weighted = scaled * weight[:, None, :]
        # Normal equations, not a QR of the columns: 90 x 90 instead of 706 x 90 per spectrum, and `cholesky`
        # is what every backend and a stock TensorFlow server have batched.
        normal = ops.matmul(weighted, ops.transpose(scaled, (0, 2, 1)))
        n = normal.shape[-1]
        identity = np.eye(n, dtype="float32")
        normal = normal + identity * (RIDGE + 1.0 - seen)[:, None, :]
        right = ops.einsum("bnp,bp->bn", weighted, flux)
        # The whole inverse factor is needed for the variances, so that the right-hand side costs two products
        # more and no solve of its own.
        factor = ops.cholesky(normal)
        lower = ops.solve_triangular(
            factor, ops.broadcast_to(identity, ops.shape(normal)), lower=True
        )  # (B, n, n)

        def solve(vector):
            return ops.einsum("bij,bi->bj", lower, ops.einsum("bij,bj->bi", lower, vector))

        solution = solve(right)
        # once more on what is left: lines that can hardly be told apart lose digits in the normal equations
        left = flux - ops.einsum("bn,bnp->bp", solution, scaled)
        solution = solution + solve(ops.einsum("bnp,bp->bn", weighted, left) - RIDGE * solution)
        variance = ops.sum(lower**2, axis=1)  # diagonal of the inverse
        model = ops.einsum("bn,bnp->bp", solution, scaled)
        free = tie.shape[1]
        continuum = ops.einsum("bn,bnp->bp", solution[:, free:], scaled[:, free:])
        per_norm = (seen / ops.maximum(norm, 1e-6))[:, :free]
        lines = solution[:, :free] * per_norm
        sigma = ops.sqrt(variance[:, :free]) * per_norm * CORRELATED_NOISE
        # The noise of the line if it stood alone: the unit in which fluxes are predicted. The fitted error
        # would make a blended line's unit large, and its S/N always small.
        own = ops.sqrt(ops.einsum("bkp,bp->bk", profile**2, weight))
        # a line in a gap, or beyond an end, is not measured at all
        seen = ops.einsum("bkp,bp->bk", profile**2, good)
        constrained = seen > LEAST_SEEN * ops.sum(profile**2, axis=-1) + 1e-20
        error = ops.where(constrained, ops.matmul(sigma, tie.T), _UNMEASURED)
        peak = ops.max(profile, axis=-1, keepdims=True)
        # nothing before the fit is trained; a gradient through the factorisation could only do harm
        fitted = {
            "flux": ops.where(constrained, ops.matmul(lines, tie.T), 0.0),
            "error": error,
            "isolated_error": ops.where(constrained, CORRELATED_NOISE / ops.maximum(own, 1e-6), 1.0),
            "constrained": ops.cast(constrained, "float32"),
            "continuum": continuum,
            "model": model,
            "line_mask": ops.max(profile / ops.maximum(peak, 1e-12), axis=1),
        }
        return {name: ops.stop_gradient(value) for name, value in fitted.items()}
