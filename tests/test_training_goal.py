import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import validation_examples
from kspecsr.measures.gate import shipped_gate
from kspecsr.measures.goal import GoalReference, goal_metrics, goal_reference, unmeasurable_terms
from training_sample import GRID, tiny_preset

BINS = np.arange(3000) * 1e-3
PRISM_WAVELENGTH = load_instrument(PRISM).wavelength
K = len(load_lines())


@pytest.fixture(scope="module")
def galaxies():
    x, y = split_batch(validation_examples(24, 5, tiny_preset().feed, GRID))
    return x, y, goal_reference(x, y, PRISM_WAVELENGTH, GRID.wavelength)


def perfect(y, sigma=1.0):
    """Outputs that are the truth but for a Gaussian error of ``sigma`` times what they claim."""
    rng = np.random.default_rng(3)
    size = {name: y[name].shape for name in ("target_flux", "line_flux")}
    scale = 0.01 * np.std(y["target_flux"], axis=1, keepdims=True) + 1e-6
    flux_error = np.broadcast_to(scale, size["target_flux"])
    line_error = np.broadcast_to(0.02 * np.abs(y["line_flux"]) + 1e-3, size["line_flux"])
    redshift = np.nan_to_num(y["true_redshift"], nan=1.0)
    log_probability = -0.5 * ((BINS - np.log1p(redshift)[:, None]) / 2e-3) ** 2
    flux = y["target_flux"] + sigma * flux_error * rng.normal(size=size["target_flux"])
    return {
        "sr1_flux": flux,
        "sr1_error": flux_error,
        "flux": flux,
        "flux_error": flux_error,
        "redshift": redshift + sigma * 2e-3 * (1 + redshift) * rng.normal(size=redshift.size),
        "redshift_log_probability": log_probability,
        "line_flux": y["line_flux"] + sigma * line_error * rng.normal(size=size["line_flux"]),
        "line_flux_error": line_error,
        "line_in_range": y["line_known"],
        "chi_square": np.ones(len(redshift)),
    }


def measure(stage, outputs, galaxies):
    _, y, reference = galaxies
    return goal_metrics(stage, outputs, y, reference, BINS)


def test_cubic_interpolation_has_a_ratio_of_one(galaxies):
    _, _, reference = galaxies
    outputs = {"sr1_flux": np.nan_to_num(reference.cubic), "sr1_error": np.ones_like(reference.cubic)}
    metrics = measure("sr1", outputs, galaxies)
    assert metrics["error_ratio"] == pytest.approx(1.0)
    assert metrics["typical_ratio"] == pytest.approx(1.0)


@pytest.mark.parametrize("stage", ["sr1", "zhead", "sr2"])
def test_the_truth_with_honest_errors_is_better_than_what_is_wrong_in_any_way(stage, galaxies):
    good = measure(stage, perfect(galaxies[1]), galaxies)
    assert 0 <= good["goal"] < 0.5
    changes = {
        "errors too small": lambda o: (
            o | {"sr1_error": o["sr1_error"] / 3, "line_flux_error": o["line_flux"] * 1e-6}
        ),
        "shrunk": lambda o: o | {name: 0.5 * o[name] for name in ("sr1_flux", "flux", "line_flux")},
        "other redshift": lambda o: o | {"redshift": 2 * o["redshift"] + 1},
    }
    blind = {("sr1", "other redshift"), ("sr2", "other redshift")}
    blind |= {("zhead", "errors too small"), ("zhead", "shrunk")}
    for name, change in changes.items():
        if (stage, name) not in blind:
            assert measure(stage, change(perfect(galaxies[1])), galaxies)["goal"] > good["goal"] + 0.05, name


def test_metrics_are_what_they_say(galaxies):
    outputs = perfect(galaxies[1])
    lines, redshifts = measure("sr2", outputs, galaxies), measure("zhead", outputs, galaxies)
    assert lines["coverage"] == pytest.approx(0.68, abs=0.05)
    assert lines["pixel_coverage"] == pytest.approx(0.68, abs=0.02)
    assert redshifts["nmad"] == pytest.approx(2e-3, rel=0.4)
    assert redshifts["outliers_0.01"] == 0.0
    halved = measure("sr2", outputs | {"line_flux": 0.5 * outputs["line_flux"]}, galaxies)
    assert halved["recovery"] == pytest.approx(0.5, rel=0.05)
    assert halved["scatter"] < 0.1


def test_noise_of_the_target_is_not_counted_as_error():
    """A prediction equal to the noise-free truth, judged by noisy targets with known errors."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 2, size=(6, 4000))
    noise = np.full(truth.shape, 0.5)
    y = {
        "target_flux": truth + noise * rng.normal(size=truth.shape),
        "target_error": noise,
        "target_mask": np.zeros(truth.shape, bool),
    }
    reference = GoalReference(truth + 0.4, np.zeros((6, K)))
    metrics = goal_metrics(
        "sr1", {"sr1_flux": truth, "sr1_error": np.full(truth.shape, 1e-6)}, y, reference, BINS
    )
    assert metrics["error_ratio"] < 0.3
    assert metrics["coverage"] == pytest.approx(0.68, abs=0.02)


def test_outputs_that_are_not_finite_are_never_the_best(galaxies):
    outputs = {
        "sr1_flux": np.full_like(galaxies[2].cubic, np.nan),
        "sr1_error": np.ones_like(galaxies[2].cubic),
    }
    assert measure("sr1", outputs, galaxies)["goal"] == np.inf


def test_terms_that_no_galaxy_measures_are_left_out_of_the_goal(galaxies):
    _, y, reference = galaxies
    assert unmeasurable_terms("sr2", y, reference) == ()
    faint = GoalReference(reference.cubic, np.zeros_like(reference.line_snr))
    assert unmeasurable_terms("sr2", y, faint) == ("recovery", "scatter")
    outputs = perfect(y)
    goal = goal_metrics("sr2", outputs, y, faint, BINS)["goal"]
    assert goal < 0.5
    assert goal_metrics("sr2", outputs | {"flux": 0.5 * outputs["flux"]}, y, faint, BINS)["goal"] > goal
    for name in ("flux", "line_flux", "line_flux_error"):
        broken = outputs | {name: np.nan * outputs[name]}
        assert goal_metrics("sr2", broken, y, faint, BINS)["goal"] == np.inf
    lost = perfect(y) | {"redshift": np.full(len(y["true_redshift"]), np.nan)}
    assert goal_metrics("zhead", lost, y, reference, BINS)["goal"] == np.inf
    unknown = y | {"true_redshift": np.full_like(y["true_redshift"], np.nan)}
    assert len(unmeasurable_terms("zhead", unknown, reference)) == 4


def test_lines_that_a_wrong_redshift_puts_out_of_range_are_lost_and_not_left_out(galaxies):
    outputs = perfect(galaxies[1])
    nowhere = outputs | {"line_in_range": np.zeros_like(outputs["line_in_range"])}
    good, lost = (measure("sr2", each, galaxies)["goal"] for each in (outputs, nowhere))
    assert good + 5 < lost < np.inf


def test_lines_are_judged_as_in_the_evaluation(galaxies):
    """Lost where they are out of range, and no judge of anything where the prism did not see them."""
    _, y, reference = galaxies
    outputs = perfect(y)
    before = measure("sr2", outputs, galaxies)
    known = y["line_known"].astype(bool)
    in_range = known & (np.arange(len(known)) % 2 == 0)[:, None]
    after = measure("sr2", outputs | {"line_in_range": in_range}, galaxies)
    strong = (known & (reference.line_snr > 5.0))[:, in_range.any(axis=0)]  # lines that are ever measured
    assert before["completeness"] == 1.0
    assert after["completeness"] == (strong & in_range[:, in_range.any(axis=0)]).sum() / strong.sum() < 0.7
    assert after["recovery"] == pytest.approx(before["recovery"], rel=0.02)
    # the brightest line on a bad pixel has S/N 0 there: it is not an absent line that was invented
    row, line = np.unravel_index(np.argmax(reference.line_snr), reference.line_snr.shape)
    snr, detectable = reference.line_snr.copy(), y["line_detectable"].copy()
    snr[row, line], detectable[row, line] = 0.0, False
    twice = outputs["line_flux"].copy()
    twice[row, line] *= 3.0
    blind = GoalReference(reference.cubic, snr)
    unseen = goal_metrics(
        "sr2", outputs | {"line_flux": twice}, y | {"line_detectable": detectable}, blind, BINS
    )
    assert unseen["false_detections"] == before["false_detections"]


def test_an_epoch_that_breaks_a_limit_of_the_gate_is_worse_by_far(galaxies):
    _, y, _ = galaxies
    good = perfect(y)
    inconsistent = {**good, "chi_square": np.full(len(good["chi_square"]), 3.0)}
    # nothing else that the goal measures sees the prism
    difference = measure("sr2", inconsistent, galaxies)["goal"] - measure("sr2", good, galaxies)["goal"]
    limit = shipped_gate("default").training["sr2"]["chi_square"]
    assert difference == pytest.approx(10.0 * (3.0 - limit.high))
