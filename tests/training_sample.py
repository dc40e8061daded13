"""A model so small that its training takes seconds, for the tests of training."""

import warnings
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.configuration import ModelConfig, Preset, SR1Config, SR2Config, TrainingConfig, ZHeadConfig
from kspecsr.model_folder import load_stage, read_settings
from kspecsr.training.data import TrainingData
from kspecsr.training.run_settings import TrainingOptions
from kspecsr.training.stage import train_stage
from kspecsr.training.state import read_best, read_progress

GRID = UnifiedGrid(1.0, 2.0, 500.0)
QUIET = TrainingOptions(pictures=False)


def tiny_preset(grid=GRID, **training):
    settings = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 4, "validation_size": 8, **training}
    return Preset(
        name="tiny",
        model=ModelConfig(
            grid=grid,
            sr1=SR1Config(channels=8, blocks=1, head_channels=4),
            zhead=ZHeadConfig(channels=8, layers=1, templates=4, groups=2),
            sr2=SR2Config(
                half_width=4,
                window_channels=4,
                token_dim=8,
                heads=2,
                layers=1,
                knots=8,
                continuum_channels=4,
                continuum_blocks=1,
            ),
        ),
        training={stage: TrainingConfig(**settings) for stage in ("sr1", "zhead", "sr2")},
    )


def simulated(preset, seed=0):
    return TrainingData(None, preset.feed, preset.model.grid, seed, workers=0)


def silent(line):
    pass


@contextmanager
def untraced():
    """TensorFlow's functions run as they are: for a few steps that is quicker than to trace them."""
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"(?s).*does not apply to tf\.data functions")
            yield
    finally:
        tf.config.run_functions_eagerly(False)


def train(stage, output, preset=None, options=QUIET, report=silent):
    preset = preset or tiny_preset()
    return train_stage(stage, preset, simulated(preset), output, options, report)


def assert_published(output, stage="sr1"):
    """The model folder holds the best epoch that the state names, weights and words."""
    path = output / stage / "state.npz"
    progress, best = read_progress(path), read_best(path)
    for held, expected in zip(load_stage(output, stage).get_weights(), best, strict=True):
        assert np.array_equal(held, expected)
    entry = read_settings(output).stages[stage]
    assert (entry["epoch"], entry["goal"]) == (progress.best_epoch, progress.best_goal)
