"""Line fluxes measured on observed grating spectra at a known redshift, as a survey catalogue has them."""

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import ANGSTROM_PER_UM, PRISM, Instrument, load_instrument
from data_pipeline.lines.design import SharedFluxes, continuum_hats, doublet
from data_pipeline.lines.least_squares import linear_fit
from data_pipeline.lines.line_list import load_lines

# Catalogue name to the line that it quotes, with its partner where the list has one: the stronger line of a
# resolved doublet, or both lines of one that stays blended at R ~ 1000, as shares of the quoted sum.
_QUOTED: dict[str, str | dict[str, float]] = {
    "C3_1907": {"CIII]_1907": 0.6, "CIII]_1909": 0.4},
    "O2_3727": {"[OII]_3727": 0.45, "[OII]_3730": 0.55},
    "Ne3_3869": "[NeIII]_3870",
    "HBaD_4102": "Hdelta",
    "HBaG_4341": "Hgamma",
    "O3_4363": "[OIII]_4364",
    "HBaB_4861": "Hbeta",
    "O3_5007": "[OIII]_5008",
    "He1_5875": "HeI_5878",
    "O1_6300": "[OI]_6302",
    "HBaA_6563": "Halpha",
    "N2_6584": "[NII]_6585",
    "S2_6718": {"[SII]_6718": 1.0},  # its ratio to 6732 depends on density: both are quoted
    "S2_6732": "[SII]_6733",
    "S3_9069": "[SIII]_9071",
    "S3_9532": {"[SIII]_9533": 1.0},  # both are quoted
    "He1_10832": "HeI_10833",
    "HPaG_10941": "Pagamma",
    "HPaB_12822": "Pabeta",
    "HPaA_18756": "Paalpha",
}
# Catalogue name to members: index in the line list to share of the quoted flux.
CATALOGUE_LINES: dict[str, dict[int, float]] = {
    name: doublet(quoted)
    if isinstance(quoted, str)
    else {load_lines().index(line): share for line, share in quoted.items()}
    for name, quoted in _QUOTED.items()
}
_WIDTH = 60.0  # km/s: width of an unresolved line of these galaxies
_KNOT_SPACING, _PRISM_KNOT_SPACING = 80, 14  # pixels between knots of the continuum
_COVERED = 0.8  # share of a line's profile that must fall on good pixels
_FEWEST_PIXELS = 5.0  # good pixels, weighted with its hat function, below which a knot is left out


def measure_lines(
    spectra: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], redshift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fits all catalogue lines and a continuum of linear splines to each grating by least squares.

    A line that two gratings see is taken from the one with the smaller error. Spectra are flux, error
    [erg/s/cm2/A] and mask by instrument, on its pixels.

    Returns:
        Flux and error (m,) [erg/s/cm2], in the order of `CATALOGUE_LINES`; NaN where no grating saw the line
        and without a redshift.
    """
    flux, error = np.full((2, len(CATALOGUE_LINES)), np.nan)
    for name, (density, sigma, mask) in spectra.items():
        if np.all(mask) or np.isnan(redshift):
            continue
        value, uncertainty = _fit(load_instrument(name), density, sigma, mask, redshift)
        # Written so that a NaN error, no value yet, counts as worse.
        better = np.isfinite(uncertainty) & ~(error <= uncertainty)
        flux[better], error[better] = value[better], uncertainty[better]
    return flux, error


def _fit(
    instrument: Instrument, density: np.ndarray, sigma: np.ndarray, mask: np.ndarray, redshift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flux and error (m,) of all catalogue lines in one spectrum; NaN where it does not see them."""
    shared = SharedFluxes.of(list(CATALOGUE_LINES.values()))
    profiles = shared.profiles(instrument, redshift, _WIDTH)
    good = ~mask & np.isfinite(density) & np.isfinite(sigma)
    width = np.diff(instrument.bounds, axis=0)[0] * ANGSTROM_PER_UM
    expected = np.bincount(shared.column, shared.share)
    seen = (profiles * good) @ width > _COVERED * expected
    flux, error = np.full((2, len(profiles)), np.nan)
    if not seen.any():
        return flux, error
    spacing = _PRISM_KNOT_SPACING if instrument.name == PRISM else _KNOT_SPACING
    hats = continuum_hats(density.size, max(2, round(density.size / spacing)))
    # A knot over masked pixels would make the normal matrix singular.
    hats = hats[hats @ good > _FEWEST_PIXELS]
    # Lines that are seen in part are fitted too, so that they do not pull the continuum.
    partly = (profiles * good).any(axis=1)
    columns = np.concatenate([profiles[partly], hats])[:, good]
    fit = linear_fit(columns, sigma[good] ** -2.0, density[good])
    lines = int(partly.sum())
    flux[partly], error[partly] = fit.value[:lines], fit.error[:lines]
    return np.where(seen, flux, np.nan), np.where(seen, error, np.nan)


def positive_estimate(flux: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a flux that is known not to be negative.

    The JADES catalogue's fits do this: its fluxes are never negative and non-detections lie at
    1.3-1.6 sigma. Detections stay as they are.
    """
    ratio = np.clip(flux / error, -8.0, None)
    hazard = np.exp(-0.5 * ratio**2) / np.sqrt(2.0 * np.pi) / ndtr(ratio)
    mean = flux.clip(-8.0 * error) + error * hazard
    variance = 1.0 - hazard * (hazard + ratio)
    return mean, error * np.sqrt(np.maximum(variance, 1e-4))
