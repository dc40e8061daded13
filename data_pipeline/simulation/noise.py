"""Effects of an observation on a galaxy's spectrum.

Noise with its level per tier and wavelength, its correlation between pixels and the quoted errors; and the
conditions that differ between observations: resolution, zero point, flux scales, bad pixels, gaps.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, GRATINGS
from data_pipeline.instrument.prism_pixels import (
    DETECTOR_PIXELS_PER_PIXEL,
    JADES_SAMPLING,
    NEIGHBOURS,
    Sampling,
)
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.nuisances import Nuisances
from data_pipeline.simulation.survey import load_tiers
from data_pipeline.tables import read_table

_DEPTH_SCATTER = 0.75  # of the latent noise level within a tier
_LINE_ERROR_IN_PIXELS = 2.2  # error of a fitted line flux over (error per pixel x pixel width)
# Width of the gap between the detectors [um] and where it starts, for shutters of quadrants 1/2 and 3/4.
_GAPS = {
    "nirspec-g140m": (0.093, (0.72, 1.40), (1.46, 2.14)),
    "nirspec-g235m": (0.157, (1.20, 2.30), (2.40, 3.60)),
    "nirspec-g395m": (0.263, (2.10, 3.80), (4.00, 5.80)),
}
ULTRADEEP_WITHOUT = "nirspec-g235m"  # programme 3215 did not take it


@lru_cache(maxsize=1)
def _prism_table() -> tuple[np.ndarray, np.ndarray]:
    table = read_table("jades_prism_noise.ecsv")
    return table["wavelength_um"], np.log(np.stack([table["p16"], table["p50"], table["p84"]]) * 1e-21)


def prism_error(wavelength: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """(b, n) error per prism pixel [erg/s/cm2/A] without source noise, at ``wavelength`` (n,) [um].

    ``latent`` (b,) is the noise level as a standard normal number: -1, 0 and 1 give the 16, 50 and 84 %.
    Beyond the table its end values hold.
    """
    x, table = _prism_table()
    low, middle, high = (np.interp(wavelength, x, row) for row in table)
    u = np.clip(latent, -3.5, 2.5)[:, None]
    return np.exp(middle + np.where(u > 0, u * (high - middle), u * (middle - low)))


def typical_prism_error(tier: np.ndarray, wavelength: float) -> np.ndarray:
    """(b,) error per prism pixel [erg/s/cm2/A] that is usual in a tier."""
    return prism_error(np.array([wavelength]), load_tiers().depth[tier])[:, 0]


def latent_noise_level(tier: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(b,) latent noise level: that of the tier, scattered."""
    return load_tiers().depth[tier] + _DEPTH_SCATTER * normal


@lru_cache(maxsize=1)
def _line_errors() -> tuple[np.ndarray, np.ndarray]:
    """Bin centres and (tiers, bins) log of the median line-flux errors [erg/s/cm2].

    Bins that a tier lacks take the tier's offset from all tiers in the nearest bin that it has.
    """
    table = read_table("jades_grating_line_errors.ecsv")
    everything = table["tier"] == "ALL"
    centre = np.sqrt(table["wavelength_lo"] * table["wavelength_hi"])
    log_all = np.log(table["p50"][everything] * 1e-20)
    rows = []
    for name in load_tiers().names:
        own = table["tier"] == name
        offset = np.log(table["p50"][own] * 1e-20) - np.interp(centre[own], centre[everything], log_all)
        rows.append(log_all + np.interp(centre[everything], centre[own], offset))
    return centre[everything], np.array(rows)


def grating_line_error(tier: np.ndarray, wavelength: np.ndarray) -> np.ndarray:
    """(b, m) typical one-sigma line-flux error [erg/s/cm2] of the medium gratings.

    ``tier`` (b,) is the index into the tiers, ``wavelength`` (b, m) observed [um].
    """
    centre, log_error = _line_errors()
    x = np.log(wavelength)
    return np.exp(
        np.stack([np.interp(row, np.log(centre), log_error[t]) for row, t in zip(x, tier, strict=True)])
    )


def grating_error(
    tier: np.ndarray, wavelength: np.ndarray, bounds: np.ndarray, nominal_limit: float
) -> np.ndarray:
    """(b, n) error per grating pixel [erg/s/cm2/A] without source noise.

    The table's line error over pixel width and 2.2: fitted weak lines, with their source noise and a
    continuum that is fitted too, then have the table's errors. (Over sqrt(3) they would be 25 % larger.)
    Tiers (b,), pixel centres (n,) and bounds (2, n) [um]; beyond ``nominal_limit`` [um] throughput falls.
    """
    tiers, place = np.unique(tier, return_inverse=True)
    line = grating_line_error(tiers, np.broadcast_to(wavelength, (tiers.size, wavelength.size)))[place]
    width = (bounds[1] - bounds[0]) * ANGSTROM_PER_UM
    beyond = np.maximum(wavelength / nominal_limit - 1.0, 0.0)
    return line / (_LINE_ERROR_IN_PIXELS * width) * np.exp(2.0 * beyond)


def prism_noise(normal: np.ndarray, phase: np.ndarray, pixels: int) -> np.ndarray:
    """(b, pixels) noise with unit variance per detector pixel, seen on the finer released grid.

    White on detector pixels and interpolated linearly, as the pipeline rectifies: neighbours correlate by
    0.62 and the variance of a released pixel is 2/3 on average. ``normal`` (b, m) holds a number per detector
    pixel, m >= 0.6 * pixels + 3; the first released pixel lies at ``phase`` (b,) in [0, 1) between two of
    them.
    """
    place = phase[:, None] + DETECTOR_PIXELS_PER_PIXEL * np.arange(pixels)
    left = place.astype(np.int64)
    share = place - left
    row = np.arange(normal.shape[0])[:, None]
    return (1.0 - share) * normal[row, left] + share * normal[row, left + 1]


def released_noise(
    draws: Draws, purpose: str, sampling: Sampling, pixels: int, nuisances: Nuisances | None = None
) -> np.ndarray:
    """(b, pixels) noise of released prism pixels in units of that of a detector pixel.

    Pixels as large as the detector's correlate with their neighbours by what drizzling leaves. Nuisances add
    their outliers.
    """
    interpolated = sampling == JADES_SAMPLING
    white = draws.normal(purpose, detector_pixels(pixels) if interpolated else pixels + 1)
    if nuisances is not None:
        # On detector pixels, before the rectification: a cosmic ray shows in two or three released pixels.
        white = white + outliers(nuisances, draws, "prism", white.shape[1])
    if interpolated:
        return prism_noise(white, draws.uniform("detector phase"), pixels)
    return grating_noise(white, NEIGHBOURS)


def detector_pixels(pixels: int) -> int:
    """Detector pixels under ``pixels`` released prism pixels, with one to spare on each side."""
    return int(np.ceil(DETECTOR_PIXELS_PER_PIXEL * pixels)) + 3


def grating_noise(normal: np.ndarray, correlation: float) -> np.ndarray:
    """(b, n) unit-variance noise from (b, n + 1) normal numbers; neighbours correlate by at most 0.5."""
    # Moving average of order one: its lag-one correlation is theta / (1 + theta^2), whose largest value is
    # one half.
    theta = 0.0 if correlation == 0 else (1.0 - np.sqrt(1.0 - 4.0 * correlation**2)) / (2.0 * correlation)
    return (normal[:, 1:] + theta * normal[:, :-1]) / np.sqrt(1.0 + theta**2)


@dataclass(frozen=True)
class ObservingConditions:
    """Drawn per observation.

    Attributes:
        resolution_scale: (b,) factor on the tabulated prism resolving power for sources of typical size.
        zero_point_shift: (b,) by how many prism pixels features lie redward of their true place.
        arm_scale: (b, 3) each grating's own factor on the flux, in the order of `GRATINGS`.
        flux_ratio: (b, 3) coefficients of log(prism / grating flux) in 1, x and x^2, where x runs from -1
            to 1 over 0.7-5.3 um in log wavelength.
        error_scale: (b,) quoted error over noise per detector pixel, prism, in the middle of the range.
        noise_level: (b,) latent noise level of the prism.
        grating_noise: (b, 3) factor on the tier's grating noise.
        gap_start: (b, 3) where the detector gap starts [um]; NaN where there is none.
        taken: (b, 3) bool, whether the grating was taken.
        error_drift: (b,) growth of quoted over true errors [natural log] from there to the red end.
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
    error_drift: np.ndarray

    def rows(self, which: np.ndarray) -> "ObservingConditions":
        """The conditions of some of the observations."""
        return ObservingConditions(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def quoted_over_noise(self, wavelength: np.ndarray) -> np.ndarray:
        """(b, n) quoted error over noise per detector pixel of the prism at ``wavelength`` (n,) [um]."""
        return self.error_scale[:, None] * np.exp(self.error_drift[:, None] * _place(wavelength))

    def prism_over_grating(self, wavelength: np.ndarray) -> np.ndarray:
        """(b, n) smooth flux ratio common to all gratings at ``wavelength`` (n,) [um]."""
        x = _place(wavelength)
        return np.exp(self.flux_ratio @ np.stack([np.ones_like(x), x, x**2]))


def _place(wavelength: np.ndarray) -> np.ndarray:
    """-1 to 1 over 0.7-5.3 um in log wavelength."""
    return 2.0 * np.log(wavelength / 0.7) / np.log(5.3 / 0.7) - 1.0


def gap_width(instrument: str) -> float:
    """Width of a grating's detector gap [um]."""
    return _GAPS[instrument][0]


def draw_conditions(
    nuisances: Nuisances, draws: Draws, noise_level: np.ndarray, ultradeep: np.ndarray
) -> ObservingConditions:
    """Draw the conditions of a batch from the prism's latent noise level (b,) and which lack G235M (b,)."""
    n = nuisances
    spread = np.clip(draws.normal("resolution"), -3.0, 3.0)
    drift = draws.normal("flux ratio", 3)
    ratio = np.log(n.flux_ratio) + n.flux_ratio_scatter * drift[:, 0]
    shutter = draws.uniform("shutter", 2)
    gap_start = np.full((len(draws), len(GRATINGS)), np.nan)
    for number, arm in enumerate(GRATINGS):
        quadrants = [low + (high - low) * shutter[:, 1] for low, high in _GAPS[arm][1:]]
        gap_start[:, number] = np.where(shutter[:, 0] < 0.5, *quadrants)
    gap_start[draws.uniform("gap") >= n.gap_fraction] = np.nan
    missing = draws.uniform("missing grating", len(GRATINGS))
    taken = missing >= n.missing_grating_fraction
    # Not where a caller asks for all gratings.
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
        error_drift=np.zeros(len(draws)),
    )


def bad_prism_pixels(
    nuisances: Nuisances, draws: Draws, pixels: int, pairs: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose flux is missing and pixels whose error is missing, both (b, pixels) bool.

    Bad pixels lie at the edges and scattered, in pairs where pixels are interpolated, as one detector pixel
    feeds two; in a third of the scattered ones only the error is missing, as in DR4.
    """
    uniform = draws.uniform("bad prism pixels", pixels)
    hit = uniform < 0.5 * nuisances.bad_pixel_fraction
    # One number decides both: whether a pixel is bad, and whether its flux is lost too.
    error_only = hit & (uniform < 0.5 * nuisances.bad_pixel_fraction / 3.0)
    if pairs:  # a bad detector pixel spreads over the two released pixels between which it lies
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
    """(b, n) bool: bad pixels of a grating at ``wavelength`` (n,), scattered and in the detector gap.

    ``gap_start`` (b,) [um] is NaN where there is no gap.
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
