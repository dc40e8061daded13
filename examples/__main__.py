"""``python -m examples``: three demos of kspecsr, in a clone.

Each step but the last picture is a command of this project, shown before it runs: what a demo does can be
copied.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from data_pipeline import command_line as cli
from data_pipeline.jades_names import jades_file_name
from data_pipeline.records import Manifest, iterate, load
from examples.demonstration import DemoError, draw_best, prepare, redshift_table, run, simulate_unseen

ENHANCE_PARTS = ("unseen", "enhanced", "recovered.png", "catalogue.ecsv")
TRAIN_PARTS = ("pipeline", "records", "model", "unseen", "enhanced", "recovered.png")
DATA_PARTS = ("archive", "records", "pictures")
CHECK_GALAXIES = 300  # fewer give percentages that say little
_BATCH = 8
_AGAIN = "the same command starts afresh"


def _shared_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--output", "new or empty folder, or an earlier demo's", required=True)
    cli.add(p, "--workers", type=cli.at_least(1), default=2)


def _enhance_options(p: argparse.ArgumentParser) -> None:
    _shared_options(p)
    cli.add(p, "--file", "prism spectrum; repeatable", action="append", default=[], metavar="FILE")
    cli.add(p, "--unseen", "galaxies to simulate", type=cli.at_least(1), default=12)


_ENHANCE = """examples:
  python -m examples enhance --output demo
  python -m examples enhance --output demo --file my_prism_x1d.fits
"""


@cli.command("python -m examples enhance", _ENHANCE, _enhance_options, interrupted=_AGAIN)
def enhance(args: argparse.Namespace) -> None:
    """Super-resolve simulated galaxies, or spectra of yours, with the model that ships: a minute."""
    folder, started = args.output, time.monotonic()
    prepare(folder, ENHANCE_PARTS)
    unseen, enhanced, _, catalogue = (folder / part for part in ENHANCE_PARTS)
    if not args.file:
        simulate_unseen(unseen, args.unseen, args.workers)
    run("enhance", *(args.file or [unseen]), "--output", enhanced, "--plot")
    run("catalogue", enhanced, "--output", catalogue)
    if not args.file:
        print(f"\n{redshift_table(folder)}\n\nRecovered beside true: {draw_best(folder)}")
    print(enhance_summary(folder, time.monotonic() - started, not args.file))


def enhance_summary(folder: Path, seconds: float, simulated: bool) -> str:
    """What was made, and what to try next."""
    lines = [
        f"\nMade in {seconds:.0f} s:",
        f"  {folder / 'enhanced'}   super-resolved spectra with line tables (FITS), and a picture of each",
        f"  {folder / 'catalogue.ecsv'}   one line for each",
    ]
    if simulated:
        lines.append(f"  {folder / 'recovered.png'}   one of them beside the truth")
    return "\n".join(
        [
            *lines,
            "\nNext:",
            "  kspecsr enhance YOUR.fits --output results --plot",
            "  make demo-train    # trains a reduced model from scratch: a quarter of an hour",
        ]
    )


def _train_options(p: argparse.ArgumentParser) -> None:
    _shared_options(p)
    cli.add(p, "--galaxies", "galaxies in the records", type=cli.at_least(50), default=2000)
    cli.add(p, "--epochs", "of each stage (default: the preset's)", type=cli.at_least(0), default=0)
    cli.add(p, "--unseen", "galaxies to super-resolve", type=cli.at_least(1), default=12)
    cli.add(p, "--seed", default=1)


_TRAIN = """examples:
  python -m examples train --output demo
  python -m examples train --output demo --galaxies 400 --epochs 2    # quicker, and worse
"""


@cli.command("python -m examples train", _TRAIN, _train_options, interrupted=_AGAIN)
def train(args: argparse.Namespace) -> None:
    """Train a reduced model on simulated galaxies and super-resolve others: a quarter of an hour.

    Simulates galaxies, builds records, trains, super-resolves galaxies that the model never saw, and draws
    recovered beside true.
    """
    folder, started = args.output, time.monotonic()
    prepare(folder, TRAIN_PARTS)
    pipeline, records, model, unseen, enhanced, _ = (folder / part for part in TRAIN_PARTS)
    seed, workers = ("--seed", args.seed), ("--workers", args.workers)
    show_data(pipeline, 24, args.seed, 20, args.workers)
    run("data build", "--source", "simulation", "--n", args.galaxies, *seed, *workers, "--output", records)
    epochs = ("--epochs", args.epochs) if args.epochs else ()
    run("train", "--preset", "small", "--data", records, "--output", model, *seed, *epochs)
    simulate_unseen(unseen, args.unseen, args.workers)
    run("enhance", unseen, "--output", enhanced, "--model", model, "--plot")
    picture = draw_best(folder)
    print(f"\n{redshift_table(folder)}\n\nRecovered beside true: {picture}")
    print(train_summary(folder, time.monotonic() - started))


def train_summary(folder: Path, seconds: float) -> str:
    """What was made, and what to try next."""
    model = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
    stages = ", ".join(model["stages"])
    return "\n".join(
        [
            f"\nMade in {seconds:.0f} s:",
            f"  {folder / 'model'}      a reduced model ({stages}), trained on {folder / 'records'}",
            f"  {folder / 'enhanced'}   spectra, line catalogues and pictures of galaxies that it never saw",
            f"  {folder / 'recovered.png'}",
            "\nNext:",
            f"  kspecsr enhance YOUR.fits --model {folder / 'model'} --output results --plot",
            "  kspecsr train    # the full model: about an hour and a half on two cores",
        ]
    )


def _data_options(p: argparse.ArgumentParser) -> None:
    _shared_options(p)
    cli.add(p, "--n", "number of galaxies", type=cli.at_least(1), default=24)
    cli.add(p, "--seed", default=1)
    cli.add(
        p,
        "--realisations",
        "augmented copies of each training galaxy; 20 is the paper's number, 3 is quicker",
        type=cli.at_least(0),
        default=20,
    )
    cli.add(
        p,
        "--check",
        f"also draw simulated beside real statistics ({CHECK_GALAXIES} more galaxies: too few for rare "
        "lines and high redshifts, which are then reported as missed)",
        action="store_true",
    )


_DATA = """examples:
  python -m examples data --output demo
  python -m examples data --output demo --realisations 3      # quicker
  python -m examples data --output demo --n 100 --seed 7 --check
"""


@cli.command("python -m examples data", _DATA, _data_options, interrupted=_AGAIN)
def data(args: argparse.Namespace) -> None:
    """Simulate a small archive, build records from its FITS files, read them and draw pictures: a minute."""
    started = time.monotonic()
    show_data(args.output, args.n, args.seed, args.realisations, args.workers)
    if args.check:
        counts = ("--n", CHECK_GALAXIES, "--seed", args.seed, "--workers", args.workers)
        run("data simulate", "--check", *counts, "--check-output", args.output / "pictures")
    print(data_summary(args.output, time.monotonic() - started))


def show_data(folder: Path, n: int, seed: int, realisations: int, workers: int) -> None:
    """Runs the data pipeline from end to end into a folder of its own."""
    prepare(folder, DATA_PARTS)
    archive, records, _ = (folder / part for part in DATA_PARTS)
    if realisations < 20:
        print(f"{realisations} realisations of each training galaxy, for speed; the paper's number is 20.")
    how = ("--seed", seed, "--workers", workers)
    run("data simulate", "--archive", archive, "--n", n, *how)
    run("data build", "--archive", archive, "--output", records, "--realisations", realisations, *how)
    run("data records", records)
    draw(folder, *read_batches(records))


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
    with cli.suppress_startup_stderr():
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
    archive, records, pictures = (folder / part for part in DATA_PARTS)
    name = jades_file_name(tier, unique_id.removeprefix(f"{tier}_"), "clear", "prism")
    spectrum = next(archive.rglob(name))
    run("data inspect", spectrum, "--redshift", f"{redshift:.4f}", "--output", pictures)
    run("data inspect", "--archive", archive, "--output", pictures)
    run("data inspect", "--records", records, "--output", pictures)


def data_summary(folder: Path, seconds: float) -> str:
    """What was made, and what to try next."""
    archive, records, pictures = (folder / part for part in DATA_PARTS)
    manifest = Manifest.read(records)
    spectra = sum(1 for _ in archive.rglob("*_x1d.fits"))
    rows = ", ".join(f"{manifest.count(split)} {split}" for split in manifest.splits)
    lines = [
        f"\nMade in {seconds:.0f} s:",
        f"  {archive}   {spectra} spectra in the layout of JADES DR4, with their truth",
        f"  {records}   {rows} examples",
        *(f"  {path}" for path in sorted(pictures.glob("*.png"))),
        "\nNext:",
        "  kspecsr data inspect YOUR_SPECTRUM.fits",
        f"  kspecsr data inspect --records {records} --object ID",
        f"  kspecsr data simulate --check --check-output {pictures}    # simulated beside real",
        "  kspecsr data download --release dr4 --output dr4 --limit 10    # real galaxies",
        "  kspecsr data build --archive dr4 --output dr4-records",
    ]
    return "\n".join(lines)


main = cli.CommandTable(
    "python -m examples",
    "Demos of kspecsr: every step is a command, shown before it runs.",
    {
        "demos": {
            "enhance": (enhance, "super-resolve galaxies with the model that ships (a minute)"),
            "data": (data, "from a simulated archive to training records (a minute)"),
            "train": (train, "a reduced model from scratch (a quarter of an hour)"),
        }
    },
)

if __name__ == "__main__":
    sys.exit(main())
