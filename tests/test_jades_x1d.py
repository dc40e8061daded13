import time

import numpy as np
import pytest
from astropy.io import fits

import data_pipeline.writers.atomic
from data_pipeline.jades_names import jades_file_name, normalise_tier, parse_jades_file_name, sky_field
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.writers.jades import write_jades_x1d
from layouts import JADES_PRIMARY, example

META = SpectrumMeta(
    target="00003204",
    source_id="3204",
    ra=53.1045855,
    dec=-27.9076263,
    disperser="PRISM",
    filter="CLEAR",
    tier="goods-s-mediumjwst",
    field="goods-s",
    program="1286",
    exposure_time=5689.667099999999,
)


def spectrum(seed=1, pixels=50):
    return ObservedSpectrum(*example(pixels, seed), META)


@pytest.fixture
def path(tmp_path):
    return tmp_path / jades_file_name("goods-s-mediumjwst", 3204, "CLEAR", "PRISM")


def good(observed):
    return {name: getattr(observed, name)[~observed.mask] for name in ("wavelength", "flux", "error")}


@pytest.mark.parametrize(("extraction", "seed"), [("3pix", 1), ("5pix", 2)])
def test_dr4_gives_back_both_extractions_bit_by_bit(path, extraction, seed):
    write_jades_x1d(path, spectrum(1), spectrum(2))
    read, written = read_spectrum(path, extraction=extraction), spectrum(seed)
    assert (read.meta.format, read.meta.extraction) == ("jades-dr4", extraction)
    np.testing.assert_array_equal(read.mask, written.mask)
    for name, values in good(written).items():
        np.testing.assert_array_equal(good(read)[name], values)


def test_metadata_comes_back(path):
    write_jades_x1d(path, spectrum(), spectrum())
    read = read_spectrum(path).meta
    fields = "target", "source_id", "ra", "dec", "disperser", "filter", "tier", "field", "program"
    for name in (*fields, "exposure_time"):
        assert getattr(read, name) == getattr(META, name), name


def test_layout_is_that_of_the_archive(path):
    write_jades_x1d(path, spectrum(), spectrum())
    with fits.open(path) as hdus:
        hdus.verify("exception")  # the FITS standard, as astropy knows it
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "EXTRACT5PIX1D", "EXTRACT3PIX1D"]
        header = hdus[0].header
        assert set(JADES_PRIMARY) | {"LICENSE"} <= set(header)
        assert (header["HLSPTARG"], header["PROPOSID"], header["LICENSE"]) == (
            "GOODS-South",
            1286,
            "CC BY 4.0",
        )
        for hdu in hdus[1:]:
            names = [hdu.header[f"TTYPE{k}"] for k in range(1, 6)]
            assert names == ["WAVELENGTH", "FLUX", "FLUX_ERR", "FLUX_NOD2", "FLUX_ERR_NOD2"]
            assert hdu.header["TUNIT1"] == "um"
            assert hdu.header["TUNIT2"] == "erg s-1 cm-2 AA-1"
            assert {hdu.header[f"TFORM{k}"] for k in range(1, 6)} == {"D"}
            assert hdu.header["SOURCEID"] == "00003204"


def test_masked_pixels_are_nan_and_so_is_an_absent_two_nod_flux(path):
    write_jades_x1d(path, spectrum(), spectrum())
    with fits.open(path) as hdus:
        data = hdus["EXTRACT3PIX1D"].data
        np.testing.assert_array_equal(np.isnan(data["FLUX"]), spectrum().mask)
        np.testing.assert_array_equal(np.isnan(data["FLUX_ERR"]), spectrum().mask)
        assert np.isnan(data["FLUX_NOD2"]).all()


def test_two_nod_flux_is_read_with_its_own_error(path):
    write_jades_x1d(path, spectrum(1), spectrum(2))
    with fits.open(path, mode="update") as hdus:
        for name in ("FLUX", "FLUX_ERR"):
            hdus["EXTRACT3PIX1D"].data[f"{name}_NOD2"] = 2 * hdus["EXTRACT3PIX1D"].data[name]
    read = read_spectrum(path, flux_column="FLUX_NOD2")
    for name in ("flux", "error"):
        np.testing.assert_array_equal(good(read)[name], 2 * good(spectrum(1))[name])


def test_a_simulation_says_so(path):
    write_jades_x1d(path, spectrum(), spectrum(), simulated=True)
    header = fits.getheader(path)
    assert header["ORIGIN"] == "kspecsr simulation" and header["SIMULATE"] is True
    assert "no telescope saw it" in str(header["COMMENT"])
    write_jades_x1d(path, spectrum(), spectrum())
    assert "SIMULATE" not in fits.getheader(path)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    write_jades_x1d(path, spectrum(1), spectrum(1))

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(data_pipeline.writers.atomic.os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_jades_x1d(path, spectrum(2), spectrum(2))
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_array_equal(good(read_spectrum(path))["flux"], good(spectrum(1))["flux"])


def test_writes_thirty_files_a_second(path):
    three, five = spectrum(1, 706), spectrum(2, 706)
    write_jades_x1d(path, three, five)
    start = time.process_time()
    for _ in range(50):
        write_jades_x1d(path, three, five)
    assert time.process_time() - start < 50 / 30


# names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["goods-n-mediumhst", "goods-s-ultradeep", "goods-s-mediumjwst1180"])
@pytest.mark.parametrize("source_id", [7, "00012345", 99999999])
@pytest.mark.parametrize(
    ("filter_", "disperser"), [("CLEAR", "PRISM"), ("F070LP", "G140M"), ("f290lp", "g395h")]
)
def test_names_and_their_parts(tier, source_id, filter_, disperser):
    parts = parse_jades_file_name(jades_file_name(tier, source_id, filter_, disperser))
    assert (parts.tier, parts.source_id) == (tier, str(int(source_id)))
    assert (parts.filter, parts.disperser) == (filter_.upper(), disperser.upper())


def test_a_name_as_the_archive_writes_it():
    name = "hlsp_jades_jwst_nirspec_goods-n-mediumhst-00003991_clear-prism_v1.0_x1d.fits"
    assert jades_file_name("goods-n-mediumhst", 3991, "CLEAR", "PRISM") == name
    assert parse_jades_file_name(f"{name}.gz").source_id == "3991"
    assert parse_jades_file_name("003991_prism_clear_v5.1_1D.fits") is None
    assert parse_jades_file_name(name.replace("x1d", "s2d")) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("goods-s-deephst", "A1", "CLEAR", "PRISM"), r"source_id='A1' is no whole number"),
        (("goods_s", 1, "CLEAR", "PRISM"), r"which is no JADES name; use letters, digits"),
        (("goods-s", 1, "CLEAR+X", "PRISM"), r"which is no JADES name"),
    ],
)
def test_names_that_could_not_be_read_back_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        jades_file_name(*arguments)


def test_tiers_and_fields():
    assert normalise_tier("medium_hst_gn") == "goods-n-mediumhst"
    assert normalise_tier("GOODS-S-DeepHST") == "goods-s-deephst"
    assert (
        sky_field("GS")
        == sky_field("goods-s-deephst")
        == sky_field("", "GOODS-South-Medium/JWST")
        == "goods-s"
    )
    assert sky_field("gn") == sky_field("medium_jwst_gn") == "goods-n"
    assert sky_field("rubies-uds1", "") == ""
