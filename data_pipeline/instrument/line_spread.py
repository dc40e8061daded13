"""Line-spread functions as banded operators between pixel grids."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import erf

SPEED_OF_LIGHT = 299_792.458  # km/s, exact
ANGSTROM_PER_UM = 1e4  # wavelengths are in um, flux densities per Angstrom
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
REACH = 6.0  # kernels are cut at this many sigma: 2e-9 of the flux lies beyond
BALANCE_STEPS = 4  # the imbalance is smooth and below 1e-3, so that few steps reach 1e-6
MINIMUM_COVERAGE = 0.999  # share of its kernel that a pixel must see to count as interior


@dataclass(frozen=True)
class LineSpreadOperator:
    """Operator from flux density on one grid to flux density on another at an instrument's resolution.

    Attributes:
        matrix: (n_out, n_in) CSR; rows of interior pixels sum to 1.
        coverage: (n_out,) share of each pixel's kernel that lies on the input grid.
    """

    matrix: sparse.csr_matrix
    coverage: np.ndarray

    @property
    def interior(self) -> np.ndarray:
        """(n_out,) bool: pixels whose kernel lies on the input grid."""
        return self.coverage >= MINIMUM_COVERAGE

    def apply(self, flux: np.ndarray) -> np.ndarray:
        """Degrades flux density (..., n_in) to (..., n_out), incomplete outside ``interior``."""
        flux = np.asarray(flux, dtype=np.float64)
        return (self.matrix @ flux.reshape(-1, flux.shape[-1]).T).T.reshape(*flux.shape[:-1], -1)

    def propagate_mask(self, mask: np.ndarray) -> np.ndarray:
        """(n_out,) bool: True where more than a tenth of the kernel saw bad input or no input."""
        seen = self.matrix @ (~np.asarray(mask, bool)).astype(np.float64)
        return (seen < 0.9) | ~self.interior


def line_spread_operator(
    bounds_in: np.ndarray,
    bounds_out: np.ndarray,
    sigma: Callable[[np.ndarray], np.ndarray],
    sigma_in: Callable[[np.ndarray], np.ndarray] | None = None,
) -> LineSpreadOperator:
    """Gaussian line-spread operator between two pixel grids.

    The kernel between two pixels is integrated over both and its width is that at the midpoint between
    them, which makes it symmetric; a smooth factor per wavelength then makes a flat spectrum come out
    flat *and* conserves the flux of every line, at the price of a centroid shift of half the gradient
    of sigma^2 (below 0.03 pixel for the NIRSpec prism). ``sigma`` is the total observed width
    including the pixel, as it is measured on extracted spectra, so the variances of both boxes are taken
    off the kernel: for a line of width s (second moment on its pixels), s_out^2 = s^2 + sigma^2.

    Args:
        bounds_in: (2, n_in) bounds of the input pixels [um].
        bounds_out: (2, n_out) bounds of the output pixels [um].
        sigma: wavelength [um] to the observed one-sigma width [um] of an unresolved line.
        sigma_in: the same for the input, if it has a line-spread function already; None for an
            intrinsic spectrum.

    Raises:
        ValueError: where the input is already broader than the output.
    """

    def kernel_variance(wavelength: np.ndarray, *widths: np.ndarray) -> np.ndarray:
        total = sigma(wavelength) ** 2
        variance = total - sum(width**2 for width in widths) / 12.0
        if sigma_in is not None:
            variance = variance - sigma_in(wavelength) ** 2
        if np.any(variance <= 0) and sigma_in is not None:
            worst = float(np.asarray(wavelength)[np.argmin(variance / total)])
            raise ValueError(
                f"the input is as broad as the output at {worst:.3f} um; expected a sharper input. "
                "Exchange the instruments or raise the input's resolving power."
            )
        # An undersampled line-spread function is narrower than its pixel: the boxes do the smoothing.
        return np.maximum(variance, 1e-4 * total)

    centre_in, width_in = bounds_in.mean(axis=0), np.diff(bounds_in, axis=0)[0]
    centre_out, width_out = bounds_out.mean(axis=0), np.diff(bounds_out, axis=0)[0]
    low = np.searchsorted(bounds_in[1], bounds_out[0] - _reach(sigma, bounds_out[0], -1), "right")
    high = np.searchsorted(bounds_in[0], bounds_out[1] + _reach(sigma, bounds_out[1], +1), "left")
    count = np.maximum(high - low, 0)
    row = np.repeat(np.arange(centre_out.size), count)
    column = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)

    middle = 0.5 * (centre_in[column] + centre_out[row])
    spread = np.sqrt(kernel_variance(middle, width_in[column], width_out[row]))
    shared = _gaussian_over_boxes(bounds_out[:, row], bounds_in[:, column], spread)
    balance = _balance(bounds_in, bounds_out, kernel_variance)
    weight = shared * balance(centre_out)[row] * balance(centre_in)[column] / width_out[row]

    matrix = sparse.csr_matrix((weight, (row, column)), shape=(centre_out.size, centre_in.size))
    coverage = np.asarray(matrix.sum(axis=1)).ravel()
    # Interior rows are made to add up to 1 exactly; at the ends the missing part is left missing, or noise
    # there would be blown up.
    scale = np.where(coverage >= MINIMUM_COVERAGE, coverage, 1.0)
    return LineSpreadOperator(
        sparse.csr_matrix(sparse.diags(1.0 / scale) @ matrix), np.minimum(coverage, 1.0)
    )


def _reach(sigma: Callable, wavelength: np.ndarray, direction: int) -> np.ndarray:
    """Distance at which the kernel is cut, in the larger of the widths here and there."""
    near = sigma(wavelength)
    return REACH * np.maximum(near, sigma(wavelength + direction * REACH * near))


def _gaussian_over_boxes(box_a: np.ndarray, box_b: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Integral of a normal density of x - y over x in box a and y in box b, in closed form."""

    def ramp(x: np.ndarray) -> np.ndarray:
        t = x / sigma
        return 0.5 * x * (1.0 + erf(t / np.sqrt(2.0))) + sigma * np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)

    return (
        ramp(box_a[1] - box_b[0])
        - ramp(box_a[1] - box_b[1])
        - ramp(box_a[0] - box_b[0])
        + ramp(box_a[0] - box_b[1])
    )


def _balance(bounds_in: np.ndarray, bounds_out: np.ndarray, kernel_variance: Callable) -> Callable:
    """Smooth factor s with s(x) * integral of K(x, y) s(y) dy = 1, on a grid that outreaches both."""
    low, high = min(bounds_in[0, 0], bounds_out[0, 0]), max(bounds_in[1, -1], bounds_out[1, -1])
    coarse = np.linspace(low, high, 200)
    relative = np.sqrt(kernel_variance(coarse)) / coarse
    # Two points per sigma: sums of a Gaussian over them are integrals to 1e-30.
    log_step = np.log1p(0.5 * relative.min())
    half = int(np.ceil(2 * REACH * relative.max() / relative.min()))
    count = int(np.ceil(np.log(high / low) / log_step)) + 2 * half
    x = low * np.exp((np.arange(count) - half) * log_step)
    spacing = x * log_step

    offset = np.arange(-half, half + 1)
    index = np.arange(count)[:, None] + offset
    inside = (index >= 0) & (index < count)
    index = np.clip(index, 0, count - 1)
    # The pixel boxes broaden both sides alike, so the continuous kernel without them shows the imbalance.
    y = x[index]
    middle = np.clip(0.5 * (x[:, None] + y), low, high)
    variance = kernel_variance(middle)
    kernel = np.exp(-0.5 * (x[:, None] - y) ** 2 / variance) / np.sqrt(2.0 * np.pi * variance)
    kernel *= spacing[index] * inside
    factor = np.ones(count)
    for _ in range(BALANCE_STEPS):
        received = np.einsum("ij,ij->i", kernel, factor[index])
        factor /= np.sqrt(factor * np.maximum(received, 0.5))
    edge = slice(half, count - half)
    return lambda wavelength: np.interp(wavelength, x[edge], factor[edge])
