"""The manifest of a record directory: its contents, their provenance, and checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.configuration import from_dict, json_hash, software_versions, to_dict
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS, SCHEMA_VERSION, RecordIntegrityError, Schema
from data_pipeline.records.shards import MANIFEST_NAME, Shard, sync_directory
from data_pipeline.tables import read_table
from data_pipeline.writers.atomic import replacing

PRISM_TABLE = "jades_prism_pixels.ecsv"
_REBUILD = "build the records again, or copy the whole directory again"


@dataclass(frozen=True)
class StepCount:
    """Objects that a step of the build passed on, and those that it dropped, by reason."""

    step: str
    kept: int
    dropped: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reasons and sum(self.reasons.values()) != self.dropped:
            raise ValueError(
                f"step {self.step!r}: reasons add up to {sum(self.reasons.values())}, "
                f"but {self.dropped} were dropped"
            )


@dataclass(frozen=True)
class PrismPixels:
    """The prism's own pixel grid: a shipped table and a hash of its numbers.

    Attributes:
        table: ECSV file in ``data_pipeline/tables`` with a column ``wavelength_um``.
        sha256: SHA-256 of the wavelengths as little-endian float64; empty to compute it.
    """

    table: str = PRISM_TABLE
    sha256: str = ""

    def __post_init__(self) -> None:
        found = hashlib.sha256(read_table(self.table)["wavelength_um"].astype("<f8").tobytes()).hexdigest()
        if self.sha256 and self.sha256 != found:
            raise ValueError(
                f"prism wavelengths: table {self.table} has SHA-256 {found[:12]}..., the records were made "
                f"with {self.sha256[:12]}...; install the version of kspecsr that made them, or rebuild"
            )
        object.__setattr__(self, "sha256", found)

    @property
    def wavelength(self) -> np.ndarray:
        """(n_prism,) pixel centres [um, vacuum], read-only."""
        return read_table(self.table)["wavelength_um"]


def _plain(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON gives it back (tuples become lists): equality and hash survive a round trip."""
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"manifest {name}: expected a mapping of plain JSON values, got {value!r}"
        ) from error


@dataclass(frozen=True)
class Manifest:
    """Everything about a record directory but the records.

    Attributes:
        schema: fields of a record, with the schema version.
        grid: unified grid.
        line_names: lines of ``line_flux``, in order.
        splits: shards of each split, by name (``train``, ``validation``, ``test``).
        seeds: random seeds by purpose.
        split_settings: how the sample was divided.
        augmentation: how the training part was expanded; empty if it was not.
        source: archive, catalogue or simulation that the sample came from.
        steps: what each step of the build kept and dropped.
        prism: the prism's own pixels.
        software: versions.
        flux_unit: value of one unit of flux [erg/s/cm2/A; erg/s/cm2 for lines].
    """

    schema: Schema
    grid: UnifiedGrid
    line_names: tuple[str, ...]
    splits: Mapping[str, tuple[Shard, ...]]
    seeds: Mapping[str, int] = field(default_factory=dict)
    split_settings: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[StepCount, ...] = ()
    prism: PrismPixels = field(default_factory=PrismPixels)
    software: Mapping[str, str] = field(default_factory=software_versions)
    flux_unit: float = FLUX_UNIT_IN_RECORDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "line_names", tuple(self.line_names))
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "splits", {name: tuple(shards) for name, shards in self.splits.items()})
        for name in ("seeds", "split_settings", "augmentation", "source", "software"):
            object.__setattr__(self, name, _plain(name, getattr(self, name)))
        self._check_lengths()

    def _check_lengths(self) -> None:
        by_name = self.schema.by_name
        for name, length, what in (
            ("prism_flux", self.prism.wavelength.size, f"prism table {self.prism.table}"),
            ("grating_flux", self.grid.size, "unified grid"),
            ("line_flux", len(self.line_names), "list of line names"),
        ):
            if name in by_name and by_name[name].shape != (length,):
                raise ValueError(
                    f"schema field {name!r} has shape {by_name[name].shape}, but the {what} has {length} "
                    f"entries; make the schema with record_schema from the same grid and lines"
                )

    def count(self, split: str) -> int:
        """Records of a split.

        Raises:
            ValueError: for a split that is not there, listing those that are.
        """
        return sum(shard.count for shard in self.shards(split))

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Shards of a split; none where it is empty.

        Raises:
            ValueError: for a split that is not there, listing those that are.
        """
        if split not in self.splits:
            raise ValueError(f"no split {split!r}; these records hold: {', '.join(self.splits) or 'none'}")
        return self.splits[split]

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything above; changes whenever a record does."""
        return json_hash(to_dict(self))

    def write(self, directory: str | Path) -> Path:
        """Write ``manifest.json`` as the last step of a build: temporary name, flush, rename.

        The file carries the manifest's own hash, so that a flipped byte in it is found as well.
        """
        path = Path(directory) / MANIFEST_NAME
        text = json.dumps({"sha256": self.hash, "manifest": to_dict(self)}, indent=1, ensure_ascii=False)
        # The last file of a build: without it the shards are an unfinished build, whatever they look like.
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
        return path

    @classmethod
    def read(cls, directory: str | Path) -> Manifest:
        """The manifest of a record directory.

        Raises:
            FileNotFoundError: where there is none, with the cure.
            RecordIntegrityError: for a damaged manifest or another schema version.
        """
        path = Path(directory) / MANIFEST_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"no {MANIFEST_NAME} in {directory}: no record directory, or its build did not finish; "
                f"make one with `kspecsr data build` or finish it by the same command"
            )
        try:
            outer = json.loads(path.read_text(encoding="utf-8"))
            stated, data = outer["sha256"], outer["manifest"]
            version = data["schema"]["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordIntegrityError(f"{path}: no readable manifest ({error!r}); {_REBUILD}") from error
        # Before the hash: another version may hash otherwise, and its user needs to hear about the version.
        if version != SCHEMA_VERSION:
            raise RecordIntegrityError(
                f"{path}: found schema version {version}, this kspecsr reads version {SCHEMA_VERSION}; build "
                f"the records again, or install the kspecsr that made them "
                f"({data.get('software', {}).get('kspecsr', 'version not stated')})"
            )
        found = json_hash(data)
        if found != stated:
            raise RecordIntegrityError(
                f"{path}: damaged or edited: its contents have SHA-256 {found[:12]}..., "
                f"it states {str(stated)[:12]}...; {_REBUILD}"
            )
        try:
            return from_dict(cls, data, "manifest")
        except ValueError as error:
            raise RecordIntegrityError(f"{path}: {error}; {_REBUILD}") from error
