"""Sums, ratios and samples of line fluxes with correlated errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gammaincinv, ndtr
from scipy.stats import gamma, kstest

from data_pipeline.lines import load_lines
from kspecsr.results.joint_lines import Estimate, JointLines, draw_fluxes, gamma_quantiles
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.ratios import RATIOS, SUMS, ratio_table

LINES = load_lines()
HALPHA, NII, OIII = (LINES.index(name) for name in ("Halpha", "[NII]_6585", "[OIII]_5008"))


def lines(correlation=None):
    """Halpha at S/N 25, [N II] at 1.5, [O III] at 50; nothing else is reported."""
    flux = np.full(len(LINES), np.nan)
    error = flux.copy()
    flux[[HALPHA, NII, OIII]] = 50.0, 3.0, 100.0
    error[[HALPHA, NII, OIII]] = 2.0
    known = np.isfinite(flux)
    rest = [np.full(len(LINES), np.nan)] * 3
    return LineMeasurements(
        flux,
        error,
        *rest,
        presence=known * 1.0,
        in_range=known,
        prior_weight=rest[0],
        correlation=correlation,
    )


def correlated(value):
    matrix = np.full((len(LINES), len(LINES)), np.nan)
    seen = [HALPHA, NII, OIII]
    matrix[np.ix_(seen, seen)] = np.eye(3)
    matrix[HALPHA, NII] = matrix[NII, HALPHA] = value
    return matrix


def half_width(estimate: Estimate) -> float:
    return 0.5 * (estimate.high - estimate.low)


def test_blended_lines_that_take_from_each_other_have_a_better_sum_than_parts():
    blend = JointLines.of(lines(correlated(-0.9)))
    alone = JointLines.of(lines())
    assert blend.correlated and not alone.correlated
    expected = 2.0 * np.sqrt(2.0 - 2.0 * 0.9)
    assert half_width(blend.flux_of("Halpha", "[NII]_6585")) == pytest.approx(expected, rel=0.1)
    assert half_width(alone.flux_of("Halpha", "[NII]_6585")) == pytest.approx(2.0 * 2**0.5, rel=0.1)
    assert blend.flux_of("Halpha", "[NII]_6585").value == pytest.approx(53.0, rel=0.01)
    # and a worse ratio
    ratios = [half_width(j.ratio("[NII]_6585", "Halpha")) for j in (blend, alone)]
    assert ratios[0] > 1.02 * ratios[1]
    assert np.array_equal(np.isnan(alone.covariance), np.isnan(blend.covariance) | np.isnan(alone.covariance))


def test_a_ratio_of_bright_lines_has_the_error_of_propagation():
    found = JointLines.of(lines()).ratio("[OIII]_5008", "Halpha")
    assert found.value == pytest.approx(2.0, rel=0.01)
    assert half_width(found) == pytest.approx(2.0 * np.hypot(2.0 / 50.0, 2.0 / 100.0), rel=0.05)
    assert found.lower < found.low < found.value < found.high < found.upper


def test_samples_are_the_same_for_a_seed_and_none_is_negative():
    joint = JointLines.of(lines(correlated(-0.5)))
    first, again, other = (joint.samples(500, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again, equal_nan=True) and not np.array_equal(first, other, equal_nan=True)
    assert np.nanmin(first) >= 0.0
    assert np.isfinite(first).sum() == 3 * 500  # the lines that are reported
    assert np.corrcoef(first[:, HALPHA], first[:, NII])[0, 1] == pytest.approx(-0.5, abs=0.1)
    with pytest.raises(ValueError, match="expected one or more, got n=0"):
        joint.samples(0)


@pytest.mark.parametrize("signal", [0.5, 2.0, 15.0, 60.0])
def test_each_flux_has_the_mean_and_the_error_that_are_stated(signal):
    """The fainter a gamma distribution of that mean and error, by the test of Kolmogorov and Smirnov."""
    normal = np.random.default_rng(3).normal(size=(20_000, 2))
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    drawn = draw_fluxes(np.array([2.2 * signal, signal]), covariance, normal)
    assert drawn[:, 0].mean() == pytest.approx(2.2 * signal, abs=0.05)
    assert drawn[:, 0].std() == pytest.approx(2.0, rel=0.05)
    assert kstest(drawn[:, 1], gamma(signal**2, scale=1.0 / signal).cdf).pvalue > 1e-4
    far = draw_fluxes(np.array([200.0, 100.0]), covariance, normal)
    assert kstest(far[:, 1] - 100.0, ndtr).pvalue > 1e-4


def test_tied_lines_stay_tied_in_every_sample():
    flux, error = np.array([2.98, 1.0]), np.array([2.98, 1.0]) * 0.7
    drawn = draw_fluxes(flux, np.outer(error, error), np.random.default_rng(4).normal(size=(50, 2)))
    assert drawn[:, 0] == pytest.approx(2.98 * drawn[:, 1], abs=1e-3)


def test_a_sum_that_is_known_stays_known_though_a_part_of_it_is_faint():
    """Halpha and [N II] at S/N 50 and 1.5, whose sum has a twentieth of their error."""
    error, rho = 2.0, -1.0 + 0.5 * 0.05**2
    covariance = error**2 * np.array([[1.0, rho], [rho, 1.0]])
    drawn = draw_fluxes(np.array([100.0, 3.0]), covariance, np.random.default_rng(5).normal(size=(20_000, 2)))
    total = drawn.sum(axis=1)
    assert total.mean() == pytest.approx(103.0, abs=0.01)
    assert total.std() == pytest.approx(0.05 * error, rel=0.05)
    assert drawn[:, 1].min() >= 0.0 and drawn[:, 1].mean() == pytest.approx(3.0, abs=0.05)


def test_names_are_checked():
    joint = JointLines.of(lines())
    with pytest.raises(KeyError, match="unknown line 'Ha'; known lines: Lya"):
        joint.ratio("Ha", "Hbeta")
    with pytest.raises(ValueError, match="got none; such as 'Halpha'"):
        joint.flux_of()
    assert np.isnan(joint.flux_of("Hbeta").value)  # not reported
    assert replace(joint, correlated=True).flux_of("Halpha") == joint.flux_of("Halpha")


def test_the_table_of_ratios_tells_limits_from_measurements():
    joint = JointLines.of(lines(correlated(-0.9)))
    weight = np.full(len(LINES), 0.5)
    table = ratio_table(joint, weight)
    assert list(table["NAME"]) == [*RATIOS, "E(B-V)", *SUMS]
    rows = {str(row["NAME"]): row for row in table}
    assert rows["[NII]/Halpha"]["KIND"] == "upper"  # [N II] has an S/N of 1.5
    assert rows["[OIII]/Hbeta"]["KIND"] == "none" and np.isnan(rows["[OIII]/Hbeta"]["P50"])
    expected = joint.ratio("[NII]_6585", "Halpha")
    assert rows["[NII]/Halpha"]["P50"] == pytest.approx(expected.value, rel=0.05)
    # half of the precision of every line is the prior's: of a ratio the same where errors are independent
    alone = {str(row["NAME"]): row for row in ratio_table(JointLines.of(lines()), weight)}
    assert alone["[NII]/Halpha"]["PRIOR_WEIGHT"] == pytest.approx(0.5)
    # the spectrum does not tell the two apart: more of their ratio is the prior's
    assert rows["[NII]/Halpha"]["PRIOR_WEIGHT"] > 0.5


def test_reddening_follows_from_the_decrement():
    """Case B and E(B-V) = 1: Cardelli's law (R_V 3.1) dims Hbeta by 3.61 and Halpha by 2.53 mag."""
    flux, error = np.full((2, len(LINES)), np.nan)
    hbeta = LINES.index("Hbeta")
    flux[[HALPHA, hbeta]] = 2863.0, 1000.0 * 10 ** (-0.4 * 1.08)
    error[[HALPHA, hbeta]] = 3.0
    joint = JointLines(flux, np.diag(error**2), False)
    (row,) = (row for row in ratio_table(joint, np.zeros(len(LINES))) if row["NAME"] == "E(B-V)")
    assert row["P50"] == pytest.approx(1.0, abs=0.03)
    assert row["KIND"] == "measured" and row["UNIT"] == "mag" and row["PRIOR_WEIGHT"] == 0.0


def test_the_table_of_gamma_quantiles_is_close_to_them():
    rng = np.random.default_rng(2)
    mean, normal = np.exp(rng.uniform(np.log(0.3), np.log(20.0), 4000)), rng.normal(size=4000)
    exact = gammaincinv(mean**2, ndtr(normal)) / mean
    assert np.abs(gamma_quantiles(mean, normal) - exact).max() < 3e-3  # sigma
