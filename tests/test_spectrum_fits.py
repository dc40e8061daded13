import dataclasses
import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumError, SpectrumMeta
from data_pipeline.writers.spectrum_fits import write_spectrum
from layouts import example

META = SpectrumMeta(
    target="GN-z11",
    source_id="3991",
    ra=189.1,
    dec=62.2,
    disperser="PRISM",
    filter="CLEAR",
    tier="goods-n-mediumhst",
    field="goods-n",
    program="1181",
    exposure_time=24509.3,
    extraction="3pix",
)
PROVENANCE = {
    "SOFTWARE": "kspecsr 0.1.0",
    "INPUT": "hlsp_jades_jwst_nirspec_goods-n-mediumhst-00003991_clear-prism_v1.0_x1d.fits",
    "TRAINING_SET": "x" * 200,
}


@pytest.fixture
def path(tmp_path):
    write_spectrum(tmp_path / "out.fits", ObservedSpectrum(*example(), META), PROVENANCE)
    return tmp_path / "out.fits"


def test_reads_back_bit_by_bit(path):
    read, written = read_spectrum(path), ObservedSpectrum(*example(), META)
    for name in ("wavelength", "flux", "error", "mask"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    for field in dataclasses.fields(SpectrumMeta):
        if field.name not in ("format", "path", "sha256", "hdu", "flux_unit", "notes"):
            np.testing.assert_equal(getattr(read.meta, field.name), getattr(META, field.name), field.name)
    assert (read.meta.format, read.meta.hdu) == ("kspecsr", "SPECTRUM")


def test_provenance_and_units_stand_in_the_headers(path):
    with fits.open(path) as hdus:
        for keyword, text in PROVENANCE.items():
            assert hdus[0].header[keyword] == text
        table = hdus["SPECTRUM"].header
        units = [
            u.Unit(table[f"TUNIT{number}"], format="fits") for number in (1, 2, 3)
        ]  # strict: FITS standard
        assert units == [u.um, FLUX_UNIT, FLUX_UNIT]


def test_checksums_hold(path):
    with fits.open(path) as hdus:
        for hdu in hdus:
            assert (hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1)


def test_altered_data_are_found(path):
    data = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        place = hdus["SPECTRUM"].fileinfo()["datLoc"] + 10
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        SpectrumError, match=r"out\.fits\[SPECTRUM\]: DATASUM does not match, .*altered after writing"
    ):
        read_spectrum(path)


@pytest.mark.parametrize("keyword", ["NAXIS", "target", "DATASUM", "SPECFMT"])
def test_provenance_cannot_overwrite_the_format(tmp_path, keyword):
    with pytest.raises(ValueError, match=rf"provenance keyword '{keyword}' is used by the format itself"):
        write_spectrum(tmp_path / "out.fits", ObservedSpectrum(*example()), {keyword: "x"})


def test_text_that_fits_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"provenance NOTE='λ' cannot stand in a FITS header"):
        write_spectrum(tmp_path / "out.fits", ObservedSpectrum(*example()), {"NOTE": "λ"})
    assert list(tmp_path.iterdir()) == []


def test_specutils_reads_it_without_this_package(path):
    script = (
        "import sys, specutils\n"
        "spectrum = specutils.Spectrum.read(sys.argv[1], format='tabular-fits')\n"
        "assert 'data_pipeline' not in sys.modules\n"
        "assert str(spectrum.flux.unit) == 'erg / (Angstrom s cm2)', spectrum.flux.unit\n"
        "print(spectrum.spectral_axis.unit, spectrum.uncertainty.array.size, spectrum.flux[0].value)"
    )
    run = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    unit, size, first = run.stdout.split()
    assert (unit, int(size), float(first)) == ("um", 50, example()[1][0])
