"""A study: the settings of one stage's sweep, and its folder on disk. Needs no Keras."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_pipeline.configuration import differences, to_dict
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import STAGES, Preset
from kspecsr.configuration.model import check_choice, check_range
from tuning.space import Axis, steps_for, with_values
from tuning.trial_record import TrialRecord, best_of, read_records

ALGORITHMS = ("hyperband", "bayesian", "random")
STUDY_FILE = "study.json"
FINISHED_FILE = "finished.json"
RESULT_FILE = "result.json"
RETRAINED_FILE = "retrained.json"
BEST_MODEL = "best"  # model folder with the best configurations, trained at full budget
_SR1_LOSSES = ("sr1_line_shape", "sr1_smoothness")  # loss weights that belong to the first stage
_SHOWN = 4  # names in an error


class StudyError(ValueError):
    """An output folder that a sweep cannot work in; the text says why and what to do."""


@dataclass(frozen=True)
class SweepSettings:
    """Settings of one stage's sweep; a folder's study keeps the ones that it was begun with.

    Attributes:
        stage: stage that is swept.
        preset: start of the sweep: everything that is no axis, and the full budget.
        axes: axes of the search.
        algorithm: ``hyperband``: tree-structured Parzen estimator with successive halving; ``bayesian``: the
            same estimator, all trials trained to the end; ``random``.
        epochs: most epochs of a trial; its learning rate decays over these.
        first_epochs: epochs before which no trial is stopped.
        factor: reduction factor of successive halving: one trial of so many goes on.
        galaxies: number of galaxies in an epoch.
        validation: number of galaxies that measure the goal.
        seed: seed of proposals, weights and examples, the same for all trials.
        upstream: earlier stage to the name, folder and SHA-256 of the model that it is taken from.
        data: description of the training examples.
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
        least = {"epochs": 1, "first_epochs": 1, "factor": 2, "galaxies": 1, "validation": 1, "seed": 0}
        for name, low in least.items():
            check_range(name, getattr(self, name), low)
        if self.first_epochs > self.epochs:
            raise ValueError(
                f"first_epochs: expected no more than the {self.epochs} epochs, got {self.first_epochs}"
            )

    def trial_preset(self, values: dict[str, Any]) -> Preset:
        """Preset of a trial, at the sweep's budget."""
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
        """Preset with a trial's values, at the full budget."""
        return replace(with_values(self.preset, self.stage, self.axes, values), name=name)

    def to_config(self) -> dict[str, Any]:
        """Plain JSON values; two sweeps with the same ones are the same study."""
        config = to_dict(self)
        # names and places of models may change while the models stay the same
        config["preset"].pop("name")
        config["upstream"] = {stage: {"sha256": model["sha256"]} for stage, model in self.upstream.items()}
        config["axes"] = {axis["name"]: axis for axis in config["axes"]}
        return config


def stage_folder(output: Path, stage: str) -> Path:
    """Folder of a stage's study."""
    return output / stage


def trial_folder(output: Path, stage: str, name: str) -> Path:
    """Folder of a trial."""
    return stage_folder(output, stage) / f"trial_{name}"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        StudyError: for a damaged file, naming it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); get an unaltered copy, or another --output"
        ) from None


def studies(output: Path) -> list[str]:
    """Stages that the folder holds a study of, in their order."""
    return [stage for stage in STAGES if (stage_folder(output, stage) / STUDY_FILE).is_file()]


def check_output(output: Path) -> None:
    """Refuse a folder that holds something other than studies.

    Raises:
        StudyError: naming what it holds.
    """
    if output.exists() and not output.is_dir():
        raise StudyError(f"{output}: a file; expected a folder, or a name that is free")
    if not output.is_dir() or studies(output):
        return
    present = sorted(path.name for path in output.iterdir() if not _is_empty_study(path))
    if present:
        raise StudyError(
            f"{output}: holds {', '.join(present[:_SHOWN])}{' ...' if len(present) > _SHOWN else ''} and no "
            f"{STUDY_FILE} of a sweep; give another --output"
        )


def _is_empty_study(path: Path) -> bool:
    """A stage's folder with nothing but hidden files: the lock of a chief, or of a killed one."""
    return path.name in STAGES and path.is_dir() and all(file.name.startswith(".") for file in path.iterdir())


def check_same_study(settings: SweepSettings, output: Path) -> None:
    """Refuse a folder that holds the study of another sweep.

    Raises:
        StudyError: naming the first differences.
    """
    path = stage_folder(output, settings.stage) / STUDY_FILE
    if not path.is_file():
        return
    before, now = read_json(path)["settings"], settings.to_config()
    for config in (before, now):
        config["axes"] = {name: Axis.from_config(axis).words for name, axis in config["axes"].items()}
    if changed := differences(before, now):
        raise StudyError(
            f"{output}: holds another study of {settings.stage}: {changed}. "
            "Give the options that it was begun with to go on with it (more --trials are welcome), or "
            "another --output"
        )


def write_study(settings: SweepSettings, output: Path, trials: int) -> None:
    """Write the settings of a study into its folder."""
    content = {
        "settings": settings.to_config(),
        "trials": trials,
        "preset": to_dict(settings.preset),
        "upstream": settings.upstream,
    }
    write_json(stage_folder(output, settings.stage) / STUDY_FILE, content)


def read_study(output: Path, stage: str) -> SweepSettings:
    """Settings of a stage's study.

    Raises:
        StudyError: if there is none, or its file is damaged.
    """
    path = stage_folder(output, stage) / STUDY_FILE
    if not path.is_file():
        raise StudyError(
            f"{output}: holds no sweep of {stage} ({', '.join(studies(output)) or 'nor of any other stage'} "
            "there); expected a folder that kspecsr tune wrote"
        )
    content = read_json(path)
    try:
        settings = {**content["settings"], "upstream": content["upstream"]}
        settings["preset"] = Preset.from_json(json.dumps(content["preset"]))
        settings["axes"] = tuple(Axis.from_config(axis) for axis in settings["axes"].values())
        return SweepSettings(**settings)
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: {type(error).__name__}: {error}; get an unaltered copy") from None


def study_records(output: Path, settings: SweepSettings) -> list[TrialRecord]:
    """All trials of a study, in their order."""
    return read_records(stage_folder(output, settings.stage), settings.epochs)


def best_preset(output: Path, stages: Sequence[str]) -> Preset:
    """Preset with the best trial's values of each stage, at full budget.

    Args:
        output: folder of the studies.
        stages: stages in their order; a later one was swept on the best of the earlier ones.

    Raises:
        StudyError: for a missing study, or one without a finished trial that has a finite goal.
    """
    preset = None
    for number, stage in enumerate(stages):
        settings = read_study(output, stage)
        best = best_of(study_records(output, settings))
        if best is None:
            raise StudyError(f"{output}: no trial of {stage} has finished with a finite goal yet")
        chosen = settings.full_preset(dict(best.values), f"{output.resolve().name}-best")
        preset = chosen if preset is None else with_stages_of(chosen, preset, stages[:number])
    return preset


def with_stages_of(preset: Preset, other: Preset, stages: Sequence[str]) -> Preset:
    """A preset that takes networks, training and losses of earlier stages from another one."""
    for stage in stages:
        network = {stage: getattr(other.model, stage)}
        preset = replace(preset, model=replace(preset.model, **network))
        preset = preset.with_training(stage, **vars(other.training[stage]))
    losses = {name: getattr(other.losses, name) for name in _SR1_LOSSES}
    return replace(preset, losses=replace(preset.losses, **losses))


def write_preset(preset: Preset, path: Path) -> None:
    """Write a preset as JSON, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(preset.to_json() + "\n", encoding="utf-8")
