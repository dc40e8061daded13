"""``kspecsr data build``: training records from an archive or from simulation."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from data_pipeline import command_line as cli

if TYPE_CHECKING:
    from data_pipeline.building.pipeline import BuildResult
    from data_pipeline.building.sources import BuildConfig

POPULATION = "wide"  # training needs broader priors than the survey (docs/design.md, simulator)
EXAMPLES = """examples:
  kspecsr data build --archive JADES_DR4 --output data
  kspecsr data build --archive spectra --catalogue z.csv --columns redshift=z,ra=RA --output data
  kspecsr data build --source simulation --n 20000 --seed 1 --output data
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--output", "record directory; an interrupted build is resumed", required=True)
    cli.add(p, "--source", "default: archive", choices=("archive", "simulation"))
    for name in ("--archive", "--catalogue", "--columns"):
        cli.add(p, name)
    cli.add(p, "--n", "number of simulated galaxies", type=int, default=0)
    cli.add(p, "--seed", "random seed of the simulation, the order of rows and the augmentation")
    cli.add(p, "--population", f"simulated population (default: {POPULATION})")
    cli.add(p, "--lines", "list of lines of a simulation, 67 or 93", choices=("first", "second"))
    cli.add(p, "--workers", default=2)
    cli.add(p, "--extraction", "extraction of prism and gratings")
    cli.add(
        p,
        "--grid",
        "unified grid: first and last wavelength [um], lambda/dlambda (default: 0.7 5.3 3000)",
        type=float,
        nargs=3,
        metavar=("START", "STOP", "SAMPLING"),
    )
    cli.add(p, "--flags", "redshift flags that are kept", default="ABC")
    cli.add(p, "--minimum-gratings", "fewest gratings of a galaxy", type=int, default=1)
    cli.add(
        p,
        "--minimum-line-snr",
        "Halpha, [O II] or [O III] must exceed it in the gratings (default: 5, no cut for a simulation)",
        type=float,
    )
    cli.add(
        p,
        "--realisations",
        "augmented copies of each training galaxy (default: 20, none for a simulation)",
        type=int,
    )
    cli.add(p, "--test-fraction", "fraction of sky groups held out", type=float, default=0.2)
    cli.add(p, "--validation-fraction", "fraction of the rest", type=float, default=0.1)
    cli.add(p, "--split-seed", "random seed of the split", type=cli.at_least(0), default=0)


def config_from(args: argparse.Namespace) -> BuildConfig:
    """The configuration that a command line states."""
    # a second of SciPy: not for --help
    from data_pipeline.building.sources import BuildConfig
    from data_pipeline.pairs.augmentation import AugmentationConfig
    from data_pipeline.pairs.matching import MatchConfig
    from data_pipeline.pairs.preprocessing import PreprocessingConfig
    from data_pipeline.pairs.sky_groups import SplitConfig
    from data_pipeline.pixel_grid import UnifiedGrid

    source = args.source or ("archive" if args.archive else "simulation" if args.n else "archive")
    realisations, cut = args.realisations, args.minimum_line_snr
    if realisations is None:
        # A simulated galaxy is better drawn again than stretched (docs/design.md, simulator).
        realisations = AugmentationConfig().realisations if source == "archive" else 0
    if cut is None:
        cut = PreprocessingConfig().minimum_line_snr if source == "archive" else 0.0
    return BuildConfig(
        source=source,
        archive=args.archive,
        catalogue=args.catalogue,
        columns=tuple(filter(None, args.columns.split(","))),
        n=args.n,
        seed=args.seed,
        population=args.population or (POPULATION if source == "simulation" else ""),
        matching=MatchConfig(flags=args.flags, minimum_gratings=args.minimum_gratings),
        preprocessing=PreprocessingConfig(
            grid=UnifiedGrid(*args.grid) if args.grid else UnifiedGrid(),
            extraction=args.extraction,
            minimum_line_snr=cut,
        ),
        split=SplitConfig(args.test_fraction, args.validation_fraction, seed=args.split_seed),
        augmentation=AugmentationConfig(realisations=realisations),
        lines=args.lines or "first",
    )


def report(result: BuildResult, seconds: float) -> str:
    """Table of steps and splits, as the command prints it."""
    from data_pipeline.pairs.sky_groups import SPLITS

    lines = ["", f"{'step':34s} {'kept':>7s} {'dropped':>8s}  most frequent reason"]
    for step in result.manifest.steps:
        worst = max(step.reasons, key=step.reasons.get) if step.reasons else ""
        lines.append(f"{step.step:34s} {step.kept:7d} {step.dropped:8d}  {worst}")
    lines.append("")
    for split in SPLITS:
        shards = result.manifest.splits.get(split, ())
        size = sum(s.n_bytes for s in shards) / 1e6
        lines.append(
            f"{split:12s} {sum(s.count for s in shards):8d} rows in {len(shards):3d} shards, {size:9.1f} MB"
        )
    resumed = f", {result.resumed} chunks from an earlier run" if result.resumed else ""
    lines.append(f"built in {seconds:.0f} s{resumed}")
    return "\n".join(lines)


def unreadable(result: BuildResult) -> list[str]:
    """Files that could not be read, for the exit status."""
    return [
        f"{d.unique_id}: {d.reason}" for d in result.dropped if d.step in ("file readable", "files readable")
    ]


@cli.command("kspecsr data build", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> int:
    """Build training records from an archive and a redshift catalogue, or from simulation."""
    from data_pipeline.building.pipeline import build

    started = time.monotonic()
    result = build(config_from(args), args.output, args.workers, args.quiet)
    print(report(result, time.monotonic() - started))
    return cli.list_failures(unreadable(result), "objects could not be read")


if __name__ == "__main__":
    sys.exit(main())
