"""An opened file, whose FITS columns and images are handed out as float64 quantities."""

import lzma
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits

from data_pipeline.readers.columns import (
    chosen_row,
    column_card,
    column_names,
    column_unit,
    fill_cards,
    find_column,
    is_fill,
    listed,
)
from data_pipeline.spectrum import SpectrumError, parse_unit

# of files that hold spectra
ENDINGS = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.bz2", ".fits.xz", ".ecsv", ".ecsv.gz", ".ecsv.bz2")
_FITS_BLOCK = 2880
# What astropy raises for bytes that are missing or damaged.
DAMAGE = (
    *(OSError, EOFError, TypeError, ValueError, AttributeError, AssertionError, LookupError, MemoryError),
    *(zlib.error, lzma.LZMAError, fits.VerifyError),
)


def stem_of(path: str | os.PathLike) -> str:
    """File name without the endings of spectra."""
    name = Path(path).name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


@dataclass
class Source:
    """A file that a `Format` looks at.

    Attributes:
        path: the file.
        hdus: its extensions, read lazily; None for a text table (ECSV).
        size: length in bytes, unpacked.
        text: content of a text table.
        row: which of the spectra of a table with one per row is read; None for the only one.
    """

    path: Path
    hdus: fits.HDUList | None
    size: int = 0
    text: str = ""
    row: int | None = None

    @property
    def primary(self) -> fits.Header:
        """Primary header; empty for a text table."""
        return fits.Header() if self.hdus is None else self.hdus[0].header

    def get(self, key: str | int):
        """The extension of that name or index, or None; a text of digits is a name, or else an index."""
        if self.hdus is None:
            return None
        try:
            if isinstance(key, str) and key.isdigit() and key not in self.hdus:
                key = int(key)
            return self.hdus[key]
        except (KeyError, IndexError):
            return None
        except DAMAGE as error:
            raise self._damaged(f"looking for HDU {key!r}", error) from error

    def table(self, key: str | int):
        """The table extension of that name or index.

        Raises:
            SpectrumError: where it is missing or no table.
        """
        hdu = self.get(key)
        if hdu is None:
            raise SpectrumError(
                f"{self.path}: HDU {key!r} is missing; the file has {self.hdu_names()}. Choose one with hdu=."
            )
        if not isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            raise SpectrumError(
                f"{self.path}[{key}]: is a {type(hdu).__name__}, expected a table. The file has "
                f"{self.hdu_names()}; choose a table with hdu=."
            )
        return hdu

    def all_hdus(self) -> list:
        """All extensions, the primary one included, with their headers loaded.

        Raises:
            SpectrumError: for a damaged file.
        """
        try:
            return list(self.hdus or [])
        except DAMAGE as error:
            raise self._damaged("listing HDUs", error) from error

    def _damaged(self, action: str, error: Exception) -> SpectrumError:
        return SpectrumError(
            f"{self.path}: damaged while {action} ({error}); the file is truncated or altered. "
            "Download it again."
        )

    def hdu_names(self) -> str:
        """All extensions as ``0 PRIMARY, 1 EXTRACT1D``."""
        if self.hdus is None:
            return "no HDUs (text table)"
        names = [f"{number} {hdu.name or '(no name)'}" for number, hdu in enumerate(self.all_hdus())]
        cut = " (and is cut: its length is no multiple of 2880 bytes)" if self.size % _FITS_BLOCK else ""
        return listed(names) + cut

    def label(self, hdu) -> str:
        """Name of an extension for people, with its version above 1; its index where it has no name."""
        version = f",{hdu.ver}" if getattr(hdu, "ver", 1) not in (None, 1) else ""
        return f"{hdu.name}{version}" if hdu.name else str(self.hdus.index_of(hdu))

    def where(self, hdu) -> str:
        """File and extension, for error texts."""
        return f"{self.path}[{self.label(hdu)}]"

    def notes(self) -> tuple[str, ...]:
        """Remarks on the file as a whole."""
        if self.hdus is None:
            whole = self.text.endswith(("\n", "\r"))
            return () if whole else ("the last line has no end, so the file may be cut, and it was left out",)
        if self.size % _FITS_BLOCK == 0:
            return ()
        return ("file length is no multiple of 2880 bytes: cut after this HDU, download it again",)

    def column(self, hdu, name: str) -> u.Quantity:
        """Table column as float64 quantity.

        Raises:
            SpectrumError: for a missing column, a missing or unknown unit, or truncated data.
        """
        actual = self._require_column(hdu, name)
        unit = self._unit(hdu, actual, column_unit(hdu, actual))
        return u.Quantity(self.values(hdu, actual), unit, copy=False)

    def values(self, hdu, name: str) -> np.ndarray:
        """Table column as float64 without unit, NaN where it has no value; of rows of vectors, the chosen."""
        values, null = self._numbers(hdu, name)
        return np.where(null, np.nan, values.astype(np.float64))

    def integers(self, hdu, name: str) -> np.ndarray:
        """Table column of flags as int64; -1, which has every bit set, where it has no value."""
        values, null = self._numbers(hdu, name)
        null = null | ~np.isfinite(values)
        return np.where(null, -1, np.where(null, 0, values).astype(np.int64))

    def flags(self, hdu, name: str) -> np.ma.MaskedArray:
        """Table column as it is stored, numbers, truth values or words, masked where it has no value."""
        values, null = self._numbers(hdu, name, "biufSU")
        return np.ma.array(values, mask=null)

    def image(self, name: str, unit: u.UnitBase) -> u.Quantity:
        """One-dimensional image extension as float64 quantity; `unit` is used where BUNIT is blank.

        Raises:
            SpectrumError: for a missing extension, an unknown unit, or truncated data.
        """
        hdu = self.get(name)
        if hdu is None:
            raise SpectrumError(f"{self.path}: HDU {name!r} is missing; the file has {self.hdu_names()}.")
        text = hdu.header.get("BUNIT")
        if isinstance(text, str) and text.strip():
            unit = self._unit(hdu, "BUNIT", text)
        return u.Quantity(np.asarray(self.data(hdu), dtype=np.float64), unit, copy=False)

    def data(self, hdu):
        """Rows or pixels of an extension.

        Raises:
            SpectrumError: for truncated or damaged data, or none at all.
        """
        where = self.where(hdu)
        if not isinstance(hdu, fits.BinTableHDU | fits.TableHDU | fits.ImageHDU):
            raise SpectrumError(f"{where}: header damaged. Download the file again.")
        try:
            expected = hdu.fileinfo()["datLoc"] + hdu.size
            cut = self.size < expected
            data = None if cut else hdu.data
        except DAMAGE as error:
            raise SpectrumError(f"{where}: damaged ({error}). Download the file again.") from error
        if cut:
            raise SpectrumError(
                f"{where}: truncated, the file has {self.size} bytes, this HDU ends at byte {expected}. "
                "Download the file again."
            )
        if data is None or len(data) == 0:
            raise SpectrumError(f"{where}: holds no rows. Choose another HDU with hdu=; {self.hdu_names()}.")
        return data

    def _numbers(self, hdu, name: str, kinds: str = "biuf") -> tuple[np.ndarray, np.ndarray]:
        """One spectrum of a column, and where it has no value, (n,) bool."""
        actual = self._require_column(hdu, name)
        where = f"{self.where(hdu)}: column {actual}"
        try:
            data = self.data(hdu)
            kind = str(column_card(hdu, actual, "TFORM")).strip().upper()[-1:]
            if kind == "X" and self.row is None:  # a flag per bit: set if any is
                bits = np.asarray(data[actual])
                return bits.reshape(len(bits), -1).any(axis=1), np.zeros(len(bits), bool)
            values = np.asarray(chosen_row(data[actual], self.row, where))
            # as stored: before astropy scales it, and turns a blank truth value into False
            stored = data.view(np.ndarray)[actual]
            if data[actual].dtype == object:  # of variable length
                stored = values
            else:
                stored = chosen_row(stored, self.row, where).reshape(values.shape)
        except SpectrumError:
            raise
        except DAMAGE as error:
            raise SpectrumError(f"{where}: damaged ({error}). Download the file again.") from error
        if values.dtype.kind not in kinds:
            raise SpectrumError(
                f"{where} does not hold real numbers but {values.dtype}; choose another with flux_column= or "
                "hdu=."
            )
        null = stored == 0 if kind == "L" else is_fill(stored, fill_cards(hdu, actual))
        if masked := find_column(hdu, [f"{actual}.mask"]):  # of astropy's Masked quantities
            null = null | (chosen_row(data[masked], self.row, where) != 0)
        return values, null

    def _require_column(self, hdu, name: str) -> str:
        actual = find_column(hdu, [name])
        if actual is None:
            raise SpectrumError(
                f"{self.where(hdu)}: column {name} is missing; the table has {listed(column_names(hdu))}. "
                "Choose with flux_column= or hdu=."
            )
        return actual

    def _unit(self, hdu, name: str, text: str | None) -> u.UnitBase:
        cure = "State the unit in the header (TUNIT or BUNIT), e.g. um or erg s-1 cm-2 Angstrom-1."
        if text is None or not str(text).strip():
            raise SpectrumError(f"{self.where(hdu)}: column {name} has no unit. {cure}")
        try:
            return parse_unit(str(text))
        except ValueError as error:
            raise SpectrumError(
                f"{self.where(hdu)}: column {name} has the unknown unit {text!r}. {cure}"
            ) from error
