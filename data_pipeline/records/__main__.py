"""``kspecsr data records``: check a record directory and show its content."""

import argparse
import sys
import time
from pathlib import Path

from data_pipeline import command_line as cli
from data_pipeline.records.integrity import verify_records
from data_pipeline.records.manifest import Manifest

EXAMPLES = """examples:
  kspecsr data records records/
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "directory", "directory with manifest.json and its shards", type=Path, metavar="DIR")


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
    """Numbers that each step of the build kept and dropped, with the reasons."""
    width = max((len(step.step) for step in manifest.steps), default=0)
    lines = []
    for step in manifest.steps:
        why = "; ".join(f"{count} {reason}" for reason, count in step.reasons.items())
        lines.append(
            f"{step.step:<{width}}  kept {step.kept:>7,}  dropped {step.dropped:>7,}  {why}".rstrip()
        )
    return "\n".join(lines)


@cli.command("kspecsr data records", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Verify every byte of a record directory and show its content.

    Exit status 1 if a file is damaged, missing or surplus.
    """
    begin = time.perf_counter()
    manifest = verify_records(args.directory, progress=not args.quiet)
    seconds = time.perf_counter() - begin
    print(table(manifest))
    if manifest.steps:
        print(f"\n{steps(manifest)}")
    n_shards = sum(map(len, manifest.splits.values()))
    print(f"\n{n_shards} shards whole ({seconds:.1f} s); manifest {manifest.hash[:12]}")


if __name__ == "__main__":
    sys.exit(main())
