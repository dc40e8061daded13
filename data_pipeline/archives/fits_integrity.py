"""Find a FITS file that was cut short or altered, without the archive's help.

Done on the bytes: opening the file with astropy would repair or merely warn about what must be an error here,
and its warnings cannot be caught in one thread of several.
"""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

_BLOCK = 2880
_CARD = 80
_ALL_ONES = 0xFFFFFFFF


class IntegrityError(Exception):
    """A file that is not what was written; the text says how it shows."""


def check_fits(path: Path) -> None:
    """Check that the HDUs fill the file to its last byte and agree with their CHECKSUM and DATASUM.

    An HDU without those keywords is checked for its size only. A cut that falls exactly between two HDUs
    leaves a whole file and is not seen here, except before the first data.

    Raises:
        IntegrityError: if the file is no FITS file, was cut short or extended, or was altered.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_CARD)
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
    header = _read_header(stream, index)
    cards = _values(header)
    try:
        data_size = _data_size(cards)
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"HDU {index} has no readable header ({error!r})") from error
    missing = stream.tell() + data_size - size
    if missing > 0:
        raise IntegrityError(f"cut short: {missing} bytes of the data of HDU {index} are missing")
    data = stream.read(data_size)
    if "DATASUM" in cards and cards["DATASUM"] != str(_ones_complement_sum(data)):
        raise IntegrityError(f"altered: the data of HDU {index} do not sum up to their DATASUM")
    if "CHECKSUM" in cards and _ones_complement_sum(header + data) not in (0, _ALL_ONES):
        raise IntegrityError(f"altered: HDU {index} does not sum up to its CHECKSUM")
    return data_size


def _read_header(stream: BinaryIO, index: int) -> bytes:
    """Whole blocks up to and including the one with the END card."""
    header = b""
    while True:
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise IntegrityError(f"cut short: it ends within the header of HDU {index}")
        if not all(0x20 <= byte <= 0x7E for byte in block):
            raise IntegrityError(f"HDU {index} has no readable header (it holds other than text)")
        header += block
        ends = [i for i in range(0, _BLOCK, _CARD) if block[i : i + _CARD].rstrip() == b"END"]
        if ends:
            if block[ends[0] + _CARD :].strip():
                raise IntegrityError(f"HDU {index} has no readable header (text after its END)")
            return header


def _values(header: bytes) -> dict[str, str]:
    """Keyword -> value without quotes and comment, for the cards that have a value."""
    text = header.decode("ascii")
    cards = (text[i : i + _CARD] for i in range(0, len(text), _CARD))
    # no value that is read here has a slash or a quote in it
    return {card[:8].rstrip(): card[10:].split("/")[0].strip(" '") for card in cards if card[8:10] == "= "}


def _data_size(cards: dict[str, str]) -> int:
    """Size of an HDU's data with its padding [bytes] (FITS standard 4.0, equations 1 and 2)."""
    axes = [int(cards[f"NAXIS{i}"]) for i in range(1, int(cards["NAXIS"]) + 1)]
    elements = math.prod(axes) if axes else 0
    bits = abs(int(cards["BITPIX"])) * int(cards.get("GCOUNT", 1)) * (int(cards.get("PCOUNT", 0)) + elements)
    if bits < 0:
        raise ValueError(f"a data size of {bits} bits")
    return math.ceil(bits / 8 / _BLOCK) * _BLOCK


def _ones_complement_sum(data: bytes) -> int:
    """Sum of the big-endian 32-bit words, carries added back at the end (FITS standard 4.0, appendix J)."""
    total = int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 32)
    return total
