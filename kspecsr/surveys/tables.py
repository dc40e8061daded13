"""Columns of the survey's tables, with units, and results as rows of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from data_pipeline.configuration import to_dict
from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import load_lines
from kspecsr.results.flags import detection
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA
from kspecsr.surveys.reading import SurveyInput
from kspecsr.surveys.settings import SurveySettings

if TYPE_CHECKING:
    from kspecsr.results.result import Result

OBJECTS, LINES, FAILURES, SPECTRA = "objects", "lines", "failures", "spectra"
QUANTILES = {"z_p02": 0.025, "z_p16": 0.16, "z_p50": 0.5, "z_p84": 0.84, "z_p97": 0.975}
_FLUX, _DENSITY = "erg / (s cm2)", "erg / (s cm2 Angstrom)"
_SMALLEST_PROBABILITY = 1e-6  # of a bin of P(z); below it is noise that does not compress


class Column(NamedTuple):
    """Name, type, unit and meaning of a column."""

    name: str
    kind: pa.DataType
    unit: str
    meaning: str


_KEY = (
    Column("input_row", pa.int64(), "", "number of the spectrum among the inputs: the key of all tables"),
    Column("object_id", pa.string(), "", "as the inputs state it"),
)
_F4, _F8 = pa.float32(), pa.float64()
COLUMNS: dict[str, tuple[Column, ...]] = {
    OBJECTS: (
        *_KEY,
        Column("ra", _F8, "deg", "right ascension, ICRS"),
        Column("dec", _F8, "deg", "declination, ICRS"),
        Column("z", _F8, "", "redshift at which lines are placed"),
        Column("z_error", _F4, "", "one sigma; 0 where given"),
        Column("z_confidence", _F4, "", "mass of z's mode within 0.01 (1 + z)"),
        Column("z_given", pa.bool_(), "", "known to the user, not inferred"),
        *(Column(name, _F8, "", f"{share:g} quantile of P(z)") for name, share in QUANTILES.items()),
        Column("z_modes", pa.list_(_F8), "", "modes of P(z), the heaviest first"),
        Column("z_mode_errors", pa.list_(_F4), "", "their widths, one sigma"),
        Column("z_mode_masses", pa.list_(_F4), "", "their masses"),
        Column("flags", pa.string(), "", "why no lines are reported, separated by commas; empty: they are"),
        Column("chi_square", _F4, "", "prism consistency per good pixel"),
        Column("sn_continuum", _F4, "", "S/N of the weighted mean flux"),
        Column("sn_feature", _F4, "", "S/N of the best three neighbouring pixels"),
        Column("sn_pixel", _F4, "", "median S/N of a good prism pixel"),
        Column("coverage", _F4, "", "share of good prism pixels"),
        Column("lines_detected", pa.int16(), "", f"lines above {LIMIT_SIGMA:g} sigma that are likely there"),
        Column("brightest_line", pa.string(), "", "of them, the one with the most flux"),
        Column("brightest_flux", _F4, _FLUX, "its flux"),
        Column("brightest_flux_error", _F4, _FLUX, "one sigma"),
        Column("source", pa.string(), "", "file that was read"),
        Column("source_row", pa.int64(), "", "row in it; -1 where the file holds one spectrum"),
    ),
    LINES: (
        *_KEY,
        Column("line", pa.string(), "", "name"),
        Column("wave_rest", _F8, "Angstrom", "rest wavelength in vacuum"),
        Column("wave_obs", _F8, "um", "fitted centre, vacuum"),
        Column("flux", _F4, _FLUX, "flux"),
        Column("flux_error", _F4, _FLUX, "one sigma"),
        Column("fwhm", _F4, "um", "observed width, instrument included"),
        Column("ew_rest", _F4, "Angstrom", "rest equivalent width, positive in emission"),
        Column("presence", _F4, "", "chance of more than 3 sigma at grating depth"),
        Column("prior_weight", _F4, "", "share of the value owed to the learned prior"),
    ),
    FAILURES: (
        *_KEY,
        Column("kind", pa.string(), "", "no_file, unreadable, not_prism or not_resolved"),
        Column("reason", pa.string(), "", "what was received, what was expected"),
        Column("source", pa.string(), "", "file"),
        Column("source_row", pa.int64(), "", "row in it; -1 where the file holds one spectrum"),
    ),
    SPECTRA: (
        *_KEY,
        Column("flux", pa.list_(_F4), _DENSITY, "super-resolved, on grids/output.parquet; NaN where masked"),
        Column("flux_error", pa.list_(_F4), _DENSITY, "one sigma"),
        Column("continuum", pa.list_(_F4), _DENSITY, "without lines; NaN where flagged"),
        Column("prism_flux", pa.list_(_F4), _DENSITY, "what the networks saw, on grids/prism.parquet"),
        Column("prism_error", pa.list_(_F4), _DENSITY, "one sigma"),
        Column("prism_mask", pa.list_(pa.bool_()), "", "true: bad"),
        Column("pz", pa.list_(_F4), "", f"P(z) per bin of grids/redshift.parquet; 0 below {1e-6:g}"),
    ),
}


def table_schema(name: str, settings: SurveySettings) -> pa.Schema:
    """Schema of a table with units per field, and the run's settings and units as JSON in its metadata."""
    fields = [
        pa.field(c.name, c.kind, metadata={"description": c.meaning, **({"unit": c.unit} if c.unit else {})})
        for c in COLUMNS[name]
    ]
    units = {c.name: c.unit for c in COLUMNS[name] if c.unit}
    content = {"table": name, "fingerprint": settings.fingerprint, "settings": to_dict(settings)}
    metadata = {
        "kspecsr": json.dumps(content, sort_keys=True),
        "units": json.dumps(units),
        "model": settings.model,
        "weights_sha256": settings.model_sha256,
    }
    return pa.schema(fields, metadata=metadata)


def object_rows(inputs: Sequence[SurveyInput], results: Sequence[Result], schema: pa.Schema) -> pa.Table:
    """One row per object."""
    rows = [_object(one, result) for one, result in zip(inputs, results, strict=True)]
    return pa.Table.from_pylist(rows, schema=schema)


def _object(one: SurveyInput, result: Result) -> dict:
    redshift, lines = result.redshift, result.measurements
    # without a mode there is no P(z) to take quantiles of
    quantiles = redshift.quantile(list(QUANTILES.values())) if redshift.modes else [math.nan] * len(QUANTILES)
    good = ~result.prism_mask
    continuum, feature = detection(result.prism_flux, result.prism_error, result.prism_mask)
    ratio = result.prism_flux[good] / result.prism_error[good]
    brightest = lines.brightest()
    with np.errstate(invalid="ignore"):
        sure = (lines.signal_to_noise > LIMIT_SIGMA) & (lines.presence > LIKELY)
    return {
        "input_row": one.row,
        "object_id": one.object_id,
        "ra": one.ra,
        "dec": one.dec,
        "z": redshift.value,
        "z_error": redshift.error,
        "z_confidence": redshift.confidence,
        "z_given": redshift.given,
        **dict(zip(QUANTILES, map(float, quantiles), strict=True)),
        "z_modes": [mode.redshift for mode in redshift.modes],
        "z_mode_errors": [mode.error for mode in redshift.modes],
        "z_mode_masses": [mode.mass for mode in redshift.modes],
        "flags": ",".join(result.flags),
        "chi_square": result.chi_square,
        "sn_continuum": continuum,
        "sn_feature": feature,
        "sn_pixel": float(np.median(ratio)) if ratio.size else math.nan,
        "coverage": float(good.mean()),
        "lines_detected": int(sure.sum()),
        "brightest_line": "" if brightest is None else load_lines().names[brightest],
        "brightest_flux": math.nan if brightest is None else lines.flux[brightest],
        "brightest_flux_error": math.nan if brightest is None else lines.flux_error[brightest],
        "source": one.source,
        "source_row": one.source_row,
    }


def line_rows(inputs: Sequence[SurveyInput], results: Sequence[Result], schema: pa.Schema) -> pa.Table:
    """One row per object and line that falls on its data; none for flagged objects."""
    listed = load_lines()
    names, rest = np.array(listed.names), listed.wavelength * ANGSTROM_PER_UM
    rows = [
        np.flatnonzero(np.isfinite(r.measurements.flux) & r.measurements.in_range)
        if not r.flags
        else np.zeros(0, int)
        for r in results
    ]
    counts = [one.size for one in rows]

    def joined(attribute: str) -> np.ndarray:
        parts = [getattr(r.measurements, attribute)[k] for r, k in zip(results, rows, strict=True)]
        return np.concatenate([np.zeros(0), *parts])

    every = np.concatenate([np.zeros(0, int), *rows])
    values = {
        "input_row": np.repeat([one.row for one in inputs], counts).astype(np.int64),
        "object_id": np.repeat(np.array([one.object_id for one in inputs], dtype=object), counts),
        "line": names[every].astype(object),
        "wave_rest": rest[every],
        "wave_obs": joined("wavelength"),
        "flux": joined("flux"),
        "flux_error": joined("flux_error"),
        "fwhm": joined("fwhm"),
        "ew_rest": joined("equivalent_width"),
        "presence": joined("presence"),
        "prior_weight": joined("prior_weight"),
    }
    arrays = [pa.array(_as(values[f.name], f.type), f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def failure_rows(inputs: Sequence[SurveyInput], schema: pa.Schema) -> pa.Table:
    """One row per input without a result."""
    rows = [
        {
            "input_row": one.row,
            "object_id": one.object_id,
            "kind": one.failure,
            "reason": one.reason,
            "source": one.source,
            "source_row": one.source_row,
        }
        for one in inputs
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def spectrum_rows(inputs: Sequence[SurveyInput], results: Sequence[Result], schema: pa.Schema) -> pa.Table:
    """Spectra and P(z) of objects, as lists."""
    columns = {
        "flux": [r.flux for r in results],
        "flux_error": [r.flux_error for r in results],
        "continuum": [r.continuum for r in results],
        "prism_flux": [r.prism_flux for r in results],
        "prism_error": [r.prism_error for r in results],
        "prism_mask": [r.prism_mask for r in results],
        "pz": [
            np.where(r.redshift.probability < _SMALLEST_PROBABILITY, 0.0, r.redshift.probability)
            for r in results
        ],
    }
    arrays: dict[str, pa.Array] = {
        "input_row": pa.array([one.row for one in inputs], pa.int64()),
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
    return values if kind == pa.string() else values.astype(kind.to_pandas_dtype())
