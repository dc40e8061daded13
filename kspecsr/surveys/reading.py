"""Inputs of a survey: their list, cut into partitions, and the spectra of a partition one by one.

``_plan.parquet`` is written once and read by workers a slice at a time. It has a row group per partition
where inputs are files, and a row per partition where they are rows of Parquet files. Neither the client nor a
worker ever holds the list as a whole. An input that cannot be read becomes a failure with its reason.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.readers import read_spectrum
from data_pipeline.readers.source import stem_of
from data_pipeline.writers.atomic import replacing
from kspecsr.enhancement.gratings import read_gratings
from kspecsr.gratings.joint import JointInput
from kspecsr.surveys.rows import on_prism, read_rows
from kspecsr.surveys.tables import (
    FILES,
    NO_FILE,
    NOT_JOINED,
    UNREADABLE,
    SurveyInput,
    SurveySettings,
)

PLAN_FILE = "_plan.parquet"
_FILES = pa.schema(
    {
        "source": pa.string(),
        "object_id": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "redshift": pa.float64(),
        "gratings": pa.list_(pa.string()),
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
        joined: number of inputs with gratings.
    """

    sha256: str
    total: int
    partitions: int
    joined: int = 0


def write_files_plan(folder: Path, files: Iterable[SurveyInput], size: int) -> PlanSummary:
    """Writes the plan of files; ``size`` of them make a partition."""
    digest, total, partitions, joined, waiting = hashlib.sha256(), 0, 0, 0, []
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
            # With the state of each file: a survey is not resumed over inputs that were made again meanwhile.
            states = [file_state(path) for path in (one.source, *one.gratings)]
            digest.update(repr((row, states)).encode())
            waiting.append(row)
            total += 1
            joined += bool(one.gratings)
            if len(waiting) == size:
                flush()
        flush()
    return PlanSummary(digest.hexdigest(), total, partitions, joined)


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
        # A worker reads its own slice of the plan, which may list ten million files.
        rows = file.read_row_group(partition).to_pylist()
    return [
        SurveyInput(first + number, **row | {"gratings": tuple(row.get("gratings", ()))})
        for number, row in enumerate(rows)
    ]


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


def read_partition(folder: Path, settings: SurveySettings, partition: int) -> Iterator[SurveyInput]:
    """The inputs of a partition in order, failures among them."""
    if settings.kind == FILES:
        for one in planned_files(folder, partition, partition * settings.partition_size):
            yield read_file(one, settings)
    else:
        planned = planned_rows(folder, partition)
        yield from read_rows(**planned, columns=settings.columns, zero_point=settings.zero_point)


def read_file(one: SurveyInput, settings: SurveySettings) -> SurveyInput:
    """The spectrum of one file with its gratings; with the id and position that it states, unless known."""
    found = replace(one, object_id=one.object_id or stem_of(one.source))
    if not Path(one.source).is_file():
        return found.failed(NO_FILE, f"{one.source or '(blank path)'}: no such file")
    try:
        observed = read_spectrum(
            one.source, extraction=settings.extraction, hdu=settings.hdu, row=settings.row
        )
    except MemoryError:
        raise
    except Exception as error:  # one odd file must not end a run of millions
        return found.failed(UNREADABLE, error)
    meta = observed.meta
    if not one.object_id and (meta.source_id or meta.target):
        named = f"{meta.tier}_{meta.source_id}" if meta.tier and meta.source_id else ""
        found = replace(found, object_id=named or meta.target or meta.source_id)
    if not math.isfinite(one.ra) or not math.isfinite(one.dec):
        found = replace(found, ra=meta.ra, dec=meta.dec)
    found = on_prism(found, observed, settings.zero_point)
    if found.spectrum is None or not one.gratings:
        return found
    try:
        gratings = read_gratings(one.gratings, observed, settings.extraction)
        return replace(found, joint=JointInput(found.spectrum, gratings, found.redshift))
    except MemoryError:
        raise
    except Exception as error:  # as above
        return found.failed(NOT_JOINED, error)
