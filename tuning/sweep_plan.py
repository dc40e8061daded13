"""What a sweep is asked to do, and all that can be refused before the first trial."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from kspecsr.configuration import STAGES, Preset
from kspecsr.model_settings import (
    ModelFolderError,
    check_archive,
    check_same_grid,
    read_settings,
    stage_hash,
    stage_path,
)
from kspecsr.training.data import TrainingData
from tuning.space import check_space, search_space
from tuning.study_folder import (
    BEST_MODEL,
    RETRAINED_FILE,
    StudyError,
    check_output,
    check_same_study,
    read_json,
)
from tuning.sweep_settings import SweepSettings, preset_galaxies, reduced_epochs, stage_folder

_OWN_TERMS = ("sr1_line_shape", "sr1_smoothness")  # losses of the first stage alone


def upstream_folder(stage: str, output: Path, given: Path | None) -> Path | None:
    """Model folder with the stages before; None for the first stage.

    Args:
        stage: that is swept.
        output: of the studies; its own best model counts where none is given.
        given: by the user.

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
    """The preset with the earlier stages as they are in the folder: frozen networks are what they are.

    Raises:
        ModelFolderError: for a folder on another grid, naming both, or a damaged file.
    """
    if folder is None:
        return preset
    held = read_settings(folder)
    check_same_grid(held.grid, preset.model.grid, f"{folder}:", f"preset {preset.name!r}")
    for name in STAGES[: STAGES.index(stage)]:
        check_archive(stage_path(folder, name))
        for other, trained_on in held.stages.get(name, {}).get("upstream", {}).items():
            if stage_hash(folder, other) != trained_on:
                raise ModelFolderError(
                    f"{folder}: its {name} was trained on another {other} (SHA-256 {trained_on[:12]}) than "
                    f"the one there ({stage_hash(folder, other)[:12]}); train {name} again"
                )
        network = getattr(held.preset.model, name)
        preset = dataclasses.replace(preset, model=dataclasses.replace(preset.model, **{name: network}))
        preset = preset.with_training(name, **vars(held.preset.training[name]))
    terms = {name: getattr(held.preset.losses, name) for name in _OWN_TERMS}
    return dataclasses.replace(preset, losses=dataclasses.replace(preset.losses, **terms))


def described(stage: str, output: Path, folder: Path | None) -> dict[str, dict[str, str]]:
    """Name, folder and SHA-256 of each stage before, as trials record them."""
    if folder is None:
        return {}
    found = {}
    for name in STAGES[: STAGES.index(stage)]:
        label = read_settings(folder).name
        retrained = stage_folder(output, name) / RETRAINED_FILE
        if folder == output / BEST_MODEL and retrained.is_file():
            label = read_json(retrained)["name"]
        found[name] = {"name": label, "folder": str(folder), "sha256": stage_hash(folder, name)}
    return found


@dataclass(frozen=True)
class SweepPlan:
    """What is asked for.

    Attributes:
        preset: that everything starts from.
        stages: in their order.
        output: folder of the studies.
        data: record directory; None for fresh simulation.
        upstream: model with earlier stages, where the output's own best is not meant.
        axes: names; none for all.
        narrowed: axis to other values.
        trials: per stage.
        budget: of `SweepSettings`, where it is not the default.
        retrain: train the best configuration of each stage at full budget.
        retries: of a trial.
        workers: processes that simulate.
        lease: seconds after which a silent worker counts as lost.
        hours: after which a stage hands out no new trial.
    """

    preset: Preset
    stages: tuple[str, ...]
    output: Path
    data: Path | None
    upstream: Path | None
    axes: tuple[str, ...]
    narrowed: dict[str, str]
    trials: int
    budget: dict
    retrain: bool
    retries: int = 2
    workers: int = 1
    lease: float = 60.0
    hours: float = float("inf")


def settings_of(plan: SweepPlan, stage: str) -> tuple[SweepSettings, Path | None]:
    """Settings of a stage's sweep, and the model folder with the stages before it.

    Raises:
        AxisError: for a bad axis.
        StudyError: for a missing upstream stage.
        ModelFolderError: for one that does not fit.
        ValueError: for data on another grid, or a bad budget.
    """
    folder = upstream_folder(stage, plan.output, plan.upstream)
    preset = adopt(plan.preset, stage, folder)
    axes = search_space(stage, plan.axes, plan.narrowed)
    budget = {
        "epochs": reduced_epochs(preset, stage),
        "galaxies": preset_galaxies(preset, stage),
        "validation": preset.training[stage].validation_size,
        **{name: value for name, value in plan.budget.items() if value is not None},
    }
    budget["first_epochs"] = min(budget.get("first_epochs", 1), budget["epochs"])
    settings = SweepSettings(
        stage=stage,
        preset=preset,
        axes=axes,
        upstream=described(stage, plan.output, folder),
        data=_data_description(plan, preset, stage, budget),
        **budget,
    )
    check_space(preset, stage, axes)
    return settings, folder


def _data_description(plan: SweepPlan, preset: Preset, stage: str, budget: dict) -> dict:
    """What the examples are; reads one of the galaxies that judge, so that nothing is missing later."""
    data = TrainingData(plan.data, preset.feed, preset.model.grid, budget.get("seed", 0), workers=0)
    if plan.data is not None:
        data.validation(stage, 1)
    with data.open(stage, preset.training[stage].batch_size) as feed:
        return feed.description


def check_plan(plan: SweepPlan) -> None:
    """Refuses what cannot be swept, before the first trial.

    Raises:
        Everything that `settings_of` does, and StudyError for a folder that is another study's or none.
    """
    check_output(plan.output)
    for stage in STAGES:
        if stage in plan.stages:
            search_space(stage, plan.axes, plan.narrowed)
    settings, _ = settings_of(plan, plan.stages[0])
    check_same_study(settings, plan.output)
    for stage in plan.stages[1:]:
        check_space(plan.preset, stage, search_space(stage, plan.axes, plan.narrowed))
