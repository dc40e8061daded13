"""Broad components of permitted lines: all of one width, with the chance that there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, FWHM_PER_SIGMA, SPEED_OF_LIGHT, reference_instrument

LIKELY_BROAD = 0.5  # chance above which broad components are drawn and named


@dataclass(frozen=True, eq=False)
class BroadLines:
    """Broad components of the lines of one spectrum, and the narrow ones beside them.

    Both add up to the flux of the line. Fluxes [erg/s/cm2] are NaN where a line is not reported; broad ones
    are 0, with an error of 0, of lines that can have none.

    Attributes:
        probability: chance that the spectrum has broad components; NaN where nothing is reported.
        fwhm: width at half maximum that all have, the instrument's taken off [km/s].
        fwhm_error: one sigma [km/s].
        narrow_flux: (K,).
        narrow_flux_error: (K,) one sigma.
        broad_flux: (K,).
        broad_flux_error: (K,) one sigma.
    """

    probability: float
    fwhm: float
    fwhm_error: float
    narrow_flux: np.ndarray
    narrow_flux_error: np.ndarray
    broad_flux: np.ndarray
    broad_flux_error: np.ndarray

    @property
    def likely(self) -> bool:
        """Whether there probably are broad components."""
        return self.probability > LIKELY_BROAD

    @property
    def text(self) -> str:
        """Their width and chance in words."""
        width = f"{self.fwhm:.0f} ± {self.fwhm_error:.0f} km/s"
        return f"broad lines of FWHM {width} (chance {self.probability:.2f})"

    @property
    def broad_fwhm(self) -> np.ndarray:
        """(K,) `fwhm` of lines that can have a broad component; NaN for others."""
        return np.where(self.broad_flux_error > 0, self.fwhm, np.nan)

    @property
    def broad_probability(self) -> np.ndarray:
        """(K,) `probability` for lines that can have a broad component; NaN for others."""
        return np.where(self.broad_flux_error > 0, self.probability, np.nan)


def broad_profile(wavelength: np.ndarray, centre: np.ndarray, flux: np.ndarray, fwhm: float) -> np.ndarray:
    """Broad components as the super-resolved spectrum shows them, (N,) [erg/s/cm2/A].

    Args:
        wavelength: (N,) [um].
        centre: (K,) observed places [um].
        flux: (K,) [erg/s/cm2]; what is not finite counts as 0.
        fwhm: of all [km/s].
    """
    seen = np.isfinite(centre) & np.isfinite(flux) & (flux != 0)
    centre, flux = centre[seen, None], flux[seen, None]
    spread = fwhm / FWHM_PER_SIGMA / SPEED_OF_LIGHT * centre
    sigma = np.hypot(reference_instrument().sigma(centre), spread)
    height = flux / (np.sqrt(2.0 * np.pi) * sigma * ANGSTROM_PER_UM)
    return np.sum(height * np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2), axis=0)


def on_continuum(
    wavelength: np.ndarray, continuum: np.ndarray, centre: np.ndarray, flux: np.ndarray, fwhm: float
) -> np.ndarray:
    """`broad_profile` on a continuum (N,), NaN where it does not rise above a hundredth of its height."""
    profile = broad_profile(wavelength, centre, flux, fwhm)
    return np.where(profile > 0.01 * profile.max(initial=0.0), continuum + profile, np.nan)
