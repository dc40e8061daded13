import astropy.units as u
import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.text import Text

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pictures.style import POOR_COLOUR
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import SpectrumError, SpectrumMeta
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import (
    BINS,
    CONTINUUM,
    ERROR,
    GRID,
    IDENTITY,
    LINE_FLUX,
    REDSHIFT,
    StandIn,
    prism_spectrum,
    sharp_lines,
)
from kspecsr.results.flags import (
    LOW_SN,
    NO_CLEAR_REDSHIFT,
    NO_COVERAGE,
    NO_LINE_IN_RANGE,
    POOR_FIT,
    detection,
    flags_of,
)
from kspecsr.results.interpretation import Interpreter
from kspecsr.results.picture import draw_enhanced_spectrum, unlisted_lines, zoom_windows
from kspecsr.results.prism_input import (
    degraded_to_prism,
    output_mask,
    prism_input,
    prism_wavelength,
    stacked,
)
from kspecsr.super_resolver import LARGE_BATCH, SMALL_BATCH, SuperResolver


@pytest.fixture
def resolver():
    return SuperResolver(StandIn(), IDENTITY, BINS)


def masked(spectrum, rows):
    mask = spectrum.mask.copy()
    mask[rows] = True
    return spectrum.replace(mask=mask)


def test_a_spectrum_gives_flux_redshift_and_lines(resolver):
    result = resolver(prism_spectrum())
    assert result.flags == ()
    assert result.redshift.value == pytest.approx(REDSHIFT, abs=1e-6)
    np.testing.assert_allclose(result.flux, CONTINUUM + sharp_lines(REDSHIFT), rtol=1e-5)
    table = result.lines
    assert table["FLUX"].unit == u.Unit("erg / (s cm2)")
    assert table["WAVE_OBS"].unit == u.um
    assert table["EW_REST"].unit == u.AA
    row = list(table["NAME"]).index("[OIII]_5008")
    assert table["FLUX"][row].value == pytest.approx(LINE_FLUX["[OIII]_5008"], rel=1e-6, abs=0)
    assert table["SNR"][row] == pytest.approx(LINE_FLUX["[OIII]_5008"] / 2e-20)
    assert table["UPPER_LIMIT"][row].value == pytest.approx(6e-20, rel=1e-6, abs=0)
    assert table["WAVE_REST"][row].value == pytest.approx(load_lines().wavelength[row] * 1e4)
    assert result.measurements.brightest() == row


@pytest.mark.parametrize("unit", ["uJy", "erg / (s cm2 Angstrom)", "W / m3", "Jy"])
def test_results_are_in_the_input_s_own_unit(resolver, unit):
    spectrum = prism_spectrum()
    wavelength = spectrum.wavelength * u.um
    equivalency = u.spectral_density(wavelength)
    f_lambda = u.Unit("erg / (s cm2 Angstrom)")
    flux, error = ((a * f_lambda).to(u.Unit(unit), equivalency) for a in (spectrum.flux, spectrum.error))
    result = resolver((wavelength, flux, error))
    sharp = result.spectrum
    assert sharp.flux.unit == u.Unit(unit)
    back = sharp.flux.to_value(f_lambda, u.spectral_density(sharp.spectral_axis))
    np.testing.assert_allclose(back, CONTINUUM + sharp_lines(REDSHIFT), rtol=1e-5)
    sigma = sharp.uncertainty.quantity.to_value(f_lambda, u.spectral_density(sharp.spectral_axis))
    np.testing.assert_allclose(sigma, ERROR, rtol=1e-5)


def test_every_way_to_give_a_spectrum_gives_the_same(resolver, tmp_path):
    spectrum = prism_spectrum()
    write_spectrum(tmp_path / "x.fits", spectrum, {})
    quantities = {
        "wavelength": spectrum.wavelength * u.um,
        "flux": spectrum.flux * u.Unit("erg / (s cm2 Angstrom)"),
        "error": spectrum.error * u.Unit("erg / (s cm2 Angstrom)"),
    }
    ways = [
        spectrum,
        tmp_path / "x.fits",
        str(tmp_path / "x.fits"),
        spectrum.to_specutils(),
        quantities,
        tuple(quantities.values()),
    ]
    results = resolver(ways)
    for result in results:
        np.testing.assert_array_equal(result.flux, results[0].flux)
        np.testing.assert_allclose(result.prism_flux, spectrum.flux, rtol=1e-12)
        assert result.chi_square == pytest.approx(results[0].chi_square)


def test_a_list_gives_a_list_in_order_and_redshifts_go_one_to_one(resolver):
    results = resolver(
        [prism_spectrum(1), prism_spectrum(2), prism_spectrum(3)], redshift=[None, 2.0, np.nan]
    )
    assert [round(r.redshift.value, 3) for r in results] == [3.235, 2.0, 3.235]
    assert [r.redshift.given for r in results] == [False, True, False]
    with pytest.raises(ValueError, match="expected one value or one for each of 2 spectra, got 3"):
        resolver([prism_spectrum(1), prism_spectrum(2)], redshift=[1, 2, 3])
    with pytest.raises(ValueError, match="expected values from 0 to 30, got -1"):
        resolver(prism_spectrum(1), redshift=-1)


def test_what_is_no_prism_is_refused_with_its_file(resolver):
    with pytest.raises(SpectrumError, match=r"dir/a\.fits: is a G395M spectrum; expected NIRSpec PRISM"):
        resolver(prism_spectrum(disperser="G395M", path="dir/a.fits"))
    with pytest.raises(TypeError, match=r"expected a path, a specutils Spectrum.*got int"):
        resolver(3)
    with pytest.raises(SpectrumError, match="no such file"):
        resolver("missing.fits")


def test_another_prism_grid_is_resampled_with_its_flux(resolver):
    wavelength = np.linspace(0.75, 5.2, 500)
    given = (wavelength * u.um, np.full(500, 1.0) * u.uJy, np.full(500, 0.1) * u.uJy)
    result = resolver(given)
    good = ~result.prism_mask
    expected = (1 * u.uJy).to_value(
        "erg / (s cm2 Angstrom)", u.spectral_density(result.prism_wavelength[good] * u.um)
    )
    # the first and last pixel are covered in part
    np.testing.assert_allclose(result.prism_flux[good][1:-1], expected[1:-1], rtol=2e-3)
    assert good.sum() > 600


def test_pixels_without_input_are_masked_and_narrow_gaps_are_not(resolver):
    instrument = load_instrument(PRISM)
    spectrum = masked(prism_spectrum(), slice(300, 320))
    spectrum = masked(spectrum, [100, 101])
    spectrum = masked(spectrum, slice(600, None))
    result = resolver(spectrum)
    wave = result.wavelength
    gap = (wave > instrument.bounds[0, 300]) & (wave < instrument.bounds[1, 319])
    beyond = wave > instrument.bounds[0, 600]
    np.testing.assert_array_equal(result.mask, gap | beyond)
    assert np.isnan(result.flux[result.mask]).all() and np.isfinite(result.flux[~result.mask]).all()
    assert np.isnan(result.flux_error[result.mask]).all()
    np.testing.assert_array_equal(result.spectrum.mask, result.mask)


def test_a_gap_as_wide_as_the_resolution_is_bridged_and_a_wider_one_is_not():
    mask = np.zeros(prism_wavelength().size, bool)
    mask[400:402] = True
    assert not output_mask(mask[None], GRID).any()
    mask[400:405] = True
    assert output_mask(mask[None], GRID).any()


def on_numpy(function):
    return function(np)


def in_a_graph(function):
    """As it is traced into an exported model."""
    return tf.function(lambda: function(keras.ops), autograph=False)().numpy()


@pytest.mark.parametrize("run", [on_numpy, in_a_graph])
def test_the_output_is_masked_in_gaps_wider_than_the_resolution(run):
    rng, prism = np.random.default_rng(2), load_instrument(PRISM)
    masks = rng.random((40, prism.wavelength.size)) < np.linspace(0, 0.9, 40)[:, None]
    masks[0], masks[1] = False, True
    for length in range(2, 12):
        start = rng.integers(0, prism.wavelength.size - 12)
        masks[length] = False
        masks[length, start : start + length] = True
    found = run(lambda xp: output_mask(xp.array(masks), GRID, xp))
    for mask, row in zip(masks, found, strict=True):
        lost = np.zeros(mask.size, bool)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
        for start, stop in edges.reshape(-1, 2):
            low, high = prism.bounds[0, start], prism.bounds[1, stop - 1]
            inside = start > 0 and stop < mask.size
            lost[start:stop] = not (inside and high - low <= prism.fwhm(0.5 * (low + high)))
        for wavelength, masked in zip(GRID.wavelength[::7], row[::7], strict=True):
            pixel = (prism.bounds[0] <= wavelength) & (wavelength < prism.bounds[1])
            assert masked == (lost[pixel].all() if pixel.any() else True)
    assert found[2:12].any() and not found[2:12].all()


def test_keras_ops_report_what_numpy_reports():
    """On any backend; what is exported runs with `keras.ops`, results in Python are made with NumPy."""
    spectra = [prism_spectrum(seed) for seed in range(4)]
    noise = ERROR * np.random.default_rng(0).standard_normal(len(spectra[1]))
    spectra[1] = spectra[1].replace(flux=noise)
    spectra[2], spectra[3] = masked(spectra[2], slice(300, 320)), masked(spectra[3], slice(20, None))
    prism, given = stacked([prism_input(one) for one in spectra]), np.array([np.nan, np.nan, 2.0, np.nan])
    batch = {"prism_flux": prism[0], "prism_error": prism[1], "redshift": given}
    batch = {name: values.astype("f4") for name, values in batch.items()}
    outputs = StandIn()({**batch, "prism_mask": prism[2]})
    outputs = {name: np.asarray(values, float) for name, values in outputs.items()}
    outputs["fit_probability"] = np.array([0.5, np.nan, 1e-4, 1e-4])
    expected = Interpreter(IDENTITY, BINS).everything(prism, outputs, given)
    assert [flags_of(status) for status in expected["status"]] == [(), (LOW_SN,), (POOR_FIT,), (NO_COVERAGE,)]
    tensor = keras.ops.convert_to_tensor
    interpreter = Interpreter(
        IDENTITY, BINS, xp=keras.ops, degrade=lambda flux: tensor(degraded_to_prism(np.asarray(flux), GRID))
    )
    tensors = {name: tensor(values) for name, values in outputs.items()}
    found = interpreter.everything(tuple(map(tensor, prism)), tensors, tensor(given))
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


def test_a_line_in_a_gap_is_not_reported(resolver):
    centre = 0.50082 * (1 + REDSHIFT)
    spectrum = prism_spectrum()
    result = resolver(masked(spectrum, np.abs(spectrum.wavelength - centre) < 0.1))
    row = list(load_lines().names).index("[OIII]_5008")
    assert not result.lines["IN_RANGE"][row]
    assert np.isnan(result.lines["FLUX"][row].value) and result.lines["PRESENCE"][row] == 0
    assert result.flags == ()


def flagged(spectrum, network=None, **options):
    return SuperResolver(network or StandIn(), IDENTITY, BINS)(spectrum, **options)


def no_lines(result):
    table = result.lines
    blank = all(
        np.isnan(table[name].value).all() for name in ("FLUX", "FLUX_ERR", "FWHM", "EW_REST", "UPPER_LIMIT")
    )
    sr1 = np.array_equal(result.flux, result.sr1_flux, equal_nan=True)
    return blank and sr1 and not table["PRESENCE"].any() and np.isnan(result.continuum).all()


def test_noise_is_flagged_and_has_no_lines():
    spectrum = prism_spectrum()
    noise = ERROR * np.random.default_rng(0).standard_normal(len(spectrum))
    result = flagged(spectrum.replace(flux=noise))
    assert result.flags == (LOW_SN,)
    assert no_lines(result)


def test_an_ambiguous_redshift_is_flagged_and_has_no_lines():
    result = flagged(prism_spectrum(), StandIn(width=1.0))
    assert result.flags == (NO_CLEAR_REDSHIFT,)  # one broad hump is one mode, but no redshift
    network = StandIn()
    plain = network.row

    def two_modes(one):
        outputs = plain(one)
        shifted = np.roll(outputs["redshift_probability"], 500)
        return {**outputs, "redshift_probability": 0.45 * outputs["redshift_probability"] + 0.55 * shifted}

    network.row = two_modes
    result = flagged(prism_spectrum(), network)
    assert result.flags == (NO_CLEAR_REDSHIFT,)
    assert result.redshift.confidence == pytest.approx(0.45, abs=0.01)
    assert no_lines(result)
    given = flagged(prism_spectrum(), network, redshift=REDSHIFT)
    assert given.flags == () and not no_lines(given)


def test_a_spectrum_beyond_the_range_is_flagged():
    result = flagged(masked(prism_spectrum(), slice(20, None)))
    assert result.flags == (NO_COVERAGE,)
    assert no_lines(result) and result.redshift.modes == ()
    assert np.isnan(result.redshift.value)


def test_a_redshift_without_lines_in_range_is_flagged():
    spectrum = prism_spectrum()
    short = masked(spectrum, spectrum.wavelength > 3.7)  # Lyman alpha lies at 3.77 um
    assert flagged(short, redshift=30.0).flags == (NO_LINE_IN_RANGE,)


def test_consistency_of_a_flagged_spectrum_is_that_of_what_is_shown():
    spectrum = prism_spectrum()
    noise = ERROR * np.random.default_rng(0).standard_normal(len(spectrum))
    result = flagged(spectrum.replace(flux=noise))
    good = ~result.prism_mask & np.isfinite(result.prism_model)
    np.testing.assert_allclose(result.prism_model[good], CONTINUUM, rtol=1e-6)
    expected = 1.5 * np.mean(((noise[good] - CONTINUUM) / ERROR) ** 2)  # released pixels: 2/3 of the variance
    assert result.chi_square == pytest.approx(expected, rel=1e-5)


def test_arrays_come_back_row_by_row_whatever_the_batch(resolver):
    spectra = [prism_spectrum(seed) for seed in range(70)]
    flux, error = np.stack([s.flux for s in spectra]), np.stack([s.error for s in spectra])
    flux[3, 5] = np.nan
    outputs = resolver.predict_arrays(flux, error)
    assert outputs["flux"].shape == (70, GRID.size)
    alone = SuperResolver(StandIn(), IDENTITY, BINS).predict_arrays(flux[68:69], error[68:69])
    assert outputs["chi_square"][68] == pytest.approx(alone["chi_square"][0])
    with pytest.raises(ValueError, match="expected 706 pixels"):
        resolver.predict_arrays(flux[:, :10], error[:, :10])


def test_batches_have_two_sizes_only():
    network = StandIn()
    resolver = SuperResolver(network, IDENTITY, BINS)
    for count in (1, 3, 8, 65, 2):
        resolver([prism_spectrum(1)] * count)
    assert set(network.sizes) == {SMALL_BATCH, LARGE_BATCH}


def test_the_picture_shows_lines_zooms_and_what_is_flagged(resolver, tmp_path):
    result = resolver(prism_spectrum(path="a/galaxy_x1d.fits"))
    figure = result.plot(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 20_000
    assert len(figure.axes) == 6 and figure.get_size_inches()[0] == 7.0
    words = " ".join(t.get_text() for t in figure.findobj(Text))
    for word in ("galaxy_x1d.fits", "z = 3.2350", "[O III]", "[N II]", "mass of this mode", "per pixel"):
        assert word in words
    assert len(zoom_windows(result)) == 3
    noise = ERROR * np.random.default_rng(0).standard_normal(len(result.observed))
    blank = draw_enhanced_spectrum(resolver(result.observed.replace(flux=noise)))
    assert len(blank.axes) == 3
    assert "no lines reported: LOW_SN" in blank.get_suptitle()
    empty = draw_enhanced_spectrum(resolver(masked(prism_spectrum(), slice(20, None))))
    assert "no redshift" in empty.get_suptitle()


def test_the_picture_compresses_strong_lines_and_has_the_rest_frame_below(resolver):
    result = resolver(prism_spectrum())
    figure = result.plot()
    main = figure.axes[0]
    low, high = main.get_ylim()
    assert main.get_yscale() == "asinh" and "asinh" in main.get_ylabel()
    figure.draw_without_rendering()
    unit = next(line for line in main.lines if line.get_label().startswith("super")).get_ydata()
    assert np.nanmax(unit) < high  # no line is cut
    middle = main.yaxis.get_transform().transform(np.array([low, np.nanmedian(unit), high]))
    assert (middle[1] - middle[0]) / (middle[2] - middle[0]) > 0.15  # and the continuum is not at the bottom
    (rest,) = (axes for axes in main.child_axes if "Rest" in axes.get_xlabel())
    np.testing.assert_allclose(np.array(rest.get_xlim()) * (1 + REDSHIFT), main.get_xlim())


def test_the_picture_says_in_red_what_is_a_poor_fit(resolver):
    good, poor = resolver(prism_spectrum()), resolver(prism_spectrum(), redshift=2.5)
    assert (good.poor_fit, poor.poor_fit) == (False, True)
    for result, colour in ((good, "black"), (poor, POOR_COLOUR)):
        title = result.plot()._suptitle
        assert title.get_color() == colour and ("poor fit" in title.get_text()) == result.poor_fit


def test_residuals_where_unlisted_lines_may_be_are_named(resolver):
    spectrum = prism_spectrum(noise=0.3)
    at = 0.342685 * (1 + REDSHIFT)  # [Ne V], which the list lacks
    near = np.abs(spectrum.wavelength - at) < 0.01
    result = resolver(spectrum.replace(flux=spectrum.flux + 8 * ERROR * near))
    assert unlisted_lines(resolver(spectrum)) == {}
    assert unlisted_lines(result) == {"[Ne V]": pytest.approx(at, abs=0.011)}
    assert "unlisted lines may be: [Ne V] at 1.4" in result.plot().get_suptitle()


def test_a_result_is_written_in_known_formats_only(resolver, tmp_path):
    with pytest.raises(ValueError, match="format='hdf5' is unknown; expected one of fits, ecsv"):
        resolver(prism_spectrum()).write(tmp_path / "x", format="hdf5")


def test_the_prism_grid_is_taken_as_it_is():
    spectrum = prism_spectrum()
    given = prism_input(spectrum)
    np.testing.assert_array_equal(given.flux, spectrum.flux)
    subset = spectrum.replace(
        wavelength=spectrum.wavelength[50:600],
        flux=spectrum.flux[50:600],
        error=spectrum.error[50:600],
        mask=spectrum.mask[50:600],
        meta=SpectrumMeta(disperser="PRISM"),
    )
    part = prism_input(subset)
    np.testing.assert_array_equal(part.flux[50:600], spectrum.flux[50:600])
    assert part.mask[:50].all() and part.mask[600:].all() and not part.mask[50:600].any()


def test_a_result_file_is_not_taken_for_an_observed_prism_spectrum(resolver, tmp_path):
    resolver(prism_spectrum()).write(tmp_path / "x_sr.fits")
    assert read_spectrum(tmp_path / "x_sr.fits").meta.disperser == "SUPER-RESOLVED"
    with pytest.raises(SpectrumError, match="is a SUPER-RESOLVED spectrum"):
        resolver(tmp_path / "x_sr.fits")


def test_detection_of_float32_fluxes_is_that_of_float64():
    """In erg/s/cm2/A the inverse square of an error is beyond float32."""
    rng = np.random.default_rng(0)
    error = np.full(50, 2e-21, np.float32)
    flux = (1e-20 + 2e-21 * rng.normal(size=50)).astype(np.float32)
    mask = np.arange(50) < 3
    found, expected = detection(flux, error, mask), detection(flux.astype(float), error.astype(float), mask)
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected[0] == pytest.approx(5 * np.sqrt(47), rel=0.1)
