"""Noise of the simulator: correlation, level, quoted errors, bad pixels."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import (
    bad_grating_pixels,
    bad_prism_pixels,
    detector_pixels,
    draw_conditions,
    gap_width,
    grating_error,
    grating_line_error,
    grating_noise,
    outliers,
    prism_error,
    prism_noise,
)
from data_pipeline.simulation.nuisances import Nuisances
from data_pipeline.tables import read_table


def autocorrelation(noise, lags):
    return [np.mean(noise[:, lag:] * noise[:, :-lag]) / np.mean(noise**2) for lag in lags]


@pytest.fixture(scope="module")
def noise():
    draws = Draws(3, np.arange(300))
    return prism_noise(draws.normal("noise", detector_pixels(706)), draws.uniform("phase"), 706)


def test_prism_noise_has_the_measured_autocorrelation(noise):
    assert autocorrelation(noise, (1, 2)) == pytest.approx([0.62, 0.13], abs=0.02)
    residual = noise - median_filter(noise, (1, 11))
    measured = autocorrelation(residual, (1, 2, 3, 4, 5))
    assert measured == pytest.approx([0.50, -0.16, -0.34, -0.33, -0.21], abs=0.03)
    # What the archive's pixels scatter by, in units of the quoted error: 0.58 / 0.80.
    assert residual.std() == pytest.approx(0.725, abs=0.03)


def test_interpolation_lowers_the_variance_to_two_thirds(noise):
    assert noise.var() == pytest.approx(2 / 3, rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5])
def test_grating_noise_has_unit_variance_and_the_asked_correlation(correlation):
    noise = grating_noise(np.random.default_rng(2).standard_normal((50, 4001)), correlation)
    assert noise.var() == pytest.approx(1.0, abs=0.02)
    assert autocorrelation(noise, (1, 2)) == pytest.approx([correlation, 0.0], abs=0.01)


def test_prism_error_level_is_that_of_the_table():
    table = read_table("jades_prism_noise.ecsv")
    level = prism_error(table["wavelength_um"], np.array([-1.0, 0.0, 1.0]))
    expected = np.stack([table["p16"], table["p50"], table["p84"]]) * 1e-21
    np.testing.assert_allclose(level, expected, rtol=1e-9)


def test_deep_tiers_are_deeper_and_every_tier_has_every_wavelength():
    wavelength = np.linspace(0.7, 5.4, 50)
    error = grating_line_error(np.arange(7), np.tile(wavelength, (7, 1)))
    assert np.isfinite(error).all()
    deep, medium = error[2], error[5]  # goods-s-deephst, goods-s-mediumjwst
    assert np.all(deep < medium)
    at_2_5 = grating_line_error(np.array([5]), np.array([[2.5]]))[0, 0]
    assert at_2_5 == pytest.approx(6.78e-20, rel=0.15, abs=0)


def test_grating_pixel_errors_follow_from_line_errors():
    instrument = load_instrument("nirspec-g395m")
    error = grating_error(np.array([5]), instrument.wavelength, instrument.bounds, 5.27)[0]
    width = (instrument.bounds[1] - instrument.bounds[0]) * 1e4
    line = grating_line_error(np.array([5]), instrument.wavelength[None])[0]
    inside = instrument.wavelength < 5.27
    # The facts' rule is error_px = line error / (width x sqrt(3)), to which a fitted line adds its own share.
    ratio = (line / (width * np.sqrt(3)) / error)[inside]
    assert ratio.min() > 0.9
    assert ratio.max() < 1.4


def test_bad_pixels_lie_at_edges_and_some_lack_only_the_error():
    nuisances = Nuisances(bad_pixel_fraction=0.02)
    no_flux, no_error = bad_prism_pixels(nuisances, Draws(1, np.arange(500)), 706)
    assert not (no_flux & ~no_error).any()
    assert (no_error & ~no_flux).any()
    left = np.argmin(no_flux[:, :20], axis=1)
    assert np.isin(left, range(2, 9)).all()
    assert left.min() == 2
    assert no_error[:, 10:-10].mean() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("arm", GRATINGS)
def test_detector_gap_has_its_width(arm):
    nuisances = Nuisances(bad_pixel_fraction=0.0)
    draws = Draws(1, np.arange(40))
    wavelength = load_instrument(arm).wavelength
    start = np.full(40, wavelength[0] + 0.5)
    mask = bad_grating_pixels(nuisances, draws, arm, wavelength, start)
    step = np.median(np.diff(wavelength))
    assert mask.sum(axis=1) * step == pytest.approx(np.full(40, gap_width(arm)), abs=1.1 * step)
    assert not bad_grating_pixels(nuisances, draws, arm, wavelength, np.full(40, np.nan)).any()


def test_outliers_are_as_rare_as_asked_and_beyond_five_sigma():
    found = outliers(Nuisances(outlier_fraction=0.01), Draws(1, np.arange(100)), "x", 1000)
    hit = found != 0
    assert hit.mean() == pytest.approx(0.01, rel=0.15)
    assert np.abs(found[hit]).min() >= 5.0
    assert not outliers(Nuisances(outlier_fraction=0.0), Draws(1, np.arange(9)), "x", 500).any()


def test_conditions_have_the_asked_medians_and_scatters():
    n = 4000
    conditions = draw_conditions(Nuisances(), Draws(2, np.arange(n)), np.zeros(n), np.zeros(n, bool))
    assert np.median(conditions.resolution_scale) == pytest.approx(1.22, rel=0.005)
    assert np.log(conditions.arm_scale).std() == pytest.approx(0.07, rel=0.05)
    assert conditions.zero_point_shift.std() == pytest.approx(0.1, rel=0.05)
    wavelength = load_instrument(PRISM).wavelength
    ratio = conditions.prism_over_grating(wavelength)
    assert np.median(ratio) == pytest.approx(1.13, rel=0.02)
    assert np.abs(np.diff(np.log(ratio), axis=1)).max() < 5e-3  # smooth in wavelength
    assert conditions.taken.mean() == pytest.approx(0.95, abs=0.01)


def test_ultradeep_misses_the_grating_that_its_programme_did_not_take():
    n = 50
    conditions = draw_conditions(Nuisances(), Draws(2, np.arange(n)), np.zeros(n), np.ones(n, bool))
    assert not conditions.taken[:, GRATINGS.index("nirspec-g235m")].any()
    everything = Nuisances(missing_grating_fraction=0.0)
    assert draw_conditions(everything, Draws(2, np.arange(n)), np.zeros(n), np.ones(n, bool)).taken.all()
