"""One test per way in which a file can be wrong: a clear error with file, HDU and cure, or masked pixels."""

import gzip
import os
import tempfile
import time
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from layouts import LAYOUTS, example

NAME = LAYOUTS["jades-dr4"].file_name


@pytest.fixture
def path(tmp_path):
    """A sound JADES DR4 file, for tests to damage."""
    layouts.jades_dr4(tmp_path / NAME, *example())
    return tmp_path / NAME


def change(path, column, rows, value, hdu="EXTRACT3PIX1D"):
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[hdu].data[column][rows] = value


# no such file ------------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    with pytest.raises(SpectrumError, match=r"none\.fits: no such file\. Check the path"):
        read_spectrum(tmp_path / "none.fits")


def test_directory(tmp_path):
    with pytest.raises(SpectrumError, match=r"is a directory; expected one file\. Name a file in it"):
        read_spectrum(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "empty.fits").touch()
    with pytest.raises(SpectrumError, match=r"empty\.fits: is empty \(0 bytes\)\. Download it again"):
        read_spectrum(tmp_path / "empty.fits")


def test_no_permission(path):
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root may read everything, so the test steps down for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(SpectrumError, match=r"x1d\.fits: no permission to read\. Run chmod u\+r"):
            read_spectrum(path)
    finally:
        if root:
            os.seteuid(0)


# another kind of file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is a PNG image; expected a FITS file"),
        (b"wavelength,flux\n0.6,1\n", r"is a plain text file without units \(write it as ECSV"),
        (b"<!DOCTYPE html><html>", "is an HTML page, perhaps a failed download"),
        (b"PK\x03\x04" + bytes(40), r"is a zip archive \(perhaps \.npz\); unpack it"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x00\x01\x02\x03", "is no format known here"),
    ],
)
def test_other_kinds_of_file(tmp_path, content, kind):
    path = tmp_path / "spectrum.fits"
    path.write_bytes(content)
    with pytest.raises(SpectrumError, match=rf"spectrum\.fits: {kind}"):
        read_spectrum(path)


def test_fits_image_is_not_recognised(tmp_path):
    path = tmp_path / "image.fits"
    layouts.write(path, {}, fits.ImageHDU(np.zeros((4, 4)), name="SCI"))
    with pytest.raises(SpectrumError, match=r"image\.fits: not recognised; the file has 0 PRIMARY, 1 SCI"):
        read_spectrum(path)


# truncated or damaged ----------------------------------------------------------------------------------


def test_truncated_in_the_table(path):
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.truncate(size - 3 * 2880)
    with pytest.raises(
        SpectrumError, match=r"x1d\.fits\[EXTRACT3PIX1D\]: truncated, .* Download the file again"
    ):
        read_spectrum(path)


def test_truncated_in_the_header(path):
    with path.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(
        SpectrumError, match=r"x1d\.fits\[PRIMARY\]: no readable FITS header .* Download it again"
    ):
        read_spectrum(path)


@pytest.mark.parametrize("card", [b"NAXIS   =", b"TFIELDS ="])
def test_counts_that_no_fits_file_has_are_refused_at_once(path, card):
    """astropy would count up to them: minutes."""
    data = bytearray(path.read_bytes())
    place = data.index(card)
    data[place + 10 : place + 30] = b"99999999".rjust(20)
    path.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(
        SpectrumError, match=r"damaged header \((NAXIS|TFIELDS) is 99999999, of 999 at most\)"
    ):
        read_spectrum(path)
    assert time.monotonic() - start < 1


def test_truncated_after_the_spectrum_leaves_a_note(path):
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 100)
    assert any("no multiple of 2880 bytes" in note for note in read_spectrum(path).meta.notes)


def test_truncated_gzip(path, tmp_path):
    packed = tmp_path / "short.fits.gz"
    data = gzip.compress(path.read_bytes())
    packed.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        SpectrumError, match=r"short\.fits\.gz: truncated or damaged gzip file \(.*\)\. Download it again"
    ):
        read_spectrum(packed)


@settings(max_examples=60)
@given(st.integers(0, 40000))
def test_no_truncation_gives_wrong_data_or_another_error(length):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        layouts.jades_dr4(path, *example())
        whole = read_spectrum(path)
        with path.open("r+b") as stream:
            stream.truncate(min(length, path.stat().st_size))
        try:
            cut = read_spectrum(path)
        except SpectrumError as error:
            assert str(path) in str(error)
        else:
            np.testing.assert_array_equal(cut.flux, whole.flux)
            np.testing.assert_array_equal(cut.error, whole.error)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_no_altered_byte_ends_in_another_error(layout, place, byte):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / layout.file_name
        layout.emit(path, *example(8))
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] = byte
        path.write_bytes(data)
        try:
            assert isinstance(read_spectrum(path), ObservedSpectrum)
        except SpectrumError as error:
            assert str(path) in str(error)


# missing or wrong parts --------------------------------------------------------------------------------


def test_missing_hdu(tmp_path):
    path = tmp_path / NAME
    columns = layouts.jades_columns(*example())
    layouts.write(path, layouts.JADES_PRIMARY, layouts.table(columns, "EXTRACT5PIX1D"))
    with pytest.raises(
        SpectrumError,
        match=r"HDU 'EXTRACT3PIX1D' is missing; the file has 0 PRIMARY, 1 EXTRACT5PIX1D\. Choose one with",
    ):
        read_spectrum(path)
    assert read_spectrum(path, extraction="5pix").meta.extraction == "5pix"


def test_hdu_that_is_no_table(path):
    with pytest.raises(SpectrumError, match=r"x1d\.fits\[F444W\]: is a ImageHDU, expected a table"):
        read_spectrum(path, hdu="F444W")


def test_hdu_that_does_not_exist(path):
    with pytest.raises(SpectrumError, match=r"HDU 17 is missing; the file has 0 PRIMARY, 1 EXTRACT5PIX1D"):
        read_spectrum(path, hdu=17)


@pytest.mark.parametrize("column", ["WAVELENGTH", "FLUX", "FLUX_ERR"])
def test_missing_column(tmp_path, column):
    path = tmp_path / NAME
    columns = [entry for entry in layouts.jades_columns(*example()) if entry[0] != column]
    layouts.write(path, layouts.JADES_PRIMARY, layouts.table(columns, "EXTRACT3PIX1D"))
    present = ", ".join(entry[0] for entry in columns)
    with pytest.raises(
        SpectrumError,
        match=rf"\[EXTRACT3PIX1D\]: column {column} is missing; the table has {present}\. Choose",
    ):
        read_spectrum(path)


def test_unknown_flux_column(path):
    with pytest.raises(
        SpectrumError, match=r"\[EXTRACT3PIX1D\]: column FLUX_X is missing; the table has WAVELENGTH"
    ):
        read_spectrum(path, flux_column="FLUX_X")


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("furlong / fortnight", r"column FLUX has the unknown unit 'furlong / fortnight'\. State the unit"),
        ("", r"column FLUX has no unit\. State the unit in the header \(TUNIT or BUNIT\)"),
        ("um, Jy", r"column FLUX has the unknown unit 'um, Jy'"),
        ("ct", r"flux comes in ct; expected a flux density"),
        ("MJy/sr", r"flux comes in MJy / sr; expected a flux density"),
    ],
)
def test_unknown_unit(path, unit, message):
    with fits.open(path, mode="update") as hdus:
        hdus["EXTRACT3PIX1D"].header["TUNIT2"] = unit
    with pytest.raises(SpectrumError, match=rf"x1d\.fits\[EXTRACT3PIX1D\]: {message}"):
        read_spectrum(path)


def test_wavelength_in_no_length(path):
    with fits.open(path, mode="update") as hdus:
        hdus["EXTRACT3PIX1D"].header["TUNIT1"] = "s"
    with pytest.raises(SpectrumError, match=r"\[EXTRACT3PIX1D\]: wavelengths come in s; expected a length"):
        read_spectrum(path)


def test_table_of_text(tmp_path):
    path = tmp_path / NAME
    columns = layouts.jades_columns(*example())
    columns[1] = ("FLUX", "3A", layouts.JADES_UNIT, np.full(50, "bad"))
    layouts.write(path, {}, layouts.table(columns, "EXTRACT3PIX1D"))
    with pytest.raises(
        SpectrumError, match=r"\[EXTRACT3PIX1D\]: column FLUX does not hold real numbers but <U3; choose"
    ):
        read_spectrum(path)


def test_no_rows(tmp_path):
    path = tmp_path / NAME
    layouts.write(
        path, {}, layouts.table(layouts.jades_columns(*(a[:0] for a in example())), "EXTRACT3PIX1D")
    )
    with pytest.raises(SpectrumError, match=r"\[EXTRACT3PIX1D\]: holds no rows\. Choose another HDU"):
        read_spectrum(path)


def test_one_row(tmp_path):
    path = tmp_path / NAME
    layouts.write(
        path, {}, layouts.table(layouts.jades_columns(*(a[:1] for a in example())), "EXTRACT3PIX1D")
    )
    with pytest.raises(
        SpectrumError, match=r"\[EXTRACT3PIX1D\]: 1 pixels have a wavelength; a spectrum needs two"
    ):
        read_spectrum(path)


def test_euclid_without_scale(tmp_path):
    path = tmp_path / "euclid.fits"
    layouts.euclid(path, *example())
    with fits.open(path, mode="update") as hdus:
        del hdus[1].header["FSCALE"]
    with pytest.raises(SpectrumError, match=r"keyword FSCALE is missing or not positive"):
        read_spectrum(path)


def test_gto_in_another_unit(tmp_path):
    path = tmp_path / "003991_prism_clear_v5.1_1D.fits"
    layouts.gto_v5(path, *example())
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["UNIT"] = "electron"
    with pytest.raises(SpectrumError, match=r"\[PRIMARY\]: UNIT is 'electron', expected 'm-3 W'"):
        read_spectrum(path)


def test_gto_without_errors(tmp_path):
    path = tmp_path / "003991_prism_clear_v5.1_1D.fits"
    layouts.gto_v5(path, *example())
    with fits.open(path, mode="update") as hdus:
        del hdus["EXTR3ERR"]
    with pytest.raises(SpectrumError, match=r"HDU 'EXTR3ERR' is missing; the file has 0 PRIMARY, 1 DATA"):
        read_spectrum(path)


def test_ecsv_without_units_or_errors(tmp_path):
    path = tmp_path / "table.ecsv"
    QTable({"wavelength": [1.0, 2.0], "flux": [1.0, 2.0]}).write(path)
    with pytest.raises(SpectrumError, match=r"table\.ecsv: column wavelength has no unit"):
        read_spectrum(path)
    QTable({"wavelength": [1.0, 2.0] * u.um, "flux": [1.0, 2.0] * u.Jy}).write(path, overwrite=True)
    with pytest.raises(SpectrumError, match=r"table\.ecsv: no error column; looked for error, err,"):
        read_spectrum(path)
    with pytest.raises(SpectrumError, match=r"hdu=1 was asked for, but a text table has no HDUs"):
        read_spectrum(path, hdu=1)


@pytest.mark.parametrize("card", [("AIRORVAC", "air"), ("VACUUM", False)])
def test_wavelengths_in_air(tmp_path, card):
    path = tmp_path / "optical.fits"
    wavelength, flux, error, _ = example()
    columns = [("wave", "D", "um", wavelength), ("flux", "D", "Jy", flux), ("err", "D", "Jy", error)]
    layouts.write(path, dict([card]), layouts.table(columns, "SPEC"))
    with pytest.raises(
        SpectrumError, match=r"optical\.fits\[SPEC\]: wavelengths are in air, expected vacuum"
    ):
        read_spectrum(path)
    layouts.write(path, {"VACUUM": True}, layouts.table(columns, "SPEC"))
    assert len(read_spectrum(path)) == 50


@pytest.mark.parametrize("column", ["wavelength", "flux"])
def test_ecsv_with_an_unknown_unit(tmp_path, column):
    path = tmp_path / "table.ecsv"
    table = QTable({"wavelength": [1.0, 2.0] * u.um, "flux": [1.0, 2.0] * u.Jy, "error": [1.0, 2.0] * u.Jy})
    table.write(path)
    unit = str(table[column].unit)
    path.write_text(
        path.read_text().replace(f"{{name: {column}, unit: {unit}", f"{{name: {column}, unit: furlong")
    )
    with pytest.raises(SpectrumError, match=rf"table\.ecsv: column {column} has the unknown unit 'furlong'"):
        read_spectrum(path)


def test_damaged_ecsv(tmp_path):
    path = tmp_path / "table.ecsv"
    path.write_text("# %ECSV 1.0\n# ---\n# datatype: [\n1 2\n")
    with pytest.raises(SpectrumError, match=r"table\.ecsv: no readable ECSV table"):
        read_spectrum(path)


# wrong values ------------------------------------------------------------------------------------------


def test_all_nan(path):
    change(path, "FLUX", slice(None), np.nan)
    with pytest.raises(
        SpectrumError, match=r"\[EXTRACT3PIX1D\]: all 50 pixels are bad \(.*flux is not finite"
    ):
        read_spectrum(path)


@pytest.mark.parametrize("value", [0.0, -1e-21])
def test_zero_and_negative_errors_are_masked(path, value):
    change(path, "FLUX_ERR", [5, 6], value)
    read = read_spectrum(path)
    np.testing.assert_array_equal(np.flatnonzero(read.mask), [3, 5, 6, 13, 23, 33, 43])
    assert "2 pixels masked: error is zero or negative" in read.meta.notes


def test_negative_variance_is_masked(tmp_path):
    path = tmp_path / "euclid.fits"
    layouts.euclid(path, *example())
    change(path, "VAR", [5], -1.0, hdu=1)
    assert read_spectrum(path).mask[5]


def test_infinite_values_are_masked(path):
    change(path, "FLUX", [5], np.inf)
    assert read_spectrum(path).mask[5]


def test_unsorted_wavelengths(path):
    change(path, "WAVELENGTH", [10], 0.1)
    with pytest.raises(
        SpectrumError, match=r"\[EXTRACT3PIX1D\]: unsorted wavelengths at rows 9 and 10 .*Sort the rows"
    ):
        read_spectrum(path)


def test_duplicate_wavelengths(path):
    wavelength = example()[0]
    change(path, "WAVELENGTH", [10], wavelength[9])
    with pytest.raises(SpectrumError, match=r"duplicate wavelengths at rows 9 and 10 .*merge or drop"):
        read_spectrum(path)


def test_descending_wavelengths_are_reversed(tmp_path):
    wavelength, flux, error, mask = example()
    path = tmp_path / NAME
    layouts.jades_dr4(path, wavelength[::-1], flux[::-1], error[::-1], mask[::-1])
    read = read_spectrum(path)
    np.testing.assert_array_equal(read.wavelength, wavelength)
    np.testing.assert_array_equal(read.mask, mask)
    assert "wavelengths descend; reversed" in read.meta.notes


def test_big_endian_becomes_native(path):
    with fits.open(path, memmap=False) as hdus:
        assert hdus["EXTRACT3PIX1D"].data["FLUX"].dtype.byteorder == ">"
    read = read_spectrum(path)
    assert all(array.dtype.isnative for array in (read.wavelength, read.flux, read.error))
    np.testing.assert_array_equal(read.flux[~read.mask], example()[1][~read.mask])
