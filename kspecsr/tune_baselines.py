"""``kspecsr tune-baselines``: tune the classical deconvolutions that models are compared with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from data_pipeline import command_line as cli

if TYPE_CHECKING:
    from kspecsr.methods.tuned import TunedBaselines

EXAMPLES = """examples:
  # the record that ships
  kspecsr tune-baselines --n 300 --seed 11 --output kspecsr/methods/tuned_baselines.json
  # parameters that ship, with every setting that was tried
  kspecsr tune-baselines --show

Of the settings tried, the one with the smallest scale-free error is taken among those that preserve the
amplitude, the widths of lines and close pairs (kspecsr/methods/guards.py); an error norm alone would smooth
them away.
"""

_ROW = "{:<16} {:<26} {:>7} {:>9} {:>7} {:>7}  {}"


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--n", "number of galaxies", type=cli.at_least(1), default=300)
    cli.add(p, "--seed", "random seed of the galaxies", default=11)
    cli.add(p, "--output", "JSON file to write", type=Path, metavar="FILE")
    cli.add(p, "--show", "print the record that ships, and exit", action="store_true")


@cli.command("kspecsr tune-baselines", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Tune Wiener, Tikhonov and Richardson-Lucy on simulated validation galaxies."""
    # SciPy and the simulator: a second that --help does not wait
    import numpy as np

    from data_pipeline.writers.atomic import replacing
    from kspecsr.evaluation.sources import held_out_of
    from kspecsr.feeds import validation_examples
    from kspecsr.methods.tuned import SimulatedSample, candidates, read_tuned, tune

    if args.show:
        _print(read_tuned())
        return
    sample = SimulatedSample(args.n, args.seed)
    cli.say(f"simulating {sample.n} galaxies, seed {sample.seed}")
    examples = validation_examples(sample.n, sample.seed, sample.feed, sample.grid)
    held_out = held_out_of(examples, np.arange(sample.n), sample.grid)
    hidden = True if args.quiet else None  # None: where the output is no terminal
    with tqdm(total=1 + len(candidates()), unit="setting", disable=hidden, leave=False) as bar:
        tuned = tune(held_out, sample, tried=lambda trial: bar.update())
    _print(tuned)
    if args.output:
        with replacing(args.output) as temporary:
            temporary.write_text(tuned.to_json(), encoding="utf-8")
        print(f"written: {args.output}")


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
