"""Line fluxes measured on observed grating spectra at a known redshift, as a survey catalogue has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import PRISM, Instrument, load_instrument
from data_pipeline.lines import LineList, load_lines
from data_pipeline.lines.profile import render_lines

# Catalogue name to the lines that it sums or ties, and their shares of the flux that it quotes. Doublets
# that stay blended at R ~ 1000 are quoted as their sum; of resolved ones the stronger line is quoted.
CATALOGUE_LINES: dict[str, dict[str, float]] = {
    "C3_1907": {"CIII]_1907": 0.6, "CIII]_1909": 0.4},
    "O2_3727": {"[OII]_3727": 0.45, "[OII]_3730": 0.55},
    "Ne3_3869": {"[NeIII]_3870": 1.0, "[NeIII]_3969": 1.0 / 3.3201},
    "HBaD_4102": {"Hdelta": 1.0},
    "HBaG_4341": {"Hgamma": 1.0},
    "O3_4363": {"[OIII]_4364": 1.0},
    "HBaB_4861": {"Hbeta": 1.0},
    "O3_5007": {"[OIII]_5008": 1.0, "[OIII]_4960": 1.0 / 2.9842},
    "He1_5875": {"HeI_5878": 1.0},
    "O1_6300": {"[OI]_6302": 1.0, "[OI]_6366": 1.0 / 3.1309},
    "HBaA_6563": {"Halpha": 1.0},
    "N2_6584": {"[NII]_6585": 1.0, "[NII]_6550": 1.0 / 2.942},
    "S2_6718": {"[SII]_6718": 1.0},
    "S2_6732": {"[SII]_6733": 1.0},
    "S3_9069": {"[SIII]_9071": 1.0},
    "S3_9532": {"[SIII]_9533": 1.0},
    "He1_10832": {"HeI_10833": 1.0},
    "HPaG_10941": {"Pagamma": 1.0},
    "HPaB_12822": {"Pabeta": 1.0},
    "HPaA_18756": {"Paalpha": 1.0},
}
_WIDTH = 60.0  # km/s: what an unresolved line of these galaxies has
_KNOT_SPACING, _PRISM_KNOT_SPACING = 80, 14  # pixels between knots of the continuum
_COVERED = 0.8  # share of a line's profile that must fall on good pixels


def measure_lines(
    spectra: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], redshift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fits all catalogue lines and a continuum of linear splines to each grating by least squares.

    A line that two gratings see is taken from the one with the smaller error.

    Args:
        spectra: instrument name to flux, error [erg/s/cm2/A] and mask, (n,) each, on the instrument's pixels.
        redshift: of the galaxy; NaN for a spectrum without one.

    Returns:
        Flux and error (m,) [erg/s/cm2], in the order of `CATALOGUE_LINES`; NaN where no grating saw the line
        and without a redshift.
    """
    flux = np.full(len(CATALOGUE_LINES), np.nan)
    error = np.full(len(CATALOGUE_LINES), np.nan)
    for name, (density, sigma, mask) in spectra.items():
        if np.all(mask) or np.isnan(redshift):
            continue
        value, uncertainty = _fit(load_instrument(name), density, sigma, mask, redshift)
        better = np.isfinite(uncertainty) & ~(error <= uncertainty)
        flux[better], error[better] = value[better], uncertainty[better]
    return flux, error


def _fit(
    instrument: Instrument, density: np.ndarray, sigma: np.ndarray, mask: np.ndarray, redshift: float
) -> tuple[np.ndarray, np.ndarray]:
    profiles = _profiles(instrument, load_lines(), redshift)
    good = ~mask & np.isfinite(density) & np.isfinite(sigma)
    width = np.diff(instrument.bounds, axis=0)[0] * 1e4
    whole = profiles @ width
    expected = np.array([sum(members.values()) for members in CATALOGUE_LINES.values()])
    seen = ((profiles * good) @ width > _COVERED * expected) & (whole > 0)
    flux = np.full(len(profiles), np.nan)
    error = np.full(len(profiles), np.nan)
    if not seen.any():
        return flux, error
    knots = _hat_functions(density.size, _PRISM_KNOT_SPACING if instrument.name == PRISM else _KNOT_SPACING)
    knots = knots[(knots * good).sum(axis=1) > 5]
    # Fluxes in units of the typical error, so that the normal matrix is of order one.
    unit = np.median(sigma[good])
    # Lines that are seen in part are fitted too, so that they do not pull the continuum.
    partly = (profiles * good).any(axis=1)
    rows = np.concatenate([profiles[partly] / profiles[partly].max(axis=1, keepdims=True), knots])[:, good]
    weighted = rows * (unit / sigma[good]) ** 2
    normal = weighted @ rows.T
    normal[np.diag_indices_from(normal)] += 1e-9 * normal.diagonal().max()
    covariance = np.linalg.inv(normal)
    solution = covariance @ (weighted @ (density[good] / unit))
    scale = unit / profiles[partly].max(axis=1)
    n_lines = int(partly.sum())
    flux[partly] = solution[:n_lines] * scale
    error[partly] = np.sqrt(covariance.diagonal()[:n_lines]) * scale
    return np.where(seen, flux, np.nan), np.where(seen, error, np.nan)


def _profiles(instrument: Instrument, lines: LineList, redshift: float) -> np.ndarray:
    """(m, n) profile of each catalogue line for unit flux [1/A]."""
    members = [
        (row, lines.index(name), share)
        for row, group in enumerate(CATALOGUE_LINES.values())
        for name, share in group.items()
    ]
    row, line, share = (np.array(column) for column in zip(*members, strict=True))
    return render_lines(
        instrument,
        lines.wavelength[line] * (1.0 + redshift),
        share,
        np.full(line.size, _WIDTH),
        row=row,
        rows=len(CATALOGUE_LINES),
    )


def _hat_functions(pixels: int, every: int) -> np.ndarray:
    """(k, pixels) linear splines."""
    knots = np.linspace(0, pixels - 1, max(2, round(pixels / every)))
    spacing = knots[1] - knots[0]
    return np.clip(1.0 - np.abs(np.arange(pixels) - knots[:, None]) / spacing, 0.0, None)


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
