"""Every axis of every search space does something: a training step with another value comes out otherwise."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from kspecsr.configuration import STAGES, FeedConfig, LossConfig, Preset, TrainingConfig
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import simulated_examples
from kspecsr.training.optimizer import GuardedAdamW, learning_rate_schedule
from kspecsr.training.stage_model import StageModel
from training_sample import tiny_preset
from tuning.space import SPACES, search_space, values_of, with_values

# terms that are off in the preset have to be on for their weights to be told apart
PRESET = Preset(
    name="axes",
    model=tiny_preset().model,
    losses=LossConfig(sr1_line_shape=0.03, sr1_smoothness=0.001, residual_l1=0.001),
    training={stage: TrainingConfig(batch_size=16, steps_per_epoch=4, epochs=2) for stage in STAGES},
)
ALL = [(stage, axis.name) for stage in STAGES for axis in SPACES[stage]]


def galaxies(count):
    return split_batch(simulated_examples(np.arange(count), 5, FeedConfig(), PRESET.model.grid))


@pytest.fixture(scope="module")
def batches():
    whole = galaxies(16)
    return lambda count: tuple({name: value[:count] for name, value in part.items()} for part in whole)


@pytest.fixture(scope="module")
def frozen():
    keras.utils.set_random_seed(1)
    networks = {}
    for stage in STAGES[:2]:
        networks[stage] = StageModel(stage, PRESET, networks).stage_network
    return networks


def after_a_step(stage, preset, frozen, batches):
    """Weights after one step as a training would do it."""
    keras.utils.set_random_seed(2)
    config = preset.training[stage]
    model = StageModel(stage, preset, {k: v for k, v in frozen.items() if k != stage})
    model.build(None)
    optimizer = GuardedAdamW(
        learning_rate_schedule(config), weight_decay=config.weight_decay, clip_norm=config.clip_norm
    )
    model.compile(optimizer=optimizer, run_eagerly=True, jit_compile=False)
    x, y = batches(config.batch_size // 4)
    if stage == "sr2":
        x = {**x, "redshift": y["true_redshift"]}
    model.train_on_batch(x, y)
    return [np.array(weight) for weight in model.stage_network.get_weights()], config.steps_per_epoch


def small_values(stage, axes):
    """The preset's values, and sizes at the low end, so that a step takes no time."""
    values = values_of(PRESET, stage, axes)
    for axis in axes:
        if axis.step:
            values[axis.name] = int(axis.low)
    return values


def another(axis, value):
    """A value far from the first one."""
    if axis.choices:
        return axis.choices[(axis.choices.index(value) + 1) % len(axis.choices)]
    ends = [axis.nearest(axis.low), axis.nearest(axis.high)]
    if axis.step:
        return axis.values()[1]
    return max(ends, key=lambda end: abs(np.log(end / value)) if axis.log else abs(end - value))


@pytest.fixture(scope="module")
def unchanged(frozen, batches):
    found = {}
    for stage in STAGES:
        axes = search_space(stage)
        preset = with_values(PRESET, stage, axes, small_values(stage, axes))
        found[stage] = after_a_step(stage, preset, frozen, batches)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_values_come_out_the_same(stage, unchanged, frozen, batches):
    axes = search_space(stage)
    preset = with_values(PRESET, stage, axes, small_values(stage, axes))
    again, _ = after_a_step(stage, preset, frozen, batches)
    assert all(map(np.array_equal, unchanged[stage][0], again))


@pytest.mark.parametrize(("stage", "name"), ALL, ids=["-".join(each) for each in ALL])
def test_no_axis_is_dead(stage, name, unchanged, frozen, batches):
    axes = search_space(stage)
    values = small_values(stage, axes)
    axis = next(axis for axis in axes if axis.name == name)
    values[name] = another(axis, values[name])
    preset = with_values(PRESET, stage, axes, values)
    weights, steps = after_a_step(stage, preset, frozen, batches)
    before, steps_before = unchanged[stage]
    same_shapes = [w.shape for w in before] == [w.shape for w in weights]
    if name == "batch_size":
        assert steps * values[name] == steps_before * 16  # as many galaxies in an epoch
    if axis.step or name == "heads":  # another network
        assert not same_shapes or name == "half_width"
    assert not same_shapes or not all(map(np.array_equal, before, weights))


def test_a_trial_changes_nothing_but_its_axes():
    axes = search_space("sr1", ("width", "line_fidelity"))
    preset = with_values(PRESET, "sr1", axes, {"width": 64, "line_fidelity": 0.3})
    assert preset.model.sr1 == replace(PRESET.model.sr1, channels=64)
    assert preset.losses == replace(PRESET.losses, sr1_line_shape=0.3)
    assert preset.training == PRESET.training
    assert (preset.model.zhead, preset.model.sr2) == (PRESET.model.zhead, PRESET.model.sr2)
