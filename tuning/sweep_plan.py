"""The plan of a sweep, and everything that can be refused before the first trial."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from kspecsr.configuration import STAGES, Preset
from kspecsr.model_settings import (
    check_archive,
    check_same_grid,
    check_upstream,
    read_settings,
    stage_hash,
    stage_path,
)
from kspecsr.training.data import TrainingData
from tuning.space import check_space, galaxies_per_epoch, search_space
from tuning.study import (
    BEST_MODEL,
    RETRAINED_FILE,
    StudyError,
    SweepSettings,
    check_output,
    check_same_study,
    read_json,
    stage_folder,
    with_stages_of,
)

_REDUCED = 3  # a trial trains for this part of the preset's epochs


@dataclass(frozen=True)
class SweepPlan:
    """What the user asks for.

    Attributes:
        preset: start of everything.
        stages: stages to sweep, in their order.
        output: folder of the studies.
        data: record directory; None for fresh simulation.
        upstream: model with the earlier stages; None for the output's own best.
        axes: names of the axes; empty for all.
        narrowed: axis name to other values.
        trials: number of trials per stage.
        budget: fields of `SweepSettings`; None for their defaults.
        retrain: train the best configuration of each stage at full budget.
        retries: further attempts at a killed trial.
        workers: number of processes that simulate.
        lease: seconds after which a silent worker counts as lost.
        hours: hours after which a stage hands out no new trial.
    """

    preset: Preset
    stages: tuple[str, ...]
    output: Path
    data: Path | None = None
    upstream: Path | None = None
    axes: tuple[str, ...] = ()
    narrowed: dict[str, str] = field(default_factory=dict)
    trials: int = 30
    budget: dict = field(default_factory=dict)
    retrain: bool = False
    retries: int = 2
    workers: int = 1
    lease: float = 60.0
    hours: float = float("inf")


def upstream_folder(stage: str, output: Path, given: Path | None) -> Path | None:
    """Model folder with the earlier stages; None for the first stage.

    Args:
        stage: stage that is swept.
        output: folder of the studies, whose own best model counts if none is given.
        given: model folder that the user names.

    Raises:
        StudyError: if a stage is missing, saying how to get it.
    """
    needed = STAGES[: STAGES.index(stage)]
    if not needed:
        return None
    folder = given or output / BEST_MODEL
    missing = [name for name in needed if not stage_path(folder, name).is_file()]
    if missing:
        where = f"{folder} holds no {' and no '.join(f'{name}.keras' for name in missing)}"
        raise StudyError(
            f"{stage} is swept on the frozen {' and '.join(needed)}, but {where}; sweep from the beginning "
            f"(--stage all), or {missing[0]} first with --retrain, or name a model that has "
            f"{'them' if len(missing) > 1 else 'it'} with --upstream, such as saved_models/default"
        )
    return folder


def adopt(preset: Preset, stage: str, folder: Path | None) -> Preset:
    """The preset with the earlier stages of the model folder, whose networks are frozen.

    Raises:
        ModelFolderError: for a folder on another grid, naming both, or a damaged file.
    """
    if folder is None:
        return preset
    needed, settings = STAGES[: STAGES.index(stage)], read_settings(folder)
    check_same_grid(settings.grid, preset.model.grid, f"{folder}:", f"preset {preset.name!r}")
    for name in needed:
        check_archive(stage_path(folder, name))
    check_upstream(folder, settings, needed)
    return with_stages_of(preset, settings.preset, needed)


def upstream_models(stage: str, output: Path, folder: Path | None) -> dict[str, dict[str, str]]:
    """Name, folder and SHA-256 of each earlier stage, as trials record them."""
    models = {}
    for name in STAGES[: STAGES.index(stage)]:
        label = read_settings(folder).name
        retrained = stage_folder(output, name) / RETRAINED_FILE
        if folder == output / BEST_MODEL and retrained.is_file():
            label = read_json(retrained)["name"]
        models[name] = {"name": label, "folder": str(folder), "sha256": stage_hash(folder, name)}
    return models


def settings_of(plan: SweepPlan, stage: str) -> tuple[SweepSettings, Path | None]:
    """Settings of a stage's sweep, and the model folder with the earlier stages.

    Raises:
        AxisError: for a bad axis.
        StudyError: for a missing earlier stage.
        ModelFolderError: for an earlier stage that does not fit.
        ValueError: for data on another grid, or a bad budget.
    """
    folder = upstream_folder(stage, plan.output, plan.upstream)
    preset = adopt(plan.preset, stage, folder)
    axes = search_space(stage, plan.axes, plan.narrowed)
    budget = {
        "epochs": math.ceil(preset.training[stage].epochs / _REDUCED),
        "galaxies": galaxies_per_epoch(preset, stage),
        "validation": preset.training[stage].validation_size,
        **{name: value for name, value in plan.budget.items() if value is not None},
    }
    budget["first_epochs"] = min(budget.get("first_epochs", 1), budget["epochs"])
    settings = SweepSettings(
        stage=stage,
        preset=preset,
        axes=axes,
        upstream=upstream_models(stage, plan.output, folder),
        data=_data_description(plan, preset, stage, budget.get("seed", 0)),
        **budget,
    )
    check_space(preset, stage, axes)
    return settings, folder


def _data_description(plan: SweepPlan, preset: Preset, stage: str, seed: int) -> dict:
    """Description of the training examples; damaged or missing validation galaxies are noticed here."""
    data = TrainingData(plan.data, preset.feed, preset.model.grid, seed, workers=0)
    if plan.data is not None:
        data.validation(stage, 1)
    with data.open(stage, preset.training[stage].batch_size) as feed:
        return feed.description


def check_plan(plan: SweepPlan) -> None:
    """Refuse what cannot be swept, before the first trial.

    Raises:
        Everything that `settings_of` raises, and StudyError for a folder that holds something else.
    """
    check_output(plan.output)
    for stage in plan.stages:
        search_space(stage, plan.axes, plan.narrowed)
    settings, _ = settings_of(plan, plan.stages[0])
    check_same_study(settings, plan.output)
    for stage in plan.stages[1:]:
        check_space(plan.preset, stage, search_space(stage, plan.axes, plan.narrowed))
