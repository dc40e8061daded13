"""Check a record directory and show what it holds.

Example::

    python -m data_pipeline.records records/
    python -m data_pipeline.records records/ --benchmark train
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from data_pipeline.quiet_start import held_back_stderr
from data_pipeline.records.integrity import verify_records
from data_pipeline.records.manifest import Manifest
from data_pipeline.records.reading import iterate, load
from data_pipeline.records.schema import RecordIntegrityError


def table(manifest: Manifest) -> str:
    """Splits, shards, counts and sizes as text."""
    rows = [("split", "shards", "examples", "MB", "MB per shard")]
    for split, shards in manifest.splits.items():
        size = sum(shard.n_bytes for shard in shards) / 1e6
        sizes = [s.n_bytes for s in shards] or [0]
        each = f"{min(sizes) / 1e6:.1f}-{max(sizes) / 1e6:.1f}"
        rows.append((split, str(len(shards)), f"{manifest.count(split):,}", f"{size:,.1f}", each))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join(lines)


def steps(manifest: Manifest) -> str:
    """What each step of the build kept and dropped, and why."""
    width = max((len(step.step) for step in manifest.steps), default=0)
    lines = []
    for step in manifest.steps:
        why = "; ".join(f"{count} {reason}" for reason, count in step.reasons.items())
        lines.append(
            f"{step.step:<{width}}  kept {step.kept:>7,}  dropped {step.dropped:>7,}  {why}".rstrip()
        )
    return "\n".join(lines)


def examples_per_second(name: str, batches: Callable[[], Iterable], n: int) -> str:
    """Time of one whole pass, after one batch for warming up."""
    next(iter(batches()))
    begin = time.perf_counter()
    for _ in batches():
        pass
    seconds = time.perf_counter() - begin
    return f"{name:<22} {n:>8,} examples in {seconds:6.2f} s  {n / seconds:>8,.0f} per second"


def benchmark(directory: Path, manifest: Manifest, split: str, batch_size: int) -> None:
    """Print the reading speed of each reader."""
    n = manifest.count(split)
    if n == 0:
        print(f"benchmark: split {split!r} is empty")
        return
    with held_back_stderr():
        next(iter(load(directory, split, batch_size)))
    print(f"\nreading {split!r} in batches of {batch_size}, all fields:")
    for name, seed in (("in order", None), ("shuffled", 1)):
        print(
            examples_per_second(
                f"NumPy, {name}", lambda s=seed: iterate(directory, split, batch_size, shuffle_seed=s), n
            )
        )
        dataset = load(directory, split, batch_size, shuffle_seed=seed)
        print(examples_per_second(f"tf.data, {name}", lambda d=dataset: d, n))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.records",
        description="Verify every byte of a record directory against its manifest and show what it holds. "
        "Exit status 1 if a file is damaged, missing or surplus.",
        epilog="examples:\n  python -m data_pipeline.records records/\n"
        "  python -m data_pipeline.records records/ --benchmark train --batch-size 64",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="directory with manifest.json and its shards")
    parser.add_argument(
        "--benchmark",
        nargs="?",
        const="",
        metavar="SPLIT",
        help="also read a split (default: the first) and print examples per second, by tf.data and by NumPy",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="for --benchmark (default: 64)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        begin = time.perf_counter()
        manifest = verify_records(options.directory)
        seconds = time.perf_counter() - begin
        print(table(manifest))
        if manifest.steps:
            print(f"\n{steps(manifest)}")
        n_shards = sum(map(len, manifest.splits.values()))
        print(f"\n{n_shards} shards whole ({seconds:.1f} s); manifest {manifest.hash[:12]}")
        if options.benchmark is not None:
            split = options.benchmark or next(iter(manifest.splits))
            benchmark(options.directory, manifest, split, options.batch_size)
    except (RecordIntegrityError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
