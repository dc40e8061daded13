"""Reading records as NumPy arrays: no TensorFlow, for other frameworks and for looking at the data."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from data_pipeline.records.codec import ExampleCodec
from data_pipeline.records.integrity import open_split
from data_pipeline.records.schema import Field, RecordFormatError, RecordIntegrityError
from data_pipeline.records.shards import Shard
from data_pipeline.records.tfrecord import CURE, frame, record_positions


def shard_positions(directory: Path, shards: tuple[Shard, ...]) -> list[np.ndarray]:
    """(count, 2) first byte and length of each payload, for each shard.

    Raises:
        RecordIntegrityError: if a shard holds another number of records than the manifest states.
    """
    positions = [record_positions(directory / shard.file) for shard in shards]
    for shard, found in zip(shards, positions, strict=True):
        if len(found) != shard.count:
            raise RecordIntegrityError(
                f"{directory / shard.file}: found {len(found)} records, expected {shard.count}; {CURE}"
            )
    return positions


def iterate(
    directory: str | Path,
    split: str,
    batch_size: int | None = None,
    *,
    shuffle_seed: int | None = None,
    fields: Iterable[str] | None = None,
    verify: bool = True,
    drop_remainder: bool = False,
    first: int = 0,
) -> Iterator[dict[str, np.ndarray | str]]:
    """Examples of a split as dicts of NumPy arrays, once through.

    Args:
        directory: record directory.
        split: e.g. ``train``.
        batch_size: examples per dict, along a new first axis; None for one at a time.
        shuffle_seed: draw all examples in a random order, the same for the same seed (use another seed for
            each epoch); None for the written order. Reads at random places: quick on an SSD or from the page
            cache.
        fields: names to read; others are skipped. None for all.
        verify: compare all shards with the manifest's SHA-256 first, once per process. If False, sizes are
            still compared, and each record's CRC-32C while reading (needs google-crc32c).
        drop_remainder: leave out a last batch that is not full.
        first: examples at the start of the order that are left out without being read.

    Returns:
        Iterator over dicts: name to array of shape ``field.shape`` or (batch, *field.shape) with the schema's
        type; texts as ``str``, or (batch,) object arrays of them.

    Raises:
        FileNotFoundError: without a manifest.
        ValueError: for an unknown or empty split, an unknown field, a batch size below 1, ``first`` below 0.
        RecordIntegrityError: for damage: before the first example where ``verify``, else when it is met.
    """
    directory = Path(directory)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected a batch size of 1 or more, got {batch_size}")
    if first < 0:
        raise ValueError(f"expected first of 0 or more, got {first}")
    manifest = open_split(directory, split, fields, verify)
    shards = manifest.shards(split)
    codec = ExampleCodec(manifest.schema, fields)
    positions = shard_positions(directory, shards)
    order = np.arange(manifest.count(split))
    if shuffle_seed is not None:
        np.random.default_rng(shuffle_seed).shuffle(order)
    order = order[first:]
    paths = [directory / shard.file for shard in shards]
    examples = _examples(paths, positions, order, codec, check_crc=not verify)
    if batch_size is None:
        return ({name: _owned(value) for name, value in example.items()} for example in examples)
    return _batches(examples, len(order), batch_size, codec.selected, drop_remainder)


def _examples(
    paths: list[Path], positions: list[np.ndarray], order: np.ndarray, codec: ExampleCodec, check_crc: bool
) -> Iterator[dict[str, np.ndarray | str]]:
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb", buffering=0)).fileno() for path in paths]
        for row in order.tolist():
            # The writer dealt row i to shard i modulo n.
            record, shard = divmod(row, len(files))
            first, length = positions[shard][record].tolist()
            payload = os.pread(files[shard], length, first)
            if check_crc and os.pread(files[shard], 4, first + length) != frame(payload)[1]:
                raise RecordIntegrityError(
                    f"{paths[shard]}: record {record} at byte {first}: found a checksum that does not match, "
                    f"expected the record as written; {CURE}"
                )
            try:
                yield codec.parse(payload)
            except RecordFormatError as error:
                raise RecordIntegrityError(f"{paths[shard]}: record {record}: {error}; {CURE}") from error


def _owned(value: np.ndarray | str) -> np.ndarray | str:
    """A writeable array of the machine's byte order, free of the record's memory."""
    return value if isinstance(value, str) else value.astype(value.dtype.newbyteorder("="))


def _batches(
    examples: Iterator[dict[str, np.ndarray | str]],
    n: int,
    batch_size: int,
    fields: tuple[Field, ...],
    drop_remainder: bool,
) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, n, batch_size):
        size = min(batch_size, n - start)
        if size < batch_size and drop_remainder:
            return
        batch = {
            field.name: np.empty((size, *field.shape), dtype=object if field.is_text else field.dtype)
            for field in fields
        }
        for row in range(size):
            for name, value in next(examples).items():
                batch[name][row] = value
        yield batch
