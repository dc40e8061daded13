"""The same galaxies seen three ways on the unified grid: prism, super-resolved, gratings (paper Fig. 9)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import upsample
from data_pipeline.workers import worker_pool
from kspecsr.evaluation.sources import SURVEY, HeldOutSource, RecordedHeldOut, SimulatedHeldOut, held_out_of
from kspecsr.feeds.records_feed import RecordsFeed
from kspecsr.measures.held_out import HeldOut

Arrays = dict[str, np.ndarray]

INPUTS = ("lr", "sr", "hr")
NOISY = replace(SURVEY, noise_free_targets=False)
_PRISM = ("flux", "error", "mask")
_TRAINING_SEED = 1 << 60  # simulated galaxies of the three networks; those judged have smaller seeds
_SPARE = 1.35  # galaxies simulated for each one that is used: some have no line
_LOOK_AHEAD = 4  # batches simulated before they are needed
_CHUNK = 64  # held-out galaxies simulated at a time
_LEAST_COVERAGE = 0.1  # of the grid by prism and gratings together


def identical_examples(held_out: HeldOut) -> Arrays:
    """Galaxies with gratings as targets, seen by prism and gratings; spectra in 1e-20 erg/s/cm2/A.

    Args:
        held_out: with noise in the targets.

    Returns:
        - ``prism_flux``, ``prism_error``, ``prism_mask``: (B, P) what the model super-resolves.
        - ``lr_flux``, ``lr_error``: (B, N) prism, cubic on the grid, with its interpolated error (paper
          section 3.1).
        - ``hr_flux``, ``hr_error``: (B, N) stitched gratings with their noise.
        - ``mask``: (B, N) True where prism or gratings are bad: no network sees these pixels.
        - ``redshift``: (B,) true; NaN for galaxies without one or without a grating, which do not count.
    """
    prism, fine = load_instrument(PRISM).wavelength, held_out.grid.wavelength
    shape = held_out.target_flux.shape
    flux, error, mask = np.zeros(shape), np.ones(shape), np.ones(shape, bool)
    for row in np.flatnonzero((~held_out.prism_mask).sum(axis=1) >= 4):
        spectrum = (held_out.prism_flux[row].astype(float), held_out.prism_error[row].astype(float))
        flux[row], error[row], mask[row] = upsample(prism, *spectrum, held_out.prism_mask[row], fine)
    mask |= held_out.target_mask | ~(held_out.target_error > 0)
    covered = 1.0 - mask.mean(axis=1) >= _LEAST_COVERAGE
    return {
        **{f"prism_{name}": getattr(held_out, f"prism_{name}") for name in _PRISM},
        "lr_flux": np.where(mask, 0.0, flux).astype(np.float32),
        "lr_error": np.where(mask, 1.0, error).astype(np.float32),
        "hr_flux": np.where(mask, 0.0, held_out.target_flux).astype(np.float32),
        "hr_error": np.where(mask, 1.0, held_out.target_error).astype(np.float32),
        "mask": mask,
        "redshift": np.where(covered, held_out.redshift, np.nan).astype(np.float32),
    }


def rows_of(examples: Arrays, which: np.ndarray | slice) -> Arrays:
    """Some of the galaxies."""
    return {name: array[which] for name, array in examples.items()}


def network_inputs(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray, grid: UnifiedGrid
) -> dict[str, np.ndarray]:
    """A spectrum on the grid as inputs of the redshift network.

    That network also takes the prism, for its scale, its coverage and one channel. Here the prism is the same
    constant for every input, masked where the spectrum is: it says where there are data, and nothing else.
    Spectra are scaled as `kspecsr.layers.prism_channels.PrismNormalisation` scales the prism, and
    interpolated where masked.

    Args:
        flux: (B, N).
        error: (B, N) one sigma.
        mask: (B, N) bool, True = bad.
        grid: of the spectra.

    Returns:
        Name to array, for the network of `kspecsr.models.build_zhead`.
    """
    good = ~mask
    flux, error = _filled(flux, good), _filled(error, good)
    size = np.where(good, np.log(np.maximum(np.hypot(flux, error), 1e-30)), 0.0)
    scale = np.exp(size.sum(axis=1, keepdims=True) / np.maximum(good.sum(axis=1, keepdims=True), 1))
    nearest = _nearest_prism_pixel(grid)
    unseen = (nearest @ good.T.astype(float)).T < 0.5
    ones = np.ones(unseen.shape, np.float32)
    return {
        "sr1_flux": (flux / scale).astype(np.float32),
        "sr1_error": (error / scale).astype(np.float32),
        "prism_flux": ones,
        "prism_error": ones,
        "prism_mask": unseen,
        "redshift": np.full(len(flux), np.nan, np.float32),
    }


def _filled(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    values = np.where(good, values, 1.0).astype(np.float64)
    pixel = np.arange(values.shape[1])
    for row in np.flatnonzero(good.any(axis=1) & ~good.all(axis=1)):
        values[row] = np.interp(pixel, pixel[good[row]], values[row, good[row]])
    return values


@lru_cache(maxsize=4)
def _nearest_prism_pixel(grid: UnifiedGrid) -> sparse.csr_matrix:
    """(P, N): shares of the grid's pixels that lie nearest to each prism pixel."""
    prism = load_instrument(PRISM).wavelength
    middle = 0.5 * (prism[1:] + prism[:-1])
    place = np.searchsorted(middle, grid.wavelength)
    count = np.bincount(place, minlength=prism.size)
    shape = (prism.size, grid.size)
    return sparse.csr_matrix((1.0 / count[place], (place, np.arange(grid.size))), shape=shape)


@contextmanager
def training_examples(
    directory: Path | None, grid: UnifiedGrid, batch_size: int, seed: int, first_step: int, workers: int
) -> Iterator[Iterator[Arrays]]:
    """Endless batches for the training of the three networks; step k is the same wherever it began.

    Args:
        directory: records, whose training split is taken; None for fresh simulation of the survey.
        grid: of the model.
        batch_size: galaxies per step.
        seed: of the galaxies, or of the records' order.
        first_step: step of the first batch.
        workers: processes that simulate.
    """
    if directory is not None:
        options = {"grid": grid, "noise_free_targets": False}
        with RecordsFeed(directory, "train", batch_size, seed, first_step, **options) as feed:
            yield (identical_examples(held_out_of(batch, np.zeros(batch_size), grid)) for batch in feed)
        return
    source = SimulatedHeldOut(grid, _TRAINING_SEED + seed, NOISY, int(_SPARE * batch_size) + 4)
    make = partial(_simulated_batch, source=source, batch_size=batch_size)
    with worker_pool(workers, background=workers > 0, ahead=_LOOK_AHEAD) as ordered_map:
        batches = iter(ordered_map(make, itertools.count(first_step)))
        try:
            yield batches
        finally:
            if hasattr(batches, "close"):
                batches.close()


def _simulated_batch(step: int, source: SimulatedHeldOut, batch_size: int) -> Arrays:
    """The batch of a step; where too few galaxies have a line, others stand in that do not count."""
    examples = rows_of(identical_examples(source.chunk(step)), slice(batch_size))
    count = len(examples["redshift"])
    padded = rows_of(examples, np.resize(np.arange(max(count, 1)), batch_size))
    padded["redshift"] = np.where(np.arange(batch_size) < count, padded["redshift"], np.nan).astype(
        np.float32
    )
    return padded


def judged_examples(
    directory: Path | None, grid: UnifiedGrid, n: int, seed: int, split: str = "test"
) -> Iterator[Arrays]:
    """Held-out galaxies with gratings and a redshift, ``n`` or as many as there are, in chunks.

    Args:
        directory: records; None for simulation.
        grid: of the model.
        n: galaxies.
        seed: of simulated ones.
        split: of the records.
    """
    source: HeldOutSource = SimulatedHeldOut(grid, seed, NOISY, _CHUNK)
    if directory is not None:
        source = RecordedHeldOut(directory, grid, split, noise_free_targets=False)
    for number in itertools.count():
        chunk = source.chunk(number) if n > 0 else None
        if chunk is None:
            return
        if len(chunk) == 0:
            continue
        examples = identical_examples(chunk)
        examples = rows_of(examples, np.flatnonzero(np.isfinite(examples["redshift"]))[:n])
        n -= len(examples["redshift"])
        if len(examples["redshift"]):
            yield examples
