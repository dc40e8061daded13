"""Are the errors of line fluxes right? Coverage, PIT and CRPS of the lines that are known, by true S/N."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.lines import load_lines
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
from kspecsr.measures.line_noise import line_signal_to_noise
from kspecsr.measures.splits import WAVELENGTH, bin_of, galaxy_splits, labels, line_snr_splits


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """Probability integral transform and CRPS of each line flux.

    The error of the known flux is added in quadrature to the stated one.

    Args:
        held_out: galaxies.
        made: line fluxes with errors, or None.

    Returns:
        (B, K) float32, NaN for lines that are not known or not measured: ``line_pit``; ``line_crps`` and
        ``line_crps_stated``, the one that the stated error leads to, in units of the error that the prism
        allows the line.
    """
    shape = held_out.line_flux.shape
    found = {
        name: np.full(shape, np.nan, np.float32) for name in ("line_pit", "line_crps", "line_crps_stated")
    }
    if made.line_flux is None or made.line_flux_error is None:
        return found
    with np.errstate(invalid="ignore"):
        judged = held_out.line_known & np.isfinite(made.line_flux) & (made.line_flux_error > 0)
    judged &= np.isfinite(made.line_flux_error)
    if made.line_in_range is not None:
        judged &= np.asarray(made.line_in_range, bool)
    snr_of_one = line_signal_to_noise(
        held_out.prism_error, held_out.prism_mask, np.ones(shape), held_out.line_known, held_out.redshift
    )
    judged &= snr_of_one > 0
    truth, mean = held_out.line_flux[judged].astype(float), made.line_flux[judged].astype(float)
    sigma = np.hypot(made.line_flux_error[judged].astype(float), held_out.line_error[judged])
    found["line_pit"][judged] = gaussian_pit(truth, mean, sigma)
    found["line_crps"][judged] = gaussian_crps(truth, mean, sigma) * snr_of_one[judged]
    found["line_crps_stated"][judged] = expected_crps(sigma) * snr_of_one[judged]
    return found


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Coverage, KS distance of the PIT and CRPS: ``coverage_68/lines``, ``pit_ks/lines[snr 5-10]`` and so on.

    See `calibration_statistics` for the figures. Split by the S/N that the prism allows the line, observed
    wavelength, continuum S/N and redshift. CRPS is in units of the error that the prism allows the line.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `measure`.
        resamples: of the bootstrap over galaxies.
    """
    found = {}
    for label, which in (("", np.ones(measured["line_pit"].shape, bool)), *_splits(columns)):
        sums = line_sums(measured, which)
        statistics = calibration_statistics(f"lines{label}")
        found |= estimates_of_sums(columns["galaxy"], sums, statistics, resamples)
    return found


def line_sums(measured: Mapping[str, np.ndarray], which: np.ndarray) -> np.ndarray:
    """Sums of each galaxy over some of its lines, in the order of `calibration_statistics`.

    Args:
        measured: of `measure`.
        which: (B, K) bool.

    Returns:
        (B, S).
    """
    pit = np.asarray(measured["line_pit"], float)
    used = which & np.isfinite(pit)
    row, values = np.nonzero(used)[0], pit[used]
    counts = np.zeros((len(pit), PIT_BINS))
    np.add.at(counts, (row, pit_bin(values)), 1.0)
    inside = np.zeros((len(pit), len(LEVELS)))
    np.add.at(inside, row, inside_levels(values))
    tally = [np.where(used, measured[name], 0.0).sum(axis=1) for name in ("line_crps", "line_crps_stated")]
    return np.column_stack([counts, inside, *tally, used.sum(axis=1)])


def _splits(columns: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    shape = columns["line_snr"].shape
    yield from line_snr_splits(columns["line_snr"])
    observed = load_lines().wavelength * (1.0 + columns["redshift"][:, None])
    place = bin_of(observed, WAVELENGTH)
    for i, label in enumerate(labels("wave", WAVELENGTH)):
        yield f"[{label}]", place == i
    for label, rows in galaxy_splits(columns):
        yield label, np.broadcast_to(rows[:, None], shape)
