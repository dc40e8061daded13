"""The baselines by name, with the parameters that ship: ``kspecsr tune-baselines`` found them."""

import json
from collections.abc import Mapping
from pathlib import Path

from kspecsr.methods.baseline import Baseline, CubicInterpolation
from kspecsr.methods.regularised import Tikhonov, Wiener
from kspecsr.methods.richardson_lucy import RichardsonLucy

SHIPPED = Path(__file__).with_name("tuned_baselines.json")
METHODS = {baseline.name: baseline for baseline in (CubicInterpolation, Wiener, Tikhonov, RichardsonLucy)}


def make_baseline(method: str, parameters: Mapping[str, float]) -> Baseline:
    """Make a baseline by name.

    Raises:
        ValueError: for an unknown name or parameter, listing the known ones.
    """
    if method not in METHODS:
        raise ValueError(f"baseline {method!r} is unknown; expected one of {', '.join(METHODS)}")
    wrong = sorted(set(parameters) ^ set(METHODS[method]().parameters))
    if wrong:
        raise ValueError(
            f"{method}: unknown or missing parameter {', '.join(wrong)}; expected "
            f"{', '.join(METHODS[method]().parameters) or 'none'}"
        )
    return METHODS[method](**parameters)


def default_baselines() -> list[Baseline]:
    """The four baselines with the parameters that ship."""
    parameters = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return [make_baseline(method, parameters.get(method, {})) for method in METHODS]
