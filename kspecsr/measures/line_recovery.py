"""Recovered line fluxes against the truth: ratio, scatter, pull, completeness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.lines import load_lines
from kspecsr.measures.estimate import (
    RESAMPLES,
    Estimate,
    bootstrap,
    median_estimate,
    rate_estimate,
    robust_scatter,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import (
    KEY_LINES,
    STRONG,
    detected_lines,
    judged_lines,
    line_wavelengths,
    measured_lines,
)
from kspecsr.measures.splits import WAVELENGTH, bin_of, galaxy_splits, labels, line_snr_splits

_FLUX_RANGE = 100.0  # recovered over true flux is taken to lie within this factor of 1 in the scatter


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """(B, K) ``line_flux`` and ``line_flux_error`` of the method, NaN out of range."""
    found = measured_lines(held_out, made)
    return {name: found[name] for name in ("line_flux", "line_flux_error")}


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Recovery of lines with S/N > 5 in the prism, pulls of all known lines; both against S/N.

    Args:
        columns: of the held-out galaxies.
        measured: see `measure`.
        resamples: of the bootstrap.

    Returns:
        ``recovery``: median of recovered over true flux, ``recovery_scatter``: robust, natural log;
        ``completeness``: share at 3 sigma or more, of lines that the method measures in any galaxy: where a
        wrong redshift puts them out of range they are lost; ``pull_median`` and ``pull_scatter``: robust, of
        (flux - true) / error. Each over all, by true S/N ``[snr 5-10]``,
        redshift ``[z 2-4]``, wavelength ``[wave 1.5-2.5]`` and line ``/Halpha``.
    """
    galaxy = np.broadcast_to(np.asarray(columns["galaxy"])[:, None], measured["line_flux"].shape)
    ratio, pull = flux_ratio(columns, measured), flux_pull(columns, measured)
    detected = detected_lines(measured)
    judged = judged_lines(columns) & (np.asarray(columns["line_snr"]) > 0)
    # lines that a method never measures are none that it lost
    judged &= np.isfinite(measured["line_flux"]).any(axis=0)
    strong = judged & (np.asarray(columns["line_snr"]) > STRONG)
    found: dict[str, Estimate | None] = {}
    for part, chosen, by_snr in _parts(columns):
        lost_or_not = chosen & (judged if by_snr else strong)
        use = lost_or_not & np.isfinite(ratio)
        found[f"recovery{part}"] = median_estimate(galaxy[use], ratio[use], resamples=resamples)
        found[f"recovery_scatter{part}"] = bootstrap(
            robust_scatter, galaxy[use], log_ratio(ratio[use]), resamples=resamples
        )
        found[f"completeness{part}"] = rate_estimate(columns["galaxy"], detected, lost_or_not, resamples)
        use = chosen & judged & np.isfinite(pull)
        found[f"pull_median{part}"] = median_estimate(galaxy[use], pull[use], resamples=resamples)
        found[f"pull_scatter{part}"] = bootstrap(robust_scatter, galaxy[use], pull[use], resamples=resamples)
    return {name: value for name, value in found.items() if value is not None and value.n}


def flux_ratio(columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) recovered over true flux; NaN where either is not known."""
    true = np.where(judged_lines(columns), columns["line_flux"], np.nan).astype(float)
    return measured["line_flux"] / np.where(true > 0, true, np.nan)


def flux_pull(columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) flux less true flux over the error, that of the known flux added in quadrature."""
    error = np.hypot(measured["line_flux_error"].astype(float), columns["line_error"])
    true = np.where(judged_lines(columns), columns["line_flux"], np.nan).astype(float)
    return (measured["line_flux"] - true) / np.where(error > 0, error, np.nan)


def log_ratio(ratio: np.ndarray) -> np.ndarray:
    """Natural log; a line that came out at zero or less counts as 100 times too faint."""
    return np.log(np.clip(ratio, 1.0 / _FLUX_RANGE, _FLUX_RANGE))


def _parts(columns: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Part of a name, (B, K) bool, and whether it is a split by S/N."""
    snr = np.asarray(columns["line_snr"])
    yield "", np.ones(snr.shape, bool), False
    for part, chosen in line_snr_splits(snr):
        yield part, chosen, True
    for part, chosen in galaxy_splits(columns):
        yield part, np.broadcast_to(chosen[:, None], snr.shape), False
    place = bin_of(line_wavelengths(columns["redshift"]), WAVELENGTH)
    for i, label in enumerate(labels("wave", WAVELENGTH)):
        yield f"[{label}]", place == i, False
    for name in KEY_LINES:
        chosen = np.zeros(snr.shape, bool)
        chosen[:, load_lines().index(name)] = True
        yield f"/{name}", chosen, False
