"""What a survey run is made of: anything that changes a number in its output stands here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data_pipeline.configuration import json_hash, to_dict
from kspecsr.configuration.model import check_choice, check_range

CHUNK = 128  # spectra that go through the networks together: the batch size of `SuperResolver`
FILES, ROWS = "files", "rows"


@dataclass(frozen=True)
class InputColumns:
    """Columns of a catalogue or of a table of paths; empty for "look under the usual names".

    ``spectrum.flux`` names a field of a nested column.

    Attributes:
        flux: list column of the flux.
        error: list column of its one-sigma error.
        ivar: list column of the inverse variance, in place of errors.
        wavelength: list column of the wavelength in vacuum.
        mask: list column, nonzero = bad.
        path: of a table of paths.
        id: object ids.
        ra: right ascension [deg].
        dec: declination [deg].
        redshift: known redshifts; empty for none, whatever the table has.
        flux_unit: of flux and error; empty for the unit in the schema's metadata.
        wavelength_unit: likewise.
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
    flux_unit: str = ""
    wavelength_unit: str = ""


@dataclass(frozen=True)
class SurveySettings:
    """A survey run. Two runs with the same settings give the same tables.

    Attributes:
        kind: ``files`` (a spectrum each) or ``rows`` (of Parquet files).
        inputs_sha256: of the list of inputs with their sizes and times of change.
        total: inputs.
        partitions: number of them.
        partition_size: inputs in a partition, at most.
        model: name of the model.
        model_sha256: of its weights.
        columns: of the inputs.
        extraction: ``3pix`` or ``5pix``, for files that hold both.
        spectra: whether spectra and P(z) are kept too.
        software: package to version.
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
    spectra: bool = False
    software: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        check_choice("kind", self.kind, (FILES, ROWS))
        check_choice("extraction", self.extraction, ("3pix", "5pix"))
        check_range("total", self.total, 1)
        check_range("partition_size", self.partition_size, 1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return json_hash(to_dict(self))
