"""Inputs of a survey: their list, cut into partitions, and the spectra of a partition one by one.

``_plan.parquet`` is written once and read by workers a slice at a time. It has a row group per partition
where inputs are files, and a row per partition where they are rows of Parquet files. Neither the client nor a
worker ever holds the list as a whole. An input that cannot be read becomes a failure with its reason.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.catalogue.known_redshifts import LARGEST
from data_pipeline.readers import read_spectrum
from data_pipeline.readers.source import stem_of
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta, parse_unit
from data_pipeline.writers.atomic import replacing
from kspecsr.results.prism_input import is_prism, prism_input
from kspecsr.surveys.tables import (
    CHUNK,
    FILES,
    NO_FILE,
    NOT_PRISM,
    UNREADABLE,
    InputColumns,
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
            # With the state of each file: a survey is not resumed over inputs that were made again meanwhile.
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
        # A worker reads its own slice of the plan, which may list ten million files.
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


def read_partition(folder: Path, settings: SurveySettings, partition: int) -> Iterator[SurveyInput]:
    """The inputs of a partition in order, failures among them."""
    if settings.kind == FILES:
        for one in planned_files(folder, partition, partition * settings.partition_size):
            yield read_file(one, settings.extraction)
    else:
        yield from read_rows(**planned_rows(folder, partition), columns=settings.columns)


def read_file(one: SurveyInput, extraction: str) -> SurveyInput:
    """The spectrum of one file, with the id and position that it states unless they are known."""
    found = replace(one, object_id=one.object_id or stem_of(one.source))
    if not Path(one.source).is_file():
        return found.failed(NO_FILE, f"{one.source or '(blank path)'}: no such file")
    try:
        observed = read_spectrum(one.source, extraction=extraction)
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
    return on_prism(found, observed)


def on_prism(found: SurveyInput, observed: ObservedSpectrum) -> SurveyInput:
    """The input with its spectrum on the prism's pixels."""
    if not is_prism(observed):
        return found.failed(
            NOT_PRISM, f"{observed.meta.origin}: is a {observed.meta.disperser} spectrum; expected PRISM"
        )
    try:
        return replace(found, spectrum=prism_input(observed))
    except MemoryError:
        raise
    except Exception as error:  # as above
        return found.failed(UNREADABLE, error)


def read_rows(path: str, start: int, stop: int, first: int, columns: InputColumns) -> Iterator[SurveyInput]:
    """Rows of a Parquet file with spectra as list columns, a few at a time.

    Args:
        path: of the file.
        start: first row.
        stop: row after the last.
        first: number of row ``start`` among all inputs.
        columns: of the file, units included.
    """
    names = {key: getattr(columns, key) for key in _KEYS if getattr(columns, key)}
    with pq.ParquetFile(path, buffer_size=_BUFFER) as file:  # streams a row group instead of holding it
        groups, skipped = _groups(file.metadata, start, stop)
        row, batches = skipped, file.iter_batches(CHUNK, groups, sorted(set(_tops(file, names))))
        for batch in batches:
            low, high = max(start - row, 0), min(stop - row, batch.num_rows)
            if low < high:
                part = pa.Table.from_batches([batch.slice(low, high - low)])
                values = {key: _column(part, name) for key, name in names.items()}
                for i in range(part.num_rows):
                    number = row + low + i
                    yield _from_row(path, number, first + number - start, values, i, columns)
            row += batch.num_rows
            if row >= stop:
                break


_BUFFER = 2**20
_KEYS = ("flux", "error", "ivar", "wavelength", "mask", "id", "ra", "dec", "redshift")


def _tops(file: pq.ParquetFile, names: Mapping[str, str]) -> list[str]:
    present = set(file.schema_arrow.names)
    return [name if name in present else name.partition(".")[0] for name in names.values()]


def _groups(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """Row groups that hold these rows, and the number of the first row in them."""
    groups, skipped, row = [], 0, 0
    for k in range(metadata.num_row_groups):
        end = row + metadata.row_group(k).num_rows
        if end > start and row < stop:
            skipped = skipped if groups else row
            groups.append(k)
        row = end
    return groups, skipped


def _column(table: pa.Table, name: str) -> pa.Array:
    if name in table.column_names:
        return table[name].combine_chunks()
    outer, _, inner = name.partition(".")
    return pa.compute.struct_field(table[outer].combine_chunks(), inner)


def _from_row(path, number, row, values, i, columns: InputColumns) -> SurveyInput:
    name = values["id"][i].as_py() if "id" in values else None
    ra, dec, redshift = (_number(values, key, i) for key in ("ra", "dec", "redshift"))
    found = SurveyInput(
        input_row=row,
        object_id=f"{Path(path).name}#{number}" if name is None else str(name),
        source=path,
        source_row=number,
        ra=ra,
        dec=dec,
        # Catalogues write -1, -99 or 9999 for unknown: inferred, rather than a failure of the row.
        redshift=redshift if 0 <= redshift <= LARGEST else math.nan,
    )
    try:
        return on_prism(found, _observed(found, values, i, columns))
    except MemoryError:
        raise
    except Exception as error:  # one odd row must not end a run of millions
        return found.failed(UNREADABLE, error)


def _number(values: Mapping[str, pa.Array], key: str, i: int) -> float:
    value = values[key][i].as_py() if key in values else None
    return math.nan if value is None else float(value)


def _observed(
    found: SurveyInput, values: Mapping[str, Any], i: int, columns: InputColumns
) -> ObservedSpectrum:
    where = f"{found.source}[row {found.source_row}]"
    arrays = {}
    for key in ("flux", "error", "ivar", "wavelength", "mask"):
        if key in values:
            one = values[key][i]
            if not one.is_valid:
                raise SpectrumError(f"{where}: column {getattr(columns, key)} is null")
            arrays[key] = one.values.to_numpy(zero_copy_only=False)
    if "ivar" in arrays:
        with np.errstate(divide="ignore", invalid="ignore"):
            # An inverse variance of 0 means a bad pixel: its error becomes infinite, and is masked as one.
            arrays["error"] = 1.0 / np.sqrt(np.asarray(arrays["ivar"], dtype=np.float64))
    flux, wavelength = parse_unit(columns.flux_unit), parse_unit(columns.wavelength_unit)
    mask = arrays.get("mask")
    meta = SpectrumMeta(
        target=found.object_id, ra=found.ra, dec=found.dec, path=found.source, hdu=f"row {found.source_row}"
    )
    return ObservedSpectrum.from_quantities(
        u.Quantity(np.asarray(arrays["wavelength"], dtype=np.float64), wavelength),
        u.Quantity(np.asarray(arrays["flux"], dtype=np.float64), flux),
        u.Quantity(np.asarray(arrays["error"], dtype=np.float64), flux),
        # Null in a mask counts as bad: what is not known to be good is not used.
        None if mask is None else np.nan_to_num(np.asarray(mask, dtype=np.float64), nan=1.0) != 0,
        meta,
    )
