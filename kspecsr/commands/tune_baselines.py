"""Command line that tunes the classical baselines: ``python -m kspecsr.methods``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kspecsr.methods.tuned import TunedBaselines

EXAMPLES = """examples:
  # what ships
  python -m kspecsr.methods --n 300 --seed 11 --output kspecsr/baselines/tuned_baselines.json
  # parameters that ship, with every setting that was tried
  python -m kspecsr.methods --show

Of the settings tried, the one with the least scale-free error is taken among those that keep amplitude,
widths of lines and close pairs (kspecsr/methods/guards.py); an error norm alone would smooth them away.
"""

_ROW = "{:<16} {:<26} {:>7} {:>9} {:>7} {:>7}  {}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kspecsr.methods",
        description="Tunes Wiener, Tikhonov and Richardson-Lucy on simulated validation galaxies.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--n", type=int, default=300, help="galaxies (default %(default)s)")
    parser.add_argument("--seed", type=int, default=11, help="of the galaxies (default %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file to write")
    parser.add_argument("--show", action="store_true", help="print the record that ships and leave")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.n < 1 or options.seed < 0:
        parser.error(f"expected --n of 1 or more and --seed of 0 or more, got {options.n} and {options.seed}")
    # SciPy and the simulator: a second that --help does not wait
    from kspecsr.methods.tuned import read_tuned

    try:
        if options.show:
            _print(read_tuned())
        else:
            _tune(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _tune(options: argparse.Namespace) -> None:
    import numpy as np
    from tqdm import tqdm

    from data_pipeline.writers.atomic import replacing
    from kspecsr.evaluation.sources import held_out_of
    from kspecsr.feeds import validation_examples
    from kspecsr.methods.tuned import SimulatedSample, candidates, tune

    sample = SimulatedSample(options.n, options.seed)
    print(f"simulating {sample.n} galaxies, seed {sample.seed}", flush=True)
    examples = validation_examples(sample.n, sample.seed, sample.feed, sample.grid)
    held_out = held_out_of(examples, np.arange(sample.n), sample.grid)
    with tqdm(total=1 + len(candidates()), unit="setting", disable=None, leave=False) as bar:
        tuned = tune(held_out, sample, tried=lambda trial: bar.update())
    _print(tuned)
    if options.output:
        with replacing(options.output) as temporary:
            temporary.write_text(tuned.to_json(), encoding="utf-8")
        print(f"written: {options.output}")


def _print(tuned: TunedBaselines) -> None:
    print(
        f"{tuned.galaxies} galaxies, {tuned.lines} bright lines that stand alone, "
        f"{tuned.pairs} resolvable pairs"
    )
    print(_ROW.format("method", "parameters", "error", "amplitude", "width", "pairs", "verdict"))
    for trial in tuned.trials:
        parameters = ", ".join(f"{name} {value:g}" for name, value in trial.parameters.items())
        numbers = [
            "-" if value is None else f"{value:.4f}"
            for value in (trial.error, trial.amplitude, trial.width, trial.pairs)
        ]
        verdict = ["chosen"] * trial.chosen + [f"fails {', '.join(trial.failed)}"] * bool(trial.failed)
        print(_ROW.format(trial.method, parameters, *numbers, " ".join(verdict)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
