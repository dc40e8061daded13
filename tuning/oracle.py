"""KerasTuner's oracle with Optuna's proposals behind it, and a memory that survives a kill at any moment.

What is overridden of KerasTuner 1.4.8 was measured to be broken; `tests/test_tuning_kerastuner.py` shows each
fault, and fails once KerasTuner has mended it.
"""

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from data_pipeline.writers.atomic import replacing
from tuning.proposals import Proposals
from tuning.space import Axis
from tuning.trial_record import OBJECTIVE, TrialRecord, record_of

FAILURES_IN_A_ROW = 5  # end a sweep: something is wrong with all trials
_WATCH = 0.5  # seconds between two looks of the chief for lost workers


class SweepOracle(keras_tuner.Oracle):
    """Hands out trials to one process, or to the workers of a chief.

    What counts is the file of each trial, which is written completely or not at all, before any other.
    Trials that a kill left unfinished are continued; those of a lost worker go to another one. A trial that
    was begun ``retries + 1`` times without finishing another epoch counts as failed.

    Args:
        axes: axes of the search.
        proposals: Optuna's samplers and pruner.
        epochs: most epochs of a trial.
        trials: number of trials.
        retries: further attempts at a trial that was killed or ran out of memory.
        lease: seconds without a request after which a worker counts as lost; 0 for a process without workers.
        seconds: seconds after which no new trial is handed out.
        say: called with each line of text.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        proposals: Proposals,
        epochs: int,
        trials: int,
        retries: int = 2,
        lease: float = 0.0,
        seconds: float = float("inf"),
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(
            objective=keras_tuner.Objective(OBJECTIVE, "min"),
            max_trials=trials,
            hyperparameters=hyperparameters(axes),
            # The space is stated beforehand, not found by building networks.
            allow_new_entries=False,
            tune_new_entries=False,
            seed=1,  # nothing is drawn by KerasTuner itself
            max_retries_per_trial=retries,
            # its own limit raises while it holds the oracle's lock, which blocks the chief for ever
            max_consecutive_failed_trials=10**9,
        )
        self.verbose = 0
        self._proposals, self._epochs, self._lease, self._say = proposals, epochs, lease, say
        self._clock, self._end = clock, clock() + seconds
        self._seen: dict[str, float] = {}  # worker -> time of its last request
        self._used_up = False

    def records(self) -> list[TrialRecord]:
        """All trials so far, in the order of their numbers."""
        records = [record_of(trial.get_state(), self._epochs) for trial in self.trials.values()]
        return sorted(records, key=lambda record: record.number)

    @property
    def ended(self) -> str:
        """Why no new trial is handed out; empty while there are some."""
        last = [self.trials[name].status for name in self.end_order[-FAILURES_IN_A_ROW:]]
        if len(last) == FAILURES_IN_A_ROW and set(last) == {TrialStatus.FAILED}:
            return f"the last {FAILURES_IN_A_ROW} trials failed"
        if len(self.trials) >= self.max_trials:
            return "all trials done"
        if self._clock() > self._end:
            return "the time is up"
        return "every configuration of the space has been tried" if self._used_up else ""

    # -- KerasTuner's hooks ---------------------------------------------------------------------------------

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Values of the next trial."""
        if not self.ended:
            values = self._proposals.propose(self.records())
            if values is not None:
                return {"status": TrialStatus.RUNNING, "values": values}
            self._used_up = True
        return {"status": TrialStatus.STOPPED}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial to run; one without values that says IDLE (ask again later) or STOPPED.

        KerasTuner ends the search while another worker, which may yet be lost, is at work on the last trial,
        and counts no attempts that were killed together with their process.
        """
        self._seen[tuner_id] = self._clock()
        self.reclaim()
        self._requeue(tuner_id)  # a worker of this name was killed and has been started again
        self._retry_queue = [name for name in self._retry_queue if not self._give_up(self.trials[name])]
        # After lost trials are back in the queue, from which KerasTuner takes first.
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.STOPPED and self.ongoing_trials:
            self.tuner_ids.add(tuner_id)
            trial.status = TrialStatus.IDLE
        elif trial.status == TrialStatus.RUNNING:
            self._run_times[trial.trial_id] += 1
            self.save()
        return trial

    def _give_up(self, trial: Trial) -> bool:
        """Mark a trial as failed that was begun too often without getting any further."""
        begun = self._run_times[trial.trial_id]
        if begun <= self.max_retries_per_trial:
            return False
        trial.status = TrialStatus.FAILED
        trial.message = f"killed {begun} times before another epoch was done"
        self.end_order.append(trial.trial_id)
        self._save_trial(trial)
        self.save()
        self._say(f"trial {trial.trial_id}: {trial.message}; marked as failed")
        return True

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        """Take the goal after an epoch.

        KerasTuner stops no trial early, and counts an epoch twice that is told again after a kill.

        Returns:
            The trial, with the status STOPPED if it is to end after this epoch.
        """
        trial, step = self.trials[trial_id], int(step)
        # An epoch is told again after a kill between its state and the oracle's.
        if step not in record_of(trial.get_state(), self._epochs).curve:
            trial = super().update_trial(trial_id, metrics, step)
            # Attempts are counted since the last epoch that got done: a night with many power cuts is no
            # fault of a trial.
            self._run_times[trial_id] = 0
            self.save()
        # A copy: STOPPED is the answer to this worker; the trial itself ends COMPLETED, with its goals.
        answer = copy.copy(trial)
        record = record_of(trial.get_state(), self._epochs)
        if step == record.epochs and self._proposals.should_stop(self.records(), record):
            answer.status = TrialStatus.STOPPED
        return answer

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Take the end of a trial: COMPLETED, or INVALID if it is to be tried again."""
        if trial.trial_id in self.end_order:
            return  # told by a worker that was taken for lost, after another one had finished its trial
        if self._run_times[trial.trial_id]:
            self._run_times[trial.trial_id] -= 1  # it counts the attempt itself
        super().end_trial(trial)

    def get_trial(self, trial_id: str) -> Trial:
        """A trial; a worker that is training asks for its own every few seconds, to show that it is alive."""
        for worker, trial in list(self.ongoing_trials.items()):  # other threads change it
            if trial.trial_id == trial_id:
                self._seen[worker] = self._clock()
        return super().get_trial(trial_id)

    # -- workers --------------------------------------------------------------------------------------------

    def _requeue(self, worker: str) -> str:
        """Put what a worker was doing first in the queue; returns the trial's name."""
        trial = self.ongoing_trials.pop(worker, None)
        if trial is None:
            return ""
        self._retry_queue.append(trial.trial_id)
        return trial.trial_id

    @keras_tuner.synchronized
    def reclaim(self) -> None:
        """Take back the trials of workers that have not been heard of for the length of the lease.

        KerasTuner's chief waits for ever for a worker that was killed.
        """
        if not self._lease:
            return
        now = self._clock()
        # Workers that asked for nothing yet, and those that an earlier chief knew: their time starts now.
        for worker in sorted(self.tuner_ids | set(self.ongoing_trials)):
            if now - self._seen.setdefault(worker, now) > self._lease:
                self.tuner_ids.discard(worker)
                if name := self._requeue(worker):
                    self._say(f"{worker} is lost; its trial {name} goes to the next one")
                    self.save()

    @contextmanager
    def watching_workers(self) -> Iterator[None]:
        """Look for lost workers all the time, even when none is left to ask for a trial."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_WATCH):
                self.reclaim()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @keras_tuner.synchronized
    def forgive(self, tuner_id: str) -> None:
        """Do not count an attempt that the user interrupted."""
        if trial := self.ongoing_trials.get(tuner_id):
            self._run_times[trial.trial_id] = max(0, self._run_times[trial.trial_id] - 1)
            self.save()

    # -- on disk --------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the oracle's file, complete or not at all."""
        _write(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        _write(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self) -> None:
        """Take up the trials in the folder.

        KerasTuner relies on the oracle's own file, which a kill may leave older than those of the trials.
        """
        state: dict[str, Any] = {}
        if Path(self._get_oracle_fname()).is_file():
            state = json.loads(Path(self._get_oracle_fname()).read_text(encoding="utf-8"))
        # Files of trials first: they are written before the oracle's, and are what counts.
        trials = [Trial.load(str(path)) for path in Path(self._project_dir).glob("trial_*/trial.json")]
        self.trials = {
            trial.trial_id: trial for trial in sorted(trials, key=lambda trial: int(trial.trial_id))
        }
        self._run_times.update(state.get("run_times", {}))
        self.start_order = list(self.trials)
        over = [name for name, trial in self.trials.items() if trial.status in _OVER]
        # The order in which trials ended decides when a run of failures ends the sweep.
        known = [name for name in state.get("end_order", []) if name in over]
        self.end_order = known + [name for name in over if name not in known]
        # Without workers the one process that had them is gone.
        owners = {name: worker for worker, name in state.get("ongoing_trials", {}).items() if self._lease}
        for name, trial in self.trials.items():
            if name in over:
                continue
            trial.status = TrialStatus.RUNNING
            if name in owners:  # a worker that may have outlived its chief
                self.ongoing_trials[owners[name]] = trial
            else:
                self._retry_queue.append(name)


_OVER = (TrialStatus.COMPLETED, TrialStatus.FAILED)


def hyperparameters(axes: Sequence[Axis]) -> keras_tuner.HyperParameters:
    """KerasTuner's description of the axes."""
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
