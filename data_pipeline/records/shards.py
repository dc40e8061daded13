"""TFRecord files without TensorFlow: framing, checksums, positions, and a split written as shards.

A file is a sequence of records ``length (uint64), crc(length) (uint32), payload, crc(payload) (uint32)``, all
little-endian, with a masked CRC-32C (tensorflow/core/lib/io/record_writer.h). It has neither header nor end
mark, so a file that is cut between two records looks whole: the manifest's counts exist for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from data_pipeline.records.codec import ExampleCodec
from data_pipeline.records.schema import RecordFormatError, RecordIntegrityError, Schema
from data_pipeline.writers.atomic import write_cure

MANIFEST_NAME = "manifest.json"
TARGET_BYTES = 150_000_000
MOST_BYTES = 200_000_000
# Each shard is a file that is open while writing; systems commonly allow 1,024.
MOST_SHARDS = 512
TEXT_BYTES = 24  # typical length of an identifier
CURE = "build the records again, or copy the file again from where it is whole"
_BUFFER = 1 << 20
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _HEADER.size + _FOOTER.size


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
    """Position of each payload, from the framing alone: no payload is read.

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
            # Header by header over the whole file: 12 bytes of each 150 kB record, so that positions of a
            # shard of 150 MB take milliseconds.
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


@dataclass(frozen=True)
class Shard:
    """One finished file of a record directory: name, records, size in bytes, SHA-256 in hexadecimal."""

    file: str
    count: int
    n_bytes: int
    sha256: str


def record_bytes(schema: Schema) -> int:
    """Size of one record on disk [bytes], with texts of typical length."""
    payload = sum(TEXT_BYTES if field.is_text else field.n_bytes for field in schema.fields)
    keys = sum(len(field.name) + 16 for field in schema.fields)
    return payload + keys + FRAME_BYTES


def shard_count(n_rows: int, schema: Schema) -> int:
    """Number of shards that gives files of about 150 MB: 100-200 MB once there is more than one."""
    if n_rows < 0:
        raise ValueError(f"expected a number of rows of 0 or more, got {n_rows}")
    total = n_rows * record_bytes(schema)
    return min(MOST_SHARDS, max(1, math.ceil(total / MOST_BYTES), round(total / TARGET_BYTES)))


def _explained(error: OSError, path: Path, n_bytes: int) -> OSError:
    """The same error with what to do about it."""
    text = f"could not write records after {n_bytes:,} bytes; {write_cure(error)}"
    return OSError(error.errno, text, str(path))


class ShardWriter:
    """Write records round-robin to shards; context manager.

    Row i goes to shard i modulo ``n_shards``, so that readers which take one record from each shard in turn
    get the written order. Shards have temporary names until the block ends without an exception; they are
    then flushed to the disk and renamed. After an exception none of this split's files is left. What an
    earlier unfinished build left of this split (shards without a manifest) is removed. The directory is made
    if absent, the split's name holds letters, digits and ``_``; `shard_count` gives a number of files.

    Raises:
        FileExistsError: if the directory holds a manifest.
        OSError: disk full, no permission, too many files; with the path and the cure.
        RecordFormatError: from ``write``, naming field, received and expected.
    """

    def __init__(self, directory: str | Path, split: str, schema: Schema, n_shards: int = 1) -> None:
        if not split.replace("_", "").isalnum() or not split.isascii():
            raise ValueError(f"expected a split name of letters, digits and _, got {split!r}")
        if not 1 <= n_shards <= MOST_SHARDS:
            raise ValueError(f"expected 1 to {MOST_SHARDS} shards, got {n_shards}")
        self.directory = Path(directory)
        self.split = split
        self.count = 0
        self._codec = ExampleCodec(schema)
        self._names = [f"{split}-{i:05d}-of-{n_shards:05d}.tfrecord" for i in range(n_shards)]
        self._files: list[BinaryIO] = []
        self._hashes = [hashlib.sha256() for _ in self._names]
        self._sizes = [0] * n_shards
        self._shards: tuple[Shard, ...] | None = None

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The finished shards, once the block has ended.

        Raises:
            RuntimeError: before that.
        """
        if self._shards is None:
            raise RuntimeError(
                f"split {self.split!r} is not finished; read shards after the writer's with block"
            )
        return self._shards

    def _temporary(self, name: str) -> Path:
        return self.directory / f".{name}.tmp"

    def __enter__(self) -> ShardWriter:
        if (self.directory / MANIFEST_NAME).exists():
            raise FileExistsError(
                f"{self.directory} already holds finished records ({MANIFEST_NAME}); choose another "
                f"directory or remove that one first"
            )
        path = self.directory
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            for name in self._names:
                path = self._temporary(name)
                self._files.append(open(path, "wb", buffering=_BUFFER))
        except OSError as error:
            self._abandon()
            raise _explained(error, path, 0) from error
        return self

    def _remove_leftovers(self) -> None:
        for pattern in (f"{self.split}-*-of-*.tfrecord", f".{self.split}-*-of-*.tfrecord.tmp"):
            for path in self.directory.glob(pattern):
                path.unlink()

    def write(self, example: Mapping[str, Any]) -> None:
        """Append one record: the value of every field of the schema, and of no other.

        Raises:
            RecordFormatError: naming the row and the field, what was received and what is expected.
            OSError: disk full and the like, with the path and the cure.
        """
        try:
            payload = self._codec.serialise(example)
        except RecordFormatError as error:
            name = example.get("unique_id", "")
            raise RecordFormatError(
                f"split {self.split!r}, row {self.count}{f' ({name})' if name else ''}: {error}"
            ) from error
        self.write_serialised(payload)

    def write_serialised(self, payload: bytes) -> None:
        """Append a record that ``ExampleCodec(schema).serialise`` made, for example in another process."""
        if not self._files:
            raise RuntimeError("the writer is not open; use it as `with ShardWriter(...) as writer:`")
        # Dealt out like cards: neighbours in the archive (one tier, one galaxy) end up in different files,
        # and readers that take turns restore the order.
        shard = self.count % len(self._files)
        header, footer = frame(payload)
        try:
            for part in (header, payload, footer):
                self._files[shard].write(part)
                # Hashed while writing: reading 150 MB back would take as long as writing them.
                self._hashes[shard].update(part)
                self._sizes[shard] += len(part)
        except OSError as error:
            raise _explained(error, self._temporary(self._names[shard]), sum(self._sizes)) from error
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except BaseException:
            self._abandon()
            for name in self._names:
                (self.directory / name).unlink(missing_ok=True)
            raise

    def _finish(self) -> None:
        path = self.directory
        try:
            for name, file in zip(self._names, self._files, strict=True):
                path = self._temporary(name)
                file.flush()
                # Content before name: after a power cut a renamed file may otherwise exist with nothing in
                # it.
                os.fsync(file.fileno())
                file.close()
            for name in self._names:
                path = self.directory / name
                os.replace(self._temporary(name), path)
            sync_directory(self.directory)
        except OSError as error:
            raise _explained(error, path, sum(self._sizes)) from error
        n = len(self._names)
        self._files = []
        self._shards = tuple(
            Shard(
                file=self._names[i],
                count=self.count // n + (i < self.count % n),
                n_bytes=self._sizes[i],
                sha256=self._hashes[i].hexdigest(),
            )
            for i in range(n)
        )

    def _abandon(self) -> None:
        for file in self._files:
            # Closing flushes, which fails again where the disk is full; the first error is the one to tell.
            with contextlib.suppress(OSError):
                file.close()
        self._files = []
        for name in self._names:
            # Where the folder itself could not be made or entered there is nothing to remove.
            with contextlib.suppress(OSError):
                self._temporary(name).unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
