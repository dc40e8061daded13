"""Three galaxies before and after, chosen by a rule and not by hand (after paper Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pictures.flux_axis import flux_limits, flux_unit
from data_pipeline.pictures.line_marks import CLOSE_LINES, KEY_LINES, mark_lines
from data_pipeline.pictures.style import WAVELENGTH_SHORT, draw_steps, new_figure, styled
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.results.picture import OUTPUT_COLOUR, TRUTH_COLOUR
from kspecsr.results.picture import RECOVERED_TRUTH_PRISM_COLOUR as PRISM_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE = (
    "Of the galaxies with a line of S/N > 5 in the prism: those with the lowest, the median and the highest "
    "scale-free error in line cores."
)
_ZOOMS = 2
_HALF = 0.02  # of the wavelength, half of a magnified window
_TALLEST = 4.0  # times the prism's range; sharp lines may leave the left panel, and are whole when magnified


def choose_examples(measured: Mapping[str, np.ndarray]) -> dict[str, int]:
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
    """A galaxy of the picture.

    Attributes:
        name: e.g. ``best``.
        held_out: the galaxy alone.
        made: what the method makes of it.
        error: its scale-free error in line cores.
    """

    name: str
    held_out: HeldOut
    made: Reconstruction
    error: float


@styled
def draw_examples(examples: Sequence[Example], method: str) -> Figure:
    """One row per galaxy: the whole range, and its two brightest groups of lines magnified.

    Args:
        examples: one to three.
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
    for axes in rows[-1]:
        axes.set_xlabel(WAVELENGTH_SHORT)
    return figure


def _draw_galaxy(row: Sequence[Axes], example: Example, method: str) -> None:
    held_out = example.held_out
    redshift, wavelength = float(held_out.redshift[0]), held_out.grid.wavelength
    limits = _whole_limits(example)
    unit, label = flux_unit(limits)
    whole = (float(wavelength[0]), float(wavelength[-1]))
    row[0].set_xlim(*whole)
    _draw_spectra(row[0], example, whole, unit, method)
    row[0].set_ylim(limits[0] / unit, limits[1] / unit)
    row[0].set_ylabel(label)
    # at the right: lines crowd at the left where the redshift is low
    text = f"{example.name}: z = {redshift:.4f}, scale-free error {example.error:.2f}"
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    row[0].text(0.985, 0.94, text, transform=row[0].transAxes, ha="right", va="top", fontsize=8.5, bbox=box)
    if np.isfinite(redshift):
        mark_lines(row[0], redshift, whole, KEY_LINES, label_gap=0.04)
    windows = zoom_windows(held_out)
    for axes, window in zip(row[1:], windows, strict=False):
        axes.set_xlim(*window)
        _draw_spectra(axes, example, window, unit, method)
        low, high = _zoom_limits(example, window)
        axes.set_ylim(low / unit, high / unit)
        axes.locator_params(axis="x", nbins=4)
        mark_lines(axes, redshift, window, CLOSE_LINES, label_gap=0.09)
    for axes in row[1 + len(windows) :]:
        axes.set_axis_off()


def zoom_windows(held_out: HeldOut) -> list[tuple[float, float]]:
    """Observed windows [um] around the two brightest lines that do not lie in one window; blue to red.

    Args:
        held_out: one galaxy.
    """
    redshift = float(held_out.redshift[0])
    if not np.isfinite(redshift):
        return []
    observed = load_lines().wavelength * (1.0 + redshift)
    flux = np.where(held_out.line_known[0], held_out.line_flux[0], 0.0)
    windows: list[tuple[float, float]] = []
    for line in np.argsort(-flux, kind="stable"):
        centre = float(observed[line])
        # A window is symmetric about its brightest line, within the grid.
        low, high = centre * (1.0 - _HALF), centre * (1.0 + _HALF)
        inside = low > held_out.grid.start and high < held_out.grid.stop
        apart = all(high < a or low > b for a, b in windows)
        if flux[line] > 0 and inside and apart:
            windows.append((low, high))
        if len(windows) == _ZOOMS:
            break
    return sorted(windows)


def _draw_spectra(
    axes: Axes, example: Example, window: tuple[float, float], unit: float, method: str
) -> None:
    """Prism, truth, and output with its band, with a little beyond the window."""
    held_out, made = example.held_out, example.made
    scale = FLUX_UNIT_IN_RECORDS / unit
    axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
    pixels, wavelength = load_instrument(PRISM).wavelength, held_out.grid.wavelength
    seen, near = _inside(pixels, window, 0.02), _inside(wavelength, window, 0.0)
    prism, mask = held_out.prism_flux[0, seen] * scale, held_out.prism_mask[0, seen]
    draw_steps(axes, pixels[seen], prism, None, mask, PRISM_COLOUR, "prism", width=1.0)
    truth = np.where(held_out.target_mask[0], np.nan, held_out.target_flux[0])[near] * scale
    axes.step(wavelength[near], truth, where="mid", color=TRUTH_COLOUR, linewidth=1.1, label="truth")
    error = None if made.error is None else made.error[0, near] * scale
    label = method if error is None else f"{method} ± 1 σ"
    flux = made.flux[0, near] * scale
    draw_steps(axes, wavelength[near], flux, error, ~np.isfinite(flux), OUTPUT_COLOUR, label, width=0.8)


def _inside(wavelength: np.ndarray, window: tuple[float, float], beyond: float) -> np.ndarray:
    return (wavelength >= window[0] * (1.0 - beyond)) & (wavelength <= window[1] * (1.0 + beyond))


def _whole_limits(example: Example) -> tuple[float, float]:
    """Of the left panel [erg/s/cm2/A]: all of the prism, and sharp lines up to four times it."""
    held_out, grid = example.held_out, example.held_out.grid
    seen = _inside(load_instrument(PRISM).wavelength, (grid.start, grid.stop), 0.0)
    prism = (held_out.prism_flux[0, seen], held_out.prism_error[0, seen], held_out.prism_mask[0, seen])
    low, high = flux_limits(prism)
    top = float(np.max(np.where(held_out.target_mask[0], 0.0, held_out.target_flux[0]), initial=high))
    return low * FLUX_UNIT_IN_RECORDS, min(1.08 * top, _TALLEST * high) * FLUX_UNIT_IN_RECORDS


def _zoom_limits(example: Example, window: tuple[float, float]) -> tuple[float, float]:
    near = _inside(example.held_out.grid.wavelength, window, 0.0)
    error = 0.0 if example.made.error is None else example.made.error[0, near]
    flux = example.made.flux[0, near]
    truth = np.where(example.held_out.target_mask[0], 0.0, example.held_out.target_flux[0])[near]
    high = np.nanmax(np.concatenate([truth, flux + error, [1e-3]]))
    low = np.nanmin(np.concatenate([truth, flux, [0.0]]))
    margin = 0.06 * (high - low)
    return float(low - margin) * FLUX_UNIT_IN_RECORDS, float(high + margin) * FLUX_UNIT_IN_RECORDS
