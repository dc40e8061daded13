"""Results as rows of a survey's tables, and the lines of an object back from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.lines import list_naming, load_lines
from kspecsr.results.data import SpectrumResult
from kspecsr.results.joint_lines import JointLines
from kspecsr.results.ratios import ratio_columns
from kspecsr.results.table import row_of
from kspecsr.surveys.output import SurveyError
from kspecsr.surveys.tables import (
    BROAD_NAMES,
    LINE_NAMES,
    LINES,
    QUANTILES,
    RATIO_NAMES,
    SMALLEST_PROBABILITY,
    SurveyInput,
)

# Correlations are rounded, so that the many small ones compress; not strong ones, of which a sum has what is
# left to 1.
_ROUNDED, _STRONG = 2.0**-17, 0.9


def object_rows(
    inputs: Sequence[SurveyInput], results: Sequence[SpectrumResult], schema: pa.Schema
) -> pa.Table:
    """One row per object."""
    rows = [_object(one, result) for one, result in zip(inputs, results, strict=True)]
    return pa.Table.from_pylist(rows, schema=schema)


def _object(one: SurveyInput, result: SpectrumResult) -> dict:
    redshift, row = result.redshift, asdict(row_of(result, one.object_id))
    # without a mode there is no P(z) to take quantiles of
    quantiles = redshift.quantile(list(QUANTILES.values())) if redshift.modes else [math.nan] * len(QUANTILES)
    return {
        **_key(one),
        "ra": one.ra,
        "dec": one.dec,
        **row,
        **row.pop("by_arm"),
        **dict(zip(QUANTILES, map(float, quantiles), strict=True)),
        "z_modes": [mode.redshift for mode in redshift.modes],
        "z_mode_errors": [mode.error for mode in redshift.modes],
        "z_mode_masses": [mode.mass for mode in redshift.modes],
    }


def _key(one: SurveyInput) -> dict:
    return {name: getattr(one, name) for name in ("input_row", "object_id", "source", "source_row")}


def line_rows(
    inputs: Sequence[SurveyInput], results: Sequence[SpectrumResult], schema: pa.Schema
) -> pa.Table:
    """One row per object and line that falls on its data; flagged objects have none, unless kept."""
    kept = [np.flatnonzero(r.measurements.reported) for r in results]
    counts = [rows.size for rows in kept]
    values = {
        "input_row": np.repeat([one.input_row for one in inputs], counts),
        "object_id": np.repeat(np.array([one.object_id for one in inputs], dtype=object), counts),
    }
    columns = [result.measurements.columns() for result in results]
    for name, key in (LINE_NAMES | BROAD_NAMES).items():
        parts = [
            one[key][rows] if key in one else np.full(rows.size, np.nan)
            for one, rows in zip(columns, kept, strict=True)
        ]
        values[name] = np.concatenate(parts) if parts else np.zeros(0)
    return _table(values, schema, {"correlations": _correlations(results, kept)})


def _correlations(results: Sequence[SpectrumResult], kept: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """For each row the correlations with the object's rows before it."""
    found: list[np.ndarray | None] = []
    for result, rows in zip(results, kept, strict=True):
        if result.measurements.correlation is None:
            found += [None] * rows.size
            continue
        matrix = result.measurements.correlation[np.ix_(rows, rows)]
        rounded = np.round(matrix / _ROUNDED) * _ROUNDED
        matrix = np.where(np.abs(matrix) < _STRONG, rounded, matrix).astype(np.float32)
        found += [matrix[row, :row] for row in range(rows.size)]
    return found


def ratio_rows(
    inputs: Sequence[SurveyInput], results: Sequence[SpectrumResult], schema: pa.Schema
) -> pa.Table:
    """Rows of ratios, sums and reddening of each object whose lines are reported."""
    pairs = [(i, r) for i, r in zip(inputs, results, strict=True) if r.measurements.reported.any()]
    parts = [ratio_columns(result.joint_lines, result.measurements.prior_weight) for _, result in pairs]
    counts = [len(part["NAME"]) for part in parts]
    ids = np.array([one.object_id for one, _ in pairs], dtype=object)
    values = {
        "input_row": np.repeat([one.input_row for one, _ in pairs], counts),
        "object_id": np.repeat(ids, counts),
    }
    for name, key in RATIO_NAMES.items():
        values[name] = np.concatenate([part[key] for part in parts]) if parts else np.zeros(0)
    return _table(values, schema, {})


def _table(values: dict[str, np.ndarray], schema: pa.Schema, lists: dict[str, list]) -> pa.Table:
    """Arrays and lists of arrays as a table."""
    arrays = [
        pa.array(lists[one.name] if one.name in lists else _as(values[one.name], one.type), one.type)
        for one in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def read_joint_lines(folder: Path, input_row: int) -> JointLines:
    """Fluxes of all lines of an object with their covariance, as its result has them.

    Args:
        folder: of the survey.
        input_row: number of the object.

    Returns:
        With ``flux_of``, ``ratio`` and ``samples``; lines that are not reported are NaN.

    Raises:
        SurveyError: for a folder without such a table, or an object without lines.
    """
    columns = ["line", "flux", "flux_error", "correlations"]
    try:
        filters = [("input_row", "=", int(input_row))]
        table = pq.read_table(folder / LINES, columns=columns, filters=filters).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise SurveyError(
            f"{folder / LINES}: cannot be read ({error}); expected a survey of this version"
        ) from None
    if not len(table):
        raise SurveyError(f"{folder / LINES}: no line of input {input_row}: it is flagged, or a failure")
    known = load_lines(list_naming(table["line"]))
    table["row"] = [known.index(name) for name in table["line"]]
    table = table.sort_values("row")  # whoever wrote it again may have sorted it otherwise
    rows = table["row"].to_numpy()
    correlated = table["correlations"].notna().all()
    correlation = np.eye(rows.size)
    for row, values in enumerate(table["correlations"] if correlated else ()):
        correlation[row, :row] = correlation[:row, row] = values
    flux, covariance = np.full(len(known), np.nan), np.full((len(known), len(known)), np.nan)
    error = table["flux_error"].to_numpy(np.float64)
    flux[rows] = table["flux"]
    covariance[np.ix_(rows, rows)] = correlation * error[:, None] * error
    return JointLines(flux, covariance, bool(correlated))


def failure_rows(inputs: Sequence[SurveyInput], schema: pa.Schema) -> pa.Table:
    """One row per input without a result."""
    rows = [{**_key(one), "kind": one.failure, "reason": one.reason} for one in inputs]
    return pa.Table.from_pylist(rows, schema=schema)


def spectrum_rows(
    inputs: Sequence[SurveyInput], results: Sequence[SpectrumResult], schema: pa.Schema
) -> pa.Table:
    """Spectra and P(z) of objects, as lists."""
    columns = {
        "flux": [r.flux for r in results],
        "flux_error": [r.flux_error for r in results],
        "continuum": [r.continuum for r in results],
        "pixel_source": [np.where(r.mask, 0, 1) if r.arms is None else r.arms.source for r in results],
        "prism_flux": [r.prism_flux for r in results],
        "prism_error": [r.prism_error for r in results],
        "prism_mask": [r.prism_mask for r in results],
        "pz": [
            np.where(r.redshift.probability < SMALLEST_PROBABILITY, 0.0, r.redshift.probability)
            for r in results
        ],
    }
    arrays: dict[str, pa.Array] = {
        "input_row": pa.array([one.input_row for one in inputs], pa.int64()),
        "object_id": pa.array([one.object_id for one in inputs], pa.string()),
    }
    for name, values in columns.items():
        offsets = np.cumsum([0, *(v.size for v in values)]).astype(np.int32)
        inner = schema.field(name).type.value_type
        flat = np.concatenate([np.zeros(0), *values])
        arrays[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(_as(flat, inner), inner))
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _as(values: np.ndarray, kind: pa.DataType) -> np.ndarray:
    """The column's own type: pyarrow refuses to narrow NumPy's."""
    return values.astype(object if kind == pa.string() else kind.to_pandas_dtype())
