"""The same colour for the same method in every figure."""

from __future__ import annotations

from collections.abc import Iterable

from kspecsr.evaluation.config import TITLES

# Okabe & Ito's palette, which readers who confuse red and green can tell apart
_COLOURS = {
    "cubic": "#999999",
    "wiener": "#56b4e9",
    "tikhonov": "#0072b2",
    "richardson_lucy": "#cc79a7",
    "direct_fit": "#111111",
    "sr1": "#e69f00",
    "sr2": "#d55e00",
    "sr2_known_z": "#009e73",
}
_OTHERS = ("#5b3a8c", "#8c6d1f", "#2e9e5b", "#7f7f7f")


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Colour of each method; unknown ones get further colours in their order."""
    further = [name for name in methods if name not in _COLOURS]
    return {**_COLOURS, **{name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(further)}}


def method_title(method: str) -> str:
    """A method in words."""
    return TITLES.get(method, method)
