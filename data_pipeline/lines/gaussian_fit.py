"""A Gaussian on a straight continuum (paper equation 1), fitted to many windows at once."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from data_pipeline.lines.least_squares import inverse, linear_fit

_PARAMETERS = 5  # amplitude, centre, sigma, continuum level and slope
_ITERATIONS = 40
_START_OFFSETS = np.linspace(-1.0, 1.0, 7)  # of the centre, in units of how far it may move
_START_WIDTHS = np.linspace(0.1, 0.9, 5)  # from the smallest to the largest width, in the logarithm
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-10, 1e8


@dataclass(frozen=True)
class GaussianFits:
    """Fits of n windows; NaN where there were too few pixels.

    Attributes:
        amplitude, amplitude_error: (n,) height and its error in the unit of the spectra; negative for a dip.
        centre, sigma: (n,) in the unit of the wavelengths.
        level, slope: (n,) of the continuum, at the expected centre.
    """

    amplitude: np.ndarray
    amplitude_error: np.ndarray
    centre: np.ndarray
    sigma: np.ndarray
    level: np.ndarray
    slope: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """(n,) integral of the Gaussian [unit of the spectra x unit of the wavelengths]."""
        return self.amplitude * self.sigma * np.sqrt(2.0 * np.pi)

    @property
    def signal_to_noise(self) -> np.ndarray:
        """(n,) A / dA (paper section 4.3)."""
        error = np.where(self.amplitude_error > 0, self.amplitude_error, np.nan)
        return self.amplitude / error


def fit_gaussians(
    wavelength: np.ndarray,
    flux: np.ndarray,
    good: np.ndarray,
    centre: np.ndarray,
    reach: np.ndarray,
    sigma_limits: tuple[np.ndarray, np.ndarray],
) -> GaussianFits:
    """Levenberg-Marquardt fits, started from the best of a grid over centre and width.

    All pixels weigh the same, and errors are scaled by the residuals, as `scipy.optimize.curve_fit` does.
    Arrays (n, m) hold a window per line, with finite flux where good. The fitted centre may lie ``reach``
    (n,) from the expected one (n,), its width between the two limits, (n,) each.
    """
    unit = np.asarray(sigma_limits[0], float)
    # In units of the narrowest line and of the largest flux: normal equations of raw fluxes (1e-20) would be
    # singular to rounding.
    x = (wavelength - centre[:, None]) / unit[:, None]
    weight = good.astype(float)
    y = np.where(good, flux, 0.0)
    scale = np.max(np.abs(y), axis=1, initial=0.0)
    scale[~(scale > 0)] = 1.0
    y = y / scale[:, None]

    limits = (reach / unit, np.ones_like(unit), np.asarray(sigma_limits[1], float) / unit)
    parameters = _refined(x, y, weight, _started(x, y, weight, limits), limits)
    residual, jacobian = _residual(x, y, parameters), _jacobian(x, parameters)
    covariance = inverse(np.einsum("nmi,nm,nmj->nij", jacobian, weight, jacobian))
    count = good.sum(axis=1)
    reduced = (weight * residual**2).sum(axis=1) / np.maximum(count - _PARAMETERS, 1)
    variance = covariance[:, 0, 0] * reduced
    blank = np.where(count > _PARAMETERS, 1.0, np.nan)
    return GaussianFits(
        amplitude=blank * parameters[:, 0] * scale,
        amplitude_error=blank * np.sqrt(np.maximum(variance, 0.0)) * scale,
        centre=blank * (centre + parameters[:, 1] * unit),
        sigma=blank * parameters[:, 2] * unit,
        level=blank * parameters[:, 3] * scale,
        slope=blank * parameters[:, 4] * scale / unit,
    )


def window_indices(wavelength: np.ndarray, centre: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels around wavelengths.

    ``wavelength`` (N,) increases; a centre (n,) of NaN gives a window of which no pixel is inside.

    Returns:
        (n, 2 half + 1) indices within the spectrum, and (n, 2 half + 1) bool: the pixel exists.
    """
    known = np.isfinite(centre)
    place = np.where(known, centre, wavelength[0])
    nearest = np.clip(np.searchsorted(wavelength, place), 1, wavelength.size - 1)
    nearest = nearest - (place - wavelength[nearest - 1] < wavelength[nearest] - place)
    known &= (place >= wavelength[0]) & (place <= wavelength[-1])
    index = nearest[:, None] + np.arange(-half, half + 1)
    inside = (index >= 0) & (index < wavelength.size) & known[:, None]
    return np.clip(index, 0, wavelength.size - 1), inside


def _started(x: np.ndarray, y: np.ndarray, weight: np.ndarray, limits: tuple) -> np.ndarray:
    """(n, 5) best of a grid over centre and width, with linear amplitude and continuum."""
    reach, low, high = limits
    start, gain = np.zeros((len(x), _PARAMETERS)), np.full(len(x), -np.inf)
    # Given centre and width the rest is linear: a coarse grid of exact solutions, not one start that may lie
    # in a neighbour's hollow.
    for offset, step in product(_START_OFFSETS, _START_WIDTHS):
        centre, sigma = offset * reach, low * (high / low) ** step
        profile = np.exp(-0.5 * ((x - centre[:, None]) / sigma[:, None]) ** 2)
        fit = linear_fit(np.stack([profile, np.ones_like(x), x], axis=1), weight, y)
        better = fit.gain > gain
        amplitude, level, slope = fit.value.T
        start[better] = np.column_stack([amplitude, centre, sigma, level, slope])[better]
        gain[better] = fit.gain[better]
    return start


def _refined(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, start: np.ndarray, limits: tuple
) -> np.ndarray:
    """(n, 5) Levenberg-Marquardt from a start, centre and width kept within limits."""
    reach, low, high = limits
    parameters = start.copy()
    damping = np.full(len(x), _FIRST_DAMPING)
    active = np.arange(len(x))
    square = (weight * _residual(x, y, parameters) ** 2).sum(axis=1)
    for _ in range(_ITERATIONS):
        if active.size == 0:
            break
        xa, ya, wa, now = x[active], y[active], weight[active], parameters[active]
        jacobian = _jacobian(xa, now)
        normal = np.einsum("nmi,nm,nmj->nij", jacobian, wa, jacobian)
        gradient = np.einsum("nmi,nm->ni", jacobian, wa * _residual(xa, ya, now))
        diagonal = np.einsum("nii->ni", normal)
        # Marquardt's scaling by the diagonal: the parameters have different units.
        damped = normal + np.eye(_PARAMETERS) * (damping[active, None] * diagonal)[:, None, :]
        new = now + np.einsum("nij,nj->ni", inverse(damped), gradient)
        # Clipped, not refused: a step to the limit is progress.
        new[:, 1] = np.clip(new[:, 1], -reach[active], reach[active])
        new[:, 2] = np.clip(new[:, 2], low[active], high[active])
        trial = (wa * _residual(xa, ya, new) ** 2).sum(axis=1)
        better = trial <= square[active]
        parameters[active[better]] = new[better]
        drop = square[active] - trial
        square[active[better]] = trial[better]
        damping[active] = np.clip(
            damping[active] * np.where(better, 0.1, 10.0), _LEAST_DAMPING, _MOST_DAMPING
        )
        settled = (better & (drop <= 1e-12 * square[active])) | (damping[active] >= _MOST_DAMPING)
        # Windows that are done leave the batch; the last few would otherwise cost as much as all.
        active = active[~settled]
    return parameters


def _residual(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    profile = np.exp(-0.5 * ((x - p[:, 1, None]) / p[:, 2, None]) ** 2)
    return y - p[:, 0, None] * profile - p[:, 3, None] - p[:, 4, None] * x


def _jacobian(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, m, 5) of the model."""
    amplitude, centre, sigma = (p[:, i, None] for i in range(3))
    offset = (x - centre) / sigma
    profile = np.exp(-0.5 * offset**2)
    slope = amplitude * profile * offset / sigma
    return np.stack([profile, slope, slope * offset, np.ones_like(x), x], axis=-1)
