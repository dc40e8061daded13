"""Resume state: everything that a training needs to continue after its last epoch, in one file."""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from data_pipeline.configuration import json_hash, software_versions
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import Preset
from kspecsr.model_folder import load_stage, write_stage
from kspecsr.model_settings import SETTINGS_FILE, ModelFolderError, read_settings, with_stage, write_settings
from kspecsr.models import BUILDERS
from kspecsr.models.precision import dtype_policy

_PROGRESS = "progress"


class StateError(ValueError):
    """A state that cannot be gone on from; the text says why and what to do."""


@dataclass
class Progress:
    """Progress of a stage's training.

    Attributes:
        settings: settings of the training, plain JSON values; resuming needs the same ones.
        epoch: number of finished epochs.
        best_goal: lowest goal so far, in the last fifth of the epochs once they have begun.
        best_epoch: epoch with that goal, from 1; 0 before the first.
        best_metrics: all metrics of that epoch.
        seconds: time spent in training, over all starts.
        stopped: why no more epochs follow; empty while some do.
        code: version and hash of the code, and the epoch from which on it trained (`note_code`).
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    best_goal: float = math.inf
    best_epoch: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str = ""
    code: list[dict[str, Any]] = field(default_factory=list)

    @property
    def without_improvement(self) -> int:
        """Number of epochs since the best one."""
        return self.epoch - self.best_epoch


def training_variables(model: keras.Model) -> list[keras.Variable]:
    """Weights, states of random generators, and the optimiser's variables, in a fixed order."""
    # Metrics begin anew with each epoch and are no part of a state.
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    return [*own, *model.optimizer.variables]


def save_state(
    path: Path,
    variables: Sequence[keras.Variable],
    progress: Progress,
    best: Sequence[np.ndarray] = (),
) -> None:
    """Write variables, progress and the best weights so far, complete or not at all, on disk at return."""
    # By number: names of Keras variables change with how many models a process has made before.
    arrays = {f"v{i:05d}": variable.numpy() for i, variable in enumerate(variables)}
    arrays |= {f"b{i:05d}": np.asarray(array) for i, array in enumerate(best)}
    text = json.dumps(asdict(progress))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{_PROGRESS: np.array(text)}, **arrays)
        file.flush()
        os.fsync(file.fileno())


def read_progress(path: Path) -> Progress | None:
    """Progress in a state file; None if there is no file.

    Raises:
        StateError: for a damaged file.
    """
    if not path.is_file():
        return None
    with _opened(path) as stored:
        return Progress(**json.loads(str(stored[_PROGRESS])))


def read_best(path: Path) -> list[np.ndarray]:
    """Weights after the best epoch; empty in a state from before the end of the first one.

    Raises:
        StateError: for a damaged file.
    """
    with _opened(path) as stored:
        return [stored[name] for name in sorted(stored.files) if name.startswith("b")]


def restore_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Give the variables their stored values.

    Raises:
        StateError: for a damaged file, or one of another network.
    """
    with _opened(path) as stored:
        arrays = [stored[name] for name in sorted(stored.files) if name.startswith("v")]
    shapes, expected = [a.shape for a in arrays], [tuple(v.shape) for v in variables]
    if shapes != expected:
        raise StateError(
            f"{path}: state of another network ({len(shapes)} variables, expected {len(expected)} of given "
            "shapes); begin again with --restart"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _opened(path: Path) -> Any:
    try:
        # A state may come from somebody else; pickles run what they hold.
        stored = np.load(path, allow_pickle=False)
        if _PROGRESS not in stored.files:
            raise ValueError("no progress in it")
        return stored
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StateError(f"{path}: damaged ({error}); begin again with --restart") from None


_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCES = ("layers/**/*.py", "losses.py", "models/**/*.py", "training/stage_model.py")


@cache
def source_hash() -> str:
    """SHA-256 of the source of layers, losses, models and the stage model, names included."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def note_code(progress: Progress) -> str:
    """Note in the progress which code trains from the next epoch on.

    Returns:
        A warning if it is not the code of the epochs before; empty otherwise.
    """
    now = {"version": software_versions().get("kspecsr", "unknown"), "sha256": source_hash()}
    if not progress.epoch:
        progress.code = [{"from_epoch": 1, **now}]
        return ""
    progress.code = progress.code or [{"from_epoch": 1, "version": "unknown", "sha256": "unknown"}]
    before = progress.code[-1]
    if all(before[name] == now[name] for name in now):
        return ""
    progress.code = [*progress.code, {"from_epoch": progress.epoch + 1, **now}]
    return (
        f"WARNING: other code than in epoch {progress.epoch}: kspecsr {_words(before)}, now {_words(now)}; "
        "going on all the same (--restart begins again), model.json names both"
    )


def _words(code: Mapping[str, Any]) -> str:
    return f"{code['version']} (source {code['sha256'][:12]})"


class PublishedStage:
    """Best weights of a stage, its file and its entry in ``model.json``; float32 in any training precision.

    Args:
        output: model folder.
        stage: ``sr1``, ``zhead`` or ``sr2``.
        preset: preset of the training.
        best: weights after the best epoch so far, an attribute too; empty before the end of the first one.
    """

    def __init__(self, output: Path, stage: str, preset: Preset, best: Sequence[np.ndarray]):
        self._output, self._stage, self._preset = output, stage, preset
        self.best = list(best)

    def publish(self, progress: Progress) -> None:
        """Write the best weights, and the training's progress, into the model folder."""
        self._network.set_weights(self.best)
        write_stage(self._output, self._stage, self._network, self._preset, self._provenance(progress))

    def mend(self, progress: Progress) -> None:
        """Publish the best weights where the model folder holds something else, and only then."""
        if not self.best:
            return
        if not self._is_published():
            self.publish(progress)
            return
        provenance = self._provenance(progress)
        held = read_settings(self._output).stages.get(self._stage, {})
        if _text(held) != _text(provenance):
            settings = with_stage(self._output, self._stage, self._preset, provenance)
            write_settings(self._output, settings)

    @cached_property
    def _network(self) -> keras.Model:
        # Whatever the precision of the training: a network built under bfloat16 would keep that policy in its
        # file.
        with dtype_policy("float32"):
            return BUILDERS[self._stage](self._preset.model)

    def _is_published(self) -> bool:
        if not (self._output / SETTINGS_FILE).is_file():
            return False
        try:
            held = load_stage(self._output, self._stage).get_weights()
        except ModelFolderError:
            return False
        return len(held) == len(self.best) and all(map(np.array_equal, held, self.best))

    def _provenance(self, progress: Progress) -> dict[str, Any]:
        """Entry of the best epoch in ``model.json``."""
        settings = progress.settings
        steps = self._preset.training[self._stage].steps_per_epoch
        return {
            "steps": progress.best_epoch * steps,
            "epoch": progress.best_epoch,
            "goal": progress.best_goal,
            "metrics": progress.best_metrics,
            "seed": settings["seed"],
            "init_from": settings["init_from"],
            "data": settings["data"],
            "data_sha256": json_hash(settings["data"]),
            "upstream": settings["upstream"],
            # what the best epoch's weights were trained with, in order
            "code": [dict(code) for code in progress.code if code["from_epoch"] <= progress.best_epoch],
            "backend": keras.backend.backend(),
        }


def _text(provenance: Any) -> str:
    return json.dumps(provenance, sort_keys=True)  # NaN is equal to NaN here
