"""Integrity of records, checked before training starts."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_pipeline.progress import Progress
from data_pipeline.records.codec import ExampleCodec
from data_pipeline.records.manifest import Manifest
from data_pipeline.records.schema import RecordFormatError, RecordIntegrityError
from data_pipeline.records.shards import CURE, MANIFEST_NAME, Shard, read_records, record_positions

_CHUNK = 1 << 22
_THREADS = 2
# directory -> what was verified in this process: manifest hash, and size and time of each shard
_verified: dict[Path, tuple] = {}


def verify_records(directory: str | Path, *, progress: bool = True) -> Manifest:
    """Read every byte of every shard and compare with the manifest.

    ``progress`` shows a bar if this takes longer than two seconds.

    Raises:
        FileNotFoundError: without a manifest.
        RecordIntegrityError: one line for each damaged, missing or surplus file: found, expected, cure.
    """
    directory = Path(directory)
    manifest = check_files(directory)
    shards = [shard for split in manifest.splits.values() for shard in split]
    total = sum(shard.n_bytes for shard in shards)
    label = f"verifying {directory.name}"
    with Progress(
        total=total, unit="B", unit_scale=True, desc=label, delay=2, leave=False, disable=not progress
    ) as bar:
        codec = ExampleCodec(manifest.schema)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda shard: _shard_problem(directory / shard.file, shard, codec, bar), shards)
            problems = [problem for problem in found if problem]
    if problems:
        raise RecordIntegrityError("\n".join(problems))
    _verified[directory.resolve()] = _signature(directory, manifest)
    return manifest


def check_files(directory: str | Path) -> Manifest:
    """The quick part of ``verify_records``: names and sizes of the shards, without reading them.

    Raises:
        FileNotFoundError: without a manifest.
        RecordIntegrityError: as ``verify_records``.
    """
    directory = Path(directory)
    manifest = Manifest.read(directory)
    problems = list(_file_problems(directory, manifest))
    if problems:
        raise RecordIntegrityError("\n".join(problems))
    return manifest


def open_split(
    directory: str | Path, split: str, fields: Iterable[str] | None = None, verify: bool = True
) -> Manifest:
    """The manifest, once it is certain that a split can be read: the quick checks first.

    Bytes are verified once per process unless a file has changed since.

    Raises:
        FileNotFoundError: without a manifest.
        ValueError: for an unknown or empty split, or an unknown field.
        RecordIntegrityError: as ``verify_records``.
    """
    directory = Path(directory)
    manifest = check_files(directory)
    if not manifest.shards(split):
        raise ValueError(
            f"split {split!r} of {directory} holds no example; build from more galaxies, or with another "
            "--split-seed or fraction"
        )
    manifest.schema.select(fields)
    if verify and _verified.get(directory.resolve()) != _signature(directory, manifest):
        verify_records(directory)
    return manifest


def _signature(directory: Path, manifest: Manifest) -> tuple:
    files = [directory / shard.file for shards in manifest.splits.values() for shard in shards]
    # Sizes and times stand for contents within a process: every epoch opens the split anew.
    return manifest.hash, tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _file_problems(directory: Path, manifest: Manifest) -> Iterator[str]:
    shards = {shard.file: shard for split in manifest.splits.values() for shard in split}
    for name, shard in shards.items():
        path = directory / name
        if not path.is_file():
            yield (
                f"{path}: missing: found no such file, expected {shard.count} records in "
                f"{shard.n_bytes:,} bytes; {CURE}"
            )
        elif path.stat().st_size != shard.n_bytes:
            yield _size_problem(path, shard)
    for path in sorted(directory.glob("*.tfrecord")):
        if path.name not in shards:
            yield (
                f"{path}: surplus: found a shard that {MANIFEST_NAME} does not list, expected only "
                f"the {len(shards)} listed ones; move it away, it may belong to another build"
            )


def _bare(error: RecordIntegrityError, path: Path) -> str:
    """The text of an error without its file and its cure, which the caller's text has."""
    return str(error).removeprefix(f"{path}: ").removesuffix(f"; {CURE}")


def _size_problem(path: Path, shard: Shard) -> str:
    found = path.stat().st_size
    try:
        where = f"{len(record_positions(path))} whole records, so it was cut or joined at a record boundary"
    except RecordIntegrityError as error:
        where = _bare(error, path)
    return (
        f"{path}: found {found:,} bytes, expected {shard.n_bytes:,} bytes in {shard.count} records; it has "
        f"{where}; {CURE}"
    )


def _shard_problem(path: Path, shard: Shard, codec: ExampleCodec, bar: Progress) -> str:
    """Damage of one shard of the right size; empty if there is none."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != shard.sha256:
        return (
            f"{path}: found SHA-256 {digest.hexdigest()[:12]}..., expected {shard.sha256[:12]}...: altered "
            f"after it was written: {_where_altered(path)}; {CURE}"
        )
    positions = record_positions(path)
    if len(positions) != shard.count:
        return f"{path}: found {len(positions)} records, expected {shard.count}; {CURE}"
    if shard.count:
        # One record is enough: the checksum has shown that all are as written, and one writer wrote all with
        # one schema.
        first, length = positions[0]
        with open(path, "rb") as file:
            file.seek(first)
            try:
                codec.check(file.read(length))
            except RecordFormatError as error:
                return (
                    f"{path}: {MANIFEST_NAME} describes another schema than its records have: {error}; {CURE}"
                )
    return ""


def _where_altered(path: Path) -> str:
    try:
        # Only after damage was found, since it is slow: the user may want to know whether one galaxy or the
        # disk is bad.
        n = sum(1 for _ in read_records(path))
    except RecordIntegrityError as error:
        return _bare(error, path)
    except ImportError:
        return "which record was not searched, as google-crc32c is not installed"
    return f"all {n} records have matching checksums, so whole records were replaced or reordered"
