"""The frozen stages that a sweep builds on: where they are, and what they are by name and hash."""

from __future__ import annotations

import dataclasses
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
from tuning.study_folder import BEST_MODEL, RETRAINED_FILE, StudyError, read_json
from tuning.sweep_settings import stage_folder

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
