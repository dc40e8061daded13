"""Closed forms of calibration, against numerical integration and against the single-row bootstrap."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from kspecsr.measures.calibration import (
    LEVELS,
    PIT_BINS,
    central_coverage,
    expected_crps,
    gaussian_crps,
    gaussian_pit,
    inside_levels,
    ks_distance,
    normal_distance,
    pit_bin,
)
from kspecsr.measures.estimate import bootstrap, estimates_of_sums
from kspecsr.measures.splits import LINE_SNR, bin_of, labels


@pytest.mark.parametrize(("truth", "mean", "sigma"), [(0.3, 0.0, 1.0), (-7.0, 2.0, 0.5), (4.0, 4.0, 3.0)])
def test_crps_is_the_integral_that_defines_it(truth, mean, sigma):
    x = np.linspace(min(truth, mean - 12 * sigma), max(truth, mean + 12 * sigma), 400_001)
    below = norm.cdf(x, mean, sigma)
    squares = (below - (x >= truth)) ** 2
    assert gaussian_crps(truth, mean, sigma) == pytest.approx(np.trapezoid(squares, x), rel=1e-4)


def test_crps_of_right_errors_is_the_expected_one_and_its_least():
    truth = np.random.default_rng(1).normal(2.0, 3.0, 200_000)
    scores = {sigma: gaussian_crps(truth, 2.0, sigma).mean() for sigma in (1.5, 3.0, 6.0)}
    assert scores[3.0] == pytest.approx(expected_crps(3.0), rel=5e-3)
    assert min(scores, key=scores.get) == 3.0
    # far out it is the distance itself
    assert gaussian_crps(1e6, 0.0, 1.0) == pytest.approx(1e6 - 1.0 / np.sqrt(np.pi), rel=1e-9)


def test_mean_distance_of_a_normal_distribution():
    drawn = np.random.default_rng(2).normal(0.7, 1.3, 400_000)
    assert normal_distance(0.7, 1.3) == pytest.approx(np.abs(drawn).mean(), rel=5e-3)


def test_pit_histogram_gives_coverage_and_ks_distance():
    rng = np.random.default_rng(3)
    pit = gaussian_pit(rng.normal(0.0, 2.0, 100_000), 0.0, 1.0)
    counts = np.bincount(pit_bin(pit), minlength=PIT_BINS)
    nominal, found = central_coverage(counts)
    inside = inside_levels(pit).mean(axis=0)
    for level, share in zip(LEVELS, inside, strict=True):
        assert share == pytest.approx(2.0 * norm.cdf(norm.ppf(0.5 + level / 2) / 2.0) - 1.0, abs=0.01)
        if round(level * PIT_BINS / 2) == pytest.approx(level * PIT_BINS / 2):
            assert found[np.argmin(np.abs(nominal - level))] == pytest.approx(share, abs=1e-9)
    assert ks_distance(counts) == pytest.approx(kstest(pit, "uniform").statistic, abs=0.02)
    assert pit_bin(np.array([0.0, 1.0])).tolist() == [0, PIT_BINS - 1]
    assert np.isnan(ks_distance(np.zeros(PIT_BINS)))


def test_resampled_sums_agree_with_the_bootstrap_of_rows():
    rng = np.random.default_rng(4)
    galaxy = np.repeat(np.arange(60), 3)
    rows = np.column_stack([rng.random(180), np.ones(180)])
    mean = {"mean": lambda sums: sums[..., 0] / sums[..., 1]}
    found = estimates_of_sums(galaxy, rows, mean, resamples=2000)["mean"]
    expected = bootstrap(np.mean, galaxy, rows[:, 0], resamples=2000)
    assert (found.value, found.n, found.galaxies) == (pytest.approx(expected.value), 180, 60)
    assert found.low == pytest.approx(expected.low, abs=3e-3)
    assert found.high == pytest.approx(expected.high, abs=3e-3)
    assert estimates_of_sums(galaxy, 0 * rows, mean) == {}
    alone = estimates_of_sums(galaxy[:3], rows[:3], mean)["mean"]
    assert np.isnan([alone.low, alone.high]).all()


def test_bins_of_splits_hold_their_lower_edge_and_leave_out_nan():
    assert labels("snr", LINE_SNR, open_start=True)[:2] == ("snr <1", "snr 1-3")
    assert labels("snr", LINE_SNR)[-1] == "snr >30"
    given = [-2.0, 0.0, 1.0, 29.9, 1e9, np.nan]
    assert bin_of(given, LINE_SNR, open_start=True).tolist() == [0, 0, 1, 4, 5, -1]
    assert bin_of(given, LINE_SNR)[0] == -1
