"""What goes wrong with observed spectra, one function per trouble.

Each takes flux, quoted error and mask of prism spectra, (r, n), and uniform numbers (r, 8), and gives new
flux, error and mask; masked pixels may hold NaN. No pixel is flagged unless it says so.
"""

from collections.abc import Callable

import numpy as np

from data_pipeline.simulation.config import TROUBLES, Population
from data_pipeline.simulation.draws import Draws

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
_GAP = 147 / 424  # of a prism spectrum is what the gap between the detectors takes [detector pixels]
_FEATURES = 5  # most dips or hot pixels in a spectrum


def draw_trouble(population: Population, draws: Draws) -> np.ndarray:
    """(b,) index into `TROUBLES` of what goes wrong with each observation; -1 for nothing."""
    shares = population.shares(TROUBLES)
    if not any(shares):
        return np.full(len(draws), -1)
    place = np.searchsorted(np.cumsum(shares), draws.uniform("trouble"), side="right")
    return np.where(place == len(TROUBLES), -1, place)


def cause_trouble(spectra: Arrays, trouble: np.ndarray, brightest: np.ndarray, draws: Draws) -> Arrays:
    """Spectra with the trouble that each is in; a second source is no matter of arrays.

    Args:
        spectra: flux, error [erg/s/cm2/A] and mask (True = bad) of prism spectra, each (b, n).
        trouble: (b,) of `draw_trouble`.
        brightest: (b,) pixel of the brightest line; -1 without one.
        draws: of the observations.
    """
    changed = tuple(array.copy() for array in spectra)
    for name, cause in _CAUSES.items():
        rows = np.flatnonzero(trouble == TROUBLES.index(name))
        if rows.size:
            uniform = draws.rows(rows).uniform("trouble details", 8)
            if name == "masked-line":  # without a line, anywhere
                there = brightest[rows] / changed[0].shape[1]
                uniform[:, 0] = np.where(there >= 0, there, uniform[:, 0])
            for array, new in zip(changed, cause(*(array[rows] for array in changed), uniform), strict=True):
                array[rows] = new
    return changed


def _typical(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(r, 1) median of what is not masked; 0 where everything is."""
    middle = np.ma.median(np.ma.array(values, mask=mask | np.isnan(values)), axis=1)
    return np.ma.filled(middle, 0.0)[:, None]


def _background(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(r, n) smooth light, 0.2-3 times the spectrum's own and some errors more."""
    level = (0.2 + 2.8 * u[:, :1]) * np.abs(_typical(flux, mask))
    level = level + 20.0 * u[:, 1:2] ** 2 * _typical(error, mask)
    x = np.linspace(-1.0, 1.0, flux.shape[1])
    return level * np.exp((u[:, 2:3] - 0.5) * 2.0 * x + (u[:, 3:4] - 0.5) * x**2)


def over_subtract(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """Too much background taken off: the continuum of most is negative."""
    return flux - _background(flux, error, mask, u), error, mask


def under_subtract(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """Background left in."""
    return flux + _background(flux, error, mask, u), error, mask


def step_between_detectors(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """Flux and error off by a factor of up to 1.6 beyond a pixel; a third lose the gap in between."""
    pixel = np.arange(flux.shape[1])
    start = np.floor((0.1 + 0.8 * u[:, :1]) * flux.shape[1])
    size = np.where(u[:, 1:2] < 0.5, -1.0, 1.0) * (0.05 + 0.42 * u[:, 2:3])
    factor = np.where(pixel >= start, np.exp(size), 1.0)
    gap = (u[:, 3:4] < 1.0 / 3.0) & (pixel >= start) & (pixel < start + _GAP * flux.shape[1])
    return _masked(flux * factor, error * factor, mask, gap)


def _masked(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, more: np.ndarray) -> Arrays:
    return np.where(more, np.nan, flux), np.where(more, np.nan, error), mask | more


def _spread(u: np.ndarray, features: int) -> np.ndarray:
    """(r, features) uniform numbers that one (r,) of them seeds."""
    return np.array([np.random.default_rng(int(one * 2**53)).random(features) for one in u])


def absorb(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """One to five dips 2-20 pixels wide, down to nothing and below."""
    pixel = np.arange(flux.shape[1])
    level = np.maximum(_typical(flux, mask), 0.0) + 5.0 * _typical(error, mask)
    place, width, depth = (_spread(u[:, k], _FEATURES) for k in range(3))
    there = np.arange(_FEATURES) < 1 + np.floor(_FEATURES * u[:, 3:4])
    for k in range(_FEATURES):
        away = (pixel - place[:, k, None] * pixel.size) / (1.0 + 8.0 * width[:, k, None] ** 2)
        size = np.where(there[:, k], 0.3 + 0.9 * depth[:, k], 0.0)[:, None]
        flux = flux - size * level * np.exp(-0.5 * away**2)
    return flux, error, mask


def heat(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """One to five unflagged hot or cold detector pixels, off by 5-200 errors."""
    row = np.arange(len(flux))
    flux = flux.copy()
    place, size, sign = (_spread(u[:, k], _FEATURES) for k in range(3))
    there = np.arange(_FEATURES) < 1 + np.floor(_FEATURES * u[:, 3:4])
    for k in range(_FEATURES):
        pixel = (place[:, k] * (flux.shape[1] - 1)).astype(int)
        off = np.where(sign[:, k] < 0.7, 1.0, -1.0) * 10.0 ** (0.7 + 1.6 * size[:, k]) * there[:, k]
        # one detector pixel feeds two released ones
        flux[row, pixel] += off * np.nan_to_num(error[row, pixel])
        flux[row, pixel + 1] += 0.6 * off * np.nan_to_num(error[row, pixel])
    return flux, error, mask


def mask_line(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """The core of a line, two to six pixels about the share ``u[:, 0]`` of the spectrum, is masked."""
    away = np.abs(np.arange(flux.shape[1]) - np.floor(u[:, :1] * flux.shape[1] + 1e-6))
    return _masked(flux, error, mask, away <= np.floor(1.0 + 2.0 * u[:, 1:2]))


def state_absurd_errors(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, u: np.ndarray) -> Arrays:
    """Quoted errors a hundred times too small or too large, one for all pixels, or of any size."""
    scatter = _spread(u[:, 1], flux.shape[1])
    cases = [
        error * 0.01,
        error * 100.0,
        np.where(mask, np.nan, _typical(error, mask) * 10.0 ** (2.0 * u[:, 2:3] - 1.0)),
    ]
    some = np.where(scatter < 0.3, 10.0 ** (40.0 * scatter - 6.0), 1.0)
    which = np.floor(4.0 * u[:, :1])
    return flux, np.select([which == k for k in range(3)], cases, error * some), mask


_CAUSES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Arrays]] = {
    "over-subtracted": over_subtract,
    "under-subtracted": under_subtract,
    "detector-step": step_between_detectors,
    "false-absorption": absorb,
    "hot-pixels": heat,
    "masked-line": mask_line,
    "absurd-error": state_absurd_errors,
}
