"""What is known of one trial, whoever keeps it: KerasTuner while it runs, its file afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuning.axis import Value

OBJECTIVE = "goal"  # column of a training's history; lower is better
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped early", "failed"
_PATTERN = "trial_*/trial.json"


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: from 0, in the order of their start.
        values: by name of the axis.
        curve: epoch, from 1, to the goal after it.
        state: ``running``, ``done``, ``stopped early`` or ``failed``.
        name: as its folder has it.
    """

    number: int
    values: Mapping[str, Value]
    curve: Mapping[int, float] = field(default_factory=dict)
    state: str = RUNNING
    name: str = ""

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.curve, default=0)

    @property
    def goal(self) -> float:
        """Lowest goal of all epochs; infinite for a trial that diverged, failed or has none."""
        if self.state == FAILED:
            return math.inf
        return min(filter(math.isfinite, self.curve.values()), default=math.inf)

    @property
    def finished(self) -> bool:
        """Nothing more will come of it."""
        return self.state != RUNNING

    @property
    def diverged(self) -> bool:
        """It was trained, and its last goal is not finite."""
        return self.state != FAILED and bool(self.curve) and not math.isfinite(self.curve[self.epochs])


def best_of(records: list[TrialRecord]) -> TrialRecord | None:
    """The finished trial with the lowest goal; None where no trial has a finite one."""
    good = [record for record in records if record.finished and math.isfinite(record.goal)]
    return min(good, key=lambda record: (record.goal, record.number)) if good else None


def record_of(state: Mapping, epochs: int) -> TrialRecord:
    """A trial from KerasTuner's own description of it.

    Args:
        state: content of its ``trial.json``.
        epochs: of a trial that is not stopped early.
    """
    metrics = state["metrics"]["metrics"].get(OBJECTIVE, {"observations": []})
    curve = {int(seen["step"]): float(seen["value"][-1]) for seen in metrics["observations"]}
    stopped = STOPPED if max(curve, default=0) < epochs else DONE
    words = {"COMPLETED": stopped, "FAILED": FAILED}
    return TrialRecord(
        number=int(state["trial_id"]),
        values=dict(state["hyperparameters"]["values"]),
        curve=curve,
        state=words.get(state["status"], RUNNING),
        name=str(state["trial_id"]),
    )


def read_records(folder: Path, epochs: int) -> list[TrialRecord]:
    """All trials of a stage's folder, in their order.

    Args:
        folder: of the stage's sweep.
        epochs: of a trial that is not stopped early.

    Raises:
        ValueError: for a damaged file, naming it.
    """
    records = []
    for path in folder.glob(_PATTERN):
        try:
            records.append(record_of(json.loads(path.read_text(encoding="utf-8")), epochs))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: damaged ({type(error).__name__}: {error}); remove its folder and start the sweep "
                "again, which repeats this trial"
            ) from None
    return sorted(records, key=lambda record: record.number)
