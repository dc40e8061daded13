"""Settings of one stage's sweep: what a folder's study is, and has to stay."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.configuration import to_dict
from kspecsr.configuration import Preset
from kspecsr.configuration.model import check_choice, check_range
from tuning.axis import Axis
from tuning.space import steps_for, with_values

ALGORITHMS = ("hyperband", "bayesian", "random")
_REDUCED = 3  # a sweep trains for this share of the preset's epochs


@dataclass(frozen=True)
class SweepSettings:
    """One stage's sweep.

    Attributes:
        stage: that is swept.
        preset: that the trials start from: everything that is no axis, and the full budget.
        axes: of the search.
        algorithm: ``hyperband``: tree-structured Parzen estimator, and successive halving stops what lags
            behind; ``bayesian``: the same estimator, all trials to their end; ``random``.
        epochs: most epochs of a trial; its learning rate decays over these.
        first_epochs: before these no trial is stopped.
        factor: of successive halving: one of so many goes on.
        galaxies: in an epoch.
        validation: galaxies on which the goal is measured.
        seed: of proposals, weights and examples; the same for all trials.
        upstream: stage to the model that it is taken from: its name, folder and SHA-256.
        data: description of the examples.
    """

    stage: str
    preset: Preset
    axes: tuple[Axis, ...]
    algorithm: str = "hyperband"
    epochs: int = 8
    first_epochs: int = 1
    factor: int = 3
    galaxies: int = 1600
    validation: int = 256
    seed: int = 0
    upstream: dict[str, dict[str, str]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        for name, least in (("epochs", 1), ("first_epochs", 1), ("factor", 2), ("galaxies", 1)):
            check_range(name, getattr(self, name), least)
        check_range("validation", self.validation, 1)
        check_range("seed", self.seed, 0)
        if self.first_epochs > self.epochs:
            raise ValueError(
                f"first_epochs: expected no more than the {self.epochs} epochs, got {self.first_epochs}"
            )

    def trial_preset(self, values: dict[str, Any]) -> Preset:
        """Preset of a trial at the sweep's budget."""
        training = self.preset.training[self.stage]
        preset = self.preset.with_training(
            self.stage,
            epochs=self.epochs,
            steps_per_epoch=steps_for(self.galaxies, training.batch_size),
            validation_size=self.validation,
            patience=0,
        )
        return with_values(preset, self.stage, self.axes, values)

    def full_preset(self, values: dict[str, Any], name: str) -> Preset:
        """Preset with a trial's values and the full budget of the one that the sweep started from."""
        preset = with_values(self.preset, self.stage, self.axes, values)
        return Preset(name, preset.model, preset.losses, preset.training, preset.feed)

    def to_config(self) -> dict[str, Any]:
        """As plain JSON values; two sweeps with equal ones are the same study."""
        # where a model lies is no part of what it is
        upstream = {stage: {"sha256": entry["sha256"]} for stage, entry in self.upstream.items()}
        own = {
            name: value for name, value in vars(self).items() if name not in ("preset", "axes", "upstream")
        }
        preset = to_dict(self.preset)
        preset.pop("name")
        axes = {axis.name: axis.to_config() for axis in self.axes}
        return {**own, "upstream": upstream, "axes": axes, "preset": preset}


def reduced_epochs(preset: Preset, stage: str) -> int:
    """Epochs of a trial where none are asked for."""
    return math.ceil(preset.training[stage].epochs / _REDUCED)


def preset_galaxies(preset: Preset, stage: str) -> int:
    """Galaxies that the preset sees in an epoch."""
    training = preset.training[stage]
    return training.steps_per_epoch * training.batch_size


def stage_folder(output: Path, stage: str) -> Path:
    """Where a stage's sweep lies."""
    return output / stage
