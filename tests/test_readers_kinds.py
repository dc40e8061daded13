"""What files say of nulls, bad pixels, instruments, air and several spectra, in all the ways they say it."""

import bz2
import gzip
import lzma

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

import layouts
from data_pipeline.readers import read_spectrum
from data_pipeline.readers.identity import disperser_name
from data_pipeline.readers.quality import BAD_NAMES, GOOD_NAMES
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

UNIT = "10**-24 erg / (s cm2 Angstrom)"
DENSITY = u.Unit("erg / (s cm2 Angstrom)")
WAVELENGTH, FLUX, ERROR, _ = layouts.example()
BAD = np.arange(50) % 9 == 4
COUNTS = np.round(FLUX * 1e24).astype(np.int32)
SIGMA = np.round(ERROR * 1e24).astype(np.int32)


def columns(flux=FLUX, error=ERROR, kind="D", unit="erg/s/cm2/Angstrom"):
    return [
        ("wavelength", "D", "um", WAVELENGTH),
        ("flux", kind, unit, flux),
        ("error", kind, unit, error),
    ]


def written(path, more=(), primary=None, name="SPECTRUM", **cards):
    layouts.write(path, primary or {}, layouts.table([*columns(), *more], name, **cards))
    return path


# numbers that stand for no value -----------------------------------------------------------------------


@pytest.mark.parametrize("null", [-999, 999999, 0])
@pytest.mark.parametrize("column", [2, 3])
def test_integers_that_the_header_calls_null_are_masked(tmp_path, null, column):
    values = [COUNTS.copy(), SIGMA.copy()]
    values[column - 2][BAD] = null
    table = layouts.table(columns(*values, "J", UNIT), "SPECTRUM", **{f"TNULL{column}": null})
    layouts.write(tmp_path / "x.fits", {}, table)
    read = read_spectrum(tmp_path / "x.fits")
    np.testing.assert_array_equal(read.mask, BAD)
    np.testing.assert_allclose(read.flux[~BAD], COUNTS[~BAD] * 1e-24)
    assert any("7 pixels masked" in note or "6 pixels masked" in note for note in read.meta.notes)


def test_a_null_is_told_before_the_column_is_scaled(tmp_path):
    table = layouts.table(columns(np.where(BAD, -1, COUNTS), SIGMA, "J", "1e-26 erg/s/cm2/Angstrom"))
    table.header.update(TNULL2=-1, TSCAL2=100.0, TZERO2=100.0, TSCAL3=100.0)  # a null of -1 would read as 0
    layouts.write(tmp_path / "x.fits", {}, table)
    # astropy scales what it is given: the stored integers are those above
    with fits.open(tmp_path / "x.fits", mode="update", do_not_scale_image_data=True) as hdus:
        hdus[1].header.update(TNULL2=-1)
    read = read_spectrum(tmp_path / "x.fits")
    np.testing.assert_array_equal(read.mask, BAD)


@pytest.mark.parametrize("method", ["null_value", "data_mask"])
@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_masked_quantities_and_columns_stay_masked_through_files(tmp_path, method, ending):
    table = QTable({"wavelength": WAVELENGTH * u.um, "error": ERROR * DENSITY})
    table["flux"] = Masked(FLUX * DENSITY, mask=BAD)
    table["flux"].info.serialize_method[ending] = method
    table["mask"] = MaskedColumn(np.zeros(50, int), mask=np.arange(50) == 2)
    table.write(tmp_path / f"x.{ending}")
    mask = BAD | (np.arange(50) == 2)
    np.testing.assert_array_equal(read_spectrum(tmp_path / f"x.{ending}").mask, mask)


def test_masked_integers_as_astropy_writes_them(tmp_path):
    for name, path in (("fits", tmp_path / "x.fits"), ("ascii.ecsv", tmp_path / "x.ecsv")):
        table = Table({"wavelength": WAVELENGTH, "error": SIGMA}, units={"wavelength": "um", "error": UNIT})
        table["flux"] = MaskedColumn(COUNTS, mask=BAD, unit=UNIT)
        table.write(path, format=name)
        np.testing.assert_array_equal(read_spectrum(path).mask, BAD)


@pytest.mark.parametrize("key", ["_FillValue", "missing_value", "null"])
def test_fill_values_that_metadata_name_are_masked(tmp_path, key):
    table = QTable({"wavelength": WAVELENGTH * u.um, "error": ERROR * DENSITY})
    table["flux"] = np.where(BAD, -999.9, FLUX) * DENSITY
    table["flux"].info.meta = {key: -999.9}
    table.write(tmp_path / "x.ecsv")
    np.testing.assert_array_equal(read_spectrum(tmp_path / "x.ecsv").mask, BAD)
    single = columns(np.where(BAD, -999.9, FLUX).astype(np.float32), kind="E")
    layouts.write(tmp_path / "x.fits", {}, layouts.table(single, FILLVAL=-999.9))
    np.testing.assert_array_equal(read_spectrum(tmp_path / "x.fits").mask, BAD)


def test_blanks_and_nulls_of_ascii_tables_are_masked(tmp_path):
    numbers = [fits.Column(n, "E20.8", unit=t, array=a, ascii=True) for n, _, t, a in columns()]
    numbers[1] = fits.Column(
        "flux", "I12", unit=UNIT, array=np.where(BAD, -99, COUNTS), null="-99", ascii=True
    )
    table = fits.TableHDU.from_columns(numbers)
    layouts.write(tmp_path / "x.fits", {}, table)
    np.testing.assert_array_equal(read_spectrum(tmp_path / "x.fits").mask, BAD)


def test_python_takes_masked_quantities_and_masked_columns():
    flux, error = FLUX * DENSITY, ERROR * DENSITY
    masked = ObservedSpectrum.from_quantities(WAVELENGTH * u.um, Masked(flux, mask=BAD), error)
    column = MaskedColumn(FLUX, mask=BAD, unit=DENSITY)
    for read in (masked, ObservedSpectrum.from_quantities(WAVELENGTH * u.um, column, error)):
        np.testing.assert_array_equal(read.mask, BAD)
        assert read.meta.notes == ("6 pixels masked: flux or error is masked where it comes from",)
    unknown = np.ma.array(np.zeros(50, bool), mask=BAD)
    read = ObservedSpectrum.from_quantities(WAVELENGTH * u.um, flux, error, unknown)
    np.testing.assert_array_equal(read.mask, BAD)
    lost = Masked(WAVELENGTH * u.um, mask=BAD)
    assert len(ObservedSpectrum.from_quantities(lost, flux, error)) == 50 - BAD.sum()


# bad pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BAD_NAMES, *GOOD_NAMES])
def test_quality_columns_mask_under_all_their_names(tmp_path, name):
    flags = np.where(BAD, 4, 0) if name in BAD_NAMES else np.where(BAD, 0, 1)
    read = read_spectrum(written(tmp_path / "x.fits", [(name.upper(), "J", None, flags)]))
    np.testing.assert_array_equal(read.mask, BAD)
    meaning = "not 0" if name in BAD_NAMES else "0"
    assert f"6 pixels masked: column {name.upper()} is {meaning} or blank" in read.meta.notes


def test_several_quality_columns_all_count_and_blanks_are_bad(tmp_path):
    flags = [("dq", "J", None, np.where(BAD, -1, 0)), ("valid", "L", None, np.arange(50) != 7)]
    read = read_spectrum(written(tmp_path / "x.fits", flags, TNULL4=-1))
    np.testing.assert_array_equal(read.mask, BAD | (np.arange(50) == 7))


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("sky_flag", "J", np.ones(50)),
        ("or_mask", "J", np.ones(50)),
        ("quality", "L", np.ones(50, bool)),  # true: good or bad?
        ("quality", "D", np.full(50, 0.8)),
        ("flags", "3A", np.full(50, "C+S")),
    ],
)
def test_a_column_that_is_not_understood_is_named_in_a_note(tmp_path, name, kind, values):
    read = read_spectrum(written(tmp_path / "x.fits", [(name, kind, None, values)]))
    assert not read.mask.any()
    assert any(f"column {name} was not read" in note for note in read.meta.notes)


def test_words_of_an_ecsv_mask(tmp_path):
    table = QTable({"wavelength": WAVELENGTH * u.um, "flux": FLUX * u.Jy, "error": ERROR * u.Jy})
    table["mask"] = np.where(BAD, "True", "False")
    table.write(tmp_path / "x.ecsv")
    np.testing.assert_array_equal(read_spectrum(tmp_path / "x.ecsv").mask, BAD)
    table["mask"] = np.where(BAD, "perhaps", "False")
    table.write(tmp_path / "x.ecsv", overwrite=True)
    with pytest.raises(
        SpectrumError, match=r"x\.ecsv: column mask should mark bad pixels with numbers or True"
    ):
        read_spectrum(tmp_path / "x.ecsv")


# the instrument ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(
            (text, "PRISM")
            for text in ("PRISM", "PRISM/CLEAR", "CLEAR;PRISM", "PRISM-CLEAR", "NIRSpec PRISM")
        ),
        *((text, "PRISM") for text in ("prism_clear", "CLEARPRISM", "JWST/NIRSpec/PRISM", "PRISM (R100)")),
        *((text, "") for text in ("", "N/A", "NONE", "n/a", "unknown", "-", "CLEAR", "NIRSpec")),
        *(("G395M/F290LP", "G395M/F290LP"), ("NIRSpec G140H", "G140H"), ("RGS", "RGS"), ("P750L", "P750L")),
    ],
)
def test_spellings_of_dispersers(text, name):
    assert disperser_name(text) == name


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"INSTRUME": "MIRI", "FILTER": "P750L", "EXP_TYPE": "MIR_LRS-FIXEDSLIT"}, "MIRI P750L"),
        ({"INSTRUME": "NIRCAM", "FILTER": "F444W", "PUPIL": "GRISMR"}, "NIRCAM F444W GRISMR"),
        ({"INSTRUME": "NIRSPEC", "FILTER": "F290LP"}, "NIRSPEC F290LP"),
        ({"TELESCOP": "Keck II", "INSTRUME": "NIRSPEC"}, "KECK II NIRSPEC"),
        ({"TELESCOP": "Magellan", "GRATING": "PRISM"}, "MAGELLAN"),
        ({"EXP_TYPE": "NIS_WFSS"}, "NIS_WFSS"),
        ({"DETECTOR": "MIRIMAGE"}, "MIRIMAGE"),
        ({"OPT_ELEM": "G102"}, "G102"),
        ({"INSTRUME": "NIRSPEC G395M"}, "G395M"),
        ({"SETUP": "F170LP-G235M"}, "G235M"),
        ({"MODE": "NIRSpec G140H"}, "G140H"),
        ({"MODE": "PRISM, not G140H"}, ""),
        ({"INSTRUME": "NIRSPEC", "TELESCOP": "JWST", "FILTER": "CLEAR", "EXP_TYPE": "NRS_MSASPEC"}, ""),
        ({"GRATING": "PRISM", "DETECTOR": "NRS1"}, "PRISM"),
    ],
)
@pytest.mark.parametrize("layout", ["table", "pipeline", "ecsv"])
def test_whatever_says_what_it_was_taken_with_is_heard(tmp_path, cards, named, layout):
    path = tmp_path / "x.fits"
    if layout == "ecsv":
        path = tmp_path / "x.ecsv"
        table = QTable(
            {"wavelength": WAVELENGTH * u.um, "flux": FLUX * u.Jy, "error": ERROR * u.Jy}, meta=cards
        )
        table.write(path)
    elif layout == "table":
        written(path, primary=cards)
    else:
        flags = np.zeros(50, np.int32)
        table = layouts.table(layouts.pipeline_columns(WAVELENGTH, FLUX, ERROR, flags), "EXTRACT1D")
        layouts.write(path, cards, table)
    assert read_spectrum(path).meta.disperser == named


def test_the_name_of_a_file_speaks_where_nothing_else_does(tmp_path):
    assert read_spectrum(written(tmp_path / "jw02736_f290lp-g395m_x1d.fits")).meta.disperser == "G395M"
    assert read_spectrum(written(tmp_path / "a.fits")).meta.disperser == ""


# several spectra ---------------------------------------------------------------------------------------


def test_one_of_several_tables_is_chosen_by_number_or_name(tmp_path):
    path = tmp_path / "x1d.fits"
    flags = np.zeros(50, np.int32)
    tables = [
        layouts.table(layouts.pipeline_columns(WAVELENGTH, k * FLUX, ERROR, flags), "EXTRACT1D")
        for k in (1, 2, 3)
    ]
    layouts.write(path, {"GRATING": "PRISM"}, *tables)
    with pytest.raises(
        SpectrumError, match=r"holds 3 spectra \(HDUs \[1, 2, 3\]\); choose one, .*--hdu 1 on the"
    ):
        read_spectrum(path)
    np.testing.assert_allclose(read_spectrum(path, hdu=3).flux, 3 * read_spectrum(path, hdu="1").flux)
    layouts.write(path, {}, *(layouts.table(columns(k * FLUX), name) for k, name in ((1, "A"), (2, "B"))))
    with pytest.raises(SpectrumError, match=r"holds 2 spectra \(HDUs \[1, 2\]\); choose one, .*--hdu 1"):
        read_spectrum(path)
    np.testing.assert_allclose(read_spectrum(path, hdu="B").flux, 2 * FLUX)


@pytest.mark.parametrize("variable", [False, True])
def test_one_of_several_rows_is_chosen(tmp_path, variable):
    path, count = tmp_path / "x1dints.fits", 3
    kinds = {"WAVELENGTH": (WAVELENGTH, "um"), "FLUX": (FLUX, "Jy"), "FLUX_ERROR": (ERROR, "Jy")}
    numbers = []
    for name, (values, unit) in kinds.items():
        rows = [(k + 1) ** (name == "FLUX") * values for k in range(count)]
        if variable:
            rows = np.array([None, *rows], dtype=object)[1:]
        numbers.append(fits.Column(name, "PD()" if variable else "50D", unit, array=rows))
    bad = np.stack([np.roll(BAD, k) for k in range(count)])
    numbers.append(fits.Column("DQ", "50J", array=bad.astype(np.int32)))
    layouts.write(path, {"GRATING": "PRISM"}, fits.BinTableHDU.from_columns(numbers, name="EXTRACT1D"))
    with pytest.raises(
        SpectrumError, match=r"holds 3 spectra, one per row; choose one: row=0 to row=2 .*--row 2"
    ):
        read_spectrum(path)
    first, third = read_spectrum(path, row=0), read_spectrum(path, row=2)
    np.testing.assert_allclose(third.flux, 3 * first.flux)
    np.testing.assert_array_equal(third.mask, np.roll(BAD, 2))
    with pytest.raises(SpectrumError, match=r"no row 3; it holds 3 spectra, rows 0 to 2"):
        read_spectrum(path, row=3)
    with pytest.raises(SpectrumError, match=r"row 1 was asked for, but the table is one spectrum"):
        read_spectrum(written(tmp_path / "one.fits"), row=1)


def test_the_order_of_tables_does_not_matter(tmp_path):
    path = tmp_path / "x.spec.fits"
    layouts.dja_v4(path, *layouts.example())
    with fits.open(path, memmap=False) as hdus:
        expected, own = read_spectrum(path), [hdu.copy() for hdu in hdus]
    template = layouts.table(columns(9 * FLUX), "TEMPLATE")
    fits.HDUList([own[0], template, *own[1:]]).writeto(tmp_path / "y.spec.fits")
    read = read_spectrum(tmp_path / "y.spec.fits")
    assert read.meta.format == "dja"
    np.testing.assert_array_equal(read.mask, expected.mask)
    np.testing.assert_array_equal(read.flux, expected.flux)
    tables = [layouts.table(columns(k * FLUX), name) for k, name in ((9, "TEMPLATE"), (1, "SPECTRUM"))]
    layouts.write(path, {}, *tables)
    read = read_spectrum(path)
    np.testing.assert_allclose(read.flux, FLUX)
    assert "HDU SPECTRUM was read, not TEMPLATE" in read.meta.notes


# air, units, packed files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cards",
    [
        *({"AIRORVAC": "air"}, {"VACUUM": False}, {"VACUUM": 0}, {"CTYPE1": "AWAV"}, {"TCTYP1": "AWAV-LOG"}),
        *({"TUCD1": "em.wl;obs.atmos"}, {"MEDIUM": "Air"}, {"INAIR": True}, {"TCOMM1": "wavelength in air"}),
        *({"WAVE_AIR": True}, {"LAMBDREF": "air"}, {"VAC": False}, {"WAVESYS": "Standard air"}),
        {"COMMENT": "Wavelength scale is air"},
    ],
)
def test_air_is_refused_by_every_keyword(tmp_path, cards):
    with pytest.raises(SpectrumError, match=r"x\.fits\[SPECTRUM\]: wavelengths are in air, expected vacuum"):
        read_spectrum(written(tmp_path / "x.fits", **cards))
    cards = {key: True if value in (False, 0) else "vacuum" for key, value in cards.items()}
    assert len(
        read_spectrum(written(tmp_path / "x.fits", **{k: v for k, v in cards.items() if "AIR" not in k}))
    )


@pytest.mark.parametrize("where", ["meta", "description", "name"])
def test_air_is_refused_in_ecsv(tmp_path, where):
    name = "wave_air" if where == "name" else "wavelength"
    table = QTable({name: WAVELENGTH * u.um, "flux": FLUX * u.Jy, "error": ERROR * u.Jy})
    if where == "meta":
        table.meta["vacuum"] = False
    if where == "description":
        table[name].info.description = "Wavelength (air)"
    table.write(tmp_path / "x.ecsv")
    with pytest.raises(SpectrumError, match="wavelengths are in air, expected vacuum"):
        read_spectrum(tmp_path / "x.ecsv")


def test_a_wavelength_in_no_length_is_refused_before_dja_polynomials(tmp_path):
    layouts.dja_v4(tmp_path / "x.spec.fits", *layouts.example())
    with fits.open(tmp_path / "x.spec.fits", mode="update") as hdus:
        hdus["SPEC1D"].header.update(TUNIT1="Jy", POLY0=1.0)
    with pytest.raises(SpectrumError, match=r"\[SPEC1D\]: wavelengths come in Jy; expected a length"):
        read_spectrum(tmp_path / "x.spec.fits")


@pytest.mark.parametrize("unit", ["erg/s/cm2", "W/m2", "erg/s/Angstrom", "Jy um", "mag"])
def test_units_that_are_no_flux_density_are_refused(tmp_path, unit):
    table = columns(unit=unit)
    layouts.write(tmp_path / "x.fits", {}, layouts.table(table, "SPECTRUM"))
    with pytest.raises(SpectrumError, match=r"x\.fits\[SPECTRUM\]: .*(flux comes in|has the unknown unit)"):
        read_spectrum(tmp_path / "x.fits")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_packed_files_read_as_plain_ones(tmp_path, pack, ending):
    plain = tmp_path / f"x.{ending}"
    table = QTable({"wavelength": WAVELENGTH * u.um, "flux": FLUX * u.Jy, "error": ERROR * u.Jy})
    table.write(plain)
    packed = tmp_path / f"y.{ending}"
    packed.write_bytes(pack(plain.read_bytes()))
    np.testing.assert_array_equal(read_spectrum(packed).flux, read_spectrum(plain).flux)
    packed.write_bytes(pack(plain.read_bytes())[:-40])
    with pytest.raises(SpectrumError, match="truncated or damaged"):
        read_spectrum(packed)


def test_a_byte_order_mark_before_ecsv(tmp_path):
    table = QTable({"wavelength": WAVELENGTH * u.um, "flux": FLUX * u.Jy, "error": ERROR * u.Jy})
    table.write(tmp_path / "x.ecsv")
    (tmp_path / "y.ecsv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "x.ecsv").read_bytes())
    assert len(read_spectrum(tmp_path / "y.ecsv")) == 50


# further ones, looked for when all of the above was mended -----------------------------------------------


@pytest.mark.parametrize("bits", [1, 8])
def test_columns_of_bits(tmp_path, bits):
    flags = np.zeros((50, bits), bool)
    flags[:, -1] = BAD
    read = read_spectrum(written(tmp_path / "x.fits", [("mask", f"{bits}X", None, flags)]))
    np.testing.assert_array_equal(read.mask, BAD)


def test_words_of_a_fits_column(tmp_path):
    read = read_spectrum(
        written(tmp_path / "x.fits", [("valid", "5A", None, np.where(BAD, "False", "True"))])
    )
    np.testing.assert_array_equal(read.mask, BAD)


def test_words_in_a_mask_of_python_are_refused():
    words = np.where(BAD, "True", "False")
    with pytest.raises(SpectrumError, match="mask should hold numbers or truth values"):
        ObservedSpectrum.from_quantities(WAVELENGTH * u.um, FLUX * DENSITY, ERROR * DENSITY, words)


def test_rows_of_vectors_in_ecsv(tmp_path):
    rows = {"flux": np.stack([FLUX, 2 * FLUX]) * DENSITY, "error": np.stack([ERROR, ERROR]) * DENSITY}
    QTable({"wavelength": np.stack([WAVELENGTH] * 2) * u.um, **rows}).write(tmp_path / "x.ecsv")
    with pytest.raises(SpectrumError, match=r"x\.ecsv: column wavelength: holds 2 spectra, one per row"):
        read_spectrum(tmp_path / "x.ecsv")
    np.testing.assert_allclose(read_spectrum(tmp_path / "x.ecsv", row=1).flux, 2 * FLUX)


def test_a_name_that_two_tables_have_is_not_chosen_in_silence(tmp_path):
    layouts.write(tmp_path / "x.fits", {}, *(layouts.table(columns(k * FLUX), "SPECTRUM") for k in (1, 2)))
    with pytest.raises(SpectrumError, match=r"has 2 HDUs spectrum; choose by number: 0 PRIMARY, 1 SPE"):
        read_spectrum(tmp_path / "x.fits", hdu="spectrum")


@pytest.mark.parametrize(
    "meta",
    [
        {"Wavelength medium": "air"},
        {"comments": ["Wavelengths are in air"]},
        {"header": {"AIRORVAC": "air"}},
        {"header": {"INSTRUME": "MIRI"}, "air": True},
    ],
)
def test_air_in_nested_metadata_and_remarks(tmp_path, meta):
    table = QTable({"wavelength": WAVELENGTH * u.um, "flux": FLUX * u.Jy, "error": ERROR * u.Jy}, meta=meta)
    table.write(tmp_path / "x.ecsv")
    with pytest.raises(SpectrumError, match="wavelengths are in air"):
        read_spectrum(tmp_path / "x.ecsv")


def test_history_of_a_conversion_to_vacuum_is_no_air(tmp_path):
    assert len(
        read_spectrum(written(tmp_path / "x.fits", HISTORY="Wavelengths converted from air to vacuum"))
    )
