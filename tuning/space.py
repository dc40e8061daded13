"""Search space of each stage: axes, and the preset that their values make. Needs no Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from kspecsr.configuration import STAGES, Preset
from kspecsr.configuration.model import ACTIVATIONS

Value = float | int | str


class AxisError(ValueError):
    """An axis that does not exist or cannot take the given values; the text says what it can take."""


@dataclass(frozen=True)
class Axis:
    """One axis: a field of the configuration with a range, or a list, of values.

    Attributes:
        name: name in options, tables and pictures.
        place: field of the preset: ``training.NAME`` and ``model.NAME`` of the stage, or ``losses.NAME``.
        low: lower end of a range.
        high: upper end of a range.
        step: spacing of whole numbers low, low + step, ...; 0 for real numbers.
        log: search and draw the range in the logarithm.
        choices: list of values instead of a range; numbers in ascending order.
    """

    name: str
    place: str
    low: float = 0.0
    high: float = 0.0
    step: int = 0
    log: bool = False
    choices: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if len(set(self.choices)) != len(self.choices):
                raise AxisError(f"axis {self.name}: the same value twice in {self.words}")
            if self.numeric and list(self.choices) != sorted(self.choices):
                raise AxisError(f"axis {self.name}: expected ascending values, got {self.words}")
        elif not self.low < self.high or (self.log and not self.low > 0):
            least = " above 0" if self.log else ""
            raise AxisError(f"axis {self.name}: expected LOW:HIGH with LOW < HIGH{least}, got {self.words}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Axis:
        """Axis from plain JSON values, as `vars` gives them."""
        return cls(**{**config, "choices": tuple(config["choices"])})

    @property
    def numeric(self) -> bool:
        """True if the values are numbers, False if they are words."""
        return not any(isinstance(value, str) for value in self.choices)

    @property
    def size(self) -> float:
        """Number of values; infinite for a range of real numbers."""
        if self.choices:
            return len(self.choices)
        return math.floor((self.high - self.low) / self.step) + 1 if self.step else math.inf

    @property
    def words(self) -> str:
        """Description of the values."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        scale = f", steps of {self.step}" if self.step else ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}"

    def values(self) -> list[Value]:
        """All values of an axis that has a finite number of them."""
        return list(self.choices) or [int(self.low) + i * self.step for i in range(int(self.size))]

    def nearest(self, value: Value) -> Value:
        """Value of the axis nearest to the given one; real numbers are rounded to four digits.

        Raises:
            AxisError: for a word that is not among the choices.
        """
        if self.choices and not self.numeric:
            if value not in self.choices:
                raise AxisError(f"axis {self.name}: expected one of {self.words}, got {value!r}")
            return value
        if self.choices:
            return min(self.choices, key=lambda choice: abs(float(choice) - float(value)))
        value = min(max(float(value), self.low), self.high)
        if self.step:
            index = round((value - self.low) / self.step)
            return int(self.low) + min(index, int(self.size) - 1) * self.step
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    def narrowed(self, text: str) -> Axis:
        """The same axis with other values.

        Args:
            text: ``LOW:HIGH``, or values separated by commas; a single value fixes the axis.

        Raises:
            AxisError: for text that is neither, or values that do not suit the axis.
        """
        kind = int if self.step or (self.choices and isinstance(self.choices[0], int)) else float
        try:
            if ":" in text:
                if not self.numeric:
                    raise ValueError("a list of words has no range")
                low, high = (kind(part) for part in text.split(":"))
                return Axis(self.name, self.place, low, high, self.step or int(kind is int), self.log)
            parts = [part.strip() for part in text.split(",") if part.strip()]
            values = sorted(map(kind, parts)) if self.numeric else parts
        except ValueError as error:
            raise AxisError(
                f"axis {self.name}: expected LOW:HIGH or values with commas between them, got {text!r} "
                f"({error})"
            ) from None
        if not self.numeric and (unknown := [word for word in values if word not in self.choices]):
            raise AxisError(f"axis {self.name}: expected some of {self.words}, got {', '.join(unknown)}")
        if not values:
            raise AxisError(f"axis {self.name}: expected one value or more, got {text!r}")
        return Axis(self.name, self.place, choices=tuple(values))


# optimiser, common to all stages (paper section 3.4)
_TRAINING = (
    Axis("learning_rate", "training.learning_rate", 2e-4, 1e-2, log=True),
    Axis("weight_decay", "training.weight_decay", 1e-6, 1e-1, log=True),
    Axis("clip_norm", "training.clip_norm", 0.05, 10.0, log=True),
    Axis("batch_size", "training.batch_size", choices=(16, 32, 64)),
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
        names: names of the axes; empty for all. Those that only other stages have are left out.
        narrowed: axis name to other values, see `Axis.narrowed`.

    Raises:
        AxisError: for an unknown stage or axis, or values that do not suit it.
    """
    if stage not in SPACES:
        raise AxisError(f"stage {stage!r} is unknown; expected one of {', '.join(STAGES)}")
    narrowed = narrowed or {}
    known = dict.fromkeys(axis.name for axes in SPACES.values() for axis in axes)
    for name in (*names, *narrowed):
        if name not in known:
            raise AxisError(f"axis {name!r} is unknown; expected one of {', '.join(known)}")
    axes = [axis for axis in SPACES[stage] if not names or axis.name in names]
    if not axes:
        own = ", ".join(axis.name for axis in SPACES[stage])
        raise AxisError(f"{stage}: none of the axes {', '.join(names)} is one of its own, which are {own}")
    return tuple(axis.narrowed(narrowed[axis.name]) if axis.name in narrowed else axis for axis in axes)


def with_values(preset: Preset, stage: str, axes: Sequence[Axis], values: Mapping[str, Value]) -> Preset:
    """The preset with the values of a trial.

    With another batch size an epoch sees the same number of galaxies, in more or fewer steps.

    Args:
        preset: start of the sweep.
        stage: stage that is swept.
        axes: axes of the sweep.
        values: axis name to value.

    Raises:
        ValueError: for a combination that the configuration refuses.
    """
    changes: dict[str, dict[str, Any]] = {"training": {}, "model": {}, "losses": {}}
    for axis in axes:
        group, field = axis.place.split(".")
        changes[group][field] = values[axis.name]
    if (batch_size := changes["training"].get("batch_size")) is not None:
        galaxies = galaxies_per_epoch(preset, stage)
        changes["training"]["steps_per_epoch"] = steps_for(galaxies, batch_size)
    network = replace(getattr(preset.model, stage), **changes["model"])
    preset = replace(
        preset,
        model=replace(preset.model, **{stage: network}),
        losses=replace(preset.losses, **changes["losses"]),
    )
    return preset.with_training(stage, **changes["training"])


def galaxies_per_epoch(preset: Preset, stage: str) -> int:
    """Number of galaxies that a stage's training sees in an epoch."""
    training = preset.training[stage]
    return training.steps_per_epoch * training.batch_size


def steps_for(galaxies: int, batch_size: int) -> int:
    """Number of steps, one or more, that see about so many galaxies."""
    return max(1, round(galaxies / batch_size))


def values_of(preset: Preset, stage: str, axes: Sequence[Axis]) -> dict[str, Value]:
    """The preset's own values, each moved to the nearest value of its axis."""
    groups = {
        "training": preset.training[stage],
        "model": getattr(preset.model, stage),
        "losses": preset.losses,
    }
    own = {}
    for axis in axes:
        group, field = axis.place.split(".")
        value = getattr(groups[group], field)
        if not axis.numeric and value not in axis.choices:
            value = axis.choices[0]  # no word is nearest to another
        own[axis.name] = value if value in axis.choices else axis.nearest(value)
    return own


def check_space(preset: Preset, stage: str, axes: Sequence[Axis]) -> None:
    """Refuse a space with values that the configuration refuses, before anything is trained.

    Tries the ends of every axis with the preset's other values, and all pairs of listed model values.

    Raises:
        AxisError: naming the axis and the reason.
    """
    base = values_of(preset, stage, axes)
    cases = []
    for axis in axes:
        ends = axis.values() if axis.size < math.inf else [axis.nearest(axis.low), axis.nearest(axis.high)]
        cases += [(axis, {axis.name: value}) for value in ends]
    listed = [axis for axis in axes if axis.size < math.inf and axis.place.startswith("model.")]
    for first, second in product(listed, repeat=2):
        pairs = product(first.values(), second.values())
        cases += [(first, {first.name: value, second.name: other}) for value, other in pairs]
    for axis, values in cases:
        try:
            with_values(preset, stage, axes, {**base, **values})
        except (TypeError, ValueError) as error:
            raise AxisError(f"axis {axis.name} of {stage}: {error}") from None
