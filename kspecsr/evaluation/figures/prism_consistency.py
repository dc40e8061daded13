"""Distribution over galaxies of the chi-square of the degraded outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import WAVELENGTH_SHORT, new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.prism_consistency import chi_square
from kspecsr.measures.splits import WAVELENGTH, labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RANGE = (0.1, 100.0)


@styled
def draw_prism_consistency(measured: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Share of galaxies below a chi-square per pixel, and medians against wavelength.

    A right output has 1; below it a method fits noise. Bars span 16 to 84 % of the galaxies.

    Args:
        measured: method to `prism_consistency.measure`.
    """
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    colours = method_colours(measured)
    waves = labels("", WAVELENGTH)
    for number, (method, arrays) in enumerate(measured.items()):
        total = np.sort(chi_square(arrays)[np.isfinite(chi_square(arrays))])
        if total.size == 0:
            continue
        share = np.arange(1, total.size + 1) / total.size
        left.step(
            total, share, where="post", color=colours[method], linewidth=1.2, label=method_title(method)
        )
        offset = 0.5 * (number / max(len(measured) - 1, 1) - 0.5)
        for wave in range(len(waves)):
            values = chi_square(arrays, wave)
            if not np.isfinite(values).any():
                continue
            low, middle, high = np.nanpercentile(values, (16, 50, 84))
            right.plot([wave + offset] * 2, [low, high], color=colours[method], linewidth=0.9)
            right.plot(wave + offset, middle, "o", color=colours[method], markersize=3)
    left.axvline(1.0, linestyle=":", color="0.4", linewidth=0.8)
    right.axhline(1.0, linestyle=":", color="0.4", linewidth=0.8)
    left.set(xscale="log", xlim=_RANGE, ylim=(0, 1), ylabel="share of galaxies below")
    left.set_xlabel("chi-square per prism pixel")
    right.set(yscale="log", ylim=_RANGE, ylabel="chi-square per prism pixel", xlabel=WAVELENGTH_SHORT)
    right.set_xticks(range(len(waves)), waves, minor=False)
    right.tick_params(axis="x", which="minor", bottom=False, top=False)
    if measured:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
