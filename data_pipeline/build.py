"""Command line: ``python -m data_pipeline.build``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.building.pipeline import BuildResult, build
from data_pipeline.building.sources import BuildConfig
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.matching import MatchConfig
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pairs.sky_groups import SPLITS, SplitConfig
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import POPULATIONS

POPULATION = "wide"  # training wants priors wider than the survey: DESIGN section 2, point 4
EXAMPLES = """examples:
  python -m data_pipeline.build --archive JADES_DR4 --output data
  python -m data_pipeline.build --archive spectra --catalogue z.csv --columns redshift=z,ra=RA --output data
  python -m data_pipeline.build --source simulation --n 20000 --seed 1 --output data
"""


def parser() -> argparse.ArgumentParser:
    """The command line; defaults are those of the configuration classes."""
    p = argparse.ArgumentParser(
        prog="python -m data_pipeline.build",
        description="Build training records from an archive of spectra and a redshift catalogue, "
        "or from simulation.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = BuildConfig(archive="-")
    shown = "default %(default)s"

    def add(name: str, help: str, **options) -> None:
        p.add_argument(name, help=help, **options)

    add("--output", "record directory; an interrupted build is continued", required=True, metavar="DIR")
    add("--source", "default: archive", choices=("archive", "simulation"))
    add("--archive", "top of a tree of x1d or spec.fits files", default="", metavar="DIR")
    add("--catalogue", "default: the one that lies in the archive", default="", metavar="FILE")
    add("--columns", "columns of a catalogue of your own", default="", metavar="OURS=THEIRS,...")
    add("--n", "number of simulated galaxies", type=int, default=0)
    add("--seed", shown, type=int, default=default.seed)
    add("--population", f"of a simulation; default {POPULATION}", choices=tuple(POPULATIONS))
    add("--workers", f"processes; {shown}", type=int, default=2)
    extraction = default.preprocessing.extraction
    add("--extraction", f"same for prism and gratings; {shown}", choices=("3pix", "5pix"), default=extraction)
    add(
        "--grid",
        "unified grid: first and last wavelength [um], lambda/dlambda; default 0.7 5.3 3000",
        type=float,
        nargs=3,
        metavar=("START", "STOP", "SAMPLING"),
    )
    add("--flags", f"redshift flags that are kept; {shown}", default=default.matching.flags)
    add("--minimum-gratings", shown, type=int, default=default.matching.minimum_gratings)
    add(
        "--minimum-line-snr",
        "Halpha, [O II] or [O III] must exceed it in the gratings; default 5, no cut for a simulation",
        type=float,
    )
    add(
        "--realisations",
        "augmented copies of each training galaxy; default 20, none for a simulation",
        type=int,
    )
    add("--test-fraction", f"of the sky groups; {shown}", type=float, default=default.split.test_fraction)
    validation = default.split.validation_fraction
    add("--validation-fraction", f"of what is not held out; {shown}", type=float, default=validation)
    add("--split-seed", shown, type=int, default=default.split.seed)
    add("--quiet", "no progress bars", action="store_true")
    return p


def config_from(args: argparse.Namespace) -> BuildConfig:
    """The configuration that a command line states."""
    source = args.source or ("archive" if args.archive else "simulation" if args.n else "archive")
    realisations, cut = args.realisations, args.minimum_line_snr
    if realisations is None:
        # A simulated galaxy is better drawn again than stretched: DESIGN section 3.2.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if a file could not be read or the build failed, 130 on Ctrl-C."""
    args = parser().parse_args(argv)
    started = time.monotonic()
    try:
        result = build(config_from(args), Path(args.output), args.workers, args.quiet)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    print(report(result, time.monotonic() - started))
    broken = unreadable(result)
    if broken:
        print(f"\n{len(broken)} objects could not be read:", *broken, sep="\n  ", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
