"""Figures of redshifts: against the true ones, P(z) and confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, note, styled
from kspecsr.evaluation.figures.panels import COLOURS, GUIDE, Arrays, Measured
from kspecsr.evaluation.methods import TITLES
from kspecsr.measures.calibration import PIT_BINS, ks_distance, pit_bin
from kspecsr.measures.redshift import CATASTROPHIC, CONFIDENCE, RIGHT, nmad, reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3  # panels of a method with P(z)
_PIT_WIDER = 2  # bins of the PIT that make one of the figure: galaxies are few


@styled
def draw_redshift(measured: Measured) -> Figure:
    """A row per method with P(z): redshift against the true one, PIT of P(z), reliability of Z_CONF.

    Methods with a redshift alone follow, several to a row. Bars of the reliability are one standard deviation
    of a binomial share; numbers are galaxies of a bin.

    Args:
        measured: method to `redshift_metrics.measure`; those without redshifts are left out.
    """
    shown = {
        name: {key: np.asarray(array, float) for key, array in arrays.items()}
        for name, arrays in measured.items()
        if np.isfinite(arrays["redshift_offset"]).any()
    }
    whole = [name for name in shown if np.isfinite(shown[name]["redshift_pit"]).any()]
    alone = [name for name in shown if name not in whole]
    count = max(len(whole) + -(-len(alone) // _COLUMNS), 1)
    figure = new_figure(2.6 * count)
    rows = figure.subplots(count, _COLUMNS, squeeze=False)
    for axes, name in zip([*rows[: len(whole), 0], *rows[len(whole) :].flat], [*whole, *alone], strict=False):
        _draw_against_truth(axes, shown[name]["redshift_true"], shown[name]["redshift_found"])
        axes.set_title(f"{TITLES[name]}\n{axes.get_title()}", fontsize=8)
    for axes, name in zip(rows, whole, strict=False):
        _draw_pit(axes[1], shown[name]["redshift_pit"], COLOURS[name])
        _draw_confidence(axes[2], shown[name], COLOURS[name])
    for axes in rows[len(whole) :].flat[len(alone) :]:
        axes.set_axis_off()
    if not shown:
        note(rows[0, 0], "no redshifts were measured")
    return figure


@styled
def draw_confidence(arrays: Arrays, method: str) -> Figure | None:
    """Reliability of a method's Z_CONF on everything that was judged, by itself; None without any.

    Args:
        arrays: its `redshift_metrics.measure`.
        method: its name.
    """
    if not np.isfinite(arrays["redshift_confidence"]).any():
        return None
    figure = new_figure(3.4)
    figure.set_figwidth(4.0)
    axes, count = figure.subplots(), np.isfinite(arrays["redshift_confidence"]).sum()
    values = {name: np.asarray(array, float) for name, array in arrays.items()}
    _draw_confidence(axes, values, COLOURS[method])
    axes.set_title(f"{TITLES[method]}: {count} spectra")
    return figure


def _draw_against_truth(axes: Axes, true: np.ndarray, inferred: np.ndarray) -> None:
    """Redshifts against the true ones, with NMAD and outliers in the title."""
    both = np.isfinite(true) & np.isfinite(inferred)
    true, inferred = true[both], inferred[both]
    offset = (inferred - true) / (1.0 + true)
    right = np.abs(offset) <= CATASTROPHIC
    for rows, colour in ((right, "#2347c5"), (~right, "#d55e00")):
        axes.scatter(true[rows], inferred[rows], s=4, color=colour, alpha=0.5, linewidths=0, rasterized=True)
    top = 1.05 * max(float(true.max(initial=1.0)), float(inferred.max(initial=1.0)))
    line = np.linspace(0.0, top, 50)
    axes.plot(line, line, color="0.2", linewidth=0.7)
    for sign in (-1, 1):
        axes.plot(line, line + sign * CATASTROPHIC * (1 + line), ":", color="0.4", linewidth=0.7)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="true z", ylabel="inferred z")
    axes.set_title(describe(offset), fontsize=8)


def describe(offset: np.ndarray) -> str:
    """NMAD and shares of outliers of dz / (1 + z), in two short lines."""
    if offset.size == 0:
        return "no galaxies"
    shares = [
        f">{limit:g}: {100.0 * np.mean(np.abs(offset) > limit):.1f} %" for limit in (CATASTROPHIC, RIGHT)
    ]
    return f"NMAD {nmad(offset):.2g}, n = {offset.size}\n{', '.join(shares)}"


def _draw_pit(axes: Axes, pit: np.ndarray, colour: str) -> None:
    counts = np.bincount(pit_bin(pit[np.isfinite(pit)]), minlength=PIT_BINS)
    coarse = counts.reshape(-1, _PIT_WIDER).sum(axis=1)
    density = coarse * coarse.size / coarse.sum()
    axes.axhline(1.0, **GUIDE)
    axes.stairs(density, np.linspace(0, 1, coarse.size + 1), color=colour, fill=True, alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(0, 1.35 * density.max()), xlabel="PIT of P(z)", ylabel="density")
    note(axes, f"KS distance {ks_distance(counts):.3f}")


def _draw_confidence(axes: Axes, arrays: Arrays, colour: str) -> None:
    place, right = reliability(arrays)
    axes.plot([0, 1], [0, 1], **GUIDE)
    for i in range(len(CONFIDENCE) - 1):
        rows = place == i
        n = int(rows.sum())
        if n == 0:
            continue
        stated, share = arrays["redshift_confidence"][rows].mean(), right[rows].mean()
        # one more of each, so that a bin without failures is not stated to be perfect
        expected = (right[rows].sum() + 1.0) / (n + 2.0)
        bar = np.sqrt(expected * (1.0 - expected) / n)
        axes.errorbar(stated, share, bar, fmt="o", color=colour, markersize=3.5, linewidth=0.9)
        # the last bins lie so close together that their numbers need a place each
        offset = (-5, 5) if stated > CONFIDENCE[-2] else (-6, -3)
        options = {"textcoords": "offset points", "fontsize": 6.5, "ha": "right"}
        axes.annotate(f"{n}", (stated, share), offset, **options)
    axes.set(xlim=(-0.1, 1.05), ylim=(-0.05, 1.15), xlabel="stated Z_CONF")
    axes.set_ylabel(f"share within {RIGHT} (1 + z)")
