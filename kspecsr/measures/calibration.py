"""Calibration of stated errors of pixels and line fluxes: coverage, probability integral transform, CRPS.

All in closed form for normal predictions. The CRPS is equation 21 of Gneiting & Raftery 2007 (J. Am. Stat.
Assoc. 102, 359).
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy.special import ndtr

from kspecsr.measures.estimate import WHOLE, Block, SumStatistics, median_of_rows, quotient
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import prism_line_noise
from kspecsr.measures.spectrum import NO_REGION, REGIONS, pixel_regions
from kspecsr.measures.splits import (
    WAVELENGTH,
    bin_of,
    galaxy_parts,
    labels,
    line_snr_parts,
    line_wavelength_parts,
)

LEVELS = (0.50, 0.68, 0.90, 0.95)  # nominal probabilities of central intervals
PIT_BINS = 40  # even bins of the histograms of the probability integral transform
_SQRT_PI = np.sqrt(np.pi)
_SQRT_TWO_PI = np.sqrt(2.0 * np.pi)
_WAVES = len(WAVELENGTH) - 1

Arrays = Mapping[str, np.ndarray]


# ---- closed forms


def gaussian_pit(truth: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Probability that the prediction gave to values below the truth; uniform where it is calibrated."""
    return ndtr((truth - mean) / sigma)


def gaussian_crps(truth: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of normal predictions, in the unit of ``truth``; less is better."""
    z = (truth - mean) / sigma
    return sigma * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * _density(z) - 1.0 / _SQRT_PI)


def expected_crps(sigma: np.ndarray) -> np.ndarray:
    """Mean `gaussian_crps` where errors are what ``sigma`` states."""
    return sigma / _SQRT_PI


def normal_distance(mean: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """Mean of |x| under a normal distribution, the building block of the CRPS of mixtures."""
    z = mean / sigma
    return 2.0 * sigma * _density(z) + mean * (2.0 * ndtr(z) - 1.0)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.square(np.clip(z, -40.0, 40.0))) / _SQRT_TWO_PI


def inside_levels(pit: np.ndarray, levels: tuple[float, ...] = LEVELS) -> np.ndarray:
    """(..., levels) bool: inside the central interval of each probability; False for NaN."""
    return np.abs(pit[..., None] - 0.5) < 0.5 * np.array(levels)


# ---- histograms of the probability integral transform


def pit_bin(pit: np.ndarray) -> np.ndarray:
    """Bin of each value, 0 to `PIT_BINS` - 1."""
    return np.minimum((pit * PIT_BINS).astype(np.int64), PIT_BINS - 1)


def ks_distance(counts: np.ndarray) -> np.ndarray:
    """Largest difference of the distribution of PIT values from the uniform one, at the bins' edges.

    Args:
        counts: (..., `PIT_BINS`).

    Returns:
        (...), 0 to 1; NaN without counts. Up to half a bin's content less than from single values.
    """
    total = counts.sum(axis=-1, keepdims=True)
    cumulative = np.cumsum(counts, axis=-1) / np.where(total > 0, total, np.nan)
    uniform = np.arange(1, PIT_BINS + 1) / PIT_BINS
    return np.abs(cumulative - uniform).max(axis=-1)


def central_coverage(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of central intervals of every width that the histogram resolves.

    Args:
        counts: (`PIT_BINS`,).

    Returns:
        Nominal probabilities (`PIT_BINS` / 2,) and the shares found inside; NaN without counts.
    """
    half = PIT_BINS // 2
    folded = counts[half:] + counts[:half][::-1]
    total = folded.sum()
    return np.arange(1, half + 1) / half, np.cumsum(folded) / (total if total > 0 else np.nan)


# ---- figures: of sums of the PIT histogram, of values inside each level, of CRPS and of the expected one


def calibration_sums(pit: np.ndarray, crps: np.ndarray, expected: np.ndarray | float = 0.0) -> np.ndarray:
    """Contribution of single values to the sums that calibration figures are made of.

    Args:
        pit: (...) probability integral transform; NaN for what is not measured.
        crps: (...) continuous ranked probability score.
        expected: (...) the one that the stated errors lead to.

    Returns:
        (..., S): PIT histogram, inside each of `LEVELS`, CRPS, expected CRPS, number.
    """
    pit = np.asarray(pit, np.float64)
    used = np.isfinite(pit)
    place = np.where(used, pit_bin(np.where(used, pit, 0.0)), -1)
    tally = np.stack([np.where(used, values, 0.0) for values in (crps, expected, 1.0)], axis=-1)
    return np.concatenate([place[..., None] == np.arange(PIT_BINS), inside_levels(pit), tally], axis=-1)


def calibration_figures(which: str, sums: np.ndarray, stated: bool = True) -> SumStatistics:
    """Figures of sums: coverage, distance of the PIT from uniform, CRPS.

    ``coverage_50`` to ``coverage_95`` are shares, ``pit_ks`` a distance, ``crps`` a mean in the unit in which
    it was summed, ``crps_over_stated`` the ratio to what the stated errors would lead to: 1 where they are
    right, more where they are too small or the mean is off, less where they are too large. Drawing galaxies
    anew widens any distance, so that the interval of a small ``pit_ks`` lies above it.

    Args:
        which: part of the names after the slash.
        sums: (B, C, S) of `calibration_sums`.
        stated: the expected CRPS is known; False leaves out ``crps_over_stated``.
    """
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        f"coverage_{round(100 * level)}/{which}": quotient(PIT_BINS + i) for i, level in enumerate(LEVELS)
    }
    functions[f"pit_ks/{which}"] = lambda summed: ks_distance(summed[..., :PIT_BINS])
    functions[f"crps/{which}"] = quotient(-3)
    if stated:
        functions[f"crps_over_stated/{which}"] = quotient(-3, -2)
    return SumStatistics(functions, sums)


# ---- pixels, in line cores, wings and continuum apart


def measure_pixels(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Histograms of the probability integral transform of each galaxy's pixels, and what goes with them.

    The target's own error is added in quadrature to the stated one.

    Args:
        held_out: galaxies.
        reconstruction: flux and error of a method; without errors nothing is counted.

    Returns:
        float32, region (`REGIONS`) and wavelength bin (`splits.WAVELENGTH`) first after the galaxy:
        ``pixel_pit`` (B, 3, W, 40) counts, ``pixel_inside`` (B, 3, W, 4) counts inside each nominal interval,
        ``pixel_tally`` (B, 3, W, 3): CRPS, the one that the stated errors lead to, both in units of the
        galaxy's median prism error, and number of pixels.
    """
    cells = (len(held_out), len(REGIONS), _WAVES)
    found = {
        "pixel_pit": np.zeros((*cells, PIT_BINS), np.float32),
        "pixel_inside": np.zeros((*cells, len(LEVELS)), np.float32),
        "pixel_tally": np.zeros((*cells, 3), np.float32),
    }
    flux, error = reconstruction.flux, reconstruction.error
    if error is None:
        return found
    wave = bin_of(held_out.grid.wavelength, WAVELENGTH)
    region, unit = pixel_regions(held_out), median_of_rows(held_out.prism_error, ~held_out.prism_mask)
    with np.errstate(invalid="ignore"):
        judged = ~held_out.target_mask & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    judged &= (region != NO_REGION) & (wave >= 0) & np.isfinite(unit)[:, None]
    row, pixel = np.nonzero(judged)
    sigma = np.hypot(error[judged].astype(float), held_out.target_error[judged])
    truth, mean = held_out.target_flux[judged].astype(float), flux[judged].astype(float)
    pit = gaussian_pit(truth, mean, sigma)
    cell = (row * len(REGIONS) + region[judged]) * _WAVES + wave[pixel]
    size = int(np.prod(cells))
    counts = np.bincount(cell * PIT_BINS + pit_bin(pit), minlength=size * PIT_BINS)
    found["pixel_pit"][:] = counts.reshape(*cells, PIT_BINS)
    crps, expected = gaussian_crps(truth, mean, sigma) / unit[row], expected_crps(sigma) / unit[row]
    for name, columns in (("pixel_inside", inside_levels(pit).T), ("pixel_tally", (crps, expected, None))):
        for i, values in enumerate(columns):
            found[name][..., i] = np.bincount(cell, values, minlength=size).reshape(cells)
    return found


def pixel_blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Figures such as ``coverage_68/core``, ``pit_ks/wing[z 2-4]``; see `calibration_figures`.

    By continuum S/N, redshift and wavelength. CRPS is in units of the galaxy's median prism error; every
    pixel has the same weight.
    """
    stored = [np.asarray(measured[name], float) for name in ("pixel_pit", "pixel_inside", "pixel_tally")]
    sums = np.concatenate(stored, axis=-1)  # (B, 3, W, S)
    wave = np.arange(_WAVES)[None]
    waves = [(f"[{label}]", wave == i) for i, label in enumerate(labels("wave", WAVELENGTH))]
    yield (
        [calibration_figures(region, sums[:, i]) for i, region in enumerate(REGIONS)],
        [WHOLE, *galaxy_parts(columns), *waves],
    )


# ---- line fluxes


def measure_lines(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Probability integral transform and CRPS of each line flux.

    The error of the known flux is added in quadrature to the stated one.

    Args:
        held_out: galaxies.
        reconstruction: line fluxes with errors, or None.

    Returns:
        (B, K) float32, NaN for lines that are not known or not measured: ``line_pit``; ``line_crps`` and
        ``line_crps_stated``, the one that the stated error leads to, in units of the error that the prism
        allows the line.
    """
    names = ("line_pit", "line_crps", "line_crps_stated")
    found = {name: np.full(held_out.line_flux.shape, np.nan, np.float32) for name in names}
    flux, error = reconstruction.line_flux, reconstruction.line_flux_error
    if flux is None or error is None:
        return found
    unit = prism_line_noise(held_out)
    with np.errstate(invalid="ignore"):
        judged = (
            held_out.line_known & np.isfinite(flux) & np.isfinite(error) & (error > 0) & np.isfinite(unit)
        )
    if reconstruction.line_in_range is not None:
        judged &= np.asarray(reconstruction.line_in_range, bool)
    truth, mean = held_out.line_flux[judged].astype(float), flux[judged].astype(float)
    sigma = np.hypot(error[judged].astype(float), held_out.line_error[judged])
    found["line_pit"][judged] = gaussian_pit(truth, mean, sigma)
    found["line_crps"][judged] = gaussian_crps(truth, mean, sigma) / unit[judged]
    found["line_crps_stated"][judged] = expected_crps(sigma) / unit[judged]
    return found


def line_sums(measured: Arrays) -> np.ndarray:
    """(B, K, S) `calibration_sums` of what `measure_lines` gives."""
    return calibration_sums(measured["line_pit"], measured["line_crps"], measured["line_crps_stated"])


def line_blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Figures such as ``coverage_68/lines``, ``pit_ks/lines[snr 5-10]``; see `calibration_figures`.

    By the S/N that the prism allows the line, observed wavelength, continuum S/N and redshift. CRPS is in
    units of the error that the prism allows the line.
    """
    yield (
        [calibration_figures("lines", line_sums(measured))],
        [
            WHOLE,
            *line_snr_parts(columns["line_snr"]),
            *line_wavelength_parts(columns),
            *galaxy_parts(columns),
        ],
    )
