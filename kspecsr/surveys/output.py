"""The output folder: one file per partition and table, complete or not there, and what they belong to."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.configuration import ConfigurationError, from_dict, to_dict
from data_pipeline.workers import only_process
from data_pipeline.writers.atomic import replacing
from kspecsr.surveys.tables import FAILURES, LINES, OBJECTS, RATIOS, SPECTRA, SurveySettings, table_schema

MANIFEST_FILE = "survey.json"
_PART = ".part"
_REPEATED = (
    *("line", "name", "unit", "kind", "flags", "brightest_line", "object_class", "source", "object_id"),
)


class SurveyError(ValueError):
    """An output folder that cannot be used for this run; the text says why and what to do."""


def table_names(settings: SurveySettings) -> tuple[str, ...]:
    """Tables in the order in which they are renamed: where objects are there, all are."""
    further = (*((SPECTRA,) if settings.spectra else ()), *((RATIOS,) if settings.joint_lines else ()))
    return (*further, LINES, FAILURES, OBJECTS)


def part_path(folder: Path, table: str, partition: int) -> Path:
    """File of a table's partition."""
    return folder / table / f"part-{partition:06d}.parquet"


def read_manifest(folder: Path) -> SurveySettings:
    """Settings of the run that an output folder belongs to.

    Raises:
        SurveyError: where there is none, or it cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        return from_dict(SurveySettings, json.loads(path.read_text(encoding="utf-8"))["settings"])
    except FileNotFoundError:
        raise SurveyError(f"{folder}: no {MANIFEST_FILE}; expected the output of kspecsr.survey") from None
    except (OSError, ValueError, KeyError, TypeError, ConfigurationError) as error:
        raise SurveyError(f"{path}: cannot be read ({error}); choose another --output") from None


def write_manifest(folder: Path, settings: SurveySettings, inputs: list[str]) -> None:
    """States what the folder belongs to, before the first table is written."""
    content = {"inputs": inputs, "fingerprint": settings.fingerprint, "settings": to_dict(settings)}
    with replacing(folder / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_same_run(folder: Path, settings: SurveySettings) -> bool:
    """Whether the folder has a run of these settings; False where it has none.

    Raises:
        SurveyError: where it has another one, naming what differs.
    """
    if not (folder / MANIFEST_FILE).exists():
        # A folder of tables without its manifest could hold rows of other weights; mixed with new ones nobody
        # could tell them apart.
        tables = [name for name in (OBJECTS, LINES, RATIOS, FAILURES, SPECTRA) if (folder / name).exists()]
        if tables:
            raise SurveyError(
                f"{folder}: holds {tables[0]}/ but no {MANIFEST_FILE}, so nobody knows of what run; choose "
                "another --output"
            )
        return False
    # The versions of the software count too: another TensorFlow gives other last digits, and one survey is
    # one measurement.
    there, mine = (to_dict(one) for one in (read_manifest(folder), settings))
    if there == mine:
        return True
    differing = [
        f"{key} {_shown(there.get(key))} there, {_shown(mine.get(key))} now"
        for key in mine
        if there.get(key) != mine.get(key)
    ]
    raise SurveyError(
        f"{folder}: belongs to another run: {'; '.join(differing)}. Choose another --output, or give the "
        "options, inputs and versions of that run to go on with it."
    )


def _shown(value) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items() if item)
    text = str(value)
    return text[:12] if len(text) == 64 else text


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second run out of the folder; the lock goes with the process, however it ends.

    Raises:
        SurveyError: if another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    error = SurveyError(f"{folder}: another run is writing there; wait for it, or choose another --output")
    with only_process(folder, error):
        yield


def is_done(folder: Path, settings: SurveySettings, partition: int, expected: int) -> bool:
    """Whether all tables of a partition are there, readable, of this run, and account for every input."""
    rows = {}
    for name in table_names(settings):
        try:
            metadata = pq.read_metadata(part_path(folder, name, partition))
            stated = json.loads(metadata.metadata[b"kspecsr"])["fingerprint"]
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            return False
        # Each file states its run, since folders are copied and merged by hand.
        if stated != settings.fingerprint:
            return False
        rows[name] = metadata.num_rows
    # Row counts are in the footer, which Parquet writes last: a cut file has none.
    complete = rows[OBJECTS] + rows[FAILURES] == expected
    return complete and rows.get(SPECTRA, rows[OBJECTS]) == rows[OBJECTS]


class PartitionWriter:
    """Writes the tables of one partition; they appear together at the end, the objects last.

    Args:
        folder: of the output.
        settings: of the run.
        partition: its number.
    """

    def __init__(self, folder: Path, settings: SurveySettings, partition: int):
        self._paths = {name: part_path(folder, name, partition) for name in table_names(settings)}
        self.schemas = {name: table_schema(name, settings) for name in self._paths}
        self._temporary: dict[str, Path] = {}
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._waiting: dict[str, list[pa.Table]] = {name: [] for name in self._paths}

    def __enter__(self) -> PartitionWriter:
        # Not by process number: workers of different machines share the folder.
        token = uuid.uuid4().hex
        for name, path in self._paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary[name] = path.with_name(f".{path.name}.{token}{_PART}")
            self._writers[name] = pq.ParquetWriter(
                self._temporary[name],
                self.schemas[name],
                compression="zstd",
                use_dictionary=[*_REPEATED],
                use_byte_stream_split=_floats(self.schemas[name]),
            )
        return self

    def add(self, name: str, rows: pa.Table) -> None:
        """Rows of a table; spectra, which are large, go to the disk at once."""
        if name == SPECTRA:
            self._writers[name].write_table(rows)
        else:
            # One row group per partition: small ones compress badly, and readers open each by itself.
            self._waiting[name].append(rows)

    def __exit__(self, kind, error, traceback) -> None:
        try:
            with ExitStack() as closing:
                for writer in self._writers.values():
                    closing.callback(writer.close)
                if kind is None:
                    for name, tables in self._waiting.items():
                        if tables:
                            self._writers[name].write_table(pa.concat_tables(tables))
            if kind is None:
                for name, path in self._paths.items():
                    # On disk before it has its name: `is_done` would trust the name after a power cut.
                    _to_disk(self._temporary[name])
                    os.replace(self._temporary[name], path)
        finally:
            for path in self._temporary.values():
                path.unlink(missing_ok=True)

    @property
    def bytes(self) -> int:
        """Size of what was written."""
        return sum(path.stat().st_size for path in self._paths.values())


def _floats(schema: pa.Schema) -> list[str]:
    """Columns of floats, which compress better with their bytes apart; lists by their inner name."""
    names = []
    for field in schema:
        if pa.types.is_floating(field.type):
            names.append(field.name)
        elif pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type):
            names.append(f"{field.name}.list.element")
    return names


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_leftovers(folder: Path, settings: SurveySettings) -> None:
    """Temporary files of processes that were killed; called once nothing else is to be written."""
    for name in table_names(settings):
        for path in (folder / name).glob(f".*{_PART}"):
            path.unlink(missing_ok=True)


def write_grids(folder: Path, wavelength: np.ndarray, prism: np.ndarray, bins: np.ndarray) -> None:
    """Axes of the list columns: ``grids/output``, ``prism`` [um] and ``redshift``."""
    (folder / "grids").mkdir(exist_ok=True)
    grids = {
        "output": ("wavelength", wavelength, "um"),
        "prism": ("wavelength", prism, "um"),
        "redshift": ("z", np.expm1(bins), ""),
    }
    for name, (column, values, unit) in grids.items():
        field = pa.field(column, pa.float64(), metadata={"unit": unit} if unit else None)
        with replacing(folder / "grids" / f"{name}.parquet") as temporary:
            pq.write_table(pa.table({column: values}, schema=pa.schema([field])), temporary)
