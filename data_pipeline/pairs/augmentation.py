"""The paper's augmentation (section 3.2): redshift offsets and noise, on both members of a pair."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import to_pixels, upsample


@dataclass(frozen=True)
class AugmentationConfig:
    """The paper's numbers.

    Attributes:
        realisations: perturbed copies of each training galaxy beside the original.
        redshift_sigma: standard deviation of the redshift offset.
        noise_fraction: standard deviation of the added noise as a fraction of the flux.
        trim: wavelengths outside this range [um] are masked in perturbed copies; originals keep theirs.
    """

    realisations: int = 20
    redshift_sigma: float = 0.3
    noise_fraction: float = 0.1
    trim: tuple[float, float] = (1.0, 5.0)

    def __post_init__(self) -> None:
        if self.realisations < 0:
            raise ValueError(f"augmentation: expected realisations >= 0, got {self.realisations}")
        if self.redshift_sigma < 0 or self.noise_fraction < 0:
            raise ValueError("augmentation: expected redshift_sigma and noise_fraction >= 0")
        if not 0 < self.trim[0] < self.trim[1]:
            raise ValueError(
                f"augmentation: expected trim as two increasing wavelengths [um], got {self.trim}"
            )


@dataclass(frozen=True)
class AlignedSpectra:
    """The arrays that augmentation changes; any flux unit, NaN where masked.

    Attributes:
        prism: (flux, error, mask) on the prism's pixels.
        prism_unified: (flux, error, mask) on the unified grid.
        grating: (flux, error, mask) on the unified grid.
        noise_free: (n,) on the unified grid; NaN where unknown.
        redshift: of the galaxy as it appears in these arrays.
    """

    prism: tuple[np.ndarray, np.ndarray, np.ndarray]
    prism_unified: tuple[np.ndarray, np.ndarray, np.ndarray]
    grating: tuple[np.ndarray, np.ndarray, np.ndarray]
    noise_free: np.ndarray
    redshift: float


def augment(
    spectra: AlignedSpectra, grid: UnifiedGrid, config: AugmentationConfig, rng: np.random.Generator
) -> AlignedSpectra:
    """One perturbed copy.

    The redshift offset stretches wavelengths by k = (1 + z') / (1 + z) and divides flux density by k, which
    keeps line fluxes. Noise is drawn for the prism on its own pixels (the up-sampled prism follows
    from them) and independently for the gratings; errors grow accordingly, the noise-free spectrum gets none.
    What the stretch leaves without data, and what lies outside ``trim``, is masked.
    The line-spread function is stretched along with the lines: a limit of this augmentation that drawing
    a simulated galaxy afresh does not have.
    """
    offset = _redshift_offset(spectra.redshift, config.redshift_sigma, rng)
    # a spectrum without redshift is not moved
    stretch = 1.0 if offset == 0 else (1.0 + spectra.redshift + offset) / (1.0 + spectra.redshift)
    prism = _add_noise(*_stretch_prism(spectra.prism, stretch), config.noise_fraction, rng)
    grating = _add_noise(*_stretch_grid(*spectra.grating, grid, stretch), config.noise_fraction, rng)
    unknown = np.isnan(spectra.noise_free)
    noise_free = _stretch_grid(spectra.noise_free, np.ones(grid.size), unknown, grid, stretch)[0]

    own = load_instrument(PRISM).wavelength
    prism = _trim(prism, own, config.trim)
    if np.sum(~prism[2]) >= 4:
        unified = upsample(own, *prism, grid.wavelength)
    else:
        unified = tuple(np.full(grid.size, fill) for fill in (np.nan, np.nan, True))
    outside = (grid.wavelength < config.trim[0]) | (grid.wavelength > config.trim[1])
    return AlignedSpectra(
        prism,
        _trim(unified, grid.wavelength, config.trim),
        _trim(grating, grid.wavelength, config.trim),
        np.where(outside, np.nan, noise_free),
        spectra.redshift + offset,
    )


def _redshift_offset(redshift: float, sigma: float, rng: np.random.Generator) -> float:
    """Offset from N(0, sigma), drawn again until the new redshift is positive; 0 for an unknown redshift."""
    if not np.isfinite(redshift) or sigma == 0:
        return 0.0
    while True:
        offset = float(rng.normal(0.0, sigma))
        if redshift + offset > 0:
            return offset


def _stretch_prism(prism, stretch: float):
    own = load_instrument(PRISM).wavelength
    flux, error, mask = to_pixels(own * stretch, *prism, own)
    # Pixels that are wider by the stretch hold the same flux: line fluxes stay, densities fall.
    return flux / stretch, error / stretch, mask


def _stretch_grid(flux, error, mask, grid: UnifiedGrid, stretch: float):
    """On a logarithmic grid a stretch is a shift; cubic for flux, linear for error."""
    position = np.arange(grid.size) - np.log(stretch) * grid.sampling
    low = np.clip(np.floor(position).astype(int), 0, grid.size - 2)
    part = position - low
    outside = (position < 0) | (position > grid.size - 1)
    # A pixel between a good and a bad one is bad, unless it lies exactly on the good one.
    bad = outside | (mask[low] & (part < 1)) | (mask[low + 1] & (part > 0))
    good = ~mask
    if good.sum() < 4:
        nothing = np.full(grid.size, np.nan)
        return nothing, nothing.copy(), np.ones(grid.size, bool)
    pixel = np.arange(grid.size)
    shifted = CubicSpline(pixel[good], flux[good])(np.clip(position, 0, grid.size - 1)) / stretch
    filled = np.interp(pixel, pixel[good], error[good])
    sigma = ((1 - part) * filled[low] + part * filled[low + 1]) / stretch
    return np.where(bad, np.nan, shifted), np.where(bad, np.nan, sigma), bad


def _add_noise(flux, error, mask, fraction: float, rng: np.random.Generator):
    # Of the flux, as in the paper, whatever the noise was before; errors grow with it, so that the likelihood
    # stays right.
    added = fraction * np.abs(np.nan_to_num(flux))
    noisy = flux + rng.normal(size=flux.shape) * added
    return noisy, np.sqrt(error**2 + added**2), mask


def _trim(spectrum, wavelength, limits):
    flux, error, mask = spectrum
    outside = (wavelength < limits[0]) | (wavelength > limits[1])
    return np.where(outside, np.nan, flux), np.where(outside, np.nan, error), mask | outside
