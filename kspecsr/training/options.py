"""How a stage is trained, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kspecsr.training.state import Progress


@dataclass(frozen=True)
class TrainingOptions:
    """How a stage is trained, beside its preset.

    Attributes:
        seed: of weights, dropout and examples.
        deterministic: repeatable to the last bit, slower.
        devices: GPUs that share a batch.
        jit: compile with XLA; ``auto`` leaves it to Keras.
        restart: begin again where the folder holds a training.
        init_from: model folder whose weights are the first ones.
        upstream: model folder whose earlier stages are taken where the output has none.
        pictures: draw one per epoch.
        bar: show the steps of an epoch; None on a terminal only.
        stop_after: called with the row of each epoch once it is on disk; True ends the training there for
            now, and the next one goes on from it.
    """

    seed: int = 0
    deterministic: bool = False
    devices: int = 1
    jit: bool | str = "auto"
    restart: bool = False
    init_from: Path | None = None
    upstream: Path | None = None
    pictures: bool = True
    bar: bool | None = None
    stop_after: Callable[[Mapping[str, float]], bool] | None = None


@dataclass(frozen=True)
class StageResult:
    """Outcome of a stage.

    Attributes:
        stage: its name.
        progress: best goal, epochs, and why it stopped.
        path: file with the best weights.
    """

    stage: str
    progress: Progress
    path: Path
