import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kspecsr.configuration import Preset
from training_sample import QUIET, tiny_preset, train

ROOT = Path(__file__).resolve().parents[1]


def command(preset, output, *options):
    return [
        sys.executable,
        *("-m", "kspecsr.train", "--stage", "sr1", "--preset", str(preset), "--data", "simulation"),
        *("--output", str(output), "--workers", "0", "--deterministic", "--no-pictures", *options),
    ]


def finished(preset, output, *options):
    run = subprocess.run(
        command(preset, output, *options), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def start(preset, output):
    return subprocess.Popen(
        command(preset, output), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_an_epoch(process, output, then):
    """Until an epoch is on disk, model.json last, and some steps of the next are done; then a signal."""
    deadline = time.monotonic() + 120
    while not (output / "model.json").is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.15)
    assert process.poll() is None, "it finished before it could be interrupted: make its epochs longer"
    process.send_signal(then)
    return process.communicate(timeout=60)


def state(output):
    with np.load(output / "sr1" / "state.npz") as stored:
        return {name: stored[name] for name in stored.files if name != "progress"}


def history(output):
    with open(output / "sr1" / "history.csv", newline="") as file:
        timing = {"seconds", "spectra_per_second", "input_wait"}
        return [{k: v for k, v in row.items() if k not in timing} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    path = tmp_path_factory.mktemp("preset") / "tiny.json"
    path.write_text(tiny_preset(epochs=3, steps_per_epoch=25).to_json())
    return path


@pytest.fixture(scope="module")
def uninterrupted(preset, tmp_path_factory):
    """In this process: the same bits, and one start less."""
    output = tmp_path_factory.mktemp("uninterrupted")
    train("sr1", output, Preset.from_json(preset.read_text()), QUIET)
    return output


def test_killed_in_an_epoch_and_started_again_it_ends_with_the_same_weights(preset, uninterrupted, tmp_path):
    process = start(preset, tmp_path)
    wait_for_an_epoch(process, tmp_path, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = len(history(tmp_path))
    assert done < 3
    text = finished(preset, tmp_path)
    assert f"goes on after epoch {done}" in text
    first, second = state(uninterrupted), state(tmp_path)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name
    assert history(uninterrupted) == history(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_ctrl_c_leaves_one_line_and_a_state_to_go_on_from(preset, tmp_path):
    process = start(preset, tmp_path)
    _, error = wait_for_an_epoch(process, tmp_path, signal.SIGINT)
    assert process.returncode == 130, error
    assert error.strip().startswith("interrupted; rerun the same command to resume")
    assert len(error.strip().splitlines()) == 1
    assert (tmp_path / "sr1.keras").is_file()
    assert len(history(tmp_path)) >= 1
    assert os.path.getsize(tmp_path / "sr1" / "state.npz") > 1000
