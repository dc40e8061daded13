import numpy as np
import pytest

from kspecsr.results.redshift import BIN_WIDTH, find_modes, summarise_redshift

STEP = 2 / 3000
BINS = np.arange(4150) * STEP


def gaussians(*peaks):
    """P(z) of (redshift, width in ln(1 + z), mass)."""
    total = np.zeros(BINS.size)
    for redshift, width, mass in peaks:
        shape = np.exp(-0.5 * ((BINS - np.log1p(redshift)) / width) ** 2)
        total += mass * shape / shape.sum()
    return total / total.sum()


def test_a_single_mode_has_its_mean_width_and_all_the_mass():
    summary = summarise_redshift(gaussians((3.2, 0.002, 1.0)), BINS, 3.2)
    assert summary.confidence == pytest.approx(1.0)
    assert summary.modes[0].redshift == pytest.approx(3.2, abs=2e-4)
    assert summary.error == pytest.approx(np.hypot(0.002, BIN_WIDTH * STEP) * 4.2, rel=0.03)
    assert len(summary.modes) == 1


def test_modes_are_sorted_by_mass_and_share_all_of_it():
    probability = gaussians((1.1, 0.001, 0.25), (3.2, 0.003, 0.6), (7.0, 0.002, 0.15))
    modes = find_modes(probability, BINS)
    assert [round(m.redshift, 1) for m in modes] == [3.2, 1.1, 7.0]
    assert [m.mass for m in modes] == pytest.approx([0.6, 0.25, 0.15], abs=1e-6)
    assert sum(m.mass for m in modes) == pytest.approx(1.0)


def test_confidence_is_the_mass_of_the_mode_that_the_redshift_lies_in():
    probability = gaussians((1.1, 0.001, 0.3), (3.2, 0.003, 0.7))
    assert summarise_redshift(probability, BINS, 1.1).confidence == pytest.approx(0.3, abs=1e-6)
    assert summarise_redshift(probability, BINS, 3.2).confidence == pytest.approx(0.7, abs=2e-3)


def test_a_noisy_top_is_one_mode():
    rng = np.random.default_rng(3)
    probability = gaussians((3.2, 0.004, 1.0)) * np.exp(0.2 * rng.standard_normal(BINS.size))
    assert find_modes(probability / probability.sum(), BINS)[0].mass == pytest.approx(1.0)


def test_peaks_apart_by_more_than_the_resolution_with_a_deep_valley_are_two():
    modes = find_modes(gaussians((3.2, 0.001, 0.5), (3.25, 0.001, 0.5)), BINS)
    assert len(modes) == 2
    assert [m.mass for m in modes] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_broad_hump_is_one_mode_and_no_confident_redshift():
    summary = summarise_redshift(gaussians((3.2, 0.1, 1.0)), BINS, 3.2)
    assert summary.modes[0].mass == pytest.approx(1.0)
    assert summary.confidence == pytest.approx(0.08, abs=0.01)  # a normal within a tenth of its sigma


def test_a_far_plateau_does_not_shift_the_mean():
    probability = gaussians((3.2, 0.001, 1.0)) + 0.3 / BINS.size
    mode = find_modes(probability / probability.sum(), BINS)[0]
    assert mode.redshift == pytest.approx(3.2, abs=3e-4)
    assert mode.error < 0.01


def test_a_flat_distribution_has_no_confident_mode():
    rng = np.random.default_rng(1)
    probability = np.convolve(rng.random(BINS.size) ** 8, np.ones(9), mode="same")
    probability /= probability.sum()
    redshift = float(np.expm1(BINS[probability.argmax()]))
    assert summarise_redshift(probability, BINS, redshift).confidence < 0.2


def test_quantiles_invert_the_distribution():
    summary = summarise_redshift(gaussians((3.2, 0.004, 1.0)), BINS, 3.2)
    low, median, high = summary.quantile((0.1587, 0.5, 0.8413))
    assert median == pytest.approx(3.2, abs=1e-3)
    assert np.log1p(high) - np.log1p(low) == pytest.approx(2 * np.hypot(0.004, BIN_WIDTH * STEP), rel=0.01)
    assert summary.quantile(0.0) >= 0


def test_quantiles_and_density_are_those_of_the_distribution():
    summary = summarise_redshift(gaussians((1.5, 0.001, 0.4), (3.2, 0.0002, 0.6)), BINS, 3.2)
    shares = [0.05, 0.16, 0.3, 0.5, 0.84, 0.95]
    expected = summary.distribution.quantile(shares)
    assert np.abs(np.log1p(summary.quantile(shares)) - np.log1p(expected)).max() < 0.2 * STEP
    rows = summary.density > 1e-3
    log_prob = np.asarray(summary.tfd.log_prob(summary.grid[rows]))
    np.testing.assert_allclose(np.log(summary.density[rows]), log_prob, atol=2e-3)


def test_the_density_integrates_to_one():
    summary = summarise_redshift(gaussians((1.5, 0.01, 0.5), (8.0, 0.02, 0.5)), BINS, 1.5)
    assert np.trapezoid(summary.density, summary.grid) == pytest.approx(1.0, abs=1e-3)


def test_a_given_redshift_has_no_error_and_says_how_far_the_spectrum_agrees():
    probability = gaussians((1.1, 0.001, 0.3), (3.2, 0.003, 0.7))
    summary = summarise_redshift(probability, BINS, 1.1, given=True)
    assert (summary.value, summary.error, summary.given) == (1.1, 0.0, True)
    assert summary.confidence == pytest.approx(0.3, abs=1e-6)


def test_nothing_known_is_no_mode():
    summary = summarise_redshift(np.full(BINS.size, np.nan), BINS, float("nan"))
    assert (summary.modes, summary.confidence) == ((), 0.0)
    assert np.isnan(summary.value)
