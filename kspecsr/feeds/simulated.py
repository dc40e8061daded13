"""Training examples fresh from the simulator."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pairs.stitching import stitch
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid, pixel_bounds
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.resampling import resampler, to_pixels
from data_pipeline.simulation import (
    KINDS,
    POPULATIONS,
    Nuisances,
    SimulatedBatch,
    SimulationConfig,
    simulate_batch,
)
from data_pipeline.simulation.config import JADES_ALONE
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import grating_line_error
from data_pipeline.simulation.survey import load_tiers
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.example import Batch

MISSING_PIXELS = (5, 60)  # shortest and longest stretch
EARLIER_RELEASE = 674  # JADES DR3 has the first 674 pixels of DR4's 706
LATE_START = (0.8, 1.2)  # um
EARLY_STOP = (4.5, 5.3)  # um
_PHASES = 4  # positions of the detector pixels between the released ones


@lru_cache(maxsize=_PHASES)
def detector_grid(phase: int) -> np.ndarray:
    """(424,) centres [um] of detector pixels under the released prism pixels, one of four positions."""
    released = load_instrument(PRISM).wavelength
    step = 1.0 / DETECTOR_PIXELS_PER_PIXEL
    place = np.arange(0.5 * step * (1.0 + phase / _PHASES), released.size - 1 - 0.5 * step, step)
    return np.interp(place, np.arange(released.size), released)


def bin_to_detector(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, phase: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bin one prism spectrum (706,) to detector pixels, as DJA releases it; flux is conserved.

    Returns:
        Flux, error, mask on `detector_grid`; NaN where masked.
    """
    own = load_instrument(PRISM)
    return resampler(own.bounds, pixel_bounds(detector_grid(phase))).resample(flux, error, mask)


def sample_coarsely(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, phase: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bin one prism spectrum (706,) to detector pixels and resample it back; NaN where masked."""
    return to_pixels(
        detector_grid(phase), *bin_to_detector(flux, error, mask, phase), load_instrument(PRISM).wavelength
    )


def apply_defects(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, feed: FeedConfig, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give some spectra (b, 706) the gaps, range and sampling of other releases; NaN where masked."""
    mask = mask | _missing_stretch(mask.shape, feed, draws) | _truncated(feed, draws)
    chance = draws.uniform("coarse sampling", 2)
    coarse = np.flatnonzero((chance[:, 0] < feed.coarse_fraction) & ((~mask).sum(axis=1) > 3))
    if coarse.size:
        flux, error = flux.copy(), error.copy()
        for row in coarse:
            phase = int(chance[row, 1] * _PHASES)
            flux[row], error[row], mask[row] = sample_coarsely(flux[row], error[row], mask[row], phase)
    return flux, error, mask


def _missing_stretch(shape: tuple[int, int], feed: FeedConfig, draws: Draws) -> np.ndarray:
    chance = draws.uniform("missing stretch", 3)
    low, high = MISSING_PIXELS
    length = low + np.floor((high - low + 1) * chance[:, 1])
    start = np.floor(chance[:, 2] * (shape[1] - length))
    pixel = np.arange(shape[1])
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    return inside & (chance[:, :1] < feed.gap_fraction)


def _truncated(feed: FeedConfig, draws: Draws) -> np.ndarray:
    chance = draws.uniform("truncation", 3)
    wavelength = load_instrument(PRISM).wavelength

    def between(limits: tuple[float, float]) -> np.ndarray:
        return limits[0] + (limits[1] - limits[0]) * chance[:, 2:]

    beyond = np.select(
        [chance[:, 1:2] < 1 / 3, chance[:, 1:2] < 2 / 3],
        [(np.arange(wavelength.size) >= EARLIER_RELEASE)[None], wavelength < between(LATE_START)],
        wavelength > between(EARLY_STOP),
    )
    return beyond & (chance[:, :1] < feed.truncated_fraction)


def stitched_gratings(batch: SimulatedBatch, grid: UnifiedGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stitch the gratings of each galaxy on the unified grid.

    Returns:
        (b, n) flux, error [erg/s/cm2/A] and mask; NaN where masked. A galaxy whose gratings cannot be
        stitched, or cover less than a record must, is masked throughout.
    """
    shape = (len(batch), grid.size)
    flux, error, mask = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape, bool)
    config = PreprocessingConfig(grid=grid)
    for row in range(len(batch)):
        try:
            stitched = stitch(_gratings(batch, row), grid, config.stitch)
        except (SpectrumError, ValueError):
            continue
        if 1.0 - stitched.mask.mean() >= config.minimum_grating_coverage:
            flux[row], error[row], mask[row] = stitched.flux, stitched.error, stitched.mask
    return flux, error, mask


def _gratings(batch: SimulatedBatch, row: int) -> list[ObservedSpectrum]:
    taken = []
    for k, (arm, spectra) in enumerate(batch.gratings.items()):
        if batch.grating_taken[row, k]:
            meta = SpectrumMeta(disperser=load_instrument(arm).disperser, path=batch.unique_id[row])
            arrays = (array[row] for array in (spectra.flux, spectra.error, spectra.mask))
            taken.append(ObservedSpectrum(batch.grating_wavelength[arm], *arrays, meta))
    return taken


DETECTABLE = 3.0  # sigma of the reference gratings
# class, a number within `OBJECT_CLASSES`, of each of the simulator's kinds
_CLASS_OF_KIND = dict(zip(KINDS, (0, 2, 1, 1, 4, 3, 3, 3, 1, 2), strict=True))
# Random numbers are keyed by the seed: with this bit set for validation and clear for training, no
# galaxy and no noise can be shared.
VALIDATION_SEED_BIT = 1 << 62


def check_training_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        ValueError: below zero or beyond 62 bits.
    """
    if not 0 <= seed < VALIDATION_SEED_BIT:
        raise ValueError(f"seed: expected a whole number from 0 to 2**62 - 1, got {seed}")
    return int(seed)


@lru_cache(maxsize=8)
def simulation_config(feed: FeedConfig) -> SimulationConfig:
    """Simulation for a feed, in which every observation is of another galaxy."""
    population = replace(POPULATIONS[feed.population], reobserved_fraction=0.0, shared_id_fraction=0.0)
    nuisances = Nuisances(
        prism_resolution_scatter=feed.resolution_scatter,
        zero_point_shift=feed.zero_point_shift,
        quoted_error_scatter=feed.error_scatter,
    )
    return SimulationConfig(population, nuisances, feed.lines)


def simulated_examples(indices: np.ndarray, seed: int, feed: FeedConfig, grid: UnifiedGrid) -> Batch:
    """Simulate galaxies as training examples (see `example_shapes`).

    An example depends on the seed, the feed, the grid and its own index alone. No redshift is given as input.

    Args:
        indices: (b,) numbers of the galaxies in the simulation, zero or more.
        seed: seed of the simulation.
        feed: population, nuisances, and whether the targets are noise-free.
        grid: unified grid of the targets.
    """
    return observed_examples(indices, seed, feed, grid, simulation_config(feed))[1]


def observed_examples(
    indices: np.ndarray, seed: int, feed: FeedConfig, grid: UnifiedGrid, simulation: SimulationConfig
) -> tuple[SimulatedBatch, Batch]:
    """Simulated observations, and as training examples; with gratings unless the targets are noise-free.

    Arguments as of `simulated_examples`; ``simulation`` may draw from another population than the feed's.
    """
    indices = np.asarray(indices, np.int64)
    batch = simulate_batch(indices, seed, simulation, gratings=not feed.noise_free_targets)
    # of the same stream as the simulation, by names of their own: defects change no galaxy
    draws = Draws(seed, indices, simulation.population.stream)
    return batch, {
        **_prism(batch, feed, draws),
        "redshift": np.full(len(batch), np.nan, np.float32),
        **_targets(batch, feed, grid),
        **_lines(batch, grid),
        "true_redshift": batch.redshift.astype(np.float32),
        "second_redshift": batch.second_redshift.astype(np.float32),
        "object_class": np.array([_CLASS_OF_KIND[kind] for kind in batch.kind], np.float32),
    }


def validation_examples(n: int, seed: int, feed: FeedConfig, grid: UnifiedGrid) -> Batch:
    """Simulate ``n`` galaxies of the same population that no training sees, whatever its seed.

    Args:
        n: number of galaxies.
        seed: 0 to 2**62 - 1; the seed of the training may be the same.
        feed: as for training.
        grid: unified grid of the targets.
    """
    if n < 1:
        raise ValueError(f"validation: expected one galaxy or more, got {n}")
    seed = check_training_seed(seed) | VALIDATION_SEED_BIT
    parts = [
        simulated_examples(np.arange(start, min(start + 64, n)), seed, feed, grid)
        for start in range(0, n, 64)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def in_record_units(values: np.ndarray) -> np.ndarray:
    """Float32 in record units, from float64 in erg/s/cm2/A or erg/s/cm2."""
    return (values / FLUX_UNIT_IN_RECORDS).astype(np.float32)


def truth_on(grid: UnifiedGrid, truth: np.ndarray) -> np.ndarray:
    """Noise-free spectra (b, 6074) of the simulator on another unified grid.

    The same numbers as `data_pipeline.building.row.truth_on_grid`, for a whole batch; NaN in pixels that do
    not lie within the simulator's range altogether.
    """
    if grid == UNIFIED_GRID:
        return truth
    bounds, bounds_out = pixel_bounds(UNIFIED_GRID.wavelength), pixel_bounds(grid.wavelength)
    edges = np.append(bounds[0], bounds[1, -1])
    integral = np.concatenate([np.zeros((len(truth), 1)), np.cumsum(truth * np.diff(edges), axis=1)], axis=1)
    edges_out = np.append(bounds_out[0], bounds_out[1, -1])
    at_edges = CubicSpline(edges, integral, axis=1)(np.clip(edges_out, edges[0], edges[-1]))
    covered = (bounds_out[0] >= edges[0] * (1 - 1e-12)) & (bounds_out[1] <= edges[-1] * (1 + 1e-12))
    return np.where(covered, np.diff(at_edges, axis=1) / np.diff(edges_out), np.nan)


def _prism(batch: SimulatedBatch, feed: FeedConfig, draws: Draws) -> Batch:
    # populations of several releases have coarse pixels of their own
    if POPULATIONS[feed.population].releases != JADES_ALONE:
        feed = replace(feed, coarse_fraction=0.0)
    flux, error, mask = apply_defects(batch.prism_flux, batch.prism_error, batch.prism_mask, feed, draws)
    return {
        "prism_flux": np.where(mask, np.float32(0.0), in_record_units(flux)),
        "prism_error": np.where(mask, np.float32(1.0), in_record_units(error)),
        "prism_mask": mask,
    }


def _targets(batch: SimulatedBatch, feed: FeedConfig, grid: UnifiedGrid) -> Batch:
    shape = (len(batch), grid.size)
    if not feed.noise_free_targets:
        flux, error, mask = stitched_gratings(batch, grid)
        # The continuum is on the prism's flux scale, which the gratings do not share.
        continuum, known = np.zeros(shape), np.zeros(len(batch), bool)
    else:
        flux, continuum = truth_on(grid, batch.noise_free), truth_on(grid, batch.continuum)
        mask = np.isnan(flux)
        error, known = np.zeros(shape), np.ones(len(batch), bool)
        continuum = np.where(mask, 0.0, continuum)
    return {
        "target_flux": in_record_units(np.where(mask, 0.0, flux)),
        "target_error": in_record_units(np.where(mask, 0.0, error)),
        "target_mask": mask,
        "target_continuum": in_record_units(continuum),
        "continuum_known": known,
    }


def _lines(batch: SimulatedBatch, grid: UnifiedGrid) -> Batch:
    observed = batch.lines.wavelength * (1.0 + batch.redshift[:, None])
    known = (observed >= grid.start) & (observed <= grid.stop)  # False without a redshift
    flux = np.where(known, batch.line_flux, 0.0)
    return {
        "line_flux": in_record_units(flux),
        "line_error": np.zeros(flux.shape, np.float32),
        "line_known": known,
        "line_detectable": grating_signal_to_noise(batch, known) > DETECTABLE,
        "line_broad_flux": in_record_units(np.where(known, batch.broad_line_flux, 0.0)),
        "broad_velocity": batch.broad_velocity_sigma.astype(np.float32),
    }


def grating_signal_to_noise(batch: SimulatedBatch, known: np.ndarray) -> np.ndarray:
    """(b, lines) S/N that gratings of the same tier usually give the true flux; 0 where not ``known``."""
    observed = batch.lines.wavelength * (1.0 + batch.redshift[:, None])
    tier = np.array([load_tiers().names.index(name) for name in batch.tier])
    error = grating_line_error(tier, np.where(known, observed, 1.0))
    return np.where(known, batch.line_flux / error, 0.0)
