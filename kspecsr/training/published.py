"""The best epoch's weights in the model folder: a copy of those in the state, which alone decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from data_pipeline.configuration import json_hash
from kspecsr.configuration import Preset
from kspecsr.model_folder import ModelFolderError, load_stage, read_settings, write_stage
from kspecsr.model_settings import SETTINGS_FILE, with_stage, write_settings
from kspecsr.models import build_sr1, build_sr2, build_zhead
from kspecsr.training.code_version import code_of_best
from kspecsr.training.state import Progress

_BUILDERS = {"sr1": build_sr1, "zhead": build_zhead, "sr2": build_sr2}


class PublishedStage:
    """A stage's file and its entry in ``model.json``; float32, in whatever precision it is trained.

    Args:
        output: model folder.
        stage: ``sr1``, ``zhead`` or ``sr2``.
        preset: of the training.
    """

    def __init__(self, output: Path, stage: str, preset: Preset):
        self._output, self._stage, self._preset = output, stage, preset

    def publish(self, best: Sequence[np.ndarray], progress: Progress) -> None:
        """Writes the best epoch's weights and what is known about them."""
        self._network.set_weights(best)
        write_stage(self._output, self._stage, self._network, self._preset, self._provenance(progress))

    def agree(self, best: Sequence[np.ndarray], progress: Progress) -> None:
        """Publishes what the state holds where the folder holds something else, and only then."""
        if not best:  # a state of before the first epoch's end
            return
        if not self._holds(best):
            self.publish(best, progress)
            return
        provenance = self._provenance(progress)
        held = read_settings(self._output).stages.get(self._stage, {})
        if _text(held) != _text(provenance):
            settings = with_stage(self._output, self._stage, self._preset, provenance)
            write_settings(self._output, settings)

    @cached_property
    def _network(self) -> keras.Model:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            return _BUILDERS[self._stage](self._preset.model)
        finally:
            keras.config.set_dtype_policy(before)

    def _holds(self, best: Sequence[np.ndarray]) -> bool:
        if not (self._output / SETTINGS_FILE).is_file():
            return False
        try:
            held = load_stage(self._output, self._stage).get_weights()
        except ModelFolderError:
            return False
        return len(held) == len(best) and all(map(np.array_equal, held, best))

    def _provenance(self, progress: Progress) -> dict[str, Any]:
        """What the model folder says about the best epoch."""
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
            "code": code_of_best(progress),
            "backend": keras.backend.backend(),
        }


def _text(provenance: Any) -> str:
    return json.dumps(provenance, sort_keys=True)  # NaN is equal to NaN here
