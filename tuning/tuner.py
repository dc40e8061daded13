"""KerasTuner's tuner around the stage's own training."""

import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tuning.oracle import SweepOracle
from tuning.study import RESULT_FILE, SweepSettings, stage_folder, trial_folder, write_json
from tuning.sweep_plan import SweepPlan
from tuning.tensorboard_log import log_experiment, log_trial
from tuning.trial_process import TrialError, TrialJob, TrialProcess
from tuning.trial_record import DONE, FAILED, OBJECTIVE, RUNNING, STOPPED, TrialRecord, record_of

_IDLE = 1.0  # seconds before a worker without a trial asks again
_SIGNS = 6  # requests of a worker within its lease, while it is training


class SweepTuner(BaseTuner):
    """Runs the trials of one stage: all of them, or those that a chief hands out; as a chief, serves workers.

    Args:
        plan: what the user asks for.
        settings: settings of the sweep.
        upstream: model folder with the earlier stages.
        oracle: oracle that hands out trials.
        process: process that trains.
        say: called with each line of text.
    """

    def __init__(
        self,
        plan: SweepPlan,
        settings: SweepSettings,
        upstream: Path | None,
        oracle: SweepOracle,
        process: TrialProcess,
        say: Callable[[str], None] = print,
    ):
        self._plan, self._settings, self._upstream = plan, settings, upstream
        self._process, self._say = process, say
        self._folder = stage_folder(plan.output, settings.stage)
        self._idle = False
        super().__init__(oracle=oracle, directory=str(plan.output), project_name=settings.stage)
        if not self._is_worker():
            # KerasTuner does so only where a tuner of the same name has saved a file of its own before
            self.oracle.reload()
            log_experiment(self._folder, settings.axes)

    def save(self) -> None:
        """Write nothing: the oracle's files hold everything, and it writes them itself."""

    def pre_create_trial(self) -> None:
        """Wait a little if the last answer was IDLE; KerasTuner itself asks again at once."""
        if self._idle:
            time.sleep(_IDLE)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        """Note that there is something to do."""
        self._idle, self._start = False, time.monotonic()

    def run_trial(self, trial: Trial) -> None:
        """Train a trial, or continue it; the oracle is told after each epoch.

        Raises:
            TrialError: if its process did not come to the end.
        """
        plan, settings, name = self._plan, self._settings, trial.trial_id
        folder = trial_folder(plan.output, settings.stage, name)
        values = {axis.name: axis.nearest(trial.hyperparameters.values[axis.name]) for axis in settings.axes}
        job = TrialJob(
            stage=settings.stage,
            preset=settings.trial_preset(values).to_json(),
            data=plan.data,
            folder=folder / "run",
            upstream=self._upstream,
            seed=settings.seed,
            workers=plan.workers,
            log=folder / "log.txt",
        )
        curve: dict[int, float] = {}

        def after_epoch(epoch: int, goal: float) -> bool:
            curve[epoch] = goal
            return self.oracle.update_trial(name, {OBJECTIVE: goal}, step=epoch).status == TrialStatus.STOPPED

        # The cheapest request there is; any request shows that a worker lives.
        show_alive = partial(self.oracle.get_trial, name)
        outcome = self._process.run(job, after_epoch, show_alive, plan.lease / _SIGNS)
        result = {
            "stage": settings.stage,
            "trial": name,
            "values": values,
            **outcome,
            "ended": STOPPED if outcome["epochs"] < settings.epochs else DONE,
            "upstream": settings.upstream,
            "seed": settings.seed,
        }
        # Before the oracle hears of it: a trial that counts as done must have its result.
        write_json(folder / RESULT_FILE, result)
        log_trial(self._folder, settings.axes, TrialRecord(int(name), values, curve, name=name))

    def _try_run_and_update_trial(self, trial: Trial, *args: object, **options: object) -> None:
        # KerasTuner's own prints the traceback of each trial that fails, and warns of goals that are told
        # epoch by epoch, without which no trial can be stopped early
        try:
            self.run_trial(trial)
            trial.status, trial.message = TrialStatus.COMPLETED, None
        except Exception as error:
            trial.status = TrialStatus.INVALID
            trial.message = str(error) if isinstance(error, TrialError) else traceback.format_exc()
            folder = trial_folder(self._plan.output, self._settings.stage, trial.trial_id)
            with open(folder / "errors.txt", "a", encoding="utf-8") as file:
                file.write(f"{trial.message}\n")
            self._say(f"trial {trial.trial_id}: {trial.message.splitlines()[0]}")

    def on_trial_end(self, trial: Trial) -> None:
        """Tell the oracle and the user."""
        self.oracle.end_trial(trial)
        state = self.oracle.get_trial(trial.trial_id).get_state()
        record = record_of(state, self._settings.epochs)
        if record.state == FAILED:
            log_trial(self._folder, self._settings.axes, record)
        if record.state != RUNNING:
            self._say(trial_line(record, self._settings, time.monotonic() - self._start))


def trial_line(record: TrialRecord, settings: SweepSettings, seconds: float) -> str:
    """One line of text about a trial that has ended."""
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
