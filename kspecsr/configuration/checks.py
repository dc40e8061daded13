"""Checks that the configuration classes share."""

from __future__ import annotations

import math


def check_range(where: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuses what is no finite number in [low, high].

    Raises:
        ValueError: naming the field, what was received and what is expected.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    if not low <= value <= high:
        upper = f" to {high:g}" if math.isfinite(high) else " or more"
        raise ValueError(f"{where}: expected {low:g}{upper}, got {value!r}")


def check_choice(where: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses what is none of the choices.

    Raises:
        ValueError: listing them.
    """
    if value not in choices:
        raise ValueError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")
