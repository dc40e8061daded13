"""A model folder's description of itself: settings, provenance, hashes. Needs no Keras."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.configuration import ConfigurationError, check_keys, software_versions, to_dict
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import STAGES, Preset
from kspecsr.configuration.calibration import Calibration

SETTINGS_FILE = "model.json"
CALIBRATION_FILE = "calibration.json"
DEFAULT_MODEL = "default"
_BACKENDS = ("keras", "tensorflow", "jax", "tensorflow-probability")


class ModelFolderError(ValueError):
    """A folder that holds no usable model; the text names the file and what to do."""


@dataclass(frozen=True)
class ModelSettings:
    """Content of ``model.json``.

    Attributes:
        preset: networks, grid, losses and training.
        name: name of the model, as results state it.
        stages: stage to its provenance (trained steps, goal metric, hash of the data, ``upstream`` hashes).
        software: package to its version when the file was last written.
    """

    preset: Preset
    name: str = ""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)

    @property
    def grid(self) -> UnifiedGrid:
        """Unified grid of the output."""
        return self.preset.model.grid

    def to_json(self) -> str:
        """Content of the file."""
        content = {
            "name": self.name,
            "preset": to_dict(self.preset),
            "stages": dict(self.stages),
            "software": dict(self.software),
        }
        return json.dumps(content, indent=1)


def stage_path(folder: str | os.PathLike, stage: str) -> Path:
    """File of a stage's network.

    Raises:
        ValueError: for an unknown stage, listing the known ones.
    """
    if stage not in STAGES:
        raise ValueError(f"stage {stage!r} is unknown; expected one of {', '.join(STAGES)}")
    return Path(folder) / f"{stage}.keras"


def read_settings(folder: str | os.PathLike) -> ModelSettings:
    """Content of ``model.json``.

    Raises:
        ModelFolderError: for a folder that is none or holds no model, or a file that is damaged or has
            unknown keys.
    """
    folder = Path(folder)
    path = folder / SETTINGS_FILE
    if not folder.is_dir():
        raise ModelFolderError(
            f"{folder}: no such folder; expected a model folder, such as kspecsr train writes"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(
            f"{folder}: holds no {SETTINGS_FILE}, so it is no model folder; name the folder that "
            "kspecsr train wrote (its --output)"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFolderError(f"{path}: cannot be read ({error}); get an unaltered copy") from None
    try:
        content = check_keys(content, ModelSettings, "model")
        for key in ("preset", "stages", "software"):
            if not isinstance(content.get(key, {}), dict):
                raise ConfigurationError(f"model.{key}: expected an object, got {content[key]!r}")
        preset = Preset.from_json(json.dumps(content["preset"]))
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"{path}: {error}") from None
    stages = content.get("stages", {})
    if unknown := sorted(set(stages) - set(STAGES)):
        raise ModelFolderError(f"{path}: unknown stage {', '.join(unknown)}; known: {', '.join(STAGES)}")
    return ModelSettings(preset, str(content.get("name", "")), stages, content.get("software", {}))


def write_settings(folder: str | os.PathLike, settings: ModelSettings) -> None:
    """Write ``model.json``, complete or not at all."""
    path = Path(folder) / SETTINGS_FILE
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(settings.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def with_stage(
    folder: str | os.PathLike, stage: str, preset: Preset, provenance: Mapping[str, Any], name: str = ""
) -> ModelSettings:
    """Settings of a folder once a stage is written into it; nothing is written here.

    Args:
        folder: model folder, which may not exist yet.
        stage: stage that is added or replaced.
        preset: preset of the training; takes the place of the one in the folder.
        provenance: provenance of the stage, plain JSON values.
        name: name of the model; empty for its present one, or else the folder's.

    Raises:
        ModelFolderError: if the folder's other stages were trained on another grid, naming both.
    """
    stages: dict[str, Mapping[str, Any]] = {}
    if (Path(folder) / SETTINGS_FILE).is_file():
        before = read_settings(folder)
        stages = {key: value for key, value in before.stages.items() if key != stage}
        name = name or before.name
        if stages:
            trained = f"{folder}: {', '.join(stages)} trained"
            check_same_grid(before.grid, preset.model.grid, trained, f"the new {stage}")
    stages[stage] = dict(provenance)
    # The order of the stages, whichever was trained last: the file of one model reads the same however it was
    # made.
    ordered = {key: stages[key] for key in STAGES if key in stages}
    return ModelSettings(preset, name or Path(folder).resolve().name, ordered, software_versions(*_BACKENDS))


def check_same_grid(first: UnifiedGrid, second: UnifiedGrid, first_name: str, second_name: str) -> None:
    """Refuse stages on different grids.

    Raises:
        ModelFolderError: naming both grids.
    """
    # No tolerance: grids that differ in the last digit have other pixels at the red end.
    if first != second:
        raise ModelFolderError(
            f"{first_name} on the grid {grid_text(first)}, but {second_name} on {grid_text(second)}; "
            "stages of one model share one grid: train them with the same preset"
        )


def grid_text(grid: UnifiedGrid) -> str:
    """Description of a grid, as errors and results state it."""
    return f"{grid.start:g}-{grid.stop:g} um at lambda/dlambda {grid.sampling:g} ({grid.size} px)"


def stage_hash(folder: str | os.PathLike, stage: str) -> str:
    """SHA-256 of a stage's file.

    Raises:
        ModelFolderError: if it is not there.
    """
    path = stage_path(folder, stage)
    try:
        return file_hash(path)
    except FileNotFoundError:
        present = [s for s in STAGES if stage_path(folder, s).is_file()]
        raise ModelFolderError(
            f"{path}: no such file; the folder holds {', '.join(present) or 'no stage'}. Train it with "
            f"kspecsr train --stage {stage} --output {folder}"
        ) from None
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read ({error.strerror or error})") from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_upstream(folder: str | os.PathLike, settings: ModelSettings, stages: Sequence[str]) -> None:
    """Refuse stages that were trained on other earlier stages than those in the folder.

    Args:
        folder: model folder.
        settings: content of its ``model.json``.
        stages: stages that are checked.

    Raises:
        ModelFolderError: naming both hashes, or a missing file.
    """
    hashes = {stage: stage_hash(folder, stage) for stage in stages}
    for stage in stages:
        for other, expected in settings.stages.get(stage, {}).get("upstream", {}).items():
            # A later stage sees the earlier one's output: with other weights there it still runs, and is
            # silently worse.
            if hashes.get(other) != expected:
                raise ModelFolderError(
                    f"{folder}: {stage} was trained on another {other} (SHA-256 {expected[:12]}) than the "
                    f"one in the folder ({hashes.get(other, 'none')[:12]}); train {stage} again"
                )


def weights_hash(folder: str | os.PathLike, calibrated: bool = True) -> str:
    """SHA-256 of a complete model: of the joined hashes of its stages' files and its calibration.

    Args:
        folder: model folder.
        calibrated: include the calibration, if there is one.

    Raises:
        ModelFolderError: if a stage is missing.
    """
    # The files and not the weights in memory: the hash needs no Keras, and who holds the files can check it
    # with sha256sum.
    joined = "".join(stage_hash(folder, stage) for stage in STAGES)
    calibration = Path(folder) / CALIBRATION_FILE
    if calibrated and calibration.is_file():
        joined += file_hash(calibration)
    return hashlib.sha256(joined.encode("ascii")).hexdigest()


def check_archive(path: Path) -> None:
    """Refuse a truncated or altered ``.keras`` file, which is a zip archive with checksums.

    Raises:
        ModelFolderError: naming the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelFolderError(f"{path}: damaged ({error}); get an unaltered copy or train again") from None
    if broken is not None:
        raise ModelFolderError(f"{path}: damaged ({broken} in it); get an unaltered copy or train again")


def find_model(name_or_folder: str | os.PathLike = DEFAULT_MODEL) -> Path:
    """Folder of a model that ships with the package, or one named by its path.

    Shipped models are looked for in ``saved_models`` beside the package and inside it.

    Raises:
        ModelFolderError: if there is none.
    """
    package = Path(__file__).resolve().parent
    shipped = [top / "saved_models" for top in (package.parent, package)]
    for top in shipped:
        # Only a bare name: "./default" is the user's own folder even where a shipped model has that name.
        named = str(name_or_folder) == Path(name_or_folder).name
        if named and (top / name_or_folder / SETTINGS_FILE).is_file():
            return top / name_or_folder
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    known = sorted(path.parent.name for top in shipped for path in top.glob(f"*/{SETTINGS_FILE}"))
    if str(name_or_folder) == DEFAULT_MODEL:
        raise ModelFolderError(
            "no trained weights are installed with the package, a clone of the repository holds them in "
            "saved_models/default: work there, or train a model with kspecsr train and give its "
            "folder"
        )
    raise ModelFolderError(
        f"{name_or_folder}: neither a model folder nor the name of a shipped model "
        f"({', '.join(known) or 'none ship with this version'}); kspecsr train writes one"
    )


def read_calibration(folder: str | os.PathLike) -> Calibration | None:
    """Calibration of a model folder; None if it has none.

    Raises:
        ModelFolderError: for a file that is damaged or has unknown keys.
    """
    path = Path(folder) / CALIBRATION_FILE
    try:
        return Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError, ValueError) as error:
        raise ModelFolderError(
            f"{path}: cannot be used ({error}); measure it again with kspecsr calibrate {folder}"
        ) from None


def write_calibration(folder: str | os.PathLike, calibration: Calibration) -> Path:
    """Write the calibration of a model folder, complete or not at all."""
    path = Path(folder) / CALIBRATION_FILE
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(to_dict(calibration), indent=1) + "\n", encoding="utf-8")
    return path
