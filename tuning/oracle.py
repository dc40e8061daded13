"""KerasTuner's oracle with Optuna's proposals behind it, and a memory that survives a kill at any moment."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from data_pipeline.writers.atomic import replacing
from tuning.axis import Axis
from tuning.leases import LostWorkers
from tuning.proposals import Proposals
from tuning.trial_record import OBJECTIVE, TrialRecord, record_of

RUNNING, COMPLETED, FAILURE, IDLE, STOP = "RUNNING", "COMPLETED", "FAILED", "IDLE", "STOPPED"
_NEVER = 10**9  # KerasTuner's own limit of failures raises with its lock held, which blocks the chief
FAILURES_IN_A_ROW = 5  # end a sweep: something is wrong with all trials


class SweepOracle(keras_tuner.Oracle):
    """Hands out trials to one process or to many.

    A trial's file is its truth: written whole or not at all, before anything else says so. Trials that a kill
    left unfinished go on; those of a lost worker go to another one. A trial that has been begun
    ``retries + 1`` times without finishing a single epoch more counts as failed.

    Args:
        axes: of the search.
        proposals: what to try next, what to stop.
        epochs: most epochs of a trial.
        trials: in all.
        retries: further attempts at a trial that was killed or ran out of memory.
        lost: which workers are gone; None where one process does it all.
        seconds: after which no new trial is handed out.
        say: takes a line of text.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        proposals: Proposals,
        epochs: int,
        trials: int,
        retries: int = 2,
        lost: LostWorkers | None = None,
        seconds: float = float("inf"),
        say: Callable[[str], None] = print,
    ):
        super().__init__(
            objective=keras_tuner.Objective(OBJECTIVE, "min"),
            max_trials=trials,
            hyperparameters=hyperparameters(axes),
            allow_new_entries=False,
            tune_new_entries=False,
            seed=1,  # nothing of KerasTuner's own is drawn
            max_retries_per_trial=retries,
            max_consecutive_failed_trials=_NEVER,
        )
        self.verbose = 0
        self._proposals, self._epochs, self._lost, self._say = proposals, epochs, lost, say
        self._attempts: dict[str, int] = {}
        self._end = time.monotonic() + seconds
        self.ended = ""

    # -- what trials there are ------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """All trials so far, in the order of their numbers."""
        found = [record_of(trial.get_state(), self._epochs) for trial in self.trials.values()]
        return sorted(found, key=lambda record: record.number)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """KerasTuner asks for the next configuration."""
        values = self._proposals.propose(self.records())
        if values is not None:
            return {"status": RUNNING, "values": values}
        self.ended = "every configuration of the space has been tried"
        return {"status": STOP}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial to run; one without values that says IDLE (ask again later) or STOPPED."""
        self.reclaim()
        self.tuner_ids.add(tuner_id)
        own = self.ongoing_trials.get(tuner_id)
        if own is not None and self._give_up(own):
            self.ongoing_trials.pop(tuner_id)
            own = None
        self._retry_queue = [name for name in self._retry_queue if not self._give_up(self.trials[name])]
        if own is None and not self._retry_queue:
            if self._no_more() and self.ongoing_trials:
                return self._answer(IDLE)  # another worker may be lost: its trial would have to be taken over
            if self._no_more():
                self.tuner_ids.discard(tuner_id)
                return self._answer(STOP)
        trial = super().create_trial(tuner_id)
        if trial.status == STOP and self.ongoing_trials:
            self.tuner_ids.add(tuner_id)
            return self._answer(IDLE)
        if trial.status == RUNNING:
            self._attempts[trial.trial_id] = self._attempts.get(trial.trial_id, 0) + 1
            self.save()
        return trial

    def _answer(self, status: str) -> Trial:
        return Trial(hyperparameters=self.get_space(), trial_id="none", status=status)

    def _no_more(self) -> bool:
        ended = [self.trials[name].status for name in self.end_order[-FAILURES_IN_A_ROW:]]
        if len(ended) == FAILURES_IN_A_ROW and set(ended) == {FAILURE}:
            self.ended = f"the last {FAILURES_IN_A_ROW} trials failed"
        elif len(self.trials) >= self.max_trials:
            self.ended = "all trials done"
        elif time.monotonic() > self._end:
            self.ended = "the time is up"
        return bool(self.ended)

    def _give_up(self, trial: Trial) -> bool:
        """Marks a trial that was begun too often without getting any further."""
        begun = self._attempts.get(trial.trial_id, 0)
        if begun <= self.max_retries_per_trial:
            return False
        trial.status = FAILURE
        trial.message = f"killed {begun} times before another epoch was done"
        self.end_order.append(trial.trial_id)
        self._save_trial(trial)
        self.save()
        self._say(f"trial {trial.trial_id}: {trial.message}; marked as failed")
        return True

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        """Takes the goal after an epoch.

        Returns:
            The trial, with the status STOPPED where it is to end after this epoch.
        """
        trial, step = self.trials[trial_id], int(step)
        known = record_of(trial.get_state(), self._epochs).curve
        if step not in known:
            trial = super().update_trial(trial_id, metrics, step)
            self._attempts[trial_id] = 0
            self.save()
        answer = copy.copy(trial)
        record = record_of(trial.get_state(), self._epochs)
        if step == record.epochs and self._proposals.should_stop(self.records(), record):
            answer.status = STOP
        return answer

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Takes the end of a trial: COMPLETED, or INVALID where it is to be tried again."""
        if trial.trial_id in self.end_order:
            return  # a worker that was taken for lost, after another one has done its trial
        # over the network they lose digits
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)
        self.save()  # KerasTuner's own comes before the trial is taken off the ongoing ones

    def _retry(self, trial: Trial) -> bool:
        if trial.status != "INVALID":
            return False
        if self._attempts.get(trial.trial_id, 0) > self.max_retries_per_trial:
            trial.status = FAILURE
            return False
        self._retry_queue.append(trial.trial_id)
        return True

    @keras_tuner.synchronized
    def forgive(self, tuner_id: str) -> None:
        """Does not count an attempt that the user interrupted."""
        if trial := self.ongoing_trials.get(tuner_id):
            self._attempts[trial.trial_id] = max(0, self._attempts.get(trial.trial_id, 0) - 1)
            self.save()

    @keras_tuner.synchronized
    def take_over(self, tuner_id: str) -> None:
        """One process alone takes what the workers of an earlier start have left."""
        for worker in [name for name in self.ongoing_trials if name != tuner_id]:
            self._retry_queue.append(self.ongoing_trials.pop(worker).trial_id)

    @keras_tuner.synchronized
    def reclaim(self) -> None:
        """Takes back what lost workers were doing."""
        if self._lost is None:
            return
        for worker in sorted(self.tuner_ids | set(self.ongoing_trials)):
            if self._lost.is_lost(worker):
                self.tuner_ids.discard(worker)
                if trial := self.ongoing_trials.pop(worker, None):
                    self._say(f"{worker} is lost; its trial {trial.trial_id} goes to the next one")
                    self._retry_queue.append(trial.trial_id)
                    self.save()

    # -- on disk --------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes the oracle's file, whole or not at all."""
        _write(Path(self._get_oracle_fname()), {**self.get_state(), "attempts": self._attempts})

    def _save_trial(self, trial: Trial) -> None:
        _write(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self) -> None:
        """Takes up what the folder holds: what a trial's own file says counts, whenever the kill came."""
        state: dict[str, Any] = {}
        if Path(self._get_oracle_fname()).is_file():
            state = json.loads(Path(self._get_oracle_fname()).read_text(encoding="utf-8"))
        for path in sorted(Path(self._project_dir).glob("trial_*/trial.json")):
            trial = Trial.load(str(path))
            self.trials[trial.trial_id] = trial
        self._attempts = dict(state.get("attempts", {}))
        order = sorted(self.trials, key=int)
        over = [name for name in order if self.trials[name].status in (COMPLETED, FAILURE)]
        told = [name for name in state.get("end_order", []) if name in over]
        self.end_order = told + [name for name in over if name not in told]
        self.start_order = order
        owners = {name: worker for worker, name in state.get("ongoing_trials", {}).items()}
        for name in order:
            if name in over:
                continue
            self.trials[name].status = RUNNING
            if name in owners:
                self.ongoing_trials[owners[name]] = self.trials[name]
            else:
                self._retry_queue.append(name)


def hyperparameters(axes: Sequence[Axis]) -> keras_tuner.HyperParameters:
    """The axes as KerasTuner describes them."""
    space = keras_tuner.HyperParameters()
    for axis in axes:
        if axis.choices:
            space.Choice(axis.name, list(axis.choices))
        elif axis.step:
            space.Int(axis.name, int(axis.low), int(axis.values()[-1]), step=axis.step)
        else:
            space.Float(axis.name, axis.low, axis.high, sampling="log" if axis.log else "linear")
    return space


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
