"""Where two settings differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 4  # differences that a message names


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first differences of two nested settings; empty where there is none.

    Args:
        before: plain JSON values.
        now: the same.
    """
    first, second = dict(_flat(before)), dict(_flat(now))
    found = [
        f"{key} was {first.get(key, 'not set')}, now {second.get(key, 'not set')}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
