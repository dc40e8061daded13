"""Record rows as training examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation.noise import grating_line_error
from data_pipeline.simulation.survey import load_tiers
from kspecsr.feeds.example import Batch
from kspecsr.feeds.simulated import DETECTABLE

FIELDS = (
    "prism_flux",
    "prism_error",
    "prism_mask",
    "grating_flux",
    "grating_error",
    "grating_mask",
    "noise_free",
    "has_noise_free",
    "line_flux",
    "line_flux_error",
    "line_flux_known",
    "redshift",
    "realisation",
    "tier",
)


def recorded_examples(
    rows: Sequence[Mapping[str, Any]], grid: UnifiedGrid, noise_free_targets: bool = True
) -> Batch:
    """Training examples of record rows (see `example_shapes`); no redshift is given as input.

    The target is the noise-free truth where a record has it and it is wanted, else the gratings with their
    errors. Continua are not recorded.

    Args:
        rows: rows with `FIELDS`, arrays as read.
        grid: unified grid of the records.
        noise_free_targets: as in `FeedConfig`: False for the gratings even where the truth is recorded.
    """
    stacked = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in FIELDS if name != "tier"}
    bad = stacked["prism_mask"] | ~(stacked["prism_error"] > 0) | ~np.isfinite(stacked["prism_flux"])
    redshift = stacked["redshift"].astype(np.float32)
    return {
        "prism_flux": np.where(bad, np.float32(0.0), stacked["prism_flux"]),
        "prism_error": np.where(bad, np.float32(1.0), stacked["prism_error"]),
        "prism_mask": bad,
        "redshift": np.full_like(redshift, np.nan),
        **_targets(stacked, noise_free_targets),
        "target_continuum": np.zeros((len(rows), grid.size), np.float32),
        "continuum_known": np.zeros(len(rows), bool),
        **_lines(stacked, [row["tier"] for row in rows], grid),
        "true_redshift": redshift,
    }


def _targets(stacked: Mapping[str, np.ndarray], noise_free: bool) -> Batch:
    truth = stacked["has_noise_free"][:, None] & noise_free
    flux = np.where(truth, stacked["noise_free"], stacked["grating_flux"])
    error = np.where(truth, np.float32(0.0), stacked["grating_error"])
    mask = ~truth & stacked["grating_mask"] | ~np.isfinite(flux) | ~np.isfinite(error)
    return {
        "target_flux": np.where(mask, np.float32(0.0), flux),
        "target_error": np.where(mask, np.float32(0.0), error),
        "target_mask": mask,
    }


def _lines(stacked: Mapping[str, np.ndarray], tiers: Sequence[str], grid: UnifiedGrid) -> Batch:
    flux, error = stacked["line_flux"], stacked["line_flux_error"]
    observed = load_lines().wavelength * (1.0 + stacked["redshift"][:, None])
    known = stacked["line_flux_known"] & (observed >= grid.start) & (observed <= grid.stop)
    known &= np.isfinite(flux) & np.isfinite(error)
    reference = np.where(known & (error == 0), _grating_error(tiers, np.where(known, observed, 1.0)), error)
    with np.errstate(invalid="ignore"):
        detectable = known & (flux > DETECTABLE * reference)
    return {
        "line_flux": np.where(known, flux, np.float32(0.0)),
        "line_error": np.where(known, error, np.float32(0.0)),
        "line_known": known,
        "line_detectable": detectable,
    }


def _grating_error(tiers: Sequence[str], observed: np.ndarray) -> np.ndarray:
    """(b, lines) usual line errors in record units; of all tiers together for a tier that JADES has not."""
    names = load_tiers().names
    everywhere = np.arange(len(names))
    error = np.empty(observed.shape)
    for row, tier in enumerate(tiers):
        which = np.array([names.index(tier)]) if tier in names else everywhere
        of_tiers = grating_line_error(which, np.broadcast_to(observed[row], (which.size, observed.shape[1])))
        error[row] = np.exp(np.log(of_tiers).mean(axis=0))
    return error / FLUX_UNIT_IN_RECORDS
