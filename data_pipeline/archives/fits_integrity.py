"""Finds a FITS file that was cut short or altered, without the archive's help."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits

_BLOCK = 2880
_ALL_ONES = 0xFFFFFFFF


class IntegrityError(Exception):
    """A file that is not what was written; the text says how it shows."""


def _ones_complement_sum(data: bytes) -> int:
    """Sum of the big-endian 32-bit words, carries added back at the end (FITS standard 4.0, appendix J)."""
    total = int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 32)
    return total


def check_fits(path: Path) -> None:
    """Check that the HDUs fill the file to its last byte and agree with their CHECKSUM and DATASUM.

    An HDU without those keywords is checked for its size only. A cut that falls exactly between two HDUs
    leaves a whole file and is not seen here, except before the first data.

    Args:
        path: uncompressed FITS file.

    Raises:
        IntegrityError: if the file is no FITS file, was cut short or extended, or was altered.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(80)
        if not start.startswith(b"SIMPLE  ="):
            raise IntegrityError(f"not a FITS file: it begins with {start[:40]!r}")
        stream.seek(0)
        index = 0
        data_size = 0
        while stream.tell() < size:
            data_size += _check_hdu(stream, index, size)
            index += 1
    if data_size == 0:
        raise IntegrityError("cut short: it ends before the first data")


def _check_hdu(stream: BinaryIO, index: int, size: int) -> int:
    """Read one HDU from its first byte to its last; the size of its data [bytes]."""
    begin = stream.tell()
    try:
        header = fits.Header.fromfile(stream)
        data_size = header.data_size_padded
        checksum, datasum = header.get("CHECKSUM"), header.get("DATASUM")
    except (OSError, EOFError, ValueError, KeyError, fits.VerifyError) as error:
        raise IntegrityError(f"HDU {index} has no readable header ({error})") from error
    data_begin = stream.tell()
    if data_begin + data_size > size:
        missing = data_begin + data_size - size
        raise IntegrityError(f"cut short: HDU {index} needs {missing} bytes more than there are ({size})")
    if (data_begin - begin) % _BLOCK:
        raise IntegrityError(f"HDU {index} has a header that is no multiple of {_BLOCK} bytes long")
    data = stream.read(data_size)
    if datasum is not None and str(datasum).strip() != str(_ones_complement_sum(data)):
        raise IntegrityError(f"altered: the data of HDU {index} do not sum up to their DATASUM")
    if checksum is not None:
        stream.seek(begin)
        total = _ones_complement_sum(stream.read(data_begin - begin + data_size))
        if total not in (0, _ALL_ONES):
            raise IntegrityError(f"altered: HDU {index} does not sum up to its CHECKSUM")
    return data_size
