"""Training examples: truth of the simulator, masks, steps, workers, records, and the choice between them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.building.pipeline import build
from data_pipeline.building.row import truth_on_grid
from data_pipeline.building.sources import BuildConfig, SimulationSource
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid, pixel_bounds
from data_pipeline.records import iterate
from data_pipeline.simulation import WITHOUT_REDSHIFT, simulate_batch
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import grating_line_error
from data_pipeline.simulation.survey import load_tiers
from data_pipeline.workers import WorkerError
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.choice import choose_data
from kspecsr.feeds.example import example_shapes, split_batch
from kspecsr.feeds.records_feed import RecordsFeed, recorded_examples, recorded_validation
from kspecsr.feeds.simulated import (
    VALIDATION_SEED_BIT,
    apply_defects,
    bin_to_detector,
    detector_grid,
    observed_examples,
    sample_coarsely,
    simulated_examples,
    simulation_config,
    validation_examples,
)
from kspecsr.feeds.simulation_feed import SimulationFeed

ROOT = Path(__file__).resolve().parents[1]
SEED = 11
RECORDS_SEED = 3  # galaxies of three kinds, all with a redshift, in every split
WHOLE = FeedConfig(gap_fraction=0.0, truncated_fraction=0.0, coarse_fraction=0.0)
COARSE_GRID = UnifiedGrid(1.0, 5.0, 500.0)  # small batches where the grid does not matter


def always(_):
    return 1.0


def check_batch(batch, grid):
    """Names, shapes, types and ranges are as `example_shapes` states them."""
    shapes, size = example_shapes(grid), len(batch["redshift"])
    assert set(batch) == set(shapes)
    for name, shape in shapes.items():
        flag = name.endswith(("_mask", "_known", "_detectable"))
        found = batch[name].shape, batch[name].dtype
        assert found == ((size, *shape), bool if flag else np.float32), name
        unknown = "redshift" in name or name == "broad_velocity"
        assert unknown or np.isfinite(batch[name]).all(), name
    assert (batch["prism_error"] > 0).all()
    assert (batch["target_error"] >= 0).all() and (batch["line_error"] >= 0).all()


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.fixture(scope="module")
def galaxies():
    return simulated_examples(np.arange(48), SEED, WHOLE, UNIFIED_GRID)


@pytest.fixture(scope="module")
def truth():
    return simulate_batch(np.arange(48), SEED, simulation_config(WHOLE), gratings=False)


def test_a_batch_has_the_stated_arrays_and_no_number_that_is_not_finite(galaxies):
    check_batch(galaxies, UNIFIED_GRID)
    x, y = split_batch(galaxies)
    assert not set(x) & set(y) and {*x, *y} == set(galaxies)
    assert np.isnan(x["redshift"]).all()


def test_targets_are_the_simulator_s_truth_in_record_units(galaxies, truth):
    for name, expected in (("target_flux", truth.noise_free), ("target_continuum", truth.continuum)):
        np.testing.assert_allclose(galaxies[name], expected / 1e-20, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(galaxies["true_redshift"], truth.redshift, rtol=1e-6)
    assert not galaxies["target_error"].any() and not galaxies["target_mask"].any()
    assert galaxies["continuum_known"].all()
    good = ~galaxies["prism_mask"]
    np.testing.assert_array_equal(good, ~truth.prism_mask)
    np.testing.assert_allclose(galaxies["prism_flux"][good], truth.prism_flux[good] / 1e-20, rtol=1e-6)
    np.testing.assert_allclose(galaxies["prism_error"][good], truth.prism_error[good] / 1e-20, rtol=1e-6)


def test_lines_are_known_inside_the_grid_and_detectable_above_three_sigma(galaxies, truth):
    centre = load_lines().wavelength * (1 + truth.redshift[:, None])
    np.testing.assert_array_equal(galaxies["line_known"], (centre >= 0.7) & (centre <= 5.3))
    known = galaxies["line_known"]
    np.testing.assert_allclose(galaxies["line_flux"][known], truth.line_flux[known] / 1e-20, rtol=1e-6)
    assert not galaxies["line_flux"][~known].any() and not galaxies["line_error"].any()
    tier = np.array([load_tiers().names.index(name) for name in truth.tier])
    limit = 3 * grating_line_error(tier, np.where(known, centre, 1.0))
    np.testing.assert_array_equal(galaxies["line_detectable"], known & (truth.line_flux > limit))
    assert 0.02 < galaxies["line_detectable"].mean() < 0.5


def test_examples_have_the_lines_that_their_simulation_draws():
    simulation = replace(simulation_config(WHOLE), lines="second")
    truth, examples = observed_examples(np.arange(6), SEED, WHOLE, COARSE_GRID, simulation)
    observed = load_lines("second").wavelength * (1 + truth.redshift[:, None])
    np.testing.assert_array_equal(examples["line_known"], (observed >= 1.0) & (observed <= 5.0))
    assert truth.lines.names == load_lines("second").names
    for name in ("line_flux", "line_error", "line_detectable", "line_broad_flux"):
        assert examples[name].shape == (6, 93)


def test_a_spectrum_without_source_has_no_redshift_and_no_lines(galaxies, truth):
    empty = np.array([kind == "noise" for kind in truth.kind])
    assert empty.any()
    np.testing.assert_array_equal(np.isnan(galaxies["true_redshift"]), empty)
    assert not galaxies["target_flux"][empty].any() and not galaxies["line_known"][empty].any()


def test_what_is_no_galaxy_has_no_lines_and_trouble_makes_no_batch_a_bad_one():
    feed = FeedConfig(population="wide-open")
    batch = simulated_examples(np.arange(96), SEED, feed, COARSE_GRID)
    check_batch(batch, COARSE_GRID)
    truth = simulate_batch(np.arange(96), SEED, simulation_config(feed), gratings=False)
    assert len(set(truth.kind) & set(WITHOUT_REDSHIFT)) > 2 and len(set(truth.trouble)) > 3
    np.testing.assert_array_equal(np.isfinite(batch["true_redshift"]), truth.has_redshift)
    assert not batch["line_known"][~truth.has_redshift].any()


def test_masked_prism_pixels_hold_flux_0_and_error_1():
    batch = simulated_examples(np.arange(48), SEED, replace(WHOLE, gap_fraction=1.0), COARSE_GRID)
    bad = batch["prism_mask"]
    assert bad.any(axis=1).all() and not bad.all(axis=1).any()
    assert (batch["prism_flux"][bad] == 0).all() and (batch["prism_error"][bad] == 1).all()
    assert (batch["prism_error"] > 0).all()


def test_truth_on_another_grid_is_that_of_the_records(truth):
    for grid in (COARSE_GRID, UnifiedGrid(0.6, 5.4, 2000.0)):
        batch = simulated_examples(np.arange(3), SEED, WHOLE, grid)
        check_batch(batch, grid)
        for row in range(3):
            expected = truth_on_grid(truth.noise_free[row], grid) / 1e-20
            known = np.isfinite(expected) & ~batch["target_mask"][row]
            assert np.isfinite(expected).sum() - known.sum() <= 2  # pixels that an end of the range cuts
            scale = np.abs(expected[known]).max()
            np.testing.assert_allclose(batch["target_flux"][row][known], expected[known], atol=1e-5 * scale)
    assert batch["target_mask"].any()


def test_noisy_targets_are_the_stitched_gratings_of_a_build():
    feed = replace(WHOLE, noise_free_targets=False)
    batch = simulated_examples(np.arange(3), SEED, feed, UNIFIED_GRID)
    check_batch(batch, UNIFIED_GRID)
    config = BuildConfig(
        source="simulation",
        n=3,
        seed=SEED,
        population="wide",
        preprocessing=PreprocessingConfig(minimum_line_snr=0.0),
    )
    rows = SimulationSource(config).process(0)[0]
    assert len(rows) == 3
    for row, expected in enumerate(rows):
        bad = expected["grating_mask"]
        np.testing.assert_array_equal(batch["target_mask"][row], bad)
        np.testing.assert_array_equal(batch["target_flux"][row][~bad], expected["grating_flux"][~bad])
        np.testing.assert_array_equal(batch["target_error"][row][~bad], expected["grating_error"][~bad])
    assert not batch["continuum_known"].any() and batch["line_known"].any()


def test_a_stretch_of_missing_pixels_is_5_to_60_long_and_as_frequent_as_asked_for():
    draws = Draws(SEED, np.arange(400), 0)
    flux = np.ones((400, 706))
    mask = apply_defects(flux, flux, np.zeros((400, 706), bool), replace(WHOLE, gap_fraction=0.25), draws)[2]
    length = mask.sum(axis=1)
    assert 70 < (length > 0).sum() < 130
    assert length[length > 0].min() >= 5 and length.max() <= 60
    assert (np.abs(np.diff(mask.astype(int), axis=1)).sum(axis=1) <= 2).all()  # one stretch


def test_a_truncated_spectrum_lacks_an_end():
    draws = Draws(SEED, np.arange(300), 0)
    flux = np.ones((300, 706))
    clean = np.zeros((300, 706), bool)
    mask = apply_defects(flux, flux, clean, replace(WHOLE, truncated_fraction=1.0), draws)[2]
    wavelength = load_instrument(PRISM).wavelength
    first = wavelength[np.argmax(~mask, axis=1)]
    last = wavelength[705 - np.argmax(~mask[:, ::-1], axis=1)]
    late, release, early = first > 0.7, last == wavelength[673], last < 5.301
    assert first[late].min() >= 0.8 and first[late].max() < 1.22
    assert last[early & ~release].min() > 4.48
    assert min(late.sum(), release.sum(), (early & ~late & ~release).sum()) > 60
    assert not (late & (release | early)).any() and (late | release | early).all()


@pytest.mark.parametrize("phase", range(4))
def test_coarse_sampling_conserves_flux_and_keeps_flat_flat(phase):
    own = load_instrument(PRISM)
    clean, error = np.zeros(706, bool), np.full(706, 0.1)
    wavelength = own.wavelength
    sigma = own.sigma(np.array([2.5]))[0]
    line = np.exp(-0.5 * ((wavelength - 2.5) / sigma) ** 2)
    width, coarse_width = (
        np.diff(own.bounds, axis=0)[0],
        np.diff(pixel_bounds(detector_grid(phase)), axis=0)[0],
    )
    binned, _, bad = bin_to_detector(line, error, clean, phase)
    assert 420 <= binned.size <= 425
    assert (binned * coarse_width)[~bad].sum() == pytest.approx((line * width).sum(), rel=1e-9)
    back, sigma_back, bad = sample_coarsely(line, error, clean, phase)
    assert (back * width)[~bad].sum() == pytest.approx((line * width).sum(), rel=2e-3)
    assert bad.sum() <= 4 and (sigma_back[~bad] > 0).all()
    flat, _, bad = sample_coarsely(np.full(706, 3.0), error, clean, phase)
    np.testing.assert_allclose(flat[~bad], 3.0, rtol=1e-9)


def test_coarsely_sampled_spectra_keep_masked_pixels_masked_and_noise_like_their_errors():
    batch = simulated_examples(np.arange(40), SEED, replace(WHOLE, coarse_fraction=1.0), UNIFIED_GRID)
    check_batch(batch, UNIFIED_GRID)
    truth = simulate_batch(np.arange(40), SEED, simulation_config(WHOLE), gratings=False)
    empty = np.array([kind == "noise" for kind in truth.kind])
    good = ~batch["prism_mask"]
    assert 0.9 < good.mean() < 0.99
    pull = (batch["prism_flux"] / batch["prism_error"])[empty][good[empty]]
    assert 0.8 < 1.4826 * np.median(np.abs(pull)) < 1.3


def test_nuisances_are_those_asked_for():
    batch = simulate_batch(np.arange(300), SEED, simulation_config(FeedConfig()), gratings=False)
    assert np.median(np.log(batch.resolution_scale)) == pytest.approx(np.log(1.22), abs=0.015)
    assert np.log(batch.resolution_scale).std() == pytest.approx(0.08, abs=0.01)
    assert batch.zero_point_shift.std() == pytest.approx(0.15, abs=0.02)
    assert np.log(batch.error_scale).std() == pytest.approx(0.15, abs=0.02)


def test_no_galaxy_is_observed_twice_in_a_feed_of_the_survey():
    config = simulation_config(FeedConfig(population="survey"))
    batch = simulate_batch(np.arange(200), SEED, config, gratings=False)
    np.testing.assert_array_equal(batch.galaxy, batch.index)


def test_a_batch_depends_on_its_step_alone():
    feed = FeedConfig()
    with SimulationFeed(feed, COARSE_GRID, 4, SEED, workers=2, teacher=lambda step: 0.5) as parallel:
        batches = [next(parallel) for _ in range(4)]
        assert parallel.step == 4 and parallel.waited > 0
    late = SimulationFeed(feed, COARSE_GRID, 4, SEED, first_step=2, workers=0, teacher=lambda step: 0.5)
    for expected in batches[2:]:
        assert_same(next(late), expected)
    check_batch(batches[0], COARSE_GRID)
    plain = simulated_examples(np.arange(8, 12), SEED, feed, COARSE_GRID)
    np.testing.assert_array_equal(batches[2]["prism_flux"], plain["prism_flux"])
    with pytest.raises(StopIteration):
        next(parallel)


def test_a_dead_worker_is_an_error_of_one_line():
    with SimulationFeed(WHOLE, COARSE_GRID, 2, SEED, workers=1) as feed:
        next(feed)
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="a worker process died") as error:
            for _ in range(20):
                next(feed)
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()


def test_an_interrupted_training_leaves_no_worker_and_ends_soon():
    program = (
        "import time\n"
        "from kspecsr.feeds.simulation_feed import SimulationFeed\n"
        "from kspecsr.configuration import FeedConfig\n"
        "from data_pipeline.pixel_grid import UnifiedGrid\n"
        "if __name__ == '__main__':\n"
        "    feed = SimulationFeed(FeedConfig(), UnifiedGrid(1.0, 5.0, 500.0), 2, 1)\n"
        "    next(feed)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=20)  # ends once no worker holds the pipe any more
    assert time.monotonic() - start < 10
    assert complaint.strip().splitlines()[-1] == "KeyboardInterrupt"


def test_the_teacher_gives_the_true_redshift_as_often_as_it_says():
    def batch(step, teacher):
        return next(SimulationFeed(WHOLE, COARSE_GRID, 64, SEED, step, workers=0, teacher=teacher))

    everybody, nobody, some = batch(1, always), batch(1, lambda step: 0.0), batch(1, lambda step: 0.7 * step)
    np.testing.assert_array_equal(everybody["redshift"], everybody["true_redshift"])
    assert np.isnan(nobody["redshift"]).all()
    given = np.isfinite(some["redshift"])
    assert 0.5 < given.mean() < 0.85
    np.testing.assert_array_equal(some["redshift"][given], some["true_redshift"][given])
    with pytest.raises(ValueError, match=r"teacher: expected a probability from 0 to 1 at step 2, got 1\.4"):
        batch(2, lambda step: 0.7 * step)


def test_validation_shares_no_galaxy_with_training():
    held_out = validation_examples(6, SEED, WHOLE, COARSE_GRID)
    check_batch(held_out, COARSE_GRID)
    assert_same(held_out, simulated_examples(np.arange(6), SEED | VALIDATION_SEED_BIT, WHOLE, COARSE_GRID))
    training = simulated_examples(np.arange(64), SEED, WHOLE, COARSE_GRID)
    assert not set(held_out["true_redshift"][np.isfinite(held_out["true_redshift"])]) & set(
        training["true_redshift"]
    )
    with pytest.raises(ValueError, match=r"seed: expected a whole number from 0 to 2\*\*62 - 1"):
        SimulationFeed(WHOLE, COARSE_GRID, 2, VALIDATION_SEED_BIT)
    with pytest.raises(ValueError, match=r"seed: expected a whole number from 0 to 2\*\*62 - 1"):
        validation_examples(2, VALIDATION_SEED_BIT, WHOLE, COARSE_GRID)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    directory = tmp_path_factory.mktemp("records") / "data"
    config = BuildConfig(
        source="simulation",
        n=14,
        seed=RECORDS_SEED,
        population="wide",
        preprocessing=PreprocessingConfig(grid=COARSE_GRID, minimum_line_snr=0.0),
        augmentation=AugmentationConfig(realisations=1),
    )
    build(config, directory, quiet=True)
    return directory


def test_records_of_simulated_galaxies_give_the_same_targets_as_the_simulator(records):
    rows = {str(row["unique_id"]): row for row in iterate(records, "train") if row["realisation"] == 0}
    batch = simulate_batch(np.arange(14), RECORDS_SEED, simulation_config(WHOLE), gratings=False)
    fresh = simulated_examples(np.arange(14), RECORDS_SEED, WHOLE, COARSE_GRID)
    found = recorded_examples(list(rows.values()), COARSE_GRID)
    check_batch(found, COARSE_GRID)
    place = [batch.unique_id.index(name) for name in rows]
    for name in ("target_flux", "line_flux", "true_redshift"):
        np.testing.assert_allclose(found[name], fresh[name][place], rtol=1e-4, atol=1e-4, err_msg=name)
    for name in ("target_mask", "line_known", "line_error"):
        np.testing.assert_array_equal(found[name], fresh[name][place], err_msg=name)
    assert (found["line_detectable"] == fresh["line_detectable"][place]).mean() > 0.999
    assert not found["continuum_known"].any()


def test_records_without_truth_give_the_noisy_gratings(records):
    row = next(row for row in iterate(records, "train") if row["realisation"] == 0)
    row = row | {
        "has_noise_free": np.array(False),
        "line_flux_error": np.where(row["line_flux_known"], 2.0, np.nan),
    }
    row["line_flux_error"] = row["line_flux_error"].astype(np.float32)
    found = recorded_examples([row], COARSE_GRID)
    check_batch(found, COARSE_GRID)
    bad = row["grating_mask"]
    np.testing.assert_array_equal(found["target_mask"][0], bad)
    np.testing.assert_array_equal(found["target_flux"][0][~bad], row["grating_flux"][~bad])
    np.testing.assert_array_equal(found["target_error"][0][~bad], row["grating_error"][~bad])
    known = found["line_known"][0]
    assert (found["line_error"][0][known] == 2.0).all()
    np.testing.assert_array_equal(found["line_detectable"][0], known & (found["line_flux"][0] > 6.0))


def test_gratings_are_the_target_where_they_are_asked_for_though_the_truth_is_recorded(records):
    """The paper's own choice, on records of simulated galaxies."""
    rows = [row for row in iterate(records, "train") if row["realisation"] == 0][:4]
    noisy = recorded_examples(rows, COARSE_GRID, noise_free_targets=False)
    check_batch(noisy, COARSE_GRID)
    assert not all(row["grating_mask"].all() for row in rows)
    for found, row in zip(noisy["target_flux"], rows, strict=True):
        good = ~row["grating_mask"]
        np.testing.assert_array_equal(found[good], row["grating_flux"][good])
    good = ~noisy["target_mask"]
    assert (noisy["target_error"][good] > 0).all()
    assert_same(recorded_validation(records, 4, COARSE_GRID, "train", noise_free_targets=False), noisy)
    feeds = [RecordsFeed(records, "train", 4, SEED, noise_free_targets=truth) for truth in (True, False)]
    assert [feed.description["noise_free_targets"] for feed in feeds] == [True, False]
    errors = [batch["target_error"][~batch["target_mask"]] for batch in map(next, feeds)]
    assert (errors[0] == 0).all() and (errors[1] > 0).all()


@pytest.mark.parametrize("truth", [True, False])
def test_a_training_is_judged_by_the_targets_that_it_is_trained_on(records, truth, monkeypatch):
    from kspecsr.training import data

    validation = partial(recorded_validation, split="train")  # these records are too few for another split
    monkeypatch.setattr(data, "recorded_validation", validation)
    judged = data.TrainingData(records, replace(WHOLE, noise_free_targets=truth), COARSE_GRID)
    batch = judged.validation("sr1", 4)
    assert_same(batch, validation(records, 4, COARSE_GRID, noise_free_targets=truth))
    assert batch["target_error"].any() != truth


def test_lines_of_a_survey_with_other_tiers_are_judged_by_usual_errors(records):
    row = next(row for row in iterate(records, "train") if row["line_flux_known"].any())
    tiers = [{"tier": name} for name in ("elsewhere", *load_tiers().names)]
    detectable = recorded_examples([row | tier for tier in tiers], COARSE_GRID)["line_detectable"].sum(axis=1)
    assert detectable[0] > 0 and detectable[1:].min() <= detectable[0] <= detectable[1:].max()


def test_a_record_without_redshift_has_no_known_line(records):
    row = next(iterate(records, "train"))
    found = recorded_examples([row | {"redshift": np.float64("nan")}], COARSE_GRID)
    check_batch(found, COARSE_GRID)
    assert np.isnan(found["true_redshift"]).all() and not found["line_known"].any()


def test_a_records_feed_goes_on_at_any_step_and_shows_every_example_once_an_epoch(records):
    feed = RecordsFeed(records, "train", 5, SEED, teacher=always, grid=COARSE_GRID)
    steps = -(-3 * feed.count // 5)  # more than two epochs; batches cross their ends
    batches = [next(feed) for _ in range(steps)]
    check_batch(batches[0], COARSE_GRID)
    np.testing.assert_array_equal(batches[0]["redshift"], batches[0]["true_redshift"])
    for first in (1, steps - 1):
        assert_same(next(RecordsFeed(records, "train", 5, SEED, first, always)), batches[first])
    shown = np.concatenate([batch["prism_flux"].sum(axis=1) for batch in batches])
    epochs = shown[: 3 * feed.count].reshape(3, feed.count)
    written = np.sort(
        recorded_examples(list(iterate(records, "train")), COARSE_GRID)["prism_flux"].sum(axis=1)
    )
    for epoch in epochs:
        np.testing.assert_allclose(np.sort(epoch), written, rtol=1e-6)
    assert not np.array_equal(epochs[0], epochs[1])
    manifest = json.loads((records / "manifest.json").read_text())
    assert feed.description["manifest"] == manifest["sha256"]


def test_validation_records_are_originals_in_their_order(records):
    found = recorded_validation(records, 4, COARSE_GRID, split="train")
    rows = [row for row in iterate(records, "train") if row["realisation"] == 0][:4]
    assert_same(found, recorded_examples(rows, COARSE_GRID))
    everything = recorded_validation(records, 1000)
    assert 0 < len(everything["true_redshift"]) < 14


def test_records_on_another_grid_are_refused_naming_both(records):
    text = r"grid 1-5 um at lambda/dlambda = 500, but the model is on the grid 0\.7-5\.3 um .* = 3000"
    with pytest.raises(ValueError, match=text):
        RecordsFeed(records, "train", 4, SEED, grid=UNIFIED_GRID)
    with pytest.raises(ValueError, match=text):
        recorded_validation(records, 4, UNIFIED_GRID)
    with pytest.raises(ValueError, match="no split 'training'; these records hold"):
        RecordsFeed(records, "training", 4, SEED)
    with pytest.raises(ValueError, match="expected batch_size >= 1"):
        RecordsFeed(records, "train", 0, SEED)
    with pytest.raises(ValueError, match="expected batch_size >= 1"):
        SimulationFeed(WHOLE, COARSE_GRID, 0, SEED)


def test_data_are_chosen_as_documented(records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "manifest.json").touch()
        assert choose_data().directory is None  # also where records lie: a rerun must find the same data
    assert choose_data("simulation").directory is None
    assert choose_data(str(records)).directory == records
    with pytest.raises(
        FileNotFoundError, match=r"--data data: no manifest\.json .* did you mean data/first or"
    ):
        choose_data("data")
    with pytest.raises(FileNotFoundError, match=r"--data nowhere: no manifest\.json there.*word simulation"):
        choose_data("nowhere")


def test_feeds_need_no_tensorflow():
    heavy = "('tensorflow', 'keras', 'jax')"
    program = f"import sys; import kspecsr.feeds; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
