"""TFRecord files without TensorFlow: framing, checksums, positions.

A file is a sequence of records ``length (uint64), crc(length) (uint32), payload, crc(payload) (uint32)``, all
little-endian, with a masked CRC-32C (tensorflow/core/lib/io/record_writer.h). It has neither header nor end
mark, so a file that is cut between two records looks whole: the manifest's counts exist for that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipeline.records.schema import RecordIntegrityError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _HEADER.size + _FOOTER.size
CURE = "build the records again, or copy the file again from where it is whole"


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and offset as TFRecord asks for.

    Raises:
        ImportError: without the package google-crc32c.
    """
    # Inside the function: the NumPy reader runs where this package is missing, and then relies on the
    # SHA-256 of the whole file instead.
    import google_crc32c

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> tuple[bytes, bytes]:
    """Header and footer of a record."""
    length = struct.pack("<Q", len(payload))
    return length + _FOOTER.pack(masked_crc32c(length)), _FOOTER.pack(masked_crc32c(payload))


def record_positions(path: str | Path) -> np.ndarray:
    """Where each payload lies, from the framing alone: no payload is read.

    Returns:
        (n, 2) int64: first byte and length of each payload.

    Raises:
        RecordIntegrityError: for a file that ends within a record.
    """
    path = Path(path)
    size = path.stat().st_size
    positions = []
    at = 0
    with open(path, "rb", buffering=0) as file:
        while at < size:
            file.seek(at)
            header = file.read(HEADER_BYTES)
            length = _HEADER.unpack(header)[0] if len(header) == HEADER_BYTES else 0
            end = at + FRAME_BYTES + length
            if len(header) < HEADER_BYTES or end > size:
                raise RecordIntegrityError(
                    f"{path}: record {len(positions)} at byte {at} is cut off or its length is damaged: "
                    f"it would end at byte {max(end, at + FRAME_BYTES)}, the file has {size} bytes; {CURE}"
                )
            positions.append((at + HEADER_BYTES, length))
            at = end
    return np.array(positions, dtype=np.int64).reshape(-1, 2)


def read_records(path: str | Path) -> Iterator[bytes]:
    """Payloads in order, each with its length and its contents checked.

    Raises:
        RecordIntegrityError: naming the file, the record and what is wrong with it.
        ImportError: without the package google-crc32c.
    """
    path = Path(path)
    size = path.stat().st_size
    at = number = 0
    with open(path, "rb") as file:
        while at < size:
            where = f"{path}: record {number} at byte {at}"
            header = file.read(HEADER_BYTES)
            if len(header) == HEADER_BYTES and header[8:] != _FOOTER.pack(masked_crc32c(header[:8])):
                raise RecordIntegrityError(f"{where}: the checksum of its length does not match; {CURE}")
            length = _HEADER.unpack(header)[0] if len(header) == HEADER_BYTES else 0
            data = file.read(length + _FOOTER.size)
            end = at + FRAME_BYTES + length
            if end > size:
                raise RecordIntegrityError(
                    f"{where} is cut off: it would end at byte {end}, the file has {size} bytes; {CURE}"
                )
            payload = data[:-4]
            if data[-4:] != _FOOTER.pack(masked_crc32c(payload)):
                raise RecordIntegrityError(f"{where}: the checksum of its payload does not match; {CURE}")
            yield payload
            at = end
            number += 1
