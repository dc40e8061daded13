"""Trials that end well, diverge, run out of memory, or are killed, and what is left after a kill."""

import json
import math
import shutil
import time

import pytest
from keras_tuner.engine.trial import Trial, TrialStatus

from tuning.oracle import SweepOracle
from tuning.proposals import Proposals
from tuning.study import read_json, study_records, trial_folder, write_study
from tuning.sweep_plan import SweepPlan
from tuning.trial_process import TrialError, TrialProcess
from tuning.trial_record import DONE, FAILED, STOPPED, best_of, read_records
from tuning.tuner import SweepTuner
from tuning_sample import AXES, BAD, arithmetic_job, finished_epochs, settings

pytestmark = pytest.mark.filterwarnings(
    # KerasTuner asks for the thread's name in the old way
    "ignore:currentThread:DeprecationWarning",
    "ignore:getName:DeprecationWarning",
)


def silent(line):
    pass


def oracle_in(output, trials=5, lease=0.0, clock=time.monotonic, **changes):
    chosen = settings(**changes)
    proposals = Proposals(AXES, chosen.algorithm, 0, None, chosen.epochs, 1, 3)
    oracle = SweepOracle(AXES, proposals, chosen.epochs, trials, 1, lease, say=silent, clock=clock)
    oracle._set_project_dir(str(output), "sr1")
    return oracle


def swept(output, trials=5, lines=None, **changes):
    """Runs a sweep of arithmetic trials in the folder, or goes on with it."""
    chosen = settings(**changes)
    write_study(chosen, output, trials)
    oracle = oracle_in(output, trials, **changes)
    plan = SweepPlan(chosen.preset, ("sr1",), output, workers=0)
    with TrialProcess(arithmetic_job) as process:
        SweepTuner(plan, chosen, None, oracle, process, silent if lines is None else lines.append).search()
    return oracle, study_records(output, chosen)


def test_a_sweep_finds_good_values_and_writes_all_of_it_down(tmp_path):
    oracle, records = swept(tmp_path, 20, algorithm="bayesian")
    assert oracle.ended == "all trials done"
    assert [record.number for record in records] == list(range(20))
    assert {record.state for record in records} == {DONE}
    best = best_of(records)
    assert best.goal == min(record.goal for record in records) == pytest.approx(0.75, abs=0.3)
    result = read_json(trial_folder(tmp_path, "sr1", best.name) / "result.json")
    assert result["values"] == dict(best.values)
    assert result["goal"] == best.goal
    assert (result["epochs"], result["seed"], result["upstream"]) == (4, 0, {})
    assert finished_epochs(tmp_path) == {f"trial_{n:02d}": 4 for n in range(20)}


def test_hyperband_trains_fewer_epochs_and_says_which_trials_it_stopped(tmp_path):
    lines = []
    _, records = swept(tmp_path, 20, lines, epochs=9)
    epochs = finished_epochs(tmp_path)
    assert sum(epochs.values()) < 0.7 * 20 * 9
    stopped = [record for record in records if record.state == STOPPED]
    assert stopped
    assert all(epochs[f"trial_{record.name}"] == record.epochs < 9 for record in stopped)
    assert sum("stopped early after" in line for line in lines) == len(stopped)


def test_bad_trials_count_as_bad_and_end_nothing(tmp_path, monkeypatch):
    fates = {"trial_0": "killed", "trial_1": "memory", "trial_2": "diverges", "trial_3": "broken"}
    monkeypatch.setenv(BAD, json.dumps({**fates, "trial_4": "killed once"}))
    lines = []
    _, records = swept(tmp_path, 6, lines, algorithm="random")
    states = {record.name: record.state for record in records}
    assert [states[name] for name in "013"] == [FAILED] * 3
    assert records[2].diverged
    assert records[2].epochs == 3  # not trained to the end for nothing
    assert [math.isfinite(record.goal) for record in records] == [False] * 4 + [True] * 2
    assert best_of(records).number in (4, 5)
    starts = {n: (tmp_path / f"sr1/trial_{n}/run/sr1/starts.txt").read_text().split() for n in range(6)}
    assert starts[0] == starts[1] == starts[3] == ["0", "0"]  # tried again once
    assert starts[4] == ["0", "2"]  # went on after its second epoch
    assert starts[5] == ["0"]
    errors = {n: (tmp_path / f"sr1/trial_{n}/errors.txt").read_text() for n in (0, 1, 3)}
    assert "ended by SIGKILL (out of memory, or killed)" in errors[0]
    assert "out of memory" in errors[1]
    assert "ValueError: no such network" in errors[3]
    assert any("trial 0: its process was ended by SIGKILL" in line for line in lines)


def test_five_failures_in_a_row_end_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv(BAD, json.dumps({f"trial_{n:02d}": "broken" for n in range(30)}))
    oracle, records = swept(tmp_path, 30)
    assert oracle.ended == "the last 5 trials failed"
    assert len(records) == 5


def test_more_trials_extend_a_sweep_and_repeat_none(tmp_path):
    swept(tmp_path / "parts", 4)
    _, records = swept(tmp_path / "parts", 12)
    _, whole = swept(tmp_path / "whole", 12)
    assert [record.values for record in records] == [record.values for record in whole]
    assert [record.curve for record in records] == [record.curve for record in whole]
    assert all(path.read_text() == "0\n" for path in (tmp_path / "parts").glob("sr1/*/run/sr1/starts.txt"))


@pytest.mark.parametrize("lost", ["oracle.json", "none", "older"])
def test_whenever_the_kill_came_no_trial_is_lost_or_repeated(tmp_path, lost):
    """The oracle's file is missing, up to date, or older than a trial's: a kill between two writes."""
    swept(tmp_path, 3)
    oracle_file = tmp_path / "sr1/oracle.json"
    if lost == "oracle.json":
        oracle_file.unlink()
    elif lost == "older":
        state = json.loads(oracle_file.read_text())
        state["ongoing_trials"], state["end_order"] = {"tuner0": "2"}, ["0", "1"]
        oracle_file.write_text(json.dumps(state))
    _, records = swept(tmp_path, 5)
    assert len(records) == 5
    assert {record.state for record in records} <= {DONE, STOPPED}
    starts = sorted(tmp_path.glob("sr1/*/run/sr1/starts.txt"))
    assert [path.read_text() for path in starts] == ["0\n"] * 5


def test_an_unfinished_trial_goes_on(tmp_path):
    first = oracle_in(tmp_path)
    trial = first.create_trial("tuner0")
    first.update_trial(trial.trial_id, {"goal": 3.0}, step=1)
    again = oracle_in(tmp_path)
    again.reload()
    next_one = again.create_trial("tuner0")
    assert (next_one.trial_id, next_one.hyperparameters.values) == (
        trial.trial_id,
        trial.hyperparameters.values,
    )
    assert again.records()[0].curve == {1: 3.0}


def test_a_trial_that_is_killed_with_the_whole_command_is_given_up_in_the_end(tmp_path):
    for _ in range(2):
        oracle = oracle_in(tmp_path)
        oracle.reload()
        assert oracle.create_trial("tuner0").trial_id == "0"
    oracle = oracle_in(tmp_path)
    oracle.reload()
    assert oracle.create_trial("tuner0").trial_id == "1"
    assert oracle.records()[0].state == FAILED


def test_an_attempt_that_the_user_interrupts_does_not_count(tmp_path):
    for _ in range(5):
        oracle = oracle_in(tmp_path)
        oracle.reload()
        assert oracle.create_trial("tuner0").trial_id == "0"
        oracle.forgive("tuner0")


def test_the_goal_is_what_kerastuner_scores_by(tmp_path):
    oracle = oracle_in(tmp_path)
    trial = oracle.create_trial("tuner0")
    for step, goal in ((1, 3.0), (2, 1.5), (3, 2.0)):
        oracle.update_trial(trial.trial_id, {"goal": goal}, step=step)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert oracle.get_best_trials()[0].score == 1.5
    with pytest.raises(ValueError, match="Objective value missing"):
        oracle.update_trial(oracle.create_trial("tuner0").trial_id, {"loss": 1.0}, step=1)


def test_a_lost_worker_s_trial_goes_to_another_one_and_the_last_waits_for_it(tmp_path):
    now = [0.0]
    oracle = oracle_in(tmp_path, 2, 60.0, lambda: now[0])
    first, second = oracle.create_trial("worker0"), oracle.create_trial("worker1")
    assert (first.trial_id, second.trial_id) == ("0", "1")
    now[0] = 50.0
    oracle.get_trial("1")  # worker1 shows that it is alive
    now[0] = 59.0
    second.status = "COMPLETED"
    oracle.update_trial("1", {"goal": 1.0}, step=1)
    oracle.end_trial(second)
    assert oracle.create_trial("worker1").status == TrialStatus.IDLE  # worker0 might be lost
    now[0] = 61.0
    taken = oracle.create_trial("worker1")
    assert (taken.trial_id, taken.status) == ("0", TrialStatus.RUNNING)
    assert oracle.tuner_ids == {"worker1"}
    taken.status = "COMPLETED"
    oracle.update_trial("0", {"goal": 2.0}, step=1)
    oracle.end_trial(taken)
    assert oracle.create_trial("worker1").status == TrialStatus.STOPPED
    assert not oracle.tuner_ids
    late = Trial(oracle.get_space(), "0", "INVALID")
    oracle.end_trial(late)  # of the one that was taken for lost
    assert [record.state for record in oracle.records()] == [STOPPED] * 2


def test_a_chief_that_is_started_again_leaves_trials_with_the_workers_that_live(tmp_path):
    now = [0.0]
    before = oracle_in(tmp_path, 3, 60.0, lambda: now[0])
    for worker in ("worker0", "worker1"):
        before.create_trial(worker)
    again = oracle_in(tmp_path, 3, 60.0, lambda: now[0])
    again.reload()
    assert {name: trial.trial_id for name, trial in again.ongoing_trials.items()} == {
        "worker0": "0",
        "worker1": "1",
    }
    again.reclaim()
    now[0] = 59.0
    again.update_trial("0", {"goal": 1.0}, step=1)
    again.get_trial("0")
    now[0] = 61.0
    again.reclaim()
    assert list(again.ongoing_trials) == ["worker0"]
    assert again.create_trial("worker2").trial_id == "1"


def test_values_are_the_same_after_the_network(tmp_path):
    trial = oracle_in(tmp_path).create_trial("tuner0")
    there = Trial.from_proto(trial.to_proto())
    for axis in AXES:
        assert (
            axis.nearest(there.hyperparameters.values[axis.name]) == trial.hyperparameters.values[axis.name]
        )


def test_a_trial_process_that_dies_says_how(tmp_path, monkeypatch):
    from tuning.trial_process import TrialJob

    monkeypatch.setenv(BAD, json.dumps({"trial_9": "killed"}))
    chosen = settings()
    preset = chosen.trial_preset({"learning_rate": 1e-3, "width": 16, "activation": "elu"})
    folder = tmp_path / "trial_9" / "run"
    job = TrialJob("sr1", preset.to_json(), None, folder, None, 0, 0, tmp_path / "log.txt")
    with TrialProcess(arithmetic_job) as process:
        with pytest.raises(TrialError, match="its process was ended by SIGKILL"):
            process.run(job, lambda epoch, goal: False)
        monkeypatch.delenv(BAD)
        shutil.rmtree(folder)
        assert process.run(job, lambda epoch, goal: epoch == 2)["epochs"] == 2
        assert process.run(job, lambda epoch, goal: False)["epochs"] == 4


def test_a_damaged_trial_is_named(tmp_path):
    swept(tmp_path, 1)
    (tmp_path / "sr1/trial_0/trial.json").write_text("{")
    with pytest.raises(ValueError, match=r"sr1/trial_0/trial.json: damaged .*; remove its folder"):
        read_records(tmp_path / "sr1", 4)


def test_tensorboard_shows_the_trials(tmp_path, monkeypatch):
    """Its own reader finds every trial, with its values and goals; failed ones as well."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    monkeypatch.setenv(BAD, json.dumps({"trial_1": "broken"}))
    _, records = swept(tmp_path, 3)
    for record in records:
        events = EventAccumulator(str(tmp_path / "sr1/tensorboard" / record.name))
        events.Reload()
        session = HParamsPluginData.FromString(
            events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        ).session_start_info
        told = {name: value for name, value in session.hparams.items()}
        assert told["activation"].string_value == record.values["activation"]
        assert told["width"].number_value == record.values["width"]
        goals = events.Scalars("goal") if record.curve else []
        assert [(event.step, event.value) for event in goals] == [
            (epoch, pytest.approx(goal, rel=1e-6)) for epoch, goal in record.curve.items()
        ]
    experiment = EventAccumulator(str(tmp_path / "sr1/tensorboard"))
    experiment.Reload()
    content = experiment.SummaryMetadata("_hparams_/experiment").plugin_data.content
    names = [info.name for info in HParamsPluginData.FromString(content).experiment.hparam_infos]
    assert names == [axis.name for axis in AXES]
