"""Reading records: as NumPy arrays without TensorFlow (`iterate`), and as a ``tf.data.Dataset`` (`load`)."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.records.codec import ExampleCodec
from data_pipeline.records.integrity import open_split
from data_pipeline.records.schema import Field, RecordFormatError, RecordIntegrityError
from data_pipeline.records.shards import CURE, HEADER_BYTES, Shard, frame, record_positions

if TYPE_CHECKING:
    import tensorflow as tf

# Files read in turn; more than this many decays (tensorflow issue 39197).
MOST_OPEN = 64
# Shuffling: runs of so many neighbouring records are drawn in random order over the whole split, so many runs
# are read in turn, and a buffer of so many records (70 MB) mixes what they give.
RUN_LENGTH = 16
OPEN_RUNS = 16
SHUFFLE_BUFFER = 512
# Records decoded together where single examples are asked for: one by one takes twice as long.
DECODE_TOGETHER = 32


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
        Iterator over dicts: name to array of shape ``field.shape`` or ``(batch, *field.shape)`` with the
        schema's type; texts as ``str``, or (batch,) object arrays of them.

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
        # Python integers: indexing with NumPy's takes several times longer.
        for row in order.tolist():
            # The writer dealt row i to shard i modulo n.
            record, shard = divmod(row, len(files))
            first, length = positions[shard][record].tolist()
            # No seek, and no buffer that would be read in vain: in shuffled order no record follows the one
            # before.
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


def load(
    directory: str | Path,
    split: str,
    batch_size: int | None = None,
    *,
    shuffle_seed: int | None = None,
    fields: Iterable[str] | None = None,
    repeat: bool = False,
    verify: bool = True,
    drop_remainder: bool = False,
    deterministic: bool = True,
) -> tf.data.Dataset:
    """A split as a ``tf.data.Dataset`` of dicts of tensors, prefetched.

    Arguments, errors and checks are those of `iterate`, except that ``shuffle_seed`` gives another order over
    the whole split in each pass (the same sequence of orders for the same seed and ``tf.random.set_seed``),
    that the written order holds only roughly for more than 64 shards, and that texts are ``tf.string``.

    Args:
        directory: record directory.
        split: e.g. ``train``.
        batch_size: as for `iterate`.
        shuffle_seed: seed of the orders; None for the written order.
        fields: as for `iterate`.
        repeat: start again for ever; batches then run on across the end of a pass.
        verify: as for `iterate`; if False, TensorFlow checks each record's CRC-32C while reading.
        drop_remainder: leave out a last batch that is not full; makes the batch size static.
        deterministic: keep the order reproducible; False lets quicker reads overtake.
    """
    # Inside the function: builders and other frameworks import this package where TensorFlow is absent.
    import tensorflow as tf

    directory = Path(directory)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected a batch size of 1 or more, got {batch_size}")
    manifest = open_split(directory, split, fields, verify)
    shards = manifest.shards(split)
    selected = manifest.schema.select(fields)
    if shuffle_seed is None:
        records = _in_order(tf, directory, shards)
    else:
        records = _shuffled(tf, directory, shards, shuffle_seed)
    # Lost by the interleave; Keras needs it to know the length of an epoch.
    records = records.apply(tf.data.experimental.assert_cardinality(manifest.count(split)))
    # Before batching, so that a batch may run across the end of a pass and all have one size.
    if repeat:
        records = records.repeat()
    records = records.batch(batch_size or DECODE_TOGETHER, drop_remainder=drop_remainder and bool(batch_size))
    dataset = records.map(lambda batch: _decode(tf, batch, selected), num_parallel_calls=tf.data.AUTOTUNE)
    if batch_size is None:
        dataset = dataset.unbatch()
    options = tf.data.Options()
    options.deterministic = deterministic
    # Shards may be fewer than workers, and runs of a shuffled split are no files: divide the examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def _in_order(tf: Any, directory: Path, shards: tuple[Shard, ...]) -> tf.data.Dataset:
    """Serialised records in the order in which they were dealt to the shards."""
    paths = [str(directory / shard.file) for shard in shards]
    return tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(len(paths), MOST_OPEN),
        block_length=1,
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _shuffled(tf: Any, directory: Path, shards: tuple[Shard, ...], seed: int) -> tf.data.Dataset:
    """Serialised records in random order: short runs from everywhere in the split, then a buffer.

    A buffer alone mixes only neighbours, and neighbours in the archive are alike (same tier, same galaxy).
    """
    paths, starts = [], []
    for shard, positions in zip(shards, shard_positions(directory, shards), strict=True):
        runs = positions[::RUN_LENGTH, 0] - HEADER_BYTES
        starts.append(runs)
        paths += [str(directory / shard.file)] * len(runs)

    def read_run(path: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        # tf.data.TFRecordDataset has no argument for the first byte; the operation beneath it has.
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=path, compression_type="", buffer_size=1 << 18, byte_offsets=start
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string)).take(RUN_LENGTH)

    runs = tf.data.Dataset.from_tensor_slices(
        (tf.constant(paths, tf.string), tf.constant(np.concatenate(starts), tf.int64))
    )
    return (
        runs.shuffle(max(1, len(paths)), seed=seed)
        .interleave(read_run, cycle_length=OPEN_RUNS, block_length=1, num_parallel_calls=tf.data.AUTOTUNE)
        .shuffle(SHUFFLE_BUFFER, seed=seed + 1)
    )


def _decode(tf: Any, batch: tf.Tensor, fields: tuple[Field, ...]) -> dict[str, tf.Tensor]:
    """Tensors of (batch,) serialised examples."""
    payloads = tf.io.parse_example(
        batch, {field.name: tf.io.FixedLenFeature([], tf.string) for field in fields}
    )
    return {field.name: _tensor(tf, field, payloads[field.name]) for field in fields}


def _tensor(tf: Any, field: Field, payload: tf.Tensor) -> tf.Tensor:
    if field.is_text:
        return payload
    disk = tf.uint8 if field.dtype == "bool" else tf.dtypes.as_dtype(field.dtype)
    values = tf.io.decode_raw(payload, disk, little_endian=True)
    # A length that differs from the schema's is an error here, not rows that shift against each other.
    values = tf.ensure_shape(values, (None, math.prod(field.shape)))
    values = tf.reshape(values, (-1, *field.shape))
    values = tf.ensure_shape(values, (payload.shape[0], *field.shape))
    return tf.cast(values, tf.bool) if field.dtype == "bool" else values
