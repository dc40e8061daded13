"""Every real file reads, and holds what is known of it. Skipped where the files are absent."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.catalogue import parse_columns, read_catalogue
from data_pipeline.jades_names import parse_jades_file_name
from data_pipeline.readers import read_spectrum

FOLDER = Path(
    os.environ.get("KSPECSR_REAL_SPECTRA", Path(__file__).resolve().parents[2] / "shared" / "real_spectra")
)
FILES = sorted(FOLDER.glob("*/*.fits"))
pytestmark = pytest.mark.skipif(
    not FILES, reason=f"no real spectra in {FOLDER.name}/; set KSPECSR_REAL_SPECTRA to their folder"
)
FORMATS = {
    "jades_hlsp": {"jades-dr3", "jades-dr4"},
    "gto_1d": {"gto"},
    "dja": {"dja"},
    "pairs_dja": {"dja"},
    "stsci_x1d": {"stsci-x1d"},
    "euclid_sir": {"euclid-sir"},
}
# um: what the disperser can deliver, with the extensions that JADES and DJA extract
RANGES = {"PRISM": (0.5, 5.6), "G235M": (1.55, 5.35), "G395M": (2.6, 5.6), "RGS": (1.18, 1.91)}
SPEED_OF_LIGHT = 2.99792458e18  # Angstrom/s


def files(folder):
    return [path for path in FILES if path.parent.name == folder]


def one(pattern):
    return next(path for path in FILES if path.match(pattern))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_reads(path):
    read = read_spectrum(path)
    assert read.meta.format in FORMATS[path.parent.name]
    low, high = RANGES[read.meta.disperser]
    assert low < read.wavelength[0] < read.wavelength[-1] < high
    assert len(read) >= 400
    assert read.mask.mean() < 0.45
    good = ~read.mask
    assert np.isfinite(read.flux[good]).all() and (read.error[good] > 0).all()
    # faint galaxies seen for hours: error per pixel between 1e-22 and 1e-17 erg/s/cm2/A
    assert 1e-22 < np.median(read.error[good]) < 1e-17


@pytest.mark.skipif(not files("jades_hlsp"), reason="no JADES files")
def test_jades_grids_names_and_positions():
    dr4, dr3 = read_spectrum(one("*-00003204_*")), read_spectrum(one("*-00003991_*"))
    assert (len(dr4), len(dr3)) == (706, 674)
    np.testing.assert_array_equal(dr4.wavelength[:674], dr3.wavelength)
    np.testing.assert_allclose(dr4.wavelength[[0, -1]], [0.60255, 5.45236], atol=1e-5)
    assert (dr4.meta.tier, dr4.meta.field, dr4.meta.source_id) == ("goods-s-mediumjwst", "goods-s", "3204")
    assert (dr3.meta.tier, dr3.meta.field, dr3.meta.source_id) == ("goods-n-mediumhst", "goods-n", "3991")
    np.testing.assert_allclose([dr3.meta.ra, dr3.meta.dec], [189.10605, 62.24205], atol=1e-5)
    for spectrum in (dr4, dr3):
        name = parse_jades_file_name(Path(spectrum.meta.path).name)
        assert (name.disperser, name.filter) == (spectrum.meta.disperser, spectrum.meta.filter)


@pytest.mark.skipif(not files("jades_hlsp"), reason="no JADES files")
def test_jades_extractions_agree_within_their_apertures():
    path = one("*-00003204_*")
    three, five = read_spectrum(path), read_spectrum(path, extraction="5pix")
    good = ~three.mask & ~five.mask & (three.wavelength > 1)
    # a compact galaxy: both are corrected for losses, so their ratio is near one
    assert 0.8 < np.median(five.flux[good] / three.flux[good]) < 1.3
    assert np.median(five.error[good] / three.error[good]) > 1  # more pixels, more noise


@pytest.mark.skipif(not files("gto_1d") or not files("jades_hlsp"), reason="no GTO and JADES files")
def test_gto_and_jades_agree_on_the_same_galaxy():
    # GN-z11: other pipeline versions, but the same photons; this is the check on the GTO unit (W/m3)
    gto, jades = read_spectrum(one("gto_1d/003991_*"), extraction="5pix"), read_spectrum(one("*-00003991_*"))
    flux = np.interp(jades.wavelength, gto.wavelength, gto.flux)
    rows = ~jades.mask & (jades.wavelength > 1.7) & (jades.wavelength < 3)
    ratio = np.sum(flux[rows]) / np.sum(jades.flux[rows])
    assert abs(ratio - 1) < 0.15


@pytest.mark.skipif(not files("pairs_dja"), reason="no DJA pairs")
def test_dja_pairs_are_the_sources_of_their_table():
    with (FOLDER / "pairs_dja" / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 20
    for row in rows:
        for kind in ("prism_file", "grating_file"):
            meta = read_spectrum(FOLDER / "pairs_dja" / row[kind]).meta
            assert (meta.program, meta.source_id) == (row["pid"], row["srcid"])
            np.testing.assert_allclose([meta.ra, meta.dec], [float(row["ra"]), float(row["dec"])], atol=2e-5)
            if kind == "grating_file":
                assert (meta.disperser, meta.filter) == (row["grating"], row["filter"])


@pytest.mark.skipif(not files("pairs_dja"), reason="no DJA pairs")
def test_table_of_pairs_reads_as_a_catalogue():
    mapping = parse_columns("redshift=z_grating_DJA,redshift_flag=grade")
    catalogue = read_catalogue(FOLDER / "pairs_dja" / "pairs.csv", mapping)
    row = catalogue.source_id.tolist().index("12402")
    assert (catalogue.redshift[row], catalogue.redshift_flag[row]) == (3.1901, "3")
    assert np.isnan(catalogue.redshift[catalogue.source_id == "39353"]).all()  # blank in the file
    with (FOLDER / "pairs_dja" / "pairs.csv").open() as stream:
        secure = [line for line in csv.DictReader(stream) if line["grade"] == "3" and line["z_grating_DJA"]]
    good = (catalogue.redshift_flag == "3") & np.isfinite(catalogue.redshift)
    assert catalogue.source_id[good].tolist() == [line["srcid"] for line in secure]


@pytest.mark.skipif(not files("pairs_dja"), reason="no DJA pairs")
def test_dja_prism_and_grating_show_the_same_flux():
    # median over each grating's well-measured range: a wrong unit would be off by orders of magnitude
    with (FOLDER / "pairs_dja" / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    ratios = []
    for row in rows:
        prism, grating = (
            read_spectrum(FOLDER / "pairs_dja" / row[f"{kind}_file"]) for kind in ("prism", "grating")
        )
        wanted = ~grating.mask & (grating.wavelength > 3.0) & (grating.wavelength < 5.0)
        if wanted.sum() < 300:
            wanted = ~grating.mask & (grating.wavelength > 1.8) & (grating.wavelength < 3.0)
        expected = np.interp(
            grating.wavelength[wanted], prism.wavelength[~prism.mask], prism.flux[~prism.mask]
        )
        ratios.append(np.sum(expected) / np.sum(grating.flux[wanted]))
    assert 0.8 < np.median(ratios) < 1.3


@pytest.mark.skipif(not files("stsci_x1d"), reason="no STScI file")
def test_stsci_flux_by_hand():
    path = one("stsci_x1d/*")
    read = read_spectrum(path)
    with fits.open(path, memmap=False) as hdus:
        data = hdus["EXTRACT1D"].data
        expected = (
            np.float64(data["FLUX"]) * 1e-23 * SPEED_OF_LIGHT / (np.float64(data["WAVELENGTH"]) * 1e4) ** 2
        )
        missing = np.isnan(data["FLUX_ERROR"])
    np.testing.assert_allclose(read.flux, expected, rtol=1e-12)
    np.testing.assert_array_equal(read.mask, missing)
    assert (read.meta.source_id, read.meta.program) == ("6355", "2736")


@pytest.mark.skipif(not files("euclid_sir"), reason="no Euclid files")
def test_euclid_grid_scale_and_flags():
    for path in files("euclid_sir"):
        read = read_spectrum(path)
        assert len(read) == 531
        np.testing.assert_allclose(np.diff(read.wavelength), 13.4e-4, rtol=1e-3)
        assert read.meta.source_id == path.stem
        with fits.open(path, memmap=False) as hdus:
            flags = np.asarray(hdus[1].data["MASK"])
            signal = np.float64(hdus[1].data["SIGNAL"]) * hdus[1].header["FSCALE"]
        assert read.mask[(flags % 2 == 1) | (flags >= 64)].all()
        np.testing.assert_allclose(read.flux, signal, rtol=1e-12)
