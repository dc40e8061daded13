"""Files opened for readers: what kind they are, unpacked, or why they cannot be read."""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from data_pipeline.readers.source import DAMAGE, Source
from data_pipeline.spectrum import SpectrumError

_FITS_START = b"SIMPLE  ="
_PACKED = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # that Windows editors put before UTF-8
_ECSV_START = b"# %ECSV"
# Recognised so that the error says what the file is; astropy would say that there is no SIMPLE card.
_OTHER_KINDS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive (perhaps .npz); unpack it",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file; kspecsr survey reads spectra in its rows",
    b"#ASDF": "an ASDF file",
    b"<?xml": "an XML file (perhaps a VOTable)",
    b"././@": "a tar archive; unpack it",
    b"\x1f\x8b": "packed twice; unpack it once",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"<!DO": "an HTML page, perhaps a failed download",
    b"<htm": "an HTML page, perhaps a failed download",
}


@contextmanager
def open_source(path: str | os.PathLike) -> Iterator[Source]:
    """Open a FITS file or an ECSV table, plain or packed by gzip, bzip2 or xz.

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
        packed = next((known for magic, known in _PACKED.items() if start.startswith(magic)), None)
        size = os.fstat(stream.fileno()).st_size
        if packed:
            kind, unpack = packed
            try:
                content = unpack(stream.read())
            except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise SpectrumError(
                    f"{path}: truncated or damaged {kind} file ({error}). Download it again."
                ) from error
            stream, size, start = io.BytesIO(content), len(content), content[:16]
        # By content and not by name: archives rename, and downloads that failed are pages of HTML.
        if start.removeprefix(_BYTE_ORDER_MARK).startswith(_ECSV_START):
            yield Source(path, None, size, stream.read().decode("utf-8-sig", "replace"))
        elif start.startswith(_FITS_START):
            yield from _fits_source(path, stream, size)
        elif not start:
            raise SpectrumError(f"{path}: is empty (0 bytes). Download it again.")
        else:
            raise SpectrumError(
                f"{path}: is {_kind(start)}; expected a FITS file or an ECSV table, plain or packed by "
                "gzip, bzip2 or xz."
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


def _check_counts(path: Path, stream: BinaryIO) -> None:
    """Refuses counts beyond the FITS standard's 999 before astropy counts up to them, which takes minutes."""
    damaged = re.search(rb"(NAXIS|TFIELDS) *= *([0-9]{4,})", stream.read())
    stream.seek(0)
    if damaged:
        raise SpectrumError(
            f"{path}: damaged header ({damaged[1].decode()} is {damaged[2].decode()}, of 999 at most); the "
            "file is altered. Download it again."
        )


def _fits_source(path: Path, stream: BinaryIO, size: int) -> Iterator[Source]:
    _check_counts(path, stream)
    with warnings.catch_warnings():
        # remarks on header style; damage is looked for and raised
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            # No memory map: a file that shrinks while it is mapped kills the process (SIGBUS).
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
    start = start.removeprefix(_BYTE_ORDER_MARK)
    for magic, kind in _OTHER_KINDS.items():
        if start[: len(magic)].lower() == magic.lower():
            return kind
    if all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 for byte in start):
        return "a plain text file without units (write it as ECSV, which states them)"
    return f"no format known here (it starts with {start[:8]!r})"
