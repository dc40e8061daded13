"""A trained model on disk: a ``.keras`` file per stage and ``model.json``, each complete or not there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import STAGES, Preset
from kspecsr.model_settings import (
    CALIBRATION_FILE,
    ModelFolderError,
    check_archive,
    check_upstream,
    file_hash,
    read_calibration,
    read_settings,
    stage_hash,
    stage_path,
    with_stage,
    write_settings,
)
from kspecsr.models import BUILDERS, compose
from kspecsr.models.precision import dtype_policy, fast_policy

if TYPE_CHECKING:
    import keras

MANIFEST_FILE = "manifest.json"


def write_manifest(folder: str | os.PathLike) -> Path:
    """Write the manifest of a folder: size and SHA-256 of all its other files."""
    folder = Path(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_FILE)
    content = {
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in files}
    }
    with replacing(folder / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return folder / MANIFEST_FILE


def check_manifest(folder: str | os.PathLike) -> None:
    """Compare a folder with its manifest; a folder without one is not checked.

    Raises:
        ModelFolderError: naming the file that is missing or differs.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        return
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        expected = {name: entry["sha256"] for name, entry in files.items()}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFolderError(f"{path}: cannot be read ({error!r}); get an unaltered copy") from None
    for name, sha256 in expected.items():
        file = Path(folder) / name
        if not file.is_file():
            raise ModelFolderError(
                f"{file}: no such file, but {MANIFEST_FILE} lists it; get an unaltered copy"
            )
        found = file_hash(file)
        if found != sha256:
            raise ModelFolderError(
                f"{file}: SHA-256 {found[:12]}, expected {sha256[:12]} ({MANIFEST_FILE}); get an unaltered "
                f"copy, or remove {MANIFEST_FILE} if you changed the model yourself"
            )


def write_stage(
    folder: str | os.PathLike,
    stage: str,
    network: keras.Model,
    preset: Preset,
    provenance: Mapping[str, Any],
    name: str = "",
) -> str:
    """Writes a stage's network and its entry in ``model.json``; other stages stay as they are.

    A calibration in the folder is removed: it was measured on other networks.

    Args:
        folder: made if it is not there.
        stage: ``sr1``, ``zhead`` or ``sr2``.
        network: functional network of this stage.
        preset: of the training.
        provenance: plain JSON values: trained steps, goal metric, hash of the data, and under ``upstream``
            the `stage_hash` of each stage that it was trained on, which `load_composed` compares.
        name: of the model; empty for the one it has, or else the folder's.

    Returns:
        SHA-256 of the file.

    Raises:
        ModelFolderError: if the other stages in the folder were trained on another grid, naming both.
        OSError: disk full and the like.
    """
    path = stage_path(folder, stage)
    settings = with_stage(folder, stage, preset, provenance, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keras insists on the suffix, so that the temporary name is a folder's
    with tempfile.TemporaryDirectory(prefix=f".{stage}-", suffix=".part", dir=path.parent) as temporary:
        written = Path(temporary) / path.name
        network.save(written)
        _to_disk(written)
        (Path(folder) / CALIBRATION_FILE).unlink(missing_ok=True)
        os.replace(written, path)
    write_settings(folder, settings)
    return stage_hash(folder, stage)


def copy_stage(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    stage: str,
    preset: Preset,
    provenance: Mapping[str, Any],
) -> str:
    """Copy a stage's file into another model folder, byte for byte: Keras would write another one.

    A calibration in that folder is removed.

    Args:
        source: model folder that has the stage.
        folder: model folder, made if it does not exist.
        stage: ``sr1``, ``zhead`` or ``sr2``.
        preset: preset of the model in ``folder``.
        provenance: provenance of the stage, as ``source`` states it.

    Returns:
        SHA-256 of the file, the same as in ``source``.

    Raises:
        ModelFolderError: for a missing or damaged file, or another grid in the folder.
        OSError: disk full and the like.
    """
    first, path = stage_path(source, stage), stage_path(folder, stage)
    sha256 = stage_hash(source, stage)
    check_archive(first)
    settings = with_stage(folder, stage, preset, provenance)
    with replacing(path) as temporary:
        shutil.copyfile(first, temporary)
        _to_disk(temporary)
        (Path(folder) / CALIBRATION_FILE).unlink(missing_ok=True)
    write_settings(folder, settings)
    return sha256


def _to_disk(path: Path) -> None:
    """Wait until a file's content is on disk, so that its new name never stands for an empty one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_stage(folder: str | os.PathLike, stage: str, precision: str = "float32") -> keras.Model:
    """Functional network of a stage, in record units.

    Args:
        folder: model folder.
        stage: ``sr1``, ``zhead`` or ``sr2``.
        precision: of the trunk, see `fast_policy`; heads compute in float32.

    Raises:
        ModelFolderError: if it is missing, damaged, or was written by another version of this package.
    """
    import keras  # seconds to import: only where a network is loaded

    path = stage_path(folder, stage)
    settings, policy = read_settings(folder), fast_policy(precision)
    stage_hash(folder, stage)  # says what is missing
    check_archive(path)
    try:
        network = keras.saving.load_model(path, compile=False)
        # a file holds float32 layers, whose policy cannot be changed once they are there
        return network if policy == "float32" else _rebuilt(network, stage, settings.preset, policy)
    except (TypeError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFolderError(
            f"{path}: Keras cannot load it ({first}); was it written by another version? See 'software' in "
            f"{path.parent}/model.json"
        ) from error


def _rebuilt(network: keras.Model, stage: str, preset: Preset, policy: str) -> keras.Model:
    """The same network and weights with layers of another policy."""
    with dtype_policy(policy):
        again = BUILDERS[stage](preset.model)
    held = {weight.path: weight for weight in network.weights}
    for weight in again.weights:  # by name: another version may have them in another order
        weight.assign(held[weight.path])
    return again


def load_composed(
    folder: str | os.PathLike, calibrated: bool = True, precision: str = "float32"
) -> keras.Model:
    """The three stages as one model, physical units in and out.

    Args:
        folder: model folder.
        calibrated: apply the folder's calibration, if it has one.
        precision: of the trunks, see `fast_policy`.

    Raises:
        ModelFolderError: if a stage is missing or damaged, was trained on another upstream stage than the
            one that lies in the folder, or a file is not the one that the folder's manifest lists.
    """
    settings = read_settings(folder)
    check_manifest(folder)
    check_upstream(folder, settings, STAGES)
    calibration = read_calibration(folder) if calibrated else None
    return compose(*(load_stage(folder, stage, precision) for stage in STAGES), calibration)
