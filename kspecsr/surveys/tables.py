"""Settings and inputs of a survey, and the columns of its tables with units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow as pa

from data_pipeline.configuration import json_hash, to_dict
from kspecsr.configuration.model import check_choice, check_range
from kspecsr.gratings.joint import JointInput
from kspecsr.results.arm_files import ARM_ROW, SOURCE_MEANING
from kspecsr.results.lines import BROAD_COLUMNS, LINE_COLUMNS, LINE_FLUX_UNIT
from kspecsr.results.prism_input import PrismInput
from kspecsr.results.ratios import COLUMNS
from kspecsr.results.table import ROW_COLUMNS

CHUNK = 128  # spectra that go through the networks together: the batch size of `SuperResolver`
FILES, ROWS = "files", "rows"
# 1: without snr, upper_limit and in_range; sn_feature and sn_continuum on all prism pixels. 2: without notes.
# 3: without class_probability, correlations and broad lines. 4: without gratings
LAYOUT = 5


@dataclass(frozen=True)
class InputColumns:
    """Columns of a catalogue or of a table of paths; empty for "look under the usual names".

    ``spectrum.flux`` names a field of a nested column.

    Attributes:
        flux: list column of the flux.
        error: list column of its one-sigma error.
        ivar: list column of the inverse variance, in place of errors.
        wavelength: list column of the wavelength in vacuum.
        mask: list column, nonzero = bad; one with a name such as ``valid``: zero = bad.
        path: of a table of paths.
        id: object ids.
        ra: right ascension [deg].
        dec: declination [deg].
        redshift: known redshifts; empty for none, whatever the table has.
        disperser: what a row was taken with; rows of others than the prism become failures.
        flux_unit: unit of flux and error; empty for the unit in the schema's metadata.
        wavelength_unit: unit of the wavelength; empty for the unit in the schema's metadata.
    """

    flux: str = ""
    error: str = ""
    ivar: str = ""
    wavelength: str = ""
    mask: str = ""
    path: str = ""
    id: str = ""
    ra: str = ""
    dec: str = ""
    redshift: str = ""
    disperser: str = ""
    flux_unit: str = ""
    wavelength_unit: str = ""


@dataclass(frozen=True)
class SurveySettings:
    """A survey run. Two runs with the same settings give the same tables.

    Attributes:
        kind: ``files`` (a spectrum each) or ``rows`` (of Parquet files).
        inputs_sha256: SHA-256 of the list of inputs with their sizes and times of change.
        total: number of inputs.
        partitions: number of partitions.
        partition_size: inputs in a partition, at most.
        model: name of the model.
        model_sha256: SHA-256 of its weights.
        columns: columns of the inputs.
        extraction: ``3pix`` or ``5pix``, for files that hold both.
        hdu: extension to read, of files with several spectra.
        row: spectrum to read, of files whose tables have one per row.
        spectra: whether spectra and P(z) are kept too.
        keep_flagged: whether flagged spectra keep their lines.
        precision: of the networks' trunks, as of `kspecsr.load`.
        zero_point: velocity [km/s] that is taken off the wavelengths.
        joint_lines: whether the model states how errors of lines are correlated.
        with_gratings: number of inputs with gratings.
        software: package name to version.
        layout: version of the columns of the tables and of their meaning.
    """

    kind: str
    inputs_sha256: str
    total: int
    partitions: int
    partition_size: int
    model: str
    model_sha256: str
    columns: InputColumns = field(default_factory=InputColumns)
    extraction: str = "3pix"
    hdu: str | None = None
    row: int | None = None
    spectra: bool = False
    keep_flagged: bool = False
    precision: str = "float32"
    zero_point: float = 0.0
    joint_lines: bool = False
    with_gratings: int = 0
    software: Mapping[str, str] = field(default_factory=dict)
    layout: int = 1  # of manifests that do not state one

    def __post_init__(self):
        check_choice("kind", self.kind, (FILES, ROWS))
        check_choice("extraction", self.extraction, ("3pix", "5pix"))
        check_range("total", self.total, 1)
        check_range("partition_size", self.partition_size, 1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return json_hash(to_dict(self))


NO_FILE, UNREADABLE, NOT_PRISM = "no_file", "unreadable", "not_prism"
NOT_JOINED, NOT_RESOLVED = "not_joined", "not_resolved"
FAILURE_KINDS = {
    NO_FILE: "the file is not there",
    UNREADABLE: "no spectrum could be read from it",
    NOT_PRISM: "a spectrum that was not taken with the prism",
    NOT_JOINED: "one of its gratings cannot be read, or is of another source",
    NOT_RESOLVED: "read, but the result could not be made",
}


@dataclass(frozen=True, eq=False)
class SurveyInput:
    """One input of a survey.

    Attributes:
        input_row: number among all inputs.
        object_id: id as the inputs state it; empty for the one that the file states.
        source: path of the file.
        source_row: row in that file; -1 where the file holds one spectrum.
        ra: right ascension [deg]; NaN where unknown.
        dec: declination [deg]; NaN where unknown.
        redshift: known redshift; NaN for none.
        gratings: paths of the gratings that are joined with it.
        spectrum: on the prism's pixels; None for a failure.
        joint: the same with its gratings; None for none.
        failure: kind of failure, out of `FAILURE_KINDS`.
        reason: text.
    """

    input_row: int
    object_id: str
    source: str
    source_row: int = -1
    ra: float = math.nan
    dec: float = math.nan
    redshift: float = math.nan
    gratings: tuple[str, ...] = ()
    spectrum: PrismInput | None = None
    joint: JointInput | None = None
    failure: str = ""
    reason: str = ""

    def failed(self, kind: str, error: Exception | str) -> SurveyInput:
        """The same as a failure, with one line of reason."""
        text = " ".join(str(error).split())
        if isinstance(error, Exception) and not isinstance(error, ValueError | OSError):
            text = f"{type(error).__name__}: {text}"
        return replace(self, spectrum=None, failure=kind, reason=text)


OBJECTS, LINES, RATIOS, FAILURES, SPECTRA = "objects", "lines", "ratios", "failures", "spectra"
QUANTILES = {"z_p02": 0.025, "z_p16": 0.16, "z_p50": 0.5, "z_p84": 0.84, "z_p97": 0.975}
_DENSITY = "erg / (s cm2 Angstrom)"
SMALLEST_PROBABILITY = 1e-6  # of a bin of P(z); below it is noise that does not compress


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
_SOURCE = (
    Column("source", pa.string(), "", "file that was read"),
    Column("source_row", pa.int64(), "", "row in it; -1 where the file holds one spectrum"),
)
_F4, _F8 = pa.float32(), pa.float64()
# Columns that are not float32, as most are.
_KINDS = {
    **dict.fromkeys(("z", "z_prism", "wave_rest", "wave_obs"), _F8),
    **dict.fromkeys(("z_given", "in_range"), pa.bool_()),
    **dict.fromkeys(("flags", "brightest_line", "line", "object_class", "notes"), pa.string()),
    "lines_detected": pa.int16(),
    "arms": pa.int8(),
    "class_probability": pa.list_(_F4),
}


def _described(name: str, unit: str, meaning: str) -> Column:
    return Column(name, _KINDS.get(name, _F4), unit, meaning)


_RENAMED = {"NAME": "line", "FLUX_ERR": "flux_error"}
# Columns of the table of lines, and what they are called in FITS files.
LINE_NAMES = {_RENAMED.get(name, name.lower()): name for name in LINE_COLUMNS}
_ROW = {name: _described(name, *texts) for name, texts in ROW_COLUMNS.items()}
# NaN of models without broad lines; what all of a spectrum share is in the table of objects
BROAD_NAMES = {
    name.lower().replace("err", "error"): name
    for name, one in BROAD_COLUMNS.items()
    if one.unit == LINE_FLUX_UNIT
}
# of the table of ratios, and what they are called in FITS files
RATIO_NAMES = {"name": "NAME", "unit": "UNIT", "kind": "KIND"}
RATIO_NAMES |= {one.removeprefix("z_"): f"P{100 * share:g}" for one, share in QUANTILES.items()}
RATIO_NAMES["prior_weight"] = "PRIOR_WEIGHT"
_FIRST = ("z", "z_error", "z_confidence", "z_given")  # before the quantiles and modes
_RATIO_KINDS = dict.fromkeys(("name", "unit", "kind"), pa.string())
TABLES: dict[str, tuple[Column, ...]] = {
    OBJECTS: (
        *_KEY,
        Column("ra", _F8, "deg", "right ascension, ICRS"),
        Column("dec", _F8, "deg", "declination, ICRS"),
        *(_ROW[name] for name in _FIRST),
        *(Column(name, _F8, "", f"{share:g} quantile of P(z)") for name, share in QUANTILES.items()),
        Column("z_modes", pa.list_(_F8), "", "modes of P(z), the heaviest first"),
        Column("z_mode_errors", pa.list_(_F4), "", "their widths, one sigma"),
        Column("z_mode_masses", pa.list_(_F4), "", "their masses"),
        *(column for name, column in _ROW.items() if name not in _FIRST),
        *(_described(name, *texts) for name, texts in ARM_ROW.items()),
        *_SOURCE,
    ),
    LINES: (
        *_KEY,
        *(_described(name, *LINE_COLUMNS[key][1:3]) for name, key in LINE_NAMES.items()),
        *(_described(name, *BROAD_COLUMNS[key][1:3]) for name, key in BROAD_NAMES.items()),
        Column(
            "correlations",
            pa.list_(_F4),
            "",
            "of the errors, with each line before it in the list; to 4e-6; null: the model states none",
        ),
    ),
    RATIOS: (
        *_KEY,
        *(Column(name, _RATIO_KINDS.get(name, _F4), "", COLUMNS[key]) for name, key in RATIO_NAMES.items()),
    ),
    FAILURES: (
        *_KEY,
        Column("kind", pa.string(), "", f"one of {', '.join(FAILURE_KINDS)}"),
        Column("reason", pa.string(), "", "what was received, what was expected"),
        *_SOURCE,
    ),
    SPECTRA: (
        *_KEY,
        Column("flux", pa.list_(_F4), _DENSITY, "super-resolved, on grids/output.parquet; NaN where masked"),
        Column("flux_error", pa.list_(_F4), _DENSITY, "one sigma"),
        Column("continuum", pa.list_(_F4), _DENSITY, "without lines; NaN where flagged"),
        Column("pixel_source", pa.list_(pa.int8()), "", f"sum of {SOURCE_MEANING}; 0: masked"),
        Column("prism_flux", pa.list_(_F4), _DENSITY, "what the networks saw, on grids/prism.parquet"),
        Column("prism_error", pa.list_(_F4), _DENSITY, "one sigma"),
        Column("prism_mask", pa.list_(pa.bool_()), "", "true: bad"),
        Column(
            "pz",
            pa.list_(_F4),
            "",
            f"P(z) per bin of grids/redshift.parquet; 0 below {SMALLEST_PROBABILITY:g}",
        ),
    ),
}


def table_schema(name: str, settings: SurveySettings) -> pa.Schema:
    """Schema of a table with units per field, and the run's settings and units as JSON in its metadata."""
    fields = [
        pa.field(c.name, c.kind, metadata={"description": c.meaning, **({"unit": c.unit} if c.unit else {})})
        for c in TABLES[name]
    ]
    units = {c.name: c.unit for c in TABLES[name] if c.unit}
    content = {"table": name, "fingerprint": settings.fingerprint, "settings": to_dict(settings)}
    metadata = {
        "kspecsr": json.dumps(content, sort_keys=True),
        "units": json.dumps(units),
        "model": settings.model,
        "weights_sha256": settings.model_sha256,
    }
    return pa.schema(fields, metadata=metadata)
