"""Limits that a model has to keep, and which of them are broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from data_pipeline.configuration import from_dict
from kspecsr.measures.estimate import Estimate

SHIPPED = ("default", "release")


@dataclass(frozen=True)
class Limit:
    """Range of one figure.

    Attributes:
        low: least value; None for none.
        high: largest value; None for none.
        why: what a value outside means.
        times: ``METHOD/METRIC`` of an oracle that ``low`` and ``high`` are multiples of; empty: they are
            limits themselves.
        beside: of an oracle that the figure may exceed by ``by``, where that is more than ``high``.
        by: see ``beside``.
    """

    low: float | None = None
    high: float | None = None
    why: str = ""
    times: str = ""
    beside: str = ""
    by: float = 0.0

    @property
    def oracles(self) -> tuple[str, ...]:
        """Figures of oracles that the limit depends on."""
        return tuple(name for name in (self.times, self.beside) if name)

    def resolved(self, metrics: Mapping[str, float | None]) -> Limit:
        """The limit in numbers.

        Args:
            metrics: ``METHOD/METRIC`` to value.

        Raises:
            KeyError: where a figure of ``times`` is not there; what is ``beside`` only ever widens.
        """
        low, high = self.low, self.high
        if self.times:
            factor = metrics[self.times]
            if factor is None or factor != factor:
                raise KeyError(self.times)
            low, high = (None if limit is None else limit * factor for limit in (low, high))
        other = metrics.get(self.beside) if self.beside else None
        if high is not None and other is not None and other == other:
            high = max(high, other + self.by)
        return Limit(low, high, self.why)

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
        population: of the simulated galaxies that these are for; empty: any.
        others: other populations, or cases of ``kspecsr robustness``, to limits of their own.
        training: stage to limits by the names of `kspecsr.measures.goal`: beyond them an epoch is worse by
            ten times the excess, so that no error norm buys a broken guard.
    """

    evaluation: Mapping[str, Limit] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Limit]] = field(default_factory=dict)
    population: str = ""
    others: Mapping[str, Mapping[str, Limit]] = field(default_factory=dict)

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
        for limits in (gate.evaluation, *gate.others.values(), *gate.training.values()):
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
        """Names, without the method, of figures that have a limit, or belong to an oracle of one."""
        every = [item for limits in (self.evaluation, *self.others.values()) for item in limits.items()]
        names = [name for figure, limit in every for name in (figure, *limit.oracles)]
        return {name.partition("/")[2] for name in names}

    def limits(self, population: str = "") -> Mapping[str, Limit]:
        """Limits for a population, or a case of ``kspecsr robustness``; ``""`` for what is no simulation.

        Raises:
            ValueError: for one that the gate has no limits for, naming those it has.
        """
        if population in self.others:
            return self.others[population]
        if not (self.population and population) or population == self.population:
            return self.evaluation
        raise ValueError(
            f"the gate has limits for {', '.join((self.population, *self.others))}, none for {population!r}: "
            f"--population {self.population}"
        )

    def failures(self, metrics: Mapping[str, float | None], population: str = "") -> list[str]:
        """Broken limits; a figure that is missing or was not measured breaks its own.

        Args:
            metrics: ``METHOD/METRIC`` to value.
            population: see `limits`.

        Raises:
            ValueError: as `limits`.
        """
        found = []
        for name, limit in self.limits(population).items():
            value = metrics.get(name)
            try:
                limit = limit.resolved(metrics)
            except KeyError:
                found.append(f"{name}: {limit.times}, the oracle of its limit, was not measured")
                continue
            if name not in metrics:
                found.append(f"{name}: not among the metrics; expected {limit.text}")
            elif value is None or value != value:
                found.append(f"{name}: nothing was measured; expected {limit.text}")
            elif limit.excess(value) > 0:
                reason = f" ({limit.why})" if limit.why else ""
                found.append(f"{name}: {value:.4g}, expected {limit.text}{reason}")
        return found


def values_of(metrics: Mapping[str, Mapping[str, Estimate]]) -> dict[str, float]:
    """``METHOD/METRIC`` to value, from method to metric to estimate."""
    return {
        f"{method}/{name}": estimate.value
        for method, found in metrics.items()
        for name, estimate in found.items()
    }


@lru_cache(maxsize=len(SHIPPED))
def shipped_gate(name: str) -> Gate:
    """A gate that ships: ``default``, or ``release``, the narrower limits of a model that is published."""
    file = f"{name}_gate.json"
    return Gate.from_json((resources.files(__package__) / file).read_text(encoding="utf-8"), file)
