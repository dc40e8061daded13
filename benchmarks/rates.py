"""Rates of the direct line fit, of reading records and of a sweep's proposals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.records import Manifest, iterate, load
from kspecsr.configuration import PRESETS, FeedConfig
from kspecsr.feeds.simulated import validation_examples
from kspecsr.methods.direct_fit import DirectFitConfig, fit_prism_lines
from tuning.space import search_space, values_of
from tuning.trial_record import DONE, TrialRecord

_SPECTRA, _SEED = 256, 1


def linefit_rates(seconds: float = 3.0) -> dict[str, float]:
    """Spectra per second of the fit alone, and of the fit and its sharp spectrum.

    Args:
        seconds: duration of each measurement, of one call at least.
    """
    batch = validation_examples(_SPECTRA, _SEED, FeedConfig(population="survey"), UNIFIED_GRID)
    arrays = [batch[name] for name in ("prism_flux", "prism_error", "prism_mask", "true_redshift")]

    def fit():
        return fit_prism_lines(*arrays, DirectFitConfig())

    fit().on_grid(UNIFIED_GRID)  # tables are read and remembered
    return {
        "fit": _rate(fit, seconds),
        "fit and spectrum on the unified grid": _rate(lambda: fit().on_grid(UNIFIED_GRID), seconds),
    }


def _rate(work: Callable[[], object], seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        work()
        done += _SPECTRA
    return done / (time.perf_counter() - start)


def reading_rates(directory: Path, split: str, batch_size: int) -> dict[str, float]:
    """Examples per second of one whole pass by each reader, after one batch for warming up.

    Args:
        directory: record directory.
        split: split to read.
        batch_size: examples in a batch.
    """
    n, rates = Manifest.read(directory).count(split), {}
    for name, seed in (("in order", None), ("shuffled", 1)):
        dataset = load(directory, split, batch_size, shuffle_seed=seed)
        for reader, batches in (
            ("NumPy", lambda s=seed: iterate(directory, split, batch_size, shuffle_seed=s)),
            ("tf.data", lambda d=dataset: d),
        ):
            rates[f"{reader}, {name}"] = n / _pass(batches)
    return rates


def _pass(batches: Callable[[], Iterable]) -> float:
    next(iter(batches()))
    begin = time.perf_counter()
    for _ in batches():
        pass
    return time.perf_counter() - begin


def proposal_times(stage: str, algorithm: str, trials: int, seed: int) -> tuple[list[float], int, int]:
    """Seconds of each proposal, the number of different configurations, and the number of all."""
    from tuning.proposals import Proposals  # optuna: a second

    axes = search_space(stage)
    proposals = Proposals(axes, algorithm, seed, values_of(PRESETS["default"], stage, axes))
    generator = np.random.default_rng(seed)
    records, seconds = [], []
    for number in tqdm(range(trials + 1), unit="trial", disable=None, leave=False):
        begun = time.perf_counter()
        values = proposals.propose(records)
        seconds.append(time.perf_counter() - begun)
        if values is None:
            break
        records.append(TrialRecord(number, values, {1: float(generator.random())}, DONE))
    return seconds, len({tuple(record.values.values()) for record in records}), len(records)
