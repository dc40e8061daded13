"""What the user names, to a plan: trees of FITS files, Parquet catalogues, tables of paths."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.catalogue.known_redshifts import LARGEST
from data_pipeline.catalogue.table import open_tables
from data_pipeline.configuration import software_versions
from data_pipeline.readers.source import ENDINGS
from data_pipeline.readers.table import ERROR_NAMES, FLUX_NAMES, IVAR_NAMES, MASK_NAMES, WAVELENGTH_NAMES
from data_pipeline.spectrum import SpectrumError, parse_unit
from kspecsr.enhancement.inputs import check_writable, list_inputs
from kspecsr.model_settings import find_model, read_settings, weights_hash
from kspecsr.surveys.output import MANIFEST_FILE, check_same_run, write_manifest
from kspecsr.surveys.plan import PLAN_FILE, PlannedFile, PlanSummary, write_files_plan, write_rows_plan
from kspecsr.surveys.settings import FILES, ROWS, InputColumns, SurveySettings

PATH_NAMES = ("path", "file", "filename", "file_name", "prism_file", "prism")
ID_NAMES = ("object_id", "unique_id", "id", "source_id", "objid", "nirspec_id", "target", "name")
RA_NAMES, DEC_NAMES = ("ra", "ra_targ", "raj2000"), ("dec", "dec_targ", "dej2000")
_ALIASES = {
    "flux": FLUX_NAMES,
    "error": ERROR_NAMES,
    "ivar": IVAR_NAMES,
    "wavelength": WAVELENGTH_NAMES,
    "mask": MASK_NAMES,
    "id": ID_NAMES,
    "ra": RA_NAMES,
    "dec": DEC_NAMES,
}
_OPTION = {"id": "--id", "ra": "--ra", "dec": "--dec", "path": "--path"}


def resolved_columns(schema: pa.Schema, given: InputColumns, where: str) -> InputColumns:
    """Columns of a catalogue with spectra as lists, and their units.

    Args:
        schema: of the catalogue.
        given: what the user named.
        where: file, for error texts.

    Raises:
        SpectrumError: for a column or unit that is missing or unknown, naming the option that states it.
    """
    fields = _fields(schema)
    chosen = {name: _chosen(fields, name, getattr(given, name), where) for name in _ALIASES}
    if given.redshift:
        chosen["redshift"] = _chosen(fields, "redshift", given.redshift, where)
    for name in ("wavelength", "flux"):
        if not chosen[name]:
            raise SpectrumError(
                f"{where}: no column of {name} found among {', '.join(fields)}; state it: --{name} COLUMN"
            )
    if given.ivar:
        chosen["error"] = given.error
    if not chosen["error"] and not chosen["ivar"]:
        raise SpectrumError(
            f"{where}: no column of errors found among {', '.join(fields)}; state it: --error COLUMN, or "
            "--ivar COLUMN for inverse variances"
        )
    if chosen["error"]:
        chosen["ivar"] = ""
    for name in ("flux", "error", "ivar", "wavelength", "mask"):
        if chosen[name] and not _is_list(fields[chosen[name]].type):
            raise SpectrumError(
                f"{where}: column {chosen[name]} holds {fields[chosen[name]].type}, expected a list of "
                f"numbers per row; state another: --{name} COLUMN"
            )
    units = {
        f"{name}_unit": _unit(schema, fields, chosen[name], getattr(given, f"{name}_unit"), name, where)
        for name in ("flux", "wavelength")
    }
    return replace(given, **chosen, **units)


def resolved_path_columns(names: Sequence[str], given: InputColumns, where: str) -> InputColumns:
    """Columns of a table of paths.

    Raises:
        SpectrumError: for one that is missing, naming the option that states it.
    """
    lower = {name.lower(): name for name in names}
    chosen = {}
    for key, aliases in (("path", PATH_NAMES), ("id", ID_NAMES), ("ra", RA_NAMES), ("dec", DEC_NAMES)):
        named = getattr(given, key)
        if named and named not in names:
            raise SpectrumError(f"{where}: no column {named} ({_OPTION[key]}); it has {', '.join(names)}")
        chosen[key] = named or next((lower[alias] for alias in aliases if alias in lower), "")
    if given.redshift and given.redshift not in names:
        raise SpectrumError(f"{where}: no column {given.redshift} (--redshift); it has {', '.join(names)}")
    if not chosen["path"]:
        raise SpectrumError(
            f"{where}: none of its columns {', '.join(names)} is known to hold paths "
            f"({', '.join(PATH_NAMES)}); state it: --path COLUMN"
        )
    return replace(given, **chosen)


def _fields(schema: pa.Schema) -> dict[str, pa.Field]:
    """Columns, and fields of nested ones as ``column.field``."""
    found = {}
    for field in schema:
        found[field.name] = field
        if pa.types.is_struct(field.type):
            found |= {f"{field.name}.{inner.name}": inner for inner in field.type}
    return found


def _chosen(fields: dict[str, pa.Field], name: str, named: str, where: str) -> str:
    if named:
        if named not in fields:
            raise SpectrumError(f"{where}: no column {named} (--{name}); it has {', '.join(fields)}")
        return named
    aliases = _ALIASES[name]
    lower: dict[str, str] = {}
    for field in fields:
        lower.setdefault(field.lower(), field)
        lower.setdefault(field.lower().rpartition(".")[2], field)
    return next((lower[alias] for alias in aliases if alias in lower), "")


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _unit(schema, fields, column: str, given: str, name: str, where: str) -> str:
    """Unit that the user states, or the column's metadata, or the schema's ``units`` (JSON)."""
    text = given or _stated_unit(schema, fields[column], column)
    cure = f"state it: --{name}-unit UNIT, such as {'um' if name == 'wavelength' else 'erg/(s cm2 Angstrom)'}"
    if not text:
        raise SpectrumError(f"{where}: column {column} has no unit in the metadata; {cure}")
    try:
        parse_unit(text)
    except ValueError as error:
        raise SpectrumError(f"{where}: column {column}: unknown unit {text!r} ({error}); {cure}") from None
    return text


def _stated_unit(schema: pa.Schema, field: pa.Field, column: str) -> str:
    for key, value in (field.metadata or {}).items():
        if key.lower() in (b"unit", b"units"):
            return value.decode("utf-8", "replace").strip()
    for key in (b"units", b"unit"):
        try:
            units = json.loads((schema.metadata or {}).get(key, b"{}"))
        except ValueError:
            continue
        if isinstance(units, dict) and isinstance(units.get(column), str):
            return units[column].strip()
    return ""


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


def prepare(args: argparse.Namespace) -> tuple[SurveySettings, Path]:
    """Writes plan and manifest, or finds them as they must be.

    Args:
        args: of ``kspecsr survey``.

    Returns:
        Settings of the run, and the model's folder.

    Raises:
        SurveyError: where the folder belongs to another run.
        SpectrumError: for inputs that are no spectra.
        ModelFolderError: for a folder without a model.
        OSError: where the folder cannot be written.
    """
    model = find_model(args.model)
    named = {field.name: getattr(args, field.name) for field in dataclasses.fields(InputColumns)}
    check_writable(args.output)
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=args.output) as temporary:
        kind, columns, plan = write_plan(
            Path(temporary), args.inputs, InputColumns(**named), args.partition_size
        )
        settings = SurveySettings(
            kind=kind,
            inputs_sha256=plan.sha256,
            total=plan.total,
            partitions=plan.partitions,
            partition_size=args.partition_size,
            model=read_settings(model).name,
            model_sha256=weights_hash(model),
            columns=columns,
            extraction=args.extraction,
            spectra=args.spectra,
            software=software_versions("tensorflow", "keras", "pyarrow"),
        )
        if not check_same_run(args.output, settings):
            (Path(temporary) / PLAN_FILE).replace(args.output / PLAN_FILE)
            write_manifest(args.output, settings, args.inputs)
    return settings, model
