"""The best configuration as a preset that ``python -m kspecsr.train --preset FILE`` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import Preset
from tuning.study_folder import StudyError, read_study, study_records
from tuning.trial_record import best_of


def best_preset(output: Path, stages: Sequence[str]) -> Preset:
    """Preset with the best trial's values of each stage, at full budget.

    Args:
        output: folder of the studies.
        stages: in their order; a later one was swept on the best of the earlier ones.

    Raises:
        StudyError: for a missing study, or one without a trial that may be chosen.
    """
    preset = None
    for stage in stages:
        settings = read_study(output, stage)
        best = best_of(study_records(output, settings))
        if best is None:
            raise StudyError(f"{output}: no trial of {stage} has finished with a finite goal yet")
        chosen = settings.full_preset(dict(best.values), f"{output.resolve().name}-best")
        if preset is not None:
            chosen = _with_stages_of(chosen, preset, stages[: stages.index(stage)])
        preset = chosen
    return preset


def _with_stages_of(preset: Preset, earlier: Preset, stages: Sequence[str]) -> Preset:
    """The later preset, with the networks and training of stages that were swept before."""
    for stage in stages:
        network = {stage: getattr(earlier.model, stage)}
        preset = dataclasses.replace(preset, model=dataclasses.replace(preset.model, **network))
        preset = preset.with_training(stage, **vars(earlier.training[stage]))
    own = {name: getattr(earlier.losses, name) for name in ("sr1_line_shape", "sr1_smoothness")}
    return dataclasses.replace(preset, losses=dataclasses.replace(preset.losses, **own))


def write_preset(preset: Preset, path: Path) -> None:
    """Writes it as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(preset.to_json() + "\n", encoding="utf-8")
