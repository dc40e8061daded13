"""Choosing the baselines' parameters: least error on validation galaxies among those that pass the guards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kspecsr.baselines.cubic import CubicInterpolation
from kspecsr.baselines.guards import Figures, GuardedSample, Limits
from kspecsr.baselines.protocol import Baseline
from kspecsr.baselines.tuned import SimulatedSample, Trial, TunedBaselines, make_baseline
from kspecsr.evaluation.held_out import HeldOut

# What is tried: every combination. Factors of two to three, between next to no regularisation and one that
# erases lines.
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
    """Every setting that is tried."""
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
    """Tries every setting of `SEARCH`.

    A setting that passes the guards of ``limits`` and has the least median scale-free error is chosen; where
    none passes, the one that exceeds the limits by the least sum, and its trial says which it fails.

    Args:
        held_out_validation: galaxies with their truth, none of which may be judged later.
        sample: where they came from, for the record.
        limits: of the guards.
        tried: called after each setting.

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
        found = [trial for _, trial in ranked]
        found[best] = replace(found[best], chosen=True)
        chosen[method] = found[best].parameters
        trials += found
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
    """Passing before failing, nearer before farther, then by error."""
    return sum(violations.values()), figures.error if math.isfinite(figures.error) else math.inf


def _trial(baseline: Baseline, figures: Figures, violations: dict[str, float]) -> Trial:
    measured = {
        name: round(value, 6) if math.isfinite(value) else None for name, value in vars(figures).items()
    }
    parameters = {name: float(value) for name, value in baseline.parameters.items()}
    return Trial(baseline.name, parameters, **measured, failed=tuple(violations))
