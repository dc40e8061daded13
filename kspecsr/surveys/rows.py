"""Spectra of surveys that are rows of Parquet files, with list columns."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.catalogue.known_redshifts import LARGEST
from data_pipeline.readers.columns import is_fill
from data_pipeline.readers.identity import disperser_name
from data_pipeline.readers.quality import bad_pixels, marks, may_mark
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta, parse_unit
from kspecsr.results.prism_input import is_prism, prism_input
from kspecsr.surveys.tables import CHUNK, NOT_PRISM, UNREADABLE, InputColumns, SurveyInput


def on_prism(found: SurveyInput, observed: ObservedSpectrum, zero_point: float = 0.0) -> SurveyInput:
    """The input with its spectrum on the prism's pixels, its zero point [km/s] taken off."""
    if not is_prism(observed):
        return found.failed(
            NOT_PRISM, f"{observed.meta.origin}: is a {observed.meta.disperser} spectrum; expected PRISM"
        )
    try:
        if zero_point:
            observed = observed.without_zero_point(zero_point)
        return replace(found, spectrum=prism_input(observed))
    except MemoryError:
        raise
    except Exception as error:  # as above
        return found.failed(UNREADABLE, error)


def read_rows(
    path: str, start: int, stop: int, first: int, columns: InputColumns, zero_point: float = 0.0
) -> Iterator[SurveyInput]:
    """Rows of a Parquet file with spectra as list columns, a few at a time.

    Args:
        path: of the file.
        start: first row.
        stop: row after the last.
        first: number of row ``start`` among all inputs.
        columns: of the file, units included.
        zero_point: velocity [km/s] that is taken off the wavelengths.
    """
    names = {key: getattr(columns, key) for key in _KEYS if getattr(columns, key)}
    # a buffer streams a row group instead of holding it
    with named_damage(path), pq.ParquetFile(path, buffer_size=_BUFFER) as file:
        groups, skipped = _groups(file.metadata, start, stop)
        fields = fields_of(file.schema_arrow)
        told = _Told(
            {key: fields[name].metadata or {} for key, name in names.items()},
            tuple(
                f"column {name} was not read: it may mark bad pixels"
                for name, one in fields.items()
                if is_list(one.type) and name not in names.values() and (marks(name) or may_mark(name))
            ),
        )
        row, batches = skipped, file.iter_batches(CHUNK, groups, sorted(set(_tops(file, names))))
        for batch in batches:
            low, high = max(start - row, 0), min(stop - row, batch.num_rows)
            if low < high:
                part = pa.Table.from_batches([batch.slice(low, high - low)])
                values = {key: _column(part, name) for key, name in names.items()}
                for i in range(part.num_rows):
                    number = row + low + i
                    row_of_all = first + number - start
                    yield _from_row(path, number, row_of_all, values, i, columns, told, zero_point)
            row += batch.num_rows
            if row >= stop:
                break


_BUFFER = 2**20
_KEYS = ("flux", "error", "ivar", "wavelength", "mask", "id", "ra", "dec", "redshift", "disperser")


@contextmanager
def named_damage(path: Path | str) -> Iterator[None]:
    """Turns what pyarrow raises for a damaged file into an error that names it.

    Raises:
        SpectrumError: for damage.
    """
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # not there, or a disk error
            raise
        text = " ".join(str(error).split())
        raise SpectrumError(f"{path}: no readable Parquet file ({text}); get an unaltered copy") from None


@dataclass(frozen=True)
class _Told:
    """What a Parquet schema says: metadata of the columns that are read, and notes on others."""

    metadata: Mapping[str, Mapping[bytes, bytes]]
    notes: tuple[str, ...]


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


def fields_of(schema: pa.Schema) -> dict[str, pa.Field]:
    """Columns, and fields of nested ones as ``column.field``."""
    found = {}
    for field in schema:
        found[field.name] = field
        if pa.types.is_struct(field.type):
            found |= {f"{field.name}.{inner.name}": inner for inner in field.type}
    return found


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list per row."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _column(table: pa.Table, name: str) -> pa.Array:
    if name in table.column_names:
        return table[name].combine_chunks()
    outer, _, inner = name.partition(".")
    return pa.compute.struct_field(table[outer].combine_chunks(), inner)


def _from_row(
    path, number, row, values, i, columns: InputColumns, told: _Told, zero_point: float
) -> SurveyInput:
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
        return on_prism(found, _observed(found, values, i, columns, told), zero_point)
    except MemoryError:
        raise
    except Exception as error:  # one odd row must not end a run of millions
        return found.failed(UNREADABLE, error)


def _number(values: Mapping[str, pa.Array], key: str, i: int) -> float:
    value = values[key][i].as_py() if key in values else None
    return math.nan if value is None else float(value)


def _observed(
    found: SurveyInput, values: Mapping[str, Any], i: int, columns: InputColumns, told: _Told
) -> ObservedSpectrum:
    where = f"{found.source}[row {found.source_row}]"
    arrays = {}
    for key in ("flux", "error", "ivar", "wavelength", "mask"):
        if key in values:
            one = values[key][i]
            if not one.is_valid:
                raise SpectrumError(f"{where}: column {getattr(columns, key)} is null")
            arrays[key] = one.values.to_numpy(zero_copy_only=False)  # nulls of numbers become NaN
            if key != "mask":
                stored = np.asarray(arrays[key])
                arrays[key] = np.where(is_fill(stored, told.metadata[key]), np.nan, stored.astype(np.float64))
    if "ivar" in arrays:
        with np.errstate(divide="ignore", invalid="ignore"):
            # An inverse variance of 0 means a bad pixel: its error becomes infinite, and is masked as one.
            arrays["error"] = 1.0 / np.sqrt(np.asarray(arrays["ivar"], dtype=np.float64))
    flux, wavelength = parse_unit(columns.flux_unit), parse_unit(columns.wavelength_unit)
    mask, notes = None, ()
    if "mask" in arrays:
        name = columns.mask.rpartition(".")[2]
        stated = name if marks(name) else "mask"  # as --mask says
        mask, notes = bad_pixels([stated], lambda _: arrays["mask"], where)
    disperser = values["disperser"][i].as_py() if "disperser" in values else None
    meta = SpectrumMeta(
        target=found.object_id,
        ra=found.ra,
        dec=found.dec,
        disperser=disperser_name(str(disperser or "")),
        path=found.source,
        hdu=f"row {found.source_row}",
        notes=told.notes + notes,
    )
    return ObservedSpectrum.from_quantities(
        u.Quantity(arrays["wavelength"], wavelength),
        u.Quantity(arrays["flux"], flux),
        u.Quantity(arrays["error"], flux),
        mask,
        meta,
    )
