"""One axis of a search space: a field of the configuration, and the values that it may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Value = float | int | str


class AxisError(ValueError):
    """An axis that does not exist or cannot take the given values; the text says what can."""


@dataclass(frozen=True)
class Axis:
    """A range, or a list of values.

    Attributes:
        name: as it is shown and given.
        place: field of the preset: ``training.NAME`` and ``model.NAME`` are those of the stage,
            ``losses.NAME`` a loss weight.
        low: end of a range.
        high: end of a range.
        step: whole numbers, low, low + step, ...; 0 for any number.
        log: a range that is searched, and drawn, in the logarithm.
        choices: values, instead of a range; numbers in ascending order.
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

    @property
    def numeric(self) -> bool:
        """Its values are numbers."""
        return not any(isinstance(value, str) for value in self.choices)

    @property
    def size(self) -> float:
        """How many values there are; infinite for a range of any numbers."""
        if self.choices:
            return len(self.choices)
        return math.floor((self.high - self.low) / self.step) + 1 if self.step else math.inf

    @property
    def words(self) -> str:
        """Its values in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        scale = f", steps of {self.step}" if self.step else ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}"

    def values(self) -> list[Value]:
        """All values, for an axis that has a finite number of them."""
        if self.choices:
            return list(self.choices)
        return [int(self.low) + i * self.step for i in range(int(self.size))]

    def nearest(self, value: Value) -> Value:
        """The value of the axis that is nearest to the given one, with four digits.

        What went over the network in single precision comes out as it went in.

        Raises:
            AxisError: for a word that is none of the choices.
        """
        if self.choices:
            if not self.numeric:
                if value not in self.choices:
                    raise AxisError(f"axis {self.name}: expected one of {self.words}, got {value!r}")
                return value
            return min(self.choices, key=lambda choice: abs(float(choice) - float(value)))
        value = min(max(float(value), self.low), self.high)
        if self.step:
            place = round((value - self.low) / self.step)
            return int(self.low) + min(place, int(self.size) - 1) * self.step
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    def narrowed(self, text: str) -> Axis:
        """The same axis over other values.

        Args:
            text: ``LOW:HIGH``, or values with commas between them; one value fixes it.

        Raises:
            AxisError: for what is neither, or does not suit the axis.
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
        if not self.numeric and (strange := [word for word in values if word not in self.choices]):
            raise AxisError(f"axis {self.name}: expected some of {self.words}, got {', '.join(strange)}")
        if not values:
            raise AxisError(f"axis {self.name}: expected one value or more, got {text!r}")
        return Axis(self.name, self.place, choices=tuple(values))

    def to_config(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "choices": list(self.choices)}


def axis_named(axes: Sequence[Axis], name: str) -> Axis:
    """The axis of that name.

    Raises:
        AxisError: listing those there are.
    """
    for axis in axes:
        if axis.name == name:
            return axis
    raise AxisError(f"axis {name!r} is unknown; expected one of {', '.join(a.name for a in axes)}")
