"""Faults of KerasTuner 1.4.8 and gRPC for which `tuning` overrides them.

Each test shows a fault. One that fails here is mended: the override that its docstring names can go.
"""

import os
import socket
import threading

import grpc
import keras_tuner
import pytest
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src.distribute.oracle_chief import exit_chief

from tuning.role import ChiefError, Role

pytestmark = pytest.mark.filterwarnings(
    # KerasTuner asks for the thread's name in the old way
    "ignore:currentThread:DeprecationWarning",
    "ignore:getName:DeprecationWarning",
)


def plain_oracle(folder, trials=3, **options):
    space = keras_tuner.HyperParameters()
    space.Float("rate", 1e-4, 1e-1)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("goal", "min"), trials, seed=1, hyperparameters=space, **options
    )
    oracle._set_project_dir(str(folder), "sr1")
    oracle.verbose = 0
    return oracle


def ended(oracle, trial, status="COMPLETED"):
    oracle.update_trial(trial.trial_id, {"goal": 1.0}, step=1)
    trial.status = status
    oracle.end_trial(trial)


class FailingTuner(BaseTuner):
    def run_trial(self, trial):
        raise ValueError("no such network")


def test_too_many_failures_block_the_oracle_for_ever(tmp_path):
    """`SweepOracle` sets no limit of its own, and counts failures in `ended`."""
    oracle = plain_oracle(tmp_path, max_consecutive_failed_trials=1)
    with pytest.raises(RuntimeError, match="consecutive failures"):
        ended(oracle, oracle.create_trial("worker0"), "FAILED")
    other = threading.Thread(target=oracle.create_trial, args=("worker1",), daemon=True)
    other.start()
    other.join(0.5)
    assert other.is_alive()


def test_the_search_ends_while_another_worker_may_be_lost_with_the_last_trial(tmp_path):
    """`SweepOracle.create_trial`: IDLE in place of STOPPED."""
    oracle = plain_oracle(tmp_path, trials=1)
    oracle.create_trial("worker0")
    assert oracle.create_trial("worker1").status == TrialStatus.STOPPED


def test_an_attempt_that_is_killed_with_its_process_is_not_counted(tmp_path):
    """`SweepOracle.create_trial` counts attempts where they begin."""
    for _ in range(3):
        oracle = plain_oracle(tmp_path)
        if os.path.isfile(tmp_path / "sr1/oracle.json"):
            oracle.reload()
        assert oracle.create_trial("tuner0").trial_id == "0"


def test_an_epoch_that_is_told_again_is_kept_twice(tmp_path):
    """`SweepOracle.update_trial` takes an epoch once; nor does KerasTuner ever stop a trial."""
    oracle = plain_oracle(tmp_path)
    name = oracle.create_trial("tuner0").trial_id
    for goal in (1.0, 3.0):
        trial = oracle.update_trial(name, {"goal": goal}, step=1)
    assert trial.metrics.get_history("goal")[0].value == [1.0, 3.0]
    assert trial.status == TrialStatus.RUNNING


def test_files_are_overwritten_in_place(tmp_path):
    """`SweepOracle.save` and `_save_trial`: a kill would leave half a file."""
    oracle = plain_oracle(tmp_path)
    trial = oracle.create_trial("tuner0")
    paths = [tmp_path / "sr1/oracle.json", tmp_path / "sr1/trial_0/trial.json"]
    before = [path.stat().st_ino for path in paths]
    ended(oracle, trial)
    assert [path.stat().st_ino for path in paths] == before


def test_an_oracle_s_file_that_is_older_than_its_trials_loses_them(tmp_path):
    """`SweepOracle.reload` goes by the trials' own files."""
    oracle = plain_oracle(tmp_path)
    oracle.save()
    before = (tmp_path / "sr1/oracle.json").read_text()
    oracle.create_trial("tuner0")
    (tmp_path / "sr1/oracle.json").write_text(before)  # a kill between the two writes
    again = plain_oracle(tmp_path)
    again.reload()
    assert again.create_trial("tuner0").trial_id == "1"  # trial 0 has not ended and never will


def test_a_tuner_reloads_nothing_before_it_has_saved_a_file_of_its_own(tmp_path):
    """`SweepTuner` reloads the oracle itself."""
    plain_oracle(tmp_path).create_trial("tuner0")
    oracle = plain_oracle(tmp_path)
    BaseTuner(oracle, directory=str(tmp_path), project_name="sr1")
    assert not oracle.trials


def test_a_trial_that_fails_prints_its_traceback(tmp_path, capsys):
    """`SweepTuner._try_run_and_update_trial`."""
    tuner = FailingTuner(plain_oracle(tmp_path), directory=str(tmp_path), project_name="sr1")
    tuner._try_run_and_update_trial(tuner.oracle.create_trial("tuner0"))
    assert "Traceback" in capsys.readouterr().err


def test_goals_that_are_told_epoch_by_epoch_are_warned_of(tmp_path):
    """`SweepTuner._try_run_and_update_trial`."""
    tuner = FailingTuner(plain_oracle(tmp_path), directory=str(tmp_path), project_name="sr1")
    tuner.run_trial = lambda trial: tuner.oracle.update_trial(trial.trial_id, {"goal": 1.0}, step=1)
    with pytest.warns(DeprecationWarning, match="update_trial"):
        tuner._run_and_update_trial(tuner.oracle.create_trial("tuner0"))


def test_a_worker_without_a_trial_asks_again_at_once(tmp_path, monkeypatch):
    """`SweepTuner.pre_create_trial` waits."""
    oracle, answers = plain_oracle(tmp_path), [TrialStatus.IDLE] * 1000 + [TrialStatus.STOPPED]
    monkeypatch.setattr(oracle, "create_trial", lambda _: Trial(oracle.get_space(), "0", answers.pop(0)))
    search = FailingTuner(oracle, directory=str(tmp_path), project_name="sr1").search
    thread = threading.Thread(target=search, daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_chief_waits_for_ever_for_a_worker_that_was_killed(tmp_path):
    """`SweepOracle.watching_workers` takes it off the list."""
    oracle = plain_oracle(tmp_path, trials=1)
    ended(oracle, oracle.create_trial("worker0"))
    oracle.tuner_ids.add("killed")
    assert oracle.create_trial("worker0").status == TrialStatus.STOPPED
    assert not exit_chief(oracle)


def test_two_chiefs_can_listen_on_one_port():
    """`Role.check_address` refuses the second."""
    first, second = (grpc.server(None) for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    first.start()
    try:
        assert second.add_insecure_port(f"127.0.0.1:{port}") == port
        with pytest.raises(ChiefError, match=f"127.0.0.1:{port}: cannot listen there; is another chief"):
            Role("chief", f"127.0.0.1:{port}").check_address()
    finally:
        first.stop(None).wait()
        second.stop(None).wait()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Role("chief", f"127.0.0.1:{port}").check_address()
