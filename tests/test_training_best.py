from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kspecsr.model_folder import load_stage, read_settings, stage_hash
from kspecsr.models.precision import fast_policy
from kspecsr.training import epoch_end, state
from kspecsr.training import stage as stage_module
from kspecsr.training import state as published
from kspecsr.training.state import read_progress
from training_sample import QUIET, assert_published, simulated, tiny_preset, train

pytestmark = pytest.mark.usefixtures("not_compiled")


def give_goals(monkeypatch, *values):
    goals = iter(values)
    monkeypatch.setattr(
        epoch_end,
        "goal_metrics",
        lambda *_: {"error_ratio": 1.0, "typical_ratio": 1.0, "coverage": 0.68, "goal": next(goals)},
    )


def test_best_weights_survive_an_interruption_and_worse_epochs(tmp_path, monkeypatch):
    give_goals(monkeypatch, 3.0, 1.0, 0.5, 2.0, 2.5)
    preset = tiny_preset(epochs=4)

    def interrupt_third(line):
        if "epoch 3/4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("sr1", tmp_path, preset, report=interrupt_third)
    assert read_progress(tmp_path / "sr1" / "state.npz").best_goal == 1.0
    assert_published(tmp_path)
    before = stage_hash(tmp_path, "sr1")
    # the third epoch is done again, worse this time
    result = train("sr1", tmp_path, preset)
    assert result.progress.best_epoch == 2
    assert result.progress.best_goal == 1.0
    assert_published(tmp_path)
    assert stage_hash(tmp_path, "sr1") == before
    rows = (tmp_path / "sr1" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_the_best_weights_are_of_the_last_fifth(tmp_path, monkeypatch):
    """Where the learning rate has come down: before, the luckiest epoch would win."""
    give_goals(monkeypatch, 3.0, 0.5, 2.0, 1.5, 1.2, 1.0, 1.1, 1.4, 0.9, 0.95)
    result = train("sr1", tmp_path, tiny_preset(epochs=10, steps_per_epoch=1))
    assert (result.progress.best_epoch, result.progress.best_goal) == (9, 0.9)
    assert_published(tmp_path)


@pytest.mark.parametrize("killed_at", [1, 2])
def test_killed_between_state_and_weights_the_next_start_mends_the_weights(tmp_path, monkeypatch, killed_at):
    give_goals(monkeypatch, 3.0, 1.0, 2.0)
    preset, write, calls = tiny_preset(epochs=3, steps_per_epoch=1), published.write_stage, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(published, "write_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        train("sr1", tmp_path, preset)
    assert read_progress(tmp_path / "sr1" / "state.npz").best_epoch == killed_at
    result = train("sr1", tmp_path, preset)
    assert result.progress.best_epoch == 2
    assert_published(tmp_path)


def test_a_restart_that_is_interrupted_goes_on_without_restart(tmp_path):
    preset = tiny_preset(epochs=2, steps_per_epoch=1)
    train("sr1", tmp_path, preset)

    def interrupt(line):
        if "epoch 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("sr1", tmp_path, preset, replace(QUIET, restart=True), interrupt)
    assert train("sr1", tmp_path, preset).progress.epoch == 2
    assert_published(tmp_path)


def test_going_on_with_changed_code_says_so_and_the_model_names_both(tmp_path, monkeypatch):
    give_goals(monkeypatch, 3.0, 1.0)
    preset = tiny_preset(epochs=2, steps_per_epoch=1)

    def interrupt(line):
        if "epoch 2/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("sr1", tmp_path, preset, report=interrupt)
    goal = {"error_ratio": 1.0, "typical_ratio": 1.0, "coverage": 0.68, "goal": 0.5}
    monkeypatch.setattr(epoch_end, "goal_metrics", lambda *_: goal)
    first, lines = state.source_hash(), []
    monkeypatch.setattr(state, "source_hash", lambda: 64 * "f")
    train("sr1", tmp_path, preset, report=lines.append)
    warnings = [line for line in lines if "WARNING" in line]
    assert len(warnings) == 1
    assert f"(source {first[:12]})" in warnings[0]
    assert "(source ffffffffffff)" in warnings[0]
    code = read_settings(tmp_path).stages["sr1"]["code"]
    assert [(one["from_epoch"], one["sha256"]) for one in code] == [(1, first), (2, 64 * "f")]


def test_the_source_hash_sees_layers_losses_models_and_the_stage_model():
    assert all(any(state._PACKAGE.glob(pattern)) for pattern in state._SOURCES)


def test_a_frozen_stage_that_changes_is_an_error(tmp_path, monkeypatch):
    preset, upstream = tiny_preset(epochs=1, steps_per_epoch=1), {}
    train("sr1", tmp_path, preset)
    load = stage_module.load_upstream

    def loaded(*arguments):
        networks, hashes = load(*arguments)
        upstream.update(networks)
        return networks, hashes

    def change(line):
        if "epoch 1/1" in line:
            weight = upstream["sr1"].weights[0]
            weight.assign(weight.numpy() + 1e-6)

    monkeypatch.setattr(stage_module, "load_upstream", loaded)
    with pytest.raises(RuntimeError, match="zhead: training changed the weights of sr1"):
        train("zhead", tmp_path, preset, report=change)


def test_auto_is_a_policy_of_this_machine():
    """bfloat16 only where the processor multiplies it, or on a GPU."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    wanted = "mixed_bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"
    assert fast_policy("auto") == wanted
    assert fast_policy("float32") == "float32"


def test_mixed_precision_leaves_a_float32_network(tmp_path):
    preset = tiny_preset(epochs=1, steps_per_epoch=1, precision="mixed_bfloat16")
    train("sr1", tmp_path, preset)
    network = load_stage(tmp_path, "sr1")
    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}
    x = simulated(preset).validation("sr1", 2)
    outputs = network({name: x[name] for name in ("prism_flux", "prism_error", "prism_mask")})
    for value in outputs.values():
        assert np.isfinite(np.asarray(value)).all()
    assert_published(tmp_path)


def test_training_stops_where_nothing_improves(tmp_path, monkeypatch):
    monkeypatch.setattr(
        epoch_end,
        "goal_metrics",
        lambda *_: {"error_ratio": 1.0, "typical_ratio": 1.0, "coverage": 0.68, "goal": 1.0},
    )
    result = train("sr1", tmp_path, tiny_preset(epochs=9, patience=2))
    assert result.progress.epoch == 3
    assert result.progress.best_epoch == 1
    assert result.progress.stopped == "no better goal for 2 epochs"
