"""Command line of the simulator: ``python -m data_pipeline.simulate``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from benchmarks.simulation_speed import measure_speed
from data_pipeline.pictures.simulation_check import draw_simulation_check
from data_pipeline.pictures.style import save_picture
from data_pipeline.simulation import SimulationConfig
from data_pipeline.simulation.archive import write_archive
from data_pipeline.simulation.check import compare
from data_pipeline.simulation.check_measurements import measure_simulation
from data_pipeline.simulation.comparison import report
from data_pipeline.simulation.draws import check_seed
from data_pipeline.workers import WorkerError
from data_pipeline.writers.atomic import replacing

_EXAMPLES = """examples:
  # 300 galaxies as JADES would release them, with catalogue and truth
  python -m data_pipeline.simulate --archive simulated --n 300 --seed 1
  # a wider population for training; interrupted runs go on where they were
  python -m data_pipeline.simulate --archive training --n 20000 --seed 2 --population wide
  # without noise (quoted errors stay), for tests of flux conservation
  python -m data_pipeline.simulate --archive clean --n 50 --seed 3 --noise-scale 0
  # simulated beside real, as a table and a picture
  python -m data_pipeline.simulate --check --check-output check
  # galaxies per second and memory
  python -m data_pipeline.simulate --benchmark
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.simulate",
        description="Simulates a JADES-like NIRSpec survey with known truth.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to do (one or more)")
    what.add_argument("--archive", type=Path, metavar="DIR", help="write a JADES-layout archive to DIR")
    what.add_argument("--check", action="store_true", help="compare a simulation with JADES")
    what.add_argument("--benchmark", action="store_true", help="measure speed and memory of the arrays")
    parser.add_argument("--n", type=int, help="number of observations (archive: required; check: 1500)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default %(default)s)")
    parser.add_argument(
        "--population",
        choices=("survey", "wide"),
        help="survey: JADES statistics (default); wide: for training, with more scatter and flat redshifts",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON file with a SimulationConfig")
    parser.add_argument("--noise-scale", type=float, metavar="X", help="factor on all noise (0 = none)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default %(default)s)")
    parser.add_argument(
        "--check-output", type=Path, metavar="DIR", help="where --check writes simulation_check.png and .txt"
    )
    return parser


def _config(arguments: argparse.Namespace) -> SimulationConfig:
    config = SimulationConfig.from_file(arguments.config) if arguments.config else SimulationConfig()
    if arguments.population:
        config = SimulationConfig(arguments.population, config.nuisances)
    if arguments.noise_scale is not None:
        config = replace(config, nuisances=replace(config.nuisances, noise_scale=arguments.noise_scale))
    return config


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not (arguments.archive or arguments.check or arguments.benchmark):
        parser.error("nothing to do: give --archive DIR --n N, --check or --benchmark (--help has examples)")
    if arguments.archive and arguments.n is None:
        parser.error("--archive needs --n, the number of observations")
    if arguments.n is not None and arguments.n < 1:
        parser.error(f"--n: expected 1 or more, got {arguments.n}")
    if arguments.workers < 1:
        parser.error(f"--workers: expected 1 or more, got {arguments.workers}")
    if arguments.check_output and not arguments.check:
        parser.error("--check-output goes with --check")
    try:
        check_seed(arguments.seed)
        config = _config(arguments)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        return _run(arguments, config)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except WorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {_unwritable(error, arguments)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        rest = "the same command goes on where it was" if arguments.archive else "nothing was kept"
        print(f"\ninterrupted; {rest}", file=sys.stderr)
        return 130


def _unwritable(error: OSError, arguments: argparse.Namespace) -> str:
    """What went wrong where, and the cure."""
    place = error.filename or arguments.archive or arguments.check_output
    return (
        f"{place}: {error.strerror or error}. --archive and --check-output take folders that can be "
        "written and have room (about 0.5 MB per observation); the same command then goes on where it was."
    )


def _run(arguments: argparse.Namespace, config: SimulationConfig) -> int:
    if arguments.check_output:  # before the work, not after it
        arguments.check_output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=arguments.check_output):
            pass
    if arguments.archive:
        catalogue = write_archive(arguments.archive, arguments.n, arguments.seed, config, arguments.workers)
        print(f"{arguments.n} observations in {arguments.archive}, catalogue {catalogue.name}")
    if arguments.check:
        _check(config, arguments.n or 1500, arguments.seed, arguments.check_output)
    if arguments.benchmark:
        _benchmark(config, arguments.n or 1024, arguments.seed, arguments.workers)
    return 0


def _check(config: SimulationConfig, n: int, seed: int, output: Path | None) -> None:
    with tqdm(total=n, desc="check", unit="galaxies") as bar:
        measured = measure_simulation(n, seed, config, bar.update)
    text = report(compare(measured), n)
    print(text, end="")
    if output:
        with replacing(output / "simulation_check.txt") as path:
            path.write_text(text, encoding="utf-8")
        picture = save_picture(draw_simulation_check(measured), output / "simulation_check.png")
        print(f"picture: {picture}")


def _benchmark(config: SimulationConfig, n: int, seed: int, workers: int) -> None:
    """Speed with gratings, and the largest memory of a fresh process for ``n`` and for ``4 n``."""
    for count in (n, 4 * n):
        result = measure_speed(count, seed, config, workers)
        print(
            f"{count} galaxies with gratings, {workers} processes: {result.rate:.0f} galaxies/s "
            f"({result.seconds:.1f} s after {result.start_up:.1f} s of start-up), "
            f"largest process {result.peak_memory:.0f} MB"
        )


if __name__ == "__main__":
    sys.exit(main())
