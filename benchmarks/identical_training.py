"""Three identical redshift networks, trained side by side on the same galaxies (paper Fig. 9).

Needs Keras, which takes seconds to import: the command imports this module when it runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import keras
import numpy as np

from benchmarks.identical_examples import (
    INPUTS,
    Arrays,
    judged_examples,
    network_inputs,
    rows_of,
    training_examples,
)
from benchmarks.identical_picture import draw_identical_networks
from data_pipeline.configuration import to_dict
from data_pipeline.pictures.style import save_picture
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import ModelConfig, TrainingConfig
from kspecsr.evaluation.methods import Networks
from kspecsr.evaluation.report import IDENTICAL_ROWS, identical_cells, text_table
from kspecsr.losses import redshift_nll
from kspecsr.measures.estimate import bootstrap
from kspecsr.measures.redshift import CATASTROPHIC, RIGHT, nmad
from kspecsr.models import build_zhead, redshift_step
from kspecsr.training.optimizer import GuardedAdamW, learning_rate_schedule
from kspecsr.training.state import (
    Progress,
    StateError,
    read_progress,
    restore_variables,
    save_state,
    training_variables,
)

_STATE = "state.npz"
_PRISM, _OUTPUTS = ("flux", "error", "mask"), ("flux", "flux_error")
_SUPER_RESOLVED = 128  # galaxies at a time: the batch for which the model is compiled
_CHUNK = 64  # galaxies whose redshift is inferred at a time


class SpectrumRedshiftNetwork(keras.Model):
    """The second stage's architecture on a spectrum of the unified grid, without the prism.

    Args:
        config: of a model: grid and second stage.
        name: of the input that it sees.
    """

    def __init__(self, config: ModelConfig, name: str):
        super().__init__(name=name)
        self.network = build_zhead(config)
        self.step_of_log = redshift_step(config)

    def call(self, x, training=False):
        """Outputs of `build_zhead` for the arrays of `network_inputs`."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Likelihood of the true redshift; galaxies without one do not count."""
        return redshift_nll(y_pred["redshift_log_probability"], y["true_redshift"], self.step_of_log)


def build_spectrum_redshift(
    config: ModelConfig, training: TrainingConfig, name: str, seed: int
) -> SpectrumRedshiftNetwork:
    """A network ready to be trained; the same weights and dropout for the same seed, whatever its name.

    Args:
        config: grid and second stage.
        training: optimiser and schedule.
        name: of the input.
        seed: of weights and dropout.
    """
    keras.utils.set_random_seed(seed)
    model = SpectrumRedshiftNetwork(config, name)
    optimizer = GuardedAdamW(
        learning_rate_schedule(training), weight_decay=training.weight_decay, clip_norm=training.clip_norm
    )
    model.compile(optimizer=optimizer, jit_compile="auto")
    model.build(None)
    optimizer.build(model.trainable_variables)
    return model


def infer(model: SpectrumRedshiftNetwork, inputs: Arrays) -> np.ndarray:
    """Redshifts (B,)."""
    count = len(inputs["redshift"])
    found = []
    for start in range(0, count, _CHUNK):
        # always of one size: every further one would be compiled anew
        chunk = np.minimum(np.arange(start, start + _CHUNK), count - 1)
        outputs = model.predict_on_batch(rows_of(inputs, chunk))
        found.append(np.asarray(outputs["redshift"]))
    return np.concatenate(found)[:count]


# -- the comparison


@dataclass(frozen=True)
class IdenticalRun:
    """Settings of a comparison.

    Attributes:
        config: grid and second stage of the model under judgement.
        training: schedule, the same for the three.
        directory: records; None for simulation.
        n: held-out galaxies.
        seed: of weights and training galaxies.
        held_out_seed: of simulated held-out galaxies.
        split: of records that is held out.
        workers: processes that simulate.
        model: identity of the model under judgement, e.g. the hash of its weights.
    """

    config: ModelConfig
    training: TrainingConfig
    directory: Path | None
    n: int
    seed: int
    held_out_seed: int
    split: str = "test"
    workers: int = 1
    model: str = ""

    @property
    def settings(self) -> dict:
        """Everything that shapes the three networks, as plain JSON values."""
        return {
            "model": self.model,
            "grid": asdict(self.config.grid),
            "zhead": asdict(self.config.zhead),
            "training": to_dict(self.training),
            "data": "simulation" if self.directory is None else str(self.directory),
            "seed": self.seed,
        }


def compare_inputs(
    run: IdenticalRun, networks: Networks, output: Path, report: Callable[[str], None] = print
) -> dict:
    """Trains the three networks, or goes on with them, and compares their redshifts.

    Writes ``identical_networks.json``, ``.npz`` (redshifts) and ``.png`` (Fig. 9) into ``output``.

    Args:
        run: what is compared.
        networks: the model under judgement, which makes the super-resolved spectra.
        output: folder, made if it is not there.
        report: takes each line of text.

    Returns:
        What the JSON file holds.

    Raises:
        StateError: for a training with other settings in the folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    models = {name: build_spectrum_redshift(run.config, run.training, name, run.seed) for name in INPUTS}
    _train(run, models, networks, output / _STATE, report)
    true, found = judge(run, models, networks)
    if true.size < 2:
        raise ValueError(
            f"expected two or more held-out galaxies with gratings and redshift, got {true.size}"
        )
    results = {
        "settings": {**run.settings, "held_out_seed": run.held_out_seed, "galaxies": int(true.size)},
        "inputs": {name: offset_figures(true, redshift) for name, redshift in found.items()},
    }
    _write(output, results, true, found)
    return results


def _train(
    run: IdenticalRun,
    models: dict[str, SpectrumRedshiftNetwork],
    networks: Networks,
    state: Path,
    report: Callable[[str], None],
) -> None:
    variables = [variable for model in models.values() for variable in training_variables(model)]
    progress = read_progress(state) or Progress(run.settings)
    if progress.settings != json.loads(json.dumps(run.settings)) and progress.epoch:
        raise StateError(
            f"{state}: training with other settings; give --restart to replace it, or another --output"
        )
    if progress.epoch:
        restore_variables(state, variables)
        report(f"goes on after epoch {progress.epoch}")
    progress.settings = run.settings
    training = run.training
    first = progress.epoch * training.steps_per_epoch
    if progress.epoch >= training.epochs:
        return
    with training_examples(
        run.directory, run.config.grid, training.batch_size, run.seed, first, run.workers
    ) as batches:
        while progress.epoch < training.epochs:
            start = time.perf_counter()
            losses = _epoch(run, models, networks, islice(batches, training.steps_per_epoch))
            progress.epoch += 1
            progress.seconds += time.perf_counter() - start
            save_state(state, variables, progress)
            words = "  ".join(f"{name.upper()} {loss:.3f}" for name, loss in losses.items())
            left = progress.seconds / progress.epoch * (training.epochs - progress.epoch)
            report(f"epoch {progress.epoch}/{training.epochs}  loss {words}  about {left / 60:.0f} min left")


def _epoch(
    run: IdenticalRun,
    models: dict[str, SpectrumRedshiftNetwork],
    networks: Networks,
    batches: Iterator[Arrays],
) -> dict[str, float]:
    losses: dict[str, list[float]] = {name: [] for name in models}
    for examples, seen in _inputs(run, batches, networks):
        for name, inputs in seen.items():
            models[name].reset_metrics()
            loss = models[name].train_on_batch(inputs, {"true_redshift": examples["redshift"]})
            losses[name].append(float(loss))
    return {name: float(np.mean(values)) for name, values in losses.items()}


def _inputs(
    run: IdenticalRun, batches: Iterator[Arrays], networks: Networks
) -> Iterator[tuple[Arrays, dict[str, Arrays]]]:
    """Batches with what each network sees of them; several are super-resolved at a time."""
    unit = FLUX_UNIT_IN_RECORDS
    while group := list(islice(batches, max(1, _SUPER_RESOLVED // run.training.batch_size))):
        flux, error, mask = (np.concatenate([one[f"prism_{name}"] for one in group]) for name in _PRISM)
        outputs = networks.predict_arrays(flux * unit, error * unit, mask, None)
        ends = np.cumsum([len(one["redshift"]) for one in group])[:-1]
        sharp = (np.split(np.asarray(outputs[name], np.float64) / unit, ends) for name in _OUTPUTS)
        for examples, sr_flux, sr_error in zip(group, *sharp, strict=True):
            spectra = {**examples, "sr_flux": sr_flux, "sr_error": sr_error}
            yield (
                examples,
                {
                    name: network_inputs(
                        spectra[f"{name}_flux"], spectra[f"{name}_error"], examples["mask"], run.config.grid
                    )
                    for name in INPUTS
                },
            )


def judge(
    run: IdenticalRun, models: dict[str, SpectrumRedshiftNetwork], networks: Networks
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """True redshifts of held-out galaxies, and what each network makes of them.

    Args:
        run: what is compared.
        models: the three networks by input.
        networks: the model under judgement.
    """
    true: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
    galaxies = judged_examples(run.directory, run.config.grid, run.n, run.held_out_seed, run.split)
    for examples, seen in _inputs(run, galaxies, networks):
        true.append(examples["redshift"])
        for name, inputs in seen.items():
            found[name].append(infer(models[name], inputs))
    if not true:
        return np.zeros(0), {name: np.zeros(0) for name in found}
    return np.concatenate(true), {name: np.concatenate(parts) for name, parts in found.items()}


def offset_figures(true: np.ndarray, found: np.ndarray) -> dict[str, dict]:
    """NMAD of dz / (1 + z) and shares of outliers, each with its interval.

    Args:
        true: (n,) redshifts.
        found: (n,) inferred.
    """
    offset, galaxy = (found - true) / (1.0 + true), np.arange(true.size)
    statistics = {
        "nmad": nmad,
        f"outliers_{CATASTROPHIC}": lambda x: float(np.mean(np.abs(x) > CATASTROPHIC)),
        f"outliers_{RIGHT}": lambda x: float(np.mean(np.abs(x) > RIGHT)),
    }
    return {name: bootstrap(f, galaxy, offset.astype(float)).as_json() for name, f in statistics.items()}


def table(results: dict) -> str:
    """The comparison as text, a row per input.

    Args:
        results: of `compare_inputs`.
    """
    return text_table(
        [["input", *(row.title for row in IDENTICAL_ROWS)], *identical_cells(results["inputs"])]
    )


def _write(output: Path, results: dict, true: np.ndarray, found: dict[str, np.ndarray]) -> None:
    with replacing(output / "identical_networks.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, true=true, **found)
    save_picture(draw_identical_networks(true, found), output / "identical_networks.png")
    with replacing(output / "identical_networks.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
