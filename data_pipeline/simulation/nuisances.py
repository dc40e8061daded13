"""What differs between observations: resolution, zero point, flux scales, bad pixels, gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import GRATINGS
from data_pipeline.simulation.config import Nuisances
from data_pipeline.simulation.draws import Draws

# Width of the gap between the detectors [um] and where it starts, for shutters of quadrants 1/2 and 3/4.
_GAPS = {
    "nirspec-g140m": (0.093, (0.72, 1.40), (1.46, 2.14)),
    "nirspec-g235m": (0.157, (1.20, 2.30), (2.40, 3.60)),
    "nirspec-g395m": (0.263, (2.10, 3.80), (4.00, 5.80)),
}
ULTRADEEP_WITHOUT = "nirspec-g235m"  # programme 3215 did not take it


@dataclass(frozen=True)
class ObservingConditions:
    """Drawn per observation.

    Attributes:
        resolution_scale: (b,) factor on the tabulated prism resolving power.
        zero_point_shift: (b,) by how many prism pixels features lie redward of their true place.
        arm_scale: (b, 3) each grating's own factor on the flux, in the order of `GRATINGS`.
        flux_ratio: (b, 3) coefficients of log(prism / grating flux) in 1, x and x^2, where x runs from -1
            to 1 over 0.7-5.3 um in log wavelength.
        error_scale: (b,) quoted error over noise per detector pixel, prism.
        noise_level: (b,) latent noise level of the prism.
        grating_noise: (b, 3) factor on the tier's grating noise.
        gap_start: (b, 3) where the detector gap starts [um]; NaN where there is none.
        taken: (b, 3) bool, whether the grating was taken.
    """

    resolution_scale: np.ndarray
    zero_point_shift: np.ndarray
    arm_scale: np.ndarray
    flux_ratio: np.ndarray
    error_scale: np.ndarray
    noise_level: np.ndarray
    grating_noise: np.ndarray
    gap_start: np.ndarray
    taken: np.ndarray

    def prism_over_grating(self, wavelength: np.ndarray) -> np.ndarray:
        """(b, n) smooth flux ratio common to all gratings at ``wavelength`` (n,) [um]."""
        x = 2.0 * np.log(wavelength / 0.7) / np.log(5.3 / 0.7) - 1.0
        return np.exp(self.flux_ratio @ np.stack([np.ones_like(x), x, x**2]))


def gap_width(instrument: str) -> float:
    """Width of a grating's detector gap [um]."""
    return _GAPS[instrument][0]


def draw_conditions(
    nuisances: Nuisances, draws: Draws, noise_level: np.ndarray, ultradeep: np.ndarray
) -> ObservingConditions:
    """Draws the conditions of a batch of observations.

    Args:
        nuisances: their scatters.
        draws: random numbers, keyed by observation.
        noise_level: (b,) latent noise level of the prism.
        ultradeep: (b,) bool, observations of the tier that has no G235M.
    """
    n = nuisances
    spread = np.clip(draws.normal("resolution"), -3.0, 3.0)
    drift = draws.normal("flux ratio", 3)
    ratio = np.log(n.flux_ratio) + n.flux_ratio_scatter * drift[:, 0]
    shutter = draws.uniform("shutter", 2)
    gap_start = np.stack(
        [
            np.where(shutter[:, 0] < 0.5, _between(_GAPS[arm][1], shutter), _between(_GAPS[arm][2], shutter))
            for arm in GRATINGS
        ],
        axis=1,
    )
    gap_start[draws.uniform("gap") >= n.gap_fraction] = np.nan
    missing = draws.uniform("missing grating", len(GRATINGS))
    taken = missing >= n.missing_grating_fraction
    if n.missing_grating_fraction > 0:
        taken[ultradeep, GRATINGS.index(ULTRADEEP_WITHOUT)] = False
    return ObservingConditions(
        resolution_scale=n.prism_resolution_scale * np.exp(n.prism_resolution_scatter * spread),
        zero_point_shift=n.zero_point_shift * draws.normal("zero point"),
        arm_scale=np.exp(n.arm_scale_scatter * draws.normal("arm scale", len(GRATINGS))),
        flux_ratio=np.stack(
            [ratio, n.flux_ratio_drift * drift[:, 1], 0.5 * n.flux_ratio_drift * drift[:, 2]], axis=1
        ),
        error_scale=n.quoted_error * np.exp(n.quoted_error_scatter * draws.normal("quoted error")),
        noise_level=noise_level,
        grating_noise=np.exp(
            0.25 * draws.normal("grating noise level")[:, None] + 0.1 * draws.normal("arm noise", 3)
        ),
        gap_start=gap_start,
        taken=taken,
    )


def _between(limits: tuple[float, float], shutter: np.ndarray) -> np.ndarray:
    return limits[0] + (limits[1] - limits[0]) * shutter[:, 1]


def bad_prism_pixels(nuisances: Nuisances, draws: Draws, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose flux is missing and pixels whose error is missing, both (b, pixels) bool.

    Bad pixels lie at the edges and scattered, mostly in pairs as one detector pixel feeds two; in a
    third of the scattered ones only the error is missing, as in DR4.
    """
    uniform = draws.uniform("bad prism pixels", pixels)
    hit = uniform < 0.5 * nuisances.bad_pixel_fraction
    error_only = hit & (uniform < 0.5 * nuisances.bad_pixel_fraction / 3.0)
    error_only[:, 1:] |= error_only[:, :-1]
    hit[:, 1:] |= hit[:, :-1]
    low, high = nuisances.edge_pixels
    edge = low + np.floor((high - low + 1) * draws.uniform("edge pixels", 2)).astype(int)
    pixel = np.arange(pixels)
    at_edge = (pixel < edge[:, :1]) | (pixel >= pixels - edge[:, 1:])
    return (hit & ~error_only) | at_edge, hit | at_edge


def bad_grating_pixels(
    nuisances: Nuisances, draws: Draws, arm: str, wavelength: np.ndarray, gap_start: np.ndarray
) -> np.ndarray:
    """(b, n) bool: bad pixels of a grating, scattered and in the detector gap.

    Args:
        nuisances: share of bad pixels.
        draws: random numbers, keyed by observation.
        arm: instrument name.
        wavelength: (n,) pixel centres [um].
        gap_start: (b,) [um]; NaN for none.
    """
    scattered = draws.uniform(f"bad pixels {arm}", wavelength.size) < nuisances.bad_pixel_fraction
    start = gap_start[:, None]
    return scattered | ((wavelength > start) & (wavelength < start + gap_width(arm)))


def outliers(nuisances: Nuisances, draws: Draws, purpose: str, pixels: int) -> np.ndarray:
    """(b, pixels) unflagged outliers in units of the noise: rare, 5-20 sigma, mostly positive."""
    uniform = draws.uniform(f"outliers {purpose}", pixels)
    share = nuisances.outlier_fraction
    out = np.zeros_like(uniform)
    hit = uniform < share
    if hit.any():
        # The number that decided is uniform below the threshold and so gives the height as well.
        place = uniform[hit] / share
        out[hit] = np.where(place < 0.8, 5.0 + 15.0 * (place / 0.8) ** 2, -5.0 - 5.0 * (place - 0.8) / 0.2)
    return out
