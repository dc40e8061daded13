import dataclasses
import gzip
import hashlib
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
from data_pipeline.readers import FORMATS, Format, identify_format, read_spectrum
from data_pipeline.spectrum import SpectrumError, parse_unit
from layouts import LAYOUTS, example


@st.composite
def spectra(draw):
    """Wavelength, flux, error, mask: any increasing grid, 30 decades of flux, at least one good pixel."""
    pixels = draw(st.integers(2, 30))
    steps = draw(st.lists(st.floats(1e-4, 0.2), min_size=pixels, max_size=pixels))
    wavelength = 0.3 + np.cumsum(steps)
    magnitude = st.floats(-30, -10)
    flux = 10.0 ** np.array(draw(st.lists(magnitude, min_size=pixels, max_size=pixels)))
    flux *= np.array(draw(st.lists(st.sampled_from([-1, 1]), min_size=pixels, max_size=pixels)))
    error = 10.0 ** np.array(draw(st.lists(magnitude, min_size=pixels, max_size=pixels)))
    mask = np.array(draw(st.lists(st.booleans(), min_size=pixels, max_size=pixels)))
    mask[draw(st.integers(0, pixels - 1))] = False
    return wavelength, flux, error, mask


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@settings(max_examples=25)
@given(spectra())
def test_every_layout_gives_back_what_was_written(layout, spectrum):
    wavelength, flux, error, mask = spectrum
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / layout.file_name
        layout.emit(path, *spectrum)
        read = read_spectrum(path)
    np.testing.assert_allclose(read.wavelength, wavelength, rtol=1e-12)
    np.testing.assert_array_equal(read.mask, mask)
    good = ~mask
    np.testing.assert_allclose(read.flux[good], flux[good], rtol=1e-12)
    np.testing.assert_allclose(read.error[good], error[good], rtol=1e-12)
    assert {array.dtype for array in (read.wavelength, read.flux, read.error)} == {np.dtype(np.float64)}
    assert read.wavelength.dtype.isnative and read.flux.dtype.isnative


@pytest.fixture(params=LAYOUTS, ids=str)
def written(request, tmp_path):
    layout = LAYOUTS[request.param]
    path = tmp_path / layout.file_name
    layout.emit(path, *example())
    return path, layout


def test_format_and_metadata(written):
    path, layout = written
    assert identify_format(path).name == layout.format
    meta = read_spectrum(path).meta
    assert (meta.format, meta.disperser, meta.source_id) == (
        layout.format,
        layout.disperser,
        layout.source_id,
    )
    assert meta.path == str(path)
    assert meta.hdu


def test_gzip_reads_alike(written, tmp_path):
    path, _ = written
    packed = tmp_path / f"{path.name}.gz"
    with path.open("rb") as plain, gzip.open(packed, "wb") as stream:
        shutil.copyfileobj(plain, stream)
    plain, unpacked = read_spectrum(path), read_spectrum(packed)
    for name in ("wavelength", "flux", "error", "mask"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(unpacked, name))
    # as text, since unknown positions are NaN
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert str(unpacked.meta) == str(dataclasses.replace(plain.meta, path=str(packed), sha256=digest))


def test_no_layout_warns(written):
    path, _ = written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_spectrum(path)


def test_formats_are_frozen_and_told_apart_by_name():
    assert len({known.name for known in FORMATS}) == len(FORMATS)
    assert all(isinstance(known, Format) and known.description for known in FORMATS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FORMATS[0].name = "other"


def test_jades_and_ceers_are_recognised_before_the_pipeline_whose_layout_they_borrow():
    order = [known.name for known in FORMATS]
    assert max(order.index("jades-dr3"), order.index("jades-dr4"), order.index("ceers")) < order.index(
        "stsci-x1d"
    )
    assert order[-2:] == ["table", "specutils"]


# JADES -------------------------------------------------------------------------------------------------


def jades(tmp_path, emit, name=LAYOUTS["jades-dr4"].file_name):
    path = tmp_path / name
    emit(path, *example())
    return path


def test_jades_dr4_extraction_is_chosen(tmp_path):
    path = jades(tmp_path, layouts.jades_dr4)
    three, five = read_spectrum(path), read_spectrum(path, extraction="5pix")
    assert (three.meta.extraction, three.meta.hdu) == ("3pix", "EXTRACT3PIX1D")
    assert (five.meta.extraction, five.meta.hdu) == ("5pix", "EXTRACT5PIX1D")
    np.testing.assert_allclose(five.flux, 2 * three.flux, rtol=1e-14)
    by_name = read_spectrum(path, hdu="EXTRACT5PIX1D")
    assert by_name.meta.extraction == "5pix"
    np.testing.assert_array_equal(by_name.flux, five.flux)


def test_jades_two_nod_flux_comes_with_its_own_error(tmp_path):
    path = jades(tmp_path, layouts.jades_dr4)
    nod2 = read_spectrum(path, flux_column="FLUX_NOD2")
    _, flux, error, _ = example()
    np.testing.assert_allclose(nod2.flux, 3 * flux, rtol=1e-14)
    np.testing.assert_allclose(nod2.error, 3 * error, rtol=1e-14)


def test_jades_dr3_says_that_it_has_five_pixels_only(tmp_path):
    path = jades(tmp_path, layouts.jades_dr3)
    asked_three, asked_five = read_spectrum(path, extraction="3pix"), read_spectrum(path, extraction="5pix")
    assert asked_three.meta.extraction == asked_five.meta.extraction == "5pix"
    assert any("3pix was asked for, 5pix read" in note for note in asked_three.meta.notes)
    assert not any("5pix read" in note for note in asked_five.meta.notes)


def test_jades_metadata(tmp_path):
    meta = read_spectrum(jades(tmp_path, layouts.jades_dr4)).meta
    # the tier of the file name, though HLSPTIER says medium_hst_gn
    assert (meta.tier, meta.field, meta.program) == ("goods-n-mediumjwst", "goods-n", "1181")
    assert (meta.ra, meta.dec, meta.exposure_time) == (189.1, 62.2, 24509.3)
    assert (meta.target, meta.filter) == ("00003991", "CLEAR")


def test_a_renamed_jades_file_takes_tier_and_id_from_the_header(tmp_path):
    meta = read_spectrum(jades(tmp_path, layouts.jades_dr3, name="renamed.fits")).meta
    assert (meta.tier, meta.source_id, meta.field) == ("goods-n-mediumhst", "3991", "goods-n")


def test_unknown_extraction_is_refused(tmp_path):
    with pytest.raises(SpectrumError, match=r"extraction='4pix' is unknown; expected one of 3pix, 5pix"):
        read_spectrum(jades(tmp_path, layouts.jades_dr4), extraction="4pix")


# GTO, DJA ----------------------------------------------------------------------------------------------


def test_gto_five_pixel_extraction_is_data(tmp_path):
    path = tmp_path / "003991_prism_clear_v5.1_1D.fits"
    layouts.gto_v5(path, *example())
    three, five = read_spectrum(path), read_spectrum(path, extraction="5pix")
    assert (three.meta.extraction, five.meta.extraction) == ("3pix", "5pix")
    np.testing.assert_allclose(five.flux[~five.mask], 2 * three.flux[~three.mask], rtol=1e-14)


def test_gto_v3_says_that_it_has_five_pixels_only(tmp_path):
    path = tmp_path / "003991_prism_clear_v3.1_1D.fits"
    layouts.gto_v3(path, *example())
    meta = read_spectrum(path).meta
    assert meta.extraction == "5pix"
    assert any("no EXTR3" in note for note in meta.notes)


def test_gto_wavelengths_do_not_come_from_the_linear_header(tmp_path):
    path = tmp_path / "003991_prism_clear_v5.1_1D.fits"
    wavelength, flux, error, mask = example()
    layouts.gto_v5(path, wavelength**1.5, flux, error, mask)
    with fits.open(path, mode="update") as hdus:
        hdus["EXTR3"].header.update({"CRVAL1": 6e-7, "CDELT1": 1e-8, "CRPIX1": 1.0})
    np.testing.assert_allclose(read_spectrum(path).wavelength, wavelength**1.5, rtol=1e-12)


def test_dja_polynomial_rescales_flux_and_error(tmp_path):
    path = tmp_path / "a-v4_prism-clear_1_2.spec.fits"
    layouts.dja_v4(path, *example())
    plain = read_spectrum(path)
    with fits.open(path, mode="update") as hdus:
        hdus["SPEC1D"].header.update({"POLY0": 0.1, "POLY1": 0.5})
    scaled = read_spectrum(path)
    scale = 0.1 * np.log(plain.wavelength * 1e4) + 0.5
    good = ~plain.mask
    np.testing.assert_allclose(scaled.flux[good], (scale * plain.flux)[good], rtol=1e-12)
    np.testing.assert_allclose(scaled.signal_to_noise[good], plain.signal_to_noise[good], rtol=1e-12)
    assert any("POLY" in note for note in scaled.meta.notes)


def test_dja_error_scale_and_valid_columns(tmp_path):
    path = tmp_path / "a-v3_prism-clear_1_2.spec.fits"
    wavelength, flux, error, mask = example()
    columns = layouts.dja_columns(wavelength, flux, error)
    columns += [("escale", "D", None, np.full(50, 1.5)), ("valid", "L", None, ~mask)]
    layouts.write(path, {}, layouts.table(columns, "SPEC1D", **layouts.DJA_CARDS))
    read = read_spectrum(path)
    np.testing.assert_array_equal(read.mask, mask)
    np.testing.assert_allclose(read.error, 1.5 * error, rtol=1e-12)


def test_dja_huge_edge_errors_are_kept(tmp_path):
    path = tmp_path / "a-v4_prism-clear_1_2.spec.fits"
    wavelength, flux, error, mask = example()
    error[0] = 1e-10
    layouts.dja_v4(path, wavelength, flux, error, mask)
    read = read_spectrum(path)
    assert not read.mask[0]
    np.testing.assert_allclose(read.error[0], 1e-10, rtol=1e-12)


# STScI, CEERS, Euclid ----------------------------------------------------------------------------------


def test_surface_brightness_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "x1d.fits"
    layouts.stsci(path, *example())
    with pytest.raises(
        SpectrumError, match=r"x1d.fits\[EXTRACT1D\].*surface brightness.*flux_column=\"FLUX\""
    ):
        read_spectrum(path, flux_column="SURF_BRIGHT")


def test_stsci_file_of_several_sources_asks_for_one(tmp_path):
    path = tmp_path / "x1d.fits"
    wavelength, flux, error, _ = example()
    flags = np.zeros(50, np.int32)
    hdus = [
        layouts.table(layouts.pipeline_columns(wavelength, factor * flux, error, flags), "EXTRACT1D")
        for factor in (1, 5)
    ]
    layouts.write(path, layouts.STSCI_PRIMARY, *hdus)
    with pytest.raises(SpectrumError, match=r"holds 2 spectra \(HDUs \[1, 2\]\); choose one, such as hdu=1"):
        read_spectrum(path)
    np.testing.assert_allclose(read_spectrum(path, hdu=2).flux, 5 * flux, rtol=1e-12)


def test_ceers_gaps_stay_gaps(tmp_path):
    path = tmp_path / "hlsp_ceers_jwst_nirspec_nirspec4-001149_g140m_dr0.7_x1d.fits"
    wavelength, flux, error, mask = example()
    rows = (wavelength < 2) | (wavelength > 3)
    layouts.ceers(path, wavelength[rows], flux[rows], error[rows], mask[rows])
    read = read_spectrum(path)
    assert len(read) == rows.sum()
    assert np.diff(read.wavelength).max() > 1
    assert read.meta.tier == "ceers-nirspec4"


def test_euclid_file_of_many_spectra_reads_the_one_asked_for(tmp_path):
    path = tmp_path / "combined.fits"
    wavelength, flux, error, mask = example()
    hdus = []
    for identifier, factor in (("101", 1.0), ("102", 3.0)):
        layouts.euclid(path, wavelength, factor * flux, error, mask)
        with fits.open(path, memmap=False) as one:
            hdu = fits.BinTableHDU(one[1].data, one[1].header)
            hdu.name = identifier
            hdu.header["SOURC_ID"] = int(identifier)
            hdus.append(hdu)
    layouts.write(path, {}, *hdus)
    with pytest.raises(
        SpectrumError, match=r"holds 2 spectra; choose one by index or source id.*hdu=\"101\""
    ):
        read_spectrum(path)
    read = read_spectrum(path, hdu="102")
    assert read.meta.source_id == "102"
    np.testing.assert_allclose(read.flux, 3 * flux, rtol=1e-12)


def test_euclid_in_its_own_single_precision(tmp_path):
    path = tmp_path / "euclid.fits"
    wavelength, flux, error, _ = example()
    columns = [
        ("WAVELENGTH", "E", "Angstrom", wavelength * 1e4),
        ("SIGNAL", "E", "erg/s/cm2/Angstrom", flux / 1e-16),
        ("MASK", "J", "Number", np.array([0, 2, 10, 1, 3, 64, 66, 68] + [0] * 42)),
        ("VAR", "E", "erg2/s2/cm4/Angstrom2", (error / 1e-16) ** 2),
    ]
    layouts.write(path, {}, layouts.table(columns, "7", SOURC_ID=7, FSCALE=1e-16))
    read = read_spectrum(path)
    np.testing.assert_array_equal(np.flatnonzero(read.mask), [3, 4, 5, 6, 7])
    np.testing.assert_allclose(read.flux, flux, rtol=3e-7)
    np.testing.assert_allclose(read.error, error, rtol=3e-7)


def test_euclid_variance_in_a_wrong_unit_is_refused(tmp_path):
    path = tmp_path / "euclid.fits"
    layouts.euclid(path, *example())
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT5"] = "erg/s/cm2/Angstrom"
    with pytest.raises(
        SpectrumError, match=r"column VAR has the unit 'erg/s/cm2/Angstrom', expected that of SIGNAL sq"
    ):
        read_spectrum(path)


# plain tables and specutils ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("wave", "flux", "err"), ("LAMBDA", "F_LAMBDA", "Sigma"), ("wl", "fnu", "fnu_err")]
)
@pytest.mark.parametrize("suffix", ["fits", "ecsv"])
def test_table_columns_by_usual_names(tmp_path, names, suffix):
    wavelength, flux, error, _ = example()
    path = tmp_path / f"table.{suffix}"
    QTable(
        dict(
            zip(
                names,
                (
                    wavelength * 1e3 * u.nm,
                    layouts.f_nu(wavelength, flux) * u.Jy,
                    layouts.f_nu(wavelength, error) * u.Jy,
                ),
                strict=True,
            )
        )
    ).write(path)
    read = read_spectrum(path)
    assert read.meta.format == "table"
    np.testing.assert_allclose(read.wavelength, wavelength, rtol=1e-12)
    np.testing.assert_allclose(read.flux, flux, rtol=1e-12)
    np.testing.assert_allclose(read.error, error, rtol=1e-12)


@pytest.mark.parametrize("suffix", ["fits", "ecsv"])
def test_inverse_variance_becomes_an_error_and_zero_weight_a_masked_pixel(tmp_path, suffix):
    wavelength, flux, error, _ = example()
    unit = u.Unit("erg / (s cm2 Angstrom)")
    ivar = error**-2
    ivar[7] = 0
    path = tmp_path / f"table.{suffix}"
    QTable({"wavelength": wavelength * u.um, "flux": flux * unit, "ivar": ivar / unit**2}).write(path)
    read = read_spectrum(path)
    np.testing.assert_array_equal(np.flatnonzero(read.mask), [7])
    np.testing.assert_allclose(read.error[~read.mask], error[~read.mask], rtol=1e-12)


def test_table_mask_column_and_header(tmp_path):
    wavelength, flux, error, mask = example()
    unit = u.Unit("erg / (s cm2 Angstrom)")
    path = tmp_path / "table.ecsv"
    table = QTable(
        {"wavelength": wavelength * u.um, "flux": flux * unit, "error": error * unit, "mask": mask}
    )
    table.meta.update({"target": "A1", "ra": 10.5, "disperser": "prism"})
    table.write(path)
    read = read_spectrum(path)
    np.testing.assert_array_equal(read.mask, mask)
    assert (read.meta.target, read.meta.ra, read.meta.disperser) == ("A1", 10.5, "PRISM")


def test_one_row_of_vectors_is_one_spectrum(tmp_path):
    wavelength, flux, error, _ = example()
    path = tmp_path / "vector.fits"
    columns = [
        ("WAVE", "50D", "um", wavelength[None]),
        ("FLUX", "50D", layouts.JADES_UNIT, flux[None]),
        ("ERR", "50D", layouts.JADES_UNIT, error[None]),
    ]
    layouts.write(path, {}, layouts.table(columns))
    np.testing.assert_allclose(read_spectrum(path).flux, flux, rtol=1e-14)


def test_other_formats_are_left_to_specutils(tmp_path):
    # SDSS spec-*.fits: log wavelength and inverse variance, which no alias here names
    wavelength, flux, error, _ = example()
    path = tmp_path / "spec-4055-55359-0596.fits"
    columns = [
        ("flux", "D", None, flux * 1e17),
        ("loglam", "D", None, np.log10(wavelength * 1e4)),
        ("ivar", "D", None, (error * 1e17) ** -2.0),
        ("and_mask", "J", None, np.zeros(50, np.int32)),
    ]
    primary = {"TELESCOP": "SDSS 2.5-M", "PLATEID": 4055, "FIBERID": 596, "MJD": 55359, "VERS2D": "v5_13_2"}
    layouts.write(path, primary, layouts.table(columns, "COADD"))
    read = read_spectrum(path)
    assert read.meta.format == "specutils"
    np.testing.assert_allclose(read.flux, flux, rtol=1e-10)
    np.testing.assert_allclose(read.error, error, rtol=1e-10)


# units -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("erg s-1 cm-2 AA-1", u.erg / u.s / u.cm**2 / u.AA),
        ("erg/s/cm2/Angstrom", u.erg / u.s / u.cm**2 / u.AA),
        ("1e-20 erg/s/cm2/A", 1e-20 * u.erg / u.s / u.cm**2 / u.AA),
        ("microns", u.um),
        ("meter", u.m),
        ("m-3 W", u.W / u.m**3),
        ("MJy/sr", u.MJy / u.sr),
        ("Angstroms", u.AA),
    ],
)
def test_unit_spellings(text, unit):
    assert parse_unit(text) == unit


def test_an_ampere_is_no_angstrom_elsewhere():
    assert parse_unit("mA") == u.mA  # only a lone A is taken for the Angstrom


# speed -------------------------------------------------------------------------------------------------


def test_reads_sixty_files_a_second(tmp_path):
    wavelength, flux, error, mask = example(706)
    path = tmp_path / LAYOUTS["jades-dr4"].file_name
    layouts.jades_dr4(path, wavelength, flux, error, mask)
    read_spectrum(path)
    start = time.process_time()
    for _ in range(60):
        read_spectrum(path)
    assert time.process_time() - start < 2.0  # a second where nothing else runs
