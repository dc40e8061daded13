import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kspecsr.model_folder import load_stage
from kspecsr.training.devices import DeviceError, on_devices
from training_sample import tiny_preset

ROOT = Path(__file__).resolve().parents[1]
_TWO_CPUS = """
import sys
from dataclasses import replace
from pathlib import Path
from kspecsr.training.run_settings import TrainingOptions
from kspecsr.training.stage import train_stage
from training_sample import simulated, tiny_preset
preset = tiny_preset(epochs=1, steps_per_epoch=2)
model = replace(preset.model, sr1=replace(preset.model.sr1, dropout=0.0))
preset = replace(preset, model=model)
for devices in (2, 1):
    options = TrainingOptions(devices=devices, pictures=False)
    train_stage("sr1", preset, simulated(preset), Path(sys.argv[1]) / str(devices), options)
"""

_QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def run(command, **environment):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_devices_have_the_loss_and_the_weights_of_one(tmp_path):
    text = run(["-c", _TWO_CPUS, str(tmp_path)], KSPECSR_LOGICAL_CPUS="1")
    assert "2 logical CPUs, mirrored" in text
    one, two = (history(tmp_path / name / "sr1")[-1] for name in "12")
    for name in ("loss", "likelihood", "error_ratio", "coverage"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    weights = [load_stage(tmp_path / name, "sr1").get_weights() for name in "12"]
    for first, second in zip(*weights, strict=True):
        assert np.allclose(first, second, rtol=1e-3, atol=1e-4)


def test_several_devices_without_gpus_are_refused():
    with pytest.raises(DeviceError, match=r"has no GPU\(s\) that TensorFlow sees"), on_devices(2):
        pass


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_all_stages_are_trained_with_jax(tmp_path):
    preset = tmp_path / "tiny.json"
    preset.write_text(tiny_preset(epochs=1, steps_per_epoch=2, validation_size=4).to_json())
    command = ["-m", "kspecsr.train", "--preset", str(preset), "--output", str(tmp_path / "run")]
    options = ["--data", "simulation", "--workers", "0", "--no-pictures"]
    text = run([*command, *options], KERAS_BACKEND="jax", XLA_FLAGS=_QUICK_COMPILATION)
    assert text.count("jax backend") == 3
    for stage in ("sr1", "zhead", "sr2"):
        assert (tmp_path / "run" / f"{stage}.keras").is_file()
        assert len(history(tmp_path / "run" / stage)) == 1
