"""Trials with the real training: stopped and gone on with; stages on the frozen best ones before them."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from kspecsr.configuration import STAGES
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import simulated_examples
from kspecsr.model_folder import load_composed, read_settings, stage_hash
from kspecsr.training.stage_model import StageModel
from training_sample import tiny_preset
from tuning import sweep
from tuning.role import Role
from tuning.study import read_json
from tuning.sweep_plan import SweepPlan, check_plan
from tuning.trial_process import TrialJob
from tuning.trial_training import train_job

pytestmark = pytest.mark.filterwarnings(
    # KerasTuner asks for the thread's name in the old way
    "ignore:currentThread:DeprecationWarning",
    "ignore:getName:DeprecationWarning",
)


class InThisProcess:
    """In place of `TrialProcess`, which would load TensorFlow once more."""

    def __init__(self, train):
        self._train = train

    def run(self, job, after_epoch, *_):
        return self._train(job, after_epoch)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def job_in(folder, preset):
    return TrialJob("sr1", preset.to_json(), None, folder / "run", None, 0, 0, folder / "log.txt")


@pytest.mark.long
def test_a_stopped_trial_goes_on_as_if_nothing_had_been(tmp_path):
    preset = tiny_preset(epochs=3, steps_per_epoch=1)
    told = {"whole": [], "first": [], "second": []}

    def listener(name, last=99):
        return lambda epoch, goal: told[name].append((epoch, goal)) or epoch == last

    whole = train_job(job_in(tmp_path / "whole", preset), listener("whole"))
    parts = job_in(tmp_path / "parts", preset)
    assert train_job(parts, listener("first", 1))["epochs"] == 1
    again = train_job(parts, listener("first", 1))  # the answer of before may not have been heard
    assert again["epochs"] == 1
    second = train_job(parts, listener("second"))
    assert told["first"] == told["whole"][:1] * 2
    assert told["second"] == told["whole"]
    assert second["goal"] == whole["goal"] == min(goal for _, goal in told["whole"])
    assert "stopped for now after epoch 1" in (tmp_path / "parts/log.txt").read_text()


@pytest.mark.long
def test_each_stage_is_swept_on_the_frozen_best_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "TrialProcess", InThisProcess)
    lines = []
    plan = SweepPlan(
        preset=tiny_preset(epochs=1, steps_per_epoch=1),
        stages=STAGES,
        output=tmp_path / "night",
        data=None,
        upstream=None,
        axes=("line_fidelity", "smoothness", "width", "heads", "dropout"),
        narrowed={"width": "8", "line_fidelity": "0.3", "smoothness": "0.1", "dropout": "0.1,0.2"},
        trials=1,
        budget={"epochs": 1, "validation": 8},
        retrain=True,
        workers=0,
    )
    check_plan(plan)
    sweep.run_plan(plan, Role(), lines.append)
    best = tmp_path / "night/best"
    hashes = {stage: stage_hash(best, stage) for stage in STAGES}
    for number, stage in enumerate(STAGES):
        result = read_json(tmp_path / f"night/{stage}/trial_0/result.json")
        earlier = STAGES[:number]
        assert {name: entry["sha256"] for name, entry in result["upstream"].items()} == {
            name: hashes[name] for name in earlier
        }
        assert result["trained_on"] == {name: hashes[name] for name in earlier}
        named = {name: entry["name"] for name, entry in result["upstream"].items()}
        assert named == {name: f"night {name} trial 0, retrained" for name in earlier}
    held = read_settings(best).preset
    assert (held.losses.sr1_line_shape, held.losses.line_shape) == (0.3, 0.3)
    assert held.model.sr2.dropout in (0.1, 0.2)
    load_composed(best)  # refuses stages that were trained on others
    sweep.run_plan(plan, Role(), lines.append)
    assert lines[-3:] == [f"{s}: finished before (night {s} trial 0, retrained)" for s in STAGES]


def test_sr1_s_line_term_wants_lines_sharp_and_its_smoothness_the_rest_smooth():
    preset = tiny_preset()
    weights = replace(preset.losses, sr1_line_shape=1.0, sr1_smoothness=1.0)
    model = StageModel("sr1", replace(preset, losses=weights), {})
    x, y = split_batch(simulated_examples(np.arange(8), 5, preset.feed, preset.model.grid))
    truth = y["target_flux"]
    blurred = np.apply_along_axis(lambda row: np.convolve(row, np.ones(9) / 9, "same"), 1, truth)
    noisy = truth + np.random.default_rng(1).normal(size=truth.shape) * np.abs(truth).mean()

    def terms(flux, redshift=y["true_redshift"]):
        changed = {**y, "true_redshift": redshift}
        found = model.line_terms(x, changed, keras.ops.cast(flux, "float32"))
        return {name: float(value) for name, value in found.items()}

    assert terms(truth)["sr1_line_shape"] == pytest.approx(0.0, abs=1e-6)
    assert terms(blurred)["sr1_line_shape"] > 0.1
    assert terms(noisy)["sr1_smoothness"] > 2 * terms(truth)["sr1_smoothness"]
    # without a redshift no place is a line's
    assert terms(blurred, np.full(8, np.nan, np.float32))["sr1_line_shape"] == 0.0
    assert StageModel("sr1", preset, {}).line_terms(x, y, truth) == {}
