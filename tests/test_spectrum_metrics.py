from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.gaussian_fit import fit_gaussians
from data_pipeline.lines.profile import render_lines
from data_pipeline.pictures.style import save_picture
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.noise import typical_prism_error
from kspecsr.evaluation.figures.examples import (
    Example,
    choose_examples,
    draw_examples,
    held_out_example,
    zoom_windows,
)
from kspecsr.evaluation.figures.spectra import draw_error_bars, draw_power_spectrum, draw_residual_noise
from kspecsr.evaluation.topics import TOPICS, ratios_to
from kspecsr.measures.estimate import Estimate, median_of_rows
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.residuals import (
    band_power,
    frequencies,
    grating_noise_of_tiers,
    residual_curve,
)
from kspecsr.measures.spectrum import (
    ERROR_CORE,
    REGIONS,
    SHAPE_CORE,
    compare,
    high_pass,
    line_places,
    pixel_regions,
)
from kspecsr.measures.spectrum_shape import KEPT, PAIRS, measure, relative_error, structure_slope
from kspecsr.results.prism_input import degraded_to_prism

GRID = UnifiedGrid()
LINES = load_lines()
# relative to Hbeta; [O II] stands for lines that only the grating could resolve, and does not
FLUX = {
    "Hgamma": 0.47,
    "Hbeta": 1.0,
    "[OIII]_4960": 1.6,
    "[OIII]_5008": 4.8,
    "Halpha": 2.9,
    "[NII]_6550": 0.3,
    "[NII]_6585": 0.9,
    "[SII]_6718": 0.5,
    "[SII]_6733": 0.45,
    "[SIII]_9533": 0.8,
}
REDSHIFTS = np.array([1.2, 1.7, 2.3, 2.9, 3.3, 1.5])
NOISE = 0.02
COLUMNS = ("galaxy", "redshift", "continuum_snr", "line_flux", "line_error", "line_known", "line_snr")
OIII = PAIRS.index(("[OIII]_4960", "[OIII]_5008"))
NII = PAIRS.index(("Halpha", "[NII]_6585"))


def galaxies(redshift=REDSHIFTS):
    """Continuum of slope -1 and bright lines, at the reference's resolution and free of noise."""
    redshift = np.asarray(redshift, float)
    shape = (redshift.size, len(LINES))
    flux, observed = np.zeros(shape), LINES.wavelength * (1.0 + redshift[:, None])
    for name, value in FLUX.items():
        flux[:, LINES.index(name)] = 40.0 * value
    known = (observed > GRID.start) & (observed < GRID.stop)
    flux = np.where(known, flux, 0.0)
    row, line = np.nonzero(flux)
    velocity = np.full(row.size, 50.0)
    lines = render_lines(
        reference_instrument(GRID), observed[row, line], flux[row, line], velocity, row=row, rows=shape[0]
    )
    continuum = np.broadcast_to(0.2 / GRID.wavelength, lines.shape)
    target = lines + continuum
    prism = np.nan_to_num(np.stack([degraded_to_prism(spectrum, GRID) for spectrum in target]))
    return HeldOut(
        grid=GRID,
        galaxy=np.arange(shape[0]),
        prism_flux=prism,
        prism_error=np.full(prism.shape, NOISE),
        prism_mask=np.zeros(prism.shape, bool),
        target_flux=target,
        target_error=np.zeros(target.shape),
        target_mask=np.zeros(target.shape, bool),
        target_continuum=continuum,
        continuum_known=np.ones(shape[0], bool),
        line_flux=flux,
        line_error=np.zeros(shape),
        line_known=known,
        line_snr=flux,  # Hbeta of S/N 40, the weakest of 12
        redshift=redshift,
        continuum_snr=np.full(shape[0], 4.0),
    )


@pytest.fixture(scope="module")
def held_out():
    return galaxies()


@pytest.fixture(scope="module")
def lines_alone(held_out):
    return held_out.target_flux - held_out.target_continuum


def medians(held_out, flux):
    """The figures of a method that makes these spectra, unsplit."""
    measured = measure(held_out, Reconstruction(flux=flux))
    columns = {name: getattr(held_out, name) for name in COLUMNS}
    found = summarise(columns, measured, resamples=5)
    return {name: estimate.value for name, estimate in found.items() if "[" not in name}


def summarise(columns, measured, **options):
    """All figures of spectra, of all parts."""
    return TOPICS["spectrum"].summarise(columns, measured, **options)


def blurred(spectra, pixels):
    return gaussian_filter1d(spectra, pixels, axis=1, mode="nearest")


def merged(held_out, pair):
    """Truth with the valley of a pair of lines filled up to the lower peak."""
    flux = held_out.target_flux.copy()
    for row, z in enumerate(held_out.redshift):
        at = [np.log(LINES.wavelength[LINES.index(n)] * (1 + z) / GRID.start) * GRID.sampling for n in pair]
        near = [round(place) + np.arange(-1, 2) for place in at]
        peak = [window[np.argmax(flux[row, window])] for window in near]
        between = slice(peak[0], peak[1] + 1)
        flux[row, between] = np.maximum(flux[row, between], min(flux[row, peak]))
    return flux


def test_a_perfect_reconstruction_has_the_best_value_of_everything(held_out):
    found = medians(held_out, held_out.target_flux)
    for name in ("scale_free/core", "scale_free/continuum", "lines_lost", "residual_over_noise"):
        assert found[name] == pytest.approx(0.0, abs=1e-6)
    for name in ("amplitude_ratio", "fwhm_ratio", "line_area_ratio", "pairs_kept", "power_ratio/low"):
        assert found[name] == pytest.approx(1.0, abs=1e-5)
    assert found["pairs_kept/oiii_unresolved_by_prism"] == 1.0
    assert found["residual_power/low"] == found["residual_over_noise/core"] == 0.0


def test_a_wrong_scale_is_seen_by_amplitude_and_not_by_shape(held_out):
    found = medians(held_out, 3.0 * held_out.target_flux)
    assert found["amplitude_ratio"] == pytest.approx(3.0, rel=1e-5)
    assert found["line_area_ratio"] == pytest.approx(3.0, rel=1e-5)
    assert found["scale/core"] == found["scale/continuum"] == pytest.approx(1 / 3, rel=1e-5)
    assert found["power_ratio/high"] == pytest.approx(9.0, rel=1e-5)
    # blind:
    assert found["scale_free/core"] == pytest.approx(0.0, abs=1e-6)
    assert found["scale_free/continuum"] == pytest.approx(0.0, abs=1e-6)
    assert found["fwhm_ratio"] == pytest.approx(1.0, rel=1e-4)
    assert found["pairs_kept"] == 1.0


def test_shrunk_lines_are_seen_by_amplitude_and_flux_alone(held_out, lines_alone):
    found = medians(held_out, held_out.target_continuum + 0.6 * lines_alone)
    assert found["amplitude_ratio"] == pytest.approx(0.6, abs=0.005)
    assert found["line_area_ratio"] == pytest.approx(0.6, abs=0.005)
    assert found["power_ratio/low"] == pytest.approx(0.36, abs=0.01)
    assert found["residual_over_noise/core"] > 0
    # blind:
    assert found["fwhm_ratio"] == pytest.approx(1.0, rel=1e-3)
    assert found["pairs_kept"] == 1.0
    assert found["scale_free/core"] < 0.1
    assert found["scale_free/continuum"] < 0.02
    assert found["residual_over_noise"] == pytest.approx(0.0, abs=1e-3)  # few bins hold a line


def test_a_blur_is_seen_by_width_and_not_by_flux(held_out):
    found = medians(held_out, blurred(held_out.target_flux, 1.2))
    places = line_places(GRID, held_out.redshift, held_out.line_known)
    isolated = [LINES.index(name) for name in ("Hbeta", "[OIII]_5008", "[SIII]_9533")]
    sigma = np.median(places.fwhm[:, isolated]) / 2.355
    assert found["fwhm_ratio"] == pytest.approx(np.hypot(1.0, 1.2 / sigma), rel=0.06)
    assert found["scale_free/core"] > 0.2
    assert found["amplitude_ratio"] < 0.95
    assert found["power_ratio/high"] < 0.6
    # blind:
    assert found["line_area_ratio"] == pytest.approx(1.0, abs=0.01)
    assert found["lines_lost"] == 0.0
    assert found["pairs_kept/oiii"] == 1.0
    assert found["scale_free/continuum"] < 0.02


def test_a_merged_pair_is_seen_by_survival_alone(held_out):
    measured = measure(held_out, Reconstruction(flux=merged(held_out, ("Halpha", "[NII]_6585"))))
    resolved = np.isfinite(measured["pair_dip"][:, NII])
    assert resolved.sum() >= 3
    assert (measured["pair_dip"][resolved, NII] < KEPT).all()
    others = np.delete(measured["pair_dip"], NII, axis=1)
    assert (others[np.isfinite(others)] > KEPT).all()
    # blind:
    assert np.nanmedian(measured["amplitude_ratio"]) == pytest.approx(1.0, abs=0.01)
    assert np.nanmedian(measured["line_width_ratio"]) == pytest.approx(1.0, abs=0.01)
    assert np.nanmedian(measured["line_area_ratio"]) == pytest.approx(1.0, abs=0.01)
    assert np.nanmedian(measured["scale_free_core"]) < 0.3
    assert np.nanmedian(measured["residual_over_noise"][:, 0]) == 0.0


def test_a_spectrum_without_lines_is_as_bad_as_it_can_be_in_cores(held_out):
    found = medians(held_out, held_out.target_continuum)
    assert found["scale_free/core"] == pytest.approx(1.0, abs=1e-6)
    assert found["amplitude_ratio"] == pytest.approx(0.0, abs=1e-3)
    assert found["lines_lost"] == 1.0 and found["line_area_ratio"] == 0.0
    assert found["pairs_kept"] == 0.0
    assert "fwhm_ratio" not in found
    # blind:
    assert found["scale_free/continuum"] < 0.01
    assert found["residual_over_noise"] == pytest.approx(0.0, abs=1e-3)


def test_invented_lines_are_seen_in_the_continuum_and_not_in_cores(held_out):
    rest = np.array([0.53, 0.57, 0.61, 0.74, 0.80, 0.86])  # um, where the truth has no line
    observed = rest * (1.0 + held_out.redshift[:, None])
    row = np.repeat(np.arange(len(held_out)), rest.size)
    count = row.size
    fake = render_lines(
        reference_instrument(GRID), observed.ravel(), np.full(count, 60.0), np.full(count, 50.0), row=row
    )
    found = medians(held_out, held_out.target_flux + fake)
    assert found["scale_free/continuum"] > 0.9
    # blind:
    assert found["scale_free/core"] < 0.01
    assert found["amplitude_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert found["fwhm_ratio"] == pytest.approx(1.0, abs=0.01)
    assert found["pairs_kept"] == 1.0


def test_errors_that_are_off_by_two_change_nothing_here(held_out):
    flux = blurred(held_out.target_flux, 0.8)
    one = measure(held_out, Reconstruction(flux=flux, error=np.full(flux.shape, 0.1)))
    two = measure(held_out, Reconstruction(flux=flux, error=np.full(flux.shape, 0.2)))
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])


def test_the_interpolated_prism_keeps_flux_and_loses_shape(held_out):
    wavelength = load_instrument(PRISM).wavelength
    found = medians(held_out, CubicSpline(wavelength, held_out.prism_flux, axis=1)(GRID.wavelength))
    assert found["scale_free/core"] > 0.7
    assert found["amplitude_ratio"] < 0.25
    assert found["fwhm_ratio"] > 3.0
    assert found["pairs_kept/unresolved_by_prism"] == 0.0
    assert found["power_ratio/high"] < 0.01


def test_white_noise_has_its_own_size_against_the_references_noise_and_in_power(held_out):
    rng = np.random.default_rng(1)
    sigma = 0.3
    noisy = held_out.target_flux + sigma * rng.normal(size=held_out.target_flux.shape)
    comparison = compare(held_out, Reconstruction(flux=noisy))
    measured = measure(held_out, Reconstruction(flux=noisy))
    scale = comparison.scale[:, None]
    assert scale[:, 0] == pytest.approx(np.median(np.abs(held_out.prism_flux), axis=1))
    assert np.sqrt(np.mean((measured["residual_rms"] * scale) ** 2)) == pytest.approx(sigma, rel=0.02)
    expected = (sigma / scale) ** 2 * (1 - 1 / 101)
    level = measured["power_residual"][:, 5:].mean(axis=1, keepdims=True)
    assert level == pytest.approx(expected, rel=0.05)
    ratio = measured["residual_rms"] / measured["residual_noise"]
    assert measured["residual_over_noise"][:, 0] == pytest.approx(np.median(ratio, axis=1), rel=1e-5)


def test_the_residual_curve_is_the_scatter_over_galaxies_and_deaf_to_outliers():
    residual = 0.3 * np.random.default_rng(5).normal(size=(2000, 304)) + 0.1
    residual[:100] = 50.0
    residual[100:200] = np.nan
    noise = np.full((2000, 203), 0.4)
    curve = residual_curve(GRID, residual.astype(np.float16), noise)
    assert curve.sigma == pytest.approx(0.3, rel=0.2)
    assert np.median(curve.sigma) == pytest.approx(0.3 * 1.07, rel=0.02)  # 5 % of outliers widen a MAD by 7 %
    assert curve.noise == pytest.approx(0.4)
    assert curve.wavelength[0] == pytest.approx(GRID.wavelength[9:11].mean(), rel=1e-4)


def test_noise_of_the_target_is_taken_off(held_out):
    rng = np.random.default_rng(2)
    error = np.full(held_out.target_flux.shape, 0.2)
    noisy = held_out.target_flux + error * rng.normal(size=error.shape)
    zeros = np.zeros_like(noisy)
    gratings = replace(
        held_out,
        target_flux=noisy,
        target_error=error,
        target_continuum=zeros,
        continuum_known=np.zeros(len(held_out), bool),
    )
    perfect = Reconstruction(flux=held_out.target_flux)
    found = measure(gratings, perfect)
    assert np.nanmedian(found["scale_free_core"]) < 0.05
    assert np.nanmedian(measure(replace(gratings, target_error=zeros), perfect)["scale_free_core"]) > 0.05
    assert np.nanmedian(found["scale_free_continuum"]) < 0.5  # the noise is three times the variation
    assert np.nanmedian(found["amplitude_ratio"]) == pytest.approx(1.0, abs=0.03)
    assert np.nanmedian(found["line_width_ratio"]) == pytest.approx(1.0, abs=0.03)
    assert np.nanmedian(found["residual_over_noise"][:, 0]) == pytest.approx(1.0, abs=0.03)
    assert np.nanmedian(found["residual_over_noise_core"]) == pytest.approx(1.0, abs=0.1)
    flat = measure(gratings, Reconstruction(flux=held_out.target_continuum))
    assert np.nanmedian(flat["scale_free_core"]) == pytest.approx(1.0, abs=0.03)


def test_galaxies_are_measured_one_by_one_as_they_are_together(held_out):
    flux = blurred(held_out.target_flux, 1.0)
    together = measure(held_out, Reconstruction(flux=flux))
    for row in (0, 3):
        alone = measure(held_out.rows([row]), Reconstruction(flux=flux[[row]]))
        for name, values in alone.items():
            assert values.shape[0] == 1 and values.dtype in (np.float32, np.float16)
            np.testing.assert_allclose(values[0], together[name][row], rtol=2e-3, atol=1e-6, err_msg=name)


def test_gaps_and_galaxies_without_anything_are_coped_with(held_out):
    flux = held_out.target_flux.copy()
    target_mask, prism_mask = held_out.target_mask.copy(), held_out.prism_mask.copy()
    flux[0, 2000:2600] = np.nan
    target_mask[1, :1500] = True
    target_mask[2], prism_mask[3] = True, True
    flux[5] = np.nan
    redshift = held_out.redshift.copy()
    redshift[4] = np.nan
    holed = replace(
        held_out,
        target_mask=target_mask,
        prism_mask=prism_mask,
        redshift=redshift,
        continuum_known=np.arange(6) < 1,
    )
    found = measure(holed, Reconstruction(flux=flux))
    assert found["scale_free_core"][:2] == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(found["scale_free_core"][[2, 4, 5]]).all()
    assert np.isnan(found["residual_rms"][[2, 3, 5]]).all()
    assert np.isnan(found["residual_rms"][0]).sum() == 19  # bins of 30 pixels within the gap
    assert np.isnan(found["line_width_ratio"][[2, 4, 5]]).all() and np.isnan(found["pair_dip"][[4]]).all()
    assert np.isnan(found["power_truth"][[2, 3, 5]]).all() and np.isfinite(found["power_truth"][[0, 1]]).all()
    nothing = holed.rows([2])
    columns = {name: getattr(nothing, name) for name in COLUMNS}
    assert summarise(columns, measure(nothing, Reconstruction(flux=flux[[2]]))) == {}


def test_figures_are_split_and_carry_their_number(held_out):
    columns = {name: getattr(held_out, name) for name in COLUMNS}
    measured = measure(held_out, Reconstruction(flux=held_out.target_flux))
    found = summarise(columns, measured)
    assert found["scale_free/core"].n == found["scale_free/core"].galaxies == 6
    assert found["scale_free/core[z 0-2]"].n == 3 and found["scale_free/core[z 2-4]"].n == 3
    assert "scale_free/core[z >6]" not in found
    lines = np.isfinite(measured["line_width_ratio"])
    assert found["fwhm_ratio"].n == lines.sum() > found["fwhm_ratio"].galaxies
    parts = sum(estimate.n for name, estimate in found.items() if name.startswith("fwhm_ratio[wave"))
    assert parts == lines.sum()


def test_ratio_to_a_baseline_is_that_of_the_medians_of_common_galaxies():
    nan = np.nan
    method, baseline = np.array([1, 2, 3, nan, 9.0]), np.array([2, 4, 8, 1.0, nan])
    columns = {"galaxy": np.arange(5)}
    found = ratios_to(
        columns,
        {"spectrum": {"scale_free_core": method, "scale_free_continuum": 0.5 * baseline}},
        {"spectrum": {"scale_free_core": baseline, "scale_free_continuum": baseline}},
    )
    assert found["scale_free/core"].value == pytest.approx(0.5)
    assert found["scale_free/core"].n == 3
    assert found["scale_free/core"].low <= 0.5 <= found["scale_free/core"].high
    assert found["scale_free/continuum"].value == pytest.approx(0.5)
    nothing = {"spectrum": {"scale_free_core": np.full(5, nan), "scale_free_continuum": np.full(5, nan)}}
    assert ratios_to(columns, nothing, nothing) == {}


def test_fits_recover_gaussians_on_a_slope():
    rng = np.random.default_rng(0)
    count, offset = 200, np.broadcast_to(np.arange(-20.0, 21.0), (200, 41))
    height, centre = rng.uniform(0.5, 50.0, count), rng.uniform(-1.5, 1.5, count)
    sigma = rng.uniform(0.9, 7.0, count)
    values = height[:, None] * np.exp(-0.5 * ((offset - centre[:, None]) / sigma[:, None]) ** 2)
    values += rng.normal(size=(count, 1)) + 0.02 * rng.normal(size=(count, 1)) * offset
    used = np.ones(values.shape, bool)
    used[:, 3] = False
    values[:, 3] = 1e6
    same = np.ones(count)
    fits = fit_gaussians(
        offset, np.where(used, values, 0.0), used, 0.0 * same, 4.0 * same, (0.4 * same, 10.0 * same)
    )
    assert fits.sigma == pytest.approx(sigma, rel=2e-3)
    assert fits.centre == pytest.approx(centre, abs=5e-3)
    assert fits.area == pytest.approx(height * sigma * np.sqrt(2 * np.pi), rel=5e-3)


def test_lines_lie_where_they_are_expected():
    known = np.zeros((2, len(LINES)), bool)
    line = LINES.index("Halpha")
    known[:, line] = True
    places = line_places(GRID, np.array([2.0, np.nan]), known)
    wavelength = LINES.wavelength[line] * 3.0
    assert np.interp(places.pixel[0, line], np.arange(GRID.size), GRID.wavelength) == pytest.approx(
        wavelength
    )
    power = reference_instrument(GRID).resolving_power(wavelength)
    assert places.fwhm[0, line] == pytest.approx(3000 * np.hypot(1 / power, 100 / 299792.458))
    core = places.within(known, 1.5)
    assert abs(core[0].sum() - 3 * places.fwhm[0, line]) <= 1 and not core[1].any()
    assert abs(np.flatnonzero(core[0]).mean() - places.pixel[0, line]) <= 0.5


def test_cores_of_shapes_are_wider_and_of_fewer_lines_than_those_of_errors(held_out):
    """On purpose: a blur shows in the flanks, errors are judged where the line outshines the continuum."""
    faint = replace(held_out, line_snr=held_out.line_snr / 16.0)  # Hbeta of S/N 2.5, Halpha of 7
    shapes, errors = (pixel_regions(faint, core) for core in (SHAPE_CORE, ERROR_CORE))
    core, continuum = REGIONS.index("core"), REGIONS.index("continuum")
    comparison = compare(faint, Reconstruction(flux=faint.target_flux))
    np.testing.assert_array_equal(comparison.core, shapes == core)
    np.testing.assert_array_equal(comparison.continuum, errors == continuum)
    np.testing.assert_array_equal(shapes == continuum, errors == continuum)
    places = line_places(GRID, faint.redshift, faint.line_known)
    for name, snr, reach, region in (
        ("Halpha", 7.2, 1.5, shapes),
        ("Halpha", 7.2, 1.0, errors),
        ("[OIII]_4960", 4.0, 0.0, shapes),
        ("[OIII]_4960", 4.0, 1.0, errors),
    ):
        line = LINES.index(name)
        assert faint.line_snr[0, line] == pytest.approx(snr, rel=0.01)
        near = np.abs(np.arange(GRID.size) - places.pixel[0, line]) <= 1.6 * places.fwhm[0, line]
        width = np.count_nonzero(near & (region[0] == core))
        assert width == pytest.approx(2 * reach * places.fwhm[0, line], abs=1.01)


def test_a_galaxy_without_a_redshift_has_no_continuum(held_out):
    unknown = replace(held_out, redshift=np.full(len(held_out), np.nan))
    assert not compare(unknown, Reconstruction(flux=unknown.target_flux)).continuum.any()


def test_the_relative_error_is_free_of_scale_and_of_gaps_or_is_not():
    rng = np.random.default_rng(0)
    truth = 3.0 + rng.normal(size=(4, 500))
    chosen = rng.random(truth.shape) < 0.8
    flat = np.ones_like(truth)
    holed = np.where(chosen, 4.0 * truth, np.nan)
    error, scale = relative_error(holed, truth, chosen, flat)
    assert error == pytest.approx(0.0, abs=1e-6) and scale == pytest.approx(0.25)
    # a constant is the error of who draws no structure, whatever its height; a dip for a peak is no better
    assert relative_error(7.0 * flat, truth, chosen, flat)[0] == pytest.approx(1.0)
    assert (relative_error(-truth, truth, chosen, flat)[0] > 1.0).all()
    tied, one = relative_error(1.5 * truth, truth, chosen, flat, free_scale=False)
    expected = [
        np.sqrt(np.mean((0.5 * t[c]) ** 2) / np.mean((1.0 - t[c]) ** 2))
        for t, c in zip(truth, chosen, strict=True)
    ]
    assert tied == pytest.approx(expected) and (one == 1.0).all()
    assert np.isnan(relative_error(truth, truth, np.zeros_like(chosen), flat)[0]).all()


def test_the_slope_is_that_of_least_absolute_deviations():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(3, 101))
    output = 0.7 * truth + 0.1 * rng.normal(size=truth.shape)
    output[0, :10] = 50.0  # invented
    chosen = np.ones(truth.shape, bool)
    chosen[2, 4:] = False
    slope = structure_slope(output, truth, chosen, fewest=5)
    grid = np.linspace(0.3, 1.1, 8001)
    for row in (0, 1):
        best = grid[np.abs(output[row] - grid[:, None] * truth[row]).sum(axis=1).argmin()]
        assert slope[row] == pytest.approx(best, abs=2e-4)
    assert np.isnan(slope[2])


def test_the_high_pass_part_knows_no_constant_and_keeps_what_is_sharp():
    good = np.ones((1, 3000), bool)
    good[0, 500:800] = False
    values = np.where(good, 7.0, 0.0)
    assert high_pass(values, good) == pytest.approx(0.0, abs=1e-12)
    wave = np.sin(2 * np.pi * np.arange(3000) / 8.0)[None]
    kept = high_pass(wave, np.ones((1, 3000), bool))[0, 200:-200]
    passed = np.sin(101 * np.pi / 8.0) / (101 * np.sin(np.pi / 8.0))  # by the running mean
    assert kept.std() == pytest.approx((1 - passed) * np.sqrt(0.5), rel=2e-3)


def test_power_lies_at_its_frequency(held_out):
    sine = np.broadcast_to(np.sin(np.pi * 0.4 * np.arange(GRID.size)), held_out.target_flux.shape)
    measured = measure(held_out, Reconstruction(flux=held_out.target_flux + sine))
    place = np.argmax(measured["power_residual"], axis=1)
    assert np.abs(frequencies()[place] - 0.4).max() <= 0.01
    low, high = (band_power(measured["power_residual"], band) for band in ("low", "high"))
    assert (high > 20 * low).all()
    with pytest.raises(ValueError, match="expected 'low' or 'high', got 'middle'"):
        band_power(measured["power_residual"], "middle")


def test_medians_of_rows_are_those_of_numpy():
    values = np.random.default_rng(3).normal(size=(4, 9))
    chosen = np.random.default_rng(4).random((4, 9)) < 0.6
    chosen[2] = False
    expected = [np.median(v[c]) if c.any() else np.nan for v, c in zip(values, chosen, strict=True)]
    np.testing.assert_allclose(median_of_rows(values, chosen), expected)


def test_the_references_noise_is_that_of_the_tier_whose_prism_is_as_deep(held_out):
    noise = grating_noise_of_tiers(GRID)
    assert np.abs(np.diff(np.log(noise), axis=1)).max() < 0.1
    tiers = np.arange(len(noise))
    usual = typical_prism_error(tiers, 2.5) * 1e20
    deepest, shallowest = int(usual.argmin()), int(usual.argmax())
    assert (noise[shallowest] > 1.5 * noise[deepest]).all()
    for tier in (deepest, shallowest):
        same = np.isclose(usual, usual[tier], rtol=1e-6)
        one = replace(held_out, prism_error=np.full(held_out.prism_error.shape, 1.02 * usual[tier]))
        made = Reconstruction(flux=one.target_flux)
        found = measure(one, made)["residual_noise"] * compare(one, made).scale[:, None]
        candidates = noise[same][:, 15::30]
        width = candidates.shape[1]
        assert min(np.abs(found[0, :width] / row - 1).max() for row in candidates) < 1e-5


def test_examples_are_best_median_and_worst():
    error = np.array([0.5, np.nan, 0.1, 0.9, 0.3, 0.4], np.float32)
    assert choose_examples({"scale_free_core": error}) == {"best": 2, "median": 5, "worst": 3}
    assert choose_examples({"scale_free_core": error[:1]}) == {"best": 0}
    assert choose_examples({"scale_free_core": error[1:2]}) == {}
    with pytest.raises(ValueError, match="expected one galaxy or more"):
        draw_examples([], "SR2")


def test_examples_are_drawn_with_their_brightest_lines(held_out, tmp_path):
    one = held_out.rows([2])
    wavelength = one.grid.wavelength
    windows = zoom_windows(2.3, one.line_flux[0], wavelength)
    for name in ("[OIII]_5008", "Halpha"):
        observed = LINES.wavelength[LINES.index(name)] * 3.3
        assert any(low < observed < high for low, high in windows)
    assert zoom_windows(np.nan, one.line_flux[0], wavelength) == []
    flux = one.target_flux.copy()
    flux[0, :50] = np.nan
    made = Reconstruction(flux=flux, error=np.full(flux.shape, 0.1))
    bare = Reconstruction(flux=flux)
    examples = [held_out_example("best", one, made, 0.1), held_out_example("worst", one, bare, 0.3)]
    figure = draw_examples(examples, "SR2")
    assert len(figure.axes) == 6
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "best: z = 2.3000, scale-free error 0.10" in texts
    assert save_picture(figure, tmp_path / "examples.png").stat().st_size > 10_000


def flat_example(redshift, bright=1e-19):
    """A flat spectrum whose truth has one bright pixel at Halpha, which the output missed."""
    wavelength = np.linspace(0.7, 5.3, 2000)
    truth = np.full(2000, 1e-21)
    truth[np.argmin(np.abs(wavelength - 0.6565 * (1 + redshift)))] = bright
    spectrum = (wavelength, np.full(2000, 1e-21), np.full(2000, 1e-22), np.zeros(2000, bool))
    fluxes = np.array(
        [{"Halpha": 2.0, "[OIII]_5008": 1.0, "Hbeta": 0.5}.get(name, 0.0) for name in LINES.names]
    )
    windows = zoom_windows(redshift, fluxes, wavelength)
    return Example("gal_7: true z", redshift, spectrum, spectrum, truth, windows)


def test_an_example_shows_the_whole_range_and_windows_on_lines_in_range():
    figure = draw_examples([flat_example(2.0)], "super-resolved")
    whole, left, right = figure.axes
    assert "gal_7: true z" in [text.get_text() for text in whole.texts]
    assert whole.get_xlim() == pytest.approx((0.7, 5.3))
    assert np.mean(left.get_xlim()) == pytest.approx(0.50082 * 3, abs=1e-3)
    assert np.mean(right.get_xlim()) == pytest.approx(0.65646 * 3, abs=1e-3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "prism",
        "truth",
        "super-resolved ± 1 σ",
    ]
    none = draw_examples([flat_example(11.0)], "super-resolved").axes
    assert none[0].axison and not none[1].axison and not none[2].axison


def test_a_bright_true_line_is_whole_when_magnified_though_the_output_missed_it():
    whole, _, halpha = draw_examples([flat_example(2.0, bright=5e-19)], "super-resolved").axes
    line = next(line for line in halpha.lines if line.get_label() == "truth")
    assert halpha.get_ylim()[1] > np.nanmax(line.get_ydata())
    # in the whole range it may leave the panel, and a triangle says where
    (up,) = [line for line in whole.lines if line.get_marker() == "^"]
    assert up.get_xdata() == pytest.approx([0.6565 * 3], abs=3e-3)


def test_pictures_of_errors_residuals_and_power_are_drawn(held_out, tmp_path):
    columns = {name: getattr(held_out, name) for name in COLUMNS}
    spectra = {"cubic": held_out.target_continuum, "sr2": blurred(held_out.target_flux, 1.0)}
    spectra["sr2"][0] = np.nan
    measured = {name: measure(held_out, Reconstruction(flux=flux)) for name, flux in spectra.items()}
    summaries = {name: summarise(columns, one, resamples=5) for name, one in measured.items()}
    summaries["wiener"] = {"scale_free/core": Estimate(np.nan, np.nan, np.nan, 0, 0)}
    redshift = held_out.redshift.copy()
    redshift[1] = np.nan
    errors = draw_error_bars(summaries)
    assert [tick.get_text() for tick in errors.axes[0].get_yticklabels()] == [
        "cubic interpolation",
        "SR2",
        "Wiener",
    ]
    residuals = draw_residual_noise(redshift, measured)
    assert residuals.axes[0].collections[0].get_array().shape[0] == 5
    power = draw_power_spectrum(measured)
    assert any(np.allclose(line.get_xdata(), 0.3) for line in power.axes[0].lines)
    for name, figure in (("errors", errors), ("residuals", residuals), ("power", power)):
        assert save_picture(figure, tmp_path / f"{name}.png").stat().st_size > 10_000
