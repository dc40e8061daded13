"""A study on disk: whose it is, what came of its trials, and whether it is over."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import STAGES, Preset
from kspecsr.configuration.differences import differences
from tuning.axis import Axis
from tuning.sweep_settings import SweepSettings, stage_folder
from tuning.trial_record import TrialRecord, best_of, read_records

STUDY_FILE = "study.json"
FINISHED_FILE = "finished.json"
RESULT_FILE = "result.json"
RETRAINED_FILE = "retrained.json"
BEST_MODEL = "best"  # model folder with the best configurations at full budget
_SHOWN = 4  # names in an error


class StudyError(ValueError):
    """An output folder that a sweep cannot work in; the text says why and what to do."""


def write_json(path: Path, content: Any) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads one.

    Raises:
        StudyError: for a damaged file, naming it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); get an unaltered copy, or another --output"
        ) from None


def check_output(output: Path) -> None:
    """Refuses a folder that holds something else than studies.

    Raises:
        StudyError: naming what lies there.
    """
    if output.exists() and not output.is_dir():
        raise StudyError(f"{output}: a file; expected a folder, or a name that is free")
    if not output.is_dir() or any((stage_folder(output, stage) / STUDY_FILE).is_file() for stage in STAGES):
        return
    there = sorted(path.name for path in output.iterdir() if not _is_begun(path))
    if there:
        raise StudyError(
            f"{output}: holds {', '.join(there[:_SHOWN])}{' ...' if len(there) > _SHOWN else ''} and no "
            f"{STUDY_FILE} of a sweep; give another --output"
        )


def _is_begun(path: Path) -> bool:
    """A stage's folder in which nothing but a lock was written before a kill, or by a chief just now."""
    return path.name in STAGES and path.is_dir() and all(each.name.startswith(".") for each in path.iterdir())


def check_same_study(settings: SweepSettings, output: Path) -> None:
    """Refuses a folder that holds the study of another sweep.

    Raises:
        StudyError: naming the first differences.
    """
    path = stage_folder(output, settings.stage) / STUDY_FILE
    if not path.is_file():
        return
    before, now = (
        {**config, "axes": _in_words(config["axes"])}
        for config in (read_json(path)["settings"], json.loads(json.dumps(settings.to_config())))
    )
    if changed := differences(before, now):
        raise StudyError(
            f"{output}: holds another study of {settings.stage}: {changed}. "
            "Give the options that it was begun with to go on with it (more --trials are welcome), or "
            "another --output"
        )


def _in_words(axes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: Axis(**{**axis, "choices": tuple(axis["choices"])}).words for name, axis in axes.items()}


def write_study(settings: SweepSettings, output: Path, trials: int) -> None:
    """Writes down whose study it is."""
    content = {
        "settings": settings.to_config(),
        "trials": trials,
        "preset": json.loads(settings.preset.to_json()),
        "upstream": settings.upstream,
    }
    write_json(stage_folder(output, settings.stage) / STUDY_FILE, content)


def read_study(output: Path, stage: str) -> SweepSettings:
    """Settings of a stage's study.

    Raises:
        StudyError: where there is none, or its file is damaged.
    """
    path = stage_folder(output, stage) / STUDY_FILE
    if not path.is_file():
        there = [name for name in STAGES if (stage_folder(output, name) / STUDY_FILE).is_file()]
        raise StudyError(
            f"{output}: holds no sweep of {stage} ({', '.join(there) or 'nor of any other stage'} there); "
            f"expected a folder that kspecsr tune wrote"
        )
    content = read_json(path)
    try:
        given = dict(content["settings"])
        preset = Preset.from_json(json.dumps(content["preset"]))
        axes = [Axis(**{**axis, "choices": tuple(axis["choices"])}) for axis in given.pop("axes").values()]
        given.pop("preset")
        return SweepSettings(preset=preset, axes=tuple(axes), **{**given, "upstream": content["upstream"]})
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: {type(error).__name__}: {error}; get an unaltered copy") from None


def studies(output: Path) -> list[str]:
    """Stages of which the folder holds a study, in their order."""
    return [stage for stage in STAGES if (stage_folder(output, stage) / STUDY_FILE).is_file()]


def trial_folder(output: Path, stage: str, name: str) -> Path:
    """Where a trial lies."""
    return stage_folder(output, stage) / f"trial_{name}"


def study_records(output: Path, settings: SweepSettings) -> list[TrialRecord]:
    """All trials of a study."""
    return read_records(stage_folder(output, settings.stage), settings.epochs)


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
