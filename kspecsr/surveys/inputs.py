"""Inputs of a survey: trees of FITS files, Parquet catalogues and tables of paths become a plan."""

import argparse
import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.catalogue.known_redshifts import LARGEST
from data_pipeline.catalogue.table import CatalogueTable, open_tables
from data_pipeline.configuration import software_versions
from data_pipeline.readers.format import WAVELENGTH_NAMES
from data_pipeline.readers.identity import check_wavelengths
from data_pipeline.readers.quality import BAD_NAMES, GOOD_NAMES, marks
from data_pipeline.readers.source import ENDINGS
from data_pipeline.readers.table import ERROR_NAMES, FLUX_NAMES, IVAR_NAMES
from data_pipeline.spectrum import SpectrumError, parse_unit
from kspecsr.enhancement.gratings import gratings_of
from kspecsr.enhancement.inputs import check_writable, is_candidate, list_inputs
from kspecsr.gratings.priors import NoJointLinesError
from kspecsr.model_settings import find_model, read_settings, weights_hash
from kspecsr.surveys.output import MANIFEST_FILE, check_same_run, write_manifest
from kspecsr.surveys.reading import PLAN_FILE, PlanSummary, write_files_plan, write_rows_plan
from kspecsr.surveys.rows import fields_of, is_list, named_damage
from kspecsr.surveys.tables import FILES, LAYOUT, ROWS, InputColumns, SurveyInput, SurveySettings

_POSITION = ("ra", "dec", "redshift")
# Usual names of columns; a redshift is only taken where it is asked for.
_ALIASES = {
    "flux": FLUX_NAMES,
    "error": ERROR_NAMES,
    "ivar": IVAR_NAMES,
    "wavelength": WAVELENGTH_NAMES,
    "mask": (*BAD_NAMES, *GOOD_NAMES),
    "path": ("path", "file", "filename", "file_name", "prism_file", "prism"),
    "id": ("object_id", "unique_id", "id", "source_id", "objid", "nirspec_id", "target", "name"),
    "ra": ("ra", "ra_targ", "raj2000"),
    "dec": ("dec", "dec_targ", "dej2000"),
    "redshift": (),
    "disperser": ("disperser", "grating", "grism", "dispname", "instrument", "instrume"),
}
_LISTS = ("flux", "error", "ivar", "wavelength", "mask")


def resolved_columns(schema: pa.Schema, given: InputColumns, where: str) -> InputColumns:
    """Columns of a catalogue with spectra as lists, and their units.

    Args:
        schema: of the catalogue.
        given: what the user named.
        where: file, for error texts.

    Raises:
        SpectrumError: for a column or unit that is missing or unknown, naming the option that states it.
    """
    fields = fields_of(schema)
    # a flag or an instrument per row, as a number, is found by name but is neither
    usable = {
        "mask": [name for name, one in fields.items() if given.mask or is_list(one.type)],
        "disperser": [name for name, one in fields.items() if not pa.types.is_primitive(one.type)],
    }
    keys = (*_LISTS, "id", *_POSITION, "disperser")
    chosen = {key: _chosen(usable.get(key, fields), key, given, where) for key in keys}
    # names such as use_pix, which no list has
    others = (name for name in usable["mask"] if marks(name.rpartition(".")[2]))
    chosen["mask"] = chosen["mask"] or next(others, "")
    for name in ("wavelength", "flux"):
        if not chosen[name]:
            raise SpectrumError(
                f"{where}: no column of {name} found among {', '.join(fields)}; state it: --{name} COLUMN"
            )
    # Whoever names inverse variances means them, even where a column of errors is found too.
    if given.ivar:
        chosen["error"] = given.error
    if not chosen["error"] and not chosen["ivar"]:
        raise SpectrumError(
            f"{where}: no column of errors found among {', '.join(fields)}; state it: --error COLUMN, or "
            "--ivar COLUMN for inverse variances"
        )
    if chosen["error"]:
        chosen["ivar"] = ""
    for name in _LISTS:
        if chosen[name] and not is_list(fields[chosen[name]].type):
            raise SpectrumError(
                f"{where}: column {chosen[name]} holds {fields[chosen[name]].type}, expected a list of "
                f"numbers per row; state another: --{name} COLUMN"
            )
    units = {
        f"{name}_unit": _unit(schema, fields, chosen[name], getattr(given, f"{name}_unit"), name, where)
        for name in ("flux", "wavelength")
    }
    _check_axis(schema, fields[chosen["wavelength"]], where)
    if not given.flux_unit:
        _check_error_unit(schema, fields, chosen, units["flux_unit"], where)
    return replace(given, **chosen, **units)


def _check_axis(schema: pa.Schema, field: pa.Field, where: str) -> None:
    """Refuses wavelengths that the schema, or their column's name, says are in air or in the rest frame."""
    told = [
        {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in (one.metadata or {}).items()}
        for one in (field, schema)
    ]
    check_wavelengths(f"{where}: column {field.name}", told, [field.name, *told[0].values()])


def _check_error_unit(schema: pa.Schema, fields, chosen: Mapping[str, str], flux: str, where: str) -> None:
    """Refuses errors that state another unit than the flux: they are read in the flux's."""
    name = chosen["error"] or chosen["ivar"]
    stated, unit = _stated_unit(schema, fields[name], name), parse_unit(flux)
    expected = unit if chosen["error"] else unit**-2
    try:
        same = not stated or np.isclose(parse_unit(stated).to(expected), 1.0)
    except (u.UnitConversionError, ValueError):
        same = False
    if not same:
        raise SpectrumError(
            f"{where}: column {name} has the unit {stated}, expected {expected}, as column {chosen['flux']} "
            "has it; convert one of them, or state the unit of both: --flux-unit UNIT"
        )


def resolved_path_columns(names: Sequence[str], given: InputColumns, where: str) -> InputColumns:
    """Columns of a table of paths.

    Raises:
        SpectrumError: for one that is missing, naming the option that states it.
    """
    chosen = {key: _chosen(names, key, given, where) for key in ("path", "id", *_POSITION)}
    if not chosen["path"]:
        raise SpectrumError(
            f"{where}: none of its columns {', '.join(names)} is known to hold paths "
            f"({', '.join(_ALIASES['path'])}); state it: --path COLUMN"
        )
    return replace(given, **chosen)


def _chosen(names: Collection[str], key: str, given: InputColumns, where: str) -> str:
    """The column that the user named, or one of a usual name; empty for none."""
    if named := getattr(given, key):
        if named not in names:
            raise SpectrumError(f"{where}: no column {named} (--{key}); it has {', '.join(names)}")
        return named
    lower: dict[str, str] = {}
    for name in names:
        # The first of several wins, as in the file; a field of a nested column answers to its short name.
        lower.setdefault(name.lower(), name)
        lower.setdefault(name.lower().rpartition(".")[2], name)
    return next((lower[alias] for alias in _ALIASES[key] if alias in lower), "")


def _unit(schema, fields, column: str, given: str, name: str, where: str) -> str:
    """Unit that the user states, or the column's metadata, or the schema's ``units`` (JSON)."""
    # A unit is never guessed: a wrong one gives results that look right and are off by powers of ten.
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


def write_plan(
    folder: Path,
    given: Sequence[str],
    columns: InputColumns,
    size: int,
    limit: int | None = None,
    gratings: Sequence[str] = (),
) -> tuple[str, InputColumns, PlanSummary]:
    """Recognises the kind of the inputs and writes their plan.

    Args:
        folder: of the plan.
        given: folders, files, patterns and ``@LIST`` of spectra; or Parquet files and folders of them, HATS
            catalogues among these, with spectra as list columns; or tables of paths (CSV, ECSV, Parquet).
        columns: columns that the user named.
        size: inputs in a partition.
        limit: number of inputs that are taken, the first; None for all.
        gratings: that are joined with prism spectra, as in `kspecsr.enhancement.gratings.gratings_of`.

    Returns:
        Kind of the inputs, their columns, and the plan.

    Raises:
        SpectrumError: for inputs of several kinds, without a spectrum, or without the columns needed; for
            gratings that belong to none of them.
        OSError: for what is not there.
    """
    # One kind per run: rows of a catalogue and files are numbered in one plan, which a run resumes by.
    parquet = [path for item in given if (path := Path(item)) and _parquet_files(path)]
    if parquet and len(parquet) < len(given):
        others = [item for item in given if Path(item) not in parquet]
        raise SpectrumError(
            f"{parquet[0]} is a Parquet input and {others[0]} is not; expected inputs of one kind: run the "
            "survey for each, into a folder of its own"
        )
    tables = [Path(item) for item in given if _is_text_table(Path(item))]
    kind, files = FILES, [file for path in parquet for file in _parquet_files(path)]
    schema = None
    if files:
        with named_damage(files[0]):
            schema = pq.read_schema(files[0])
    # The schema of the first file stands for all; `_counted` refuses files that lack one of its columns.
    if files and not _is_table_of_paths(schema, columns):
        if gratings:
            raise SpectrumError(
                f"--with {', '.join(gratings)}: joins files, and {files[0]} holds spectra as rows; expected "
                "prism spectra as files, in a folder or in a table of paths"
            )
        kind, columns = ROWS, resolved_columns(schema, columns, str(files[0]))
        plan = write_rows_plan(folder, _first(_counted(files, schema), limit), size)
    else:
        planned = _found(given)
        if files:
            columns = resolved_path_columns(schema.names, columns, str(files[0]))
            planned = (one for file in files for one in _parquet_paths(file, columns))
        elif tables and len(tables) == len(given):
            planned = []
            for path in tables:
                with open_tables(path) as opened:
                    columns = resolved_path_columns(opened[""].names, columns, str(path))
                    planned += _text_paths(path, opened[""], columns)
        planned = _with_gratings(planned, gratings) if gratings else planned
        plan = write_files_plan(folder, islice(planned, limit), size)
    if plan.total == 0:
        raise SpectrumError(
            f"{', '.join(given)}: no spectrum found; expected files that end in {', '.join(ENDINGS)}, or "
            "Parquet files with one row or more"
        )
    return kind, columns, plan


def _with_gratings(planned: Iterable[SurveyInput], given: Sequence[str]) -> list[SurveyInput]:
    """Inputs with the gratings that belong to them; those of a tree that do are no inputs of their own."""
    inputs = list(planned)  # what belongs together is only known with all of them
    found = gratings_of([Path(one.source) for one in inputs], given)
    places = {path: tuple(map(os.path.abspath, some)) for path, some in found.items()}
    used = {place for some in places.values() for place in some}
    return [
        replace(one, gratings=places.get(Path(one.source), ())) for one in inputs if one.source not in used
    ]


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
    if path.suffix not in (".csv", ".ecsv") or not path.is_file():
        return False
    if path.suffix == ".csv":
        return True
    # Only the row of names: the table may have millions of rows, and a binary file must not end the run.
    with path.open(encoding="utf-8", errors="replace") as file:
        head = next((row for row in file if not row.startswith("#")), "")
    return bool(
        {word.strip().strip('"').lower() for word in head.replace(",", " ").split()} & set(_ALIASES["path"])
    )


def _counted(files: Iterable[Path], schema: pa.Schema) -> Iterator[tuple[str, int]]:
    for path in files:
        with named_damage(path), pq.ParquetFile(path) as file:
            missing = set(schema.names) - set(file.schema_arrow.names)
            # From the footer: no row is read to make a plan.
            count = file.metadata.num_rows
        if missing:
            raise SpectrumError(
                f"{path}: lacks the columns {', '.join(sorted(missing))} of the catalogue's other files"
            )
        yield os.path.abspath(path), count


def _first(counted: Iterable[tuple[str, int]], limit: int | None) -> Iterator[tuple[str, int]]:
    """Files and their rows, up to a number of rows in all."""
    left = math.inf if limit is None else limit
    for path, count in counted:
        if left <= 0:
            return
        yield path, int(min(count, left))
        left -= count


def _found(given: Sequence[str]) -> Iterator[SurveyInput]:
    """Files of trees in order, without a list of all of them; patterns and lists as in ``enhance``."""
    seen: set[str] = set()
    for item in given:
        paths = _walked(item) if os.path.isdir(item) else (str(file.path) for file in list_inputs([item]))
        for place in map(os.path.abspath, paths):
            # One tree names no file twice; a set of millions of paths is only kept where several inputs may
            # overlap.
            if len(given) > 1:
                if place in seen:
                    continue
                seen.add(place)
            yield SurveyInput(0, "", place)


def _walked(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        # In place: `os.walk` goes into what is left in this list, in its order, so that plans are the same
        # everywhere.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(top, name) for name in sorted(names) if is_candidate(name))


def _text_paths(path: Path, table: CatalogueTable, columns: InputColumns) -> Iterator[SurveyInput]:
    paths = table.texts(columns.path)
    names = table.texts(columns.id) if columns.id else [""] * len(paths)
    numbers = {key: table.numbers(name) for key in _POSITION if (name := getattr(columns, key))}
    for row, (name, place) in enumerate(zip(names, paths, strict=True)):
        values = {key: float(column[row]) for key, column in numbers.items()}
        yield _placed(str(place), str(name), values, path.parent)


def _parquet_paths(path: Path, columns: InputColumns) -> Iterator[SurveyInput]:
    wanted = {key: name for key in ("path", "id", *_POSITION) if (name := getattr(columns, key))}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(wanted.values())):
            for row in zip(*(batch[name].to_pylist() for name in wanted.values()), strict=True):
                one = {key: value for key, value in zip(wanted, row, strict=True) if value is not None}
                place, name = str(one.pop("path", "")), str(one.pop("id", ""))
                yield _placed(place, name, {key: float(value) for key, value in one.items()}, path.parent)


def _placed(path: str, name: str, numbers: Mapping[str, float], folder: Path) -> SurveyInput:
    """Relative paths count from the table's folder, unless they are found from here."""
    if path and not os.path.isabs(path):
        path = os.path.abspath(path if os.path.exists(path) else folder / path)
    found = SurveyInput(0, name, path, **numbers)
    # Catalogues write -1, 99 or -9999 for "unknown".
    return found if 0 <= found.redshift <= LARGEST else replace(found, redshift=math.nan)


def _planned(args: argparse.Namespace, folder: Path) -> tuple[str, InputColumns, PlanSummary]:
    named = {field.name: getattr(args, field.name) for field in dataclasses.fields(InputColumns)}
    columns = InputColumns(**named)
    return write_plan(folder, args.inputs, columns, args.partition_size, args.limit, args.gratings)


def planned_text(args: argparse.Namespace) -> str:
    """What ``kspecsr survey`` with these options would do, in words; its output is not touched."""
    with tempfile.TemporaryDirectory() as temporary:
        kind, columns, plan = _planned(args, Path(temporary))
    used = [
        f"{field.name} {name}"
        for field in dataclasses.fields(columns)
        if (name := getattr(columns, field.name))
    ]
    text = f"{plan.total} inputs ({kind}) in {plan.partitions} partitions"
    text += f", {plan.joined} with gratings" if args.gratings else ""
    return f"{text}; columns: {', '.join(used)}" if used else text


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
        NoJointLinesError: for gratings, and a model that cannot join them.
        OSError: where the folder cannot be written.
    """
    model = find_model(args.model)
    described = read_settings(model)
    joint_lines = described.preset.model.sr2.line_errors == "joint"
    if args.gratings and not joint_lines:
        raise NoJointLinesError()
    check_writable(args.output)
    # In the folder of the results: a rename from /tmp could cross file systems and not be whole.
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=args.output) as temporary:
        kind, columns, plan = _planned(args, Path(temporary))
        if kind == ROWS and (args.hdu, args.row) != (None, None):
            raise SpectrumError("--hdu and --row choose in FITS and ECSV files; rows of Parquet are spectra")
        settings = SurveySettings(
            kind=kind,
            inputs_sha256=plan.sha256,
            total=plan.total,
            partitions=plan.partitions,
            partition_size=args.partition_size,
            model=described.name,
            model_sha256=weights_hash(model),
            columns=columns,
            extraction=args.extraction,
            hdu=args.hdu,
            row=args.row,
            spectra=args.spectra,
            keep_flagged=args.keep_flagged,
            precision=args.precision,
            zero_point=args.zero_point,
            joint_lines=joint_lines,
            with_gratings=plan.joined,
            software=software_versions("tensorflow", "keras", "pyarrow"),
            layout=LAYOUT,
        )
        if not check_same_run(args.output, settings):
            (Path(temporary) / PLAN_FILE).replace(args.output / PLAN_FILE)
            write_manifest(args.output, settings, args.inputs)
    return settings, model
