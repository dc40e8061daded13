"""``kspecsr data simulate``: a JADES-like survey with known truth."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import command_line as cli

if TYPE_CHECKING:
    from data_pipeline.simulation import SimulationConfig

EXAMPLES = """examples:
  # 300 galaxies as JADES would release them, with catalogue and truth
  kspecsr data simulate --archive simulated --n 300 --seed 1
  # a wider population for training; rerun the same command to resume
  kspecsr data simulate --archive training --n 20000 --seed 2 --population wide
  # galaxies and everything else that a slit sees: brown dwarfs, stars, two sources, wrong backgrounds
  kspecsr data simulate --archive open --n 1000 --seed 4 --population open-sky
  # without noise (quoted errors stay), for tests of flux conservation
  kspecsr data simulate --archive clean --n 50 --seed 3 --noise-scale 0
  # simulated beside real, as a table and a picture
  kspecsr data simulate --check --check-output check
  # continua too: breaks, equivalent widths and slopes beside those of real gratings and prism spectra
  kspecsr data simulate --check --population sky --check-gratings real_gratings --check-spectra real_spectra
"""


def _options(p: argparse.ArgumentParser) -> None:
    what = p.add_argument_group("what to do (one or both)")
    cli.add(what, "--archive", "write a JADES-layout archive to DIR", type=Path, default=None)
    cli.add(what, "--check", "compare a simulation with JADES", action="store_true")
    cli.add(
        p, "--n", "number of observations (archive: required; check: 1500 by default)", type=cli.at_least(1)
    )
    cli.add(p, "--seed", default=1, type=int)
    cli.add(p, "--population")
    cli.add(p, "--lines", "list of lines, 67 or 93 (default: first)", choices=("first", "second"))
    cli.add(p, "--config", "JSON file with a SimulationConfig", type=Path, metavar="FILE")
    cli.add(p, "--noise-scale", "factor on all noise (0 = none)", type=float)
    cli.add(p, "--workers", default=2, type=cli.at_least(1))
    cli.add(
        p, "--check-output", "where --check writes simulation_check.png and .txt", type=Path, metavar="DIR"
    )
    for what in ("gratings", "spectra"):
        cli.add(p, f"--check-{what}", f"real {what} for --check", type=Path, metavar="DIR")


@cli.command(
    "kspecsr data simulate",
    EXAMPLES,
    _options,
    interrupted=lambda args: cli.RESUMES if args.archive else cli.NOTHING_WRITTEN,
)
def main(args: argparse.Namespace) -> None:
    """Simulate a JADES-like NIRSpec survey with known truth."""
    if not (args.archive or args.check):
        raise cli.OptionError("nothing to do: give --archive DIR --n N or --check (--help has examples)")
    if args.archive and args.n is None:
        raise cli.OptionError("--archive needs --n, the number of observations")
    for what in ("output", "gratings", "spectra"):
        folder = getattr(args, f"check_{what}")
        if folder and not args.check:
            raise cli.OptionError(f"--check-{what} goes with --check")
        if folder and what != "output" and not folder.exists():
            cli.say(f"--check-{what}: {folder} is not there; the check goes without it")
    # a second of SciPy and astropy: not for --help
    from data_pipeline.simulation.archive import write_archive
    from data_pipeline.simulation.draws import check_seed
    from data_pipeline.workers import WorkerError

    with cli.interpreting_options():
        check_seed(args.seed)
        config = _config(args)
    try:
        if args.check_output:  # before the work, not after it
            args.check_output.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=args.check_output):
                pass
        if args.archive:
            catalogue = write_archive(
                args.archive, args.n, args.seed, config, args.workers, progress=not args.quiet
            )
            print(f"{args.n} observations in {args.archive}, catalogue {catalogue.name}")
        if args.check:
            _check(config, args)
    except ValueError as error:  # for instance an archive of other settings in that folder
        raise cli.OptionError(str(error)) from error
    except WorkerError:
        raise
    except OSError as error:
        place = error.filename or args.archive or args.check_output
        raise OSError(
            f"{place}: {error.strerror or error}. --archive and --check-output take folders that can be "
            f"written and have room (about 0.5 MB per observation); then {cli.RESUMES}."
        ) from error


def _config(args: argparse.Namespace) -> SimulationConfig:
    from data_pipeline.simulation import SimulationConfig

    config = SimulationConfig.from_file(args.config) if args.config else SimulationConfig()
    if args.population:
        config = replace(config, population=args.population)
    if args.lines:
        config = replace(config, lines=args.lines)
    if args.noise_scale is not None:
        config = replace(config, nuisances=replace(config.nuisances, noise_scale=args.noise_scale))
    return config


def _check(config: SimulationConfig, args: argparse.Namespace) -> None:
    try:
        from benchmarks.simulation_picture import check
    except ModuleNotFoundError as error:
        raise cli.OptionError(
            "--check needs a clone of the repository, whose benchmarks/ hold what it compares with"
        ) from error
    folders = (args.check_gratings, args.check_spectra)
    check(config, args.n or 1500, args.seed, args.check_output, args.quiet, *folders)


if __name__ == "__main__":
    sys.exit(main())
