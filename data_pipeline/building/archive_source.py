"""Pairs from the files of an archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.building.chunks import chunk_sizes
from data_pipeline.building.config import BuildConfig
from data_pipeline.building.row import Truth, original_row, truth_on_grid
from data_pipeline.catalogue import read_catalogue
from data_pipeline.catalogue.columns import ColumnMapping
from data_pipeline.lines import load_lines
from data_pipeline.pairs.matching import Dropped, Match, find_catalogue, match, scan_archive
from data_pipeline.pairs.preprocessing import PreprocessingConfig, process_match
from data_pipeline.pairs.sky_groups import assign_splits, group_by_position
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.truth import TruthReader

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
