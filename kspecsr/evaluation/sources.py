"""Sources of held-out galaxies: a simulation that no training sees, or the test split of records."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipeline.configuration import json_hash, to_dict
from data_pipeline.instrument import FWHM_PER_SIGMA
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import iterate
from data_pipeline.simulation import Nuisances, SimulationConfig
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.example import Batch
from kspecsr.feeds.records_feed import FIELDS, open_records, recorded_examples
from kspecsr.feeds.simulated import (
    VALIDATION_SEED_BIT,
    grating_signal_to_noise,
    in_record_units,
    observed_examples,
    simulation_config,
)
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.lines import line_signal_to_noise

SHIPPED_SEED = 2026  # of the held-out galaxies that published figures are of
CHUNK = 128  # galaxies at a time: what is stored and resumed, whatever number is asked for
MINIMUM_LINE_SNR = 5.0  # in the gratings, of the best line (paper section 3.1)
_HELD_OUT_BIT = VALIDATION_SEED_BIT >> 1  # apart from validation galaxies of the seeds that people use
_NUISANCES = Nuisances()  # the survey's own, not the wider ones of the training
SURVEY = FeedConfig(
    population="survey",
    resolution_scatter=_NUISANCES.prism_resolution_scatter,
    zero_point_shift=_NUISANCES.zero_point_shift,
    error_scatter=_NUISANCES.quoted_error_scatter,
    gap_fraction=0.0,
    truncated_fraction=0.0,
    coarse_fraction=0.0,
)


class HeldOutSource(Protocol):
    """Held-out galaxies in chunks that do not depend on how many are asked for."""

    grid: UnifiedGrid

    @property
    def title(self) -> str:
        """What the galaxies are, after their number."""

    @property
    def description(self) -> dict:
        """Description of the galaxies, plain JSON values."""

    def chunk(self, number: int) -> HeldOut | None:
        """The galaxies of a chunk; None beyond the last one. A chunk may be empty of galaxies."""


class SimulatedHeldOut:
    """Galaxies like those of JADES that neither training nor validation sees.

    Those whose best line would have S/N > 5 in the gratings are kept, as in the paper (section 3.1);
    everything of populations with more than galaxies: what is faint belongs to what a slit sees.

    Args:
        grid: of the model.
        seed: 0 to 2**61 - 1.
        feed: population and nuisances.
        chunk_size: galaxies simulated at a time.
        minimum_line_snr: of the best line; 0 keeps all, those without redshift too; None for the usual.
        simulation: population and nuisances in place of the feed's.
    """

    def __init__(
        self,
        grid: UnifiedGrid,
        seed: int = SHIPPED_SEED,
        feed: FeedConfig = SURVEY,
        chunk_size: int = CHUNK,
        minimum_line_snr: float | None = None,
        simulation: SimulationConfig | None = None,
    ):
        if not 0 <= seed < _HELD_OUT_BIT:
            raise ValueError(f"held-out seed: expected a whole number from 0 to 2**61 - 1, got {seed}")
        self.grid, self.seed, self.feed = grid, seed, feed
        self.chunk_size = chunk_size
        self.simulation = simulation_config(feed) if simulation is None else simulation
        usual = 0.0 if self.simulation.population.is_open else MINIMUM_LINE_SNR
        self.minimum_line_snr = usual if minimum_line_snr is None else minimum_line_snr

    @property
    def title(self) -> str:
        """See `HeldOutSource`."""
        return f"simulated galaxies like those of JADES (seed {self.seed}), which no training sees"

    @property
    def description(self) -> dict:
        """Description of the galaxies, plain JSON values."""
        return {
            "data": "simulation",
            "seed": self.seed,
            "feed": to_dict(self.feed),
            "simulation": self.simulation.as_dict(),
            "minimum_line_snr": self.minimum_line_snr,
            "grid": asdict(self.grid),
            "chunk_size": self.chunk_size,
        }

    def chunk(self, number: int) -> HeldOut:
        """See `HeldOutSource`; there is no last chunk."""
        indices = np.arange(number * self.chunk_size, (number + 1) * self.chunk_size)
        seed = self.seed | VALIDATION_SEED_BIT | _HELD_OUT_BIT
        batch, examples = observed_examples(indices, seed, self.feed, self.grid, self.simulation)
        labels = {name: np.array(getattr(batch, name)) for name in ("kind", "trouble", "second_redshift")}
        labels["object_class"] = examples["object_class"].astype(np.int64)
        labels["broad_flux"] = in_record_units(batch.broad_line_flux)
        labels["broad_fwhm"] = FWHM_PER_SIGMA * batch.broad_velocity_sigma
        held_out = held_out_of(examples, indices, self.grid, **labels)
        if not self.minimum_line_snr > 0:
            return held_out
        snr = grating_signal_to_noise(batch, examples["line_known"])
        return held_out.rows(snr.max(axis=1) > self.minimum_line_snr)


class RecordedHeldOut:
    """The observations of a split of records, augmented copies left out; split by sky groups when built.

    Args:
        directory: record directory.
        grid: of the model.
        split: name of the split.
        noise_free_targets: judge on the noise-free truth where it is recorded, else on the gratings.
        lines: list of lines that the records must have.

    Raises:
        FileNotFoundError: without a manifest.
        ValueError: for records on another grid, with other lines, or without that split.
    """

    def __init__(
        self,
        directory: str | Path,
        grid: UnifiedGrid,
        split: str = "test",
        noise_free_targets: bool = True,
        lines: str = "first",
    ):
        self.directory, self.split, self.grid = Path(directory), split, grid
        self.noise_free_targets = noise_free_targets
        self._manifest = open_records(directory, grid, lines)
        self._manifest.count(split)
        self._next, self._rows = 0, self._originals()

    @property
    def title(self) -> str:
        """See `HeldOutSource`."""
        return f"galaxies of the split {self.split!r} of records"

    @property
    def description(self) -> dict:
        """Description of the galaxies, plain JSON values."""
        return {
            "data": "records",
            "manifest": self._manifest.hash,
            "split": self.split,
            "noise_free_targets": self.noise_free_targets,
            "grid": asdict(self.grid),
            "chunk_size": CHUNK,
        }

    def chunk(self, number: int) -> HeldOut | None:
        """See `HeldOutSource`; reads on from the last chunk asked for where it can."""
        if number < self._next:
            self._next, self._rows = 0, self._originals()
        rows: list[dict] = []
        while self._next <= number:
            # Which rows are originals is known once they are read, so that skipping is reading.
            rows = [row for row, _ in zip(self._rows, range(CHUNK), strict=False)]
            self._next += 1
        if not rows:
            return None
        examples = recorded_examples(rows, self.grid, self.noise_free_targets)
        group, kind = (np.array([row[name] for row in rows]) for name in ("group", "kind"))
        return held_out_of(examples, group, self.grid, kind=kind)

    def _originals(self) -> Iterator[dict]:
        rows = iterate(self.directory, self.split, fields=(*FIELDS, "group", "kind"))
        return (row for row in rows if row["realisation"] == 0)


def held_out_of(examples: Batch, galaxy: np.ndarray, grid: UnifiedGrid, **labels: np.ndarray) -> HeldOut:
    """Training examples as held-out galaxies.

    Args:
        examples: B of them (see `kspecsr.feeds.example.example_shapes`).
        galaxy: (B,) unit of resampling.
        grid: of the targets.
        **labels: ``kind`` and other fields of `HeldOut`, where they are known.
    """
    good = ~examples["prism_mask"]
    snr = np.where(good, examples["prism_flux"] / examples["prism_error"], np.nan)
    median = np.array([np.median(row[use]) if use.any() else 0.0 for row, use in zip(snr, good, strict=True)])
    names = ("prism_flux", "prism_error", "prism_mask", "target_flux", "target_error", "target_mask")
    more = ("target_continuum", "continuum_known", "line_flux", "line_error", "line_known", "line_detectable")
    return HeldOut(
        grid=grid,
        galaxy=np.asarray(galaxy, np.int64),
        line_snr=line_signal_to_noise(
            *(examples[name] for name in ("prism_error", "prism_mask", "line_flux", "line_known")),
            examples["true_redshift"],
        ).astype(np.float32),
        redshift=examples["true_redshift"].astype(np.float64),
        continuum_snr=median,
        **{name: examples[name] for name in (*names, *more)},
        **labels,
    )


def fingerprint(source: HeldOutSource) -> str:
    """Changes with anything that changes the galaxies."""
    return json_hash(source.description)
