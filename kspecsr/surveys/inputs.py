"""What the user names, to a plan: trees of FITS files, Parquet catalogues, tables of paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.catalog.table import open_tables
from data_pipeline.spectrum import SpectrumError
from kspecsr.enhancement.inputs import ENDINGS, list_inputs
from kspecsr.enhancement.known_redshifts import LARGEST
from kspecsr.surveys.columns import PATH_NAMES, resolved_columns, resolved_path_columns
from kspecsr.surveys.output import MANIFEST_FILE
from kspecsr.surveys.plan import PlannedFile, PlanSummary, write_files_plan, write_rows_plan
from kspecsr.surveys.settings import FILES, ROWS, InputColumns

_TABLES = (".csv", ".ecsv")
_OWN_RESULTS = ("_sr.fits", "_sr.ecsv", "_sr_lines.ecsv")


def write_plan(
    folder: Path, given: Sequence[str], columns: InputColumns, size: int
) -> tuple[str, InputColumns, PlanSummary]:
    """Finds out what the inputs are and writes their plan.

    Args:
        folder: of the plan.
        given: folders, files, patterns and ``@LIST`` of spectra; or Parquet files and folders of them, HATS
            catalogues among these, with spectra as list columns; or tables of paths (CSV, ECSV, Parquet).
        columns: that the user named.
        size: inputs in a partition.

    Returns:
        Kind of the inputs, their columns, and the plan.

    Raises:
        SpectrumError: for inputs of several kinds, without a spectrum, or without the columns needed.
        OSError: for what is not there.
    """
    parquet = [path for item in given if (path := Path(item)) and _parquet_files(path)]
    if parquet and len(parquet) < len(given):
        others = [item for item in given if Path(item) not in parquet]
        raise SpectrumError(
            f"{parquet[0]} is a Parquet input and {others[0]} is not; expected inputs of one kind: run the "
            "survey for each, into a folder of its own"
        )
    if parquet:
        files = [file for path in parquet for file in _parquet_files(path)]
        schema = pq.read_schema(files[0])
        if _is_table_of_paths(schema, columns):
            columns = resolved_path_columns(schema.names, columns, str(files[0]))
            planned = (one for file in files for one in _parquet_paths(file, columns))
            return FILES, columns, _not_empty(write_files_plan(folder, planned, size), given)
        columns = resolved_columns(schema, columns, str(files[0]))
        return ROWS, columns, _not_empty(write_rows_plan(folder, _counted(files, schema), size), given)
    tables = [Path(item) for item in given if _is_text_table(Path(item))]
    if tables and len(tables) == len(given):
        planned = []
        for path in tables:
            with open_tables(path) as opened:
                columns = resolved_path_columns(opened[""].names, columns, str(path))
                planned += _text_paths(path, opened[""], columns)
        return FILES, columns, _not_empty(write_files_plan(folder, planned, size), given)
    return FILES, columns, _not_empty(write_files_plan(folder, _found(given), size), given)


def _not_empty(plan: PlanSummary, given: Sequence[str]) -> PlanSummary:
    if plan.total == 0:
        raise SpectrumError(
            f"{', '.join(given)}: no spectrum found; expected files that end in {', '.join(ENDINGS)}, or "
            "Parquet files with one row or more"
        )
    return plan


def _parquet_files(path: Path) -> list[Path]:
    """Data files of a Parquet data set or HATS catalogue in order; none for anything else."""
    if path.is_dir():
        found = [f for f in path.rglob("*.parquet") if not _hidden(f.relative_to(path))]
        # tables of a survey that was written into the folder of its inputs
        own = {place for f in found for place in f.parents if (place / MANIFEST_FILE).is_file()}
        return sorted(f for f in found if not own.intersection(f.parents))
    return [path] if path.suffix == ".parquet" and path.is_file() else []


def _hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)


def _is_table_of_paths(schema: pa.Schema, columns: InputColumns) -> bool:
    if columns.path:
        return True
    lists = any(pa.types.is_list(f.type) or pa.types.is_large_list(f.type) for f in schema)
    nested = any(pa.types.is_struct(f.type) for f in schema)
    return not lists and not nested and not columns.flux


def _is_text_table(path: Path) -> bool:
    """Whether a text table lists paths: an ECSV file may be a spectrum itself."""
    if path.suffix not in _TABLES or not path.is_file():
        return False
    if path.suffix == ".csv":
        return True
    with path.open(encoding="utf-8", errors="replace") as file:
        head = next((row for row in file if not row.startswith("#")), "")
    return bool(
        {word.strip().strip('"').lower() for word in head.replace(",", " ").split()} & set(PATH_NAMES)
    )


def _counted(files: Iterable[Path], schema: pa.Schema) -> Iterator[tuple[str, int, str]]:
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                missing = set(schema.names) - set(file.schema_arrow.names)
                count = file.metadata.num_rows
        except pa.ArrowInvalid as error:
            raise SpectrumError(
                f"{path}: no readable Parquet file ({error}); get an unaltered copy"
            ) from None
        if missing:
            raise SpectrumError(
                f"{path}: lacks the columns {', '.join(sorted(missing))} of the catalogue's other files"
            )
        yield os.path.abspath(path), count, _state(path)


def _state(path: str | os.PathLike) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "not there"  # a failure of its own, when its turn comes
    return f"{status.st_size} {status.st_mtime_ns}"


def _found(given: Sequence[str]) -> Iterator[PlannedFile]:
    """Files of trees in order, without a list of all of them; patterns and lists as in ``enhance``."""
    seen: set[str] = set()
    for item in given:
        for path in _walked(item) if os.path.isdir(item) else _named(item):
            place = os.path.abspath(path)
            if len(given) > 1:
                if place in seen:
                    continue
                seen.add(place)
            yield PlannedFile(place, state=_state(place))


def _named(item: str) -> list[str]:
    return [str(file.path) for file in list_inputs([item])]


def _walked(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            lower = name.lower()
            if lower.endswith(ENDINGS) and not name.startswith(".") and not lower.endswith(_OWN_RESULTS):
                yield os.path.join(top, name)


def _text_paths(path: Path, table, columns: InputColumns) -> Iterator[PlannedFile]:
    n = len(table.texts(columns.path))
    texts = {"object_id": table.texts(columns.id) if columns.id else [""] * n}
    numbers = {
        name: table.numbers(getattr(columns, name)) if getattr(columns, name) else np.full(n, np.nan)
        for name in ("ra", "dec", "redshift")
    }
    for row, name in enumerate(table.texts(columns.path)):
        values = {key: float(column[row]) for key, column in numbers.items()}
        yield _placed(PlannedFile(str(name), str(texts["object_id"][row]), **values), path.parent)


def _parquet_paths(path: Path, columns: InputColumns) -> Iterator[PlannedFile]:
    wanted = {key: getattr(columns, key) for key in ("path", "id", "ra", "dec", "redshift")}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[name for name in wanted.values() if name]):
            lists = {key: batch[name].to_pylist() for key, name in wanted.items() if name}
            for row in range(batch.num_rows):
                one = {key: values[row] for key, values in lists.items()}
                numbers = {
                    key: float("nan") if one.get(key) is None else float(one[key])
                    for key in ("ra", "dec", "redshift")
                }
                name = "" if one.get("id") is None else str(one["id"])
                yield _placed(PlannedFile(str(one["path"] or ""), name, **numbers), path.parent)


def _placed(file: PlannedFile, folder: Path) -> PlannedFile:
    """Relative paths count from the table's folder, unless they are found from here."""
    path = file.path
    if path and not os.path.isabs(path):
        path = os.path.abspath(path if os.path.exists(path) else folder / path)
    known = 0 <= file.redshift <= LARGEST
    return replace(file, path=path, state=_state(path), redshift=file.redshift if known else float("nan"))
