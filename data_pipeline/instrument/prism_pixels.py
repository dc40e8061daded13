"""Released prism pixels: their step, the noise of a pixel and of its neighbours, the width of a line in them.

JADES interpolates detector pixels linearly onto a finer grid, so the noise of neighbouring pixels is
correlated and its variance is below the quoted one. The constants of the noise follow from the step.
"""

import numpy as np

DETECTOR_PIXELS_PER_PIXEL = 0.6  # step of the JADES prism grid
LINE_FWHM = 3.0  # pixels of an unresolved line
# Error of a fitted, unresolved line over that of independent pixels with the quoted errors.
CORRELATED_NOISE = 1.2


def _lag_covariance() -> np.ndarray:
    """Covariance of released pixels 0, 1, 2 ... apart over the quoted variance, until it is zero.

    White noise on detector pixels, interpolated linearly at a random phase: the covariance is the
    autocorrelation of the triangle, a cubic B-spline of half-width 2, at steps of 0.6 detector pixels.
    """
    lag = DETECTOR_PIXELS_PER_PIXEL * np.arange(int(np.ceil(2.0 / DETECTOR_PIXELS_PER_PIXEL)))
    return np.where(lag < 1.0, 2.0 / 3.0 - lag**2 + lag**3 / 2.0, (2.0 - lag) ** 3 / 6.0)


LAG_COVARIANCE = _lag_covariance()
# Variance of released pixels over the quoted one, averaged over all phases: 2/3.
PIXEL_NOISE_VARIANCE = float(LAG_COVARIANCE[0])
# Noise power at scales of several pixels, which are those that a line-spread function passes: 1 / 0.6.
LOW_FREQUENCY_VARIANCE = float(LAG_COVARIANCE[0] + 2.0 * LAG_COVARIANCE[1:].sum())


def quadratic_form(row: np.ndarray) -> np.ndarray:
    """(...,) variances of ``sum_p row[..., p] n_p`` of noise n of unit quoted error."""
    total = LAG_COVARIANCE[0] * np.einsum("...p,...p->...", row, row)
    for lag, covariance in enumerate(LAG_COVARIANCE[1:], start=1):
        total += 2.0 * covariance * np.einsum("...p,...p->...", row[..., lag:], row[..., :-lag])
    return total
