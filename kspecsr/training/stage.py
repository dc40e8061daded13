"""Training of one stage, from the checks before the first epoch to the best weights in the model folder."""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import keras
import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from kspecsr.configuration import STAGES, Preset, TrainingConfig
from kspecsr.feeds import split_batch
from kspecsr.measures.goal import goal_reference, unmeasurable_terms
from kspecsr.model_folder import load_stage, stage_hash, stage_path
from kspecsr.models import redshift_bins
from kspecsr.training.data import TimedBatches, TrainingData
from kspecsr.training.devices import make_reproducible, on_devices
from kspecsr.training.epoch_end import EpochEnd, Judged
from kspecsr.training.logs import StepBar
from kspecsr.training.optimizer import GuardedAdamW, learning_rate_schedule, teacher_probability
from kspecsr.training.output_folder import check_room, only_run, sweep
from kspecsr.training.run_settings import (
    StageResult,
    TrainingOptions,
    UpstreamError,
    check_first_weights,
    check_same_settings,
    copy_upstream,
    load_upstream,
    stage_settings,
)
from kspecsr.training.stage_model import MirroredStageModel, build_stage_model
from kspecsr.training.state import (
    Progress,
    PublishedStage,
    StateError,
    note_code,
    read_best,
    read_progress,
    restore_variables,
    save_state,
    training_variables,
)

_ROOM = 60_000_000  # bytes beside the weights: pictures and logs
_COPIES = 10  # of a network's weights: own, two moments and best in the state and its successor; two files


def train_stage(
    stage: str,
    preset: Preset,
    data: TrainingData,
    output: Path,
    options: TrainingOptions,
    report: Callable[[str], None] = print,
) -> StageResult:
    """Trains a stage, or goes on with its training, until its epochs are done or nothing improves.

    The best epoch's weights, by `goal_metrics`, are in the model folder ``output`` from that epoch on; logs,
    pictures and the state to go on from lie in ``output/<stage>/``.

    Args:
        stage: ``sr1``, ``zhead`` or ``sr2``; the earlier ones are taken from the folder and not changed.
        preset: networks, losses, schedule.
        data: examples.
        output: model folder.
        options: see `TrainingOptions`.
        report: takes each line of text.

    Raises:
        OutputError: if the folder cannot be written, has no room or another run is at work in it.
        StateError: for a training with other settings in the folder.
        UpstreamError: for a missing stage that this one is trained on.
        ModelFolderError: for a damaged one or one on another grid.
        DeviceError: for devices that are not there.
    """
    config, folder = preset.training[stage], output / stage
    check_room(folder, _ROOM)
    with ExitStack() as stack:
        stack.enter_context(only_run(output))
        sweep(output, STAGES)
        if options.init_from is not None:
            check_first_weights(options.init_from, output, stage, preset, options.upstream is not None)
        source = options.upstream or options.init_from
        if source is not None:
            copy_upstream(source, output, stage, preset)
        make_reproducible(options.seed * len(STAGES) + STAGES.index(stage), options.deterministic)
        words = stack.enter_context(on_devices(options.devices))
        model, upstream, hashes = _built(stage, preset, output, options)
        settings = stage_settings(
            stage, preset, _description(data, stage, config), hashes, _weight_options(options, stage)
        )
        progress = _progress(folder, settings, options.restart)
        published = PublishedStage(output, stage, preset)
        best = read_best(folder / "state.npz") if progress.epoch else []
        published.agree(best, progress)
        if progress.stopped:
            report(f"{stage}: finished before ({progress.stopped}); {_best(progress)}")
            return StageResult(stage, progress, stage_path(output, stage))
        _begin(model, stage, folder, progress, options)
        check_room(folder, _ROOM + 4 * _COPIES * model.count_params())
        if warning := note_code(progress):
            report(f"{stage}: {warning}")
        frozen = weights_digest(upstream)
        report(_start_line(stage, model, words, progress, config))
        _fit(model, stage, preset, data, output, progress, (best, published), options, report)
        if weights_digest(upstream) != frozen:
            raise RuntimeError(f"{stage}: training changed the weights of {' or '.join(upstream)}")
        how = progress.stopped or f"stopped for now after epoch {progress.epoch}"
        report(f"{stage}: {how}; {_best(progress)}")
        return StageResult(stage, progress, stage_path(output, stage))


def weights_digest(networks: Mapping[str, keras.Model]) -> str:
    """SHA-256 of all weights of some networks."""
    digest = hashlib.sha256()
    for name in sorted(networks):
        for weight in networks[name].weights:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def begin_again(output: Path, stages: Sequence[str]) -> None:
    """Forgets the training of stages; their weights stay until the first epoch's replace them.

    All of them at once: a run of several that is interrupted in the first one must not go on with what is
    left of the others.

    Args:
        output: run folder.
        stages: that are to be trained again.
    """
    for stage in stages:
        state = output / stage / "state.npz"
        if state.is_file():
            save_state(state, [], Progress({}))
            _clear(state.parent)


def _clear(folder: Path) -> None:
    """Removes the traces of an earlier training, not the weights that it left in the model folder."""
    (folder / "history.csv").unlink(missing_ok=True)
    for name in ("pictures", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _description(data: TrainingData, stage: str, config: TrainingConfig) -> dict:
    with data.open(stage, config.batch_size) as feed:
        return feed.description


def _weight_options(options: TrainingOptions, stage: str) -> dict:
    start = stage_hash(options.init_from, stage) if options.init_from else ""
    return {"seed": options.seed, "deterministic": options.deterministic, "init_from": start}


def _progress(folder: Path, settings: dict, restart: bool) -> Progress:
    if restart:
        # A state of no epochs: the weights from before may be replaced, also by a start without --restart.
        save_state(folder / "state.npz", [], Progress(settings))
        _clear(folder)
        return Progress(settings)
    progress = read_progress(folder / "state.npz")
    if progress is None:
        held = stage_path(folder.parent, folder.name)
        if held.is_file():
            raise StateError(
                f"{held} is there, but no training of it to go on with; give --restart to replace it "
                "by the first epoch's weights, or another --output"
            )
        return Progress(settings)
    if not progress.epoch:
        return Progress(settings)
    check_same_settings(progress.settings, settings, folder)
    return progress


def _built(stage: str, preset: Preset, output: Path, options: TrainingOptions):
    """The model that is trained, compiled; the networks it is trained on, and their hashes."""
    config = preset.training[stage]
    upstream, hashes = load_upstream(output, stage, preset)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        build = MirroredStageModel if options.devices > 1 else build_stage_model
        model = build(stage, preset, upstream)
        model.build(None)
        optimizer = GuardedAdamW(
            learning_rate_schedule(config), weight_decay=config.weight_decay, clip_norm=config.clip_norm
        )
        model.compile(optimizer=optimizer, jit_compile=options.jit)
    finally:
        keras.config.set_dtype_policy(before)
    return model, upstream, hashes


def _begin(
    model: keras.Model, stage: str, folder: Path, progress: Progress, options: TrainingOptions
) -> None:
    """Gives the model its first weights, or those after the last finished epoch."""
    model.optimizer.build(model.trainable_variables)
    if progress.epoch:
        restore_variables(folder / "state.npz", training_variables(model))
    elif options.init_from is not None:
        # by name: the order of weights follows that of layers, which another version may change
        first = {weight.path: weight for weight in load_stage(options.init_from, stage).weights}
        network = model.stage_network
        wanted = {weight.path: tuple(weight.shape) for weight in network.weights}
        if {path: tuple(weight.shape) for path, weight in first.items()} != wanted:
            raise UpstreamError(
                f"{options.init_from}: its {stage} is another network than this preset's; give the preset "
                "that it was trained with"
            )
        for weight in network.weights:
            weight.assign(first[weight.path])


def _fit(
    model: keras.Model,
    stage: str,
    preset: Preset,
    data: TrainingData,
    output: Path,
    progress: Progress,
    kept: tuple[list[np.ndarray], PublishedStage],
    options: TrainingOptions,
    report: Callable[[str], None],
) -> None:
    config = preset.training[stage]
    teacher = partial(teacher_probability, config=config) if stage == "sr2" else None
    first_step = progress.epoch * config.steps_per_epoch
    judged = _judged(stage, preset, data, report)
    best, published = kept
    with TimedBatches(data.open(stage, config.batch_size, first_step, teacher)) as batches:
        epoch_end = EpochEnd(
            stage=stage,
            folder=output / stage,
            epochs=config.epochs,
            batch_size=config.batch_size,
            patience=config.patience,
            judged=judged,
            batches=batches,
            progress=progress,
            best=best,
            publish=published.publish,
            report=report,
            pictures=options.pictures,
            stop_after=options.stop_after,
        )
        try:
            model.fit(
                iter(batches),
                initial_epoch=progress.epoch,
                epochs=config.epochs,
                steps_per_epoch=config.steps_per_epoch,
                callbacks=[StepBar(stage, config, options.bar), epoch_end],
                verbose=0,
                shuffle=False,
            )
        finally:
            gc.collect()  # iterators over devices that are still there when Python ends never end themselves


def _judged(stage: str, preset: Preset, data: TrainingData, report: Callable[[str], None]) -> Judged:
    batch = data.validation(stage, preset.training[stage].validation_size)
    x, y = split_batch(batch)
    prism, grid = load_instrument(PRISM).wavelength, preset.model.grid.wavelength
    reference = goal_reference(x, y, prism, grid)
    if missing := unmeasurable_terms(stage, y, reference):
        report(
            f"{stage}: the goal leaves out {', '.join(missing)}: nothing in the {len(y['true_redshift'])} "
            "validation galaxies measures it; more of them would"
        )
    return Judged(x, y, reference, prism, grid, redshift_bins(preset.model))


def _start_line(
    stage: str, model: keras.Model, words: str, progress: Progress, config: TrainingConfig
) -> str:
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    start = f"goes on after epoch {progress.epoch} ({_best(progress)})" if progress.epoch else "begins"
    return (
        f"{stage}: {trained:,} parameters, {config.epochs} epochs of {config.steps_per_epoch} steps of "
        f"{config.batch_size}, {words}, {config.precision}, jit_compile {model.jit_compile}; {start}"
    )


def _best(progress: Progress) -> str:
    return f"best goal {progress.best_goal:.4f} in epoch {progress.best_epoch}"
