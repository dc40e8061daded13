"""What a sweep is asked to do, and all that can be refused before the first trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kspecsr.configuration import STAGES, Preset
from kspecsr.training.data import TrainingData
from tuning.space import check_space, search_space
from tuning.study_folder import check_output, check_same_study
from tuning.sweep_settings import SweepSettings, preset_galaxies, reduced_epochs
from tuning.upstream import adopt, described, upstream_folder


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
