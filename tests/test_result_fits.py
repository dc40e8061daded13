import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from specutils import Spectrum

from data_pipeline.lines import load_lines
from data_pipeline.readers import read_spectrum
from enhancement_sample import (
    BINS,
    CONTINUUM,
    GRID,
    IDENTITY,
    LINE_FLUX,
    REDSHIFT,
    StandIn,
    prism_spectrum,
    sharp_lines,
)
from kspecsr.super_resolver import SuperResolver

TRUTH = CONTINUUM + sharp_lines(REDSHIFT)
F_LAMBDA = u.Unit("erg / (s cm2 Angstrom)")


def result_of(spectrum, **options):
    return SuperResolver(StandIn(), IDENTITY, BINS)(spectrum, **options)


@pytest.fixture(scope="module")
def in_microjansky(tmp_path_factory):
    """A result of a spectrum whose file is in uJy, with masked pixels."""
    spectrum = prism_spectrum(flux_unit="uJy", path="dir/gal_x1d.fits", notes=("2 pixels masked: μ",))
    mask = spectrum.mask.copy()
    mask[300:320] = True
    path = tmp_path_factory.mktemp("fits") / "gal_sr.fits"
    result = result_of(spectrum.replace(mask=mask))
    result.write(path)
    return result, path


def test_the_layout_is_complete_and_valid(in_microjansky):
    _, path = in_microjansky
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        assert [h.name for h in hdus] == ["PRIMARY", "SPEC1D", "LINES", "PZ", "INPUT"]
        for hdu in hdus:
            assert hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1
        assert hdus["SPEC1D"].columns.names == [
            "WAVELENGTH", "FLUX", "FLUX_ERR", "MASK", "CONTINUUM", "FLUX_SR1", "ERR_SR1",
        ]  # fmt: skip
        assert hdus["LINES"].columns.names == [
            "NAME", "WAVE_REST", "WAVE_OBS", "FLUX", "FLUX_ERR", "FWHM", "EW_REST", "PRESENCE", "SNR",
            "UPPER_LIMIT", "IN_RANGE", "PRIOR_WEIGHT",
        ]  # fmt: skip
        assert hdus["PZ"].columns.names == ["Z", "PDF"]


def test_the_header_says_where_the_result_comes_from(in_microjansky):
    result, path = in_microjansky
    header = fits.getheader(path)
    assert header["Z"] == pytest.approx(REDSHIFT)
    assert (header["Z_CONF"], header["ZSOURCE"]) == (pytest.approx(1.0), "spectrum")
    assert header["Z_ERR"] == pytest.approx(result.redshift.error)
    assert header["CHI2NU"] == pytest.approx(result.chi_square)
    assert "2/3" in header.comments["CHI2NU"]
    assert (header["INPUT"], header["INDISP"], header["MODEL"]) == ("gal_x1d.fits", "PRISM", "stand-in")
    assert header["MODELSHA"] == "ab" * 32
    assert (header["GRIDLO"], header["GRIDHI"], header["GRIDSAMP"]) == (0.7, 5.3, 3000.0)
    assert header["VERSION KSPECSR"] == "0.1.0"
    assert "nirspec-medium-stitched" in header["LSF"] and header["LSFINSCL"] == 1.22
    assert header["FLAGS"] == ""


def test_flux_in_microjansky_goes_there_and_back(in_microjansky):
    result, path = in_microjansky
    table = QTable.read(path, hdu="SPEC1D")
    assert table["FLUX"].unit == u.uJy and table["WAVELENGTH"].unit == u.um
    good = ~table["MASK"]
    assert good.sum() < GRID.size
    flux = table["FLUX"][good].to_value(F_LAMBDA, u.spectral_density(table["WAVELENGTH"][good]))
    np.testing.assert_allclose(flux, TRUTH[good], rtol=1e-6)
    for name in ("FLUX", "FLUX_ERR", "CONTINUUM", "FLUX_SR1", "ERR_SR1"):
        assert np.isnan(fits.getdata(path, "SPEC1D")[name][table["MASK"]]).all()
    given = QTable.read(path, hdu="INPUT")
    back = given["FLUX"].to_value(F_LAMBDA, u.spectral_density(given["WAVELENGTH"]))
    np.testing.assert_allclose(back, result.observed.flux, rtol=1e-12)
    np.testing.assert_array_equal(given["MASK"], result.observed.mask)


def test_lines_have_units_and_values(in_microjansky):
    _, path = in_microjansky
    table = QTable.read(path, hdu="LINES")
    assert len(table) == len(load_lines())
    assert [str(n).strip() for n in table["NAME"]] == list(load_lines().names)
    assert table["FLUX"].unit == u.erg / u.s / u.cm**2 == table["UPPER_LIMIT"].unit
    assert (table["WAVE_REST"].unit, table["FWHM"].unit, table["EW_REST"].unit) == (u.AA, u.um, u.AA)
    row = load_lines().index("Halpha")
    assert float(table["FLUX"][row].value) == pytest.approx(LINE_FLUX["Halpha"], rel=1e-6, abs=0)
    assert table["IN_RANGE"].dtype == bool


def test_probability_integrates_to_one_and_lists_modes(in_microjansky):
    _, path = in_microjansky
    table, header = Table.read(path, hdu="PZ"), fits.getheader(path, "PZ")
    assert np.trapezoid(table["PDF"], table["Z"]) == pytest.approx(1.0, abs=1e-3)
    assert (header["ZMODE1"], header["ZMASS1"]) == (pytest.approx(REDSHIFT, abs=1e-3), pytest.approx(1.0))


def test_specutils_reads_it_with_and_without_this_package(in_microjansky):
    result, path = in_microjansky
    spectrum = Spectrum.read(path)
    good = ~result.mask
    flux = spectrum.flux[good].to_value(F_LAMBDA, u.spectral_density(spectrum.spectral_axis[good]))
    np.testing.assert_allclose(flux, TRUTH[good], rtol=1e-6)
    code = (
        "import sys, numpy as np\nfrom specutils import Spectrum\n"
        "s = Spectrum.read(sys.argv[1], format='tabular-fits', hdu=1)\n"
        "print(s.flux.unit, s.spectral_axis.unit, s.flux.size, s.uncertainty is not None)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["uJy", "um", str(GRID.size), "True"]


def test_this_package_reads_it_with_its_mask(in_microjansky):
    result, path = in_microjansky
    spectrum = read_spectrum(path)
    np.testing.assert_array_equal(spectrum.mask, result.mask)
    good = ~result.mask
    np.testing.assert_allclose(spectrum.flux[good], TRUTH[good], rtol=1e-6)
    assert spectrum.meta.flux_unit == "uJy"


def test_what_is_unknown_is_blank_and_flags_are_named(tmp_path):
    spectrum = prism_spectrum()
    mask = spectrum.mask.copy()
    mask[20:] = True
    result_of(spectrum.replace(mask=mask)).write(tmp_path / "x_sr.fits")
    with fits.open(tmp_path / "x_sr.fits", checksum=True) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert header["Z"] is None
        assert header["FLAGS"] == "NO_COVERAGE"
        assert header["Z_CONF"] == 0.0
        lines = hdus["LINES"].data
        assert np.isnan(lines["FLUX"]).all() and not lines["PRESENCE"].any()


def test_odd_names_do_not_break_the_header(tmp_path):
    spectrum = prism_spectrum(path="Grün/" + "long_" * 30 + "'µ'.fits", target="NGC ' 1\n")
    result_of(spectrum).write(tmp_path / "x_sr.fits")
    with fits.open(tmp_path / "x_sr.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["INPUT"].startswith("long_long_")


@pytest.mark.parametrize("unit", ["1e-20 erg / (s cm2 Angstrom)", "W / (m2 um)", "mJy", "no unit at all"])
def test_any_unit_of_the_input_can_be_written(tmp_path, unit):
    result = result_of(prism_spectrum(flux_unit=unit))
    result.write(tmp_path / "x_sr.fits")
    table = QTable.read(tmp_path / "x_sr.fits", hdu="SPEC1D")
    flux = table["FLUX"].to_value(F_LAMBDA, u.spectral_density(table["WAVELENGTH"]))
    np.testing.assert_allclose(flux, TRUTH, rtol=1e-6)


def test_a_failed_write_leaves_the_old_file(in_microjansky, tmp_path, monkeypatch):
    result, _ = in_microjansky
    path = tmp_path / "x_sr.fits"
    result.write(path)
    before = path.read_bytes()

    def broken(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.HDUList, "writeto", broken)
    with pytest.raises(OSError, match="No space left"):
        result.write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x_sr.fits"]


def test_ecsv_holds_the_same(in_microjansky, tmp_path):
    result, _ = in_microjansky
    written = result.write(tmp_path / "gal_sr.ecsv", format="ecsv")
    assert [p.name for p in written] == ["gal_sr.ecsv", "gal_sr_lines.ecsv"]
    table, lines = (QTable.read(path, format="ascii.ecsv") for path in written)
    assert table["FLUX"].unit == u.uJy
    good = ~result.mask
    flux = table["FLUX"][good].to_value(F_LAMBDA, u.spectral_density(table["WAVELENGTH"][good]))
    np.testing.assert_allclose(flux, TRUTH[good], rtol=1e-6)
    assert table.meta["Z"] == pytest.approx(REDSHIFT) and table.meta["MODEL"] == "stand-in"
    assert table.meta["PZ_MODES"][0]["mass"] == pytest.approx(1.0)
    row = list(lines["NAME"]).index("Halpha")
    assert lines["FLUX"][row].to_value("erg / (s cm2)") == pytest.approx(LINE_FLUX["Halpha"], rel=1e-6, abs=0)
    assert read_spectrum(written[0]).meta.flux_unit == "uJy"
