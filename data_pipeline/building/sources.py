"""Settings of a build, and where its pairs come from: the files of an archive, or the simulator."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.building.row import Truth, original_row, truth_on_grid
from data_pipeline.catalogue import parse_columns, read_catalogue
from data_pipeline.configuration import NEWER
from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.lines import LISTS, load_lines
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.matching import Dropped, Match, MatchConfig, find_catalogue, match, scan_archive
from data_pipeline.pairs.preprocessing import (
    PreprocessingConfig,
    QualityError,
    check_quality,
    make_pair,
    read_match,
)
from data_pipeline.pairs.sky_groups import SplitConfig, assign_splits, group_by_position
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
        lines: list of lines of a simulation; fits to the gratings of an archive measure the first.
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
    lines: str = field(default="first", metadata=NEWER)

    def __post_init__(self) -> None:
        simulated = self.source == "simulation"
        if self.source not in ("archive", "simulation"):
            raise ValueError(f"build: expected source archive or simulation, got {self.source!r}")
        if not simulated and not self.archive:
            raise ValueError("build: an archive build needs --archive DIR")
        if simulated and self.n < 1:
            raise ValueError(f"build: a simulation needs --n of 1 or more, got {self.n}")
        if not simulated and (self.n or self.population):
            raise ValueError(
                "build: --n and --population belong to a simulation; leave them or --archive out"
            )
        if simulated and (self.archive or self.catalogue or self.columns):
            raise ValueError("build: --archive, --catalogue and --columns have no meaning for a simulation")
        if simulated and self.matching != MatchConfig():
            raise ValueError("build: --flags and --minimum-gratings have no meaning for a simulation")
        if self.lines not in LISTS or (self.lines != "first" and not simulated):
            raise ValueError(
                f"build: expected lines {' or '.join(LISTS)}, for an archive first (which fits to its "
                f"gratings measure), got {self.lines!r}"
            )
        if simulated and self.population not in POPULATIONS:
            known = " or ".join(POPULATIONS)
            raise ValueError(f"build: expected population {known}, got {self.population!r}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"build: expected a seed of 0 to 2**63 - 1, got {self.seed}")
        if self.chunk_size < 1:
            raise ValueError(f"build: expected chunk_size of 1 or more, got {self.chunk_size}")


@dataclass(frozen=True)
class Observed:
    """One galaxy, ready to be made a pair: ``read`` gives its prism and its gratings."""

    match: Match
    group: int
    split: str
    read: Callable[[], tuple[ObservedSpectrum, list[ObservedSpectrum]]]
    truth: Truth | None


class Source(ABC):
    """Galaxies in the order in which they are processed, chunk by chunk.

    Attributes:
        config: settings of the build.
        size: number of galaxies.
        dropped: what was not kept before processing.
        description: for the manifest.
        steps: steps that may drop a galaxy, in order.
        cut: galaxies without a significant line are dropped.
    """

    config: BuildConfig
    size: int
    dropped: tuple[Dropped, ...]
    description: dict
    steps: tuple[str, ...]
    cut: bool

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the list of galaxies."""

    @abstractmethod
    def galaxies(self, first: int, stop: int) -> Iterator[Observed]:
        """Galaxies from one number up to another."""

    @property
    def chunks(self) -> list[int]:
        """Number of galaxies in each chunk."""
        step = self.config.chunk_size
        return [min(step, self.size - first) for first in range(0, self.size, step)]

    def process(self, chunk: int) -> tuple[list[dict], list[str], list[Dropped]]:
        """Rows of a chunk, their splits, and what was dropped; what goes wrong costs one galaxy only."""
        rows, splits, dropped = [], [], []
        first = chunk * self.config.chunk_size
        for galaxy in self.galaxies(first, min(first + self.config.chunk_size, self.size)):
            # True line fluxes are known without a fit: then it serves the cut alone.
            fit_at = galaxy.match.redshift if self.cut else float("nan")
            try:
                pair = make_pair(*galaxy.read(), fit_at, self.config.preprocessing)
                if self.cut:
                    check_quality(pair, self.config.preprocessing)
            except QualityError as error:
                dropped.append(Dropped(galaxy.match.unique_id, error.step, str(error)))
                continue
            rows.append(original_row(galaxy.match, pair, galaxy.group, galaxy.truth))
            splits.append(galaxy.split)
        return rows, splits, dropped


@dataclass(frozen=True)
class ArchiveSource(Source):
    """The ``objects`` of an archive, matches with sky group and split, shuffled by the build's seed."""

    config: BuildConfig
    objects: tuple[tuple[Match, int, str], ...]
    dropped: tuple[Dropped, ...]
    description: dict[str, str]
    cut = True

    @classmethod
    def plan(cls, config: BuildConfig, progress: Callable | None = None) -> ArchiveSource:
        """Scan, match, group and split.

        ``progress`` wraps the list of files that is scanned.

        Raises:
            FileNotFoundError: for a missing archive or catalogue.
            ValueError: where no prism file has a grating and a secure redshift.
        """
        files, unreadable = scan_archive(config.archive, progress)
        path = Path(config.catalogue) if config.catalogue else find_catalogue(config.archive)
        columns = parse_columns(",".join(config.columns))
        matches, dropped = match(files, read_catalogue(path, columns), config.matching)
        if not matches:
            first = "no prism file among them"
            if dropped:
                first = f"first: {dropped[0].unique_id}: {dropped[0].reason}"
            raise ValueError(
                f"archive {config.archive}: none of {len(files)} files makes a pair with a secure redshift "
                f"({first}); check that prism and grating files and the right catalogue are there"
            )
        ra, dec = np.array([(m.ra, m.dec) for m in matches]).T
        groups = group_by_position(ra, dec, config.split.separation_arcsec)
        splits = assign_splits([m.unique_id for m in matches], ra, dec, groups, config.split)
        # Catalogues are sorted by field and tier: neighbours in a batch would be alike.
        order = np.random.default_rng(config.seed).permutation(len(matches))
        return cls(
            config,
            tuple((matches[i], int(groups[i]), splits[i]) for i in order),
            (*unreadable, *dropped),
            {"archive": Path(config.archive).name, "catalogue": path.name},
        )

    @property
    def size(self) -> int:
        """Number of galaxies."""
        return len(self.objects)

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps that may drop an object, in order."""
        return (
            *("file readable", "one prism file", "grating matched", "in catalogue", "secure redshift"),
            *("files readable", "positions agree", "stitched", "aligned"),
            f"line at S/N > {self.config.preprocessing.minimum_line_snr:g}",
        )

    @property
    def fingerprint(self) -> str:
        """Changes with the list of objects, their splits, and the files: a repaired file is read again."""
        digest = hashlib.sha256()
        for found, _, split in self.objects:
            digest.update(f"{found.unique_id} {split} {found.redshift!r}".encode())
            for path in (found.prism, *found.gratings):
                # Not the content: to hash 100 GB would take as long as the build.
                state = os.stat(path)
                digest.update(f"{Path(path).name} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()

    def galaxies(self, first: int, stop: int) -> Iterator[Observed]:
        """Galaxies from one number up to another; files are opened when they are read."""
        truths, preprocessing = _truths(self.config.archive), self.config.preprocessing
        for found, group, split in self.objects[first:stop]:
            truth = None
            if truths is not None and found.unique_id in truths:
                known = truths.get(found.unique_id)
                names, flux = known.line_names, known.line_flux
                truth = _truth(known.kind, known.redshift, known.noise_free, names, flux, self.config)
            yield Observed(found, group, split, lambda m=found: read_match(m, preprocessing), truth)


@lru_cache(maxsize=1)
def _truths(archive: str) -> TruthReader | None:
    """Truth that lies beside a simulated archive; None for a real one."""
    return TruthReader(archive) if (Path(archive) / "truth" / "index.json").is_file() else None


def _truth(
    kind: str,
    redshift: float,
    noise_free: np.ndarray,
    names: Sequence[str],
    line_flux: np.ndarray,
    config: BuildConfig,
) -> Truth:
    """Truth on the build's grid, with line fluxes in the order of its list."""
    position = {name: i for i, name in enumerate(names)}
    # By name: an archive may have another list.
    at = [position.get(name, -1) for name in load_lines(config.lines).names]
    known = np.array(at) >= 0
    flux = np.where(known, np.asarray(line_flux)[at], 0.0)
    return Truth(kind, float(redshift), truth_on_grid(noise_free, config.preprocessing.grid), flux, known)


@dataclass(frozen=True)
class SimulationSource(Source):
    """Simulated galaxies in the order of their numbers, through the same stitching and alignment as files."""

    config: BuildConfig
    dropped: tuple[Dropped, ...] = ()

    @property
    def size(self) -> int:
        """Number of galaxies."""
        return self.config.n

    @property
    def cut(self) -> bool:
        """Quiescent galaxies and blank spectra teach what has no lines: kept unless a cut is asked for."""
        return self.config.preprocessing.minimum_line_snr > 0

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps that may drop a galaxy, in order."""
        line = f"line at S/N > {self.config.preprocessing.minimum_line_snr:g}"
        return ("stitched", "aligned", *([line] if self.cut else []))

    @property
    def _simulation(self) -> SimulationConfig:
        return SimulationConfig(self.config.population, lines=self.config.lines)

    @property
    def fingerprint(self) -> str:
        """Changes with the population, the seed and the number."""
        text = f"{self._simulation.to_json()} {self.config.seed} {self.config.n}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def description(self) -> dict:
        """For the manifest."""
        return {"simulation": self._simulation.to_json(), "n": self.config.n, "seed": self.config.seed}

    def galaxies(self, first: int, stop: int) -> Iterator[Observed]:
        """Galaxies from one number up to another."""
        seed = self.config.seed
        batch = simulate_batch(np.arange(first, stop), seed, self._simulation)
        # A galaxy seen again shares the group, and so the split, of the place of its first observation.
        seen = draw_targets(self._simulation.population, seed, batch.galaxy)
        splits = assign_splits(batch.unique_id, seen.ra, seen.dec, batch.galaxy, self.config.split)
        for i, unique_id in enumerate(batch.unique_id):
            tier, redshift = batch.tier[i], float(batch.redshift[i])
            place = (float(batch.ra[i]), float(batch.dec[i]))
            found = Match(unique_id, tier, tier[:7], *place, redshift, "", "", ())
            truth = _truth(
                batch.kind[i],
                redshift,
                batch.noise_free[i],
                batch.line_names,
                batch.line_flux[i],
                self.config,
            )
            yield Observed(found, int(batch.galaxy[i]), splits[i], lambda i=i: _spectra(batch, i), truth)


def _spectra(batch: SimulatedBatch, i: int) -> tuple[ObservedSpectrum, list[ObservedSpectrum]]:
    """Prism and gratings of a simulated galaxy, as readers would give them."""
    observed = {}
    for arm, (wavelength, spectra) in batch.observed.items():
        meta = SpectrumMeta(disperser=load_instrument(arm).disperser, path=batch.unique_id[i])
        arrays = (spectra.flux[i], spectra.error[i], spectra.mask[i])
        observed[arm] = ObservedSpectrum(wavelength, *arrays, meta)
    taken = zip(GRATINGS, batch.grating_taken[i], strict=True)
    return observed[PRISM], [observed[arm] for arm, there in taken if there]
