import time
from collections import Counter

import keras
import pytest
import tensorflow as tf

from benchmarks import benchmark, inference_speed, serving_speed, training_speed
from benchmarks import serving_speed as cold_start
from benchmarks.inference_speed import Inference
from benchmarks.training_speed import StepSpeed, largest_product, operations
from kspecsr.configuration import PRESETS
from kspecsr.feeds import SimulationFeed
from kspecsr.model_settings import find_model
from training_sample import tiny_preset


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


def test_a_feed_that_is_too_slow_shows_in_the_waiting(monkeypatch):
    """Batches that lie ready, handed over at once or after a rest many times a step's length."""

    class Ready(SimulationFeed):
        rest = 0.0

        def __next__(self):
            time.sleep(self.rest)
            self.batch = getattr(self, "batch", None) or super().__next__()
            return self.batch

    class Slow(Ready):
        rest = 0.3

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
    assert benchmark.main(["inference", "--preset", "small"]) == 0
    assert "best: SuperResolver.predict_arrays, without XLA, 500.0 spectra/s" in capsys.readouterr().out


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

    monkeypatch.setattr(cold_start, "cold_start", lambda kind, exported, folder: f"of {exported}")
    monkeypatch.setattr(serving_speed.ServingSpeed, "__init__", lambda self, *_: None)
    monkeypatch.setattr(serving_speed.ServingSpeed, "report", report)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    options = ["serving", "--exported", str(tmp_path), "--batch-sizes", "1", "8", "--seconds", "2"]
    assert benchmark.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [f"start, {kind}: of {tmp_path}" for kind in cold_start.KINDS]
    assert lines[4] == "one spectrum: [1, 8] 2.0"


def test_a_start_that_fails_says_why(tmp_path):
    with pytest.raises(
        OSError, match=r"(?s)starts the exported model failed: .*SavedModel file does not exist"
    ):
        cold_start.cold_start(cold_start.SERVED, tmp_path, tmp_path)


def test_inference_takes_the_name_of_a_model(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(inference_speed.Inference, "__init__", lambda self, *given: made.append(given))
    monkeypatch.setattr(inference_speed.Inference, "rate", lambda self, size, _: float(size))
    monkeypatch.setattr(inference_speed.Inference, "resolver_rate", lambda self, _: 500.0)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert benchmark.main(["inference", "--model", "default", "--batch-sizes", "1"]) == 0
    assert made[0][1] == find_model("default")
    assert benchmark.main(["inference", "--model", "nonsense"]) == 1
    assert "nonsense: neither a model folder nor the name" in capsys.readouterr().err


def test_the_command_prints_share_waiting_and_cost(monkeypatch, tmp_path, capfd):
    preset = tmp_path / "tiny.json"
    preset.write_text(tiny_preset().to_json())
    monkeypatch.setitem(PRESETS, "paper", tiny_preset())
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    options = ["training", "--preset", str(preset), "--stage", "sr1", "--steps", "2", "--workers", "0"]
    assert benchmark.main(options) == 0
    text = capfd.readouterr().out
    for words in ("GFLOP/s; share", "waiting for fresh examples", "ms per spectrum", "preset paper"):
        assert words in text
    assert benchmark.main(["training", "--preset", "nonsense"]) == 2
