"""KerasTuner's tuner around the stage's own training."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial

from tuning.oracle import COMPLETED, STOP, SweepOracle
from tuning.study_folder import RESULT_FILE, trial_folder, write_json
from tuning.sweep_settings import SweepSettings, stage_folder
from tuning.tensorboard_log import log_experiment, log_trial
from tuning.trial_process import TrialError, TrialJob, TrialProcess
from tuning.trial_record import DONE, FAILED, OBJECTIVE, RUNNING, STOPPED, TrialRecord, record_of

_IDLE = 1.0  # seconds before a worker without a trial asks again


class SweepTuner(BaseTuner):
    """Runs trials of one stage, in this process' own turn or for a chief.

    Args:
        settings: of the sweep.
        oracle: that hands out trials.
        output: folder of the studies.
        process: that trains.
        data: record directory; None for fresh simulation.
        upstream: model folder with the stages before.
        workers: processes that simulate.
        say: takes a line of text.
    """

    def __init__(
        self,
        settings: SweepSettings,
        oracle: SweepOracle,
        output: Path,
        process: TrialProcess,
        data: Path | None,
        upstream: Path | None,
        workers: int = 1,
        say: Callable[[str], None] = print,
    ):
        self._settings, self._output, self._process = settings, output, process
        self._data, self._upstream, self._workers, self._say = data, upstream, workers, say
        self._idle = False
        super().__init__(oracle=oracle, directory=str(output), project_name=settings.stage)
        if not self._is_worker():
            self.oracle.reload()
            log_experiment(stage_folder(output, settings.stage), settings.axes)

    def _get_tuner_fname(self) -> str:
        # KerasTuner reloads only what a tuner of the same name has saved: here the oracle's files say it all
        return str(stage_folder(self._output, self._settings.stage) / ".tuner.json")

    def save(self) -> None:
        """Nothing beyond the oracle's files, which it writes itself."""

    def pre_create_trial(self) -> None:
        """Waits a little where the last answer was to ask again later."""
        if self._idle:
            time.sleep(_IDLE)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        """There is something to do."""
        self._idle = False
        super().on_trial_begin(trial)

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Trains a trial, or goes on with it.

        Raises:
            TrialError: if its process did not come to the end.
        """
        settings, name = self._settings, trial.trial_id
        folder = trial_folder(self._output, settings.stage, name)
        values = {axis.name: axis.nearest(trial.hyperparameters.values[axis.name]) for axis in settings.axes}
        preset = settings.trial_preset(values)
        job = TrialJob(
            stage=settings.stage,
            preset=preset.to_json(),
            data=self._data,
            folder=folder / "run",
            upstream=self._upstream,
            seed=settings.seed,
            workers=self._workers,
            log=folder / "log.txt",
        )
        curve: dict[int, float] = {}

        def after_epoch(epoch: int, goal: float) -> bool:
            curve[epoch] = goal
            return self.oracle.update_trial(name, {OBJECTIVE: goal}, step=epoch).status == STOP

        outcome = self._process.run(job, after_epoch)
        state = STOPPED if outcome["epochs"] < settings.epochs else DONE
        result = {
            "stage": settings.stage,
            "trial": name,
            "values": values,
            **outcome,
            "ended": state,
            "upstream": settings.upstream,
            "seed": settings.seed,
        }
        write_json(folder / RESULT_FILE, result)
        log_trial(
            stage_folder(self._output, settings.stage),
            settings.axes,
            TrialRecord(int(name), values, curve, name=name),
        )
        return {OBJECTIVE: outcome["goal"]}

    def _try_run_and_update_trial(self, trial: Trial, *args: object, **options: object) -> None:
        # KerasTuner's own would take the goal from the return value, and warns of what is told epoch by epoch
        start = time.monotonic()
        try:
            self.run_trial(trial)
            trial.status, trial.message = COMPLETED, None
        except Exception as error:
            trial.status = "INVALID"
            trial.message = str(error) if isinstance(error, TrialError) else traceback.format_exc()
            folder = trial_folder(self._output, self._settings.stage, trial.trial_id)
            with open(folder / "errors.txt", "a", encoding="utf-8") as file:
                file.write(f"{trial.message}\n")
            self._say(f"trial {trial.trial_id}: {trial.message.splitlines()[0]}")
        self._seconds = time.monotonic() - start

    def on_trial_end(self, trial: Trial) -> None:
        """Tells the oracle, and the user."""
        self.oracle.end_trial(trial)
        state = self.oracle.get_trial(trial.trial_id).get_state()
        record = record_of(state, self._settings.epochs)
        if record.state != RUNNING:
            if record.state == FAILED:
                log_trial(stage_folder(self._output, self._settings.stage), self._settings.axes, record)
            self._say(trial_line(record, self._settings, self._seconds))


def trial_line(record: TrialRecord, settings: SweepSettings, seconds: float) -> str:
    """A trial that has ended, in one line."""
    values = ", ".join(
        f"{axis.name} {value:.4g}"
        if isinstance(value := record.values[axis.name], float)
        else f"{axis.name} {value}"
        for axis in settings.axes
    )
    ended = "diverged" if record.diverged else record.state
    goal = f"goal {record.goal:.4f} " if record.curve else ""
    return (
        f"{settings.stage} trial {record.name}: {goal}{ended} after {record.epochs} of {settings.epochs} "
        f"epochs, {seconds:.0f} s; {values}"
    )
