"""Ways to the joint errors of line fluxes, trained alike and judged on galaxies that none of them saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from benchmarks.line_posterior_judgement import judge, outputs_of, responses, table, truth_of
from data_pipeline.lines import load_lines
from kspecsr import losses
from kspecsr.configuration import PRESETS, FeedConfig, ModelConfig, SR2Config, TrainingConfig
from kspecsr.feeds.simulated import VALIDATION_SEED_BIT, simulated_examples
from kspecsr.layers import line_posterior as joint
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.operators import Upsampling
from kspecsr.layers.prism_channels import Multiply, ToGridChannels
from kspecsr.models import sr2 as stage
from kspecsr.models.sr1 import normalised, number_input, prism_inputs
from kspecsr.training.optimizer import GuardedAdamW, learning_rate_schedule

SMALL = replace(PRESETS["first"].model.sr2, window_channels=16, token_dim=80, layers=2, half_width=12)
_KEPT = ("prism_flux", "prism_error", "prism_mask", "line_flux", "line_known", "true_redshift")
_RANK = 6
_LINES = len(load_lines())
_SEED = 1
ARMS = ("head", "low-rank", "posterior")


def examples(n: int, seed: int, population: str, held_out: bool) -> dict[str, np.ndarray]:
    """``n`` simulated galaxies with lines and a redshift, without the arrays that line fluxes do not need."""
    feed = FeedConfig(population=population)
    if held_out:
        seed |= VALIDATION_SEED_BIT
    grid = ModelConfig().grid
    parts, found, start = [], 0, 0
    while found < n:
        part = simulated_examples(np.arange(start, start + 64), seed, feed, grid)
        rows = np.isfinite(part["true_redshift"]) & (part["line_flux"].max(axis=1) > 0)
        parts.append({name: part[name][rows] for name in _KEPT})
        found, start = found + int(rows.sum()), start + 64
    return {name: np.concatenate([part[name] for part in parts])[:n] for name in _KEPT}


@keras.saving.register_keras_serializable("benchmarks")
class LowRankLines(keras.layers.Layer):
    """A head alone: normal in arcsinh(flux / isolated error), independent errors and ``rank`` shared ones.

    Inputs:
        raw: (B, F, 2 + rank); ...: of `LineInformation`, of which ``start`` and ``in_range`` count.

    Returns:
        ``mean`` (B, F) and ``covariance`` (B, F, F) of the arcsinh; ``prior_weight`` (B, F).
    """

    def call(self, raw, precision, score, start, in_range, misfit):
        """See the class."""
        mean = ops.softplus(3.0 * (ops.arcsinh(ops.maximum(start, 0.0)) + raw[..., 0])) / 3.0
        sigma = ops.exp(ops.clip(raw[..., 1] - 0.7, -8.0, 1.5))
        shared = raw[..., 2:] * sigma[..., None] * in_range[..., None]
        identity = np.eye(raw.shape[1], dtype="float32")
        covariance = identity * (sigma**2)[:, None, :] + ops.matmul(shared, ops.transpose(shared, (0, 2, 1)))
        return {"mean": mean * in_range, "covariance": covariance, "prior_weight": ops.zeros_like(mean)}


def tokens_of(sr2: SR2Config) -> tuple:
    """Inputs, normalised prism, places, direct fit, line tokens, and the layer that scales.

    The windows of the tokens see the interpolated prism where the third stage has the first one's output.
    """
    grid = plain_grid(ModelConfig().grid)
    inputs = {**prism_inputs(), "redshift": number_input("redshift")}
    prism = normalised(inputs)
    maps = ToGridChannels(name="maps", dtype="float32")(prism["flux"], prism["error"])
    maps = Upsampling(grid, name="upsampling", dtype="float32")(maps)
    multiply = Multiply(name="scaling", dtype="float32")
    places, fit = stage.direct_fit(sr2, grid, prism, inputs["redshift"], multiply)
    error = ops.maximum(maps[..., 1], 1e-4)
    tokens = stage.attended_tokens(sr2, prism, maps[..., 0], error, places, fit, inputs["redshift"])
    return inputs, prism, places, fit, tokens, multiply


def build(arm: str, sr2: SR2Config = SMALL) -> keras.Model:
    """Prism and redshift to the line fluxes' joint distribution, without the other stages."""
    inputs, prism, places, fit, tokens, multiply = tokens_of(sr2)
    found = stage.information(sr2, prism, places, fit, inputs["redshift"], ops.zeros_like(inputs["redshift"]))
    tokens = ops.take(tokens, joint.free_fluxes(_LINES)[1], axis=1)
    rank = {"head": 2, "low-rank": 2 + _RANK, "posterior": joint.HEADS}[arm]
    small = keras.initializers.VarianceScaling(0.05)
    raw = keras.layers.Dense(rank, kernel_initializer=small, name="heads")(tokens)
    layer = joint.LinePosterior if arm == "posterior" else LowRankLines
    out = layer(name="posterior", dtype="float32")(raw, *(found[name] for name in joint.INFORMATION))
    more = {"unit": multiply(found["unit"], prism["scale"])}
    more |= {name: found[name] for name in ("in_range", "start")}
    return keras.Model(inputs, {**out, **more}, name=arm.replace("-", "_"))


class Arm(keras.Model):
    """One way under training."""

    def __init__(self, name: str):
        super().__init__(name=f"{name.replace('-', '_')}_arm")
        self.network, self.linear = build(name), name == "posterior"

    def call(self, x, training=False):
        """Outputs of `build`."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Joint negative log-likelihood of all free fluxes in range."""
        known = ops.cast(y["line_known"], "float32")
        flux = joint.of_free_fluxes(y["line_flux"], known) / y_pred["unit"]
        use = y_pred["in_range"] * ops.cast(ops.matmul(known, joint.free_fluxes(_LINES)[0]) > 0, "float32")
        target = ops.clip(flux, -1e5, 1e5) if self.linear else ops.arcsinh(ops.clip(flux, -1e5, 1e5))
        return losses.joint_loss(target, 0.0 * target, use, y_pred["mean"], y_pred["covariance"])


def train(arm: str, data: Mapping[str, np.ndarray], steps: int, batch: int) -> tuple[Arm, float]:
    """A trained arm, and the seconds of a step (the median of the steps)."""
    keras.utils.set_random_seed(_SEED)
    return fit(Arm(arm), data, steps, batch, ("line_flux", "line_known"))


def fit(
    model: keras.Model, data: Mapping[str, np.ndarray], steps: int, batch: int, targets: tuple[str, ...]
) -> tuple[keras.Model, float]:
    """As `train`, for a model that takes these targets."""
    config = TrainingConfig(epochs=1, steps_per_epoch=steps, batch_size=batch)
    model.compile(GuardedAdamW(learning_rate_schedule(config), config.weight_decay, config.clip_norm))
    rng, begun = np.random.default_rng(_SEED), []

    def batches() -> Iterator[tuple[dict, dict]]:
        while True:
            rows = rng.integers(len(data["true_redshift"]), size=batch)
            part = {name: values[rows] for name, values in data.items()}
            yield inputs_of(part), {name: part[name] for name in targets}

    def note(batch, logs=None):
        begun.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(on_train_batch_begin=note)
    model.fit(batches(), steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False, callbacks=[clock])
    return model, float(np.median(np.diff(begun)))


def inputs_of(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs of `build` from examples: the true redshift is given."""
    x = {name: part[name] for name in ("prism_flux", "prism_error", "prism_mask")}
    return {**x, "redshift": part["true_redshift"]}


def compare(
    arms: tuple[str, ...], steps: int, n: int, held_out: int, batch: int, populations: tuple[str, str]
) -> Iterator[str]:
    """Train all arms alike; lines of text as they come, the table last.

    Args:
        arms: names out of `ARMS`.
        steps: optimiser steps of each.
        n: training galaxies, drawn again and again.
        held_out: galaxies that judge.
        batch: galaxies in a step.
        populations: of training, and of the galaxies that judge.
    """
    begun = time.perf_counter()
    data = examples(n, 21, populations[0], held_out=False)
    judged = examples(held_out - held_out % 64, 22, populations[1], held_out=True)
    yield (
        f"{n} galaxies of {populations[0]} to train on, {len(judged['true_redshift'])} of {populations[1]} "
        f"to judge, {time.perf_counter() - begun:.0f} s; {steps} steps of {batch}, redshift known"
    )
    x = inputs_of(judged)
    results, follow, truth = {}, {}, None
    for name in arms:
        model, seconds = train(name, data, steps, batch)
        found, milliseconds = outputs_of(model.network, x)
        truth = truth_of(found, judged)
        results[name] = judge(found, truth, model.linear, milliseconds)
        follow[name] = list(responses(_flux_of(model), x, truth))
        yield (
            f"{name}: {model.count_params():,} parameters, {1e3 * seconds:.0f} ms per step, "
            f"negative log-likelihood per line {results[name].nll:.3f}"
        )
    yield from table(results, truth)
    yield "response: share of a doubled line's flux that is followed"
    for rows in zip(*follow.values(), strict=True):
        what = f"{rows[0][0]} (n {rows[0][1]})"
        yield f"  {what:<62}{'':>12}  " + "  ".join(f"{row[2]:>12.2f}" for row in rows)


def _flux_of(model: Arm) -> Callable:
    tie = joint.free_fluxes(_LINES)[0]

    def predict(x):
        found, _ = outputs_of(model.network, x)
        mean = found["mean"] if model.linear else np.sinh(found["mean"])
        return (mean * found["unit"]) @ tie.T

    return predict
