from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.gaussian_fit import fit_gaussians, window_indices
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.configuration import FeedConfig
from kspecsr.evaluation.figures.errors import draw_prior_response
from kspecsr.evaluation.figures.lines import (
    draw_line_ratios,
    draw_line_recovery,
    draw_line_signal_to_noise,
    draw_presence,
)
from kspecsr.evaluation.sources import held_out_of
from kspecsr.evaluation.store import COLUMNS
from kspecsr.evaluation.topics import PRIOR_TOPIC, TOPICS, ratios_to
from kspecsr.feeds.simulated import validation_examples
from kspecsr.measures import (
    broad_components,
    line_ratios,
    line_signal_to_noise,
    prior_response,
)
from kspecsr.measures.held_out import Reconstruction
from kspecsr.measures.line_recovery import absent_lines, area_under_roc
from kspecsr.measures.lines import prism_line_noise, tied_columns
from kspecsr.methods.baseline import CubicInterpolation
from kspecsr.methods.fitted_lines import fitted_lines
from kspecsr.results.prism_input import degraded_to_prism

GRID = UnifiedGrid()
N = 96
RESAMPLES = 8


@pytest.fixture(scope="module")
def examples():
    return validation_examples(N, 5, FeedConfig(population="survey"), GRID)


@pytest.fixture(scope="module")
def galaxies(examples):
    return held_out_of(examples, np.arange(N), GRID)


@pytest.fixture(scope="module")
def columns(galaxies, examples):
    found = {name: getattr(galaxies, name) for name in COLUMNS}
    return found | {"line_detectable": examples["line_detectable"]}


def noisy(galaxies, shrink=1.0, stated=1.0, seed=1):
    """Fluxes with the error that the prism allows, times a factor, errors stated too small by another."""
    error = np.nan_to_num(prism_line_noise(galaxies), nan=1.0)
    flux = galaxies.line_flux + error * np.random.default_rng(seed).normal(size=error.shape)
    return Reconstruction(
        galaxies.target_flux,
        line_flux=shrink * flux,
        line_flux_error=shrink * stated * error,
        line_in_range=galaxies.line_known,
    )


def perfect(galaxies):
    error = np.nan_to_num(prism_line_noise(galaxies), nan=1.0)
    return Reconstruction(
        galaxies.target_flux,
        line_flux=galaxies.line_flux,
        line_flux_error=error,
        line_presence=np.where(galaxies.line_snr > 3, 0.99, 0.01),
        line_in_range=galaxies.line_known,
    )


def interpolated(galaxies):
    spectra = galaxies.prism_flux, galaxies.prism_error, galaxies.prism_mask
    return CubicInterpolation().reconstruct(*spectra, GRID)[0]


def judged(galaxies, columns, made, topic="lines"):
    measured = TOPICS[topic].measure(galaxies, made)
    return TOPICS[topic].summarise(columns, measured, resamples=RESAMPLES)


# ---- Gaussian fit


def gaussian(x, amplitude, centre, sigma, level, slope):
    return level + slope * x + amplitude * np.exp(-0.5 * ((x - centre) / sigma) ** 2)


def test_batched_fit_agrees_with_curve_fit():
    rng = np.random.default_rng(3)
    n, m = 60, 41
    x = np.tile(np.linspace(-20.0, 20.0, m), (n, 1))
    truth = np.column_stack(
        [
            rng.uniform(8, 100, n),
            rng.uniform(-1, 1, n),
            rng.uniform(1, 4, n),
            rng.normal(size=n),
            0.1 * rng.normal(size=n),
        ]
    )
    error = rng.uniform(0.5, 2.0, (n, m))
    flux = np.array([gaussian(row, *p) for row, p in zip(x, truth, strict=True)]) + error * rng.normal(
        size=(n, m)
    )
    good = rng.random((n, m)) > 0.05
    scale = 1e-20  # nothing depends on the unit
    limits = (np.full(n, 0.5), np.full(n, 10.0))
    fits = fit_gaussians(x, flux * scale, good, np.zeros(n), np.full(n, 5.0), limits)
    for i in range(n):
        found, covariance = curve_fit(gaussian, x[i, good[i]], flux[i, good[i]], p0=truth[i])
        assert fits.amplitude[i] / scale == pytest.approx(found[0], rel=1e-3)
        assert fits.amplitude_error[i] / scale == pytest.approx(np.sqrt(covariance[0, 0]), rel=2e-3)
        assert fits.centre[i] == pytest.approx(found[1], abs=1e-3)
        assert fits.sigma[i] == pytest.approx(abs(found[2]), rel=1e-3)


def test_stated_errors_of_the_fit_are_those_of_repeated_noise():
    rng = np.random.default_rng(8)
    n, x = 2000, np.linspace(-20.0, 20.0, 41)
    flux = gaussian(x, 20.0, 0.3, 2.5, 1.0, 0.02) + rng.normal(size=(n, x.size))
    fits = fit_gaussians(
        np.tile(x, (n, 1)),
        flux,
        np.ones(flux.shape, bool),
        np.zeros(n),
        np.full(n, 5.0),
        (np.full(n, 0.5), np.full(n, 10.0)),
    )
    assert np.median(fits.amplitude_error) == pytest.approx(np.std(fits.amplitude), rel=0.08)
    assert np.mean(fits.amplitude) == pytest.approx(20.0, rel=0.01)


def test_too_few_pixels_and_empty_windows_are_not_measured():
    good = np.zeros((2, 41), bool)
    good[1, :5] = True
    fits = fit_gaussians(
        np.tile(np.arange(41.0), (2, 1)),
        np.zeros((2, 41)),
        good,
        np.full(2, 20.0),
        np.ones(2),
        (np.ones(2), np.full(2, 5.0)),
    )
    assert np.isnan(fits.signal_to_noise).all()
    _, inside = window_indices(GRID.wavelength, np.array([np.nan, 0.1, 0.7]), 3)
    assert inside.sum(axis=1).tolist() == [0, 0, 4]


# ---- Fig. 8


def test_a_smooth_invention_has_the_highest_signal_to_noise(galaxies, columns):
    """What Fig. 8 hides: its figure is blind to fluxes that are wrong, recovery sees them."""
    column = list(line_signal_to_noise.LINES).index("[OIII]_5008")
    for factor in (1.0, 0.3):
        made = replace(
            perfect(galaxies), flux=galaxies.target_flux * factor, line_flux=galaxies.line_flux * factor
        )
        measured = line_signal_to_noise.measure(galaxies, made)
        found = TOPICS["signal_to_noise"].summarise(columns, measured, resamples=RESAMPLES)
        assert found["snr_above/[OIII]_5008"].value == 1.0
        assert found["snr_gain/[OIII]_5008"].value > 100
        assert judged(galaxies, columns, made)["recovery"].value == pytest.approx(factor)
    assert np.nanmedian(measured["snr_prism"][:, column]) > 5


def test_interpolated_prism_gains_nothing(galaxies, columns):
    made = Reconstruction(interpolated(galaxies))
    measured = line_signal_to_noise.measure(galaxies, made)
    np.testing.assert_array_equal(measured["snr"], measured["snr_lr"])


def test_noise_lowers_the_signal_to_noise(galaxies):
    sigma = np.nanmedian(np.abs(galaxies.target_flux), axis=1, keepdims=True)
    noise = np.random.default_rng(0).normal(size=galaxies.target_flux.shape)
    quiet, loud = (
        line_signal_to_noise.measure(galaxies, Reconstruction(galaxies.target_flux + f * sigma * noise))[
            "snr"
        ]
        for f in (0.1, 1.0)
    )
    assert np.nanmedian(quiet[:, 2]) > 3 * np.nanmedian(loud[:, 2]) > 0


# ---- recovery and pull


def test_a_perfect_method_is_perfect(galaxies, columns):
    found = judged(galaxies, columns, perfect(galaxies))
    assert found["recovery"].value == pytest.approx(1.0)
    assert found["recovery_scatter"].value == pytest.approx(0.0, abs=1e-6)
    assert found["pull_median"].value == pytest.approx(0.0, abs=1e-4)
    assert found["completeness"].value == 1.0
    assert found["recovery[snr 5-10]"].n > 50


def test_right_errors_have_pulls_of_one_sigma(galaxies, columns):
    found = judged(galaxies, columns, noisy(galaxies))
    assert found["pull_scatter"].value == pytest.approx(1.0, abs=0.06)
    assert found["recovery"].value == pytest.approx(1.0, abs=0.02)
    assert found["recovery_scatter[snr 10-30]"].value == pytest.approx(1 / 16, rel=0.35)
    assert found["recovery"].low <= found["recovery"].value <= found["recovery"].high


def test_shrunk_fluxes_are_seen_by_recovery_and_pull_and_not_by_ratios(galaxies, columns):
    right, shrunk = noisy(galaxies), noisy(galaxies, shrink=0.7)
    found = judged(galaxies, columns, shrunk)
    assert found["recovery"].value == pytest.approx(0.7, abs=0.02)
    assert found["pull_median[snr >30]"].value < -5
    # a common factor leaves scatter, completeness, ratios and detections as they are
    before = judged(galaxies, columns, right)
    assert found["recovery_scatter"].value == pytest.approx(before["recovery_scatter"].value, rel=1e-4)
    assert found["completeness"].value == before["completeness"].value
    ratios = [judged(galaxies, columns, made) for made in (right, shrunk)]
    assert ratios[1]["ratio_scatter"].value == pytest.approx(ratios[0]["ratio_scatter"].value, rel=1e-4)
    false = [judged(galaxies, columns, made) for made in (right, shrunk)]
    assert false[0]["false_3sigma"] == false[1]["false_3sigma"]


@pytest.mark.parametrize("stated", [0.5, 2.0])
def test_errors_off_by_two_are_seen_by_the_pull_alone(galaxies, columns, stated):
    found = judged(galaxies, columns, noisy(galaxies, stated=stated))
    right = judged(galaxies, columns, noisy(galaxies))
    assert found["pull_scatter"].value == pytest.approx(1 / stated, rel=0.07)
    for name in ("recovery", "recovery_scatter"):
        assert found[name] == right[name]
    ratios = {name for name in found if name.startswith(("ratio_", "blended_"))}
    assert len(ratios) > 50
    assert all(found[name].value == right[name].value for name in ratios)


def test_lines_out_of_range_are_lost(galaxies, columns):
    in_range = galaxies.line_known & (np.arange(N) >= N // 2)[:, None]
    found = judged(galaxies, columns, replace(perfect(galaxies), line_in_range=in_range))
    assert 0.3 < found["completeness"].value < 0.7
    assert found["recovery"].value == pytest.approx(1.0)


def test_lines_that_a_method_never_measures_are_not_lost(galaxies, columns):
    flux = np.full(galaxies.line_flux.shape, np.nan)
    flux[:, load_lines().index("Halpha")] = galaxies.line_flux[:, load_lines().index("Halpha")]
    found = judged(galaxies, columns, replace(perfect(galaxies), line_flux=flux))
    assert found["completeness"].value > 0.95


# ---- ratios


def test_a_wrong_ratio_is_seen_by_its_own_figure_and_not_by_the_others(galaxies, columns):
    flux = galaxies.line_flux.copy()
    flux[:, load_lines().index("[NII]_6585")] *= 2.0
    found = judged(galaxies, columns, replace(perfect(galaxies), line_flux=flux))
    assert found["ratio_bias/n2_halpha"].value == pytest.approx(np.log10(2.0), abs=1e-5)
    for name in ("o3_hbeta", "halpha_hbeta", "o3_o2", "s2_s2"):
        assert found[f"ratio_bias/{name}"].value == pytest.approx(0.0, abs=1e-5)
    assert found["ratio_bias[resolved]"].value == pytest.approx(0.0, abs=1e-5)
    recovery = judged(galaxies, columns, replace(perfect(galaxies), line_flux=flux))
    assert recovery["recovery"].value == pytest.approx(1.0)
    assert recovery["recovery/[NII]_6585"].value == pytest.approx(2.0, rel=1e-5)


def test_ratios_without_a_side_are_lost_and_not_forgotten(galaxies, columns):
    flux = galaxies.line_flux.copy()
    flux[: N // 2, load_lines().index("Hbeta")] = 0.0
    found = judged(galaxies, columns, replace(perfect(galaxies), line_flux=flux))
    assert 0.2 < found["ratio_lost/o3_hbeta"].value < 0.8
    assert found["ratio_lost/o3_o2"].value == 0.0


def test_blends_follow_the_prism():
    near = dict(
        zip(line_ratios.RATIOS, line_ratios.closer_than_prism(np.array([1.0, 5.0, np.nan])).T, strict=True)
    )
    assert near["s2_s2"].tolist() == [True, True, False]
    assert near["n2_halpha"].tolist() == [True, True, False]
    assert near["o3_hbeta"].tolist() == [True, False, False]
    assert near["o3_o2"].tolist() == [False, False, False]


def test_blended_error_ratio_compares_the_same_lines(galaxies, columns):
    shape = galaxies.line_flux.shape
    noise = np.nan_to_num(prism_line_noise(galaxies)) * np.random.default_rng(4).normal(size=shape)
    one, two = (
        line_ratios.measure(
            galaxies, replace(perfect(galaxies), line_flux=galaxies.line_flux + factor * noise)
        )
        for factor in (1.0, 2.0)
    )
    found = ratios_to(columns, {"lines": one}, {"lines": two}, RESAMPLES)["blended_error"]
    assert found.value == pytest.approx(0.5, rel=1e-3)
    assert found.n > 300
    blended = judged(galaxies, columns, replace(perfect(galaxies), line_flux=galaxies.line_flux + noise))
    assert blended["blended_error"].value == pytest.approx(1.0, abs=0.1)
    hbeta = line_ratios.BLENDED.index("Hbeta")
    assert np.isnan(one["blended_error"][~(galaxies.redshift < 2), hbeta]).all()


# ---- lines that are not there


def test_invented_lines_are_seen_and_recovery_is_blind_to_them(galaxies, columns):
    honest = perfect(galaxies)
    absent = absent_lines(columns)
    inventing = np.random.default_rng(2).random(absent.shape) < 0.3
    flux = np.where(absent & inventing, 5.0 * honest.line_flux_error, honest.line_flux)
    made = replace(honest, line_flux=flux)
    found = judged(galaxies, columns, made)
    for name in ("false_3sigma", "false_detection", "invented"):
        assert found[name].value == pytest.approx(0.3, abs=0.03)
    assert found["false_presence"].value == 0.0
    assert found["invented[snr 0.2-1]"].value == 0.0
    assert judged(galaxies, columns, honest)["false_detection"].value == 0.0
    recovery = [judged(galaxies, columns, m) for m in (honest, made)]
    for name in ("recovery", "recovery_scatter", "completeness"):
        assert recovery[0][name] == recovery[1][name]
    ratios = [judged(galaxies, columns, m) for m in (honest, made)]
    assert ratios[0]["ratio_scatter"] == ratios[1]["ratio_scatter"]


def test_presence_of_what_is_not_there_is_false_and_not_invented(galaxies, columns):
    made = perfect(galaxies)
    made = replace(made, line_presence=np.full(made.line_flux.shape, 0.9))
    found = judged(galaxies, columns, made)
    assert found["false_presence"].value == 1.0
    assert found["false_detection"].value == 1.0
    assert found["false_3sigma"].value == 0.0
    assert found["invented"].value == 0.0


# ---- presence


def with_presence(galaxies, probability, stated):
    """Lines that are there as often as ``probability`` says, and what a method says of that."""
    truth = np.random.default_rng(6).random(probability.shape) < probability
    made = replace(perfect(galaxies), line_presence=stated)
    columns = {name: getattr(galaxies, name) for name in COLUMNS} | {"line_detectable": truth}
    return judged(galaxies, columns, made)


def test_presence_that_is_right_and_one_that_is_too_sure(galaxies):
    probability = np.random.default_rng(7).random(galaxies.line_flux.shape)
    right = with_presence(galaxies, probability, probability)
    assert right["presence_calibration"].value < 0.03
    assert right["presence_observed[0.7-0.8]"].value == pytest.approx(0.75, abs=0.06)
    assert right["presence_auc"].value == pytest.approx(5 / 6, abs=0.02)  # of p uniform, closed form
    assert right["presence_brier"].value == pytest.approx(1 / 6, abs=0.01)
    sure = with_presence(galaxies, probability, np.sqrt(probability))
    assert sure["presence_calibration"].value > 0.1
    assert sure["presence_bias"].value == pytest.approx(2 / 3 - 1 / 2, abs=0.02)
    # the order of the lines is the same: the ROC curve is blind to it
    assert sure["presence_auc"].value == pytest.approx(right["presence_auc"].value, abs=1e-6)


def test_presence_that_knows_nothing(galaxies):
    probability = np.full(galaxies.line_flux.shape, 0.3)
    found = with_presence(
        galaxies, probability, np.random.default_rng(1).uniform(0.2, 0.4, probability.shape)
    )
    assert found["presence_auc"].value == pytest.approx(0.5, abs=0.03)
    assert abs(found["presence_bias"].value) < 0.03  # the bias is blind to it
    constant = with_presence(galaxies, probability, probability)
    assert constant["presence_auc"].value == pytest.approx(0.5)
    assert constant["presence_calibration"].value < 0.03


def test_roc_is_the_rank_statistic():
    score = np.array([3.0, 2.0, 2.0, 1.0, 0.0])
    truth = np.array([True, True, False, False, True])
    pairs = [np.sign(a - b) / 2 + 0.5 for a in score[truth] for b in score[~truth]]
    assert area_under_roc(score, truth) == pytest.approx(np.mean(pairs))
    assert np.isnan(area_under_roc(score, np.ones(5, bool)))


# ---- prior response


def oracle(galaxies):
    return replace(perfect(galaxies), line_flux=galaxies.line_flux)


def test_the_response_of_an_oracle_is_one_and_of_a_reciter_zero(galaxies, columns):
    reciter = perfect(galaxies)  # says the same whatever it is given
    shrunk = lambda h: replace(perfect(h), line_flux=0.7 * h.line_flux)  # noqa: E731
    found = [
        PRIOR_TOPIC.summarise(
            columns, prior_response.measure(galaxies, make(galaxies), make), resamples=RESAMPLES
        )
        for make in (oracle, lambda h: reciter, shrunk)
    ]
    for name in ("", "/[NII]_6585", "/Hbeta", "[snr 5-10]"):
        assert found[0][f"response{name}"].value == pytest.approx(1.0, abs=1e-4)
        assert found[0][f"followed{name}"].value == pytest.approx(1.0, abs=1e-4)
        assert found[1][f"response{name}"].value == pytest.approx(0.0, abs=1e-6)
        # the exponent is blind to a common factor, the share of the change is not
        assert found[2][f"response{name}"].value == pytest.approx(1.0, abs=1e-4)
        assert found[2][f"followed{name}"].value == pytest.approx(0.7, abs=1e-4)
    assert found[0]["response_lost"].value == 0.0


def test_a_half_reciter_is_half_way(galaxies, columns):
    prior = galaxies.line_flux
    make = lambda h: replace(perfect(h), line_flux=np.sqrt(prior * h.line_flux))  # noqa: E731
    measured = prior_response.measure(galaxies, make(galaxies), make)
    found = PRIOR_TOPIC.summarise(columns, measured, resamples=RESAMPLES)
    assert found["response"].value == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("line", ["Hbeta", "[NII]_6585"])
def test_the_prism_is_given_the_change_of_the_truth_and_nothing_else(galaxies, line):
    changed = prior_response.perturbed(galaxies, line, 2.0)
    prism = load_instrument(PRISM)
    width = np.diff(prism.bounds, axis=0)[0] * 1e4
    added = (changed.prism_flux - galaxies.prism_flux).astype(float)
    truth = (changed.target_flux - galaxies.target_flux).astype(float)
    seen = np.nan_to_num(degraded_to_prism(truth, GRID))
    scale = np.abs(seen).max(axis=1, keepdims=True) + 1e-6
    np.testing.assert_allclose(
        np.where(galaxies.prism_mask, 0, added) / scale,
        np.where(galaxies.prism_mask, 0, seen) / scale,
        atol=1e-2,
    )
    flux = (changed.line_flux - galaxies.line_flux).sum(axis=1)
    whole = (flux > 0) & (galaxies.prism_mask.mean(axis=1) < 0.1) & (np.abs(galaxies.redshift - 3.5) < 2)
    whole &= ~(galaxies.prism_mask & (np.abs(seen) > 1e-3 * scale)).any(axis=1)
    assert whole.sum() > 10
    np.testing.assert_allclose((added * width).sum(axis=1)[whole], flux[whole], rtol=0.02)
    others = np.ones(len(load_lines()), bool)
    others[tied_columns(line)] = False
    np.testing.assert_array_equal(changed.line_flux[:, others], galaxies.line_flux[:, others])
    for name in ("prism_error", "prism_mask", "target_continuum", "redshift"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(galaxies, name))


def test_the_profile_of_an_isolated_line_is_that_of_the_truth(galaxies):
    column = load_lines().index("Hbeta")
    profile = prior_response.line_profile(galaxies, column)
    gone = galaxies.target_flux - profile * galaxies.line_flux[:, [column]] - galaxies.target_continuum
    centre = load_lines().wavelength[column] * (1 + galaxies.redshift)
    index, inside = window_indices(GRID.wavelength, centre, 8)
    rows = inside.all(axis=1) & galaxies.line_known[:, column] & (galaxies.line_snr[:, column] > 3)
    left = np.abs(np.take_along_axis(gone, index, 1)).max(axis=1)
    peak = (profile * galaxies.line_flux[:, [column]]).max(axis=1)
    assert np.median(left[rows] / peak[rows]) < 0.02


def test_a_factor_that_is_not_positive_is_refused(galaxies):
    with pytest.raises(ValueError, match=r"factor on Hbeta: expected a positive number, got 0"):
        prior_response.perturbed(galaxies, "Hbeta", 0)
    with pytest.raises(KeyError, match="unknown line"):
        prior_response.perturbed(galaxies, "Hbta", 2.0)


# ---- lines of methods that give none


def test_lines_fitted_to_the_truth_are_the_truth(galaxies, columns):
    made = fitted_lines(Reconstruction(galaxies.target_flux), galaxies)
    found = judged(galaxies, columns, made)
    for name in ("recovery", "recovery/Halpha", "recovery/[OIII]_5008", "recovery/[OII]_3730"):
        assert found[name].value == pytest.approx(1.0, abs=0.03)
    assert found["recovery/Hbeta"].value == pytest.approx(1.0, abs=0.06)  # the stars absorb some
    assert found["recovery_scatter"].value < 0.05
    given = perfect(galaxies)
    assert fitted_lines(given, galaxies) is given


def test_lines_fitted_to_the_interpolated_prism_have_right_errors(galaxies, columns):
    cubic = Reconstruction(interpolated(galaxies))
    found = judged(galaxies, columns, fitted_lines(cubic, galaxies))
    assert found["recovery/[OIII]_5008"].value == pytest.approx(1.0, abs=0.06)
    assert found["pull_scatter[snr <1]"].value == pytest.approx(1.0, abs=0.25)


# ---- sums and ratios, broad components


def correlated(galaxies, columns):
    """Pairs of neighbouring lines share a flux that each lacks: their sums are known ten times better."""
    error = 0.05 * np.maximum(galaxies.line_flux, 1e-3)
    names = (("[OII]_3727", "[OII]_3730"), ("[SII]_6718", "[SII]_6733"))
    correlation = np.tile(np.eye(error.shape[1]), (len(galaxies), 1, 1))
    noise = np.random.default_rng(2).normal(size=error.shape)
    for first, second in (map(load_lines().index, pair) for pair in names):
        error[:, first] = error[:, second] = error[:, [first, second]].mean(axis=1)
        correlation[:, first, second] = correlation[:, second, first] = -0.99
        noise[:, second] = -0.99 * noise[:, first] + np.sqrt(1 - 0.99**2) * noise[:, second]
    return Reconstruction(
        galaxies.target_flux,
        line_flux=galaxies.line_flux + error * noise,
        line_flux_error=error,
        line_in_range=galaxies.line_known,
        line_correlation=correlation,
    )


def test_pulls_of_sums_and_ratios_have_unit_width_with_their_correlations_alone(galaxies, columns):
    made = correlated(galaxies, columns)
    right = judged(galaxies, columns, made)
    for name in ("pull_width/lines", "pull_width/sums", "pull_width/sums/[OII]", "pull_width/ratios"):
        assert right[name].value == pytest.approx(1.0, abs=0.25), name
    for kind in ("lines", "sums", "ratios"):
        assert right[f"pull_95/{kind}"].value == pytest.approx(0.95, abs=0.03)
    alone = replace(made, line_correlation=np.tile(np.eye(made.line_flux.shape[1]), (N, 1, 1)))
    assert judged(galaxies, columns, alone)["pull_width/sums/[OII]"].value < 0.2
    unknown = judged(galaxies, columns, replace(made, line_correlation=None))
    assert "pull_width/sums" not in unknown
    assert unknown["pull_width/lines"].value == right["pull_width/lines"].value


def test_broad_components_are_judged_by_flux_width_and_probability(galaxies, columns):
    has = np.arange(N) % 2 == 0
    k = load_lines().index("Halpha")
    broad = np.zeros_like(galaxies.line_flux)
    broad[has, k] = 0.8 * galaxies.line_flux[has, k]
    truth = {"broad_flux": broad, "broad_fwhm": np.where(has, 3000.0, 0.0)}
    made = Reconstruction(
        galaxies.target_flux,
        broad_probability=np.where(has, 0.8, 0.4),
        broad_fwhm=np.full(N, 3300.0),
        broad_fwhm_error=np.full(N, 300.0),
        line_broad_flux=0.9 * broad,
        line_broad_flux_error=0.1 * broad,
    )
    found = judged(replace(galaxies, **truth), columns | truth, made, "broad")
    assert found["broad_recovery"].value == pytest.approx(0.9, rel=1e-5)
    assert found["broad_fwhm_ratio"].value == pytest.approx(1.1, rel=1e-5)
    assert found["broad_scatter"].value == pytest.approx(0.0, abs=1e-5)
    assert found["broad_found"].value == 1.0
    assert found["broad_true[0.7-0.95]"].value == 1.0 and found["broad_true[0.3-0.7]"].value == 0.0
    assert found["broad_gap"].value == pytest.approx(0.3, abs=0.01)
    # a line of 3,000 km/s is wider than the prism's: the same flux has more noise
    snr = broad_components.broad_signal_to_noise(columns | truth)
    seen = snr[:, k] > 0
    assert seen.sum() > 10 and (snr[seen, k] < 0.8 * galaxies.line_snr[seen, k]).all()
    assert 0 < found["broad_recovery"].n == (snr > 10).sum() < seen.sum()
    assert judged(galaxies, columns, made, "broad") == {}  # nothing is known of them


def test_lines_beside_brighter_ones_are_apart_from_those_that_stand_alone(galaxies, columns):
    blended = prior_response.near_brighter(columns)
    known = galaxies.line_known[:, [load_lines().index(name) for name in ("[NII]_6585", "Halpha")]].all(
        axis=1
    )
    fainter = galaxies.line_flux[:, load_lines().index("[NII]_6585")]
    fainter = fainter < galaxies.line_flux[:, load_lines().index("Halpha")]
    assert blended[known & fainter][:, :2].mean() > 0.9  # within 900 km/s
    far = galaxies.redshift > 4  # 2 % from [O III], where R is 100
    near = galaxies.redshift < 2
    assert not blended[far][:, 2:].any() and blended[near][:, 2:].mean() > 0.5


# ---- what must not break


def blank(galaxies, made, rows=slice(0, 1)):
    part = galaxies.rows(rows)
    nothing = np.zeros_like(part.prism_mask)
    return replace(
        part,
        prism_mask=~nothing,
        prism_flux=np.zeros_like(part.prism_flux),
        prism_error=np.ones_like(part.prism_error),
        redshift=np.full(len(part), np.nan),
        line_known=np.zeros_like(part.line_known),
        line_snr=np.zeros_like(part.line_snr),
        line_flux=np.zeros_like(part.line_flux),
    ), replace(made.rows(rows), flux=np.full((len(part), GRID.size), np.nan))


@pytest.mark.parametrize("topic", ["lines", "signal_to_noise", "broad"])
@pytest.mark.parametrize("case", ["one", "blank", "no lines", "nothing known but a spectrum"])
def test_odd_input_is_not_measured_and_does_not_warn(galaxies, topic, case):
    part, made = galaxies.rows(slice(0, 1)), perfect(galaxies).rows(slice(0, 1))
    if case == "blank":
        part, made = blank(galaxies, perfect(galaxies))
        made = fitted_lines(replace(made, line_flux=None), part)
    elif case != "one":
        made = Reconstruction(made.flux)
    if case == "nothing known but a spectrum":
        part = replace(part, line_known=np.zeros_like(part.line_known), redshift=np.array([np.nan]))
        made = fitted_lines(made, part)
    measured = TOPICS[topic].measure(part, made)
    assert all(array.shape[0] == 1 and array.dtype == np.float32 for array in measured.values())
    columns = {name: getattr(part, name) for name in COLUMNS}
    found = TOPICS[topic].summarise(columns, measured, resamples=2)
    assert all(np.isfinite(value.value) or value.n for value in found.values())
    if case == "blank":
        assert not found


def test_prior_response_of_nothing(galaxies):
    part, made = blank(galaxies, perfect(galaxies), slice(0, 2))
    measured = prior_response.measure(part, made, lambda h: made)
    assert not PRIOR_TOPIC.summarise({n: getattr(part, n) for n in COLUMNS}, measured)


def test_chunks_are_the_whole(galaxies):
    whole = line_signal_to_noise.measure(galaxies, perfect(galaxies))
    for name, array in line_signal_to_noise.measure(galaxies.rows([7]), perfect(galaxies.rows([7]))).items():
        np.testing.assert_allclose(array[0], whole[name][7], rtol=1e-3)


def test_figures_are_drawn_of_all_methods_and_of_none(galaxies, columns):
    made = {"sr2": perfect(galaxies), "direct_fit": noisy(galaxies)}
    made["cubic"] = fitted_lines(Reconstruction(galaxies.target_flux), galaxies)
    measured = {
        topic: {name: TOPICS[topic].measure(galaxies, one) for name, one in made.items()}
        for topic in ("lines", "signal_to_noise")
    }
    figure = draw_line_signal_to_noise(measured["signal_to_noise"])
    assert [axes.get_title() for axes in figure.axes[:4]] == ["[O II] 3728", "Hβ", "[O III] 5008", "Hα"]
    for draw in (draw_line_recovery, draw_line_ratios, draw_presence):
        assert draw(columns, measured["lines"]).axes
        assert draw(columns, {}).axes
    response = prior_response.measure(galaxies, oracle(galaxies), oracle)
    assert draw_prior_response(columns, {"sr2": response}).axes
    assert draw_prior_response(columns, {}).axes
    assert draw_line_signal_to_noise({}).axes
