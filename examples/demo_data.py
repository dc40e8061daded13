"""Command line: ``python -m examples.demo_data``: the data pipeline from end to end, on simulated galaxies.

Each step but the reading of a batch is a command of this package, shown before it runs: what the demo does
can be copied.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.command_line import suppress_startup_stderr
from data_pipeline.jades_names import jades_file_name
from data_pipeline.records import Manifest, RecordIntegrityError, iterate, load
from examples.demonstration import DemoError, prepare, run

PARTS = ("archive", "records", "pictures")
CHECK_GALAXIES = 300  # fewer give percentages that say little
_BATCH = 8

EXAMPLES = """examples:
  python -m examples.demo_data --output demo
  python -m examples.demo_data --output demo --realisations 3      # quicker
  python -m examples.demo_data --output demo --n 100 --seed 7 --check
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m examples.demo_data",
        description="Simulates a small archive, builds records from its FITS files, verifies and reads them, "
        "and draws pictures. About a minute on two cores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--output", required=True, metavar="DIR", help="new or empty folder, or an earlier demo's")
    p.add_argument("--n", type=int, default=24, help="galaxies; default %(default)s")
    p.add_argument("--seed", type=int, default=1, help="default %(default)s")
    p.add_argument(
        "--realisations",
        type=int,
        default=20,
        help="augmented copies of each training galaxy; default %(default)s, the paper's; 3 is quicker",
    )
    p.add_argument("--workers", type=int, default=2, help="processes; default %(default)s")
    p.add_argument(
        "--check",
        action="store_true",
        help=f"also draw simulated beside real statistics ({CHECK_GALAXIES} more galaxies: too few for rare "
        "lines and high redshifts, which are then reported as missed)",
    )
    return p


def read_batches(records: Path) -> tuple[str, float, str]:
    """Reads a batch with NumPy and with tf.data and prints the shapes.

    Returns:
        Of the example with the brightest line: unique id, redshift, tier.

    Raises:
        DemoError: if the two readers disagree.
    """
    print("\nThe training part, read in Python:", flush=True)
    print(f'>>> next(iterate("{records}", "train", batch_size={_BATCH}))    # NumPy', flush=True)
    batch = next(iterate(records, "train", batch_size=_BATCH))
    for name in ("prism_flux", "prism_mask", "grating_flux", "noise_free", "line_flux", "redshift"):
        print(f"    {name:14s} {batch[name].dtype!s:8s} {batch[name].shape}")
    print(f'>>> next(iter(load("{records}", "train", batch_size={_BATCH})))   # tf.data', flush=True)
    with suppress_startup_stderr():
        tensors = next(iter(load(records, "train", batch_size=_BATCH)))
    same = all(
        np.array_equal(np.asarray(tensors[name]), batch[name], equal_nan=True)
        for name in ("prism_flux", "grating_flux", "line_flux", "redshift")
    )
    print(f"    {len(tensors)} fields; grating_flux {tuple(tensors['grating_flux'].shape)}; ", end="")
    if not same:
        raise DemoError(f"{records}: tf.data and NumPy gave different numbers; please report this")
    print("the same numbers as NumPy's")
    with np.errstate(invalid="ignore"):
        best = int(np.nanargmax(np.nanmax(batch["grating_flux"] / batch["grating_error"], axis=1)))
    return str(batch["unique_id"][best]), float(batch["redshift"][best]), str(batch["tier"][best])


def draw(folder: Path, unique_id: str, redshift: float, tier: str) -> None:
    """Pictures of a spectrum, a pair, its stitching, and an augmentation family."""
    archive, records, pictures = (folder / part for part in PARTS)
    name = jades_file_name(tier, unique_id.removeprefix(f"{tier}_"), "clear", "prism")
    spectrum = next(archive.rglob(name))
    inspect = "data_pipeline.inspect"
    run(inspect, str(spectrum), "--redshift", f"{redshift:.4f}", "--output", str(pictures))
    run(inspect, "--archive", str(archive), "--output", str(pictures))
    run(inspect, "--records", str(records), "--output", str(pictures))


def demonstrate(args: argparse.Namespace) -> None:
    """All steps in order."""
    folder = Path(args.output)
    prepare(folder, PARTS)
    archive, records, pictures = (folder / part for part in PARTS)
    n, seed, workers = str(args.n), str(args.seed), str(args.workers)
    simulate, build = "data_pipeline.simulate", "data_pipeline.build"
    copies = str(args.realisations)
    if args.realisations < 20:
        print(f"{copies} realisations of each training galaxy, for speed; the paper's number is 20.")
    run(simulate, "--archive", str(archive), "--n", n, "--seed", seed, "--workers", workers)
    run(
        build,
        *("--archive", str(archive), "--output", str(records)),
        *("--realisations", copies, "--seed", seed, "--workers", workers),
    )
    run("data_pipeline.records", str(records))
    draw(folder, *read_batches(records))
    if args.check:
        counts = ("--n", str(CHECK_GALAXIES), "--seed", seed, "--workers", workers)
        run(simulate, "--check", *counts, "--check-output", str(pictures))


def summary(folder: Path, seconds: float) -> str:
    """What was made, and what to try next."""
    archive, records, pictures = (folder / part for part in PARTS)
    manifest = Manifest.read(records)
    spectra = sum(1 for _ in archive.rglob("*_x1d.fits"))
    rows = ", ".join(f"{manifest.count(split)} {split}" for split in manifest.splits)
    lines = [
        f"\nMade in {seconds:.0f} s:",
        f"  {archive}   {spectra} spectra in the layout of JADES DR4, with their truth",
        f"  {records}   {rows} examples",
        *(f"  {path}" for path in sorted(pictures.glob("*.png"))),
        "\nNext:",
        "  python -m data_pipeline.inspect YOUR_SPECTRUM.fits",
        f"  python -m data_pipeline.inspect --records {records} --object ID",
        f"  python -m data_pipeline.simulate --check --check-output {pictures}    # simulated beside real",
        "  python -m data_pipeline.download --release dr4 --output dr4 --limit 10    # real galaxies",
        "  python -m data_pipeline.build --archive dr4 --output dr4-records",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; 1 if a step failed, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if args.n < 1 or args.realisations < 0 or args.workers < 1:
        p.error("expected --n and --workers of 1 or more, and --realisations of 0 or more")
    started = time.monotonic()
    try:
        demonstrate(args)
        print(summary(Path(args.output), time.monotonic() - started))
    except (DemoError, RecordIntegrityError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts afresh", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
