"""All trials as lines across the axes of the search (the paper's Figure 5)."""

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
from tuning.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


BEST = 3  # trials that are highlighted
_INCH_PER_AXIS = 1.0
_LOST = "#bbbbbb"  # diverged or failed
_MAP = "viridis"


def scales(axes: Sequence[Axis], records: Sequence[TrialRecord]) -> list[AxisScale]:
    """All axes and the goal, in the order of the picture."""
    shown = highest_shown(records)
    return [*(axis_scale(axis, records) for axis in axes), goal_scale(records, shown)]


def best_rows(records: Sequence[TrialRecord]) -> list[int]:
    """Rows of the best trials, the best one first."""
    order = sorted(range(len(records)), key=lambda row: (records[row].goal, row))
    return [row for row in order if math.isfinite(records[row].goal)][:BEST]


@styled
def draw_parallel(axes: Sequence[Axis], records: Sequence[TrialRecord], title: str) -> Figure:
    """The picture, for paper.

    Args:
        axes: of the search.
        records: trials that have ended.
        title: above it.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = scales(axes, records)
    figure = Figure(figsize=(_INCH_PER_AXIS * len(columns) + 2.2, 4.6), layout="constrained")
    panel = figure.subplots()
    goals = np.array([record.goal for record in records])
    finite = goals[np.isfinite(goals)]
    norm = Normalize(float(finite.min(initial=math.inf)) if finite.size else 0.0, highest_shown(records))
    best = best_rows(records)
    table = np.array([column.positions for column in columns]).T  # (trials, columns)
    for row in sorted(range(len(records)), key=lambda each: -goals[each]):
        lost = not math.isfinite(goals[row])
        colour = _LOST if lost else colormaps[_MAP](norm(min(goals[row], norm.vmax)))
        x, y = _curve(table[row])
        if row in best:
            panel.plot(x, y, color="white", linewidth=4.2, zorder=3)
        panel.plot(
            x,
            y,
            color=colour,
            linewidth=2.4 if row in best else 0.9,
            alpha=1.0 if row in best else 0.6,
            linestyle=":" if lost else "-",
            zorder=3 if row in best else 2,
        )
    for place, column in enumerate(columns):
        panel.axvline(place, color="#333333", linewidth=0.8, zorder=4)
        for at, label in column.ticks.items():
            panel.plot([place - 0.03, place], [at, at], color="#333333", linewidth=0.8, zorder=4)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
            panel.text(place - 0.05, at, label, ha="right", va="center", fontsize=7, bbox=box, zorder=5)
    for row in best:
        label = f"trial {records[row].name}"
        panel.text(len(columns) - 0.95, table[row, -1], label, va="center", fontsize=7.5, fontweight="bold")
    _untangle(panel, len(best))
    panel.set_xticks(range(len(columns)), [column.title.replace("_", "\n", 1) for column in columns])
    panel.tick_params(axis="x", which="both", length=0, labelsize=8.5, labeltop=True, labelbottom=False)
    panel.set_yticks([])
    panel.set_xlim(-0.65, len(columns) - 0.25)
    panel.set_ylim(-0.04, 1.04)
    for side in panel.spines.values():
        side.set_visible(False)
    panel.set_title(title, loc="left", pad=10)
    bar = figure.colorbar(ScalarMappable(norm, _MAP), ax=panel, pad=0.01, fraction=0.03)
    bar.set_label("validation goal (lower is better)")
    return figure


def _untangle(panel, count: int) -> None:
    """Moves the last labels apart where they would overlap."""
    labels = sorted(panel.texts[-count:] if count else [], key=lambda text: text.get_position()[1])
    for below, above in itertools.pairwise(labels):
        lowest = below.get_position()[1] + 0.045
        if above.get_position()[1] < lowest:
            above.set_y(lowest)


def _curve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line through the values that leaves each axis level, so that it can be followed across."""
    share = np.linspace(0.0, 1.0, 24, endpoint=False)
    ease = share * share * (3.0 - 2.0 * share)
    x, y = [], []
    for place in range(len(values) - 1):
        x.append(place + share)
        y.append(values[place] + (values[place + 1] - values[place]) * ease)
    return np.append(np.concatenate(x), len(values) - 1), np.append(np.concatenate(y), values[-1])


def write_interactive(axes: Sequence[Axis], records: Sequence[TrialRecord], title: str, path: Path) -> None:
    """The same on screen, in one file that needs nothing else: ranges are selected by dragging on an axis.

    The best trials are selected to begin with; a click on the goal's axis shows all of them.

    Args:
        axes: of the search.
        records: trials that have ended.
        title: above it.
        path: HTML file.
    """
    import plotly.graph_objects as go

    columns = scales(axes, records)
    shown = highest_shown(records)
    goals = [min(record.goal, shown) for record in records]
    best = best_rows(records)
    dimensions = []
    for column in columns:
        ticks = dict(sorted(column.ticks.items()))
        dimension = {
            "label": column.title,
            "values": column.positions.tolist(),
            "range": [0.0, 1.0],
            "tickvals": list(ticks),
            "ticktext": list(ticks.values()),
        }
        if column is columns[-1] and best:
            dimension["constraintrange"] = [0.0, float(max(column.positions[row] for row in best)) + 1e-6]
        dimensions.append(dimension)
    numbers = [record.number for record in records]
    ends = (min(numbers), max(numbers)) if max(numbers) > min(numbers) else (numbers[0] - 1, numbers[0] + 1)
    dimensions.insert(0, {"label": "trial", "values": numbers, "range": ends})
    line = {
        "color": goals,
        "colorscale": "Viridis",
        "cmin": min(goals),
        "cmax": shown,
        "showscale": True,
        "colorbar": {"title": {"text": "goal"}},
    }
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, unselected={"line": {"opacity": 0.15}}))
    figure.update_layout(title={"text": title}, margin={"l": 70, "r": 40, "t": 110, "b": 40})
    text = figure.to_html(include_plotlyjs=True, full_html=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_COLOURS = ("#d55e00", "#0072b2", "#009e73")  # of the best ones
_OTHERS = "#9a9a9a"
_ROOM = 0.03  # of the panel's height, above and below


@styled
def draw_learning_curves(records: Sequence[TrialRecord], title: str) -> Figure:
    """Lines, the best ones in colour; a cross where a trial was stopped early.

    A few hopeless trials do not squeeze the others: what is above the panel stands at its upper edge.

    Args:
        records: trials.
        title: above it.
    """
    figure = new_figure(3.6)
    panel = figure.subplots()
    best = best_rows(records)
    top = highest_shown(records)
    clipped = False
    for row, record in enumerate(records):
        epochs = sorted(epoch for epoch, goal in record.curve.items() if math.isfinite(goal))
        if not epochs:
            continue
        goals = [min(record.curve[epoch], top) for epoch in epochs]
        clipped |= any(record.curve[epoch] > top for epoch in epochs)
        place = best.index(row) if row in best else None
        colour = _OTHERS if place is None else _COLOURS[place]
        label = f"trial {record.name}: {record.goal:.4f}" if place is not None else None
        width, order = (0.7, 2) if place is None else (1.8, 3)
        panel.plot(epochs, goals, color=colour, linewidth=width, label=label, zorder=order, marker=".", ms=4)
        if record.state == "stopped early":
            panel.plot(epochs[-1], goals[-1], "x", color=colour, ms=5, zorder=order)
    lowest = min((record.goal for record in records if math.isfinite(record.goal)), default=0.0)
    room = _ROOM * max(top - lowest, 1e-6)
    panel.set_ylim(lowest - room, top + room)
    if clipped:
        text = f"upper edge: {top:.3g} or more"
        panel.text(0.5, 0.97, text, transform=panel.transAxes, ha="center", va="top", fontsize=8)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.minorticks_off()
    panel.set_xlabel("epoch")
    panel.set_ylabel("validation goal (lower is better)")
    panel.set_title(title, loc="left", fontsize=9)
    if best:
        handles, labels = panel.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda place: labels[place].split()[-1])
        panel.legend([handles[place] for place in order], [labels[place] for place in order])
    return figure
