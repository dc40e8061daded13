"""Resume state: everything that a training needs to go on after its last finished epoch, in one file."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.writers.atomic import replacing

if TYPE_CHECKING:
    import keras

_PROGRESS = "progress"


class StateError(ValueError):
    """A state that cannot be gone on from; the text says why and what to do."""


@dataclass
class Progress:
    """How far a stage's training is.

    Attributes:
        settings: of the training, plain JSON values; going on needs the same.
        epoch: epochs finished.
        best_goal: lowest goal metric so far.
        best_epoch: epoch that had it, from 1; 0 before the first.
        best_metrics: all metrics of that epoch.
        seconds: of training so far, over all starts.
        stopped: why no more epochs follow; empty while some do.
        code: which code trained from which epoch on (`note_code`).
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
        """Epochs since the best one."""
        return self.epoch - self.best_epoch


def training_variables(model: keras.Model) -> list[keras.Variable]:
    """Weights, states of random generators, and the optimiser's variables, in a fixed order."""
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    return [*own, *model.optimizer.variables]


def save_state(
    path: Path,
    variables: Sequence[keras.Variable],
    progress: Progress,
    best: Sequence[np.ndarray] = (),
) -> None:
    """Writes the state, complete or not at all, and on disk when this returns.

    Args:
        path: of the file.
        variables: of the training, as they are now.
        progress: so far.
        best: weights of the stage's network after the best epoch.
    """
    arrays = {f"v{i:05d}": variable.numpy() for i, variable in enumerate(variables)}
    arrays |= {f"b{i:05d}": np.asarray(array) for i, array in enumerate(best)}
    text = json.dumps(asdict(progress))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{_PROGRESS: np.array(text)}, **arrays)
        file.flush()
        os.fsync(file.fileno())


def read_progress(path: Path) -> Progress | None:
    """Progress in a state file; None where there is none.

    Raises:
        StateError: for a damaged file.
    """
    if not path.is_file():
        return None
    with _opened(path) as stored:
        return Progress(**json.loads(str(stored[_PROGRESS])))


def read_best(path: Path) -> list[np.ndarray]:
    """Weights of the best epoch; none in a state of before the first epoch's end.

    Raises:
        StateError: for a damaged file.
    """
    with _opened(path) as stored:
        return [stored[name] for name in sorted(stored.files) if name.startswith("b")]


def restore_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Gives the variables their stored values.

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
        stored = np.load(path, allow_pickle=False)
        if _PROGRESS not in stored.files:
            raise ValueError("no progress in it")
        return stored
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StateError(f"{path}: damaged ({error}); begin again with --restart") from None
