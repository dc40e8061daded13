"""Redshift catalogues: JADES DR3 and DR4, and any FITS, ECSV or CSV table with a stated column mapping."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import astropy.units as u
import numpy as np

from data_pipeline.catalogue.table import ALIASES, CatalogueError, CatalogueTable, open_tables
from data_pipeline.jades_names import normalise_tier, sky_field
from data_pipeline.readers.columns import first_of, listed
from data_pipeline.readers.format import strip_zeros
from data_pipeline.spectrum import parse_unit

LINE_FLUX_UNIT = u.Unit("erg / (s cm2)")
_JADES_LINE_UNIT = 1e-20  # erg/s/cm2, where the catalogue states no unit of its own
_OBSERVATION_HDUS = ("Obs_info",)
_LINE_HDUS = {"grating": ("R1000_{}",), "prism": ("R100_{}", "PRISM_{}")}
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


def read_catalogue(
    path: str | os.PathLike, columns: Mapping[str, str] | None = None, *, extraction: str = "3pix"
) -> Catalogue:
    """Read a JADES catalogue (DR3, DR4), or any FITS, ECSV or CSV table.

    Args:
        path: the catalogue.
        columns: role to column (see `parse_columns`), where the usual names do not find them.
        extraction: ``3pix`` or ``5pix``: which line fluxes of JADES DR4.

    Returns:
        All rows, in the order of the file.

    Raises:
        CatalogueError: names file, HDU, column and the candidates found.
    """
    stated = columns or {}
    with open_tables(path) as tables:
        table = _observation_table(tables, stated.get("hdu"), str(path))
        found = {role: table.column_of(role, stated) for role in ALIASES}
        for roles in (("redshift", "redshift_grating"), ("source_id", "unique_id")):
            if all(found[role] is None for role in roles):
                names = [alias for role in roles for alias in ALIASES[role]]
                raise CatalogueError(
                    f"{table.where}: no column for {roles[0]}; looked for {', '.join(names)}, the table has "
                    f"{listed(table.names)}. State it, as in --columns {roles[0]}=<column>."
                )
        catalogue = _observations(table, found, str(path))
        return replace(catalogue, **_lines(tables, table, catalogue, found["unique_id"], extraction))


def _observation_table(tables: dict[str, CatalogueTable], hdu: str | None, path: str) -> CatalogueTable:
    if not tables:
        raise CatalogueError(f"{path}: holds no table; expected a FITS, ECSV or CSV catalogue.")
    names = list(tables)
    if hdu is None:
        return tables[first_of(_OBSERVATION_HDUS, names) or names[0]]
    # FITS numbers its extensions from 1, and catalogues hold nothing but tables
    if hdu not in tables and hdu.isdigit() and 1 <= int(hdu) <= len(names):
        return tables[names[int(hdu) - 1]]
    if hdu not in tables:
        raise CatalogueError(f"{path}: HDU {hdu!r} is missing; the file has tables {', '.join(names)}.")
    return tables[hdu]


def _observations(table: CatalogueTable, columns: dict[str, str | None], path: str) -> Catalogue:
    def texts(role: str) -> np.ndarray | None:
        return None if columns[role] is None else table.texts(columns[role])

    def numbers(role: str) -> np.ndarray | None:
        return None if columns[role] is None else table.numbers(columns[role])

    unique, source = texts("unique_id"), texts("source_id")
    if source is None:
        # Ids of JADES end in the source's number, after the tier.
        source = [identifier.rpartition("_")[2] for identifier in unique]
    source = np.array([strip_zeros(identifier) for identifier in source], dtype=str)
    blank, unknown = np.full(source.size, ""), np.full(source.size, np.nan)

    def filled(values: np.ndarray | None, default: np.ndarray) -> np.ndarray:
        return default if values is None else values

    tier = np.array([normalise_tier(name) for name in filled(texts("tier"), blank)], dtype=str)
    sky = [sky_field(name) or name.lower() for name in filled(texts("field"), blank)]
    if unique is None:
        unique = np.array([f"{t}_{s}" if t else s for t, s in zip(tier, source, strict=True)], dtype=str)
    return Catalogue(
        unique_id=unique,
        source_id=source,
        tier=tier,
        field=np.array(sky, dtype=str),
        ra=filled(numbers("ra"), unknown),
        dec=filled(numbers("dec"), unknown),
        redshift=_best_redshift(numbers("redshift_grating"), filled(numbers("redshift"), unknown)),
        redshift_flag=np.char.upper(filled(texts("redshift_flag"), blank)),
        path=path,
    )


def _best_redshift(grating: np.ndarray | None, best: np.ndarray) -> np.ndarray:
    """The grating's where it is positive; -1 and whatever else no galaxy can have is NaN."""
    redshift = np.where(best > -1, best, np.nan)
    return redshift if grating is None else np.where(grating > 0, grating, redshift)


def _lines(
    tables: dict[str, CatalogueTable],
    observations: CatalogueTable,
    catalogue: Catalogue,
    id_column: str | None,
    extraction: str,
) -> dict[str, dict[str, LineFluxes]]:
    found = {}
    for kind, patterns in _LINE_HDUS.items():
        name = first_of([pattern.format(extraction) for pattern in patterns], list(tables))
        if name is not None:
            rows = _row_order(tables[name], catalogue, id_column)
            found[f"{kind}_lines"] = _line_columns(tables[name], rows)
    if not found:  # DR3 has one table per disperser
        kind = "prism_lines" if "PRISM_flux_flag" in observations.names else "grating_lines"
        found[kind] = _line_columns(observations, np.arange(len(catalogue)))
    return found


def _row_order(table: CatalogueTable, catalogue: Catalogue, id_column: str | None) -> np.ndarray:
    """Rows of `table` in the order of the catalogue."""
    if id_column is not None and id_column in table.names:
        identifiers = table.texts(id_column)
        # The usual case, and the only one in which an id may occur twice.
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
    # Without an id the order must serve; unequal lengths prove that it does not.
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
