"""Broad components of lines in results, files, tables, surveys, pictures and on the page."""

import math
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.lines import load_lines
from enhancement_sample import BINS, IDENTITY, LINE_FLUX, REDSHIFT, SecondStandIn, StandIn, prism_spectrum
from kspecsr.browser.plots import UNIT, SpectrumPlot
from kspecsr.browser.sources import view_of
from kspecsr.results.broad import broad_profile
from kspecsr.results.lines import BROAD_COLUMNS
from kspecsr.results.many import as_table, lines_of
from kspecsr.results.result import Result
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver
from kspecsr.surveys.result_rows import line_rows, object_rows
from kspecsr.surveys.tables import LINES, OBJECTS, SurveyInput, SurveySettings, table_schema

HALPHA = load_lines().index("Halpha")


@pytest.fixture(scope="module")
def result():
    return SuperResolver(SecondStandIn(), IDENTITY, BINS)(prism_spectrum())


def test_narrow_and_broad_add_up_and_forbidden_lines_have_no_width(result):
    lines, table = result.measurements, result.lines
    assert lines.broad.likely and lines.broad.fwhm == 3000.0
    seen = lines.reported
    np.testing.assert_allclose((lines.broad.narrow_flux + lines.broad.broad_flux)[seen], lines.flux[seen])
    assert lines.broad.broad_flux[HALPHA] == pytest.approx(0.25 * LINE_FLUX["Halpha"], abs=0)
    assert table["FWHM_BROAD"].unit == "km / s" and table["FWHM_BROAD"][HALPHA].value == 3000.0
    others = np.arange(len(table)) != HALPHA
    assert np.isnan(table["FWHM_BROAD"].value[others]).all() and np.isnan(table["P_BROAD"][others]).all()
    assert table["P_BROAD"][HALPHA] == pytest.approx(0.9)
    plain = SuperResolver(StandIn(), IDENTITY, BINS)(prism_spectrum())
    assert plain.measurements.broad is None and "P_BROAD" not in plain.lines.colnames
    mixed = lines_of([plain, result])
    assert np.isnan(mixed["FLUX_BROAD"][: plain.measurements.reported.sum()]).all()
    assert len(mixed) == 2 * seen.sum()


@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_files_keep_them(result, tmp_path, ending):
    first, again = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    result.write(first)
    read = Result.read(first)
    assert read.measurements.broad.probability == pytest.approx(0.9)
    assert (read.measurements.broad.fwhm, read.measurements.broad.fwhm_error) == (3000.0, 400.0)
    for name in ("narrow_flux", "narrow_flux_error", "broad_flux", "broad_flux_error"):
        mine, other = (getattr(one.measurements.broad, name) for one in (read, result))
        np.testing.assert_allclose(mine, other, rtol=1e-6)
    read.write(again)
    assert first.read_bytes() == again.read_bytes()
    if ending == "fits":
        header, columns = fits.getheader(first), fits.getdata(first, "LINES").columns.names
        assert header["P_BROAD"] == pytest.approx(0.9) and header["FWHM_BRD"] == 3000.0
        assert set(BROAD_COLUMNS) <= set(columns)


def test_the_profile_has_the_flux_and_the_width():
    wavelength, centre = np.linspace(2.0, 3.6, 16001), 2.78
    profile = broad_profile(wavelength, np.array([centre, np.nan]), np.array([1e-18, 1e-18]), 3000.0)
    assert profile.sum() * 1.0 == pytest.approx(1e-18, rel=1e-4, abs=0)  # pixels of one Angstrom
    above = wavelength[profile > profile.max() / 2]
    assert (above[-1] - above[0]) / centre * 299792.458 == pytest.approx(3015.0, abs=25.0)  # with R = 1000
    assert not broad_profile(wavelength, np.array([centre]), np.array([0.0]), 3000.0).any()


def test_the_picture_draws_them_and_says_their_width(result):
    figure = result.plot()
    drawn = [line for line in figure.axes[0].lines if line.get_label() == "broad lines, 3000 km/s"]
    (curve,) = drawn
    height = np.nanargmax(curve.get_ydata())
    assert curve.get_xdata()[height] == pytest.approx(0.656461 * (1 + REDSHIFT), abs=2e-3)
    assert "broad lines of FWHM 3000 ± 400 km/s (chance 0.90)" in figure.get_suptitle()
    unlikely = replace(result.measurements.broad, probability=0.4)
    other = replace(result, measurements=replace(result.measurements, broad=unlikely))
    assert other.broad_spectrum is None and "broad" not in other.plot().get_suptitle()


def test_rows_surveys_and_the_page_have_them(result):
    row = row_of(result, "one")
    assert (row.p_broad, row.fwhm_broad, row.fwhm_broad_error) == pytest.approx((0.9, 3000.0, 400.0))
    assert "broad lines of 3000 +- 400 km/s" in row.summary
    assert as_table([row])["FWHM_BROAD"].unit == "km / s"
    plain = SuperResolver(StandIn(), IDENTITY, BINS)(prism_spectrum())
    settings = SurveySettings("files", "", 2, 1, 2, "m", "")
    inputs = [SurveyInput(number, str(number), "x") for number in range(2)]
    lines = line_rows(inputs, [result, plain], table_schema(LINES, settings)).to_pandas()
    objects = object_rows(inputs, [result, plain], table_schema(OBJECTS, settings)).to_pylist()
    assert objects[0]["fwhm_broad"] == 3000.0 and math.isnan(objects[1]["p_broad"])
    halpha = lines[lines["line"] == "Halpha"]
    expected = [0.25 * LINE_FLUX["Halpha"], np.nan]
    assert halpha["flux_broad"].tolist() == pytest.approx(expected, rel=1e-6, abs=0, nan_ok=True)
    assert halpha["flux_narrow_error"].iloc[0] == pytest.approx(2e-20, rel=1e-6, abs=0)
    view, plot = view_of(row, result), SpectrumPlot()
    plot.show(view)
    np.testing.assert_array_equal(plot.broad.data["y"], result.broad_spectrum / UNIT)
    assert plot.figure.legend[0].items[-1].visible
    assert "broad lines of 3000 ± 400 km/s (chance 0.90)" in view.summary
    plot.show(view_of(row_of(plain, "two"), plain))
    assert plot.broad.data["x"] == [] and not plot.figure.legend[0].items[-1].visible
