"""Errors of line ratios, all methods beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.line_ratios import RATIOS, closer_than_prism, fainter_snr, ratio_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIMIT = 1.0  # dex


@styled
def draw_line_ratios(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, Mapping[str, np.ndarray]]
) -> Figure:
    """Recovered over true ratio [dex]: median, 16th to 84th percentile; a panel per ratio, a row per method.

    Ratios whose fainter side has true S/N > 3. Filled: the prism resolves the pair; open: it blends it.
    At the right: share of ratios with a side at zero or less, which have no logarithm.

    Args:
        columns: of the held-out galaxies.
        measured: method to `line_ratios.measure`; methods without any ratio are left out.
    """
    shown = {name: m for name, m in measured.items() if (m["ratio_measured"] > 0).any()}
    figure = new_figure(1.3 + 0.4 * max(len(shown), 2))
    panels = figure.subplots(1, len(RATIOS), sharey=True)
    colours = method_colours(shown)
    enough = dict(ratio_parts(columns)).get("", np.zeros(fainter_snr(columns).shape, bool))
    near = closer_than_prism(columns["redshift"])
    place = np.arange(len(shown))[::-1]
    for number, (axes, ratio) in enumerate(zip(panels, RATIOS.values(), strict=True)):
        axes.axvline(0.0, linestyle="--", color="0.5", linewidth=0.7)
        for y, (method, arrays) in zip(place, shown.items(), strict=True):
            use = enough[:, number] & (arrays["ratio_measured"][:, number] > 0)
            error = arrays["ratio_error"][:, number].astype(float)
            for blended, offset in ((False, 0.14), (True, -0.14)):
                chosen = error[use & (near[:, number] == blended)]
                _draw(axes, chosen, y + offset, colours[method], blended)
            lost = f"{np.mean(~np.isfinite(error[use])):.0%}" if use.any() else ""
            axes.text(
                0.93, y, lost, ha="right", va="center", fontsize=6.5, transform=axes.get_yaxis_transform()
            )
        axes.set_title(f"{ratio.title}\nn = {int(enough[:, number].sum())}", fontsize=8)
        axes.set(xlim=(-_LIMIT, _LIMIT * 1.25), ylim=(-0.6, max(len(shown), 1) - 0.4))
        axes.set_xticks([-0.5, 0.0, 0.5], ["−0.5", "0", "0.5"], fontsize=7)
        axes.tick_params(axis="y", which="minor", left=False, right=False)
    panels[0].set_yticks(place, [method_title(name) for name in shown])
    panels[len(RATIOS) // 2].set_xlabel(
        "recovered / true ratio [dex]   (filled: resolved by the prism, open: blended)"
    )
    return figure


def _draw(axes: Axes, error: np.ndarray, y: float, colour: str, blended: bool) -> None:
    error = error[np.isfinite(error)]
    if error.size < 2:
        return
    low, middle, high = np.clip(np.percentile(error, (16, 50, 84)), -_LIMIT, _LIMIT)
    axes.hlines(y, low, high, color=colour, linewidth=1.1)
    axes.plot(middle, y, "o", color=colour, markersize=4, mfc="white" if blended else colour)
