"""Interactive plots of one spectrum and its P(z), whose data can be replaced."""

from collections.abc import Iterable
from itertools import compress
from typing import Any

import numpy as np
from bokeh.models import BoxAnnotation, ColumnDataSource, HoverTool, LabelSet, NumeralTickFormatter, Range1d
from bokeh.plotting import figure

from data_pipeline.instrument import SPEED_OF_LIGHT
from data_pipeline.pictures.line_marks import KEY_LINES, observed_wavelengths, spread
from data_pipeline.pictures.style import (
    ARM_COLOURS,
    BROAD_COLOUR,
    FAINT_LINE_COLOUR,
    LINE_COLOUR,
    OUTPUT_COLOUR,
    TRUTH_COLOUR,
    overview_limits,
)
from kspecsr.browser.sources import SpectrumView
from kspecsr.results.arm_picture import FIT_COLOUR
from kspecsr.results.arms import ArmFit

UNIT, UNIT_TEXT = 1e-20, "[1e-20 erg/s/cm2/A]"  # of the plots
_LABEL_GAP = 0.13  # um between labels, which stand upright
_NO_MARKS = {"x": [], "top": [], "place": [], "name": [], "colour": []}


class SpectrumPlot:
    """Prism, super-resolved spectrum with its one-sigma band, and line marks at a redshift."""

    def __init__(self):
        self.prism = ColumnDataSource({"x": [], "y": [], "low": [], "high": []})
        self.sharp = ColumnDataSource({"x": [], "y": [], "low": [], "high": []}, name="super-resolved")
        self.broad = ColumnDataSource({"x": [], "y": []}, name="broad lines")
        self.lines = ColumnDataSource(_NO_MARKS, name="line marks")
        self._top, self._detected = 1.0, frozenset()
        self.figure = _wide_figure(
            height=420,
            x_axis_label="wavelength [um]",
            y_axis_label=f"flux density {UNIT_TEXT}",
            x_range=Range1d(0.6, 5.3),
            y_range=Range1d(-1, 1),
        )
        # bright stars are 1e6 units: not 1.500e+6
        self.figure.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
        for source, colour, name in (
            (self.prism, ARM_COLOURS["PRISM"], "prism"),
            (self.sharp, OUTPUT_COLOUR, "super-resolved"),
        ):
            self.figure.varea("x", "low", "high", source=source, color=colour, alpha=0.25, legend_label=name)
            line = self.figure.line("x", "y", source=source, color=colour, legend_label=name)
            self.figure.add_tools(
                HoverTool(renderers=[line], tooltips=[(name, "@x{0.0000} um, @y{0.00}")], mode="mouse")
            )
        self.figure.line("x", "y", source=self.broad, color=BROAD_COLOUR, legend_label="broad lines")
        _mark_lines(self.figure, self.lines)
        self.figure.add_layout(self.figure.legend[0], "above")  # labels of lines are at the top
        self.figure.legend.orientation, self.figure.legend.border_line_color = "horizontal", None
        self.figure.legend.click_policy = "hide"

    def show(self, view: SpectrumView) -> None:
        """Replaces what is drawn."""
        self.prism.data = _band(view.prism_wavelength, view.prism_flux, view.prism_error)
        self.sharp.data = _band(view.wavelength, view.flux, view.flux_error)
        broad = view.broad is not None
        self.broad.data = {"x": view.wavelength, "y": view.broad / UNIT} if broad else {"x": [], "y": []}
        self.figure.legend[0].items[-1].visible = broad
        shown = np.concatenate([view.prism_flux, view.flux]) / UNIT
        shown = shown[np.isfinite(shown)]
        if shown.size:
            low, high = np.percentile(shown, 1), shown.max()
            self._top = high + 0.25 * (high - low)
            self.figure.y_range.start = min(low, 0) - 0.05 * (high - low)
            self.figure.y_range.end = self._top
        self._detected = frozenset(view.detected)
        self.place(view.row.z)

    def place(self, z: float) -> None:
        """Moves the line marks to a redshift; detected lines are darker."""
        marks = marked_lines(z, self._detected)
        self.lines.data = {**marks, "top": np.full(len(marks["x"]), self._top)}


class ArmPlot:
    """One grating on the prism's flux scale with its fit and line marks, and beneath what the fit leaves.

    Args:
        arm: as it was fitted.
        z: redshift of all arms.
        detected: names of lines, whose marks are darker.
        poor: whether something about it disagrees.
    """

    def __init__(self, arm: ArmFit, z: float, detected: Iterable[str], poor: bool):
        wave, bad, scale = arm.spectrum.wavelength, ~arm.good, arm.scale.value / UNIT
        flux, fitted = arm.spectrum.flux * scale, (arm.lines + arm.continuum) * scale
        error = arm.noise * arm.spectrum.error * scale
        low, high = overview_limits((flux, error, bad), fitted, tallest=np.inf)
        top = high + 0.3 * (high - low)
        self.text = (
            f"**{arm.name}** residuals: χ² {arm.chi_square:.2f} per pixel, noise {arm.noise:.2f} × quoted, "
            f"{arm.left_out} wild pixels left out"
        )
        self.poor, self._shift, self._top, self._detected = poor, arm.shift.value, top, frozenset(detected)
        span, heights, sigma = Range1d(*arm.span), Range1d(low, top), Range1d(-6, 6)
        self.figure = _wide_figure(height=230, y_axis_label=UNIT_TEXT, x_range=span, y_range=heights)
        labels = {"x_axis_label": "wavelength [um]", "y_axis_label": "[σ]"}
        self.below = _wide_figure(height=120, x_range=span, y_range=sigma, **labels)
        values = {"x": wave, "y": np.where(bad, np.nan, flux), "fit": np.where(bad, np.nan, fitted)}
        self.data = ColumnDataSource({**values, "residual": arm.residual}, name=arm.name)
        self.lines = ColumnDataSource(_NO_MARKS)
        for column, colour in (("y", ARM_COLOURS[arm.name]), ("fit", FIT_COLOUR)):
            self.figure.step("x", column, source=self.data, mode="center", color=colour)
        _mark_lines(self.figure, self.lines)
        self.below.add_layout(BoxAnnotation(bottom=-1, top=1, fill_color="#888888", fill_alpha=0.2))
        self.below.yaxis.ticker.desired_num_ticks = 3
        self.below.step("x", "residual", source=self.data, mode="center", color=TRUTH_COLOUR)
        self.place(z)

    def place(self, z: float) -> None:
        """Moves the line marks to a redshift of all arms, from which this one's zero point differs."""
        marks = marked_lines((1.0 + z) * (1.0 + self._shift / SPEED_OF_LIGHT) - 1.0, self._detected)
        inside = [self.figure.x_range.start < x < self.figure.x_range.end for x in marks["x"]]
        marks = {name: list(compress(values, inside)) for name, values in marks.items()}
        self.lines.data = {**marks, "top": np.full(sum(inside), self._top)}


class RedshiftPlot:
    """P(z), and the redshift at which the lines stand."""

    def __init__(self):
        self.density = ColumnDataSource({"x": [], "y": []})
        self.mark = ColumnDataSource({"x": [], "top": []})
        self._top = 1.0
        ranges = {"x_range": Range1d(0, 10), "y_range": Range1d(0, 1)}
        self.figure = _wide_figure(height=220, x_axis_label="z", y_axis_label="P(z)", **ranges)
        self.figure.line("x", "y", source=self.density, color=OUTPUT_COLOUR)
        self.figure.segment("x", 0, "x", "top", source=self.mark, color=LINE_COLOUR, line_dash="dotted")

    def show(self, view: SpectrumView) -> None:
        """Replaces what is drawn; the range holds all of P(z) that matters."""
        density = np.nan_to_num(view.pz)
        self.density.data = {"x": view.pz_z, "y": density}
        if density.size and density.max() > 0:
            self._top = 1.1 * float(density.max())
            matters = view.pz_z[density > 1e-3 * density.max()]
            margin = 0.05 * (1 + matters[0])
            self.figure.x_range.start = max(matters[0] - margin, 0)
            self.figure.x_range.end = matters[-1] + margin
            self.figure.y_range.end = self._top
        self.place(view.row.z)

    def place(self, z: float) -> None:
        """Moves the mark."""
        known = np.isfinite(z)
        self.mark.data = {"x": [z] if known else [], "top": [self._top] if known else []}


def _wide_figure(**options: Any) -> figure:
    tools = "pan,box_zoom,xwheel_zoom,reset,save"
    made = figure(sizing_mode="stretch_width", tools=tools, active_drag="box_zoom", **options)
    made.toolbar.logo = None
    return made


def _mark_lines(where: figure, lines: ColumnDataSource) -> None:
    where.segment("x", 0, "x", "top", source=lines, color="colour", line_dash="dashed")
    where.add_layout(
        LabelSet(
            x="place",
            y="top",
            text="name",
            source=lines,
            angle=np.pi / 2,
            text_font_size="11px",
            text_color="colour",
            text_align="right",
            text_baseline="bottom",
        )
    )


def marked_lines(z: float, detected: frozenset[str] = frozenset()) -> dict[str, list]:
    """Labels of marked lines, their places, wavelengths [um] and colours; none without a redshift."""
    if not np.isfinite(z):
        return {name: [] for name in _NO_MARKS if name != "top"}
    marks = sorted(
        (
            at,
            text if name == names[0] else "",
            FAINT_LINE_COLOUR if detected.isdisjoint(names) else LINE_COLOUR,
        )
        for text, names in KEY_LINES
        for name, at in zip(names, observed_wavelengths(names, z), strict=True)
    )
    x, labels, colours = map(list, zip(*marks, strict=True))
    named = [number for number, label in enumerate(labels) if label]
    places = np.array(x)
    places[named] = spread(places[named], _LABEL_GAP)
    return {"x": x, "place": list(places), "name": labels, "colour": colours}


def _band(wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    flux, error = np.asarray(flux) / UNIT, np.asarray(error) / UNIT
    return {"x": np.asarray(wavelength), "y": flux, "low": flux - error, "high": flux + error}
