"""Opens a file once, after telling FITS, gzip and ECSV from everything that is no spectrum."""

from __future__ import annotations

import gzip
import io
import os
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

# of files that hold spectra
ENDINGS = (".fits", ".fits.gz", ".ecsv")
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


@contextmanager
def open_source(path: str | os.PathLike) -> Iterator[Source]:
    """Opens a FITS file (plain or gzip) or an ECSV table.

    Raises:
        SpectrumError: for what is no such file: missing, a directory, pipe, unreadable, empty, other kind.
    """
    path = Path(path)
    with _stream(path) as stream:
        try:
            start = stream.read(16)
            stream.seek(0)
        except OSError as error:
            raise SpectrumError(_unopened(path, error)) from error
        if start.startswith(_ECSV_START):
            yield Source(path, None)
        elif start.startswith(_FITS_START):
            yield from _fits_source(path, stream, os.fstat(stream.fileno()).st_size)
        elif start.startswith(_GZIP_START):
            content = _unpacked(path, stream)
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
    except FileNotFoundError as error:
        raise SpectrumError(f"{path}: no such file. Check the path.") from error
    except IsADirectoryError as error:
        raise SpectrumError(
            f"{path}: is a directory; expected one file. Name a file in it, or give the directory to "
            "python -m data_pipeline.readers."
        ) from error
    except PermissionError as error:
        raise SpectrumError(
            f"{path}: no permission to read. Run chmod u+r on it, or ask its owner."
        ) from error
    except OSError as error:  # a loop of links, a path below a file, a name too long, a disk error ...
        raise SpectrumError(_unopened(path, error)) from error


def _unopened(path: Path, error: OSError) -> str:
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


def _unpacked(path: Path, stream: BinaryIO) -> bytes:
    try:
        return gzip.decompress(stream.read())
    except (EOFError, OSError, zlib.error) as error:
        raise SpectrumError(
            f"{path}: truncated or damaged gzip file ({error}). Download it again."
        ) from error


def _kind(start: bytes) -> str:
    for magic, kind in _OTHER_KINDS.items():
        if start[: len(magic)].lower() == magic.lower():
            return kind
    if all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 for byte in start):
        return "a plain text file without units (write it as ECSV, which states them)"
    return f"no format known here (it starts with {start[:8]!r})"
