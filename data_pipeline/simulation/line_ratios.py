"""Strong-line ratios of star-forming galaxies against redshift, with their correlations."""

from __future__ import annotations

import numpy as np

# What is drawn here, all log10 and as observed (dust included): [OIII]5008, [OII] sum and [NeIII]3870 over
# Hbeta, [NII]6585 over Halpha.
STRONG = ("[OIII]/Hbeta", "[OII]/Hbeta", "[NeIII]/Hbeta", "[NII]/Halpha")

_REDSHIFT = np.array([1.0, 2.0, 3.0, 4.0, 5.25, 6.5, 8.3])
# 16, 50 and 84 % of the JADES DR4 catalogue (tables/jades_line_ratios.ecsv) with the catalogue's own
# flux errors taken off in quadrature. Where non-detections hide a percentile (all of [NII], the lower
# ones of [OII] and [NeIII] at z 1 and 6.5) it is extrapolated: [NII] from the galaxies whose error is
# below 2 % of Halpha (facts: -1.10 at z 2, -1.42 at z 3, -1.45 at z 4, below -1.5 beyond).
_PERCENTILES = {
    "[OIII]/Hbeta": (
        (0.52, 0.47, 0.62, 0.71, 0.67, 0.70, 0.70),
        (0.720, 0.715, 0.765, 0.790, 0.785, 0.760, 0.755),
        (0.81, 0.79, 0.83, 0.835, 0.84, 0.83, 0.815),
    ),
    "[OII]/Hbeta": (
        (-0.50, 0.02, -0.44, -0.32, -0.54, -0.75, -0.85),
        (0.03, 0.310, 0.205, 0.084, -0.110, -0.302, -0.430),
        (0.29, 0.430, 0.350, 0.280, 0.175, 0.09, -0.06),
    ),
    "[NeIII]/Hbeta": (
        (-0.65, -0.62, -0.57, -0.47, -0.39, -0.38, -0.46),
        (-0.40, -0.320, -0.32, -0.32, -0.300, -0.290, -0.340),
        (-0.20, -0.225, -0.22, -0.23, -0.225, -0.225, -0.275),
    ),
    "[NII]/Halpha": (
        (-1.70, -1.50, -1.80, -1.85, -2.00, -2.05, -2.15),
        (-1.32, -1.13, -1.42, -1.45, -1.58, -1.62, -1.72),
        (-0.86, -0.68, -0.93, -1.07, -1.21, -1.15, -1.25),
    ),
}
# Correlations at a given redshift, in the order of STRONG; with the trends above they give the measured
# overall ones (O3-Ne3 +0.64, O3-O2 -0.28, O2-z -0.43, O3-z +0.37). [NII]: the usual metallicity sequence.
_CORRELATION = np.array(
    [
        [1.00, -0.45, 0.70, -0.45],
        [-0.45, 1.00, -0.25, 0.45],
        [0.70, -0.25, 1.00, -0.30],
        [-0.45, 0.45, -0.30, 1.00],
    ]
)
# Reddening E(B-V) of the gas: median against redshift, from the median Balmer decrement above Case B.
_REDDENING = np.array([0.07, 0.12, 0.10, 0.03, 0.11, 0.10, 0.08])
_REDDENING_SCATTER = 0.75  # natural log

_FACTOR = np.linalg.cholesky(_CORRELATION)


def strong_line_ratios(redshift: np.ndarray, normal: np.ndarray) -> dict[str, np.ndarray]:
    """log10 ratios with the measured medians, asymmetric scatter and correlations.

    Args:
        redshift: (b,).
        normal: (b, 4) standard normal numbers.

    Returns:
        (b,) log10 ratio for each name of `STRONG`.
    """
    latent = np.clip(normal, -3.0, 3.0) @ _FACTOR.T
    ratios = {}
    for column, name in enumerate(STRONG):
        low, middle, high = (np.interp(redshift, _REDSHIFT, row) for row in _PERCENTILES[name])
        u = latent[:, column]
        # Beyond one sigma the wings are compressed: the catalogue has no ratio ten times off.
        wing = np.where(np.abs(u) > 1.0, np.sign(u) * (1.0 + 0.7 * (np.abs(u) - 1.0)), u)
        ratios[name] = middle + np.where(wing > 0, wing * (high - middle), wing * (middle - low))
    return ratios


def gas_reddening(redshift: np.ndarray, normal: np.ndarray, factor: float) -> np.ndarray:
    """(b,) E(B-V) of the gas [mag], lognormal.

    Args:
        redshift: (b,).
        normal: (b,) standard normal numbers.
        factor: on the scatter.
    """
    median = np.interp(redshift, _REDSHIFT, _REDDENING)
    return np.minimum(median * np.exp(_REDDENING_SCATTER * factor * normal), 1.2)


def doublet_ratios(log_density: np.ndarray) -> dict[str, np.ndarray]:
    """Flux ratios of the density-sensitive doublets, longer over shorter partner as in the line list.

    Interpolated between the PyNeb values at 1e2 and 1e3 cm-3 (1e4 K) with the usual collisional form
    and bounded by its low- and high-density limits.

    Args:
        log_density: (b,) log10 of the electron density [cm-3].
    """
    density = 10.0**log_density

    def between(low_limit: float, high_limit: float, critical: float) -> np.ndarray:
        share = density / (density + critical)
        return low_limit * (1.0 - share) + high_limit * share

    return {
        "[OII]_3730": between(1.46, 0.35, 707.0),
        "[SII]_6718": between(1.44, 0.44, 891.0),
        "CIII]_1907": between(1.5145, 0.10, 30_000.0),
        "[NI]_5202": between(1.36, 0.60, 815.0),
    }
