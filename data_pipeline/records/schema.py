"""Fields of a record, for writer and readers alike."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_pipeline.configuration import json_hash
from data_pipeline.pixel_grid import UnifiedGrid

# Raised by one whenever a record written before can no longer be read as it was meant.
SCHEMA_VERSION = 1
# Flux densities near 1e-20 erg/s/cm2/A are of order one for JADES; in plain cgs their squares leave float32.
FLUX_UNIT_IN_RECORDS = 1e-20
FLUX_UNIT = "1e-20 erg s-1 cm-2 AA-1"
LINE_FLUX_UNIT = "1e-20 erg s-1 cm-2"

# Type in memory -> type on disk, little-endian. Text is UTF-8 of any length.
DISK_TYPES = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8", "bool": "|u1"}
TEXT = "str"


class RecordFormatError(ValueError):
    """An example or a record that does not follow the schema: field, received, expected."""


class RecordIntegrityError(RuntimeError):
    """Files on disk that are not what was written: file, found, expected, cure."""


@dataclass(frozen=True)
class Field:
    """One named array, number or text of a record.

    Attributes:
        name: key in the record.
        shape: () for a number or a text.
        dtype: one of float32, float64, int32, int64, bool (one byte each on disk), str (UTF-8).
        unit: unit as text; empty where there is none.
        description: one line.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a field needs a name, got an empty one")
        if self.dtype not in (*DISK_TYPES, TEXT):
            raise ValueError(
                f"field {self.name!r}: unknown dtype {self.dtype!r}; "
                f"expected one of {', '.join(DISK_TYPES)}, {TEXT}"
            )
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        if any(length < 1 for length in self.shape):
            raise ValueError(f"field {self.name!r}: expected lengths of 1 or more, got shape {self.shape}")
        if self.is_text and self.shape:
            raise ValueError(f"field {self.name!r}: text has shape (), got {self.shape}")

    @cached_property
    def is_text(self) -> bool:
        """Holds text, not numbers."""
        return self.dtype == TEXT

    @cached_property
    def disk_dtype(self) -> np.dtype:
        """Little-endian NumPy type on disk; not defined for text."""
        return np.dtype(DISK_TYPES[self.dtype])

    @cached_property
    def n_bytes(self) -> int | None:
        """Bytes on disk; None for text, whose length is free."""
        return None if self.is_text else math.prod(self.shape) * self.disk_dtype.itemsize


@dataclass(frozen=True)
class Schema:
    """The fields of a record, in the order in which they are read by people.

    Attributes:
        fields: fields with different names.
        version: ``SCHEMA_VERSION`` of the software that wrote it.
    """

    fields: tuple[Field, ...]
    version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"field name {', '.join(twice)} given twice; expected different names")
        if not names:
            raise ValueError("expected at least one field, got none")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Field names in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """Field of each name."""
        return {field.name: field for field in self.fields}

    @cached_property
    def hash(self) -> str:
        """SHA-256 over version, names, shapes, types and units; descriptions may be reworded."""
        rows = [[field.name, list(field.shape), field.dtype, field.unit] for field in self.fields]
        return json_hash({"version": self.version, "fields": rows})

    def select(self, names: Iterable[str] | None) -> tuple[Field, ...]:
        """The named fields in this schema's order; all for None.

        Raises:
            ValueError: for an unknown name or an empty choice, listing the known names.
        """
        if names is None:
            return self.fields
        wanted = {names} if isinstance(names, str) else set(names)
        unknown = sorted(wanted - set(self.names))
        if unknown or not wanted:
            what = f"unknown field {', '.join(map(str, unknown))}" if unknown else "no field chosen"
            raise ValueError(f"{what}; the records hold: {', '.join(self.names)}")
        return tuple(field for field in self.fields if field.name in wanted)


def _spectrum_fields(prefix: str, suffix: str, length: int, what: str) -> tuple[Field, ...]:
    return (
        Field(f"{prefix}_flux{suffix}", (length,), "float32", FLUX_UNIT, f"{what}: flux density"),
        Field(f"{prefix}_error{suffix}", (length,), "float32", FLUX_UNIT, f"{what}: 1 sigma error"),
        Field(f"{prefix}_mask{suffix}", (length,), "bool", "", f"{what}: True = bad or without data"),
    )


def record_schema(grid: UnifiedGrid, n_prism: int = 706, *, line_names: Iterable[str]) -> Schema:
    """Schema of records of a unified grid, of ``n_prism`` pixels, and of lines as in `LineList.names`."""
    grating, lines = (grid.size,), (len(tuple(line_names)),)
    return Schema(
        (
            *_spectrum_fields("prism", "", n_prism, "prism on its own pixels"),
            *_spectrum_fields("prism", "_unified", grid.size, "prism interpolated to the unified grid"),
            *_spectrum_fields("grating", "", grid.size, "stitched gratings on the unified grid"),
            Field("noise_free", grating, "float32", FLUX_UNIT, "noise-free grating spectrum; NaN if unknown"),
            Field("has_noise_free", (), "bool", "", "noise_free is known"),
            Field(
                "line_flux", lines, "float32", LINE_FLUX_UNIT, "true (simulated) or fitted; NaN if unknown"
            ),
            Field("line_flux_error", lines, "float32", LINE_FLUX_UNIT, "1 sigma error; 0 for the truth"),
            Field("line_flux_known", lines, "bool", "", "line_flux is known: the line is covered"),
            Field("redshift", (), "float64", "", "of this realisation; NaN for pure noise or if unknown"),
            Field("redshift_shift", (), "float64", "", "added to the observed redshift by augmentation"),
            Field("redshift_flag", (), TEXT, "", "quality flag of the catalogue, A best"),
            Field("realisation", (), "int32", "", "0 = the observation itself, 1... = augmented"),
            Field("unique_id", (), TEXT, "", "identifier, unique over tiers"),
            Field("tier", (), TEXT, "", "survey tier"),
            Field("field", (), TEXT, "", "sky field"),
            Field("kind", (), TEXT, "", "class of the simulated object, or 'observed'"),
            Field("group", (), "int64", "", "sky group; a group lies in one split only"),
            Field("ra", (), "float64", "deg", "right ascension, ICRS"),
            Field("dec", (), "float64", "deg", "declination, ICRS"),
        )
    )
