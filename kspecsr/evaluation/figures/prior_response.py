"""How much of a change of a line the output follows, against the line's S/N."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import new_figure, styled
from kspecsr.evaluation.figures.method_colours import method_colours, method_title
from kspecsr.measures.prior_response import CHANGES, changed_line_snr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EDGES = np.array([0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
_TITLES = {"[NII]_6585": "[N II] against Hα", "Hbeta": "Hβ against [O III]"}
_FIGURES = {"response": "exponent: d log out / d log in", "followed": "share of the change followed"}
_LIMITS = (-0.6, 1.9)
_LEAST = 4
_SPREAD = 0.3  # of a bin over which methods are set apart


@styled
def draw_prior_response(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, Mapping[str, np.ndarray]]
) -> Figure:
    """Median response to changes of a line, with the 16th to 84th percentile, per bin of S/N.

    1 reads the data, 0 recites the prior. Above, the exponent d log(recovered ratio) / d log(true ratio), of
    ratios that stay above zero: of faint lines those are the ones that noise made bright, so that even an
    unbiased method falls below 1. Below, the change of the line's flux, which is defined for all.

    Args:
        columns: of the galaxies of the test, before the change.
        measured: method to `prior_response.measure`.
    """
    lines = list(dict.fromkeys(change.line for change in CHANGES))
    figure = new_figure(4.6)
    panels = figure.subplots(len(_FIGURES), len(lines), sharex=True, sharey=True, squeeze=False)
    colours, snr = method_colours(measured), changed_line_snr(columns)
    place = np.digitize(snr, _EDGES) - 1
    place[np.isnan(snr)] = -1
    step = np.diff(np.log10(_EDGES))
    for row, (name, label) in zip(panels, _FIGURES.items(), strict=True):
        for axes, line in zip(row, lines, strict=True):
            of_line = np.array([change.line == line for change in CHANGES])
            for value, text in ((1.0, "reads the data"), (0.0, "recites the prior")):
                axes.axhline(value, linestyle="--", color="0.5", linewidth=0.7)
                axes.text(90.0, value + 0.04, text, ha="right", fontsize=7, color="0.35")
            for number, (method, arrays) in enumerate(measured.items()):
                found = np.array(
                    [_percentiles(arrays[name][(place == i) & of_line]) for i in range(step.size)]
                )
                shift = _SPREAD * (number - 0.5 * (len(measured) - 1)) / max(len(measured) - 1, 1)
                x = 10.0 ** (np.log10(_EDGES[:-1]) + step * (0.5 + shift))
                axes.vlines(x, found[:, 0], found[:, 2], color=colours[method], linewidth=0.9, alpha=0.8)
                axes.plot(
                    x,
                    found[:, 1],
                    "o-",
                    color=colours[method],
                    markersize=3,
                    linewidth=0.8,
                    label=method_title(method),
                )
        row[0].set_ylabel(label)
    for axes, line in zip(panels[0], lines, strict=True):
        axes.set_title(_TITLES.get(line, line))
    for axes in panels[-1]:
        axes.set(xscale="log", xlim=(_EDGES[0], _EDGES[-1]), ylim=_LIMITS)
        axes.set_xlabel("S/N of the changed line in the prism")
        axes.xaxis.set_major_formatter("{x:g}")
    if measured:
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _percentiles(values: np.ndarray) -> np.ndarray:
    values = values[np.isfinite(values)].astype(float)
    return np.percentile(values, (16, 50, 84)) if values.size >= _LEAST else np.full(3, np.nan)
