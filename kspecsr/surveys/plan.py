"""The list of inputs, cut into partitions: written once, read by workers a slice at a time.

``_plan.parquet`` has a row group per partition where inputs are files, and a row per partition where they are
rows of Parquet files. Neither the client nor a worker ever holds the list as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.writers.atomic import replacing

PLAN_FILE = "_plan.parquet"
_FILES = pa.schema(
    {
        "path": pa.string(),
        "object_id": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "redshift": pa.float64(),
    }
)
_ROWS = pa.schema({"path": pa.string(), "start": pa.int64(), "stop": pa.int64(), "first": pa.int64()})


@dataclass(frozen=True)
class PlannedFile:
    """A file that holds one spectrum.

    Attributes:
        path: of the file.
        object_id: empty for what the file states.
        ra: [deg]; NaN for what the file states.
        dec: [deg].
        redshift: where it is known; NaN where not.
        state: size and time of change, which go into the plan's hash.
    """

    path: str
    object_id: str = ""
    ra: float = float("nan")
    dec: float = float("nan")
    redshift: float = float("nan")
    state: str = ""


@dataclass(frozen=True)
class PlannedRows:
    """Rows of one Parquet file.

    Attributes:
        path: of the file.
        start: first row.
        stop: row after the last.
        first: number of the first among all inputs.
    """

    path: str
    start: int
    stop: int
    first: int


@dataclass(frozen=True)
class PlanSummary:
    """What a written plan amounts to.

    Attributes:
        sha256: of its content, states of the files included.
        total: inputs.
        partitions: number of them.
    """

    sha256: str
    total: int
    partitions: int


def write_files_plan(folder: Path, files: Iterable[PlannedFile], size: int) -> PlanSummary:
    """Writes the plan of files; ``size`` of them make a partition."""
    digest, total, partitions, waiting = hashlib.sha256(), 0, 0, []
    with replacing(folder / PLAN_FILE) as temporary, pq.ParquetWriter(temporary, _FILES) as writer:

        def flush():
            nonlocal partitions
            if waiting:
                columns = {name: [getattr(one, name) for one in waiting] for name in _FILES.names}
                writer.write_table(pa.table(columns, schema=_FILES), row_group_size=size)
                partitions += 1
                waiting.clear()

        for one in files:
            digest.update(repr(one).encode())
            waiting.append(one)
            total += 1
            if len(waiting) == size:
                flush()
        flush()
    return PlanSummary(digest.hexdigest(), total, partitions)


def write_rows_plan(folder: Path, files: Iterable[tuple[str, int, str]], size: int) -> PlanSummary:
    """Writes the plan of Parquet files, each cut into parts of ``size`` rows at most.

    Args:
        folder: of the plan.
        files: path, number of rows, and state of each.
        size: of a partition.
    """
    digest, total, rows = hashlib.sha256(), 0, []
    for path, count, state in files:
        digest.update(repr((path, count, state)).encode())
        for start in range(0, count, size):
            stop = min(start + size, count)
            rows.append((path, start, stop, total))
            total += stop - start
    columns = {name: [row[i] for row in rows] for i, name in enumerate(_ROWS.names)}
    with replacing(folder / PLAN_FILE) as temporary:
        pq.write_table(pa.table(columns, schema=_ROWS), temporary)
    return PlanSummary(digest.hexdigest(), total, len(rows))


def planned_files(folder: Path, partition: int) -> list[PlannedFile]:
    """Files of a partition."""
    with pq.ParquetFile(folder / PLAN_FILE) as file:
        return [PlannedFile(**row) for row in file.read_row_group(partition).to_pylist()]


def planned_rows(folder: Path, partition: int) -> PlannedRows:
    """Rows of a partition."""
    path = folder / PLAN_FILE
    table = _whole(str(path), path.stat().st_mtime_ns)
    return PlannedRows(**table.slice(partition, 1).to_pylist()[0])


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
