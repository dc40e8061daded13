"""Pairs straight from the simulator, through the same stitching and alignment as files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from data_pipeline.building.chunks import chunk_sizes
from data_pipeline.building.config import BuildConfig
from data_pipeline.building.row import Truth, original_row, truth_on_grid
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pairs.matching import Dropped, Match
from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, check_quality, make_pair
from data_pipeline.pairs.sky_groups import SplitConfig, assign_splits
from data_pipeline.simulation import SimulatedBatch, SimulationConfig, simulate_batch
from data_pipeline.simulation.survey import draw_targets
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta


@dataclass(frozen=True)
class SimulationSource:
    """Simulated galaxies in the order of their numbers.

    Attributes:
        n: number of galaxies.
        seed: of the simulation.
        population: ``survey`` or ``wide``.
        preprocessing: how pairs are made.
        split: how galaxies are divided; a galaxy seen again shares the group of its first observation.
        chunk_size: galaxies per chunk.
        dropped: nothing is dropped before processing.
    """

    n: int
    seed: int
    population: str
    preprocessing: PreprocessingConfig
    split: SplitConfig
    chunk_size: int
    dropped: tuple[Dropped, ...] = ()

    @classmethod
    def plan(cls, config: BuildConfig) -> SimulationSource:
        """The simulation that a build asks for."""
        return cls(
            config.n, config.seed, config.population, config.preprocessing, config.split, config.chunk_size
        )

    @property
    def chunks(self) -> list[int]:
        """Number of objects in each chunk."""
        return chunk_sizes(self.n, self.chunk_size)

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps that may drop a galaxy, in order."""
        cut = f"line at S/N > {self.preprocessing.minimum_line_snr:g}"
        return ("stitched", "aligned", *([cut] if self._cut else []))

    @property
    def _cut(self) -> bool:
        # Quiescent galaxies and blank spectra teach what has no lines: kept unless a cut is asked for.
        return self.preprocessing.minimum_line_snr > 0

    @property
    def fingerprint(self) -> str:
        """Changes with the population, the seed and the number."""
        text = f"{SimulationConfig(self.population).to_json()} {self.seed} {self.n}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def description(self) -> dict:
        """For the manifest."""
        return {"simulation": SimulationConfig(self.population).to_json(), "n": self.n, "seed": self.seed}

    def process(self, chunk: int) -> tuple[list[dict], list[str], list[Dropped]]:
        """Rows, their splits, and what was dropped."""
        first = chunk * self.chunk_size
        numbers = np.arange(first, min(first + self.chunk_size, self.n))
        batch = simulate_batch(numbers, self.seed, SimulationConfig(self.population))
        rows, splits, dropped = [], [], []
        splits_here = self._splits(batch)
        for i, unique_id in enumerate(batch.unique_id):
            match = _match(batch, i, unique_id)
            # The true line fluxes are known: fitting them serves the cut alone.
            fit_at = match.redshift if self._cut else float("nan")
            try:
                pair = make_pair(_prism(batch, i), _gratings(batch, i), fit_at, self.preprocessing)
                if self._cut:
                    check_quality(pair, self.preprocessing)
            except QualityError as error:
                dropped.append(Dropped(unique_id, error.step, str(error)))
                continue
            rows.append(original_row(match, pair, int(batch.galaxy[i]), _truth(batch, i, self.preprocessing)))
            splits.append(splits_here[i])
        return rows, splits, dropped

    def _splits(self, batch: SimulatedBatch) -> list[str]:
        """Split of each observation: that of the place where its galaxy was first observed."""
        first = draw_targets(SimulationConfig(self.population).population, self.seed, batch.galaxy)
        return assign_splits(batch.unique_id, first.ra, first.dec, batch.galaxy, self.split)


def _match(batch: SimulatedBatch, i: int, unique_id: str) -> Match:
    return Match(
        unique_id,
        batch.tier[i],
        batch.tier[i][:7],
        float(batch.ra[i]),
        float(batch.dec[i]),
        float(batch.redshift[i]),
        "",
        "",
        (),
    )


def _prism(batch: SimulatedBatch, i: int) -> ObservedSpectrum:
    prism = load_instrument(PRISM)
    meta = SpectrumMeta(disperser=prism.disperser, path=batch.unique_id[i])
    return ObservedSpectrum(
        batch.prism_wavelength, batch.prism_flux[i], batch.prism_error[i], batch.prism_mask[i], meta
    )


def _gratings(batch: SimulatedBatch, i: int) -> list[ObservedSpectrum]:
    taken = []
    for k, (arm, spectra) in enumerate(batch.gratings.items()):
        if batch.grating_taken[i, k]:
            meta = SpectrumMeta(disperser=load_instrument(arm).disperser, path=batch.unique_id[i])
            taken.append(
                ObservedSpectrum(
                    batch.grating_wavelength[arm], spectra.flux[i], spectra.error[i], spectra.mask[i], meta
                )
            )
    return taken


def _truth(batch: SimulatedBatch, i: int, config: PreprocessingConfig) -> Truth:
    noise_free = truth_on_grid(batch.noise_free[i], config.grid)
    known = np.ones(len(batch.line_names), bool)
    return Truth(batch.kind[i], float(batch.redshift[i]), noise_free, batch.line_flux[i], known)
