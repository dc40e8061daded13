"""Proposals: fast, never repeated, the same after an interruption; what is stopped and what is not."""

import math
import time

import numpy as np
import pytest

from kspecsr.configuration import PRESETS
from tuning.proposals import Proposals
from tuning.space import Axis, search_space, values_of
from tuning.study import ALGORITHMS
from tuning.trial_record import DONE, FAILED, RUNNING, STOPPED, TrialRecord

SMALL = (Axis("a", "x.a", choices=(1, 2, 4)), Axis("b", "x.b", choices=("elu", "relu")))
SPACE = search_space("sr2")


def swept(algorithm, count, axes=SPACE, seed=0, state=DONE):
    """Records of a sweep whose goal is best at a learning rate of 1e-3 and without dropout."""
    proposals, records = Proposals(axes, algorithm, seed), []
    for number in range(count):
        values = proposals.propose(records)
        if values is None:
            break
        goal = abs(math.log(values.get("learning_rate", 1e-3) / 1e-3)) + values.get("dropout", 0.0)
        records.append(TrialRecord(number, values, {1: 2.0 + goal, 2: goal}, state, f"{number}"))
    return records


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_proposal_takes_less_than_three_seconds_at_trial_100_and_none_is_repeated(algorithm):
    records = swept(algorithm, 100)
    start = time.process_time()
    Proposals(SPACE, algorithm, 0).propose(records)
    assert time.process_time() - start < 3.0
    assert len({tuple(record.values.values()) for record in records}) == 100


def test_the_estimator_finds_better_trials_than_chance():
    goals = {name: sorted(record.goal for record in swept(name, 60)) for name in ("bayesian", "random")}
    assert np.median(goals["bayesian"][:20]) < 0.7 * np.median(goals["random"][:20])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_small_space_is_used_up_without_repeating(algorithm):
    records = swept(algorithm, 50, SMALL)
    assert len({tuple(record.values.values()) for record in records}) == len(records) == 6


def test_an_interrupted_sweep_proposes_what_it_would_have_proposed():
    whole = swept("hyperband", 30)
    for at in (1, 12, 29):
        assert Proposals(SPACE, "hyperband", 0).propose(whole[:at]) == whole[at].values
    assert Proposals(SPACE, "hyperband", 1).propose(whole[:12]) != whole[12].values


def test_the_first_trial_is_the_preset_s_own():
    start = values_of(PRESETS["default"], "sr2", SPACE)
    assert Proposals(SPACE, "bayesian", 0, start).propose([]) == start


def test_trials_that_run_are_not_proposed_again():
    running = [TrialRecord(0, Proposals(SMALL, "random", 0).propose([]), {}, RUNNING)]
    records = list(running)
    for number in range(1, 6):
        records.append(TrialRecord(number, Proposals(SMALL, "random", 0).propose(records), {}, RUNNING))
    assert len({tuple(record.values.values()) for record in records}) == 6
    assert Proposals(SMALL, "random", 0).propose(records) is None


@pytest.mark.parametrize("state", [FAILED, DONE])
def test_what_diverged_or_failed_is_avoided(state):
    """Half of the space is bad: the estimator leaves it."""
    axes = (Axis("x", "x.x", 0.0, 1.0), Axis("y", "x.y", 0.0, 1.0))
    proposals, records = Proposals(axes, "bayesian", 3), []
    for number in range(50):
        values = proposals.propose(records)
        bad = values["x"] > 0.5
        curve = {1: math.inf if bad else 1.0 + values["y"]}
        records.append(TrialRecord(number, values, curve, state if bad else DONE))
    late = [record.values["x"] > 0.5 for record in records[25:]]
    assert np.mean(late) < 0.25


def racing(goals, epoch, current, state=STOPPED):
    """Trials that have been at an epoch with these goals, and one that has just got there."""
    records = [TrialRecord(n, {}, {epoch: goal}, state) for n, goal in enumerate(goals)]
    return records, TrialRecord(current, {}, {epoch: goals[current]}, RUNNING)


def test_successive_halving_stops_most_at_the_first_epoch_and_lets_the_best_go_on():
    proposals = Proposals(SMALL, "hyperband", 0, epochs=9, first_epochs=1, factor=3)
    goals = [1.0 + 0.1 * n for n in range(30)]
    stops = [proposals.should_stop(*racing(goals, 1, n)) for n in range(30)]
    assert not any(stops[:3])
    assert 10 <= sum(stops) <= 25  # those of the other brackets are not judged yet
    # at the third epoch trials of the next bracket are judged as well
    later = [proposals.should_stop(*racing(goals, 3, n)) for n in range(30)]
    assert sum(later) > sum(stops)
    assert not any(later[:2])


def test_between_the_epochs_of_decision_nothing_is_stopped():
    proposals = Proposals(SMALL, "hyperband", 0, epochs=9, first_epochs=3, factor=3)
    for epoch in (1, 2):
        assert not any(
            proposals.should_stop(*racing([1.0 * n for n in range(20)], epoch, n)) for n in range(20)
        )


@pytest.mark.parametrize("algorithm", ["bayesian", "random"])
def test_the_others_stop_only_what_diverges(algorithm):
    proposals = Proposals(SMALL, algorithm, 0, epochs=9)
    assert not any(proposals.should_stop(*racing([1.0 * n for n in range(20)], 1, n)) for n in range(20))
    curve = {1: 1.0, 2: math.inf, 3: math.inf, 4: math.inf}
    lost = TrialRecord(0, {}, curve, RUNNING)
    assert proposals.should_stop([lost], lost)
    short = TrialRecord(0, {}, {1: math.inf, 2: math.inf}, RUNNING)
    assert not proposals.should_stop([short], short)


def test_a_slow_trial_is_judged_against_those_that_were_begun_later():
    proposals = Proposals(SMALL, "hyperband", 0, epochs=9, first_epochs=1, factor=3)
    goals = [1.0 + 0.01 * n for n in range(30)]
    worst = [[*goals[:n], 9.0, *goals[n + 1 :]] for n in range(30)]
    stopped = [n for n in range(30) if proposals.should_stop(*racing(worst[n], 1, n))]
    assert min(stopped) < 5  # alone among those before it, it would be the best
