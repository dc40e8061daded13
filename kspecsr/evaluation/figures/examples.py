"""Galaxies before and after, beside the truth (after paper Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import list_of
from data_pipeline.pictures.line_marks import KEY_LINES, magnify, mark_lines
from data_pipeline.pictures.style import (
    ARM_COLOURS,
    OUTPUT_COLOUR,
    TRUTH_COLOUR,
    WAVELENGTH_SHORT,
    draw_steps,
    draw_zero,
    flux_unit,
    mark_beyond,
    new_figure,
    note,
    overview_limits,
    styled,
)
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from kspecsr.evaluation.figures.panels import Arrays
from kspecsr.measures.held_out import HeldOut, Reconstruction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE = (
    "Of the galaxies with a line of S/N > 5 in the prism: those with the lowest, the median and the highest "
    "scale-free error in line cores."
)
_ZOOMS = 2
_HALF = 0.02  # of the wavelength, half of a magnified window
Spectrum = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]


def choose_examples(measured: Arrays) -> dict[str, int]:
    """Positions of the ``best``, ``median`` and ``worst`` galaxy by `RULE`; fewer where too few are measured.

    Args:
        measured: of the method that is shown, as of `kspecsr.measures.spectrum_shape.measure`.
    """
    error = np.asarray(measured["scale_free_core"])
    known = np.flatnonzero(np.isfinite(error))
    order = known[np.argsort(error[known], kind="stable")]
    if order.size == 0:
        return {}
    places = {"best": 0, "median": order.size // 2, "worst": order.size - 1}
    chosen: dict[str, int] = {}
    for name, place in places.items():
        if int(order[place]) not in chosen.values():
            chosen[name] = int(order[place])
    return chosen


@dataclass(frozen=True)
class Example:
    """A galaxy of the picture; flux densities in erg/s/cm2/A.

    Attributes:
        title: what is written into the panel.
        redshift: true redshift, at which lines are marked; NaN marks none.
        prism: wavelength [um], flux, error, mask of the input, (P,) each.
        output: wavelength [um], flux, error, mask of the output, (N,) each; error None draws no band.
        truth: (N,) true spectrum on the output's pixels; NaN where unknown.
        windows: (low, high) [um], magnified; the first two are drawn.
    """

    title: str
    redshift: float
    prism: Spectrum
    output: Spectrum
    truth: np.ndarray
    windows: Sequence[tuple[float, float]]


def held_out_example(name: str, held_out: HeldOut, reconstruction: Reconstruction, error: float) -> Example:
    """Example of a held-out galaxy.

    Args:
        name: e.g. ``best``.
        held_out: the galaxy alone.
        reconstruction: output of the method for it.
        error: its scale-free error in line cores.
    """
    unit, redshift, fine = FLUX_UNIT_IN_RECORDS, float(held_out.redshift[0]), held_out.grid.wavelength
    pixels, flux = load_instrument(PRISM).wavelength, reconstruction.flux[0] * unit
    sigma = None if reconstruction.error is None else reconstruction.error[0] * unit
    lines = np.where(held_out.line_known[0], held_out.line_flux[0], 0.0)
    return Example(
        f"{name}: z = {redshift:.4f}, scale-free error {error:.2f}",
        redshift,
        (pixels, held_out.prism_flux[0] * unit, held_out.prism_error[0] * unit, held_out.prism_mask[0]),
        (fine, flux, sigma, ~np.isfinite(flux)),
        np.where(held_out.target_mask[0], np.nan, held_out.target_flux[0] * unit),
        zoom_windows(redshift, lines, fine),
    )


def zoom_windows(redshift: float, line_flux: np.ndarray, wavelength: np.ndarray) -> list[tuple[float, float]]:
    """Observed windows [um] around the two brightest lines that do not lie in one window; blue to red.

    Args:
        redshift: of the galaxy; NaN gives no window.
        line_flux: (K,) in the order of the list that has so many lines; 0 where unknown.
        wavelength: (N,) of the output [um]; windows lie inside.
    """
    windows: list[tuple[float, float]] = []
    if not np.isfinite(redshift):
        return windows
    observed = list_of(len(line_flux)).wavelength * (1.0 + redshift)
    for line in np.argsort(-line_flux, kind="stable"):
        low, high = observed[line] * (1.0 - _HALF), observed[line] * (1.0 + _HALF)
        inside = low > wavelength[0] and high < wavelength[-1]
        apart = all(high < a or low > b for a, b in windows)
        if line_flux[line] > 0 and inside and apart:
            windows.append((float(low), float(high)))
        if len(windows) == _ZOOMS:
            break
    return sorted(windows)


@styled
def draw_examples(examples: Sequence[Example], method: str) -> Figure:
    """One row per galaxy: the whole range, and its two brightest groups of lines magnified.

    Args:
        examples: one or more.
        method: name for the legend.

    Raises:
        ValueError: without an example.
    """
    if not examples:
        raise ValueError("examples: expected one galaxy or more with a line of S/N > 5, got none")
    figure = new_figure(2.75 * len(examples) + 0.4)
    rows = figure.subplots(len(examples), 1 + _ZOOMS, width_ratios=(2.1, 1.0, 1.0), squeeze=False)
    for row, example in zip(rows, examples, strict=True):
        _draw_galaxy(row, example, method)
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    rows[-1, 0].set_xlabel(WAVELENGTH_SHORT)
    return figure


def _draw_galaxy(row: Sequence[Axes], example: Example, method: str) -> None:
    wavelength, *_ = example.output
    whole = (float(wavelength[0]), float(wavelength[-1]))
    limits = overview_limits(_cut(example.prism, whole)[1:], example.truth)
    unit, label = flux_unit(limits)
    row[0].set_xlim(*whole)
    _draw_spectra(row[0], example, whole, unit, method)
    row[0].set_ylim(limits[0] / unit, limits[1] / unit)
    row[0].set_ylabel(label)
    mark_beyond(row[0], wavelength, example.truth / unit, np.isnan(example.truth), TRUTH_COLOUR)
    # at the right: lines crowd at the left where the redshift is low
    note(row[0], example.title, right=True)
    if np.isfinite(example.redshift):
        mark_lines(row[0], example.redshift, whole, KEY_LINES, label_gap=0.04)
    for axes, window in zip(row[1:], example.windows, strict=False):
        _draw_spectra(axes, example, window, unit, method)
        _, flux, error, mask = _cut(example.output, window)
        upper = flux if error is None else flux + error
        truth = example.truth[_inside(wavelength, window)]
        drawn = np.concatenate([truth, flux[~mask], upper[~mask]])
        magnify(axes, window, drawn / unit, example.redshift)
    for axes in row[1 + len(example.windows) :]:
        axes.set_axis_off()


def _draw_spectra(
    axes: Axes, example: Example, window: tuple[float, float], unit: float, method: str
) -> None:
    """Prism, with a little beyond the window, truth, and output with its band."""
    draw_zero(axes)
    wide = (window[0] * 0.98, window[1] * 1.02)
    pixels, prism, _, mask = _cut(example.prism, wide)
    draw_steps(axes, pixels, prism / unit, None, mask, ARM_COLOURS["PRISM"], "prism", width=1.0)
    wavelength, flux, error, mask = _cut(example.output, window)
    truth = example.truth[_inside(example.output[0], window)] / unit
    axes.step(wavelength, truth, where="mid", color=TRUTH_COLOUR, linewidth=1.1, label="truth")
    label = method if error is None else f"{method} ± 1 σ"
    band = None if error is None else error / unit
    draw_steps(axes, wavelength, flux / unit, band, mask, OUTPUT_COLOUR, label, width=0.8)


def _inside(wavelength: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    return (wavelength >= window[0]) & (wavelength <= window[1])


def _cut(spectrum: Spectrum, window: tuple[float, float]) -> Spectrum:
    """The part of a spectrum that lies in a window."""
    rows = _inside(spectrum[0], window)
    return tuple(None if array is None else array[rows] for array in spectrum)
