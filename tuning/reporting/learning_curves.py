"""The goal of every trial after each of its epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipeline.pictures.style import new_figure, styled
from tuning.reporting.axis_scale import highest_shown
from tuning.reporting.parallel_coordinates import best_rows
from tuning.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
