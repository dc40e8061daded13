"""Redshift catalogues: JADES DR3 and DR4, and any FITS, ECSV or CSV table with a stated column mapping."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import astropy.units as u
import numpy as np

from data_pipeline.catalogue.table import ALIASES, CatalogueError, CatalogueTable, ColumnMapping, open_tables
from data_pipeline.jades_names import normalise_tier, sky_field
from data_pipeline.readers.source import listed
from data_pipeline.spectrum import parse_unit

LINE_FLUX_UNIT = u.Unit("erg / (s cm2)")
_JADES_LINE_UNIT = 1e-20  # erg/s/cm2, where the catalogue states no unit of its own
_OBSERVATION_HDUS = ("Obs_info",)
_LINE_HDUS = {"grating": ("R1000_{}",), "prism": ("R100_{}", "PRISM_{}")}
_ROW_FIELDS = ("unique_id", "source_id", "tier", "field", "ra", "dec", "redshift", "redshift_flag")
_LINE = re.compile(r"^(?P<line>.+)_flux$")
# The DR4 notes and DR3 say HA_6563, the released DR4 tables HBaA_6563; the latter is used here.
_BALMER = re.compile(r"\bH(?=[ABGDE]_)|(?<=_)H(?=[ABGDE](_|$))")


@dataclass(frozen=True)
class LineFluxes:
    """Fluxes of one line, (n,) each [erg/s/cm2]; NaN where not measured.

    JADES fits fluxes with a positive prior: undetected lines sit at 1 to 1.7 sigma, so they are not unbiased.
    """

    flux: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Catalogue:
    """A catalogue as plain arrays of length n.

    Attributes:
        unique_id: str, ``<tier>_<source id>`` where the table has none.
        source_id: str, leading zeros stripped.
        tier: str, as in JADES file names; empty where unknown.
        field: str, ``goods-n`` or ``goods-s`` for JADES; empty where unknown.
        ra: right ascension [deg]; NaN where unknown.
        dec: declination [deg]; NaN where unknown.
        redshift: the grating's where there is one, otherwise the best; NaN for none.
        redshift_flag: str, upper case; empty where unknown.
        grating_lines: line name, such as ``O3_5007`` or ``HBaA_6563``, to fluxes from the gratings.
        prism_lines: the same from the prism.
        path: file that was read.
    """

    unique_id: np.ndarray
    source_id: np.ndarray
    tier: np.ndarray
    field: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    redshift: np.ndarray
    redshift_flag: np.ndarray
    grating_lines: Mapping[str, LineFluxes] = field(default_factory=dict)
    prism_lines: Mapping[str, LineFluxes] = field(default_factory=dict)
    path: str = ""

    def __len__(self) -> int:
        return self.unique_id.size

    def select(self, rows: np.ndarray) -> Catalogue:
        """The rows of a boolean mask or an index array."""
        arrays = {name: getattr(self, name)[rows] for name in _ROW_FIELDS}
        lines = {
            kind: {
                name: LineFluxes(line.flux[rows], line.error[rows])
                for name, line in getattr(self, kind).items()
            }
            for kind in ("grating_lines", "prism_lines")
        }
        return replace(self, **arrays, **lines)

    def select_secure(self, flags: str | None = "ABC") -> Catalogue:
        """The rows with a redshift whose flag is one of `flags`; None takes every redshift.

        Raises:
            CatalogueError: where the table has no flags at all.
        """
        rows = np.isfinite(self.redshift)
        if flags is not None:
            if len(self) and not np.any(self.redshift_flag != ""):
                raise CatalogueError(
                    f"{self.path}: has no redshift flags; state their column (redshift_flag=...), or take "
                    "every redshift (flags=None)."
                )
            rows &= np.isin(self.redshift_flag, list(flags.upper()))
        return self.select(rows)


def read_catalogue(
    path: str | os.PathLike, mapping: ColumnMapping | None = None, *, extraction: str = "3pix"
) -> Catalogue:
    """Reads a JADES catalogue (DR3, DR4), or any FITS, ECSV or CSV table.

    Args:
        path: the catalogue.
        mapping: columns, where the usual names do not find them.
        extraction: ``3pix`` or ``5pix``: which line fluxes of JADES DR4.

    Returns:
        All rows, in the order of the file.

    Raises:
        CatalogueError: names file, HDU, column and the candidates found.
    """
    mapping = mapping or ColumnMapping()
    with open_tables(path) as tables:
        table = _observation_table(tables, mapping, str(path))
        columns = {role: mapping.find(role, table.names, table.where) for role in ALIASES}
        for roles in (("redshift", "redshift_grating"), ("source_id", "unique_id")):
            if all(columns[role] is None for role in roles):
                names = [alias for role in roles for alias in ALIASES[role]]
                raise CatalogueError(
                    f"{table.where}: no column for {roles[0]}; looked for {', '.join(names)}, the table has "
                    f"{listed(table.names)}. State it, as in --columns {roles[0]}=<column>."
                )
        catalogue = _observations(table, columns, str(path))
        return replace(catalogue, **_lines(tables, table, catalogue, columns["unique_id"], extraction))


def _observation_table(
    tables: dict[str, CatalogueTable], mapping: ColumnMapping, path: str
) -> CatalogueTable:
    if not tables:
        raise CatalogueError(f"{path}: holds no table; expected a FITS, ECSV or CSV catalogue.")
    if mapping.hdu is not None:
        names = list(tables)
        name = mapping.hdu
        # FITS numbers its extensions from 1, and catalogues hold nothing but tables
        if name not in tables and name.isdigit() and 1 <= int(name) <= len(names):
            name = names[int(name) - 1]
        if name not in tables:
            raise CatalogueError(
                f"{path}: HDU {mapping.hdu!r} is missing; the file has tables {', '.join(names)}."
            )
        return tables[name]
    lower = {name.lower(): table for name, table in tables.items()}
    named = next((lower[name.lower()] for name in _OBSERVATION_HDUS if name.lower() in lower), None)
    return named or next(iter(tables.values()))


def _observations(table: CatalogueTable, columns: dict[str, str | None], path: str) -> Catalogue:
    def texts(role: str) -> np.ndarray | None:
        return None if columns[role] is None else table.texts(columns[role])

    def numbers(role: str) -> np.ndarray | None:
        return None if columns[role] is None else table.numbers(columns[role])

    unique, source = texts("unique_id"), texts("source_id")
    if source is None:
        source = np.array([identifier.rpartition("_")[2] for identifier in unique], dtype=str)
    source = np.array([identifier.lstrip("0") or identifier[-1:] for identifier in source], dtype=str)
    n = source.size
    blank, unknown = np.full(n, ""), np.full(n, np.nan)
    tier = texts("tier")
    tier = blank if tier is None else np.array([normalise_tier(name) for name in tier], dtype=str)
    sky = texts("field")
    sky = blank if sky is None else np.array([sky_field(name) or name.lower() for name in sky], dtype=str)
    if unique is None:
        unique = np.array([f"{t}_{s}" if t else s for t, s in zip(tier, source, strict=True)], dtype=str)
    flag = texts("redshift_flag")
    ra, dec = numbers("ra"), numbers("dec")
    return Catalogue(
        unique_id=unique,
        source_id=source,
        tier=tier,
        field=sky,
        ra=unknown if ra is None else ra,
        dec=unknown if dec is None else dec,
        redshift=_best_redshift(numbers("redshift_grating"), numbers("redshift"), n),
        redshift_flag=blank if flag is None else np.char.upper(flag),
        path=path,
    )


def _best_redshift(grating: np.ndarray | None, best: np.ndarray | None, n: int) -> np.ndarray:
    """The grating's where it is positive; -1 and whatever else no galaxy can have is NaN."""
    redshift = np.full(n, np.nan) if best is None else best.copy()
    redshift[~(redshift > -1)] = np.nan
    if grating is not None:
        measured = grating > 0
        redshift[measured] = grating[measured]
    return redshift


def _lines(
    tables: dict[str, CatalogueTable],
    observations: CatalogueTable,
    catalogue: Catalogue,
    id_column: str | None,
    extraction: str,
) -> dict[str, dict[str, LineFluxes]]:
    lower = {name.lower(): table for name, table in tables.items()}
    found = {}
    for kind, patterns in _LINE_HDUS.items():
        names = [pattern.format(extraction).lower() for pattern in patterns]
        table = next((lower[name] for name in names if name in lower), None)
        if table is not None:
            found[f"{kind}_lines"] = _line_columns(table, _row_order(table, catalogue, id_column))
    if not found:  # DR3 has one table per disperser
        kind = "prism_lines" if "PRISM_flux_flag" in observations.names else "grating_lines"
        found[kind] = _line_columns(observations, np.arange(len(catalogue)))
    return found


def _row_order(table: CatalogueTable, catalogue: Catalogue, id_column: str | None) -> np.ndarray:
    """Rows of `table` in the order of the catalogue."""
    if id_column is not None and id_column in table.names:
        identifiers = table.texts(id_column)
        if np.array_equal(identifiers, catalogue.unique_id):
            return np.arange(len(catalogue))
        row_of = {identifier: row for row, identifier in enumerate(identifiers)}
        missing = [identifier for identifier in catalogue.unique_id if identifier not in row_of]
        if missing:
            raise CatalogueError(
                f"{table.where}: column {id_column} lacks {len(missing)} objects of the catalogue, such as "
                f"{missing[0]}. Get an unaltered copy."
            )
        return np.array([row_of[identifier] for identifier in catalogue.unique_id], dtype=int)
    rows = len(table.texts(table.names[0])) if table.names else 0
    if rows != len(catalogue):
        raise CatalogueError(
            f"{table.where}: has {rows} rows, expected {len(catalogue)}. Get an unaltered copy."
        )
    return np.arange(rows)


def _line_columns(table: CatalogueTable, rows: np.ndarray) -> dict[str, LineFluxes]:
    lines = {}
    for name in table.names:
        found = _LINE.match(name)
        error = f"{name}_err"
        if found and error in table.names:
            values = [table.numbers(column)[rows] * _line_scale(table, column) for column in (name, error)]
            lines[_BALMER.sub("HBa", found["line"])] = LineFluxes(*values)
    return lines


def _line_scale(table: CatalogueTable, column: str) -> float:
    text = table.unit(column)
    if not text:
        return _JADES_LINE_UNIT
    try:
        return float(parse_unit(text).to(LINE_FLUX_UNIT))
    except (ValueError, u.UnitConversionError) as error:
        raise CatalogueError(
            f"{table.where}: column {column} has the unit {text!r}; expected that of a line flux, such as "
            "1e-20 erg s-1 cm-2."
        ) from error
