"""S/N of lines in the output against that in the prism (paper Fig. 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_title
from kspecsr.measures.line_signal_to_noise import LINES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {"[OII]": "[O II] 3728", "Hbeta": "Hβ", "[OIII]_5008": "[O III] 5008", "Halpha": "Hα"}
_AGAINST = {"snr_lr": "prism, interpolated", "snr_prism": "prism, own pixels"}
_CELLS = 26
_RANGE = (0.3, 3e4)


@styled
def draw_line_signal_to_noise(
    measured: Mapping[str, Mapping[str, np.ndarray]], against: str = "snr_lr"
) -> Figure:
    """Hexagons of galaxies, a row per method and a panel per line; dashed: one to one.

    Galaxies beyond the axes, S/N below zero among them, are counted at the edge.

    Args:
        measured: method to `line_signal_to_noise.measure`.
        against: ``snr_lr`` or ``snr_prism``.
    """
    from matplotlib.colors import LogNorm

    figure = new_figure(0.5 + 1.85 * max(len(measured), 1))
    panels = figure.subplots(max(len(measured), 1), len(LINES), sharex=True, sharey=True, squeeze=False)
    extent = tuple(np.log10(_RANGE)) * 2
    drawn = []
    for row, (method, arrays) in zip(panels, measured.items(), strict=False):
        for column in range(len(LINES)):
            axes = row[column]
            x, y = (arrays[name][:, column].astype(float) for name in (against, "snr"))
            both = np.isfinite(x) & np.isfinite(y)
            x, y = (np.clip(values[both], *_RANGE) for values in (x, y))
            axes.plot(_RANGE, _RANGE, "--", color="0.3", linewidth=0.8, zorder=3)
            axes.set(xscale="log", yscale="log", xlim=_RANGE, ylim=_RANGE)
            axes.set_xticks([1, 10, 100, 1000, 1e4])
            axes.minorticks_off()
            if x.size:
                drawn.append(
                    axes.hexbin(
                        x,
                        y,
                        gridsize=_CELLS,
                        xscale="log",
                        yscale="log",
                        extent=extent,
                        mincnt=1,
                        cmap="viridis",
                        linewidths=0.1,
                    )
                )
                text = f"{np.mean(y > x):.0%} above\nn = {x.size}"
                axes.text(0.96, 0.04, text, ha="right", fontsize=7.5, transform=axes.transAxes)
        row[0].set_ylabel(f"S/N\n{method_title(method)}")
    for axes, line in zip(panels[0], LINES, strict=True):
        axes.set_title(_TITLES[line])
    figure.supxlabel(f"S/N = A / δA of the line in the {_AGAINST[against]}", fontsize=9)
    top = max([2.0, *(float(np.asarray(cells.get_array()).max(initial=1.0)) for cells in drawn)])
    for cells in drawn:
        cells.set_norm(LogNorm(1.0, top))
    if drawn:
        figure.colorbar(drawn[-1], ax=panels, label="galaxies", pad=0.01)
    return figure
