"""Kinematic components of lines beside the narrow one: broad lines, wings of outflows, absorbers."""

from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, FWHM_PER_SIGMA, SPEED_OF_LIGHT
from data_pipeline.lines import LineList
from data_pipeline.simulation.draws import Draws

_ABSORBED = ("Halpha", "Hbeta", "Hgamma", "HeI_10833")


@dataclass(frozen=True)
class Components:
    """Components of the lines of b galaxies.

    Attributes:
        broad_line_flux: (b, L) flux of each line in broad components, less what absorbers take [erg/s/cm2].
        broad_velocity_sigma: (b,) one-sigma width of the broad lines [km/s]; 0 for none.
        wing_line_flux: (b, L) flux in the wings of outflows [erg/s/cm2].
        wing_velocity_sigma: (b,) one-sigma width of the wings [km/s].
        wing_velocity: (b,) by which they are offset [km/s], negative towards us.
        absorbed_line_flux: (b, L) what absorbers in front take from broad line and continuum [erg/s/cm2].
        absorber_velocity_sigma: (b,) one-sigma width of the absorption [km/s].
        absorber_velocity: (b,) by which it is offset [km/s].
    """

    broad_line_flux: np.ndarray
    broad_velocity_sigma: np.ndarray
    wing_line_flux: np.ndarray
    wing_velocity_sigma: np.ndarray
    wing_velocity: np.ndarray
    absorbed_line_flux: np.ndarray
    absorber_velocity_sigma: np.ndarray
    absorber_velocity: np.ndarray


def broad_widths(dot: np.ndarray, quasar: np.ndarray, draws: Draws) -> np.ndarray:
    """(b,) one-sigma widths [km/s] of broad lines: FWHM flat in its logarithm over 500-8,000 km/s.

    Little red dots 800-5,000 (Greene et al. 2024), quasars 1,200-8,000.
    """
    low = np.where(dot, 800.0, np.where(quasar, 1200.0, 500.0))
    return low * (np.where(dot, 5000.0, 8000.0) / low) ** draws.uniform("broad FWHM") / FWHM_PER_SIGMA


def outflows(
    fraction: float, able: np.ndarray, flux: np.ndarray, lines: LineList, draws: Draws
) -> dict[str, np.ndarray]:
    """Wings of [O III] and the hydrogen lines, in a share ``fraction`` of those ``able`` (b,) to have them.

    FWHM of 300-1,000 km/s and 10-40 % of the narrow flux (b, L), mostly blueshifted by up to 200 km/s.
    """
    has = able & (draws.uniform("outflow") < fraction)
    fwhm = 300.0 * 10.0 ** (0.523 * draws.uniform("wing width"))
    share = np.where(has, 0.1 + 0.3 * draws.uniform("wing strength"), 0.0)
    takes_part = np.isfinite(lines.case_b) | np.isin(lines.names, ("[OIII]_5008", "[OIII]_4960"))
    velocity = np.clip(-100.0 + 80.0 * draws.normal("wing velocity"), -300.0, 150.0)
    return {
        "wing_line_flux": share[:, None] * flux * takes_part,
        "wing_velocity_sigma": np.where(has, fwhm / 2.355, 0.0),
        "wing_velocity": np.where(has, velocity, 0.0),
    }


def absorbers(
    chance: np.ndarray,
    broad: np.ndarray,
    sigma: np.ndarray,
    continuum: np.ndarray,
    redshift: np.ndarray,
    lines: LineList,
    draws: Draws,
) -> dict[str, np.ndarray]:
    """Dense gas before broad lines, as a share of little red dots has it (Matthee et al. 2024).

    It covers 30-95 % of line and continuum at a one-sigma width of 50-150 km/s, within 300 km/s of rest.

    Args:
        chance: (b,) of an absorber.
        broad: (b, L) broad fluxes [erg/s/cm2].
        sigma: (b,) one-sigma width of the broad lines [km/s].
        continuum: (b,) flux density beside the lines [erg/s/cm2/A].
        redshift: (b,).
        lines: the line list.
        draws: random numbers per galaxy.
    """
    has = (draws.uniform("absorber") < chance) & (sigma > 0)
    u = draws.uniform("absorber details", 2)
    width = np.where(has, 50.0 + 100.0 * u[:, 0], 0.0)
    velocity = np.where(has, np.clip(-50.0 + 120.0 * draws.normal("absorber velocity"), -300.0, 300.0), 0.0)
    observed = lines.wavelength * (1.0 + redshift[:, None]) * ANGSTROM_PER_UM
    behind = (
        broad
        * (width / np.maximum(sigma, 1.0) * np.exp(-0.5 * (velocity / np.maximum(sigma, 1.0)) ** 2))[:, None]
    )
    behind = behind + continuum[:, None] * np.sqrt(2.0 * np.pi) * width[:, None] / SPEED_OF_LIGHT * observed
    taken = (0.3 + 0.65 * u[:, 1:]) * behind * np.isin(lines.names, _ABSORBED)
    return {
        "absorbed_line_flux": np.minimum(taken, 0.8 * broad),
        "absorber_velocity_sigma": width,
        "absorber_velocity": velocity,
    }
