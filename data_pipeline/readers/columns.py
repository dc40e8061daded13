"""Columns of FITS and text tables: their names and units, the chosen row, what stands for no value."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.spectrum import SpectrumError

_MOST_COLUMNS = 999  # of the FITS standard
# Metadata of a column, or of a FITS table, that name a number which stands for no value. TNULL is of the FITS
# standard, for integers alone; netCDF, pandas, HDF5 and others write the rest.
FILL_KEYS = (
    *("tnull", "tfill", "fillval", "fill_value", "_fillvalue", "fillvalue", "nullval", "null_value", "null"),
    *("missing_value", "missing", "missval", "nodata", "no_data", "blank", "bad_value", "badval"),
)


def column_names(hdu) -> list[str]:
    """Column names of a table, from its header alone; none where the header is damaged."""
    count = hdu.header.get("TFIELDS", 0)
    # A damaged card may state a billion columns.
    if not isinstance(count, int) or not 0 <= count <= _MOST_COLUMNS:
        return []
    return [str(hdu.header.get(f"TTYPE{number}", "")).strip() for number in range(1, count + 1)]


def column_card(hdu, name: str, keyword: str) -> Any:
    """A card of a column, such as its TUNIT, from the header alone; None if absent."""
    return hdu.header.get(f"{keyword}{column_names(hdu).index(name) + 1}")


def column_unit(hdu, name: str) -> str | None:
    """TUNIT of a column, from the header alone; None if absent."""
    return column_card(hdu, name, "TUNIT")


def find_column(hdu, names: Sequence[str]) -> str | None:
    """The first of `names` that the table has, in the table's own spelling; case is ignored."""
    return first_of(names, column_names(hdu))


def first_of(aliases: Sequence[str], names: Sequence[str]) -> str | None:
    """The first alias among some names, in their own spelling; case is ignored; None if none is there."""
    present = {name.lower().strip(): name for name in names}
    return next((present[alias.lower()] for alias in aliases if alias.lower() in present), None)


def listed(names: Sequence[str]) -> str:
    """Names for an error text: all, or the first dozen and their number."""
    shown = ", ".join(names[:12]) or "none"
    return shown if len(names) <= 12 else f"{shown}, ... ({len(names)} in all)"


def chosen_row(values: np.ndarray, row: int | None, where: str) -> np.ndarray:
    """One spectrum of a column: the column itself where it has a number per row, else the vector of a row.

    Args:
        values: (n,) numbers, or (n, pixels), or (n,) vectors of any length (variable-length columns).
        row: number of the spectrum, from 0; None for the only one.
        where: file, HDU and column, for error texts.

    Raises:
        SpectrumError: for several spectra of which none was chosen, or a row that is not there.
    """
    if values.ndim > 2 and max(values.shape[1:]) == np.prod(values.shape[1:]):  # TDIM of a vector: (n, 1)
        values = values.reshape(len(values), -1)
    if values.ndim == 2 and values.shape[1] == 1 and len(values) > 1:
        values = values[:, 0]
    if values.ndim == 1 and values.dtype != object:
        if row is not None:
            raise SpectrumError(
                f"{where}: row {row} was asked for, but the table is one spectrum, a row per pixel. Leave "
                "row (--row) out; hdu (--hdu) chooses another table."
            )
        return values
    count = len(values)
    if row is None and count > 1:
        raise SpectrumError(
            f"{where}: holds {count} spectra, one per row; choose one: row=0 to row={count - 1} in Python, "
            f"--row 0 to --row {count - 1} on the command line."
        )
    if not 0 <= (row or 0) < count:
        raise SpectrumError(f"{where}: no row {row}; it holds {count} spectra, rows 0 to {count - 1}.")
    return values[row or 0]


def fill_cards(hdu, name: str) -> dict[str, Any]:
    """What a FITS header says of the numbers that stand for no value in a column; see `is_fill`."""
    cards = {
        key: hdu.header.get(key) for key in ("FILLVAL", "NULLVAL", "NODATA", "MISSING", "MISSVAL", "BLANK")
    }
    return cards | {key: column_card(hdu, name, key) for key in ("TNULL", "TFILL")}


def is_fill(values: np.ndarray, metadata: Mapping[Any, Any]) -> np.ndarray:
    """Where a column holds a number that its metadata name as standing for no value.

    Args:
        values: (n,) as stored: numbers, or the text of an ASCII table, where blanks are no value, too.
        metadata: of the column, or of its table; other keys than `FILL_KEYS` are passed over.

    Returns:
        (n,) bool.
    """
    text = values.dtype.kind in "SU"
    stored = np.char.strip(values.astype(str)) if text else values
    found = stored == "" if text else np.zeros(values.shape, bool)
    for key, fill in metadata.items():
        if isinstance(fill, bytes):
            fill = fill.decode("utf-8", "replace")
        key = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
        if fill is None or isinstance(fill, bool) or key.lower() not in FILL_KEYS:
            continue
        if text:
            found |= stored == str(fill).strip()
            continue
        try:
            number = float(fill)
        except (TypeError, ValueError):
            continue
        # in the column's own precision: -999.9 of a float32 is another number than that of a float64
        found |= stored == (values.dtype.type(number) if values.dtype.kind == "f" else number)
    return found
