"""Broad components in the joint posterior of line fluxes: how sure, how wide, how bright, beside none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from benchmarks import line_posterior as benchmark
from benchmarks.line_posterior_judgement import outputs_of
from data_pipeline.lines import load_lines
from data_pipeline.simulation import POPULATIONS, SimulationConfig, simulate_batch
from kspecsr import losses
from kspecsr.configuration import SR2Config
from kspecsr.feeds.simulated import VALIDATION_SEED_BIT, in_record_units
from kspecsr.layers import line_posterior as joint
from kspecsr.layers.broad_lines import broad_fluxes
from kspecsr.measures.estimate import robust_scatter
from kspecsr.models import sr2 as stage

_LINES = len(load_lines())
_BROAD = 0.35  # share of broad-line objects: of a population of its own, so that few galaxies do


def examples(n: int, seed: int, population: str, held_out: bool) -> dict[str, np.ndarray]:
    """``n`` galaxies with lines, and the truth of their broad components."""
    config = SimulationConfig(replace(POPULATIONS[population], broad_line_fraction=_BROAD))
    seed = seed | VALIDATION_SEED_BIT if held_out else seed
    parts, found, start = [], 0, 0
    while found < n:
        batch = simulate_batch(np.arange(start, start + 64), seed, config, gratings=False)
        mask = batch.prism_mask
        part = {
            "prism_flux": in_record_units(np.where(mask, 0.0, batch.prism_flux)),
            "prism_error": np.where(mask, np.float32(1.0), in_record_units(batch.prism_error)),
            "prism_mask": mask,
            "line_flux": in_record_units(batch.line_flux),
            "broad_flux": in_record_units(batch.broad_line_flux),
            "velocity": batch.broad_velocity_sigma.astype(np.float32),
            "true_redshift": batch.redshift.astype(np.float32),
        }
        rows = np.isfinite(part["true_redshift"]) & (part["line_flux"].max(axis=1) > 0)
        parts.append({name: values[rows] for name, values in part.items()})
        found, start = found + int(rows.sum()), start + 64
    return {name: np.concatenate([part[name] for part in parts])[:n] for name in parts[0]}


def build(sr2: SR2Config = benchmark.SMALL) -> keras.Model:
    """As the benchmark's posterior, with a width and a probability of broad components, and their fluxes."""
    inputs, prism, places, fit, tokens, multiply = benchmark.tokens_of(sr2)
    head = {"kernel_initializer": keras.initializers.VarianceScaling(0.05), "dtype": "float32"}
    redshift = inputs["redshift"]
    broad = stage.broad_width(tokens, places["in_range"], head)
    found = stage.information(sr2, prism, places, fit, redshift, ops.zeros_like(redshift), broad)
    out = stage.posterior(tokens, found, head, broad=True)
    more = {"unit": multiply(found["unit"], prism["scale"]), "in_range": found["in_range"]}
    return keras.Model(inputs, {**out, **more, **broad}, name="broad")


class Arm(keras.Model):
    """Posterior with broad components under training."""

    def __init__(self):
        super().__init__(name="broad_arm")
        self.network = build()

    def call(self, x, training=False):
        """Outputs of `build`."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Joint likelihood of narrow and broad fluxes, of the width, and of there being broad lines."""
        target = ops.clip(_free(y, ops) / y_pred["unit"], -1e5, 1e5)
        nll = losses.joint_loss(
            target, 0.0 * target, y_pred["in_range"], y_pred["mean"], y_pred["covariance"]
        )
        width = [y_pred[name] for name in ("logit", "log_velocity", "log_sigma")]
        velocity = y["velocity"]
        return nll + losses.broad_line_loss(*width, velocity, ops.ones_like(velocity))


def _free(y, xp):
    """Free fluxes, narrow and then broad."""
    narrow, broad = joint.free_fluxes(_LINES)[0], broad_fluxes(_LINES)
    rows = narrow / (narrow**2).sum(axis=0), broad / (broad**2).sum(axis=0)
    flux, wide = y["line_flux"], y["broad_flux"]
    return xp.concatenate([xp.matmul(flux - wide, rows[0]), xp.matmul(wide, rows[1])], axis=1)


def compare(steps: int, n: int, held_out: int, batch: int, populations: tuple[str, str]) -> Iterator[str]:
    """Train with and without broad columns; lines of text."""
    data = examples(n, 31, populations[0], held_out=False)
    judged = examples(held_out - held_out % 64, 32, populations[1], held_out=True)
    data["line_known"], judged["line_known"] = (d["line_flux"] >= 0 for d in (data, judged))
    x = benchmark.inputs_of(judged)
    keras.utils.set_random_seed(1)
    names = ("line_flux", "broad_flux", "velocity")
    model, seconds = benchmark.fit(Arm(), data, steps, batch, names)
    found, _ = outputs_of(model.network, x)
    plain, _ = benchmark.train("posterior", data, steps, batch)
    without, _ = outputs_of(plain.network, x)
    has = judged["velocity"] > 0
    yield f"{n} galaxies to train on; {has.sum()} of {has.size} judged have broad lines; {seconds:.2f} s/step"
    probability = 1.0 / (1.0 + np.exp(-found["logit"]))
    for low, high in ((0, 0.05), (0.05, 0.3), (0.3, 0.7), (0.7, 0.95), (0.95, 1)):
        rows = (probability >= low) & (probability <= high)
        stated, true = (
            float(np.mean(values[rows])) if rows.any() else np.nan for values in (probability, has)
        )
        yield f"P_BROAD {low:g}-{high:g} (n {rows.sum()}): stated {stated:.2f}, true {true:.2f}"
    sure = has & (probability > 0.5)
    off = np.log(judged["velocity"][sure]) - found["log_velocity"][sure]
    yield (
        f"width, P_BROAD > 0.5 (n {sure.sum()}): scatter {robust_scatter(off):.2f} in the logarithm, "
        f"pull {_pull(off / np.exp(found['log_sigma'][sure]))}"
    )
    yield from _fluxes(found, without, judged, has)


def _fluxes(found, without, judged, has) -> Iterator[str]:
    """Pulls and scatter of Halpha and Hbeta: broad, narrow, and together beside what one width gives."""
    narrow, truth = joint.free_fluxes(_LINES)[1].tolist(), _free(judged, np) / found["unit"]
    total = judged["line_flux"]
    for name in ("Halpha", "Hbeta", "HeI_10833"):
        k = load_lines().index(name)
        first = narrow.index(k)
        second = len(narrow) + int(broad_fluxes(_LINES)[k].argmax())
        mean, sigma = found["mean"], np.sqrt(np.einsum("bii->bi", found["covariance"]))
        use = has & (found["in_range"][:, second] > 0)
        for kind, column in (("narrow", first), ("broad", second)):
            parts = (mean[:, column], sigma[:, column], truth[:, column])
            yield f"{name}, {kind}: {_judged(use, *parts)}"
        unit = found["unit"][:, [first, second]]
        both = found["covariance"][:, [first, second]][:, :, [first, second]]
        flux = (mean[:, [first, second]] * unit).sum(axis=1)
        error = np.sqrt(np.einsum("bi,bij,bj->b", unit, both, unit))
        yield f"{name}, both: {_judged(use, flux, error, total[:, k])}"
        scale = without["unit"][:, first]
        own = np.sqrt(without["covariance"][:, first, first]) * scale
        yield f"{name}, of one width: {_judged(use, without['mean'][:, first] * scale, own, total[:, k])}"


def _judged(use: np.ndarray, value: np.ndarray, error: np.ndarray, true: np.ndarray) -> str:
    """Pulls, and flux over truth, where the stated S/N is above 3."""
    good = use & (value > 3.0 * error)
    ratio = value[good] / np.maximum(true[good], 1e-9)
    pull = _pull((true[good] - value[good]) / error[good])
    return (
        f"n {good.sum()}, pull {pull}, flux over truth {np.median(ratio):.2f} +- {robust_scatter(ratio):.2f}"
    )


def _pull(values: np.ndarray) -> str:
    return f"{np.median(values):+.2f} {robust_scatter(values):.2f}" if values.size else "-"
