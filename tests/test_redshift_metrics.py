"""Redshifts and P(z): known distributions, closed forms, confidence that is and is not earned."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from calibration_sample import columns, empty, galaxies, values
from kspecsr.evaluation.figures.redshift import draw_confidence, draw_redshift
from kspecsr.evaluation.topics import TOPICS
from kspecsr.measures import redshift
from kspecsr.measures.calibration import gaussian_crps
from kspecsr.measures.goal import redshift_metrics as goal_metrics
from kspecsr.measures.held_out import Reconstruction
from kspecsr.measures.redshift import redshift_crps
from kspecsr.results.redshift import BIN_WIDTH, redshift_cdf

STEP = 0.001
BINS = np.arange(2773) * STEP
COUNT = 1200


def sample(count=COUNT, seed=1):
    """Galaxies with redshifts alone, cut out of real columns."""
    held_out = galaxies(size=24)
    rng = np.random.default_rng(seed)
    many = held_out.rows(rng.integers(len(held_out), size=count))
    return replace(many, galaxy=np.arange(count), redshift=np.expm1(rng.uniform(0.5, 2.3, count)))


def normal_probability(centre, sigma):
    """(B, Z) of a normal distribution in ln(1 + z) of which the bins' own width is a part."""
    narrow = np.sqrt(sigma**2 - (BIN_WIDTH * STEP) ** 2)
    probability = np.exp(-0.5 * ((BINS - centre[:, None]) / narrow) ** 2)
    return probability / probability.sum(axis=1, keepdims=True)


def method(held_out, scatter, stated=None, seed=2, **more):
    """Estimates with normal scatter in ln(1 + z), and P(z) of a stated one."""
    rng = np.random.default_rng(seed)
    centre = np.log1p(held_out.redshift) + scatter * rng.standard_normal(len(held_out))
    probability = normal_probability(centre, stated or scatter)
    near = (np.abs(BINS - centre[:, None]) <= 0.01) * probability
    made = Reconstruction(
        flux=held_out.target_flux,
        redshift=np.expm1(centre),
        redshift_bins=BINS,
        redshift_probability=probability,
        confidence=near.sum(axis=1),
    )
    return replace(made, **more)


summarise = TOPICS["redshift"].summarise


def figures(held_out, made):
    return values(summarise(columns(held_out), redshift.measure(held_out, made)))


@pytest.fixture(scope="module")
def held_out():
    return sample()


def test_nmad_of_known_distributions():
    rng = np.random.default_rng(3)
    assert redshift.nmad(rng.normal(0.3, 0.02, 200_000)) == pytest.approx(0.02, rel=0.01)
    assert redshift.nmad(rng.uniform(-1.0, 1.0, 200_000)) == pytest.approx(1.4826 / 2, rel=0.01)
    assert redshift.nmad(np.array([0.1, 0.1, 0.1, np.inf])) == 0.0
    assert np.isnan(redshift.nmad(np.array([])))


def test_right_distributions_have_uniform_pit_and_the_closed_form_of_crps(held_out):
    sigma = 0.004
    found = figures(held_out, method(held_out, sigma))
    assert found["redshift_nmad"] == pytest.approx(sigma, rel=0.07)
    assert found["redshift_outliers_0.15"] == 0.0
    assert found["redshift_outliers_0.01"] == pytest.approx(2 * ndtr(-0.01 / sigma), abs=0.01)
    assert found["redshift_bias"] == pytest.approx(0.0, abs=3e-4)
    for level in (50, 68, 90, 95):
        assert found[f"coverage_{level}/redshift"] == pytest.approx(level / 100, abs=0.04)
    assert found["pit_ks/redshift"] < 0.045
    assert found["crps/redshift"] == pytest.approx(sigma / np.sqrt(np.pi), rel=0.05)


def test_distributions_too_narrow_by_two_are_seen_by_the_pit_and_not_by_nmad(held_out):
    right, narrow = method(held_out, 0.004), method(held_out, 0.004, stated=0.002)
    good, bad = figures(held_out, right), figures(held_out, narrow)
    assert bad["pit_ks/redshift"] > 3 * good["pit_ks/redshift"]
    assert bad["coverage_68/redshift"] == pytest.approx(2 * ndtr(0.5 * 0.9945) - 1, abs=0.03)
    assert bad["crps/redshift"] > good["crps/redshift"]
    for name in ("redshift_nmad", "redshift_outliers_0.01", "redshift_bias"):
        assert bad[name] == good[name]


def test_crps_and_pit_of_one_normal_distribution_are_the_gaussian_ones():
    centre, sigma = np.array([1.2, 1.2, 1.2]), 0.005
    truth = centre + np.array([0.0, 0.007, -0.02])
    case = normal_probability(centre, sigma), BINS, np.expm1(truth)
    assert redshift_crps(*case) == pytest.approx(gaussian_crps(truth, centre, sigma), rel=1e-5)
    assert redshift_cdf(*case) == pytest.approx(ndtr((truth - centre) / sigma), abs=2e-5)


def test_crps_of_several_modes_is_the_integral_that_defines_it():
    rng = np.random.default_rng(4)
    probability = rng.random((3, BINS.size)) ** 40
    probability /= probability.sum(axis=1, keepdims=True)
    truth = np.array([0.4, 1.3, 2.2])
    x = np.arange(-0.02, BINS[-1] + 0.02, STEP / 8)
    for row in range(3):
        used = np.flatnonzero(probability[row] > 1e-9)
        below = (probability[row, used] * ndtr((x[:, None] - BINS[used]) / (BIN_WIDTH * STEP))).sum(axis=1)
        expected = np.trapezoid((below - (x >= truth[row])) ** 2, x)
        found = redshift_crps(probability, BINS, np.expm1(truth))[row]
        assert found == pytest.approx(expected, rel=1e-3)


def test_the_same_figures_as_the_training_goal(held_out):
    rng = np.random.default_rng(5)
    made = method(held_out, 0.004)
    wrong = rng.random(len(held_out)) < 0.1
    made = replace(made, redshift=np.where(wrong, 3.0, made.redshift))
    found = figures(held_out, made)
    with np.errstate(divide="ignore"):
        log_probability = np.log(made.redshift_probability)
    goal = goal_metrics(made.redshift, log_probability, {"true_redshift": held_out.redshift}, BINS)
    for name in ("nmad", "outliers_0.15", "outliers_0.01"):
        assert found[f"redshift_{name}"] == pytest.approx(goal[name], rel=1e-6)
    # one P(z), the mixture of normals: the same share but for 68 % and one sigma
    pit = redshift_cdf(made.redshift_probability, BINS, held_out.redshift)
    assert goal["coverage"] == np.mean(np.abs(pit - 0.5) < 0.5 * 0.6827)
    assert found["coverage_68/redshift"] == pytest.approx(goal["coverage"], abs=0.01)


def test_confidence_that_is_right_and_one_that_claims_too_much(held_out):
    rng = np.random.default_rng(6)
    confidence = rng.random(len(held_out))
    right = rng.random(len(held_out)) < confidence
    made = Reconstruction(
        flux=held_out.target_flux,
        redshift=held_out.redshift + np.where(right, 0.0, 0.5),
        confidence=confidence,
    )
    honest = figures(held_out, made)
    boastful = figures(held_out, replace(made, confidence=np.sqrt(confidence)))
    assert honest["confidence_gap"] < 0.04
    assert honest["confidence_right[0.7-0.9]"] == pytest.approx(0.8, abs=0.06)
    assert honest["redshift_confident_outliers"] == pytest.approx(0.05, abs=0.04)
    assert boastful["confidence_gap"] > 0.1
    assert boastful["redshift_confident_outliers"] == pytest.approx(0.095, abs=0.04)
    assert boastful["redshift_nmad"] == honest["redshift_nmad"]
    assert "pit_ks/redshift" not in honest


def test_galaxies_without_a_redshift_count_for_false_confidence_alone(held_out):
    part = held_out.rows(slice(0, 200))
    made = replace(method(part, 0.004), confidence=np.linspace(0.0, 1.0, 200))
    unknown = replace(part, redshift=np.where(np.arange(200) % 2, part.redshift, np.nan))
    measured = redshift.measure(unknown, made)
    estimates = summarise(columns(unknown), measured)
    assert estimates["redshift_nmad"].n == 100
    assert estimates["false_confidence"].n == 100
    assert estimates["false_confidence"].value == pytest.approx(0.1, abs=0.02)
    assert "false_confidence" not in figures(part, made)


def test_a_missing_redshift_is_an_outlier(held_out):
    part = held_out.rows(slice(0, 100))
    made = method(part, 0.002)
    missing = replace(made, redshift=np.where(np.arange(100) < 20, np.nan, made.redshift))
    found = figures(part, missing)
    assert found["redshift_outliers_0.15"] == pytest.approx(0.2)
    assert found["redshift_nmad"] == pytest.approx(0.002, rel=0.3)


def test_nothing_to_measure_is_no_error(held_out):
    one = held_out.rows(slice(0, 1))
    nothing = Reconstruction(flux=one.target_flux)
    gone = replace(method(one, 0.002), redshift_probability=np.full((1, BINS.size), np.nan))
    for galaxy, made in (
        (one, nothing),
        (empty(one), method(one, 0.002)),
        (one, gone),
        (one, method(one, 0.002)),
    ):
        measured = redshift.measure(galaxy, made)
        assert all(array.shape == (1,) and array.dtype == np.float32 for array in measured.values())
        summarise(columns(galaxy), measured)
    assert figures(one, nothing) == {}


def test_figure_of_redshifts(held_out):
    measured = {
        "sr2": redshift.measure(held_out, method(held_out, 0.004)),
        "cubic": redshift.measure(held_out, Reconstruction(flux=held_out.target_flux)),
    }
    figure = draw_redshift(measured)
    assert len(figure.axes) == 3
    assert "NMAD 0.004" in figure.axes[0].get_title()
    alone = draw_confidence(measured["sr2"], "sr2")
    assert (alone is None) == np.isnan(measured["sr2"]["redshift_confidence"]).all()
    stated = measured["sr2"] | {"redshift_confidence": np.linspace(0, 1, len(held_out))}
    assert f"{len(held_out)} spectra" in draw_confidence(stated, "sr2").axes[0].get_title()
    assert draw_confidence(measured["cubic"], "cubic") is None
    assert "no redshifts" in draw_redshift({"cubic": measured["cubic"]}).axes[0].texts[0].get_text()
