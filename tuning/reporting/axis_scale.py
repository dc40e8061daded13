"""Where a value stands on an axis of a parallel-coordinates picture, the same on paper and on screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuning.axis import Axis
from tuning.trial_record import TrialRecord

_SPREAD = 0.6  # of the room between two values of a list that their lines may use


@dataclass(frozen=True)
class AxisScale:
    """One upright axis.

    Attributes:
        title: above it.
        positions: (trials,) 0 at the bottom to 1 at the top.
        ticks: position to label.
    """

    title: str
    positions: np.ndarray
    ticks: Mapping[float, str]


def axis_scale(axis: Axis, records: Sequence[TrialRecord]) -> AxisScale:
    """An axis of the search: logarithmic where it was searched so, list values evenly spaced.

    Lines through the same list value are spread beside it, the best lowest, so that each can be followed.

    Args:
        axis: of the search.
        records: trials.
    """
    values = [record.values[axis.name] for record in records]
    if not axis.choices:
        low, high = (_scaled(axis, end) for end in (axis.low, axis.high))
        positions = [(_scaled(axis, value) - low) / (high - low) for value in values]
        ticks = {(_scaled(axis, tick) - low) / (high - low): f"{tick:g}" for tick in _ticks(axis)}
        return AxisScale(axis.name, np.array(positions), ticks)
    count = len(axis.choices)
    places = {value: (index + 0.5) / count for index, value in enumerate(axis.choices)}
    positions = np.array([places[axis.nearest(value)] for value in values], float)
    goals = np.array([record.goal for record in records])
    for place in places.values():
        same = np.flatnonzero(positions == place)
        ranks = np.argsort(np.argsort(goals[same], kind="stable"), kind="stable")
        share = (ranks + 0.5) / max(len(same), 1) - 0.5
        positions[same] = place + _SPREAD * share / count
    return AxisScale(axis.name, positions, {place: f"{value}" for value, place in places.items()})


def goal_scale(records: Sequence[TrialRecord], clipped: float) -> AxisScale:
    """The axis of the goal; what is above ``clipped`` stands at the top."""
    goals = np.array([min(record.goal, clipped) for record in records])
    low = float(goals.min(initial=clipped))
    size = max(clipped - low, 1e-12)
    ticks = {(tick - low) / size: f"{tick:.3g}" for tick in np.linspace(low, clipped, 6)}
    if any(record.goal > clipped for record in records):
        ticks[list(ticks)[-1]] += " or more"
    return AxisScale("goal", (goals - low) / size, ticks)


def highest_shown(records: Sequence[TrialRecord]) -> float:
    """Goal above which differences are not shown: a few hopeless trials would hide those between the rest."""
    finite = np.array([record.goal for record in records if math.isfinite(record.goal)])
    if finite.size == 0:
        return 1.0
    low, middle = float(finite.min()), float(np.median(finite))
    return float(min(finite.max(), middle + 2.0 * max(middle - low, 1e-9)))


def _scaled(axis: Axis, value: float) -> float:
    return math.log10(float(value)) if axis.log else float(value)


def _ticks(axis: Axis) -> list[float]:
    if axis.log:
        low, high = math.log10(axis.low), math.log10(axis.high)
        decades = [10.0**n for n in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
        return sorted({axis.low, *decades, axis.high})
    if axis.step:
        values = axis.values()
        return values if len(values) <= 7 else values[:: math.ceil(len(values) / 6)]
    return list(np.linspace(axis.low, axis.high, 6))
