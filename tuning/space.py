"""Search space of each stage, and how its values become a preset. Builds no layer, needs no Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kspecsr.configuration import STAGES, Preset
from kspecsr.configuration.model import ACTIVATIONS
from tuning.axis import Axis, AxisError, Value, axis_named

_BATCH = "batch_size"

# optimiser, common to all stages (paper section 3.4)
_TRAINING = (
    Axis("learning_rate", "training.learning_rate", 2e-4, 1e-2, log=True),
    Axis("weight_decay", "training.weight_decay", 1e-6, 1e-1, log=True),
    Axis("clip_norm", "training.clip_norm", 0.05, 10.0, log=True),
    Axis(_BATCH, "training.batch_size", choices=(16, 32, 64)),
)
_SHARED = (
    Axis("dropout", "model.dropout", 0.0, 0.3),
    Axis("activation", "model.activation", choices=ACTIVATIONS),
)

SPACES: Mapping[str, tuple[Axis, ...]] = {
    "sr1": (
        *_TRAINING,
        *_SHARED,
        Axis("width", "model.channels", 48, 144, step=16),
        Axis("blocks", "model.blocks", 2, 12, step=1),
        # line fidelity against smoothness of the continuum
        Axis("line_fidelity", "losses.sr1_line_shape", choices=(0.0, 0.03, 0.1, 0.3, 1.0)),
        Axis("smoothness", "losses.sr1_smoothness", choices=(0.0, 0.001, 0.01, 0.1)),
    ),
    # one loss term only: nothing to weigh
    "zhead": (
        *_TRAINING,
        *_SHARED,
        Axis("width", "model.channels", 16, 64, step=8),
        Axis("blocks", "model.layers", 1, 6, step=1),
    ),
    "sr2": (
        *_TRAINING,
        *_SHARED,
        Axis("line_fidelity", "losses.line_shape", 0.03, 3.0, log=True),
        Axis("smoothness", "losses.smoothness", 0.002, 0.2, log=True),
        Axis("deviation", "losses.deviation", 0.002, 0.2, log=True),
        Axis("line_flux", "losses.line_flux", 0.1, 10.0, log=True),
        Axis("token_dim", "model.token_dim", 48, 240, step=16),
        Axis("heads", "model.heads", choices=(2, 4, 8)),
        Axis("layers", "model.layers", 1, 6, step=1),
        Axis("half_width", "model.half_width", 4, 24, step=2),
        Axis("window_width", "model.window_channels", 16, 64, step=8),
        Axis("cnn_depth", "model.continuum_blocks", 1, 6, step=1),
        Axis("cnn_width", "model.continuum_channels", 16, 80, step=8),
        Axis("residual_cap", "model.residual_cap", 0.05, 50.0, log=True),
        Axis("residual_l1", "losses.residual_l1", choices=(0.0, 0.001, 0.003, 0.01, 0.03)),
    ),
}


def search_space(
    stage: str, names: Sequence[str] = (), narrowed: Mapping[str, str] | None = None
) -> tuple[Axis, ...]:
    """Axes of a stage's sweep.

    Args:
        stage: ``sr1``, ``zhead`` or ``sr2``.
        names: of the axes, all of them if there are none; those that only other stages have are left out.
        narrowed: name to values that take the place of its own, see `Axis.narrowed`.

    Raises:
        AxisError: for an unknown stage or axis, or values that do not suit it.
    """
    if stage not in SPACES:
        raise AxisError(f"stage {stage!r} is unknown; expected one of {', '.join(STAGES)}")
    known = {axis.name: axis for axes in SPACES.values() for axis in axes}
    for name in (*names, *(narrowed or {})):
        axis_named(list(known.values()), name)
    axes = [axis for axis in SPACES[stage] if not names or axis.name in names]
    axes = [axis.narrowed(narrowed[axis.name]) if axis.name in (narrowed or {}) else axis for axis in axes]
    if not axes:
        own = ", ".join(axis.name for axis in SPACES[stage])
        raise AxisError(f"{stage}: none of the axes {', '.join(names)} is one of its own, which are {own}")
    return tuple(axes)


def with_values(preset: Preset, stage: str, axes: Sequence[Axis], values: Mapping[str, Value]) -> Preset:
    """The preset with the values of a trial.

    Another batch size sees as many galaxies in an epoch, in more or fewer steps.

    Args:
        preset: that the sweep starts from.
        stage: that is swept.
        axes: of the sweep.
        values: by name of the axis.

    Raises:
        ValueError: for a combination that the configuration refuses.
    """
    changes: dict[str, dict[str, Any]] = {"training": {}, "model": {}, "losses": {}}
    for axis in axes:
        group, field = axis.place.split(".")
        changes[group][field] = values[axis.name]
    training = preset.training[stage]
    if _BATCH in changes["training"]:
        galaxies = training.steps_per_epoch * training.batch_size
        changes["training"]["steps_per_epoch"] = steps_for(galaxies, changes["training"][_BATCH])
    network = replace(getattr(preset.model, stage), **changes["model"])
    preset = replace(
        preset,
        model=replace(preset.model, **{stage: network}),
        losses=replace(preset.losses, **changes["losses"]),
    )
    return preset.with_training(stage, **changes["training"])


def steps_for(galaxies: int, batch_size: int) -> int:
    """Steps in which at least one batch and about so many galaxies are seen."""
    return max(1, round(galaxies / batch_size))


def values_of(preset: Preset, stage: str, axes: Sequence[Axis]) -> dict[str, Value]:
    """The preset's own values, each moved to the nearest that its axis has."""
    places = {"training": preset.training[stage], "model": getattr(preset.model, stage)}
    places["losses"] = preset.losses
    own = {}
    for axis in axes:
        group, field = axis.place.split(".")
        value = getattr(places[group], field)
        own[axis.name] = value if value in axis.choices else axis.nearest(_inside(axis, value))
    return own


def _inside(axis: Axis, value: Value) -> Value:
    return value if axis.numeric or value in axis.choices else axis.choices[0]


def check_space(preset: Preset, stage: str, axes: Sequence[Axis]) -> None:
    """Refuses a space with values that the configuration refuses, before anything is trained.

    The ends of every axis are tried with the preset's other values, and each list value with each other.

    Raises:
        AxisError: naming the axis and why.
    """
    base = values_of(preset, stage, axes)
    for axis in axes:
        ends = axis.values() if axis.size < math.inf else [axis.nearest(axis.low), axis.nearest(axis.high)]
        for value in ends:
            _try(preset, stage, axes, {**base, axis.name: value}, axis)
    listed = [axis for axis in axes if axis.size < math.inf and axis.place.startswith("model.")]
    for first in listed:
        for second in listed:
            for one in first.values():
                for other in second.values():
                    _try(preset, stage, axes, {**base, first.name: one, second.name: other}, first)


def _try(preset: Preset, stage: str, axes: Sequence[Axis], values: Mapping[str, Value], axis: Axis) -> None:
    try:
        with_values(preset, stage, axes, values)
    except (TypeError, ValueError) as error:
        raise AxisError(f"axis {axis.name} of {stage}: {error}") from None
