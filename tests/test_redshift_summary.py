import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import find_peaks

from kspecsr.results.redshift import (
    BIN_WIDTH,
    CLOSE,
    LOCAL,
    NEAR,
    RedshiftSummary,
    find_modes,
    redshift_cdf,
    summarise_redshift,
)

STEP = 2 / 3000
BINS = np.arange(4150) * STEP


def gaussians(*peaks):
    """P(z) of (redshift, width in ln(1 + z), mass)."""
    total = np.zeros(BINS.size)
    for redshift, width, mass in peaks:
        shape = np.exp(-0.5 * ((BINS - np.log1p(redshift)) / width) ** 2)
        total += mass * shape / shape.sum()
    return total / total.sum()


def summary_of(probability, redshift, given=False):
    redshifts = np.array([redshift], float)
    found = summarise_redshift(probability[None], BINS, redshifts, np.array([given]))
    error, confidence, normalised = (values[0] for values in found)
    return RedshiftSummary(redshift, error, confidence, given, BINS, normalised)


def test_a_single_mode_has_its_mean_width_and_all_the_mass():
    summary = summary_of(gaussians((3.2, 0.002, 1.0)), 3.2)
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
    assert summary_of(probability, 1.1).confidence == pytest.approx(0.3, abs=1e-6)
    assert summary_of(probability, 3.2).confidence == pytest.approx(0.7, abs=2e-3)


def test_a_noisy_top_is_one_mode():
    rng = np.random.default_rng(3)
    probability = gaussians((3.2, 0.004, 1.0)) * np.exp(0.2 * rng.standard_normal(BINS.size))
    assert find_modes(probability / probability.sum(), BINS)[0].mass == pytest.approx(1.0)


def test_peaks_apart_by_more_than_the_resolution_with_a_deep_valley_are_two():
    modes = find_modes(gaussians((3.2, 0.001, 0.5), (3.25, 0.001, 0.5)), BINS)
    assert len(modes) == 2
    assert [m.mass for m in modes] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_broad_hump_is_one_mode_and_no_confident_redshift():
    summary = summary_of(gaussians((3.2, 0.1, 1.0)), 3.2)
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
    assert summary_of(probability, redshift).confidence < 0.2


def test_quantiles_invert_the_distribution():
    summary = summary_of(gaussians((3.2, 0.004, 1.0)), 3.2)
    low, median, high = summary.quantile((0.1587, 0.5, 0.8413))
    assert median == pytest.approx(3.2, abs=1e-3)
    assert np.log1p(high) - np.log1p(low) == pytest.approx(2 * np.hypot(0.004, BIN_WIDTH * STEP), rel=0.01)
    assert summary.quantile(0.0) >= 0


def test_quantiles_and_density_are_those_of_the_distribution():
    summary = summary_of(gaussians((1.5, 0.001, 0.4), (3.2, 0.0002, 0.6)), 3.2)
    shares = [0.05, 0.16, 0.3, 0.5, 0.84, 0.95]
    place = np.log1p(summary.quantile(shares))
    np.testing.assert_array_equal(summary.distribution.quantile(shares), np.expm1(place))
    mixture = summary.distribution.log_tfd  # of TensorFlow Probability
    assert np.all(mixture.cdf(place - 0.2 * STEP) < shares) and np.all(
        mixture.cdf(place + 0.2 * STEP) > shares
    )
    rows = summary.density > 1e-3
    log_prob = np.asarray(summary.tfd.log_prob(summary.grid[rows]))
    np.testing.assert_allclose(np.log(summary.density[rows]), log_prob, atol=2e-3)


def test_the_density_integrates_to_one():
    summary = summary_of(gaussians((1.5, 0.01, 0.5), (8.0, 0.02, 0.5)), 1.5)
    assert np.trapezoid(summary.density, summary.grid) == pytest.approx(1.0, abs=1e-3)


def test_a_given_redshift_has_no_error_and_says_how_far_the_spectrum_agrees():
    probability = gaussians((1.1, 0.001, 0.3), (3.2, 0.003, 0.7))
    summary = summary_of(probability, 1.1, given=True)
    assert (summary.value, summary.error, summary.given) == (1.1, 0.0, True)
    assert summary.confidence == pytest.approx(0.3, abs=1e-6)


def test_nothing_known_is_no_mode():
    summary = summary_of(np.full(BINS.size, np.nan), float("nan"))
    assert (summary.modes, summary.confidence) == ((), 0.0)
    assert np.isnan(summary.value)


def by_hand(probability, bins, redshift):
    """Confidence and error of one redshift, peak after peak."""
    if not probability.any() or not redshift >= 0:
        return 0.0, np.nan
    step = bins[1] - bins[0]
    peaks = find_peaks(np.concatenate([[0.0], probability, [0.0]]), plateau_size=1)[1]["left_edges"] - 1
    peaks = [peak for peak in peaks if probability[peak] >= 1e-3 * probability.max()]
    tops, starts = [peaks[0]], [0]
    for peak in peaks[1:]:
        valley = tops[-1] + np.argmin(probability[tops[-1] : peak])
        lower = min(probability[tops[-1]], probability[peak])
        if peak - tops[-1] > round(CLOSE / step) and probability[valley] < 0.5 * lower:
            tops, starts = [*tops, peak], [*starts, valley]
        elif probability[peak] > probability[tops[-1]]:
            tops[-1] = peak
    place = np.log1p(redshift)
    mode = np.searchsorted(bins[starts] - 0.5 * step, place, side="right") - 1
    if place > bins[-1] + 0.5 * step:
        return 0.0, np.nan
    rows = slice(starts[mode], [*starts, bins.size][mode + 1])
    confidence = probability[rows][np.abs(bins[rows] - place) <= NEAR].sum()
    first = last = tops[mode]
    while first > rows.start and probability[first - 1] >= LOCAL * probability[tops[mode]]:
        first -= 1
    while last + 1 < rows.stop and probability[last + 1] >= LOCAL * probability[tops[mode]]:
        last += 1
    part = probability[first : last + 1] / probability[first : last + 1].sum()
    mean = (part * bins[first : last + 1]).sum()
    variance = (part * (bins[first : last + 1] - mean) ** 2).sum() + (BIN_WIDTH * step) ** 2
    return confidence, np.exp(mean) * np.sqrt(variance)


@pytest.mark.parametrize("library", ["numpy", "a graph"])
def test_confidence_and_error_for_peaks_of_all_kinds(library):
    rng = np.random.default_rng(3)
    bins = np.arange(2000) / 1530  # 0.01 is no whole number of bins, which rounding would decide on
    centre = rng.uniform(bins[0], bins[-1], (60, 8, 1))
    width = 10 ** rng.uniform(-3.5, -1, (60, 8, 1))
    height = 10 ** rng.uniform(-4, 0, (60, 8, 1))
    probability = (height * np.exp(-0.5 * ((bins - centre) / width) ** 2)).sum(1) + 1e-12
    probability[:20] *= rng.random((20, bins.size))  # hundreds of peaks
    probability[20] = 0.0
    probability[21] = 1.0
    total = probability.sum(1, keepdims=True)
    probability = np.where(total > 0, probability / np.maximum(total, 1e-300), 0.0)
    redshift = np.expm1(rng.uniform(0, bins[-1] * 1.02, 60))
    redshift[::2] = np.expm1(bins[probability.argmax(1)])[::2]
    redshift[22], redshift[23] = np.nan, 0.0
    arguments = (probability, bins, redshift, np.arange(60) == 30)
    if library == "numpy":
        error, confidence, normalised = summarise_redshift(*arguments)
    else:
        constants = tf.constant(probability), bins, tf.constant(redshift), tf.constant(arguments[3])
        traced = tf.function(lambda: summarise_redshift(*constants, keras.ops), autograph=False)
        error, confidence, normalised = (values.numpy() for values in traced())
    expected = np.array([by_hand(p, bins, z) for p, z in zip(probability, redshift, strict=True)])
    np.testing.assert_allclose(confidence, expected[:, 0], rtol=1e-9, atol=1e-12)
    expected[30, 1] = 0.0  # given
    np.testing.assert_allclose(error, expected[:, 1], rtol=1e-9)
    np.testing.assert_allclose(normalised.sum(axis=1), total[:, 0] > 0, rtol=1e-12)
    assert np.isnan(error).any() and np.max(confidence) > 0.5


def test_the_cumulative_distribution_is_the_integral_of_the_density():
    summary = summary_of(gaussians((1.5, 0.003, 0.4), (3.2, 0.002, 0.6)), 3.2)
    rows = np.flatnonzero((summary.grid > 1.3) & (summary.grid < 3.3))[::50]
    cdf = redshift_cdf(np.tile(summary.probability, (rows.size, 1)), BINS, summary.grid[rows])
    integral = [np.trapezoid(summary.density[: row + 1], summary.grid[: row + 1]) for row in rows]
    np.testing.assert_allclose(cdf, integral, atol=2e-3)
