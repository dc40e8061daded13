"""The page: a table of objects, the spectrum that was clicked, and another redshift to try."""

from __future__ import annotations

import math
import socket
import tempfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import panel as pn

import kspecsr
from data_pipeline.pictures.line_marks import line_title
from data_pipeline.pictures.style import POOR_COLOUR
from kspecsr.browser.plots import ArmPlot, RedshiftPlot, SpectrumPlot
from kspecsr.browser.sources import (
    POOR,
    TABLE_COLUMNS,
    BrowseError,
    Given,
    ResultSource,
    SpectrumView,
    view_of,
)
from kspecsr.results.flags import ARMS_DISAGREE, POOR_MEANING
from kspecsr.results.table import row_of
from kspecsr.surveys.tables import LINE_NAMES

if TYPE_CHECKING:
    from kspecsr.results.result import Result
    from kspecsr.super_resolver import SuperResolver


MOST_REDSHIFT = 15.0
ROWS = 12
_SAME = 5e-4  # half a step of the slider
_ANY, _NONE, _SOME = "any", "without flags", "with flags"
_GOOD, _POOR = "good", "poor"
_NUMBER = {"type": "number", "func": ">=", "placeholder": "at least"}
_MOST = {"type": "number", "func": "<=", "placeholder": "at most"}
_TEXT = {"type": "input", "func": "like", "placeholder": "contains"}
_PIXELS = (185, 85, 80, 85, 90, 105, 110, 85, 90, 70, 140, 95, 125, 80, 110, 95, 100, 150)
_WIDTHS = dict(zip(TABLE_COLUMNS, _PIXELS, strict=True))
_MAYBE = ("p_fit", "object_class", "p_broad", "fwhm_broad", "arms")  # what not every result has
# names of files often begin alike: cut, those of a survey are all the same
_WHOLE_NAMES = """
.tabulator-row .tabulator-cell[tabulator-field="object_id"] {
  white-space: normal; overflow-wrap: anywhere; line-height: 1.1;
}
"""
_ACROSS = {"flex_wrap": "wrap", "align_items": "flex-end", "gap": "8px", "sizing_mode": "stretch_width"}
_FORMATS = {
    "z": "0.0000",
    "z_error": "0.0000",
    "z_confidence": "0.000",
    "sn_pixel": "0.0",
    "sn_feature": "0.0",
    "chi_square": "0.00",
    "p_fit": "0.0000",
    "p_broad": "0.00",
    "fwhm_broad": "0",
    "brightest_snr": "0.0",
    "arms": "0",
}


class ModelRunner:
    """Runs one model, from any thread.

    Args:
        model: name of a shipped model, or a model folder.
    """

    def __init__(self, model: str):
        self._model = model
        self._resolver: SuperResolver | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Loads the model in the background, so that the first spectrum need not wait for it."""
        threading.Thread(target=self._loaded, daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._resolver is not None

    def _loaded(self) -> SuperResolver:
        with self._lock:
            if self._resolver is None:
                self._resolver = kspecsr.load(self._model)
            return self._resolver

    def run(self, given: Given, redshift: float) -> Result:
        """The result of one spectrum.

        Args:
            given: the spectrum with its gratings.
            redshift: to place the lines at, with gratings near which to look for them; NaN to infer it.

        Raises:
            ModelFolderError: for a model that cannot be loaded.
            SpectrumError: for what is no prism spectrum.
            NoJointLinesError: for gratings, and a model that cannot join them.
        """
        resolver = self._loaded()
        with self._lock:
            known = None if math.isnan(redshift) else redshift
            return resolver(given.prism, known, gratings=given.gratings or None)


class BrowsePage:
    """One visitor's page.

    Args:
        source: of the results.
        runner: of the model.
    """

    def __init__(self, source: ResultSource, runner: ModelRunner):
        self.source, self.runner = source, runner
        self._row: int | None = None
        self._view: SpectrumView | None = None
        self._result: Result | None = None
        self._loading = False  # the slider moves because another object is shown
        self._request = 0
        self._document = pn.state.curdoc
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.table = _table(source.table)
        self.redshift_range = pn.widgets.EditableRangeSlider(
            label="z from - to", start=0.0, end=MOST_REDSHIFT, value=(0.0, MOST_REDSHIFT), step=0.01
        )
        self.flags = pn.widgets.Select(label="flags", options=[_ANY, _NONE, _SOME], value=_ANY, width=180)
        self.fits = pn.widgets.Select(
            label="fits",
            options=[_ANY, _GOOD, _POOR],
            value=_ANY,
            width=180,
            description=f"poor: {POOR_MEANING}",
        )
        classes = sorted(filter(None, source.table["object_class"].unique()))
        self.classes = pn.widgets.Select(
            label="class", options=[_ANY, *classes], value=_ANY, visible=bool(classes), width=180
        )
        choices = {"flags": self.flags, "fits": self.fits, "kind": self.classes}
        self.table.add_filter(pn.bind(chosen_rows, span=self.redshift_range, **choices))
        self.details = pn.Column(sizing_mode="stretch_width", visible=False)  # until there is a spectrum
        self.spectrum, self.pz = SpectrumPlot(), RedshiftPlot()
        self.arms: list[ArmPlot] = []
        self.gratings = pn.Column(sizing_mode="stretch_width")
        self.summary = pn.pane.Markdown("Click a row to see its spectrum.", css_classes=["summary"])
        self.status = pn.pane.Markdown("", css_classes=["status"])
        self.slider = pn.widgets.FloatSlider(
            label="try redshift",
            start=0.0,
            end=MOST_REDSHIFT,
            step=0.001,
            value=0.0,
            format="0.000",
            disabled=True,
            width=300,
        )
        self.exact = pn.widgets.FloatInput(
            label="or type it", step=0.001, start=0.0, width=120, disabled=True
        )
        self.infer = pn.widgets.Button(label="infer it again", width=120, disabled=True)
        self.lines = pn.widgets.Tabulator(
            _shown_lines(pd.DataFrame(columns=list(LINE_NAMES))),
            disabled=True,
            show_index=False,
            pagination="local",
            page_size=8,
            layout="fit_data_table",
            styles={"max-width": "100%"},
        )
        self.downloads = [
            pn.widgets.FileDownload(
                callback=pn.bind(self._download, form), filename=f"{form}.bin", label=label, disabled=True
            )
            for form, label in (("fits", "download FITS"), ("ecsv", "download ECSV (zip)"))
        ]
        self.table.on_click(lambda event: self.open(int(event.row)))
        self.slider.param.watch(self._moved, "value")
        self.slider.param.watch(self._released, "value_throttled")
        self.exact.param.watch(self._typed, "value")
        self.infer.on_click(lambda event: self._run(math.nan))

    def layout(self) -> pn.Column:
        """Everything on the page."""
        title = pn.pane.Markdown(f"## {self.source.title}: {len(self.source.table):,} objects")
        plot, pz = (
            pn.pane.Bokeh(one.figure, sizing_mode="stretch_width") for one in (self.spectrum, self.pz)
        )
        pz.styles = {"flex": "1 1 320px"}
        self.details.objects = [
            self.status,
            pn.FlexBox(self.slider, self.exact, self.infer, *self.downloads, **_ACROSS),
            plot,
            self.gratings,
            pn.FlexBox(pz, self.lines, **_ACROSS),
        ]
        return pn.Column(
            title,
            pn.FlexBox(self.redshift_range, self.flags, self.fits, self.classes, **_ACROSS),
            self.table,
            self.summary,
            self.details,
            sizing_mode="stretch_width",
            margin=10,
        )

    def open(self, row: int) -> None:
        """Shows a row: what is stored of it, or else a fresh result."""
        self._row, self._result, self._request = row, None, self._request + 1
        try:
            view = self.source.view(row)
        except (ValueError, OSError) as error:
            self.details.visible, self.status.object = True, f"cannot be shown: {error}"
            return
        if view is None:
            self.details.visible = True
            self._run(math.nan, stored=True)
        else:
            self.status.object = ""
            self._later(partial(self._show, view))

    def _later(self, change: Callable[[], None]) -> None:
        """Changes the page from any thread: Bokeh's plots may only be touched between two messages."""
        if self._document is not None and self._document.session_context is not None:
            self._document.add_next_tick_callback(change)
        else:
            change()

    def _show(self, view: SpectrumView) -> None:
        self._view = view
        self.summary.object = view.summary
        self.details.visible = True
        self.spectrum.show(view)
        self._show_gratings(view)
        self.pz.show(view)
        self.lines.value = _shown_lines(view.lines)
        self._loading = True
        try:
            if math.isfinite(view.row.z):
                self.slider.value = float(np.clip(view.row.z, self.slider.start, self.slider.end))
                self.exact.value = round(view.row.z, 5)
        finally:
            self._loading = False
        for form, download in zip(("fits", "ecsv"), self.downloads, strict=True):
            ending = "fits" if form == "fits" else "zip"
            download.filename = f"{view.row.name}_sr.{ending}".replace("/", "_")
        for widget in (self.slider, self.exact, self.infer, *self.downloads):
            widget.disabled = False

    def _show_gratings(self, view: SpectrumView) -> None:
        """What is known of each, and panels of those whose pixels are."""
        self.arms = [
            ArmPlot(arm, view.row.z, view.detected, any(arm.name in text for text in view.disagreements))
            for arm in view.arms
        ]
        shown: list = [pn.pane.Markdown(view.gratings, css_classes=["gratings"])] if view.gratings else []
        for arm in self.arms:
            style = {"color": POOR_COLOUR} if arm.poor else {}
            shown.append(pn.pane.Markdown(arm.text, styles=style, margin=(0, 10)))
            shown += [pn.pane.Bokeh(one, sizing_mode="stretch_width") for one in (arm.figure, arm.below)]
        self.gratings.objects = shown

    def _moved(self, event) -> None:
        """Lines follow the slider at once; the model runs when it is let go."""
        if not self._loading and self._view is not None:
            self._later(partial(self._place, event.new))

    def _place(self, z: float) -> None:
        for plot in (self.spectrum, self.pz, *self.arms):
            plot.place(z)

    def _released(self, event) -> None:
        if not self._loading and self._view is not None and abs(event.new - self._view.row.z) > _SAME:
            self._run(float(event.new))

    def _typed(self, event) -> None:
        if not self._loading and self._view is not None and event.new is not None:
            self._run(float(event.new))

    def _run(self, redshift: float, stored: bool = False) -> None:
        """Runs the model on the row's input, in a thread, and shows the result if it is still wanted.

        Args:
            redshift: to place lines at; NaN to infer it.
            stored: take the redshift that was given for the row, where one was.
        """
        self._request += 1
        self.status.object = "running the model ..." if self.runner.ready else "loading the model ..."
        future = self._thread.submit(self._fresh, self._row, redshift, stored)
        future.add_done_callback(partial(self._arrived, self._request))

    def _fresh(self, row: int, redshift: float, stored: bool) -> tuple[Result, SpectrumView, str]:
        given = self.source.observed(row)
        wanted = given.redshift if stored else redshift
        result = self.runner.run(given, wanted)
        view = view_of(row_of(result, str(self.source.table["object_id"].iloc[row])), result)
        how = "as in the survey" if stored else "inferred" if math.isnan(wanted) else f"at z = {wanted:.4f}"
        how = how.replace("at z", "near z") if given.gratings else how
        return result, view, f"fresh from the model, {how}"

    def _arrived(self, request: int, future: Future) -> None:
        self._later(partial(self._take, request, future))

    def _take(self, request: int, future: Future) -> None:
        if request != self._request:
            return  # another row or redshift was asked for since
        error = future.exception()  # of TensorFlow too: the page continues
        if error is not None:
            self.status.object = f"the model could not be run: {error}"
            return
        self._result, view, text = future.result()
        self._show(view)
        self.status.object = text

    def _download(self, form: str) -> BytesIO:
        """File of the shown result; a stored result of enhance is its own file."""
        if self._result is None and form == "fits" and hasattr(self.source, "file"):
            return BytesIO(self.source.file(self._row).read_bytes())
        if self._result is None:
            given = self.source.observed(self._row)
            self._result = self.runner.run(given, given.redshift)
        return as_file(self._result, form)


def as_file(result: Result, format: str) -> BytesIO:
    """A result as one file: FITS, or the two ECSV tables in a zip archive.

    Args:
        result: what is written.
        format: ``fits`` or ``ecsv``.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = result.write(Path(folder) / f"spectrum_sr.{format}", format)
        if format == "fits":
            return BytesIO(files[0].read_bytes())
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
        packed.seek(0)
        return packed


def chosen_rows(
    table: pd.DataFrame, span: tuple[float, float], flags: str, fits: str = _ANY, kind: str = _ANY
) -> pd.DataFrame:
    """Rows in a span of redshift, with or without flags, of good or poor fits, of a class.

    A full span holds all redshifts.
    """
    keep = np.ones(len(table), bool)
    if span[0] > 0.0 or span[1] < MOST_REDSHIFT:
        keep &= table["z"].between(*span).to_numpy()
    if flags != _ANY:
        keep &= (table["flags"] == "").to_numpy() == (flags == _NONE)
    if fits != _ANY:
        keep &= (table["fit"] == POOR).to_numpy() == (fits == _POOR)
    if kind != _ANY:
        keep &= (table["object_class"] == kind).to_numpy()
    return table[keep]


def _table(table: pd.DataFrame) -> pn.widgets.Tabulator:
    texts = dict.fromkeys(("object_id", "flags", "brightest_line", "fit", "object_class"), _TEXT)
    least = (
        "z",
        "z_confidence",
        "sn_pixel",
        "sn_feature",
        "p_fit",
        "p_broad",
        "fwhm_broad",
        "lines_detected",
    )
    numbers = dict.fromkeys(least, _NUMBER)
    numbers |= {"brightest_snr": _NUMBER, "arms": _NUMBER, "chi_square": _MOST}
    shown = pn.widgets.Tabulator(
        table,
        titles=TABLE_COLUMNS,
        formatters={
            name: pn.widgets.tables.NumberFormatter(format=text, nan_format="-")
            for name, text in _FORMATS.items()
        },
        header_filters=texts | numbers,
        pagination="remote",
        page_size=ROWS,
        disabled=True,
        show_index=False,
        selectable=1,
        layout="fit_data_fill",  # as wide as it needs, and scrolled where the window is narrower
        frozen_columns=["object_id"],
        hidden_columns=[name for name in _MAYBE if _is_empty(table[name])],
        widths=_WIDTHS,
        text_align={name: "right" for name in (*_FORMATS, "lines_detected")},
        sizing_mode="stretch_width",
        height=470,
        stylesheets=[_WHOLE_NAMES],
    )
    shown.style.map(_poor, subset=["fit", "flags"])
    return shown


def _is_empty(column: pd.Series) -> bool:
    return bool((column.isna() | (column == "")).all())


def _poor(text: str) -> str:
    return f"color: {POOR_COLOUR}; font-weight: bold" if text == POOR or ARMS_DISAGREE in text else ""


def _shown_lines(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines as the page shows them: the surest first, fluxes in 1e-20 erg/s/cm2."""
    ordered = lines.sort_values("snr", ascending=False)
    numbers = {
        name: ordered[name].to_numpy(dtype=float) for name in ("wave_obs", "flux", "flux_error", "snr")
    }
    broad = {}
    if "flux_broad" in ordered and ordered["flux_broad"].notna().any():
        broad = {"of it broad": (ordered["flux_broad"].to_numpy(dtype=float) * 1e20).round(1)}
    return pd.DataFrame(
        {
            "line": np.array([line_title(name) for name in ordered["line"]], dtype=object),
            "at [um]": numbers["wave_obs"].round(5),
            "flux [1e-20]": (numbers["flux"] * 1e20).round(1),
            "error": (numbers["flux_error"] * 1e20).round(1),
            **broad,
            "S/N": numbers["snr"].round(1),
        }
    )


ADDRESS = "127.0.0.1"


def serve(
    source: ResultSource, runner: ModelRunner, port: int, show: bool, report: Callable[[str], object]
) -> None:
    """Serves until it is interrupted.

    Args:
        source: of the results.
        runner: of the model.
        port: 0 for a free one.
        show: open a browser.
        report: takes the address.

    Raises:
        BrowseError: for a port that is taken.
    """
    port = _port(port)
    pn.extension("tabulator")
    report(f"http://{ADDRESS}:{port}/ (Ctrl-C ends)")
    pn.serve(
        lambda: BrowsePage(source, runner).layout(),
        port=port,
        address=ADDRESS,
        websocket_origin=[f"{ADDRESS}:{port}", f"localhost:{port}"],
        title=source.title,
        show=show,
        verbose=False,
    )


def _port(wanted: int) -> int:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, wanted))
        except OSError as error:
            raise BrowseError(
                f"--port {wanted}: cannot be used ({error.strerror}); choose another, or 0 for a free one"
            ) from None
        return probe.getsockname()[1]
