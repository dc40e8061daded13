"""Proposals of trials and early stopping: Optuna's samplers and pruner, asked afresh from the trials so far.

Nothing is kept in memory between two questions. An interrupted sweep that is started again therefore
proposes what it would have proposed, whatever was lost with the process.
"""

import logging
import math
import warnings
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from tuning.space import Axis, Value
from tuning.trial_record import RUNNING, STOPPED, TrialRecord

_STARTUP = 10  # random trials before the estimator is trusted
_ASKS = 20  # questions to the sampler before an untried configuration is looked for systematically
_DIVERGED = 3  # epochs in a row without a finite goal that end a trial
_BAD = 1e6  # goal of trials that diverged or failed, for the estimator
_EPOCH = datetime(2000, 1, 1)  # Optuna wants times, nothing depends on them


class Proposals:
    """Proposes configurations and stops trials.

    Args:
        axes: axes of the search.
        algorithm: ``hyperband``, ``bayesian`` or ``random``.
        seed: seed of the proposals.
        start: configuration of the first trial; None draws it.
        epochs: most epochs of a trial.
        first_epochs: epochs before which no trial is stopped.
        factor: reduction factor of successive halving.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        algorithm: str,
        seed: int,
        start: dict[str, Value] | None = None,
        epochs: int = 8,
        first_epochs: int = 1,
        factor: int = 3,
    ):
        self._axes, self._algorithm, self._seed, self._start = tuple(axes), algorithm, seed, start
        self._epochs, self._first, self._factor = epochs, first_epochs, factor
        self._distributions = {axis.name: _distribution(axis) for axis in axes}
        logging.getLogger("optuna").setLevel(logging.WARNING)

    def propose(self, records: Sequence[TrialRecord]) -> dict[str, Value] | None:
        """Values of the next trial, which no trial has had; None once all have been tried.

        Args:
            records: all trials so far, running ones among them.
        """
        # Optuna proposes what it has seen before where a space is small; a trial takes minutes.
        tried = {self._key(record.values) for record in records}
        if not tried and self._start is not None:
            return dict(self._start)
        # Seeded by the number of trials, so that a sweep that was killed proposes what it would have
        # proposed.
        study = self._study(records, self._sampler(len(records)))
        for _ in range(_ASKS):
            if (values := self._asked(study, tried)) is not None:
                return values
        if not all(math.isfinite(axis.size) for axis in self._axes):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # What sampling no longer hits is listed.
            exhaustive = BruteForceSampler(self._seed, avoid_premature_stop=True)
        return self._asked(self._study(records, exhaustive), tried)

    def _asked(self, study: optuna.Study, tried: set[str]) -> dict[str, Value] | None:
        """Values that Optuna proposes; None if they have been tried."""
        trial = study.ask(self._distributions)
        values = {axis.name: _from_optuna(axis, trial.params[axis.name]) for axis in self._axes}
        return None if self._key(values) in tried else values

    def should_stop(self, records: Sequence[TrialRecord], current: TrialRecord) -> bool:
        """Whether a trial ends after the last epoch of its curve.

        Args:
            records: all trials so far; the trial is compared with their goals at the epochs of decision.
            current: trial that has just finished an epoch.
        """
        curve = [current.curve[epoch] for epoch in sorted(current.curve)]
        if len(curve) >= _DIVERGED and not any(map(math.isfinite, curve[-_DIVERGED:])):
            return True
        if self._algorithm != "hyperband" or current.epochs >= self._epochs:
            return False
        pruner = optuna.pruners.HyperbandPruner(self._first, self._epochs, self._factor)
        study = optuna.create_study(pruner=pruner, sampler=RandomSampler(seed=0), study_name="sweep")
        ordered = sorted(records, key=lambda each: each.number)
        trials = {record.number: study.ask() for record in ordered}  # a trial's number decides its bracket
        for record in ordered:
            curve = current.curve if record.number == current.number else record.curve
            for epoch in sorted(curve):
                if record.number != current.number or epoch < current.epochs:
                    trials[record.number].report(_told(curve[epoch]), epoch)
                    # the pruner notes a trial's goal only when asked about it
                    trials[record.number].should_prune()
        trial = trials[current.number]
        trial.report(_told(current.curve[current.epochs]), current.epochs)
        return trial.should_prune()

    def _study(self, records: Sequence[TrialRecord], sampler: BaseSampler) -> optuna.Study:
        study = optuna.create_study(sampler=sampler)
        for record in records:
            study.add_trial(self._optuna_trial(record))
        return study

    def _sampler(self, number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._algorithm == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=_STARTUP, multivariate=True)

    def _optuna_trial(self, record: TrialRecord) -> optuna.trial.FrozenTrial:
        states = {RUNNING: TrialState.RUNNING, STOPPED: TrialState.PRUNED}
        state = states.get(record.state, TrialState.COMPLETE)
        trial = create_trial(
            state=TrialState.COMPLETE,
            value=_told(record.goal),
            params={axis.name: _to_optuna(axis, record.values[axis.name]) for axis in self._axes},
            distributions=self._distributions,
            intermediate_values={epoch: _told(goal) for epoch, goal in record.curve.items()},
        )
        if state is TrialState.COMPLETE or (not record.curve and state is TrialState.PRUNED):
            return trial
        trial.state, trial.datetime_start = state, _EPOCH
        if state is TrialState.RUNNING:
            trial.datetime_complete, trial.values = None, None
        return trial

    def _key(self, values: dict[str, Value]) -> str:
        return "|".join(f"{axis.nearest(values[axis.name])}" for axis in self._axes)


def _told(goal: float) -> float:
    return goal if math.isfinite(goal) else _BAD


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.choices:
        # numbers have an order that the estimator can use
        return (
            IntDistribution(0, len(axis.choices) - 1)
            if axis.numeric
            else CategoricalDistribution(axis.choices)
        )
    if axis.step:
        return IntDistribution(int(axis.low), int(axis.values()[-1]), step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _from_optuna(axis: Axis, value: Value) -> Value:
    return axis.nearest(axis.choices[int(value)] if axis.choices and axis.numeric else value)


def _to_optuna(axis: Axis, value: Value) -> Value:
    value = axis.nearest(value)
    return axis.choices.index(value) if axis.choices and axis.numeric else value
