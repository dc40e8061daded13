import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pandas as pd
import param
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from data_pipeline.pictures.line_marks import KEY_LINES, observed_wavelengths
from data_pipeline.pictures.style import LINE_COLOUR
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import (
    BINS,
    IDENTITY,
    LINE_FLUX,
    REDSHIFT,
    JointStandIn,
    SecondStandIn,
    StandIn,
    grating_spectrum,
    prism_spectrum,
    write_stand_in_folder,
)
from kspecsr import browse, survey
from kspecsr.browser.page import _MAYBE, BrowsePage, chosen_rows
from kspecsr.browser.plots import UNIT, marked_lines
from kspecsr.browser.sources import TABLE_COLUMNS, EnhanceSource, SurveySource, place_of
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver
from kspecsr.surveys import partition as partition_module
from kspecsr.surveys.inputs import prepare
from kspecsr.surveys.partition import process_partition
from kspecsr.surveys.reading import partition_counts
from model_sample import tiny_model
from survey_sample import ROOT

HALPHA = 0.656461
# Panel 1.9 with pandas 3.1: nothing to do here
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")


class Runner:
    """The stand-in where the page has a model."""

    def __init__(self, network=None):
        network = network or StandIn()
        self.resolver, self.ready, self.asked = SuperResolver(network, IDENTITY, BINS), True, []

    def run(self, given, redshift):
        self.asked.append(redshift)
        known = None if math.isnan(redshift) else redshift
        return self.resolver(given.prism, known, gratings=given.gratings or None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three galaxies as files, as results of enhance, and as surveys with and without spectra."""
    folder = tmp_path_factory.mktemp("browse")
    resolver = SuperResolver(StandIn(), IDENTITY, BINS)
    for number in range(3):
        spectrum = prism_spectrum(number, target=f"t{number}", source_id=str(number))
        write_spectrum(folder / "files" / f"gal{number}.fits", spectrum, {})
        given = 1.5 if number == 2 else None
        resolver(str(folder / "files" / f"gal{number}.fits"), given).write(
            folder / "results" / f"gal{number}_sr.fits"
        )
    model = write_stand_in_folder(folder / "model")
    for name, options in (("stored", ["--spectra"]), ("bare", [])):
        run_survey(folder / "files", folder / name, model, resolver, *options)
    return folder


def run_survey(files, out, model, resolver, *options):
    """What the command does, in this process."""
    line = [files, "--output", out, "--model", model, *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_module, "load_resolver", lambda *arguments: resolver)
        settings, _ = prepare(survey.main.parser().parse_args(list(map(str, line))))
        for k, count in enumerate(partition_counts(out)):
            process_partition(str(out), settings, k, count, str(model), 0)


def source_of(place, name):
    kind, folder = place_of(place / name)
    return SurveySource(folder) if kind == "survey" else EnhanceSource(folder)


def settle(page, seconds=20.0):
    """Waits for the page's thread."""
    end = time.monotonic() + seconds
    while "..." in page.status.object and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["results", "stored", "bare"])
def test_every_source_shows_the_same_galaxy(place, name):
    source = source_of(place, name)
    page = BrowsePage(source, Runner())
    page.open(1)
    settle(page)
    assert list(source.table.columns) == list(TABLE_COLUMNS) and len(source.table) == 3
    row = source.table.iloc[1]
    assert row["z"] == pytest.approx(REDSHIFT, abs=1e-5) and row["brightest_line"] == "[O III] 5008"
    assert row["brightest_snr"] == pytest.approx(150, rel=1e-3) and row["lines_detected"] == 3
    view = page._view
    # the peak is Halpha's, where the redshift puts it, with the height of its flux at R = 1000
    near = np.abs(view.wavelength - HALPHA * (1 + REDSHIFT)) < 0.01
    peak = np.nanargmax(view.flux[near])
    assert view.wavelength[near][peak] == pytest.approx(HALPHA * (1 + REDSHIFT), abs=1e-3)
    fluxes = dict(zip(view.lines["line"], view.lines["flux"], strict=True))
    for line, flux in LINE_FLUX.items():
        assert fluxes[line] == pytest.approx(flux, rel=1e-5, abs=0)
    assert np.trapezoid(view.pz, view.pz_z) == pytest.approx(1.0, abs=0.01)
    assert view.pz_z[np.argmax(view.pz)] == pytest.approx(REDSHIFT, abs=3e-3)
    shown = page.spectrum.prism.data
    want = prism_spectrum(1)
    np.testing.assert_allclose(shown["y"], want.flux / UNIT, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(np.array(shown["high"]) - shown["low"], 2 * want.error / UNIT, rtol=1e-4)
    assert f"z = {REDSHIFT:.4f}" in page.summary.object and "3 lines detected" in page.summary.object


@pytest.mark.parametrize("name", ["results", "stored", "bare"])
def test_the_slider_moves_lines_and_the_model_runs_there(place, name):
    runner = Runner()
    page = BrowsePage(source_of(place, name), runner)
    page.open(0)
    settle(page)
    calls = len(runner.asked)
    page.slider.value = 2.5  # as it moves
    marks = dict(zip(page.spectrum.lines.data["name"], page.spectrum.lines.data["x"], strict=True))
    assert marks["Hα"] == pytest.approx(HALPHA * 3.5, abs=1e-5)
    assert list(page.pz.mark.data["x"]) == [2.5] and len(runner.asked) == calls
    with param.edit_constant(page.slider):  # as it is let go
        page.slider.value_throttled = 2.5
    settle(page)
    assert runner.asked[calls:] == [2.5]
    assert page._view.row.z_given and page._view.row.z == 2.5 and "(given)" in page.summary.object
    assert page.status.object == "fresh from the model, at z = 2.5000"
    page._run(math.nan)
    settle(page)
    assert page._view.row.z == pytest.approx(REDSHIFT, abs=1e-6) and not page._view.row.z_given


@pytest.mark.parametrize("name", ["results", "stored", "bare"])
def test_downloads_hold_what_is_shown(place, name):
    page = BrowsePage(source_of(place, name), Runner())
    page.open(0)
    settle(page)
    with fits.open(page._download("fits")) as hdus:
        assert hdus[0].header["Z"] == pytest.approx(REDSHIFT, abs=1e-6)
        assert {"SPEC1D", "LINES", "PZ", "INPUT"} <= {hdu.name for hdu in hdus}
    page._run(1.75)
    settle(page)
    with fits.open(page._download("fits")) as hdus:
        assert hdus[0].header["Z"] == 1.75 and hdus[0].header["ZSOURCE"] == "given"
    with zipfile.ZipFile(page._download("ecsv")) as archive:
        assert sorted(archive.namelist()) == ["spectrum_sr.ecsv", "spectrum_sr_lines.ecsv"]
        assert b"Z: 1.75" in archive.read("spectrum_sr.ecsv")


def test_every_source_says_the_same_of_a_galaxy(place):
    """One definition of S/N and detection, and one of the density of P(z), whatever the page reads."""
    result = SuperResolver(StandIn(), IDENTITY, BINS)(str(place / "files" / "gal1.fits"))
    row = row_of(result, "t1")
    for name in ("results", "stored", "bare"):
        shown = source_of(place, name).table.iloc[1]
        for column in ("sn_pixel", "sn_feature", "chi_square", "z_error", "brightest_snr"):
            assert shown[column] == pytest.approx(getattr(row, column), rel=1e-5), (name, column)
        assert shown["lines_detected"] == row.lines_detected == 3
    for name in ("results", "stored"):
        view = source_of(place, name).view(1)
        np.testing.assert_allclose(view.pz, result.redshift.density, atol=1e-4 * view.pz.max())


def test_a_redshift_that_was_given_is_given_again(place):
    source = source_of(place, "results")
    assert source.table["z_given"].tolist() == [False, False, True]
    given = source.observed(2)
    assert given.redshift == 1.5 and given.gratings == ()
    np.testing.assert_allclose(given.prism.flux, prism_spectrum(2).flux, rtol=1e-12)


def test_an_input_that_is_gone_is_said_so_and_the_page_goes_on(place):
    page = BrowsePage(source_of(place, "bare"), Runner())
    moved = place / "files" / "gal1.fits"
    moved.rename(place / "gal1.away")
    try:
        page.open(1)
        settle(page)
        assert "cannot be read any more" in page.status.object and "gal1.fits" in page.status.object
    finally:
        (place / "gal1.away").rename(moved)
    page.open(1)
    settle(page)
    assert page._view.row.name == "t1"


@pytest.fixture(scope="module")
def joint_place(tmp_path_factory):
    """Two galaxies with gratings, of which one has another scale, and one without: results, and surveys."""
    folder = tmp_path_factory.mktemp("joint")
    resolver, model = Runner(JointStandIn()).resolver, write_stand_in_folder(folder / "model", "default")
    for number, scale in enumerate((1.13, 0.4, None)):
        where = {"ra": 10.0 + 0.01 * number, "dec": 0.0, "target": f"t{number}", "source_id": str(number)}
        prism = folder / "files" / f"gal{number}.fits"
        write_spectrum(prism, prism_spectrum(number, **where), {})
        arms = [] if scale is None else [folder / "files" / f"arm{number}.fits"]
        for path in arms:
            write_spectrum(path, grating_spectrum(seed=number, scale=scale, **where), {})
        result = resolver(str(prism), gratings=list(map(str, arms)) or None)
        result.write(folder / "results" / f"gal{number}_sr.fits")
    for name, options in (("stored", ["--spectra"]), ("bare", [])):
        run_survey(folder / "files", folder / name, model, resolver, "--with", folder / "files", *options)
    return folder


@pytest.mark.parametrize("name", ["results", "stored", "bare"])
def test_gratings_of_a_result_are_shown(joint_place, name):
    page = BrowsePage(source_of(joint_place, name), Runner(JointStandIn()))
    assert page.source.table["arms"].fillna(0).tolist() == [1, 1, 0] and page.table.hidden_columns
    assert "arms" not in page.table.hidden_columns
    assert page.source.table["flags"].tolist() == ["", "ARMS_DISAGREE", ""]
    page.open(1)
    settle(page)
    text = page.gratings.objects[0].object
    scale, shift = re.search(r"G235M × ([\d.]+) ± [\d.]+, zero point ([+-]\d+) ± \d+ km/s", text).groups()
    assert float(scale) == pytest.approx(0.4, rel=0.2) and abs(float(shift)) < 60
    assert "prism alone z = 3.2350" in text and "color:#b00020" in text.split("flux scale of G235M:")[0]
    assert "flags: **ARMS_DISAGREE**" in page.summary.object and "lines detected" in page.summary.object
    assert "arms disagree" not in page.summary.object
    if name == "stored":  # a survey has no pixels of gratings: the model is asked for them
        assert not page.arms
        page._run(math.nan)
        settle(page)
    (arm,) = page.arms
    assert re.fullmatch(r"\*\*G235M\*\* residuals: χ² [01]\.\d\d per pixel, noise .*", arm.text)
    assert arm.poor and [pane.object for pane in page.gratings.objects[2:]] == [arm.figure, arm.below]
    data, inside = arm.data.data, np.isfinite(arm.data.data["residual"])
    assert np.std(data["residual"][inside]) == pytest.approx(1.0, abs=0.2)
    place = data["x"][inside][np.argmax(data["fit"][inside])]  # [O III] 5008
    assert place == pytest.approx(0.500824 * (1 + REDSHIFT), abs=2e-3)
    marks = dict(zip(arm.lines.data["name"], arm.lines.data["x"], strict=True))
    assert marks["[O III]"] == pytest.approx(0.500824 * (1 + REDSHIFT), abs=1.5e-3)
    page.slider.value = 3.0
    moved = dict(zip(arm.lines.data["name"], arm.lines.data["x"], strict=True))
    assert moved["[O III]"] / marks["[O III]"] == pytest.approx(4.0 / (1 + REDSHIFT), rel=1e-4)
    page.open(0)
    settle(page)
    assert "b00020" not in page.gratings.objects[0].object
    page.open(2)
    settle(page)
    assert page.gratings.objects == [] and page.arms == []


def test_gratings_are_looked_at_near_a_redshift_that_is_tried(joint_place):
    runner = Runner(JointStandIn())
    page = BrowsePage(source_of(joint_place, "results"), runner)
    page.open(0)
    settle(page)
    page._run(REDSHIFT + 0.001)
    settle(page)
    assert page.status.object == f"fresh from the model, near z = {REDSHIFT + 0.001:.4f}"
    assert page._result.arms.given == REDSHIFT + 0.001 and len(page.arms) == 1
    assert page._view.row.z == pytest.approx(REDSHIFT, abs=5e-4)
    page.runner = Runner(StandIn())
    page._run(math.nan)
    settle(page)
    assert "could not be run: gratings: this model states each line's error by itself" in page.status.object


def test_rows_are_chosen_by_redshift_and_flags():
    table = pd.DataFrame({"z": [0.5, 2.0, np.nan, 3.0], "flags": ["", "LOW_SN", "NO_COVERAGE", ""]})
    table["fit"], table["object_class"] = ["", "", "", "poor"], ["nothing", "", "nothing", "broad lines"]
    assert list(chosen_rows(table, (0.0, 15.0), "any", "poor").index) == [3]
    assert list(chosen_rows(table, (0.0, 15.0), "without flags", "good").index) == [0]
    assert list(chosen_rows(table, (0.0, 15.0), "any", kind="nothing").index) == [0, 2]
    assert list(chosen_rows(table, (0.0, 15.0), "any").index) == [0, 1, 2, 3]
    assert list(chosen_rows(table, (1.0, 15.0), "any").index) == [1, 3]
    assert list(chosen_rows(table, (0.0, 15.0), "without flags").index) == [0, 3]
    assert list(chosen_rows(table, (0.0, 15.0), "with flags").index) == [1, 2]


def test_the_page_filters_by_class_and_says_what_is_a_poor_fit(place, tmp_path):
    """P_FIT where a model states it, chi-square where not; columns that nothing fills are hidden."""

    class Poor(SecondStandIn):
        def row(self, one):
            return {**super().row(one), "fit_probability": 1e-5, "chi_square": 1.4}

    for name, network in (("fine", SecondStandIn()), ("odd", Poor())):
        SuperResolver(network, IDENTITY, BINS)(prism_spectrum()).write(tmp_path / f"{name}_sr.fits")
    page = BrowsePage(EnhanceSource(tmp_path), Runner())
    table = page.source.table
    assert table["fit"].tolist() == ["", "poor"] and table["p_fit"].tolist() == pytest.approx([0.5, 1e-5])
    assert page.classes.visible and page.classes.options == ["any", "broad lines"]
    assert page.table.hidden_columns == ["arms"]
    page.fits.value = "poor"
    assert page.table.current_view["object_id"].tolist() == ["odd"]
    page.open(1)
    settle(page)
    assert "poor fit" in page.summary.object and "P_FIT 1e-05" in page.summary.object
    assert "class: **broad lines**, chance of no redshift 0.25" in page.summary.object
    old = BrowsePage(source_of(place, "stored"), Runner())
    assert old.table.hidden_columns == list(_MAYBE) and not old.classes.visible


def test_marks_stand_at_rest_wavelengths_times_one_plus_z():
    marks = marked_lines(3.0, frozenset({"Halpha", "[OIII]_5008"}))
    wanted = {name: text for text, names in KEY_LINES for name in names}
    np.testing.assert_allclose(marks["x"], np.sort(observed_wavelengths(list(wanted), 3.0)))
    shown = dict(zip(marks["name"], marks["colour"], strict=True))
    assert {text for text in shown if text} == set(wanted.values())
    assert {text for text in shown if text and shown[text] == LINE_COLOUR} == {"Hα", "[O III]"}
    places = np.array(marks["place"])[[bool(name) for name in marks["name"]]]
    assert np.diff(places).min() > 0.09  # labels do not lie on each other
    assert marked_lines(math.nan)["x"] == []


def test_paths_are_told_apart(place, tmp_path, capsys):
    assert place_of(place / "stored")[0] == place_of(place / "stored" / "objects")[0] == "survey"
    assert place_of(place / "stored" / "objects" / "part-000000.parquet") == ("survey", place / "stored")
    assert place_of(place / "results" / "gal0_sr.fits")[0] == "results"
    for path, text in ((tmp_path, "holds neither a survey"), (tmp_path / "none", "no such file")):
        assert browse.main([str(path), "--no-open"]) == 1
        assert text in capsys.readouterr().err
    assert browse.main([str(place / "results"), "--port", "70000"]) == 2


class Server:
    """The command in a process of its own."""

    def __init__(self, path, model):
        command = [sys.executable, "-u", "-m", "kspecsr.browse", str(path), "--model", str(model)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--no-open"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        found = re.match(r"http://127\.0\.0\.1:\d+/", self.process.stdout.readline())
        assert found, self.process.communicate()
        self.address = found[0]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@pytest.fixture(scope="module")
def many(place):
    """The survey with spectra, and 100,000 more rows in its table of objects."""
    path = place / "stored" / "objects" / "part-000000.parquet"
    table = pq.read_table(path)
    n = 100_000
    rows = table.take(pa.array(np.zeros(n, int)))
    rng = np.random.default_rng(1)
    for name, values in {
        "input_row": np.arange(10, 10 + n),
        "object_id": [f"more_{k}" for k in range(n)],
        "z": rng.uniform(0.1, 9.0, n),
        "flags": np.where(rng.random(n) < 0.3, "LOW_SN", "").tolist(),
    }.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(
            index, rows.schema.field(index), pa.array(values, rows.schema.field(index).type)
        )
    other = path.with_name("part-000001.parquet")
    pq.write_table(rows, other)
    yield place / "stored"
    other.unlink()


DEEP = """
const found = [];
const walk = (node) => {
  for (const e of node.querySelectorAll('*')) {
    if (e.matches(arguments[0])) found.push(e);
    if (e.shadowRoot) walk(e.shadowRoot);
  }
};
walk(document);
return found;
"""
SOURCE = """
const model = Bokeh.documents[0].get_model_by_name(arguments[0]);
return Array.from(model.data[arguments[1]]);
"""


class Browser:
    """Headless Chromium, looking into shadow roots."""

    def __init__(self, downloads):
        if shutil.which("chromedriver") is None:
            pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver")
        options = webdriver.ChromeOptions()
        for text in ("--headless=new", "--no-sandbox", "--window-size=1400,1500", "--disable-dev-shm-usage"):
            options.add_argument(text)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))

    def find(self, selector):
        return self.driver.execute_script(DEEP, selector)

    def until(self, condition, seconds=60.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except Exception as error:  # elements are replaced while they are looked at
                last = error
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds:g} s: {locals().get('last')} {self.text()}")

    def text(self):
        return " ".join(element.text for element in self.find(".bk-panel-models-markup-HTML, .markdown"))

    def column(self, field):
        cells = self.find(f'.tabulator-row .tabulator-cell[tabulator-field="{field}"]')
        return [cell.text for cell in cells]

    def data(self, name, column):
        return self.driver.execute_script(SOURCE, name, column)

    def requests(self):
        messages = [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]


@pytest.mark.long
def test_the_page_in_a_browser_with_a_hundred_thousand_rows(many, tmp_path, tmp_path_factory):
    browser = Browser(tmp_path)
    server = Server(many, tiny_model(tmp_path_factory.mktemp("tiny") / "model"))
    try:
        browser.driver.get(server.address)
        browser.until(lambda: len(browser.column("object_id")) == 12)
        assert "100,003 objects" in browser.text()

        # sorted by the server: the highest redshift of all rows comes first
        (header,) = browser.find('.tabulator-col[tabulator-field="z"] .tabulator-col-title')
        for _ in range(2):
            header.click()
            time.sleep(1.0)
        browser.until(lambda: float(browser.column("z")[0]) > 8.99)

        # filtered by the server: one of 100,003
        (box,) = browser.find('.tabulator-col[tabulator-field="object_id"] input')
        box.send_keys("t1", Keys.ENTER)
        browser.until(lambda: browser.column("object_id") == ["t1"])

        # clicked: spectrum, lines at z, P(z), table of lines
        browser.find('.tabulator-row .tabulator-cell[tabulator-field="object_id"]')[0].click()
        browser.until(lambda: "t1" in browser.text() and f"z = {REDSHIFT:.4f}" in browser.text())
        marks = dict(zip(browser.data("line marks", "name"), browser.data("line marks", "x"), strict=True))
        assert marks["Hα"] == pytest.approx(HALPHA * (1 + REDSHIFT), abs=1e-4)
        assert len(browser.data("super-resolved", "x")) == IDENTITY.grid.size
        assert browser.until(lambda: "[O III] 5008" in browser.column("line"))

        # the slider moves the lines, and the model runs at the new redshift
        handle = browser.until(lambda: [e for e in browser.find(".noUi-handle") if e.is_displayed()])[-1]
        handle.send_keys(Keys.ARROW_RIGHT)
        browser.until(lambda: "fresh from the model, at z =" in browser.text(), 90)
        z = float(re.search(r"fresh from the model, at z = ([\d.]+)", browser.text())[1])
        assert z > REDSHIFT
        marks = dict(zip(browser.data("line marks", "name"), browser.data("line marks", "x"), strict=True))
        assert marks["Hα"] == pytest.approx(HALPHA * (1 + z), abs=1e-3)
        assert len(browser.data("super-resolved", "x")) != IDENTITY.grid.size  # the tiny model's own grid

        # the button gives the file of what is shown
        button = next(b for b in browser.find(".bk-btn, a, button") if "download FITS" in b.text)
        button.click()
        (path,) = browser.until(lambda: list(tmp_path.glob("*.fits")))
        assert path.name == "t1_sr.fits" and fits.getval(path, "Z") == pytest.approx(z, abs=1e-3)

        # offline: everything came from this machine; nothing went wrong in the page
        assert {url.split("/")[2] for url in browser.requests()} == {server.address.split("/")[2]}
        severe = [one["message"] for one in browser.driver.get_log("browser") if one["level"] == "SEVERE"]
        assert severe == []
    finally:
        if folder := os.environ.get("KSPECSR_SCREENSHOTS"):
            browser.driver.save_screenshot(os.path.join(folder, "browse.png"))
        browser.driver.quit()
        status, err = server.stop()
    assert status == 130 and "Traceback" not in err
