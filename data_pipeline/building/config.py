"""What a build does, in one object that the manifest keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.matching import MatchConfig
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pairs.sky_groups import SplitConfig
from data_pipeline.simulation import POPULATIONS


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
