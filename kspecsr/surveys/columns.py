"""Which columns of a catalogue hold what: named by the user, or found under the usual names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from data_pipeline.readers.table import ERROR_NAMES, FLUX_NAMES, IVAR_NAMES, MASK_NAMES, WAVELENGTH_NAMES
from data_pipeline.readers.units import parse_unit
from data_pipeline.spectrum import SpectrumError
from kspecsr.surveys.settings import InputColumns

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
