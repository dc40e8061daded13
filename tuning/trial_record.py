"""One trial: its values and goals, from KerasTuner's own description of it in memory or in its file."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuning.space import Value

OBJECTIVE = "goal"  # column of a training's history; lower is better
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped early", "failed"
_PATTERN = "trial_*/trial.json"


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: number of the trial, from 0, in order of start.
        values: axis name to value.
        curve: epoch, from 1, to the goal after it.
        state: ``running``, ``done``, ``stopped early`` or ``failed``.
        name: number as it stands in the folder's name.
    """

    number: int
    values: Mapping[str, Value]
    curve: Mapping[int, float] = field(default_factory=dict)
    state: str = RUNNING
    name: str = ""

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return max(self.curve, default=0)

    @property
    def goal(self) -> float:
        """Lowest goal of all epochs; infinite for a trial that failed or has no finite one."""
        if self.state == FAILED:
            return math.inf
        return min(filter(math.isfinite, self.curve.values()), default=math.inf)

    @property
    def finished(self) -> bool:
        """The trial has ended."""
        return self.state != RUNNING

    @property
    def diverged(self) -> bool:
        """The trial was trained, and its last goal is not finite."""
        return self.state != FAILED and bool(self.curve) and not math.isfinite(self.curve[self.epochs])


def best_of(records: list[TrialRecord]) -> TrialRecord | None:
    """The finished trial with the lowest goal; None if no trial has a finite one."""
    good = [record for record in records if record.finished and math.isfinite(record.goal)]
    return min(good, key=lambda record: (record.goal, record.number)) if good else None


def record_of(state: Mapping, epochs: int) -> TrialRecord:
    """Trial from KerasTuner's description of it.

    Args:
        state: content of its ``trial.json``.
        epochs: number of epochs of a trial that is not stopped early.
    """
    metrics = state["metrics"]["metrics"].get(OBJECTIVE, {"observations": []})
    curve = {int(seen["step"]): float(seen["value"][-1]) for seen in metrics["observations"]}
    stopped = STOPPED if max(curve, default=0) < epochs else DONE
    states = {"COMPLETED": stopped, "FAILED": FAILED}
    return TrialRecord(
        number=int(state["trial_id"]),
        values=dict(state["hyperparameters"]["values"]),
        curve=curve,
        state=states.get(state["status"], RUNNING),
        name=str(state["trial_id"]),
    )


def read_records(folder: Path, epochs: int) -> list[TrialRecord]:
    """All trials in the folder of a study, in their order.

    Args:
        folder: folder of the study.
        epochs: number of epochs of a trial that is not stopped early.

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
