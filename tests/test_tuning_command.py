"""The command line of sweeps: killed and started again, chief and workers, bad input, the report."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image

from kspecsr.configuration import PRESETS, Preset, load_preset
from kspecsr.training.output_folder import only_run
from records_sample import write_records
from tuning import report, run, sweep
from tuning.importance import importances
from tuning.pictures import axis_scale
from tuning.role import role_from
from tuning.space import Axis
from tuning.study import StudyError, check_output, read_json, read_study, study_records
from tuning.trial_record import DONE, FAILED, STOPPED, TrialRecord, best_of
from tuning.tuner import SweepTuner
from tuning_sample import PAUSE, arithmetic_job, finished_epochs

pytestmark = pytest.mark.filterwarnings(
    # KerasTuner asks for the thread's name in the old way
    "ignore:currentThread:DeprecationWarning",
    "ignore:getName:DeprecationWarning",
)
ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--stage", "sr1", "--data", "simulation", "--preset", "small", "--epochs", "4", "--axes"]
OPTIONS += ["learning_rate,width,activation", "--workers", "0"]


def command(output, *options, pause=0.0, **environment):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, PAUSE: str(pause), "PYTHONPATH": path, **environment}
    arguments = [sys.executable, str(ROOT / "tests/tuning_command.py"), *OPTIONS, "--output", str(output)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*arguments, *options], env=environment, cwd=ROOT, **streams)


def ended(process, status=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == status, out + err
    return out


def wait_until(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def starts(output):
    return {p.parts[-4]: p.read_text().split() for p in sorted(Path(output).glob("sr1/*/run/sr1/starts.txt"))}


def records_in(output):
    return study_records(output, read_study(output, "sr1"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that was killed half-way and started again; what was there then; what it printed."""
    output = tmp_path_factory.mktemp("killed") / "night"
    first = command(output, "--trials", "12", pause=0.1)
    wait_until(lambda: len(finished_epochs(output)) == 5, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {r.name: r for r in records_in(output) if r.finished}
    time.sleep(0.5)  # what it had started ends with it
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        assert here(patch, output) == 0
    return output, before, text.getvalue()


def test_a_killed_sweep_loses_and_repeats_nothing(swept):
    output, before, text = swept
    after = {record.name: record for record in records_in(output)}
    assert len(before) >= 3
    assert f"{len(before)} of 12 trials done" in text
    assert all(after[name] == record for name, record in before.items())
    assert sorted(after) == [f"{n:02d}" for n in range(12)]
    assert {record.state for record in after.values()} <= {DONE, STOPPED}
    begun = starts(output)
    assert all(begun[f"trial_{name}"] == ["0"] for name in before)
    twice = [name for name, times in begun.items() if len(times) > 1]
    assert len(twice) <= 1
    assert finished_epochs(output) == {f"trial_{name}": record.epochs for name, record in after.items()}


def here(monkeypatch, output, trials="12"):
    """The same command in this process."""
    monkeypatch.setattr(sweep, "train_job", arithmetic_job)
    return run.main([*OPTIONS, "--output", str(output), "--trials", trials])


def test_a_finished_sweep_does_nothing_more(swept, monkeypatch, capsys):
    output, _, _ = swept
    begun = starts(output)
    assert here(monkeypatch, output) == 0
    assert "12 of 12 trials done" in capsys.readouterr().out
    assert starts(output) == begun


def test_the_best_is_exported_as_a_preset_that_training_takes(swept, tmp_path, capsys):
    output, _, _ = swept
    path = tmp_path / "best.json"
    assert run.main(["--output", str(output), "--export", str(path)]) == 0
    assert f"kspecsr train --preset {path}" in capsys.readouterr().out
    preset, best = load_preset(path), best_of(records_in(output))
    assert preset.model.sr1.channels == best.values["width"]
    assert preset.training["sr1"].learning_rate == best.values["learning_rate"]
    assert preset.training["sr1"].epochs == PRESETS["small"].training["sr1"].epochs  # full budget
    assert preset.model.sr2 == PRESETS["small"].model.sr2
    assert Preset.from_json((output / "sr1/best_preset.json").read_text()) == preset


@pytest.mark.long
def test_chief_and_two_workers_one_of_them_killed(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    options = ("--trials", "8", "--lease", "10", "--algorithm", "random")
    names = ("chief", "worker0", "worker1")
    parts = {n: command(tmp_path, *options, pause=0.4, KERASTUNER_TUNER_ID=n, **address) for n in names}
    try:
        wait_until(lambda: len(finished_epochs(tmp_path)) >= 2, parts["chief"])
        state = tmp_path / "sr1/oracle.json"
        wait_until(lambda: "worker1" in json.loads(state.read_text())["ongoing_trials"], parts["chief"])
        killed = json.loads(state.read_text())["ongoing_trials"]["worker1"]
        parts["worker1"].send_signal(signal.SIGKILL)
        parts["worker1"].communicate()
        text = ended(parts["chief"])
        ended(parts["worker0"])
    finally:
        for process in parts.values():
            process.kill()
    assert f"worker1 is lost; its trial {killed} goes to the next one" in text
    records = records_in(tmp_path)
    assert [record.state for record in records] == [DONE] * 8
    assert len({tuple(record.values.values()) for record in records}) == 8
    begun = starts(tmp_path)
    assert {name for name, times in begun.items() if len(times) > 1} == {f"trial_{killed}"}
    assert finished_epochs(tmp_path) == {f"trial_{n}": 4 for n in range(8)}
    results = [read_json(tmp_path / f"sr1/trial_{n}/result.json") for n in range(8)]
    assert [result["values"] for result in results] == [dict(record.values) for record in records]
    assert {result["seed"] for result in results} == {0}


def refused(capsys, *arguments):
    try:
        status = run.main(list(arguments))
    except SystemExit as ended:  # a value that argparse refuses
        status = ended.code
    assert status == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_bad_input_is_refused_before_the_first_trial(swept, tmp_path, capsys):
    output = str(swept[0])
    there = sorted(Path(output).rglob("*"))
    new = str(tmp_path / "new")
    assert "--stage 'sr3' is unknown; expected one of sr1, zhead, sr2, all" in refused(
        capsys, "--stage", "sr3"
    )
    assert "axis 'depth' is unknown" in refused(capsys, "--axes", "depth")
    assert "expected AXIS=LOW:HIGH or AXIS=A,B" in refused(capsys, "--range", "width")
    for option, words in (
        ("--trials", "expected 1 or more, got 0"),
        ("--hours", "expected a positive number"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run.main([option, "0"])
        assert f"{option}: {words}" in capsys.readouterr().err
    assert "no manifest.json there" in refused(capsys, "--data", str(tmp_path), "--output", new)
    text = refused(capsys, "--stage", "zhead", "--output", new, "--data", "simulation")
    assert "zhead is swept on the frozen sr1, but" in text
    assert "sr1 first with --retrain, or name a model that has it with --upstream" in text
    text = refused(capsys, *OPTIONS, "--output", output, "--seed", "3")
    assert f"{output}: holds another study of sr1: seed was 0, now 3" in text
    text = refused(capsys, *OPTIONS, "--output", output, "--range", "width=16:32")
    assert "axes.width was 48 to 144, steps of 16, now 16 to 32, steps of 16" in text
    text = refused(capsys, *OPTIONS, "--output", output, "--epochs", "5")
    assert "epochs was 4, now 5" in text
    text = refused(capsys, *OPTIONS, "--output", str(ROOT / "tests"))
    assert "holds archive_server.py" in text
    assert "no study.json of a sweep; give another --output" in text
    text = refused(capsys, "--stage", "zhead", "--upstream", "saved_models/default", "--preset", "paper")
    assert "saved_models/default: on the grid 0.7-5.3 um" in text
    assert "but preset 'paper' on 1-5 um" in text
    text = refused(capsys, "--output", new, "--export", str(tmp_path / "x.json"))
    assert f"{new}: holds no sweep" in text
    assert not Path(new).exists()
    assert sorted(Path(output).rglob("*")) == there


def test_records_on_another_grid_are_refused(tmp_path, capsys):
    write_records(tmp_path / "records", {"train": 4, "validation": 2, "test": 2})
    options = ("--data", str(tmp_path / "records"), "--preset", "paper", "--output", str(tmp_path / "new"))
    text = refused(capsys, *options)
    assert "records: its records are on the grid" in text
    assert "but the model is on the grid 1-5 um" in text


def test_a_folder_in_which_a_kill_left_a_lock_alone_is_taken(tmp_path):
    (tmp_path / "sr1").mkdir()
    (tmp_path / "sr1/.lock").touch()
    check_output(tmp_path)
    (tmp_path / "sr1/state.npz").touch()  # a training's
    with pytest.raises(StudyError, match=r"holds sr1 and no study\.json of a sweep"):
        check_output(tmp_path)


def test_a_missing_variable_of_a_distributed_sweep_is_named():
    with pytest.raises(
        ValueError, match="KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_PORT not set, but KERASTUNER_"
    ):
        role_from({"KERASTUNER_ORACLE_IP": "127.0.0.1"})
    names = {"KERASTUNER_TUNER_ID": "chief", "KERASTUNER_ORACLE_IP": "h", "KERASTUNER_ORACLE_PORT": "80"}
    assert role_from(names).is_chief
    assert role_from({**names, "KERASTUNER_TUNER_ID": "worker3"}).is_worker
    assert not role_from({}).is_worker
    with pytest.raises(ValueError, match="expected a port, 1 to 65535, got 'x'"):
        role_from({**names, "KERASTUNER_ORACLE_PORT": "x"})


def test_two_sweeps_in_one_folder_are_refused(swept, monkeypatch, capsys):
    output, _, _ = swept
    with only_run(output / "sr1"):
        assert here(monkeypatch, output) == 1
    assert "sr1: another training is at work in this folder" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(swept, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    output, _, _ = swept
    monkeypatch.setattr(SweepTuner, "search", interrupted)
    assert here(monkeypatch, output) == 130
    assert "interrupted; rerun the same command to resume" in capsys.readouterr().err


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside = []

    def handle_starttag(self, tag, attributes):
        self.outside += [v for k, v in attributes if k in ("src", "href") and str(v).startswith("http")]


def test_the_report_shows_all_trials(swept, tmp_path, capsys):
    output, _, _ = swept
    assert report.main([str(output), "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    records = records_in(output)
    table = Table.read(tmp_path / "sr1/trials.ecsv")
    assert len(table) == 12
    assert list(table["goal"]) == sorted(record.goal for record in records)
    assert str(table["trial"][0]) in (best_of(records).name, str(best_of(records).number))
    assert table.meta["stage"] == "sr1"
    assert "rank correlation" in text
    for name in ("parallel", "importance", "learning_curves"):
        pixels = np.asarray(Image.open(tmp_path / f"sr1/{name}.png").convert("RGB"))
        assert min(pixels.shape[:2]) > 400
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    page = (tmp_path / "sr1/parallel.html").read_text()
    links = _Links()
    links.feed(page)
    assert links.outside == []
    assert "parcoords" in page
    assert len(page) > 1_000_000  # plotly itself is in it


def test_a_report_of_nothing_says_so(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert f"{tmp_path}: holds no sweep; expected a folder that kspecsr tune wrote" in capsys.readouterr().err
    assert report.main([str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


AXES = (
    Axis("rate", "x.rate", 1e-4, 1e-2, log=True),
    Axis("idle", "x.idle", 0.0, 1.0),
    Axis("word", "x.word", choices=("a", "b", "c")),
)


def made_up(count=60):
    generator = np.random.default_rng(5)
    records = []
    for number in range(count):
        values = {"rate": float(10 ** generator.uniform(-4, -2)), "idle": float(generator.uniform())}
        values["word"] = "abc"[generator.integers(3)]
        goal = 3.0 + np.log10(values["rate"]) + 0.5 * (values["word"] == "b") + 0.02 * generator.normal()
        records.append(TrialRecord(number, values, {1: float(goal)}, DONE, str(number)))
    return records


@pytest.fixture(scope="module")
def found():
    return importances(AXES, made_up())


def test_importance_finds_what_matters_in_which_direction_and_how_sure(found):
    assert list(found["name"]) == ["rate", "word", "idle"]
    rate, word, idle = found
    assert rate["importance"] > 2 * rate["error"]
    assert abs(idle["importance"]) < 3 * max(idle["error"], 0.01)
    assert rate["correlation"] > 0.8
    assert np.isnan(word["correlation"])
    assert found.meta["explained"] > 0.7


def test_trials_that_were_stopped_count_as_behind_those_that_went_on(found):
    records = made_up()
    middle = np.median([r.goal for r in records])
    halved = [
        replace(r, state=STOPPED) if r.goal > middle else replace(r, curve={**r.curve, 3: r.goal - 1.0})
        for r in records
    ]
    of_both = importances(AXES, [*halved, TrialRecord(99, records[0].values, {}, FAILED)])
    assert of_both.meta == {**found.meta, "stopped_early": len(records) // 2}
    for name in found.colnames:
        np.testing.assert_array_equal(of_both[name], found[name])


def test_axes_of_the_picture():
    rates = [1e-4, 1e-3, 1e-2]
    records = [
        TrialRecord(n, {"rate": r, "idle": 0.5, "word": "b"}, {1: 1.0 + n}, DONE) for n, r in enumerate(rates)
    ]
    rate = axis_scale(AXES[0], records)
    assert rate.positions == pytest.approx([0.0, 0.5, 1.0])
    assert rate.ticks == {0.0: "0.0001", 0.5: "0.001", 1.0: "0.01"}
    word = axis_scale(AXES[2], records)
    assert list(word.ticks.values()) == ["a", "b", "c"]
    assert np.all(np.diff(word.positions) > 0)  # spread, the best lowest
    assert np.all(np.abs(word.positions - 0.5) < 1 / 6)  # and none beyond its word
