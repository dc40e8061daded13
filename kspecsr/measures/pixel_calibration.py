"""Are the errors of pixels right? In line cores, wings and continuum apart (issue: coverage, PIT, CRPS)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kspecsr.measures.estimate import RESAMPLES, Estimate, estimates_of_sums
from kspecsr.measures.gaussian_calibration import (
    LEVELS,
    PIT_BINS,
    calibration_statistics,
    expected_crps,
    gaussian_crps,
    gaussian_pit,
    inside_levels,
    pit_bin,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.regions import NO_REGION, REGIONS, pixel_regions
from kspecsr.measures.splits import WAVELENGTH, bin_of, galaxy_splits, labels

_WAVES = len(WAVELENGTH) - 1


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """Histograms of the probability integral transform of each galaxy's pixels, and what goes with them.

    The target's own error is added in quadrature to the stated one.

    Args:
        held_out: galaxies.
        made: flux and error of a method; without errors nothing is counted.

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
    if made.error is None:
        return found
    wave = bin_of(held_out.grid.wavelength, WAVELENGTH)
    region, unit = pixel_regions(held_out), prism_noise(held_out)
    with np.errstate(invalid="ignore"):
        judged = ~held_out.target_mask & np.isfinite(made.flux) & np.isfinite(made.error) & (made.error > 0)
    judged &= (region != NO_REGION) & (wave >= 0) & np.isfinite(unit)[:, None]
    row, pixel = np.nonzero(judged)
    sigma = np.hypot(made.error[judged].astype(float), held_out.target_error[judged])
    truth, mean = held_out.target_flux[judged].astype(float), made.flux[judged].astype(float)
    pit = gaussian_pit(truth, mean, sigma)
    cell = (row * len(REGIONS) + region[judged]) * _WAVES + wave[pixel]
    size = int(np.prod(cells))
    found["pixel_pit"] += np.bincount(cell * PIT_BINS + pit_bin(pit), minlength=size * PIT_BINS).reshape(
        found["pixel_pit"].shape
    )

    def summed(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, values, minlength=size).reshape(cells)

    # of the level an interval is inside, so are the wider ones
    narrowest = len(LEVELS) - inside_levels(pit).sum(axis=-1)
    for i in range(len(LEVELS)):
        found["pixel_inside"][..., i] = summed((narrowest <= i).astype(float))
    crps, stated = gaussian_crps(truth, mean, sigma) / unit[row], expected_crps(sigma) / unit[row]
    for i, values in enumerate((crps, stated, None)):
        found["pixel_tally"][..., i] = summed(values)
    return found


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Coverage, KS distance of the PIT and CRPS, e.g. ``coverage_68/core``, ``pit_ks/wing[z 2-4]``.

    See `calibration_statistics` for the figures. Split by continuum S/N, redshift and wavelength. CRPS is in
    units of the galaxy's median prism error; every pixel has the same weight.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `measure`.
        resamples: of the bootstrap over galaxies.
    """
    parts = [np.asarray(measured[name], float) for name in ("pixel_pit", "pixel_inside", "pixel_tally")]
    sums = np.concatenate(parts, axis=-1)  # (B, 3, W, S)
    galaxy = columns["galaxy"]
    found = {}
    for i, region in enumerate(REGIONS):
        everywhere = sums[:, i].sum(axis=1)
        cases = [("", everywhere, np.ones(len(galaxy), bool))]
        cases += [(label, everywhere, rows) for label, rows in galaxy_splits(columns)]
        cases += [
            (f"[{text}]", sums[:, i, w], np.ones(len(galaxy), bool))
            for w, text in enumerate(labels("wave", WAVELENGTH))
        ]
        for label, values, rows in cases:
            statistics = calibration_statistics(f"{region}{label}")
            found |= estimates_of_sums(galaxy[rows], values[rows], statistics, resamples)
    return found


def prism_noise(held_out: HeldOut) -> np.ndarray:
    """(B,) median error of each galaxy's good prism pixels [1e-20 erg/s/cm2/A]; NaN without any."""
    noise = np.full(len(held_out), np.nan)
    for row, good in enumerate(~held_out.prism_mask):
        if good.any():
            noise[row] = np.median(held_out.prism_error[row, good])
    return noise
