"""Limits that a model has to keep, and which of them are broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

SHIPPED = ("default", "release")


@dataclass(frozen=True)
class Limit:
    """Range of one figure.

    Attributes:
        name: ``METHOD/METRIC`` as in ``metrics.json``, or a name of a training goal.
        low: least value; None for none.
        high: largest value; None for none.
        why: what a value outside means.
    """

    name: str
    low: float | None = None
    high: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError(f"gate, limit {self.name!r}: expected low, high or both, got neither")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"gate, limit {self.name!r}: expected low <= high, got {self.low} > {self.high}")

    def excess(self, value: float) -> float:
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
        evaluation: limits on ``METHOD/METRIC``.
        training: stage to limits on the names of `kspecsr.measures.goal`: beyond them an epoch is worse by
            ten times the excess, so that no error norm buys a broken guard.
    """

    evaluation: tuple[Limit, ...]
    training: Mapping[str, tuple[Limit, ...]]

    @classmethod
    def from_json(cls, text: str, where: str = "gate") -> Gate:
        """Reads a gate.

        Raises:
            ValueError: for what is no JSON, unknown keys, or limits without a range; naming the place.
        """
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: expected JSON, got {error}") from error
        _check_keys(given, {"evaluation", "training"}, where)
        training = given.get("training", {})
        if not isinstance(training, dict):
            raise ValueError(
                f"{where}: training: expected an object of stages, got {type(training).__name__}"
            )
        return cls(
            _limits(given.get("evaluation", {}), f"{where}: evaluation"),
            {stage: _limits(limits, f"{where}: training.{stage}") for stage, limits in training.items()},
        )

    @classmethod
    def find(cls, name_or_path: str | Path) -> Gate:
        """A gate that ships, ``default`` or ``release``, or a file.

        Raises:
            ValueError: for a file that cannot be read, or is no gate.
        """
        if str(name_or_path) in SHIPPED:
            return shipped_gate(str(name_or_path))
        return cls.from_file(name_or_path)

    @classmethod
    def from_file(cls, path: str | Path) -> Gate:
        """Reads a gate file; see `from_json`.

        Raises:
            ValueError: for a file that cannot be read, or is no gate.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"gate {path}: cannot be read ({error})") from error
        return cls.from_json(text, f"gate {path}")

    @property
    def metrics(self) -> set[str]:
        """Names, without the method, of the figures of an evaluation that have a limit."""
        return {limit.name.partition("/")[2] for limit in self.evaluation}

    def failures(self, metrics: Mapping[str, float | None]) -> list[str]:
        """What broke the limits of the evaluation; a figure that is missing or was not measured did too.

        Args:
            metrics: ``METHOD/METRIC`` to value.
        """
        found = []
        for limit in self.evaluation:
            value = metrics.get(limit.name)
            if limit.name not in metrics:
                found.append(f"{limit.name}: not among the metrics; expected {limit.text}")
            elif value is None or value != value:
                found.append(f"{limit.name}: nothing was measured; expected {limit.text}")
            elif limit.excess(value) > 0:
                reason = f" ({limit.why})" if limit.why else ""
                found.append(f"{limit.name}: {value:.4g}, expected {limit.text}{reason}")
        return found


def default_gate() -> Gate:
    """The limits of a model that is of use."""
    return shipped_gate("default")


@lru_cache(maxsize=len(SHIPPED))
def shipped_gate(name: str) -> Gate:
    """A gate that ships: ``default``, or ``release``, the narrower limits of a model that is published."""
    file = f"{name}_gate.json"
    return Gate.from_json((resources.files(__package__) / file).read_text(encoding="utf-8"), file)


def _limits(given: object, where: str) -> tuple[Limit, ...]:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected an object of names and limits, got {type(given).__name__}")
    limits = []
    for name, limit in given.items():
        _check_keys(limit, {"low", "high", "why"}, f"{where}: {name}")
        for end in ("low", "high"):
            if not isinstance(limit.get(end, 0.0), int | float) or isinstance(limit.get(end), bool):
                raise ValueError(f"{where}: {name}: {end}: expected a number, got {limit[end]!r}")
        try:
            limits.append(Limit(name, **limit))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return tuple(limits)


def _check_keys(given: object, known: set[str], where: str) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected an object, got {type(given).__name__}")
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(
            f"{where}: unknown {', '.join(unknown)}; expected {', '.join(sorted(known))} and nothing else"
        )
