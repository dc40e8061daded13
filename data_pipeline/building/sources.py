"""Pairs from the files of an archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.building.chunks import chunk_sizes
from data_pipeline.building.row import Truth, original_row, truth_on_grid
from data_pipeline.catalogue import read_catalogue
from data_pipeline.catalogue.table import ColumnMapping
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.matching import Dropped, Match, MatchConfig, find_catalogue, match, scan_archive
from data_pipeline.pairs.preprocessing import (
    PreprocessingConfig,
    QualityError,
    check_quality,
    make_pair,
    process_match,
)
from data_pipeline.pairs.sky_groups import SplitConfig, assign_splits, group_by_position
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import POPULATIONS, SimulatedBatch, SimulationConfig, simulate_batch
from data_pipeline.simulation.survey import draw_targets
from data_pipeline.simulation.truth import TruthReader
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta


@dataclass(frozen=True)
class BuildConfig:
    """Settings of a build.

    Attributes:
        source: ``archive`` or ``simulation``.
        archive: top of the archive; empty for a simulation.
        catalogue: redshift catalogue; empty for the one that lies in the archive.
        columns: column mapping of a catalogue that is not JADES's, ``ours=theirs`` each.
        n: number of simulated galaxies; 0 for an archive.
        seed: of the simulation, of the order of rows and of the augmentation.
        population: population of a simulation; empty for an archive.
        matching: which files belong together.
        preprocessing: how a pair is made.
        split: how sky groups are divided.
        augmentation: how the training part is expanded.
        chunk_size: objects per resumable chunk.
    """

    source: str = "archive"
    archive: str = ""
    catalogue: str = ""
    columns: tuple[str, ...] = ()
    n: int = 0
    seed: int = 0
    population: str = ""
    matching: MatchConfig = field(default_factory=MatchConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    chunk_size: int = 16

    def __post_init__(self) -> None:
        if self.source not in ("archive", "simulation"):
            raise ValueError(f"build: expected source archive or simulation, got {self.source!r}")
        if self.source == "archive" and not self.archive:
            raise ValueError("build: an archive build needs --archive DIR")
        if self.source == "simulation" and self.n < 1:
            raise ValueError(f"build: a simulation needs --n of 1 or more, got {self.n}")
        if self.source == "archive" and (self.n or self.population):
            raise ValueError(
                "build: --n and --population belong to a simulation; leave them or --archive out"
            )
        if self.source == "simulation" and (self.archive or self.catalogue or self.columns):
            raise ValueError("build: --archive, --catalogue and --columns have no meaning for a simulation")
        if self.source == "simulation" and self.matching != MatchConfig():
            raise ValueError("build: --flags and --minimum-gratings have no meaning for a simulation")
        if self.source == "simulation" and self.population not in POPULATIONS:
            raise ValueError(
                f"build: expected population {' or '.join(POPULATIONS)}, got {self.population!r}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"build: expected a seed of 0 to 2**63 - 1, got {self.seed}")
        if self.chunk_size < 1:
            raise ValueError(f"build: expected chunk_size of 1 or more, got {self.chunk_size}")


STEPS = (
    "file readable",
    "one prism file",
    "grating matched",
    "in catalogue",
    "secure redshift",
    "files readable",
    "positions agree",
    "stitched",
    "aligned",
)


@dataclass(frozen=True)
class PlannedObject:
    """A match with its place in the split.

    Attributes:
        match: the galaxy.
        group: sky group.
        split: ``train``, ``validation`` or ``test``.
    """

    match: Match
    group: int
    split: str


@dataclass(frozen=True)
class ArchiveSource:
    """The objects of an archive in the order in which they are processed.

    Attributes:
        archive: top of the archive.
        objects: planned objects, shuffled by the build's seed.
        dropped: what matching did not keep.
        preprocessing: how pairs are made.
        chunk_size: objects per chunk.
        description: for the manifest.
    """

    archive: str
    objects: tuple[PlannedObject, ...]
    dropped: tuple[Dropped, ...]
    preprocessing: PreprocessingConfig
    chunk_size: int
    description: dict[str, str]

    @classmethod
    def plan(cls, config: BuildConfig, progress: Callable | None = None) -> ArchiveSource:
        """Scans, matches, groups and splits.

        Args:
            config: settings of the build.
            progress: wraps the list of files that is scanned.

        Raises:
            FileNotFoundError: for a missing archive or catalogue.
            ValueError: where no prism file has a grating and a secure redshift.
        """
        files, unreadable = scan_archive(config.archive, progress)
        path = Path(config.catalogue) if config.catalogue else find_catalogue(config.archive)
        catalogue = read_catalogue(
            path, ColumnMapping.parse(",".join(config.columns)) if config.columns else None
        )
        matches, dropped = match(files, catalogue, config.matching)
        if not matches:
            raise ValueError(
                f"archive {config.archive}: none of {len(files)} files makes a pair with a secure redshift "
                f"({_first_reason(dropped)}); check that prism and grating files and the right catalogue are "
                "there"
            )
        ra, dec = np.array([(m.ra, m.dec) for m in matches]).T
        groups = group_by_position(ra, dec, config.split.separation_arcsec)
        splits = assign_splits([m.unique_id for m in matches], ra, dec, groups, config.split)
        order = np.random.default_rng(config.seed).permutation(len(matches))
        return cls(
            config.archive,
            tuple(PlannedObject(matches[i], int(groups[i]), splits[i]) for i in order),
            (*unreadable, *dropped),
            config.preprocessing,
            config.chunk_size,
            {"archive": Path(config.archive).name, "catalogue": path.name},
        )

    @property
    def chunks(self) -> list[int]:
        """Number of objects in each chunk."""
        return chunk_sizes(len(self.objects), self.chunk_size)

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps that may drop an object, in order."""
        return (*STEPS, f"line at S/N > {self.preprocessing.minimum_line_snr:g}")

    @property
    def fingerprint(self) -> str:
        """Changes with the list of objects, their splits, and the files: a repaired file is read again."""
        digest = hashlib.sha256()
        for planned in self.objects:
            found = planned.match
            digest.update(f"{found.unique_id} {planned.split} {found.redshift!r}".encode())
            for path in (found.prism, *found.gratings):
                state = os.stat(path)
                digest.update(f"{Path(path).name} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()

    def process(self, chunk: int) -> tuple[list[dict], list[str], list[Dropped]]:
        """Rows, their splits, and what was dropped."""
        rows, splits, dropped = [], [], []
        truths = _truths(self.archive)
        for planned in self.objects[chunk * self.chunk_size : (chunk + 1) * self.chunk_size]:
            pair = process_match(planned.match, self.preprocessing)
            if isinstance(pair, Dropped):
                dropped.append(pair)
                continue
            truth = _truth_of(truths, planned.match.unique_id, self.preprocessing.grid)
            rows.append(original_row(planned.match, pair, planned.group, truth))
            splits.append(planned.split)
        return rows, splits, dropped


def _first_reason(dropped: Sequence[Dropped]) -> str:
    return f"first: {dropped[0].unique_id}: {dropped[0].reason}" if dropped else "no prism file among them"


@lru_cache(maxsize=1)
def _truths(archive: str) -> TruthReader | None:
    """Truth that lies beside a simulated archive; None for a real one."""
    return TruthReader(archive) if (Path(archive) / "truth" / "index.json").is_file() else None


def _truth_of(truths: TruthReader | None, unique_id: str, grid: UnifiedGrid) -> Truth | None:
    if truths is None or unique_id not in truths:
        return None
    found = truths.get(unique_id)
    noise_free = truth_on_grid(found.noise_free, grid)
    lines = load_lines()
    flux = np.zeros(len(lines))
    known = np.zeros(len(lines), bool)
    position = {name: i for i, name in enumerate(found.line_names)}
    for i, name in enumerate(lines.names):
        if name in position:
            flux[i], known[i] = found.line_flux[position[name]], True
    return Truth(found.kind, found.redshift, noise_free, flux, known)


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
