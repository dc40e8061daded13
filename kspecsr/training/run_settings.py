"""Options of a training, and the checks that it fits what its folder holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.configuration import differences, to_dict
from kspecsr.configuration import STAGES, LossConfig, Preset, TrainingConfig
from kspecsr.model_folder import copy_stage, load_stage
from kspecsr.model_settings import (
    SETTINGS_FILE,
    ModelSettings,
    check_same_grid,
    read_settings,
    stage_hash,
    stage_path,
)
from kspecsr.training.data import TrainingData
from kspecsr.training.state import Progress, StateError


class UpstreamError(ValueError):
    """An earlier stage that is missing or does not fit; the text says what to do."""


def stage_settings(
    stage: str,
    preset: Preset,
    data: Mapping[str, Any],
    upstream: Mapping[str, str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Settings of a stage's training as plain JSON values: everything that the weights depend on.

    ``data`` describes the examples, ``upstream`` has the SHA-256 of each earlier stage's file.
    """
    everything = to_dict(preset)
    return {
        **{name: everything["model"][name] for name in ("grid", "lines") if name in everything["model"]},
        "model": everything["model"][stage],
        "losses": everything["losses"],
        "training": everything["training"][stage],
        "data": dict(data),
        "upstream": dict(upstream),
        **options,
    }


def check_same_settings(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to resume a training with other settings.

    Raises:
        StateError: naming the first differences.
    """
    # a loss term that is newer than the training had no weight in it
    newer = {name: weight for name, weight in to_dict(LossConfig()).items() if weight == 0.0}
    before = {**before, "losses": {**newer, **before.get("losses", {})}}
    if changed := differences(before, now):
        raise StateError(
            f"{folder} holds a training with other settings: {changed}. Give "
            "the same settings to go on with it, --restart to begin again, or another --output"
        )


def _check_networks(folder: Path, held: ModelSettings, stages: Sequence[str], preset: Preset) -> None:
    """Refuse stages of a folder that are not the networks of the preset.

    Raises:
        ModelFolderError: for another grid, naming both.
        UpstreamError: for another network on the same grid.
    """
    check_same_grid(held.grid, preset.model.grid, f"{folder}: {', '.join(stages)}", f"preset {preset.name!r}")
    for stage in stages:
        # Its file would load, but model.json states one preset for all stages.
        if getattr(held.preset.model, stage) != getattr(preset.model, stage):
            raise UpstreamError(
                f"{folder}: its {stage} is not the one of preset {preset.name!r} (model.{stage} differs); "
                "give the preset that it was trained with, or another --output"
            )


def load_upstream(folder: Path, stage: str, preset: Preset) -> tuple[dict, dict[str, str]]:
    """Networks of the earlier stages, and the SHA-256 of their files.

    Raises:
        UpstreamError: for a missing stage.
        ModelFolderError: for a damaged one or one on another grid, naming both grids.
    """
    needed = STAGES[: STAGES.index(stage)]
    missing = [name for name in needed if not stage_path(folder, name).is_file()]
    if missing:
        raise UpstreamError(
            f"{stage} is trained on {' and '.join(needed)}, but {folder} holds no {missing[0]}.keras; train "
            f"it first (--stage {missing[0]} or --stage all), or name a model that has it with --upstream"
        )
    # Before the networks are loaded and trained on for hours: shapes may agree where settings do not.
    if needed and (folder / SETTINGS_FILE).is_file():
        held = read_settings(folder)
        if known := [name for name in needed if name in held.stages]:
            _check_networks(folder, held, known, preset)
    return (
        {name: load_stage(folder, name, preset.training[stage].precision) for name in needed},
        {name: stage_hash(folder, name) for name in needed},
    )


def copy_upstream(source: Path, folder: Path, stage: str, preset: Preset) -> None:
    """Copy earlier stages that a run folder lacks from another model, so that it is complete.

    Raises:
        UpstreamError: if the other model lacks one, or has one trained on other stages than the folder's.
        ModelFolderError: for one on another grid, naming both grids.
    """
    for name in STAGES[: STAGES.index(stage)]:
        if stage_path(folder, name).is_file():
            continue
        if not stage_path(source, name).is_file():
            raise UpstreamError(f"{source} holds no {name}.keras, which {stage} is trained on")
        held = read_settings(source)
        _check_networks(source, held, (name,), preset)
        for other, trained_on in held.stages.get(name, {}).get("upstream", {}).items():
            if stage_path(folder, other).is_file() and stage_hash(folder, other) != trained_on:
                raise UpstreamError(
                    f"{source}: its {name} was trained on another {other} (SHA-256 {trained_on[:12]}) than "
                    f"the one in {folder} ({stage_hash(folder, other)[:12]}); train {name} here first "
                    f"(--stage {name}), or give another --output"
                )
        copy_stage(source, folder, name, preset, held.stages.get(name, {}))


def check_first_weights(source: Path, folder: Path, stage: str, preset: Preset, other_stages: bool) -> None:
    """Refuse first weights on another grid, or of a stage trained on other ones than those in the folder.

    A stage of the folder that was itself fine-tuned from the same model counts as that model's. With
    ``other_stages`` the earlier stages belong to another model by intention (--upstream).

    Raises:
        ModelFolderError: for another grid, naming both, or a missing stage.
        UpstreamError: naming the hashes.
    """
    held = read_settings(source)
    check_same_grid(held.grid, preset.model.grid, f"{source}: {stage}", f"preset {preset.name!r}")
    if stage == "sr2" and held.preset.model.lines != preset.model.lines:
        raise UpstreamError(
            f"{source}: its sr2 measures the list of lines {held.preset.model.lines!r}, preset "
            f"{preset.name!r} {preset.model.lines!r}; no other list has its weights: leave out --init-from"
        )
    if other_stages or not (folder / SETTINGS_FILE).is_file():
        return
    own = read_settings(folder).stages
    for name in STAGES[: STAGES.index(stage)]:
        if not stage_path(folder, name).is_file():
            continue
        here, there = stage_hash(folder, name), stage_hash(source, name)
        # The folder's own stage counts as the source's where it was fine-tuned from it.
        if there not in (here, own.get(name, {}).get("init_from")):
            raise UpstreamError(
                f"{folder} holds another {name} (SHA-256 {here[:12]}) than {source} ({there[:12]}), from "
                f"which {stage} would start; train {name} from it first, give another --output, or say with "
                "--upstream that they do not belong together"
            )


@dataclass(frozen=True)
class TrainingOptions:
    """How a stage is trained, beside its preset.

    Attributes:
        seed: seed of weights, dropout and examples.
        deterministic: repeatable to the last bit, slower.
        devices: number of GPUs that share a batch.
        jit: compile with XLA; ``auto`` leaves it to Keras.
        restart: begin again if the folder holds a training.
        init_from: model folder whose weights are the first ones.
        upstream: model folder whose earlier stages are taken if the output has none.
        pictures: draw one per epoch.
        bar: show the steps of an epoch.
        stop_after: called with the row of each epoch once it is on disk; True ends the training there for
            now, and the next start continues it.
    """

    seed: int = 0
    deterministic: bool = False
    devices: int = 1
    jit: bool | str = "auto"
    restart: bool = False
    init_from: Path | None = None
    upstream: Path | None = None
    pictures: bool = True
    bar: bool = True
    stop_after: Callable[[Mapping[str, float]], bool] | None = None


@dataclass(frozen=True)
class StageRun:
    """The training of one stage: what, with which examples, into which folder and how.

    Attributes:
        stage: ``sr1``, ``zhead`` or ``sr2``.
        preset: networks, losses, schedule.
        data: training examples and validation galaxies.
        output: model folder.
        options: how it is trained.
        report: called with each line of text.
    """

    stage: str
    preset: Preset
    data: TrainingData
    output: Path
    options: TrainingOptions
    report: Callable[[str], None]

    @property
    def config(self) -> TrainingConfig:
        """Optimiser and schedule of the stage."""
        return self.preset.training[self.stage]

    @property
    def folder(self) -> Path:
        """Folder of the stage's logs, pictures and state."""
        return self.output / self.stage

    @property
    def state(self) -> Path:
        """File that the training is resumed from."""
        return self.folder / "state.npz"


@dataclass(frozen=True)
class StageResult:
    """Outcome of a stage's training.

    Attributes:
        stage: name of the stage.
        progress: best goal, number of epochs, and why it stopped.
        path: file with the best weights.
    """

    stage: str
    progress: Progress
    path: Path
