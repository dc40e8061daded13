"""Tuned parameters of the baselines: the record of a tuning, and the one that ships."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.configuration import from_dict, to_dict
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from kspecsr.baselines.cubic import CubicInterpolation
from kspecsr.baselines.guards import Limits
from kspecsr.baselines.protocol import Baseline
from kspecsr.baselines.richardson_lucy import RichardsonLucy
from kspecsr.baselines.tikhonov import Tikhonov
from kspecsr.baselines.wiener import Wiener
from kspecsr.configuration import FeedConfig

SHIPPED = Path(__file__).with_name("tuned_baselines.json")


@dataclass(frozen=True)
class Trial:
    """One setting that was tried, with its `kspecsr.baselines.guards.Figures`; None if not measured.

    Attributes:
        method: name of the baseline.
        parameters: name to number.
        error, amplitude, width, pairs: see there.
        failed: guards that it fails.
        chosen: it is the best of its method: least error of those that pass, or else nearest to passing.
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
    """The galaxies of `kspecsr.feeds.validation_examples` that were used.

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
    """Parameters of every baseline that has some, and how they were found.

    Attributes:
        tikhonov, wiener, richardson_lucy: name to number.
        galaxies: that were used.
        lines: that stand alone, on which widths were measured.
        pairs: [O III] pairs that the prism could resolve.
        sample: where the galaxies came from; None where the caller gave them.
        limits: of the guards.
        trials: all that was tried, cubic interpolation first.
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

    @property
    def unguarded(self) -> tuple[str, ...]:
        """Methods of which no setting passed the guards."""
        return tuple(trial.method for trial in self.trials if trial.chosen and trial.failed)

    def to_json(self) -> str:
        """As a file holds it."""
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
            ValueError: for text that is no such record, naming the key.
        """
        return from_dict(cls, json.loads(text), "tuned baselines")


def read_tuned(path: str | os.PathLike = SHIPPED) -> TunedBaselines:
    """Reads a record that ``python -m kspecsr.baselines`` wrote; without a path the one that ships.

    Raises:
        ValueError: for a file that is none, naming it.
    """
    try:
        return TunedBaselines.from_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; python -m kspecsr.baselines --output {path} writes one") from None


def make_baseline(method: str, parameters: Mapping[str, float]) -> Baseline:
    """A baseline by its name.

    Raises:
        ValueError: for an unknown name or parameter, listing the known ones.
    """
    if method not in METHODS:
        raise ValueError(f"baseline {method!r} is unknown; expected one of {', '.join(METHODS)}")
    wrong = sorted(set(parameters) ^ set(METHODS[method]().parameters))
    if wrong:
        raise ValueError(
            f"{method}: unknown or missing parameter {', '.join(wrong)}; expected "
            f"{', '.join(METHODS[method]().parameters) or 'none'}"
        )
    return METHODS[method](**parameters)


def default_baselines(tuned: TunedBaselines | None = None) -> list[Baseline]:
    """The four baselines: cubic interpolation, Wiener, Tikhonov, Richardson-Lucy.

    Args:
        tuned: their parameters; None for those that ship.
    """
    tuned = tuned or read_tuned()
    return [
        make_baseline(method, {} if method == CubicInterpolation.name else getattr(tuned, method))
        for method in METHODS
    ]


METHODS = {baseline.name: baseline for baseline in (CubicInterpolation, Wiener, Tikhonov, RichardsonLucy)}
