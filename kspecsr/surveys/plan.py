"""A survey run: its settings, and the list of its inputs, cut into partitions.

``_plan.parquet`` is written once and read by workers a slice at a time. It has a row group per partition
where inputs are files, and a row per partition where they are rows of Parquet files. Neither the client nor a
worker ever holds the list as a whole.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.configuration import json_hash, to_dict
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration.model import check_choice, check_range
from kspecsr.results.prism_input import PrismInput

CHUNK = 128  # spectra that go through the networks together: the batch size of `SuperResolver`
FILES, ROWS = "files", "rows"
LAYOUT = 2  # 1: without snr, upper_limit and in_range; sn_feature and sn_continuum on all prism pixels


@dataclass(frozen=True)
class InputColumns:
    """Columns of a catalogue or of a table of paths; empty for "look under the usual names".

    ``spectrum.flux`` names a field of a nested column.

    Attributes:
        flux: list column of the flux.
        error: list column of its one-sigma error.
        ivar: list column of the inverse variance, in place of errors.
        wavelength: list column of the wavelength in vacuum.
        mask: list column, nonzero = bad.
        path: of a table of paths.
        id: object ids.
        ra: right ascension [deg].
        dec: declination [deg].
        redshift: known redshifts; empty for none, whatever the table has.
        flux_unit: unit of flux and error; empty for the unit in the schema's metadata.
        wavelength_unit: unit of the wavelength; empty for the unit in the schema's metadata.
    """

    flux: str = ""
    error: str = ""
    ivar: str = ""
    wavelength: str = ""
    mask: str = ""
    path: str = ""
    id: str = ""
    ra: str = ""
    dec: str = ""
    redshift: str = ""
    flux_unit: str = ""
    wavelength_unit: str = ""


@dataclass(frozen=True)
class SurveySettings:
    """A survey run. Two runs with the same settings give the same tables.

    Attributes:
        kind: ``files`` (a spectrum each) or ``rows`` (of Parquet files).
        inputs_sha256: SHA-256 of the list of inputs with their sizes and times of change.
        total: number of inputs.
        partitions: number of partitions.
        partition_size: inputs in a partition, at most.
        model: name of the model.
        model_sha256: SHA-256 of its weights.
        columns: columns of the inputs.
        extraction: ``3pix`` or ``5pix``, for files that hold both.
        spectra: whether spectra and P(z) are kept too.
        software: package name to version.
        layout: version of the columns of the tables and of their meaning.
    """

    kind: str
    inputs_sha256: str
    total: int
    partitions: int
    partition_size: int
    model: str
    model_sha256: str
    columns: InputColumns = field(default_factory=InputColumns)
    extraction: str = "3pix"
    spectra: bool = False
    software: Mapping[str, str] = field(default_factory=dict)
    layout: int = 1  # of manifests that do not state one

    def __post_init__(self):
        check_choice("kind", self.kind, (FILES, ROWS))
        check_choice("extraction", self.extraction, ("3pix", "5pix"))
        check_range("total", self.total, 1)
        check_range("partition_size", self.partition_size, 1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return json_hash(to_dict(self))


NO_FILE, UNREADABLE, NOT_PRISM, NOT_RESOLVED = "no_file", "unreadable", "not_prism", "not_resolved"
FAILURE_KINDS = {
    NO_FILE: "the file is not there",
    UNREADABLE: "no spectrum could be read from it",
    NOT_PRISM: "a spectrum that was not taken with the prism",
    NOT_RESOLVED: "read, but the result could not be made",
}


@dataclass(frozen=True, eq=False)
class SurveyInput:
    """One input of a survey.

    Attributes:
        input_row: number among all inputs.
        object_id: id as the inputs state it; empty for the one that the file states.
        source: path of the file.
        source_row: row in that file; -1 where the file holds one spectrum.
        ra: right ascension [deg]; NaN where unknown.
        dec: declination [deg]; NaN where unknown.
        redshift: known redshift; NaN for none.
        spectrum: on the prism's pixels; None for a failure.
        failure: kind of failure, out of `FAILURE_KINDS`.
        reason: text.
    """

    input_row: int
    object_id: str
    source: str
    source_row: int = -1
    ra: float = math.nan
    dec: float = math.nan
    redshift: float = math.nan
    spectrum: PrismInput | None = None
    failure: str = ""
    reason: str = ""

    def failed(self, kind: str, error: Exception | str) -> SurveyInput:
        """The same as a failure, with one line of reason."""
        text = " ".join(str(error).split())
        if isinstance(error, Exception) and not isinstance(error, ValueError | OSError):
            text = f"{type(error).__name__}: {text}"
        return replace(self, spectrum=None, failure=kind, reason=text)


PLAN_FILE = "_plan.parquet"
_FILES = pa.schema(
    {
        "source": pa.string(),
        "object_id": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "redshift": pa.float64(),
    }
)
_ROWS = pa.schema({"path": pa.string(), "start": pa.int64(), "stop": pa.int64(), "first": pa.int64()})


@dataclass(frozen=True)
class PlanSummary:
    """Summary of a written plan.

    Attributes:
        sha256: SHA-256 of its content, states of the files included.
        total: number of inputs.
        partitions: number of partitions.
    """

    sha256: str
    total: int
    partitions: int


def write_files_plan(folder: Path, files: Iterable[SurveyInput], size: int) -> PlanSummary:
    """Writes the plan of files; ``size`` of them make a partition."""
    digest, total, partitions, waiting = hashlib.sha256(), 0, 0, []
    with replacing(folder / PLAN_FILE) as temporary, pq.ParquetWriter(temporary, _FILES) as writer:

        def flush():
            nonlocal partitions
            if waiting:
                columns = dict(zip(_FILES.names, zip(*waiting, strict=True), strict=True))
                writer.write_table(pa.table(columns, schema=_FILES), row_group_size=size)
                partitions += 1
                waiting.clear()

        for one in files:
            row = [getattr(one, name) for name in _FILES.names]
            digest.update(repr((row, file_state(one.source))).encode())
            waiting.append(row)
            total += 1
            if len(waiting) == size:
                flush()
        flush()
    return PlanSummary(digest.hexdigest(), total, partitions)


def file_state(path: str) -> str:
    """Size and time of change of a file: another state is another input."""
    try:
        status = os.stat(path)
    except OSError:
        return "not there"  # a failure of its own, when its turn comes
    return f"{status.st_size} {status.st_mtime_ns}"


def write_rows_plan(folder: Path, files: Iterable[tuple[str, int]], size: int) -> PlanSummary:
    """Writes the plan of Parquet files, each cut into parts of ``size`` rows at most.

    Args:
        folder: of the plan.
        files: path and number of rows of each.
        size: of a partition.
    """
    digest, total, rows = hashlib.sha256(), 0, []
    for path, count in files:
        digest.update(repr((path, count, file_state(path))).encode())
        for start in range(0, count, size):
            stop = min(start + size, count)
            rows.append((path, start, stop, total))
            total += stop - start
    columns = {name: [row[i] for row in rows] for i, name in enumerate(_ROWS.names)}
    with replacing(folder / PLAN_FILE) as temporary:
        pq.write_table(pa.table(columns, schema=_ROWS), temporary)
    return PlanSummary(digest.hexdigest(), total, len(rows))


def planned_files(folder: Path, partition: int, first: int) -> list[SurveyInput]:
    """Files of a partition, the first of them with the number ``first`` among all inputs."""
    with pq.ParquetFile(folder / PLAN_FILE) as file:
        rows = file.read_row_group(partition).to_pylist()
    return [SurveyInput(first + number, **row) for number, row in enumerate(rows)]


def planned_rows(folder: Path, partition: int) -> dict[str, Any]:
    """Rows of a partition: ``path``, ``start``, ``stop``, and the number ``first`` among all inputs."""
    path = folder / PLAN_FILE
    table = _whole(str(path), path.stat().st_mtime_ns)
    return table.slice(partition, 1).to_pylist()[0]


def partition_counts(folder: Path) -> list[int]:
    """Inputs in each partition."""
    with pq.ParquetFile(folder / PLAN_FILE) as file:
        if "start" not in file.schema_arrow.names:
            return [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
        table = file.read(columns=["start", "stop"])
    return [b - a for a, b in zip(*(table[name].to_pylist() for name in ("start", "stop")), strict=True)]


@lru_cache(maxsize=1)
def _whole(path: str, changed: int) -> pa.Table:
    return pq.read_table(path)
