"""Interactive plots of one spectrum and its P(z), whose data can be replaced."""

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, LabelSet, Range1d
from bokeh.plotting import figure

from data_pipeline.lines import load_lines
from kspecsr.browser.sources import SpectrumView

UNIT = 1e-20  # of the plots [erg/s/cm2/A]
# lines that are named in the plot; all others are in the table below it
MARKED = (
    "Lya",
    "CIV_1548",
    "CIII]_1909",
    "MgII_2796",
    "[OII]_3730",
    "[NeIII]_3870",
    "Hdelta",
    "Hgamma",
    "Hbeta",
    "[OIII]_4960",
    "[OIII]_5008",
    "[OI]_6302",
    "Halpha",
    "[SII]_6718",
    "[SIII]_9533",
    "HeI_10833",
    "Pabeta",
    "Paalpha",
)
_PRISM, _SHARP, _LINE, _PZ = "#8a8f98", "#1f5fa8", "#c2410c", "#5b21b6"


class SpectrumPlot:
    """Prism, super-resolved spectrum with its one-sigma band, and line marks at a redshift."""

    def __init__(self):
        self.prism = ColumnDataSource({"x": [], "y": [], "low": [], "high": []})
        self.sharp = ColumnDataSource({"x": [], "y": [], "low": [], "high": []}, name="super-resolved")
        self.lines = ColumnDataSource({"x": [], "top": [], "name": []}, name="line marks")
        self._top = 1.0
        self.figure = figure(
            height=420,
            sizing_mode="stretch_width",
            x_axis_label="wavelength [um]",
            y_axis_label="flux density [1e-20 erg/s/cm2/A]",
            tools="pan,box_zoom,xwheel_zoom,reset,save",
            active_drag="box_zoom",
            x_range=Range1d(0.6, 5.3),
            y_range=Range1d(-1, 1),
        )
        for source, colour, name in ((self.prism, _PRISM, "prism"), (self.sharp, _SHARP, "super-resolved")):
            self.figure.varea("x", "low", "high", source=source, color=colour, alpha=0.25, legend_label=name)
            line = self.figure.line("x", "y", source=source, color=colour, legend_label=name)
            self.figure.add_tools(
                HoverTool(renderers=[line], tooltips=[(name, "@x{0.0000} um, @y{0.00}")], mode="mouse")
            )
        self.figure.segment("x", 0, "x", "top", source=self.lines, color=_LINE, line_dash="dotted", alpha=0.7)
        self.figure.add_layout(
            LabelSet(
                x="x",
                y="top",
                text="name",
                source=self.lines,
                angle=np.pi / 2,
                text_font_size="11px",
                text_color=_LINE,
                text_align="right",
                text_baseline="bottom",
            )
        )
        self.figure.legend.location = "top_right"
        self.figure.legend.click_policy = "hide"
        self.figure.toolbar.logo = None

    def show(self, view: SpectrumView) -> None:
        """Replaces what is drawn."""
        self.prism.data = _band(view.prism_wavelength, view.prism_flux, view.prism_error)
        self.sharp.data = _band(view.wavelength, view.flux, view.flux_error)
        shown = np.concatenate([view.prism_flux, view.flux]) / UNIT
        shown = shown[np.isfinite(shown)]
        if shown.size:
            low, high = np.percentile(shown, 1), shown.max()
            self._top = high + 0.25 * (high - low)
            self.figure.y_range.start = min(low, 0) - 0.05 * (high - low)
            self.figure.y_range.end = self._top
        self.place(view.row.z)

    def place(self, z: float) -> None:
        """Moves the line marks to a redshift."""
        names, x = marked_lines(z)
        self.lines.data = {"x": x, "top": np.full(x.size, self._top), "name": names}


class RedshiftPlot:
    """P(z), and the redshift at which the lines stand."""

    def __init__(self):
        self.density = ColumnDataSource({"x": [], "y": []})
        self.mark = ColumnDataSource({"x": [], "top": []})
        self._top = 1.0
        self.figure = figure(
            height=220,
            sizing_mode="stretch_width",
            x_axis_label="z",
            y_axis_label="P(z)",
            tools="pan,box_zoom,xwheel_zoom,reset,save",
            active_drag="box_zoom",
            x_range=Range1d(0, 10),
            y_range=Range1d(0, 1),
        )
        self.figure.line("x", "y", source=self.density, color=_PZ)
        self.figure.segment("x", 0, "x", "top", source=self.mark, color=_LINE, line_dash="dotted")
        self.figure.toolbar.logo = None

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


def marked_lines(z: float) -> tuple[list[str], np.ndarray]:
    """Names and observed wavelengths [um] of the marked lines; none without a redshift."""
    lines = load_lines()
    names = list(MARKED) if np.isfinite(z) else []
    rest = np.array([lines.wavelength[lines.index(name)] for name in names])
    return names, rest * (1 + z) if names else rest


def _band(wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    flux, error = np.asarray(flux) / UNIT, np.asarray(error) / UNIT
    return {"x": np.asarray(wavelength), "y": flux, "low": flux - error, "high": flux + error}
