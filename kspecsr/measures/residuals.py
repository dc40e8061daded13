"""Residuals against the noise of the reference (paper Fig. 6), and their power (paper Fig. 7)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import next_fast_len, rfft

from data_pipeline.instrument import GRATINGS, PRISM, arm_shares, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation.noise import grating_error, typical_prism_error
from data_pipeline.simulation.survey import load_tiers
from kspecsr.measures.estimate import WHOLE, Block, median, median_of_rows, robust_scatter
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.spectrum import Comparison
from kspecsr.measures.splits import WAVELENGTH, bin_of, labels

RMS_PIXELS = 30  # of a bin of the curves
MAP_PIXELS = 20  # of a bin of the maps
_LARGEST = 6e4  # that float16 holds
_TIER_WAVELENGTH = 2.5  # um, where a galaxy's prism error tells its tier
_TIER_RANGE = (2.0, 3.0)
POWER_BINS = 100  # from zero to the Nyquist frequency
INTERMEDIATE = 0.3  # of the Nyquist frequency: structure below, noise above (paper Fig. 7)
_FEWEST_POWER = 500  # pixels


# ---- residuals


def measure_residual_noise(held_out: HeldOut, comparison: Comparison) -> dict[str, np.ndarray]:
    """Residuals of each galaxy, normalised to its median prism flux (`Comparison.scale`).

    Returns:
        ``residual_rms`` (B, 203): rms of output less truth in bins of 30 pixels.
        ``residual_noise``, ``residual_prism_noise`` (B, 203): one-sigma noise per pixel of the reference, and
        of the prism.
        ``residual_over_noise`` (B, 1 + bands): median over those bins of rms over noise, of all bins and of
        those between two edges of `kspecsr.measures.splits.WAVELENGTH`.
        ``residual_over_noise_core`` (B,): rms over rms noise in line cores. Lines lie in so few bins that no
        median over bins sees what happens to them.
        ``residual_map`` (B, 304) float16: mean of the residual in bins of 20 pixels.
        ``residual_at`` (B, 304) float16: residual in the middle pixel of those bins.
        All are NaN where no good pixel lies.
    """
    grid, scale = held_out.grid, comparison.scale[:, None]
    residual = comparison.output - comparison.truth
    middle = np.minimum(bin_starts(grid, MAP_PIXELS) + MAP_PIXELS // 2, grid.size - 1)
    at = np.where(comparison.good[:, middle], residual[:, middle], np.nan)
    prism = _prism_noise(held_out, bin_centres(grid, RMS_PIXELS))
    rms = np.sqrt(_bin_mean(residual**2, comparison.good, RMS_PIXELS))
    noise = _reference_noise(held_out, comparison)
    return {
        "residual_rms": (rms / scale).astype(np.float32),
        "residual_noise": (noise / scale).astype(np.float32),
        "residual_over_noise": _over_noise(grid, rms / np.where(noise > 0, noise, np.nan)),
        "residual_prism_noise": (prism / scale).astype(np.float32),
        "residual_over_noise_core": _core_over_noise(comparison, residual, noise),
        "residual_map": _half(_bin_mean(residual, comparison.good, MAP_PIXELS) / scale),
        "residual_at": _half(at / scale),
    }


def bin_starts(grid: UnifiedGrid, pixels: int) -> np.ndarray:
    """First pixel of each bin; the last bin may be shorter."""
    return np.arange(0, grid.size, pixels)


def bin_centres(grid: UnifiedGrid, pixels: int) -> np.ndarray:
    """Wavelength [um] of the middle of each bin."""
    start = bin_starts(grid, pixels)
    end = np.minimum(start + pixels, grid.size) - 1
    return grid.start * np.exp(0.5 * (start + end) / grid.sampling)


def _over_noise(grid: UnifiedGrid, ratio: np.ndarray) -> np.ndarray:
    band = bin_of(bin_centres(grid, RMS_PIXELS), WAVELENGTH)
    parts = [band >= -1, *(band == i for i in range(len(WAVELENGTH) - 1))]
    chosen = np.isfinite(ratio)
    return np.stack([median_of_rows(ratio, chosen & part) for part in parts], axis=1).astype(np.float32)


def _core_over_noise(comparison: Comparison, residual: np.ndarray, noise: np.ndarray) -> np.ndarray:
    core = comparison.core
    per_pixel = np.repeat(noise, RMS_PIXELS, axis=1)[:, : core.shape[1]]
    below = (np.where(core, per_pixel, 0.0) ** 2).sum(axis=1)
    above = (np.where(core, residual, 0.0) ** 2).sum(axis=1)
    return np.where(below > 0, np.sqrt(above / np.where(below > 0, below, 1.0)), np.nan).astype(np.float32)


def _half(values: np.ndarray) -> np.ndarray:
    # Half precision: maps of a thousand galaxies are stored, and shown in 256 colours.
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)


def _bin_mean(values: np.ndarray, good: np.ndarray, pixels: int) -> np.ndarray:
    """Mean of the good values in each bin; NaN without any."""
    start = np.arange(0, values.shape[1], pixels)
    count = np.add.reduceat(good, start, axis=1, dtype=np.int32)
    total = np.add.reduceat(np.where(good, values, 0.0), start, axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _reference_noise(held_out: HeldOut, comparison: Comparison) -> np.ndarray:
    """(B, bins) the target's own noise; for noise-free truth that of gratings of the galaxy's depth."""
    own = np.sqrt(_bin_mean(comparison.variance, comparison.good, RMS_PIXELS))
    usual = grating_noise_of_tiers(held_out.grid)[_tier(held_out)]
    binned = usual[:, np.minimum(bin_starts(held_out.grid, RMS_PIXELS) + RMS_PIXELS // 2, usual.shape[1] - 1)]
    noisy = (comparison.variance > 0).any(axis=1)[:, None]
    return np.where(noisy, own, np.where(np.isfinite(own), binned, np.nan))


def _tier(held_out: HeldOut) -> np.ndarray:
    """(B,) tier whose usual prism error comes nearest to the galaxy's."""
    wavelength = load_instrument(PRISM).wavelength
    near = (wavelength > _TIER_RANGE[0]) & (wavelength < _TIER_RANGE[1]) & ~held_out.prism_mask
    error = median_of_rows(held_out.prism_error, near)
    tiers = np.arange(len(load_tiers().names))
    usual = typical_prism_error(tiers, _TIER_WAVELENGTH) / FLUX_UNIT_IN_RECORDS
    known = np.isfinite(error) & (error > 0)
    return np.abs(np.log(np.where(known, error, np.median(usual)))[:, None] - np.log(usual)).argmin(axis=1)


@lru_cache(maxsize=2)
def grating_noise_of_tiers(grid: UnifiedGrid) -> np.ndarray:
    """(tiers, N) usual one-sigma noise per pixel of the stitched gratings [1e-20 erg/s/cm2/A].

    Args:
        grid: unified grid.
    """
    tiers = np.arange(len(load_tiers().names))
    shares, variance = arm_shares(grid.wavelength), 0.0
    for name in GRATINGS:
        arm = load_instrument(name)
        # Beyond its nominal range no arm is in charge, so that the limit has no say.
        error = grating_error(tiers, arm.wavelength, arm.bounds, nominal_limit=np.inf)
        on_grid = np.stack([np.interp(grid.wavelength, arm.wavelength, row) for row in error])
        variance = variance + shares[arm.disperser] * on_grid**2
    return np.sqrt(variance) / FLUX_UNIT_IN_RECORDS


def _prism_noise(held_out: HeldOut, wavelength: np.ndarray) -> np.ndarray:
    """(B, m) error of the prism pixel nearest to each wavelength; NaN where that is masked."""
    pixels = load_instrument(PRISM).wavelength
    nearest = np.abs(pixels[:, None] - wavelength).argmin(axis=0)
    return np.where(held_out.prism_mask[:, nearest], np.nan, held_out.prism_error[:, nearest])


@dataclass(frozen=True)
class ResidualCurve:
    """Scatter of residuals against wavelength: the lower row of the paper's Fig. 6.

    Attributes:
        wavelength: (m,) um.
        sigma: (m,) robust scatter of residuals over galaxies.
        noise: (m,) median noise over galaxies.
    """

    wavelength: np.ndarray
    sigma: np.ndarray
    noise: np.ndarray


def residual_curve(grid: UnifiedGrid, residual_at: np.ndarray, noise: np.ndarray) -> ResidualCurve:
    """Scatter and noise against wavelength.

    Args:
        grid: unified grid.
        residual_at: (B, 304) normalised residual in single pixels.
        noise: (B, 203) normalised noise.
    """
    at = bin_centres(grid, MAP_PIXELS)
    columns = np.asarray(residual_at, np.float64).T
    sigma = np.array([robust_scatter(column[np.isfinite(column)]) for column in columns])
    typical = median_of_rows(noise.T, np.isfinite(noise.T))
    return ResidualCurve(at, sigma, np.interp(at, bin_centres(grid, RMS_PIXELS), typical))


# ---- power against spatial frequency


def measure_power_spectrum(comparison: Comparison) -> dict[str, np.ndarray]:
    """Power spectral density of the high-pass parts, in units of `Comparison.scale` squared.

    Its mean over all frequencies is the variance per good pixel, so that galaxies with gaps can be averaged
    with others. Gaps are filled with 0.

    Returns:
        ``power_truth``, ``power_output``, ``power_residual`` (B, 100); NaN for a galaxy with fewer than 500
        good pixels.
    """
    count = comparison.good.sum(axis=1)
    known = count >= _FEWEST_POWER
    unit = np.where(known, comparison.scale**2 * count, np.nan)[:, None]
    spectra = {
        "power_truth": comparison.high_truth,
        "power_output": comparison.high_output,
        "power_residual": comparison.high_output - comparison.high_truth,
    }
    return {name: (_binned_power(values) / unit).astype(np.float32) for name, values in spectra.items()}


def frequencies() -> np.ndarray:
    """(100,) middle of the bins in units of the Nyquist frequency of the unified grid."""
    return (np.arange(POWER_BINS) + 0.5) / POWER_BINS


def _binned_power(values: np.ndarray) -> np.ndarray:
    # Padded with zeros, which is what gaps are filled with too.
    size = next_fast_len(max(values.shape[1], 2 * POWER_BINS), real=True)
    power = np.abs(rfft(values, size, axis=1)) ** 2
    place = np.minimum((np.arange(power.shape[1]) * 2 * POWER_BINS) // size, POWER_BINS - 1)
    start = np.searchsorted(place, np.arange(POWER_BINS))
    # A frequency stands for its negative, too, but for zero and the highest.
    weight = np.full(power.shape[1], 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    return np.add.reduceat(power * weight, start, axis=1) / np.add.reduceat(weight, start)


def band_power(power: np.ndarray, band: str) -> np.ndarray:
    """(B,) power below (``low``) or above (``high``) 0.3 of the Nyquist frequency.

    Args:
        power: (B, 100).
        band: ``low`` or ``high``.

    Raises:
        ValueError: for another band.
    """
    if band not in ("low", "high"):
        raise ValueError(f"band: expected 'low' or 'high', got {band!r}")
    below = frequencies() < INTERMEDIATE
    return np.asarray(power, np.float64)[:, below if band == "low" else ~below].sum(axis=1)


# ---- figures


def residual_blocks(measured: Mapping[str, np.ndarray]) -> Iterator[Block]:
    """Residuals over noise, also by wavelength, and power of output and residual over that of the truth.

    Args:
        measured: of `measure_residual_noise` and `measure_power_spectrum`.
    """
    over_noise = measured["residual_over_noise"]
    band = np.arange(over_noise.shape[1])[None]
    waves = enumerate(labels("wave", WAVELENGTH), start=1)
    yield [median("residual_over_noise/core", measured["residual_over_noise_core"])], [WHOLE]
    yield (
        [median("residual_over_noise", over_noise)],
        [("", band == 0), *((f"[{label}]", band == number) for number, label in waves)],
    )
    for region in ("low", "high"):
        true, output, residual = (
            band_power(measured[f"power_{name}"], region) for name in ("truth", "output", "residual")
        )
        true = np.where(true > 0, true, np.nan)
        ratios = {"power_ratio": output / true, "residual_power": residual / true}
        yield [median(f"{name}/{region}", ratio) for name, ratio in ratios.items()], [WHOLE]
