"""``kspecsr tune-baselines``, in a clone: tune the classical deconvolutions under guards."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.baseline_guards import Figures, GuardedSample, Limits
from data_pipeline import command_line as cli
from data_pipeline.configuration import from_dict, to_dict
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import FeedConfig
from kspecsr.evaluation.sources import held_out_of
from kspecsr.feeds.simulated import validation_examples
from kspecsr.measures.held_out import HeldOut
from kspecsr.methods.baseline import Baseline, CubicInterpolation
from kspecsr.methods.tuned import SHIPPED, make_baseline

EXAMPLES = """examples:
  # the record that ships
  kspecsr tune-baselines --n 300 --seed 11 --output kspecsr/methods/tuned_baselines.json
  # parameters that ship, with every setting that was tried
  kspecsr tune-baselines --show

Of the settings tried, the one with the smallest scale-free error is taken among those that preserve the
amplitude, the widths of lines and close pairs (benchmarks/baseline_guards.py); an error norm alone would
smooth them away.
"""


@dataclass(frozen=True)
class Trial:
    """One setting with its `benchmarks.baseline_guards.Figures`, None where not measured.

    Attributes:
        method: name of the baseline.
        parameters: name to number.
        error, amplitude, width, pairs: see there.
        failed: names of the guards that it fails.
        chosen: best of its method: the least error of those that pass, or else the nearest to passing.
    """

    method: str
    parameters: dict[str, float]
    error: float | None
    amplitude: float | None
    width: float | None
    pairs: float | None
    failed: tuple[str, ...] = ()
    chosen: bool = False


@dataclass(frozen=True)
class SimulatedSample:
    """Arguments of `kspecsr.feeds.simulated.validation_examples` that give the galaxies of a tuning.

    Attributes:
        n: number of galaxies.
        seed: of the simulation.
        feed: population and nuisances.
        grid: unified grid.
    """

    n: int = 300
    seed: int = 11
    feed: FeedConfig = FeedConfig(population="survey")  # noqa: RUF009 (frozen)
    grid: UnifiedGrid = UNIFIED_GRID


@dataclass(frozen=True)
class TunedBaselines:
    """Parameters of the baselines, and the tuning that found them.

    Attributes:
        tikhonov, wiener, richardson_lucy: name to number.
        galaxies: number of galaxies.
        lines: number of isolated lines on which widths were measured.
        pairs: number of [O III] pairs that the prism could resolve.
        sample: simulation of the galaxies; None where the caller gave them.
        limits: limits of the guards.
        trials: all settings, cubic interpolation first.
    """

    tikhonov: dict[str, float]
    wiener: dict[str, float]
    richardson_lucy: dict[str, float]
    galaxies: int
    lines: int
    pairs: int
    sample: SimulatedSample | None
    limits: Limits
    trials: tuple[Trial, ...]

    def to_json(self) -> str:
        """The record as JSON text."""
        content = to_dict(self)
        trials = content.pop("trials")
        text = json.dumps(content, indent=1)
        # a line per trial: a table that can be read
        rows = ",\n  ".join(json.dumps(trial) for trial in trials)
        return f'{text[:-2]},\n "trials": [\n  {rows}\n ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> TunedBaselines:
        """Inverse of `to_json`.

        Raises:
            ValueError: for text that is not such a record, naming the key.
        """
        return from_dict(cls, json.loads(text), "tuned baselines")


def read_tuned(path: str | os.PathLike = SHIPPED) -> TunedBaselines:
    """Read a record of ``kspecsr tune-baselines``; by default the one that ships.

    Raises:
        ValueError: for a file that is not such a record, naming it.
    """
    try:
        return TunedBaselines.from_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; kspecsr tune-baselines --output {path} writes one") from None


# The search grid. Factors of two to three, between next to no regularisation and one that erases lines.
SEARCH: dict[str, dict[str, tuple[float, ...]]] = {
    "wiener": {"amplitude": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), "length": (3.0, 10.0, 30.0, 100.0)},
    "tikhonov": {"strength": (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)},
    "richardson_lucy": {
        "iterations": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
        "offset": (2.0, 4.0, 8.0),
    },
}
CHUNK = 128  # galaxies at a time


def candidates() -> list[Baseline]:
    """All settings of the search grid."""
    return [
        make_baseline(method, dict(zip(space, values, strict=True)))
        for method, space in SEARCH.items()
        for values in itertools.product(*space.values())
    ]


def tune(
    held_out_validation: HeldOut,
    sample: SimulatedSample | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    tried: Callable[[Trial], None] = lambda trial: None,
) -> TunedBaselines:
    """Grid search over `SEARCH` under guards.

    A setting that passes the guards of ``limits`` and has the least median scale-free error is chosen; where
    none passes, the one that exceeds the limits by the least sum, and its trial says which it fails.

    Args:
        held_out_validation: galaxies with their truth; none of them may be used for evaluation.
        sample: simulation of the galaxies, for the record.
        limits: of the guards.
        tried: called with each trial.

    Raises:
        ValueError: without a bright line that stands alone, or without a resolvable pair: then a guard
            would pass everything.
    """
    guarded = GuardedSample(held_out_validation)
    if not len(guarded.lines) or not len(guarded.pairs):
        raise ValueError(
            f"tuning: {len(held_out_validation)} galaxies with {len(guarded.lines)} bright lines that stand "
            f"alone and {len(guarded.pairs)} resolvable [O III] pairs; expected some of both, "
            "take more galaxies"
        )
    cubic = CubicInterpolation()
    reference = _figures(cubic, held_out_validation, guarded)
    trials = [_trial(cubic, reference, {})]
    tried(trials[0])
    chosen: dict[str, dict[str, float]] = {}
    for method, baselines in itertools.groupby(candidates(), key=lambda baseline: baseline.name):
        ranked = []
        for baseline in baselines:
            figures = _figures(baseline, held_out_validation, guarded)
            violations = limits.violations(figures, reference)
            ranked.append((_rank(figures, violations), _trial(baseline, figures, violations)))
            tried(ranked[-1][1])
        best = min(range(len(ranked)), key=lambda number: ranked[number][0])
        tried_out = [trial for _, trial in ranked]
        tried_out[best] = replace(tried_out[best], chosen=True)
        chosen[method] = tried_out[best].parameters
        trials += tried_out
    return TunedBaselines(
        **chosen,
        galaxies=len(held_out_validation),
        lines=len(guarded.lines),
        pairs=len(guarded.pairs),
        sample=sample,
        limits=limits,
        trials=tuple(trials),
    )


def _figures(baseline: Baseline, held_out: HeldOut, guarded: GuardedSample) -> Figures:
    flux = np.concatenate(
        [
            baseline.reconstruct(part.prism_flux, part.prism_error, part.prism_mask, part.grid)[0]
            for part in (
                held_out.rows(slice(first, first + CHUNK)) for first in range(0, len(held_out), CHUNK)
            )
        ]
    )
    return guarded.figures(flux)


def _rank(figures: Figures, violations: dict[str, float]) -> tuple[float, float]:
    """Sort key: by violation of the guards, then by error."""
    return sum(violations.values()), figures.error if math.isfinite(figures.error) else math.inf


def _trial(baseline: Baseline, figures: Figures, violations: dict[str, float]) -> Trial:
    measured = {
        name: round(value, 6) if math.isfinite(value) else None for name, value in vars(figures).items()
    }
    parameters = {name: float(value) for name, value in baseline.parameters.items()}
    return Trial(baseline.name, parameters, **measured, failed=tuple(violations))


_ROW = "{:<16} {:<26} {:>7} {:>9} {:>7} {:>7}  {}"


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--n", "number of galaxies", type=cli.at_least(1), default=300)
    cli.add(p, "--seed", "random seed of the galaxies", default=11)
    cli.add(p, "--output", "JSON file to write", type=Path, metavar="FILE")
    cli.add(p, "--show", "print the record that ships, and exit", action="store_true")


@cli.command("kspecsr tune-baselines", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Tune Wiener, Tikhonov and Richardson-Lucy on simulated validation galaxies."""
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
