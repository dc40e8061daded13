"""Pictures of a sweep: all trials as lines across the axes (the paper's Figure 5), and learning curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from data_pipeline.writers.atomic import replacing
from tuning.space import Axis
from tuning.trial_record import STOPPED, TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST = 3  # trials that are highlighted
_SPREAD = 0.6  # part of the room between two values of a list that their lines may use
_INCH_PER_AXIS = 1.0
_LOST = "#bbbbbb"  # diverged or failed
_MAP = "viridis"
_BEST_COLOURS = ("#d55e00", "#0072b2", "#009e73")
_OTHERS = "#9a9a9a"


@dataclass(frozen=True)
class AxisScale:
    """One upright axis of the picture.

    Attributes:
        title: text above it.
        positions: (trials,) height, 0 at the bottom to 1 at the top.
        ticks: height to label.
    """

    title: str
    positions: np.ndarray
    ticks: Mapping[float, str]


def axis_scale(axis: Axis, records: Sequence[TrialRecord]) -> AxisScale:
    """An axis of the search: logarithmic if it was searched so, list values evenly spaced.

    Lines through the same list value are spread beside it, the best lowest, so that each can be followed.

    Args:
        axis: axis of the search.
        records: trials.
    """
    values = [record.values[axis.name] for record in records]
    if not axis.choices:
        scaled = math.log10 if axis.log else float
        low, high = scaled(axis.low), scaled(axis.high)
        positions = [(scaled(value) - low) / (high - low) for value in values]
        ticks = {(scaled(tick) - low) / (high - low): f"{tick:g}" for tick in _ticks(axis)}
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


def _ticks(axis: Axis) -> list[float]:
    if axis.log:
        low, high = math.log10(axis.low), math.log10(axis.high)
        decades = [10.0**n for n in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
        return sorted({axis.low, *decades, axis.high})
    if axis.step:
        values = axis.values()
        return values if len(values) <= 7 else values[:: math.ceil(len(values) / 6)]
    return list(np.linspace(axis.low, axis.high, 6))


def goal_scale(records: Sequence[TrialRecord], clipped: float) -> AxisScale:
    """The axis of the goal; goals above ``clipped`` stand at the top."""
    goals = np.array([min(record.goal, clipped) for record in records])
    low = float(goals.min(initial=clipped))
    size = max(clipped - low, 1e-12)
    ticks = {(tick - low) / size: f"{tick:.3g}" for tick in np.linspace(low, clipped, 6)}
    if any(record.goal > clipped for record in records):
        ticks[list(ticks)[-1]] += " or more"
    return AxisScale("goal", (goals - low) / size, ticks)


def highest_shown(records: Sequence[TrialRecord]) -> float:
    """Highest goal that is told apart: hopeless trials would hide the differences between the rest."""
    finite = np.array([record.goal for record in records if math.isfinite(record.goal)])
    if finite.size == 0:
        return 1.0
    low, middle = float(finite.min()), float(np.median(finite))
    return float(min(finite.max(), middle + 2.0 * max(middle - low, 1e-9)))


def _columns(axes: Sequence[Axis], records: Sequence[TrialRecord]) -> list[AxisScale]:
    scales = [axis_scale(axis, records) for axis in axes]
    return [*scales, goal_scale(records, highest_shown(records))]


def best_rows(records: Sequence[TrialRecord]) -> list[int]:
    """Rows of the best trials, the best one first."""
    order = sorted(range(len(records)), key=lambda row: (records[row].goal, row))
    return [row for row in order if math.isfinite(records[row].goal)][:BEST]


@styled
def draw_parallel(axes: Sequence[Axis], records: Sequence[TrialRecord], title: str) -> Figure:
    """All trials as lines across the axes and the goal, for print; the best ones are thick.

    Args:
        axes: axes of the search.
        records: trials that have ended.
        title: text above the picture.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    shown, best = highest_shown(records), best_rows(records)
    columns = _columns(axes, records)
    figure = Figure(figsize=(_INCH_PER_AXIS * len(columns) + 2.2, 4.6), layout="constrained")
    panel = figure.subplots()
    norm = Normalize(records[best[0]].goal if best else 0.0, shown)
    table = np.array([column.positions for column in columns]).T  # (trials, columns)
    for row in sorted(range(len(records)), key=lambda each: -records[each].goal):  # the best on top
        goal, x, y = records[row].goal, *_curve(table[row])
        if not math.isfinite(goal):
            panel.plot(x, y, color=_LOST, linewidth=0.9, alpha=0.6, linestyle=":")
        elif row in best:
            panel.plot(x, y, color="white", linewidth=4.2, zorder=3)
            panel.plot(x, y, color=colormaps[_MAP](norm(goal)), linewidth=2.4, zorder=3)
        else:
            panel.plot(x, y, color=colormaps[_MAP](norm(min(goal, shown))), linewidth=0.9, alpha=0.6)
    _draw_axes(panel, columns)
    last = -math.inf
    for row in sorted(best, key=lambda each: table[each, -1]):
        last = max(table[row, -1], last + 0.045)  # labels do not overlap
        label = f"trial {records[row].name}"
        panel.text(len(columns) - 0.95, last, label, va="center", fontsize=7.5, fontweight="bold")
    panel.set_title(title, loc="left", pad=10)
    bar = figure.colorbar(ScalarMappable(norm, _MAP), ax=panel, pad=0.01, fraction=0.03)
    bar.set_label("validation goal (lower is better)")
    return figure


def _draw_axes(panel, columns: Sequence[AxisScale]) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    for place, column in enumerate(columns):
        panel.axvline(place, color="#333333", linewidth=0.8, zorder=4)
        for at, label in column.ticks.items():
            panel.plot([place - 0.03, place], [at, at], color="#333333", linewidth=0.8, zorder=4)
            panel.text(place - 0.05, at, label, ha="right", va="center", fontsize=7, bbox=box, zorder=5)
    panel.set_xticks(range(len(columns)), [column.title.replace("_", "\n", 1) for column in columns])
    panel.tick_params(axis="x", which="both", length=0, labelsize=8.5, labeltop=True, labelbottom=False)
    panel.set_yticks([])
    panel.set_xlim(-0.65, len(columns) - 0.25)
    panel.set_ylim(-0.04, 1.04)
    panel.spines[:].set_visible(False)


def _curve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line through the values that leaves each axis level, so that it can be followed across."""
    x = np.linspace(0.0, len(values) - 1.0, 24 * (len(values) - 1) + 1)
    left = np.minimum(x.astype(int), len(values) - 2)
    share = x - left
    return x, values[left] + (values[left + 1] - values[left]) * share**2 * (3.0 - 2.0 * share)


def write_interactive(axes: Sequence[Axis], records: Sequence[TrialRecord], title: str, path: Path) -> None:
    """The same for the screen, in one file that needs nothing else (Optuna's own selects no ranges).

    Ranges are selected by dragging on an axis. The best trials are selected to begin with; a click on the
    goal's axis shows all of them.

    Args:
        axes: axes of the search.
        records: trials that have ended.
        title: text above the picture.
        path: HTML file.
    """
    import plotly.graph_objects as go

    shown, best = highest_shown(records), best_rows(records)
    numbers = [record.number for record in records]
    dimensions = [{"label": "trial", "values": numbers, "range": [min(numbers) - 0.5, max(numbers) + 0.5]}]
    for column in _columns(axes, records):
        heights, labels = zip(*sorted(column.ticks.items()), strict=True)
        values = {"label": column.title, "values": column.positions.tolist(), "range": [0.0, 1.0]}
        dimensions.append({**values, "tickvals": heights, "ticktext": labels})
    if best:
        highest = max(dimensions[-1]["values"][row] for row in best)
        dimensions[-1]["constraintrange"] = [0.0, highest + 1e-6]
    goals = [min(record.goal, shown) for record in records]
    line = {"color": goals, "colorscale": "Viridis", "cmin": min(goals), "cmax": shown, "showscale": True}
    line["colorbar"] = {"title": {"text": "goal"}}
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, unselected={"line": {"opacity": 0.15}}))
    figure.update_layout(title={"text": title}, margin={"l": 70, "r": 40, "t": 110, "b": 40})
    with replacing(path) as temporary:
        temporary.write_text(figure.to_html(include_plotlyjs=True, full_html=True), encoding="utf-8")


@styled
def draw_learning_curves(records: Sequence[TrialRecord], title: str) -> Figure:
    """Goal after each epoch, the best trials in colour; a cross marks a trial that was stopped early.

    Args:
        records: trials.
        title: text above the picture.
    """
    figure = new_figure(3.6)
    panel = figure.subplots()
    top, best = highest_shown(records), best_rows(records)
    # the best ones last: on top of the others, and in the legend in their order
    for row in itertools.chain((row for row in range(len(records)) if row not in best), best):
        record = records[row]
        curve = np.array(sorted((e, goal) for e, goal in record.curve.items() if math.isfinite(goal)))
        if not curve.size:
            continue
        style = {"color": _OTHERS, "linewidth": 0.7}
        if row in best:
            label = f"trial {record.name}: {record.goal:.4f}"
            style = {"color": _BEST_COLOURS[best.index(row)], "linewidth": 1.8, "label": label}
        goals = np.minimum(curve[:, 1], top)
        panel.plot(curve[:, 0], goals, marker=".", ms=4, **style)
        if record.state == STOPPED:
            panel.plot(curve[-1, 0], goals[-1], "x", color=style["color"], ms=5)
    lowest = min((record.goal for record in records if math.isfinite(record.goal)), default=0.0)
    room = 0.03 * max(top - lowest, 1e-6)
    panel.set_ylim(lowest - room, top + room)
    if any(goal > top for record in records for goal in record.curve.values()):
        text = f"upper edge: {top:.3g} or more"
        panel.text(0.5, 0.97, text, transform=panel.transAxes, ha="center", va="top", fontsize=8)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.minorticks_off()
    panel.set_xlabel("epoch")
    panel.set_ylabel("validation goal (lower is better)")
    panel.set_title(title, loc="left", fontsize=9)
    if best:
        panel.legend()
    return figure
