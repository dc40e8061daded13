"""An opened file, whose FITS columns and images are handed out as float64 quantities."""

import gzip
import io
import os
import stat
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from data_pipeline.spectrum import SpectrumError, parse_unit

ENDINGS = (".fits", ".fits.gz", ".ecsv")  # of files that hold spectra
_FITS_BLOCK = 2880
_MOST_COLUMNS = 999  # of the FITS standard
# What astropy raises for bytes that are missing or damaged.
DAMAGE = (
    *(OSError, EOFError, TypeError, ValueError, AttributeError, AssertionError, LookupError, MemoryError),
    *(zlib.error, fits.VerifyError),
)
_FITS_START = b"SIMPLE  ="
_GZIP_START = b"\x1f\x8b"
_ECSV_START = b"# %ECSV"
_OTHER_KINDS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive (perhaps .npz); unpack it",
    b"\x89HDF": "an HDF5 file",
    b"<!DO": "an HTML page, perhaps a failed download",
    b"<htm": "an HTML page, perhaps a failed download",
}


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
    """

    path: Path
    hdus: fits.HDUList | None
    size: int = 0

    @property
    def primary(self) -> fits.Header:
        """Primary header; empty for a text table."""
        return fits.Header() if self.hdus is None else self.hdus[0].header

    def get(self, key: str | int):
        """The extension of that name or index, or None."""
        if self.hdus is None:
            return None
        try:
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
        """Name of an extension for people; its index where it has no name."""
        return hdu.name or str(self.hdus.index_of(hdu))

    def where(self, hdu) -> str:
        """File and extension, for error texts."""
        return f"{self.path}[{self.label(hdu)}]"

    def notes(self) -> tuple[str, ...]:
        """Remarks on the file as a whole."""
        if self.hdus is None or self.size % _FITS_BLOCK == 0:
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
        """Table column as float64 without unit; an only row of vectors is flattened."""
        values = self._numbers(hdu, name, np.float64)
        return values[0] if values.ndim == 2 and values.shape[0] == 1 else values

    def integers(self, hdu, name: str) -> np.ndarray:
        """Table column of flags as int64."""
        return self._numbers(hdu, name, np.int64).ravel()

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

    def _numbers(self, hdu, name: str, dtype: type) -> np.ndarray:
        values = np.asarray(self.data(hdu)[self._require_column(hdu, name)])
        if values.dtype.kind not in "biuf":
            raise SpectrumError(
                f"{self.where(hdu)}: column {name} does not hold real numbers but "
                f"{values.dtype}; choose another with flux_column= or hdu=."
            )
        return values.astype(dtype)

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


def column_names(hdu) -> list[str]:
    """Column names of a table, from its header alone; none where the header is damaged."""
    count = hdu.header.get("TFIELDS", 0)
    if not isinstance(count, int) or not 0 <= count <= _MOST_COLUMNS:
        return []
    return [str(hdu.header.get(f"TTYPE{number}", "")).strip() for number in range(1, count + 1)]


def column_unit(hdu, name: str) -> str | None:
    """TUNIT of a column, from the header alone; None if absent."""
    return hdu.header.get(f"TUNIT{column_names(hdu).index(name) + 1}")


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


@contextmanager
def open_source(path: str | os.PathLike) -> Iterator[Source]:
    """Open a FITS file (plain or gzip) or an ECSV table.

    Raises:
        SpectrumError: for what is no such file: missing, a directory, pipe, unreadable, empty, other kind.
    """
    path = Path(path)
    with _stream(path) as stream:
        try:
            start = stream.read(16)
            stream.seek(0)
        except OSError as error:
            raise SpectrumError(cannot_open(path, error)) from error
        if start.startswith(_ECSV_START):
            yield Source(path, None)
        elif start.startswith(_FITS_START):
            yield from _fits_source(path, stream, os.fstat(stream.fileno()).st_size)
        elif start.startswith(_GZIP_START):
            try:
                content = gzip.decompress(stream.read())
            except (EOFError, OSError, zlib.error) as error:
                raise SpectrumError(
                    f"{path}: truncated or damaged gzip file ({error}). Download it again."
                ) from error
            yield from _fits_source(path, io.BytesIO(content), len(content))
        elif not start:
            raise SpectrumError(f"{path}: is empty (0 bytes). Download it again.")
        else:
            raise SpectrumError(
                f"{path}: is {_kind(start)}; expected a FITS file (.fits, .fits.gz) or an ECSV table."
            )


def _stream(path: Path) -> BinaryIO:
    try:
        # Looked at before it is opened: opening a pipe waits for its writer, for ever if there is none.
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise SpectrumError(
                f"{path}: is a pipe, socket or device; expected a regular file. "
                "Save the spectrum to a file first."
            )
        return path.open("rb")
    except IsADirectoryError as error:
        raise SpectrumError(
            f"{path}: is a directory; expected one file. Name a file in it, or give the directory to "
            "kspecsr data readers."
        ) from error
    except OSError as error:  # also a loop of links, a path below a file, a name too long, a disk error ...
        raise SpectrumError(cannot_open(path, error)) from error


def cannot_open(path: Path, error: OSError) -> str:
    """Why a file cannot be opened, and the cure."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file. Check the path."
    if isinstance(error, PermissionError):
        return f"{path}: no permission to read. Run chmod u+r on it, or ask its owner."
    return f"{path}: cannot be read ({error.strerror or error}). Check the path and the disk."


def _fits_source(path: Path, stream: BinaryIO, size: int) -> Iterator[Source]:
    with warnings.catch_warnings():
        # remarks on header style; damage is looked for and raised
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            hdus = fits.open(stream, memmap=False, lazy_load_hdus=True)
        except DAMAGE as error:
            raise SpectrumError(
                f"{path}[PRIMARY]: no readable FITS header ({error}); the file is truncated or altered. "
                "Download it again."
            ) from error
        try:
            yield Source(path, hdus, size)
        except fits.VerifyError as error:  # astropy parses a card when it is asked for
            raise SpectrumError(
                f"{path}: damaged header ({error}); the file is altered. Download it again."
            ) from error
        finally:
            hdus.close()


def _kind(start: bytes) -> str:
    for magic, kind in _OTHER_KINDS.items():
        if start[: len(magic)].lower() == magic.lower():
            return kind
    if all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 for byte in start):
        return "a plain text file without units (write it as ECSV, which states them)"
    return f"no format known here (it starts with {start[:8]!r})"
