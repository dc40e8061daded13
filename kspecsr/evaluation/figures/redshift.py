"""Redshifts against the true ones, P(z), and what the stated confidence is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, note, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.gaussian_calibration import PIT_BINS, ks_distance, pit_bin
from kspecsr.measures.redshift import CATASTROPHIC, CONFIDENCE, RIGHT, nmad, reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIT_WIDER = 2  # bins of the PIT that make one of the figure: galaxies are few


@styled
def draw_redshift(measured: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """A row per method: redshift against the true one, PIT of P(z), reliability of Z_CONF.

    Bars of the reliability are one standard deviation of a binomial share; numbers are galaxies of a bin.

    Args:
        measured: method to `redshift_metrics.measure`; those without redshifts are left out.
    """
    shown = {
        name: {key: np.asarray(array, float) for key, array in arrays.items()}
        for name, arrays in measured.items()
        if np.isfinite(arrays["redshift_offset"]).any()
    }
    figure = new_figure(2.6 * max(len(shown), 1))
    rows = figure.subplots(max(len(shown), 1), 3, squeeze=False, width_ratios=(1.15, 1.0, 1.0))
    colours = method_colours(shown)
    for axes, (name, arrays) in zip(rows, shown.items(), strict=False):
        draw_against_truth(axes[0], arrays["redshift_true"], arrays["redshift_found"])
        axes[0].set_title(f"{method_title(name)}\n{axes[0].get_title()}", fontsize=8)
        _draw_pit(axes[1], arrays["redshift_pit"], colours[name])
        _draw_reliability(axes[2], arrays, colours[name])
    if not shown:
        for axes in rows[0]:
            axes.set_axis_off()
        note(rows[0, 0], "no redshifts were measured")
    return figure


def draw_against_truth(axes: Axes, true: np.ndarray, found: np.ndarray) -> None:
    """Redshifts against the true ones, with NMAD and outliers in the title.

    Args:
        axes: where.
        true: (n,) true redshifts; NaN is left out.
        found: (n,) estimates.
    """
    both = np.isfinite(true) & np.isfinite(found)
    true, found = true[both], found[both]
    offset = (found - true) / (1.0 + true)
    right = np.abs(offset) <= CATASTROPHIC
    for rows, colour in ((right, "#2347c5"), (~right, "#d55e00")):
        axes.scatter(true[rows], found[rows], s=4, color=colour, alpha=0.5, linewidths=0, rasterized=True)
    top = 1.05 * max(float(true.max(initial=1.0)), float(found.max(initial=1.0)))
    line = np.linspace(0.0, top, 50)
    axes.plot(line, line, color="0.2", linewidth=0.7)
    for sign in (-1, 1):
        axes.plot(line, line + sign * CATASTROPHIC * (1 + line), ":", color="0.4", linewidth=0.7)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="true z", ylabel="inferred z")
    axes.set_title(describe_offsets(offset), fontsize=8)


def describe_offsets(offset: np.ndarray) -> str:
    """NMAD and shares of outliers in two short lines.

    Args:
        offset: dz / (1 + z).
    """
    if offset.size == 0:
        return "no galaxies"
    shares = [
        f">{limit:g}: {100.0 * np.mean(np.abs(offset) > limit):.1f} %" for limit in (CATASTROPHIC, RIGHT)
    ]
    return f"NMAD {nmad(offset):.2g}, n = {offset.size}\n{', '.join(shares)}"


def _draw_pit(axes: Axes, pit: np.ndarray, colour: str) -> None:
    counts = np.bincount(pit_bin(pit[np.isfinite(pit)]), minlength=PIT_BINS)
    axes.set(xlim=(0, 1), xlabel="PIT of P(z)", ylabel="density")
    axes.axhline(1.0, linestyle=":", color="0.4", linewidth=0.8)
    if counts.sum() == 0:
        return
    coarse = counts.reshape(-1, _PIT_WIDER).sum(axis=1)
    density = coarse * coarse.size / coarse.sum()
    axes.stairs(density, np.linspace(0, 1, coarse.size + 1), color=colour, fill=True, alpha=0.6)
    axes.set_ylim(0, 1.35 * density.max())
    note(axes, f"KS distance {ks_distance(counts):.3f}")


def _draw_reliability(axes: Axes, arrays: Mapping[str, np.ndarray], colour: str) -> None:
    place, right = reliability(arrays)
    axes.plot([0, 1], [0, 1], ":", color="0.4", linewidth=0.8)
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
        place_of_text = (-5, 5) if stated > CONFIDENCE[-2] else (-6, -3)
        axes.annotate(
            f"{n}", (stated, share), place_of_text, textcoords="offset points", fontsize=6.5, ha="right"
        )
    axes.set(xlim=(-0.1, 1.05), ylim=(-0.05, 1.15), xlabel="stated Z_CONF")
    axes.set_ylabel(f"share within {RIGHT} (1 + z)")
