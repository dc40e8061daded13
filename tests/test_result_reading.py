"""Results read back from files: what was written is there, and is written again to the last byte."""

import re
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import kspecsr
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import SpectrumError
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import BINS, ERROR, GRID, IDENTITY, LINE_FLUX, REDSHIFT, StandIn, prism_spectrum
from kspecsr.results.flags import LOW_SN, NO_COVERAGE
from kspecsr.results.prism_input import seen_on_grid
from kspecsr.results.result import Result
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver

ROOT = Path(__file__).resolve().parents[1]
NOTES = ("2 pixels masked: error is zero", "x" * 71 + " " + "y" * 100, "wavelengths descend; reversed")
SPECTRA = ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error", "wavelength")
LINES = (
    "flux",
    "flux_error",
    "wavelength",
    "fwhm",
    "equivalent_width",
    "presence",
    "in_range",
    "prior_weight",
)


def result_of(spectrum, masked=(), network=None, **options):
    mask = spectrum.mask.copy()
    for rows in masked:
        mask[rows] = True
    return SuperResolver(network or StandIn(), IDENTITY, BINS)(spectrum.replace(mask=mask), **options)


def noise():
    spectrum = prism_spectrum()
    return spectrum.replace(flux=ERROR * np.random.default_rng(0).standard_normal(len(spectrum)))


def ambiguous():
    """A stand-in whose P(z) has two modes, the lighter one at its own redshift."""
    network = StandIn()
    plain = network.row

    def two_modes(one):
        found = plain(one)
        probability = found["redshift_probability"]
        return {**found, "redshift_probability": 0.9 * probability + 0.1 * np.roll(probability, 500)}

    network.row = two_modes
    return network


CASES = {
    "plain": lambda: result_of(prism_spectrum(path="dir/gal_x1d.fits", notes=NOTES)),
    "gaps": lambda: result_of(prism_spectrum(flux_unit="uJy"), [slice(300, 320), slice(650, None)]),
    "given": lambda: result_of(prism_spectrum(ra=53.1, dec=-27.8, exposure_time=3e4), redshift=2.5),
    "two modes": lambda: result_of(prism_spectrum(flux_unit="mJy"), network=ambiguous()),
    "scaled": lambda: result_of(prism_spectrum(flux_unit="1e-20 erg / (s cm2 Angstrom)")),
    "watts": lambda: result_of(prism_spectrum(flux_unit="W / (m2 um)")),
    "odd names": lambda: result_of(
        prism_spectrum(path="Grün/" + "long " * 30 + "'µ .fits", target="N ' 1 \n")
    ),
    "noise": lambda: result_of(noise()),
    "empty": lambda: result_of(prism_spectrum(), [slice(20, None)]),
}


@pytest.fixture(params=CASES)
def result(request):
    return CASES[request.param]()


@pytest.fixture
def later(monkeypatch):
    """Another day, for whatever is asked for the time."""

    class Later(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime(2031, 2, 3, tzinfo=zone or UTC)

        @classmethod
        def utcnow(cls):
            return datetime(2031, 2, 3)

    import astropy.io.fits.hdu.base as base

    monkeypatch.setattr(base.datetime, "datetime", Later)
    monkeypatch.setattr("kspecsr.results.data.datetime", Later)


def test_fits_gives_back_what_was_written(result, tmp_path):
    result.write(tmp_path / "x_sr.fits")
    back = Result.read(tmp_path / "x_sr.fits")
    for name in SPECTRA:
        np.testing.assert_allclose(getattr(back, name), getattr(result, name), rtol=2e-7)
    np.testing.assert_array_equal(back.mask, result.mask)
    for name in LINES:
        np.testing.assert_allclose(
            getattr(back.measurements, name), getattr(result.measurements, name), rtol=2e-7
        )
    for name in ("flux", "error", "wavelength", "mask"):
        np.testing.assert_allclose(getattr(back.observed, name), getattr(result.observed, name), rtol=1e-13)
    for name in ("prism_flux", "prism_error", "prism_mask", "prism_wavelength"):
        np.testing.assert_allclose(getattr(back, name), getattr(result, name), rtol=1e-12)
    seen = np.isfinite(back.prism_model)
    np.testing.assert_allclose(back.prism_model[seen], result.prism_model[seen], rtol=1e-5)
    # a few pixels beside a gap see what is masked in the output
    assert (seen_on_grid(GRID) & ~result.prism_mask & ~seen).sum() < 20
    assert (back.flags, back.date, back.model) == (result.flags, result.date, result.model)
    np.testing.assert_equal(back.chi_square, result.chi_square)
    assert back.flux_unit == result.flux_unit
    before, after = result.observed.meta, back.observed.meta
    for name in ("ra", "dec", "exposure_time"):
        np.testing.assert_equal(getattr(after, name), getattr(before, name))
    assert (after.disperser, after.source_id) == (before.disperser, before.source_id)
    assert [n.isascii() for n in after.notes] == [True] * len(before.notes)


def test_the_redshift_comes_back_with_its_modes_and_density(result, tmp_path):
    result.write(tmp_path / "x_sr.fits")
    before, after = result.redshift, Result.read(tmp_path / "x_sr.fits").redshift
    # a card has room for 15 digits of some numbers
    for name in ("value", "error", "confidence", "given"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-13)
    for name in ("redshift", "error", "mass"):
        stated = [[getattr(mode, name) for mode in one.modes] for one in (after, before)]
        np.testing.assert_allclose(*stated, rtol=1e-13)
    np.testing.assert_allclose(after.density, before.density, rtol=2e-7, atol=1e-30)
    np.testing.assert_allclose(after.bins, before.bins, rtol=1e-12)
    # the probabilities behind the smooth density of the file, to what float32 leaves of them
    np.testing.assert_allclose(after.probability, before.probability, atol=2e-6 * before.probability.max())
    assert after.probability.min() >= 0
    if before.modes:
        shares = [0.16, 0.5, 0.84]
        np.testing.assert_array_equal(after.quantile(shares), before.quantile(shares))
        assert after.quantile(0.3) == pytest.approx(float(before.quantile(0.3)), abs=1e-5)
        assert all(mode.low < mode.redshift < mode.high for mode in after.modes)


@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_written_read_and_written_again_the_bytes_are_the_same(result, tmp_path, later, monkeypatch, ending):
    first = result.write(tmp_path / f"x_sr.{ending}")
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")  # paths of the input must not depend on where this runs
    second = Result.read(first[0]).write(tmp_path / "again" / f"x_sr.{ending}")
    assert [path.name for path in first] == [path.name for path in second]
    for before, after in zip(first, second, strict=True):
        assert before.read_bytes() == after.read_bytes()
    if ending == "fits":
        with fits.open(second[0], checksum=True) as hdus:
            assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in hdus)


def test_dates_are_of_the_result_and_not_of_the_file(tmp_path, later):
    made = result_of(prism_spectrum())
    assert made.date == "2031-02-03T00:00:00"
    result = replace(made, date="2026-05-04T03:02:01")
    result.write(tmp_path / "x_sr.fits")
    text = (tmp_path / "x_sr.fits").read_bytes()
    assert text.count(b"2026-05-04T03:02:01") == 11 and b"2031" not in text


def test_ecsv_gives_the_spectrum_and_lines_and_says_what_it_lacks(result, tmp_path):
    result.write(tmp_path / "x_sr.ecsv")
    back = Result.read(tmp_path / "x_sr.ecsv")
    for name in SPECTRA:
        np.testing.assert_allclose(getattr(back, name), getattr(result, name), rtol=2e-7)
    np.testing.assert_array_equal(back.measurements.flux, result.measurements.flux)
    assert len(back.observed) == 0 and back.prism_mask.all()
    assert back.redshift.bins.size == 0 and len(back.redshift.modes) == len(result.redshift.modes)
    if result.redshift.modes:
        shares = [0.5, 0.84]
        np.testing.assert_array_equal(back.redshift.quantile(shares), result.redshift.quantile(shares))
    with pytest.raises(ValueError, match=r"states the quantiles 0.16, 0.5, 0.84 of P\(z\) only"):
        back.redshift.quantile(0.3)
    with pytest.raises(ValueError, match=r"lacks the prism spectrum and P\(z\), so it cannot be drawn"):
        back.plot()
    assert row_of(back, "x").z == pytest.approx(result.redshift.value, nan_ok=True)


def test_a_picture_of_a_read_result_is_that_of_the_result(tmp_path):
    result = CASES["gaps"]()
    result.write(tmp_path / "x_sr.fits")
    figures = result.plot(), kspecsr.read_result(tmp_path / "x_sr.fits").plot()
    for before, after in zip(*(figure.axes for figure in figures), strict=True):
        np.testing.assert_allclose(after.get_xlim(), before.get_xlim(), rtol=1e-5)
        np.testing.assert_allclose(after.get_ylim(), before.get_ylim(), rtol=1e-4)


def test_files_without_cards_of_today_are_read(tmp_path):
    """As older versions wrote them: no hash of the path, other lines in the list."""
    CASES["plain"]().write(tmp_path / "x_sr.fits")
    with fits.open(tmp_path / "x_sr.fits") as hdus:
        del hdus[0].header["INPUTPSH"], hdus[0].header["LSFINSCL"]
        names = [name.strip() for name in hdus["LINES"].data["NAME"]]
        hdus["LINES"].data = hdus["LINES"].data[[k for k, name in enumerate(names) if name != "Halpha"]]
        hdus.writeto(tmp_path / "old_sr.fits")
    result = Result.read(tmp_path / "old_sr.fits")
    lines = result.lines
    row = list(lines["NAME"]).index("Halpha")
    assert np.isnan(lines["FLUX"][row].value) and not lines["IN_RANGE"][row] and lines["PRESENCE"][row] == 0
    row = list(lines["NAME"]).index("[OIII]_5008")
    assert lines["FLUX"][row].value == pytest.approx(3e-18, rel=1e-6, abs=0)


def test_what_is_no_result_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.fits: no such file"):
        kspecsr.read_result(tmp_path / "nowhere.fits")
    path = tmp_path / "x_sr.fits"
    CASES["plain"]().write(path)
    whole = path.read_bytes()
    write_spectrum(tmp_path / "spectrum.fits", prism_spectrum(), {})
    QTable({"a": [1.0]}).write(tmp_path / "other.ecsv")
    (tmp_path / "cut.fits").write_bytes(whole[:100_000])
    (tmp_path / "text.fits").write_text("nothing")
    for name in ("spectrum.fits", "other.ecsv", "cut.fits", "text.fits"):
        with pytest.raises(ValueError, match=f"{name}: no readable result .*kspecsr enhance"):
            kspecsr.read_result(tmp_path / name)


def test_the_format_follows_the_ending(tmp_path):
    result = CASES["plain"]()
    assert result.write(tmp_path / "a.fits") == [tmp_path / "a.fits"]
    assert [path.name for path in result.write(tmp_path / "a.ecsv")] == ["a.ecsv", "a_lines.ecsv"]
    assert QTable.read(tmp_path / "a.ecsv", format="ascii.ecsv")["FLUX"].info.description == "super-resolved"
    for name in ("a.txt", "a", "a.fits.gz"):
        with pytest.raises(ValueError, match=rf"{name}: the ending does not say.*expected \.fits or \.ecsv"):
            result.write(tmp_path / name)
    assert result.write(tmp_path / "b.dat", format="fits")[0].read_bytes().startswith(b"SIMPLE")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ecsv", "a.fits", "a_lines.ecsv", "b.dat"]


def test_the_table_of_lines_is_one_object(tmp_path):
    result = CASES["plain"]()
    assert result.lines is result.lines
    result.lines.info(out=None)
    result.lines["X"] = 1
    assert "X" in result.lines.colnames
    result.write(tmp_path / "x.ecsv")
    assert "X" not in QTable.read(tmp_path / "x_lines.ecsv", format="ascii.ecsv").colnames


def test_results_are_shown_in_one_line():
    assert repr(CASES["plain"]()) == f"<Result of gal_x1d.fits: z = {REDSHIFT:.4f} (+- 0.0045), 3 lines>"
    # at a redshift that is not the galaxy's
    assert "z = 2.5000 (given), 3 lines, poor fit (chi-square 9.3 per" in repr(CASES["given"]())
    assert repr(CASES["noise"]()).endswith(f"flags {LOW_SN}>")
    assert repr(CASES["empty"]()).endswith(f"no redshift, flags {NO_COVERAGE}>")


def test_notebooks_show_picture_redshift_and_detected_lines(tmp_path):
    page = CASES["plain"]()._repr_html_()
    ElementTree.fromstring(f"<div>{page}</div>")  # well-formed, also with the < and > of the repr
    picture = b64decode(re.search(r"base64,([^\"]+)", page)[1])
    assert picture.startswith(b"\x89PNG") and len(picture) < 300_000
    assert f"z = {REDSHIFT:.4f}" in page
    assert re.findall(r"<tr><td>([^<]*)", page) == ["[O III] 5008", "Hα", "[O II] 3730"]
    flagged = CASES["noise"]()._repr_html_()
    assert "<img" in flagged and LOW_SN in flagged and "<tr>" not in flagged
    CASES["plain"]().write(tmp_path / "x.ecsv")  # without the prism there is no picture
    page = kspecsr.read_result(tmp_path / "x.ecsv")._repr_html_()
    assert "<img" not in page and "Hα" in page


def test_models_are_shown_in_one_line():
    resolver = SuperResolver(StandIn(), IDENTITY, BINS)
    assert repr(resolver).startswith(
        "<SuperResolver of model stand-in (abababababab): spectra to 0.7-5.3 um, "
    )
    page = ElementTree.fromstring(f"<div>{resolver._repr_html_()}</div>")
    assert "software: kspecsr 0.1.0" in [one.text for one in page]


def test_lines_of_many_results_are_one_table():
    table = kspecsr.line_table(iter([CASES["plain"](), CASES["noise"](), CASES["given"]()]), ["a", "b", "c"])
    assert list(dict.fromkeys(table["SPECTRUM"])) == ["a", "c"]
    assert table.meta["without_lines"] == {"b": [LOW_SN]}
    lines = CASES["given"]().lines
    of_c = table[table["SPECTRUM"] == "c"]
    np.testing.assert_array_equal(of_c["FLUX"], lines["FLUX"][lines["IN_RANGE"]])
    assert of_c["FLUX"].unit == "erg / (s cm2)" and set(of_c["Z"]) == {2.5}
    assert list(of_c["NAME"][of_c["DETECTED"]]) == list(LINE_FLUX)
    assert all(table[name].info.description for name in table.colnames)
    with pytest.raises(ValueError, match="expected one result or more, got none"):
        kspecsr.line_table([])


class Application:
    """The calls of jdaviz that are used."""

    def __init__(self):
        self.spectra, self.lines = {}, None

    def load(self, spectrum, format, data_label):
        assert format == "1D Spectrum"
        self.spectra[data_label] = spectrum

    def load_line_list(self, table):
        self.lines = table


def test_specviz_gets_spectrum_prism_and_lines_with_mask_and_redshift():
    result = CASES["gaps"]()
    app, empty = Application(), Application()
    result.show_in_specviz(app)
    sharp, prism = app.spectra.values()
    assert [name.split()[-1] for name in app.spectra] == ["super-resolved", "prism"]
    assert sharp.flux.unit == prism.flux.unit == result.flux_unit
    for spectrum, mask in ((sharp, result.mask), (prism, result.observed.mask)):
        np.testing.assert_array_equal(spectrum.mask, mask)
        assert mask.any() and spectrum.redshift.value == pytest.approx(result.redshift.value)
        assert spectrum.uncertainty is not None
    assert list(app.lines["linename"]) == list(result.lines["NAME"][result.measurements.detected])
    assert app.lines["rest"].unit == "Angstrom" and app.lines.meta["medium"] == "Vacuum"
    CASES["empty"]().show_in_specviz(empty)
    assert len(empty.spectra) == 2 and empty.lines is None


def test_the_checksum_of_the_input_is_there_however_it_was_made(tmp_path):
    write_spectrum(tmp_path / "gal.fits", prism_spectrum(), {})
    resolver = SuperResolver(StandIn(), IDENTITY, BINS)
    result = resolver(str(tmp_path / "gal.fits"))
    result.write(tmp_path / "gal_sr.fits")
    run = subprocess.run(["sha256sum", tmp_path / "gal.fits"], capture_output=True, text=True, check=True)
    assert result.input_sha256 == run.stdout.split()[0]
    assert fits.getheader(tmp_path / "gal_sr.fits")["INPUTSHA"] == result.input_sha256
    again = resolver(Result.read(tmp_path / "gal_sr.fits").observed)  # as the page does
    assert again.input_sha256 == result.input_sha256
    assert resolver(prism_spectrum()).input_sha256 == ""


def test_spectrum_carries_the_redshift():
    assert CASES["given"]().spectrum.redshift.value == pytest.approx(2.5)
    assert CASES["empty"]().spectrum.redshift.value == 0.0


@pytest.mark.parametrize("imports", ["import kspecsr", "import data_pipeline"])
@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_specutils_knows_results_by_themselves(tmp_path, imports, ending):
    """Unit, mask and redshift; the light import alone registers the readers."""
    result = CASES["gaps"]()
    result.write(tmp_path / f"x_sr.{ending}")
    code = f"""
import sys
{imports}
assert not {{"specutils", "astropy", "numpy", "tensorflow"}} & set(sys.modules)
from specutils import Spectrum
s = Spectrum.read(sys.argv[1])
print(s.flux.unit, int(s.mask.sum()), s.redshift.value, s.flux.size, s.meta["format"])
"""
    command = [sys.executable, "-c", code, str(tmp_path / f"x_sr.{ending}")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    unit, masked, redshift, size, name = run.stdout.split()
    assert (unit, name) == ("uJy", "kspecsr-sr")
    assert (int(masked), int(size)) == (result.mask.sum(), result.mask.size)
    assert float(redshift) == pytest.approx(REDSHIFT)
    with pytest.raises(SpectrumError, match="is a SUPER-RESOLVED spectrum"):
        SuperResolver(StandIn(), IDENTITY, BINS)(tmp_path / f"x_sr.{ending}")
    assert read_spectrum(tmp_path / f"x_sr.{ending}").meta.redshift == pytest.approx(REDSHIFT)


def test_features_count_on_the_models_range(tmp_path):
    """A feature beyond the output is none, for tables as for the flag LOW_SN."""
    spectrum = noise()
    beyond = spectrum.wavelength < 0.65
    result = result_of(spectrum.replace(flux=np.where(beyond, 100 * ERROR, spectrum.flux)))
    assert result.flags == (LOW_SN,)
    row = row_of(result, "x")
    assert row.sn_feature < 6.0 and row.sn_continuum < 5.0
    result.write(tmp_path / "x_sr.fits")
    assert row_of(Result.read(tmp_path / "x_sr.fits"), "x").sn_feature == pytest.approx(
        row.sn_feature, rel=1e-9
    )
    inside = result_of(
        spectrum.replace(flux=np.where(np.arange(len(spectrum)) // 5 == 60, 100 * ERROR, spectrum.flux))
    )
    assert row_of(inside, "x").sn_feature > 100
