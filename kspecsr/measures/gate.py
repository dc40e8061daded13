"""Limits that a model has to keep, and which of them are broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from data_pipeline.configuration import from_dict

SHIPPED = ("default", "release")


@dataclass(frozen=True)
class Limit:
    """Range of one figure.

    Attributes:
        low: least value; None for none.
        high: largest value; None for none.
        why: what a value outside means.
    """

    low: float | None = None
    high: float | None = None
    why: str = ""

    def excess(self, value: float | None) -> float:
        """How far outside a value lies, in its own unit; 0 inside, infinite for NaN."""
        if value is None or value != value:
            return float("inf")
        below = 0.0 if self.low is None else self.low - value
        above = 0.0 if self.high is None else value - self.high
        return max(below, above, 0.0)

    @property
    def text(self) -> str:
        """The range in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Gate:
    """Limits of an evaluation, and of what a training stage measures of itself.

    Attributes:
        evaluation: limits by ``METHOD/METRIC``, as in ``metrics.json``.
        training: stage to limits by the names of `kspecsr.measures.goal`: beyond them an epoch is worse by
            ten times the excess, so that no error norm buys a broken guard.
    """

    evaluation: Mapping[str, Limit] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Limit]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str, where: str = "gate") -> Gate:
        """Reads a gate.

        Raises:
            ValueError: for what is no JSON, unknown keys, or limits without a range; naming the place.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: expected JSON, got {error}") from error
        gate = from_dict(cls, content, where)
        for limits in (gate.evaluation, *gate.training.values()):
            for name, limit in limits.items():
                low, high = limit.low, limit.high
                if low is None and high is None:
                    raise ValueError(f"{where}: limit {name!r}: expected low, high or both, got neither")
                if low is not None and high is not None and low > high:
                    raise ValueError(f"{where}: limit {name!r}: expected low <= high, got {low} > {high}")
        return gate

    @classmethod
    def find(cls, name_or_path: str | Path) -> Gate:
        """A gate that ships, ``default`` or ``release``, or one in a file.

        Raises:
            ValueError: for a file that cannot be read, or is no gate.
        """
        if str(name_or_path) in SHIPPED:
            return shipped_gate(str(name_or_path))
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"gate {name_or_path}: cannot be read ({error})") from error
        return cls.from_json(text, f"gate {name_or_path}")

    @property
    def metrics(self) -> set[str]:
        """Names, without the method, of the figures of an evaluation that have a limit."""
        return {name.partition("/")[2] for name in self.evaluation}

    def failures(self, metrics: Mapping[str, float | None]) -> list[str]:
        """Broken limits of the evaluation; a figure that is missing or was not measured breaks its own.

        Args:
            metrics: ``METHOD/METRIC`` to value.
        """
        found = []
        for name, limit in self.evaluation.items():
            value = metrics.get(name)
            if name not in metrics:
                found.append(f"{name}: not among the metrics; expected {limit.text}")
            elif value is None or value != value:
                found.append(f"{name}: nothing was measured; expected {limit.text}")
            elif limit.excess(value) > 0:
                reason = f" ({limit.why})" if limit.why else ""
                found.append(f"{name}: {value:.4g}, expected {limit.text}{reason}")
        return found


@lru_cache(maxsize=len(SHIPPED))
def shipped_gate(name: str) -> Gate:
    """A gate that ships: ``default``, or ``release``, the narrower limits of a model that is published."""
    file = f"{name}_gate.json"
    return Gate.from_json((resources.files(__package__) / file).read_text(encoding="utf-8"), file)
