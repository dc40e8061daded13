"""What a source's size does in the slit: resolving power between point source and filled slit, slit losses.

Sources are Gaussian, seen through a Gaussian point-spread function. Everything is relative to galaxies of
`TYPICAL_SIZE`, on which resolving powers and fluxes of released spectra were measured.
"""

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import FWHM_PER_SIGMA, GRATINGS, PRISM, Instrument, load_instrument

TYPICAL_SIZE = 0.08  # arcsec, half-light radius
POINT = 0.01  # arcsec: nuclei and stars
_HALF_SLIT = 0.1  # arcsec
_PIVOT = 2.5  # um, where the truth is not changed by slit losses
# Share of the difference between the curves of point source and filled slit that is left in released spectra:
# with 0.2 dex of size, other conditions and errors of fits it makes the 1.16-1.29 (16-84 %) of JADES's prism.
_LEFT = 0.3


def _widths(wavelength: np.ndarray, size: np.ndarray) -> np.ndarray:
    """One-sigma widths [arcsec] of sources (b,) at ``wavelength`` (n,) or (b, n) [um]: (b, n)."""
    diffraction = 1.03 * wavelength * 1e-6 / 6.5 * 206_265.0
    psf = np.hypot(diffraction, 0.05) / FWHM_PER_SIGMA
    return np.hypot(psf, size[:, None] / np.sqrt(2.0 * np.log(2.0)))


def _filling(sigma: np.ndarray) -> np.ndarray:
    """Variance of the light inside the slit over that of a filled slit, 0 to 1."""
    t = _HALF_SLIT / sigma
    peak = np.exp(-0.5 * t**2) / np.sqrt(2.0 * np.pi)
    return 3.0 / t**2 * (1.0 - 2.0 * t * peak / (2.0 * ndtr(t) - 1.0))


def relative_resolution(instrument: Instrument, wavelength: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(b, n) resolving power over that of galaxies of typical size; 1 for all but prism and gratings.

    ``wavelength`` is (n,) or (b, n) [um], ``size`` (b,) the half-light radius [arcsec].
    """
    if instrument.name not in (PRISM, *GRATINGS) or np.all(size == TYPICAL_SIZE):
        return np.ones((size.size, wavelength.shape[-1]))
    uniform, point = load_instrument(instrument.name), load_instrument(instrument.name, "point", 1.0)
    there = np.clip(wavelength, point.table_wavelength[0], point.table_wavelength[-1])
    narrower = (uniform.resolving_power(there) / uniform.scale / point.resolving_power(there)) ** 2
    smallest = _filling(_widths(wavelength, np.zeros(1)))
    usual = _filling(_widths(wavelength, np.full(1, TYPICAL_SIZE)))
    more = (_filling(_widths(wavelength, size)) - usual) / (1.0 - smallest)
    return (1.0 + _LEFT * uniform.scale**2 * (1.0 - narrower) * more) ** -0.5


def mean_relative_resolution(size: np.ndarray) -> np.ndarray:
    """(b,) geometric mean of the prism's `relative_resolution` over 1-5 um."""
    factor = relative_resolution(load_instrument(PRISM), np.geomspace(1.0, 5.0, 12), size)
    return np.exp(np.log(factor).mean(axis=1))


def slit_colour(wavelength: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(b, n) flux that the slit passes, corrected as a point source's, over that of a typical source.

    1 at 2.5 um; ``wavelength`` is (n,) or (b, n) [um], ``size`` (b,) [arcsec].
    """

    def passed(x: np.ndarray) -> np.ndarray:
        own, usual = _widths(x, size), _widths(x, np.full(1, TYPICAL_SIZE))
        return (2.0 * ndtr(_HALF_SLIT / own) - 1.0) / (2.0 * ndtr(_HALF_SLIT / usual) - 1.0)

    return passed(wavelength) / passed(np.array([_PIVOT]))
