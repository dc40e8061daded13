"""A catalogue's tables as plain columns, whether they come from FITS, ECSV or CSV."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from data_pipeline.catalogue.columns import CatalogueError
from data_pipeline.readers.opening import open_source
from data_pipeline.readers.source import DAMAGE, Source, column_names, column_unit
from data_pipeline.spectrum import SpectrumError

if TYPE_CHECKING:
    from astropy.table import Table


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
            yield {
                source.label(hdu): CatalogueTable(
                    f"{path}[{source.label(hdu)}]", tuple(column_names(hdu)), hdu, source
                )
                for hdu in source.all_hdus()
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
            }
    except SpectrumError as error:
        raise CatalogueError(str(error)) from error


def _number_text(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if value == np.round(value) else f"{value}"


def _text_table(path: Path) -> CatalogueTable:
    from astropy.table import Table  # slow to import: only for text tables

    kind = "ascii.csv" if path.name.lower().endswith(".csv") else "ascii.ecsv"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on style; what is used is checked later
            table = Table.read(path, format=kind)
    except FileNotFoundError as error:
        raise CatalogueError(f"{path}: no such file. Check the path.") from error
    except PermissionError as error:
        raise CatalogueError(
            f"{path}: no permission to read. Run chmod u+r on it, or ask its owner."
        ) from error
    except DAMAGE as error:
        raise CatalogueError(
            f"{path}: no readable {kind.removeprefix('ascii.').upper()} table ({error})."
        ) from error
    return CatalogueTable(str(path), tuple(table.colnames), table)
