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
    cli.add_shared(p, "output", required=True, help="record directory; an interrupted build is resumed")
    p.add_argument("--source", choices=("archive", "simulation"), help="default: archive")
    cli.add_shared(p, "archive", "catalogue", "columns")
    p.add_argument("--n", type=int, default=0, help="number of simulated galaxies")
    cli.add_shared(p, "seed", help="random seed of the simulation, the order of rows and the augmentation")
    p.add_argument(
        "--population", choices=("survey", "wide"), help=f"simulated population (default: {POPULATION})"
    )
    cli.add_shared(p, "workers", default=2)
    cli.add_shared(p, "extraction", help="extraction of prism and gratings")
    p.add_argument(
        "--grid",
        type=float,
        nargs=3,
        metavar=("START", "STOP", "SAMPLING"),
        help="unified grid: first and last wavelength [um], lambda/dlambda (default: 0.7 5.3 3000)",
    )
    p.add_argument("--flags", default="ABC", help="redshift flags that are kept")
    p.add_argument("--minimum-gratings", type=int, default=1, metavar="N", help="fewest gratings of a galaxy")
    p.add_argument(
        "--minimum-line-snr",
        type=float,
        metavar="X",
        help="Halpha, [O II] or [O III] must exceed it in the gratings (default: 5, no cut for a simulation)",
    )
    p.add_argument(
        "--realisations",
        type=int,
        metavar="N",
        help="augmented copies of each training galaxy (default: 20, none for a simulation)",
    )
    p.add_argument(
        "--test-fraction", type=float, default=0.2, metavar="X", help="fraction of sky groups held out"
    )
    p.add_argument("--validation-fraction", type=float, default=0.1, metavar="X", help="fraction of the rest")
    p.add_argument(
        "--split-seed", type=cli.at_least(0), default=0, metavar="N", help="random seed of the split"
    )


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
