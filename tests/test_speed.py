import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import inference_speed, rates, serving_speed, training_speed
from benchmarks.__main__ import main as benchmarks
from benchmarks.inference_speed import Inference
from benchmarks.simulation_speed import measure_speed, peak_memory
from benchmarks.training_speed import StepSpeed, largest_product, operations
from data_pipeline.simulation import SimulationConfig
from kspecsr.configuration import PRESETS
from kspecsr.feeds.simulation_feed import SimulationFeed
from kspecsr.model_settings import find_model
from records_sample import write_records
from training_sample import tiny_preset

ROOT = Path(__file__).resolve().parents[1]


def counts(function, *shapes):
    specifications = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    graph = tf.function(function, autograph=False).get_concrete_function(*specifications).graph
    total = Counter()
    for kind, number in operations(graph):
        total[kind] += number
    return total, graph


def test_products_and_solves_count_multiplications_and_additions():
    def function(a, b, c):
        matrix = tf.einsum("bij,bkj->bik", b, b) + tf.eye(6)
        factor = tf.linalg.cholesky(matrix)
        return tf.matmul(a, a, transpose_a=True), factor, tf.linalg.triangular_solve(factor, c)

    total, _ = counts(function, (7, 5), (2, 6, 4), (2, 6, 3))
    assert total["MatMul"] == 2 * 7 * 5 * 5
    assert total["Einsum"] == 2 * 2 * 6 * 6 * 4
    assert total["Cholesky"] == pytest.approx(2 * 6**3 / 3)
    assert total["MatrixTriangularSolve"] == 2 * 6 * 6 * 3


def test_a_convolution_costs_three_times_as_much_with_its_gradients():
    layer = keras.layers.Conv1D(8, 5, padding="same", use_bias=False)
    layer.build((None, 40, 6))

    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(loss, [x, layer.kernel.value])

    total, graph = counts(function, (3, 40, 6))
    forward = 2 * 3 * 40 * 5 * 6 * 8
    assert total == {kind: forward for kind in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")}
    assert largest_product(graph) == (3 * 40, 5 * 6, 8)


def test_what_no_result_needs_is_not_counted():
    def function(x):
        tf.matmul(x, x)
        return x + 1.0

    assert counts(function, (4, 4))[0] == {}


def test_an_unknown_shape_is_an_error():
    with pytest.raises(ValueError, match="expected a static shape"):
        counts(lambda x: tf.matmul(x, x, transpose_a=True), (None, 4))


def test_the_share_is_the_steps_rate_over_the_products():
    speed = StepSpeed("sr1", 4, 2.0, 8e9, (1, 1, 1), 8e9)
    assert (speed.share, speed.cost) == (0.5, 0.5)


def test_inference_is_measured_from_arrays():
    measured = Inference(tiny_preset(), None, 4, False)
    assert measured.rate(2, 0.01) > 0
    assert measured.resolver_rate(0.01) > 0


def test_a_feed_that_is_too_slow_shows_in_the_waiting(monkeypatch, not_compiled):
    """Batches that lie ready, handed over at once or after a rest many times a step's length."""

    class Ready(SimulationFeed):
        rest = 0.0

        def __next__(self):
            time.sleep(self.rest)
            self.batch = getattr(self, "batch", None) or super().__next__()
            return self.batch

    class Slow(Ready):
        rest = 1.0

    monkeypatch.setattr(training_speed, "_LEAST_STEPS", 4)
    shares = {}
    for feed in (Ready, Slow):
        monkeypatch.setattr(training_speed, "SimulationFeed", feed)
        shares[feed] = training_speed.input_wait(tiny_preset(), "sr1", 2, 1, 0)
    assert shares[Ready] < 0.5 < shares[Slow]


def test_the_best_mode_of_inference_is_named(monkeypatch, capsys):
    monkeypatch.setattr(inference_speed.Inference, "__init__", lambda self, *_: None)
    monkeypatch.setattr(inference_speed.Inference, "rate", lambda self, size, _: float(size))
    monkeypatch.setattr(inference_speed.Inference, "resolver_rate", lambda self, _: 500.0)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert benchmarks(["inference", "--preset", "small", "--paper"]) == 0
    out = capsys.readouterr().out
    assert "best: SuperResolver.predict_arrays, without XLA, 500.0 spectra/s" in out
    assert "preset paper: 4.00 spectra/s at best; 125 times as many" in out


def test_calls_are_timed_in_turn_and_the_first_is_free():
    order = []

    def call(name, seconds):
        order.append(name)
        time.sleep(seconds if order.count(name) > 1 else 0.2)

    calls = [lambda: call("a", 0.001), lambda: call("b", 0.02)]
    (quick, slow), count = serving_speed._alternating(calls, 0.05, least=4)
    assert order == ["a", "b"] * (count + 1)
    assert count >= 4
    assert 0.001 <= quick.median < slow.median
    assert slow.median <= slow.late < 0.2 + slow.median


def test_serving_prints_starts_and_ratios(monkeypatch, tmp_path, capsys):
    def report(self, sizes, seconds):
        yield f"one spectrum: {sizes} {seconds}"

    monkeypatch.setattr(serving_speed, "cold_start", lambda kind, exported, folder: f"of {exported}")
    monkeypatch.setattr(serving_speed.ServingSpeed, "__init__", lambda self, *_: None)
    monkeypatch.setattr(serving_speed.ServingSpeed, "report", report)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    options = ["serving", "--exported", str(tmp_path), "--batch-sizes", "1", "8", "--seconds", "2"]
    assert benchmarks(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [f"start, {kind}: of {tmp_path}" for kind in serving_speed.KINDS]
    assert lines[4] == "one spectrum: [1, 8] 2.0"


def test_a_start_that_fails_says_why(tmp_path):
    with pytest.raises(
        OSError, match=r"(?s)starts the exported model failed: .*SavedModel file does not exist"
    ):
        serving_speed.cold_start(serving_speed.SERVED, tmp_path, tmp_path)


def test_inference_takes_the_name_of_a_model(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(inference_speed.Inference, "__init__", lambda self, *given: made.append(given))
    monkeypatch.setattr(inference_speed.Inference, "rate", lambda self, size, _: float(size))
    monkeypatch.setattr(inference_speed.Inference, "resolver_rate", lambda self, _: 500.0)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    options = ["--batch-sizes", "1", "--precision", "auto"]
    assert benchmarks(["inference", "--model", "default", *options]) == 0
    assert made[0][1] == find_model("default") and made[0][-1] == "auto"
    assert benchmarks(["inference", "--model", "nonsense"]) == 1
    assert "nonsense: neither a model folder nor the name" in capsys.readouterr().err


def test_the_command_prints_share_waiting_and_cost(monkeypatch, tmp_path, capfd):
    preset = tmp_path / "tiny.json"
    preset.write_text(tiny_preset().to_json())
    monkeypatch.setitem(PRESETS, "paper", tiny_preset())
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    options = ["training", "--preset", str(preset), "--stage", "sr1", "--steps", "2", "--workers", "0"]
    assert benchmarks(options) == 0
    text = capfd.readouterr().out
    for words in ("GFLOP/s; share", "waiting for fresh examples", "ms per spectrum", "preset paper"):
        assert words in text
    assert benchmarks(["training", "--preset", "nonsense"]) == 2


def test_linefit_prints_spectra_per_second(monkeypatch, capsys):
    monkeypatch.setattr(rates, "_SPECTRA", 8)
    monkeypatch.setattr("benchmarks.rates.linefit_rates.__defaults__", (0.0,))
    assert benchmarks(["linefit"]) == 0
    found = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 2 and min(found) > 0


def test_records_are_read_by_both_readers(tmp_path, capsys):
    write_records(tmp_path / "records", {"train": 10, "test": 4})
    assert benchmarks(["records", str(tmp_path / "records"), "--split", "train", "--batch-size", "4"]) == 0
    speeds = [line for line in capsys.readouterr().out.splitlines() if line.endswith("per second")]
    assert [line.split()[0] for line in speeds] == ["NumPy,", "tf.data,"] * 2
    assert all(" 10 examples" in line for line in speeds)
    assert benchmarks(["records", str(tmp_path / "records"), "--split", "validation"]) == 1
    assert "no split 'validation'; these records hold: train, test" in capsys.readouterr().err


def test_proposals_are_timed_and_differ(capsys):
    assert benchmarks(["proposals", "--stage", "sr1", "--trials", "3", "--algorithm", "random"]) == 0
    assert "proposal after 3 trials" in capsys.readouterr().out


def test_the_peak_of_memory_is_this_process_s_own():
    """A started program inherits the peak that `resource` knows: that of the test before."""
    ballast = np.ones(40_000_000)  # 320 MB
    code = "from benchmarks.simulation_speed import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(child.stdout) < 250 < peak_memory()
    assert ballast.nbytes > 300e6


def test_speed_and_memory_are_measured_in_processes_of_their_own():
    ballast = np.ones(80_000_000)  # 640 MB that the caller holds are none of the simulator's
    speed = measure_speed(64, 1, SimulationConfig(), workers=1)
    assert speed.rate > 20  # the command prints above 200 on two idle cores
    assert 50 < speed.peak_memory < 500
    assert ballast.nbytes > 600e6
