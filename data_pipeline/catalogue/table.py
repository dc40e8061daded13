"""A catalogue's tables as plain columns, whether they come from FITS, ECSV or CSV."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from data_pipeline.readers.columns import column_names, column_unit, first_of, listed
from data_pipeline.readers.opening import cannot_open, open_source
from data_pipeline.readers.source import DAMAGE, Source
from data_pipeline.spectrum import SpectrumError

if TYPE_CHECKING:
    from astropy.table import Table


# Role -> column names in use; JADES DR4 first, then DR3, then plain tables. Case is ignored.
ALIASES = {
    "redshift": ("z_Spec", "zspec", "redshift", "z", "z_best"),
    "redshift_grating": ("z_R1000",),  # preferred where it is positive
    "redshift_flag": ("z_Spec_flag", "z_flag", "zflag", "redshift_flag", "zqual"),
    "unique_id": ("Unique_ID",),  # no other row has it
    "source_id": ("NIRSpec_ID", "source_id", "srcid", "ID", "objid"),  # as in the spectrum's file
    "tier": ("TIER",),
    "field": ("Field",),
    "ra": ("RA_TARG", "RA_NIRCam", "RA", "RAdeg", "RA_ICRS"),
    "dec": ("Dec_TARG", "Dec_NIRCam", "DEC", "DEdeg", "DEdec", "Dec_ICRS"),
}
ROLES = (*ALIASES, "hdu")  # the last chooses a table, by name or number


class CatalogueError(ValueError):
    """A catalogue that cannot be read; the text names file, HDU, column and the candidates found."""


def parse_columns(text: str) -> dict[str, str]:
    """Role to column, from the command line's ``redshift=z_spec,ra=RA``.

    Raises:
        CatalogueError: for anything but known `ROLES`, each with a column.
    """
    stated: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        role, _, column = (piece.strip() for piece in part.partition("="))
        if not column or role not in ROLES or role in stated:
            raise CatalogueError(
                f"column mapping {text!r}: {part!r} is not understood; expected role=column, separated "
                f"by commas, each role once, with the roles {', '.join(ROLES)}."
            )
        stated[role] = column
    return stated


@dataclass(frozen=True)
class CatalogueTable:
    """One table of a catalogue.

    Attributes:
        where: file and HDU, for error texts.
        names: column names.
        columns: FITS extension or astropy table that holds them.
        source: the opened FITS file; None for text.
    """

    where: str
    names: tuple[str, ...]
    columns: fits.BinTableHDU | Table
    source: Source | None = None

    def numbers(self, name: str) -> np.ndarray:
        """Column as (n,) float64; blanks are NaN.

        Raises:
            CatalogueError: for a column of anything but numbers.
        """
        values = self._raw(name)
        try:
            if values.dtype.kind in "US":
                values = np.array([text.strip() or "nan" for text in values.astype(str)])
            return values.astype(np.float64)
        except ValueError as error:
            raise CatalogueError(
                f"{self.where}: column {name} should hold numbers ({error}). State another column."
            ) from error

    def texts(self, name: str) -> np.ndarray:
        """Column as (n,) str without blanks around; whole numbers without decimals."""
        values = self._raw(name)
        if values.dtype.kind == "f":
            return np.array([_number_text(value) for value in values], dtype=str)
        return np.array([str(value).strip() for value in values.tolist()], dtype=str)

    def unit(self, name: str) -> str | None:
        """Unit of a column as written; None where the table states none."""
        if self.source is not None:
            return column_unit(self.columns, name)
        unit = self.columns[name].unit
        return None if unit is None else str(unit)

    def _raw(self, name: str) -> np.ndarray:
        if self.source is not None:
            return np.asarray(self.source.data(self.columns)[name])
        values = self.columns[name]
        if hasattr(values, "filled"):  # a masked column: blanks in the file
            numeric = values.dtype.kind in "iuf"
            values = values.astype(np.float64).filled(np.nan) if numeric else values.filled("")
        return np.asarray(values)

    def column_of(self, role: str, stated: Mapping[str, str]) -> str | None:
        """The column for a role; None if nothing was stated and no usual name is there.

        ``role`` is one of `ALIASES`, ``stated`` as `parse_columns` gives it.

        Raises:
            CatalogueError: where the stated column is missing.
        """
        if role not in stated:
            # who names a redshift wants that one
            if role == "redshift_grating" and "redshift" in stated:
                return None
            return first_of(ALIASES[role], self.names)
        column = stated[role]
        found = column if column in self.names else first_of([column], self.names)
        if found is None:
            raise CatalogueError(
                f"{self.where}: column {column!r}, stated for {role}, is missing; the table has "
                f"{listed(self.names)}."
            )
        return found


@contextmanager
def open_tables(path: str | os.PathLike) -> Iterator[dict[str, CatalogueTable]]:
    """All tables of a catalogue, HDU name (FITS; ``1`` where it has none) or "" (text) to table.

    Raises:
        CatalogueError: for a file that cannot be read.
    """
    path = Path(path)
    try:
        if path.name.lower().endswith((".csv", ".ecsv")):
            yield {"": _text_table(path)}
            return
        with open_source(path) as source:
            if source.hdus is None:
                yield {"": _text_table(path)}
                return
            if source.notes():
                raise CatalogueError(
                    f"{path}: truncated, {source.size} bytes is no multiple of 2880. Download it again."
                )
            tables = [hdu for hdu in source.all_hdus() if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            yield {
                source.label(hdu): CatalogueTable(source.where(hdu), tuple(column_names(hdu)), hdu, source)
                for hdu in tables
            }
    except SpectrumError as error:
        raise CatalogueError(str(error)) from error


def _number_text(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if value == np.round(value) else f"{value}"


def _text_table(path: Path) -> CatalogueTable:
    from astropy.table import Table  # slow to import: only for text tables

    kind = "csv" if path.name.lower().endswith(".csv") else "ecsv"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on style; what is used is checked later
            table = Table.read(path, format=f"ascii.{kind}", encoding="utf-8-sig")
    except (FileNotFoundError, PermissionError) as error:
        raise CatalogueError(cannot_open(path, error)) from error
    except DAMAGE as error:
        raise CatalogueError(f"{path}: no readable {kind.upper()} table ({error}).") from error
    return CatalogueTable(str(path), tuple(table.colnames), table)
