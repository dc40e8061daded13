"""Training of one stage, from the checks before the first epoch to the best weights in the model folder."""

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
from kspecsr.configuration import STAGES, Preset
from kspecsr.feeds.example import split_batch
from kspecsr.measures.goal import goal_reference, unmeasurable_terms
from kspecsr.model_folder import load_stage
from kspecsr.model_settings import stage_hash, stage_path
from kspecsr.models import redshift_bins
from kspecsr.models.precision import dtype_policy, fast_policy
from kspecsr.training import run_settings
from kspecsr.training.data import TimedBatches, TrainingData
from kspecsr.training.devices import make_reproducible, on_devices
from kspecsr.training.epoch_end import EpochEnd, Judged
from kspecsr.training.logs import StepBar
from kspecsr.training.optimizer import GuardedAdamW, learning_rate_schedule, teacher_probability
from kspecsr.training.output_folder import check_room, only_run, sweep
from kspecsr.training.run_settings import StageResult, StageRun, TrainingOptions, UpstreamError, load_upstream
from kspecsr.training.stage_model import MirroredStageModel, StageModel
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
    """Train a stage, or resume its training, until its epochs are done or the goal no longer improves.

    The weights with the lowest goal (`goal_metrics`) are in the model folder ``output`` from their epoch on;
    logs, pictures and the state to resume from are in ``output/<stage>/``.

    Args:
        stage: ``sr1``, ``zhead`` or ``sr2``; earlier ones are taken from the folder and not changed.
        preset: networks, losses, schedule.
        data: training examples and validation galaxies.
        output: model folder.
        options: see `TrainingOptions`.
        report: called with each line of text.

    Raises:
        OutputError: if the folder cannot be written, has no room or another run is at work in it.
        StateError: for a training with other settings in the folder.
        UpstreamError: for a missing stage that this one is trained on.
        ModelFolderError: for a damaged one or one on another grid.
        DeviceError: for devices that are not there.
    """
    run = StageRun(stage, preset, data, output, options, report)
    check_room(run.folder, _ROOM)
    with ExitStack() as stack:
        # The lock first: two runs would each see the other's half-written files as leftovers and sweep them.
        stack.enter_context(only_run(output))
        _prepare_folder(run)
        # Each stage has a seed of its own, which does not depend on whether the stages before it ran in this
        # process.
        make_reproducible(options.seed * len(STAGES) + STAGES.index(stage), options.deterministic)
        devices = stack.enter_context(on_devices(options.devices))
        upstream, hashes = load_upstream(output, stage, preset)
        model = _compiled(run, upstream)
        progress = _progress(run, _settings(run, hashes))
        best = read_best(run.state) if progress.epoch else []
        published = PublishedStage(output, stage, preset, best)
        # A kill between the state and the model folder leaves the better weights in the state alone.
        published.mend(progress)
        if progress.stopped:
            report(f"{stage}: finished before ({progress.stopped}); {_best(progress)}")
            return StageResult(stage, progress, stage_path(output, stage))
        _set_weights(run, model, progress)
        check_room(run.folder, _ROOM + 4 * _COPIES * model.count_params())
        if warning := note_code(progress):
            report(f"{stage}: {warning}")
        report(_start_line(run, model, devices, progress))
        # Cheap beside an epoch, and the one fault (a frozen stage that moves) that no loss would ever show.
        frozen = weights_digest(upstream)
        _fit(run, model, progress, published)
        if weights_digest(upstream) != frozen:
            raise RuntimeError(f"{stage}: training changed the weights of {' or '.join(upstream)}")
        reason = progress.stopped or f"stopped for now after epoch {progress.epoch}"
        report(f"{stage}: {reason}; {_best(progress)}")
        return StageResult(stage, progress, stage_path(output, stage))


def weights_digest(networks: Mapping[str, keras.Model]) -> str:
    """SHA-256 of all weights of some networks."""
    digest = hashlib.sha256()
    for name in sorted(networks):
        for weight in networks[name].weights:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def begin_again(output: Path, stages: Sequence[str]) -> None:
    """Forget the training of stages; their weights stay until the first epoch's replace them.

    All of them at once: a run of several stages that is interrupted in the first one must not resume what is
    left of the others.
    """
    for stage in stages:
        state = output / stage / "state.npz"
        if state.is_file():
            _forget(state, Progress())


def _forget(state: Path, progress: Progress) -> None:
    """Replace a training by one of no epochs, and remove its logs; its weights stay in the model folder."""
    # without a state, weights that are in the folder would not be overwritten by a start without --restart
    save_state(state, [], progress)
    (state.parent / "history.csv").unlink(missing_ok=True)
    for name in ("pictures", "tensorboard"):
        shutil.rmtree(state.parent / name, ignore_errors=True)


# -- before the first epoch ----------------------------------------------------------------------------------


def _prepare_folder(run: StageRun) -> None:
    """Remove what a killed run left, and copy earlier stages that the folder lacks."""
    options = run.options
    sweep(run.output, STAGES)
    if options.init_from is not None:
        other_stages = options.upstream is not None
        run_settings.check_first_weights(options.init_from, run.output, run.stage, run.preset, other_stages)
    source = options.upstream or options.init_from
    if source is not None:
        run_settings.copy_upstream(source, run.output, run.stage, run.preset)


def _compiled(run: StageRun, upstream: Mapping[str, keras.Model]) -> StageModel:
    """The model that is trained, on the frozen networks before it."""
    config, options = run.config, run.options
    with dtype_policy(fast_policy(config.precision)):
        build = MirroredStageModel if options.devices > 1 else StageModel
        model = build(run.stage, run.preset, upstream)
        model.build(None)
        optimizer = GuardedAdamW(
            learning_rate_schedule(config), weight_decay=config.weight_decay, clip_norm=config.clip_norm
        )
        model.compile(optimizer=optimizer, jit_compile=options.jit)
    return model


def _settings(run: StageRun, hashes: Mapping[str, str]) -> dict:
    """Everything that the weights depend on."""
    options = run.options
    with run.data.open(run.stage, run.config.batch_size) as feed:
        description = feed.description
    start = stage_hash(options.init_from, run.stage) if options.init_from else ""
    more = {"seed": options.seed, "deterministic": options.deterministic, "init_from": start}
    return run_settings.stage_settings(run.stage, run.preset, description, hashes, more)


def _progress(run: StageRun, settings: dict) -> Progress:
    """Progress of the training in the folder; that of a new one if there is none."""
    if run.options.restart:
        _forget(run.state, Progress(settings))
        return Progress(settings)
    progress = read_progress(run.state)
    if progress is None:
        held = stage_path(run.output, run.stage)
        if held.is_file():
            raise StateError(
                f"{held} is there, but no training of it to go on with; give --restart to replace it "
                "by the first epoch's weights, or another --output"
            )
        return Progress(settings)
    if not progress.epoch:
        return Progress(settings)
    run_settings.check_same_settings(progress.settings, settings, run.folder)
    return progress


def _set_weights(run: StageRun, model: StageModel, progress: Progress) -> None:
    """Give the model its first weights, or those after the last finished epoch."""
    # Its variables must exist before they can be given their stored values; Keras would make them in the
    # first step.
    model.optimizer.build(model.trainable_variables)
    source = run.options.init_from
    if progress.epoch:
        restore_variables(run.state, training_variables(model))
    elif source is not None:
        # by name: the order of weights follows that of layers, which another version may change
        first = {weight.path: weight for weight in load_stage(source, run.stage).weights}
        weights = model.stage_network.weights
        if {path: weight.shape for path, weight in first.items()} != {w.path: w.shape for w in weights}:
            raise UpstreamError(
                f"{source}: its {run.stage} is another network than this preset's; give the preset that it "
                "was trained with"
            )
        for weight in weights:
            weight.assign(first[weight.path])


def _start_line(run: StageRun, model: StageModel, devices: str, progress: Progress) -> str:
    config = run.config
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    start = f"goes on after epoch {progress.epoch} ({_best(progress)})" if progress.epoch else "begins"
    policy = fast_policy(config.precision)
    return (
        f"{run.stage}: {trained:,} parameters, {config.epochs} epochs of {config.steps_per_epoch} steps of "
        f"{config.batch_size}, {devices}, {policy}, jit_compile {model.jit_compile}; {start}"
    )


def _best(progress: Progress) -> str:
    return f"best goal {progress.best_goal:.4f} in epoch {progress.best_epoch}"


# -- the epochs ----------------------------------------------------------------------------------------------


def _fit(run: StageRun, model: StageModel, progress: Progress, published: PublishedStage) -> None:
    """Train from the last finished epoch on; progress and best weights are changed in place."""
    config = run.config
    teacher = partial(teacher_probability, config=config) if run.stage == "sr2" else None
    first_step = progress.epoch * config.steps_per_epoch
    judged = _judged(run)
    with TimedBatches(run.data.open(run.stage, config.batch_size, first_step, teacher)) as batches:
        bar = StepBar(run.stage, config, run.options.bar)
        try:
            model.fit(
                # An iterator, not a dataset: step k is always batch k, and Keras neither shuffles nor repeats
                # it.
                iter(batches),
                # Keras counts epochs from it, so that callbacks and the schedule see where the training is.
                initial_epoch=progress.epoch,
                epochs=config.epochs,
                steps_per_epoch=config.steps_per_epoch,
                callbacks=[bar, EpochEnd(run, judged, batches, progress, published)],
                verbose=0,
                shuffle=False,
            )
        finally:
            gc.collect()  # iterators over devices that are still there when Python ends never end themselves


def _judged(run: StageRun) -> Judged:
    """The fixed galaxies that measure the goal; reports terms of it that none of them measures."""
    x, y = split_batch(run.data.validation(run.stage, run.config.validation_size))
    prism, grid = load_instrument(PRISM).wavelength, run.preset.model.grid.wavelength
    reference = goal_reference(x, y, prism, grid)
    if missing := unmeasurable_terms(run.stage, y, reference):
        run.report(
            f"{run.stage}: the goal leaves out {', '.join(missing)}: nothing in the "
            f"{len(y['true_redshift'])} validation galaxies measures it; more of them would"
        )
    return Judged(x, y, reference, prism, grid, redshift_bins(run.preset.model))
