"""What is no prism spectrum, or not a sound one, from files, Python and Parquet: refused, mended or noted."""

import gzip
import io
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

import kspecsr
import layouts
from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumError, SpectrumMeta
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import BINS, ERROR, IDENTITY, StandIn, prism_spectrum, write_stand_in_folder
from kspecsr import enhance, linefit
from kspecsr.browser.sources import view_of
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.enhancement.run import NO_PRISM, Settings, read_file
from kspecsr.methods.direct_fit import fit_prism_lines
from kspecsr.results.background import background_deficit
from kspecsr.results.prism_input import prism_input
from kspecsr.results.resolver import redshifts_of
from kspecsr.results.result import Result
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver
from kspecsr.surveys.inputs import resolved_columns, write_plan
from kspecsr.surveys.reading import read_file as read_survey_file
from kspecsr.surveys.rows import read_rows
from kspecsr.surveys.tables import FILES, InputColumns, SurveyInput, SurveySettings


@pytest.fixture
def resolver():
    return SuperResolver(StandIn(), IDENTITY, BINS)


def points(n):
    wavelength = np.geomspace(0.75, 5.0, n)
    flux = 2e-20 * (wavelength / 0.75) ** -1.6
    return wavelength * u.um, flux * FLUX_UNIT, 0.05 * flux * FLUX_UNIT


# points that are no spectrum ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 8, 25, 60])
def test_photometry_and_binned_spectra_are_refused(resolver, n):
    with pytest.raises(
        SpectrumError, match=rf"its {n} good points on the prism's range are [\d.]+ times as far"
    ):
        resolver(points(n))


def test_spectra_of_other_pixels_and_with_gaps_are_not_refused(resolver):
    spectrum = prism_spectrum()
    kept = (np.arange(706) % 40 < 25) & (np.arange(706) % 2 == 0)  # half the sampling, rows dropped
    thin = [values[kept] for values in (spectrum.wavelength, spectrum.flux, spectrum.error)]
    result = resolver((thin[0] * u.um, thin[1] * FLUX_UNIT, thin[2] * FLUX_UNIT))
    assert result.notes == () and (~result.prism_mask).sum() > 300


def test_photometry_beside_a_spectrum_is_masked_with_a_note():
    spectrum, (wavelength, flux, error) = prism_spectrum(), points(8)
    narrow, beyond = spectrum.wavelength < 2.5, wavelength.value > 2.6
    parts = [
        np.append(getattr(spectrum, name)[narrow], values.value[beyond])
        for name, values in (("wavelength", wavelength), ("flux", flux), ("error", error))
    ]
    mixed = spectrum.replace(
        wavelength=parts[0], flux=parts[1], error=parts[2], mask=np.zeros(parts[0].size, bool)
    )
    given = prism_input(mixed)
    assert given.observed.meta.notes == ("4 pixels left out: wider than 1.5 times the prism's resolution",)
    assert given.mask[spectrum.wavelength > 2.6].all()


# negative continua -------------------------------------------------------------------------------------


def test_noise_and_positive_continua_are_left_alone():
    generator = np.random.default_rng(1)
    error = np.full(706, ERROR)
    nothing = np.zeros(706, bool)
    for level in (0.0, 5.0, -0.5):
        flux = (level + generator.standard_normal((50, 706))) * ERROR
        assert not any(background_deficit(one, error, nothing).any() for one in flux)


@pytest.mark.parametrize("shape", ["flat", "steep", "red half"])
def test_lines_keep_their_fluxes_on_a_continuum_that_is_negative(shape):
    spectrum = prism_spectrum(noise=0.3)
    red = 1 / (1 + np.exp(-(spectrum.wavelength - 3.0) / 0.1))
    lost = {"flat": 40.0, "steep": 40 * (spectrum.wavelength / 2) ** -1.5, "red half": 40 * red}[
        shape
    ] * ERROR
    sunk = prism_input(spectrum.replace(flux=spectrum.flux - lost))
    assert "continuum is negative (background over-subtracted?)" in sunk.observed.meta.notes[0]
    assert prism_input(sunk.observed).observed.meta.notes == sunk.observed.meta.notes  # once, read again
    whole, z = prism_input(spectrum), np.array([3.235])
    fluxes = [
        fit_prism_lines(one.flux[None], one.error[None], one.mask[None], z).line_flux[0]
        for one in (whole, sunk)
    ]
    error = fit_prism_lines(whole.flux[None], whole.error[None], whole.mask[None], z).line_flux_error[0]
    strong = fluxes[0] > 20 * error
    assert strong.sum() > 1
    np.testing.assert_allclose(fluxes[1][strong] / fluxes[0][strong], 1, atol=0.1)
    level = np.median(sunk.flux / sunk.error)
    assert abs(level) < (17 if shape == "red half" else 2)


# what files say in words and numbers of their own ------------------------------------------------------


BAD = np.arange(706) % 37 == 5
DENSITY = "erg / (s cm2 Angstrom)"


def table_of(spectrum, flux=None, error=None, names=("wavelength", "flux", "error"), unit=DENSITY, **more):
    """Table of a spectrum, some of its columns replaced, or added."""
    flux, error = (spectrum.flux if flux is None else flux), (spectrum.error if error is None else error)
    table = Table(dict(zip(names, (spectrum.wavelength, flux, error), strict=True)) | more)
    for name, text in zip(names, ("um", unit, unit), strict=True):
        table[name].unit = text
    return table


def saved(path, table, *more, **cards):
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table), *more]).writeto(path, overwrite=True)
    with fits.open(path, mode="update") as hdus:  # astropy writes units and names of columns itself
        hdus[1].header.update(cards)
    return path


@pytest.mark.parametrize(
    ("name", "good"),
    [
        *(("is_outlier", False), ("nan_mask", False), ("Flag.CR", False), ("saturated", False)),
        *(("use_pix", True), ("good flag", True), ("flux_ok", True), ("KEEP", True), ("mask_keep", True)),
    ],
)
def test_names_of_quality_columns_are_understood_word_by_word(tmp_path, name, good):
    spectrum = prism_spectrum()
    flux = np.where(BAD, 1e-16, spectrum.flux)
    table = table_of(spectrum, flux, **{name: (good != BAD).astype(int)})
    read = read_spectrum(saved(tmp_path / "x.fits", table))
    np.testing.assert_array_equal(read.mask, BAD)
    assert read.meta.notes == (f"19 pixels masked: column {name} is {'0' if good else 'not 0'} or blank",)


@pytest.mark.parametrize("name", ["qc", "status", "wht", "weights", "fit_mask", "snr_ok"])
def test_few_whole_numbers_under_any_name_are_named_in_a_note(tmp_path, name):
    read = read_spectrum(saved(tmp_path / "x.fits", table_of(prism_spectrum(), **{name: BAD * 4})))
    assert not read.mask.any() and read.meta.notes[0].startswith(f"column {name} was not read: it may mark")
    counts = table_of(prism_spectrum(), order=np.full(706, 3), model=np.arange(706.0))
    assert read_spectrum(saved(tmp_path / "x.fits", counts)).meta.notes == ()


def test_a_mask_that_takes_most_pixels_says_what_else_it_may_mean(tmp_path):
    read = read_spectrum(saved(tmp_path / "x.fits", table_of(prism_spectrum(), mask=~BAD)))
    assert read.meta.notes[0].endswith("(most of them: if it means the opposite, call it good)")


def test_a_mask_in_an_image_of_its_own(tmp_path):
    images = [fits.ImageHDU(BAD.astype(np.int16), name="MASK"), fits.ImageHDU(np.ones((2, 2)), name="DQ")]
    read = read_spectrum(saved(tmp_path / "x.fits", table_of(prism_spectrum()), *images))
    np.testing.assert_array_equal(read.mask, BAD)
    assert read.meta.notes == ("19 pixels masked: HDU MASK is not 0 or blank",)


@pytest.mark.parametrize("value", [-9999.0, -99.9, 9.96921e36, 1e30])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_numbers_for_no_value_are_masked_where_no_metadata_name_them(tmp_path, value, kind):
    spectrum = prism_spectrum()
    flux = np.where(BAD, value, spectrum.flux * 1e19).astype(kind)
    table = table_of(spectrum, flux, spectrum.error * 1e19, unit=f"1e-19 {DENSITY}")
    read = read_spectrum(saved(tmp_path / "x.fits", table))
    np.testing.assert_array_equal(read.mask, BAD)
    assert (
        read.meta.notes[0]
        == f"19 pixels masked: flux is {np.array(value, kind):g}, which stands for no value"
    )
    error = np.where(BAD, 1e20, spectrum.error)
    read = read_spectrum(saved(tmp_path / "x.fits", table_of(spectrum, error=error)))
    np.testing.assert_array_equal(read.mask, BAD)


def test_a_flux_of_99_among_its_like_is_a_flux():
    wavelength = points(60)[0]
    flux = np.linspace(50, 120, 60).round() * u.uJy
    assert not ObservedSpectrum.from_quantities(wavelength, flux, np.ones(60) * u.uJy).mask.any()


@pytest.mark.parametrize(
    "cards", [{"WAVEFRAM": "rest"}, {"SPECSYS": "SOURCE"}, {"RESTFRAM": True}, {"TUCD1": "em.wl;rest"}]
)
def test_rest_wavelengths_are_refused(tmp_path, cards):
    with pytest.raises(SpectrumError, match="wavelengths are in the rest frame, expected as observed"):
        read_spectrum(saved(tmp_path / "x.fits", table_of(prism_spectrum()), **cards))
    observed = {"WAVEFRAM": "observed", "SPECSYS": "BARYCENT", "RESTFRQ": 1.0}
    assert len(read_spectrum(saved(tmp_path / "x.fits", table_of(prism_spectrum()), **observed)))


def test_of_two_wavelength_columns_the_observed_one_is_read(tmp_path):
    spectrum = prism_spectrum()
    table = table_of(spectrum, names=("wave_obs", "flux", "error"), wave_rest=spectrum.wavelength / 3)
    read = read_spectrum(saved(tmp_path / "x.fits", table))
    np.testing.assert_allclose(read.wavelength, spectrum.wavelength)
    table.remove_column("wave_obs")
    with pytest.raises(SpectrumError, match="rest frame"):
        read_spectrum(saved(tmp_path / "x.fits", table))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("ergs/sec/cm^2/A", 1), ("ERG/S/CM2/A", 1), ("FLAM", 1), ("erg s^-1 cm^-2 A^-1", 1)),
        *(("1e-19 ERGS/S/CM2/ANGSTROM", 1e19), ("W m-2 um-1", 10)),
    ],
)
@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_spellings_of_flux_density(tmp_path, unit, factor, ending):
    spectrum = prism_spectrum()
    table = table_of(spectrum, spectrum.flux * factor, spectrum.error * factor)
    path = tmp_path / f"x.{ending}"
    if ending == "fits":
        saved(path, table, TUNIT2=unit, TUNIT3=unit)
    else:
        table.write(path)
        path.write_text(path.read_text().replace(str(table["flux"].unit), unit))
    np.testing.assert_allclose(read_spectrum(path).flux, spectrum.flux, rtol=1e-6)


@pytest.mark.parametrize(
    ("flux", "unit", "text"),
    [
        (lambda f: f.astype(str), DENSITY, "column flux does not hold real numbers but <U"),
        (lambda f: f + 0j, DENSITY, "column flux does not hold real numbers but complex128"),
        (lambda f: f, "mag(AB)", r"column flux has the unknown unit 'mag\(AB\)'"),
    ],
)
def test_text_columns_that_hold_no_linear_real_numbers(tmp_path, flux, unit, text):
    table = table_of(prism_spectrum())
    table["flux"] = flux(np.asarray(table["flux"]))
    table["flux"].unit = unit
    table.write(tmp_path / "x.ecsv")
    with pytest.raises(SpectrumError, match=rf"x\.ecsv: {text}"):
        read_spectrum(tmp_path / "x.ecsv")


def test_a_text_table_that_was_cut_loses_its_last_row(tmp_path):
    table_of(prism_spectrum()).write(tmp_path / "x.ecsv")
    text = (tmp_path / "x.ecsv").read_text()
    (tmp_path / "x.ecsv").write_text(text[:-2])  # 4e-21 is 4e-2
    read = read_spectrum(tmp_path / "x.ecsv")
    assert len(read) == 705 and read.meta.notes == (
        "the last line has no end, so the file may be cut, and it was left out",
    )


def test_vectors_with_dimensions(tmp_path):
    spectrum = prism_spectrum()
    columns = [
        fits.Column(name, "706D", unit, dim="(706,1)", array=values[None, None])
        for name, unit, values in (
            ("wavelength", "um", spectrum.wavelength),
            ("flux", DENSITY, spectrum.flux),
            ("error", DENSITY, spectrum.error),
        )
    ]
    layouts.write(tmp_path / "x.fits", {}, fits.BinTableHDU.from_columns(columns))
    np.testing.assert_array_equal(read_spectrum(tmp_path / "x.fits").flux, spectrum.flux)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"PAR1....", "a Parquet file"), (b"#ASDF 1.0.0", "an ASDF file"), (b"<?xml version", "an XML file")],
)
def test_files_of_other_kinds_are_named(tmp_path, content, kind):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SpectrumError, match=f"x: is {kind}"):
        read_spectrum(tmp_path / "x")
    (tmp_path / "y.gz").write_bytes(gzip.compress(gzip.compress(content)))
    with pytest.raises(SpectrumError, match="is packed twice; unpack it once"):
        read_spectrum(tmp_path / "y.gz")


def test_pixels_of_a_grating_and_wavelengths_beyond_the_prism_are_noted(resolver):
    wavelength = np.arange(2.87, 5.2, 0.00179)
    flux = np.ones(wavelength.size) * 1e-20 * FLUX_UNIT
    assert "as those of a grating are" in resolver((wavelength * u.um, flux, 0.1 * flux)).notes[0]
    beyond = resolver((wavelength * 1e4 * u.um, flux, 0.1 * flux))
    assert "wavelengths run from 2.87e+04 to 5.199e+04 um (is their unit right?)" in beyond.notes[0]
    assert "NO_COVERAGE" in beyond.flags


# Python ------------------------------------------------------------------------------------------------


def test_a_collection_of_specutils_gives_a_result_each(resolver):
    from specutils import SpectrumCollection

    spectra = [prism_spectrum(seed).to_specutils() for seed in (1, 2)]
    results = resolver(SpectrumCollection.from_spectra(spectra))
    assert isinstance(results, list)
    for result, alone in zip(results, resolver(spectra), strict=True):
        np.testing.assert_array_equal(result.flux, alone.flux)


@pytest.mark.parametrize("redshift", [True, False, 50, 30.5, -0.1, np.inf, "3", [True]])
def test_what_is_no_redshift_is_refused(resolver, redshift):
    with pytest.raises(ValueError, match=r"redshift: expected (numbers|values) from 0 to 30, got"):
        resolver([prism_spectrum()], redshift=redshift)


def test_a_masked_redshift_is_none():
    masked = np.ma.array([1.0, 2.0], mask=[True, False])
    for given in (masked, [None, 2.0], [np.ma.masked, 2.0], [np.nan, u.Quantity(2.0)]):
        np.testing.assert_array_equal(redshifts_of(given, 2), [np.nan, 2.0])
    assert np.isnan(redshifts_of(np.ma.masked, 1)[0])


@pytest.mark.parametrize("header", [{"INSTRUME": "MIRI"}, {"GRATING": "G395M"}, {"VACUUM": False}])
def test_what_the_header_of_a_specutils_spectrum_says_is_heard(resolver, header):
    spectrum = prism_spectrum().to_specutils()
    spectrum.meta.clear()
    spectrum.meta["header"] = header
    with pytest.raises(SpectrumError, match=r"is a (MIRI|G395M) spectrum; expected NIRSpec|are in air"):
        resolver(spectrum)


# notes reach the user ----------------------------------------------------------------------------------


NOTE = "2 pixels masked: column dq is not 0 or blank"


def test_notes_stand_in_result_header_log_line_and_page(resolver, tmp_path):
    result = resolver(prism_spectrum(path="dir/a.fits", notes=(NOTE, "long " * 40 + "note")))
    assert result.notes[0] == NOTE
    fits_file, (ecsv, _) = result.write(tmp_path / "a_sr.fits")[0], result.write(tmp_path / "a_sr.ecsv")
    assert next(iter(fits.getheader(fits_file)["HISTORY"])) == NOTE
    assert QTable.read(ecsv).meta["HISTORY"] == list(result.notes)
    for path in (fits_file, ecsv):
        assert kspecsr.read_result(path).notes == result.notes
    row = row_of(Result.read(fits_file), "a")
    assert NOTE in row.summary
    assert NOTE in view_of(row, result).summary


def test_notes_of_older_files_are_read(resolver, tmp_path):
    resolver(prism_spectrum()).write(tmp_path / "a_sr.fits")
    with fits.open(tmp_path / "a_sr.fits", mode="update") as hdus:
        hdus["INPUT"].header["COMMENT"] = NOTE
    assert kspecsr.read_result(tmp_path / "a_sr.fits").notes == (NOTE,)


# commands ----------------------------------------------------------------------------------------------


def several(path, count=3):
    spectrum = prism_spectrum()
    flags = np.zeros(706, np.int32)
    tables = [
        layouts.table(
            layouts.pipeline_columns(spectrum.wavelength, k * spectrum.flux, spectrum.error, flags),
            "EXTRACT1D",
            EXTVER=k,
        )
        for k in range(1, count + 1)
    ]
    layouts.write(path, {"GRATING": "PRISM", "TELESCOP": "JWST"}, *tables)
    return path


def test_hdu_is_chosen_on_the_command_line_and_results_are_told_apart(tmp_path, monkeypatch, capsys):
    folder = write_stand_in_folder(tmp_path / "model")
    monkeypatch.setattr(
        SuperResolver, "from_folder", lambda path, **more: SuperResolver(StandIn(), IDENTITY, BINS)
    )
    path, out = several(tmp_path / "x1d.fits"), tmp_path / "out"
    shared = [str(path), "--output", str(out)]
    assert enhance.main([*shared, "--model", str(folder)]) == 1
    assert "holds 3 spectra (HDUs [1, 2, 3]); choose one" in capsys.readouterr().err
    for hdu in ("2", "3"):
        assert enhance.main([*shared, "--model", str(folder), "--hdu", hdu]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["x1d_hdu2_sr.fits", "x1d_hdu3_sr.fits"]
    assert fits.getheader(out / "x1d_hdu3_sr.fits")["INHDU"] == "EXTRACT1D,3"
    assert linefit.main([*shared, "--redshift", "3.235", "--hdu", "2"]) == 0
    assert (out / "x1d_hdu2_linefit.ecsv").is_file()


def test_files_of_other_instruments_are_passed_over_in_folders_and_surveys(tmp_path):
    path = tmp_path / "x1d.fits"
    several(path, 1)
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(INSTRUME="MIRI", FILTER="P750L")
        del hdus[0].header["GRATING"]
    settings = Settings(tmp_path, "fits", False, kspecsr.enhancement.run.ReadOptions(), False, "")
    (file,) = list_inputs([tmp_path])
    assert read_file(settings, file).status == NO_PRISM
    survey = SurveySettings(FILES, "", 1, 1, 1, "m", "")
    failed = read_survey_file(SurveyInput(0, "", str(path)), survey)
    assert failed.failure == "not_prism" and "is a MIRI P750L spectrum; expected PRISM" in failed.reason


def test_lists_from_windows_and_from_standard_input(tmp_path, monkeypatch):
    for name in "ab":
        write_spectrum(tmp_path / f"{name}.fits", prism_spectrum(), {})
    (tmp_path / "list.txt").write_bytes("\ufeffa.fits\r\nb.fits\r\n".encode())
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in list_inputs(["@list.txt"])] == ["a_sr", "b_sr"]
    (tmp_path / "z.csv").write_bytes("\ufefffile,z_spec\r\na.fits,2.5\r\n".encode())
    assert KnownRedshifts.parse("z.csv:z_spec").of(Path("a.fits"), SpectrumMeta()) == 2.5
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"b.fits\n")))
    assert [file.name for file in list_inputs(["@-"], row=4)] == ["b_row4_sr"]


# Parquet -----------------------------------------------------------------------------------------------


def rows_of(tmp_path, columns=None, metadata=None, **more):
    """The one spectrum of a Parquet file, whose flux has nulls in its first three pixels."""
    spectrum = prism_spectrum()
    flux = [None] * 3 + list(spectrum.flux[3:] * 1e20)
    values = {"wavelength": list(spectrum.wavelength), "flux": flux, "error": list(spectrum.error * 1e20)}
    table = pa.table({name: pa.array([column]) for name, column in {**values, **more}.items()})
    fields = [field.with_metadata((metadata or {}).get(field.name, {})) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields)), tmp_path / "c.parquet")
    units = {"wavelength_unit": "um", "flux_unit": "1e-20 erg/(s cm2 Angstrom)"}
    named = InputColumns(wavelength="wavelength", flux="flux", error="error", **units, **(columns or {}))
    (one,) = read_rows(str(tmp_path / "c.parquet"), 0, 1, 0, named)
    return one


def test_nulls_fill_values_and_quality_lists_of_parquet_are_masked(tmp_path):
    bad = np.arange(706) % 50 == 7
    nulls = np.arange(706) < 3
    for name, flags in (("mask", bad), ("valid", ~bad)):
        one = rows_of(tmp_path, {"mask": name}, **{name: [bool(flag) for flag in flags]})
        np.testing.assert_array_equal(one.spectrum.mask, bad | nulls)
        assert one.spectrum.observed.meta.notes[0].startswith("14 pixels masked: column")
    unknown = rows_of(tmp_path, {"mask": "mask"}, mask=[None if flag else 0 for flag in bad])
    np.testing.assert_array_equal(unknown.spectrum.mask, bad | nulls)
    error = np.where(bad, 999.0, ERROR * 1e20)
    filled = rows_of(
        tmp_path, metadata={"error": {"missing_value": "999"}}, error=list(error), sky_flag=[1] * 706
    )
    np.testing.assert_array_equal(filled.spectrum.mask, bad | nulls)
    assert filled.spectrum.observed.meta.notes[0] == "column sky_flag was not read: it may mark bad pixels"


def schema_of(*fields, **metadata):
    kind = pa.list_(pa.float64())
    return pa.schema([pa.field(name, kind, metadata=metadata.get(name)) for name in fields])


@pytest.mark.parametrize("name", ["wave_air", "wave_rest", "wavelength"])
def test_schemas_that_speak_of_air_or_rest_are_refused(name):
    schema = schema_of(name, "flux", "error", wavelength={"description": "wavelength in air"})
    with pytest.raises(SpectrumError, match=rf"c\.parquet: column {name}: wavelengths are in (air|the rest)"):
        resolved_columns(schema, InputColumns(wavelength_unit="um", flux_unit="Jy"), "c.parquet")


def test_errors_in_another_unit_than_the_flux_are_refused():
    stated = {"wavelength": {"unit": "um"}, "flux": {"unit": "uJy"}}
    for name, good, bad in (("error", "1e-6 Jy", "mJy"), ("ivar", "uJy-2", "uJy")):
        schema = schema_of("wavelength", "flux", name, **stated, **{name: {"unit": bad}})
        with pytest.raises(SpectrumError, match=rf"column {name} has the unit {bad}, expected .*uJy"):
            resolved_columns(schema, InputColumns(), "c.parquet")
        resolved_columns(schema, InputColumns(flux_unit="uJy"), "c.parquet")  # the user's word
        schema = schema_of("wavelength", "flux", name, **stated, **{name: {"unit": good}})
        assert resolved_columns(schema, InputColumns(), "c.parquet").flux_unit == "uJy"


def test_lists_that_mark_pixels_in_words_are_found(tmp_path):
    bad, nulls = np.arange(706) % 50 == 7, np.arange(706) < 3
    schema = schema_of("wavelength", "flux", "error", "use_pix")
    chosen = resolved_columns(schema, InputColumns(wavelength_unit="um", flux_unit="Jy"), "c.parquet")
    one = rows_of(tmp_path, {"mask": chosen.mask}, use_pix=[int(flag) for flag in ~bad])
    np.testing.assert_array_equal(one.spectrum.mask, bad | nulls)


@pytest.mark.parametrize(("text", "failure"), [("G395M", "not_prism"), ("CLEAR;PRISM", ""), ("NIRSpec", "")])
def test_rows_of_other_dispersers_are_no_prism(tmp_path, text, failure):
    assert rows_of(tmp_path, {"disperser": "grating"}, grating=text).failure == failure


def test_a_flag_per_object_is_no_mask_and_a_number_no_disperser():
    lists = {name: pa.array([[1.0, 2.0]]) for name in ("wavelength", "flux", "error", "valid")}
    schema = pa.table({**lists, "flag": [3], "quality": ["A"], "grating": [7]}).schema
    units = InputColumns(wavelength_unit="um", flux_unit="Jy")
    chosen = resolved_columns(schema, units, "c.parquet")
    assert (chosen.mask, chosen.disperser) == ("valid", "")


def test_damaged_parquet_is_named(tmp_path):
    rows_of(tmp_path)
    data = (tmp_path / "c.parquet").read_bytes()
    for number, content in enumerate(
        (data[:-9], data.replace(b"wavelength", b"wave\xa3\xa3ngth"), b"PAR1" * 9)
    ):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(content)
        with pytest.raises(
            SpectrumError, match=rf"{number}\.parquet: no readable Parquet file \(.*unaltered copy"
        ):
            write_plan(tmp_path, [str(path)], InputColumns(), 1)
