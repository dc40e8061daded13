"""Gratings of a result in its files: cards, an HDU for each arm, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.results.arms import (
    SOURCES,
    ArmFit,
    JointArms,
    Measured,
    arms_hash,
    velocity_between,
)

ARMS_HASH, LOOKED, _PRISM = "ARMSSHA", "ZLOOKED", "ZPRISM"
NAMES = tuple(name for name in SOURCES if name != "PRISM")
SOURCE_MEANING = ", ".join(f"{bit} {name}" for name, bit in SOURCES.items())
# columns of an arm's HDU: attribute of its spectrum or fit, and meaning
ARM_COLUMNS = {
    "FLUX": ("spectrum.flux", "as read, the grating's own scale"),
    "FLUX_ERR": ("spectrum.error", "one sigma, as quoted"),
    "MASK": ("spectrum.mask", "T: bad"),
    "FITTED": ("good", "T: taken into the fit"),
    "LINES": ("lines", "fitted lines"),
    "CONTINUUM": ("continuum", "fitted continuum"),
}
_ARM_CARDS = {
    "SCALE": ("scale", "prism over grating flux"),
    "SHIFT": ("shift", "[km/s] redwards of Z"),
}
_ARM_NUMBERS = {
    "DRIFT": ("drift", "of ln SCALE to the red end"),
    "NOISE": ("noise", "of pixels over quoted errors"),
    "CHI2": ("chi_square", "per good pixel"),
    "NWILD": ("left_out", "wild pixels left out"),
}
_QUANTITIES = {
    "scale": ("", "flux scale, prism over {}; NaN: not joined"),
    "shift": ("km / s", "by which lines of {} lie redwards of z; NaN: not joined"),
}
# columns of tables with a row per result: unit and meaning
ARM_ROW = {
    f"{quantity}_{name.lower()}{end}": (unit, "one sigma" if end else meaning.format(name))
    for name in NAMES
    for quantity, (unit, meaning) in _QUANTITIES.items()
    for end in ("", "_error")
}
Card = tuple[str, str | float | bool | None, str]


def arm_cards(joint: JointArms | None, redshift: Measured) -> list[Card]:
    """Keyword, value and comment of each card; none without gratings.

    Args:
        joint: of a result.
        redshift: of the result, with its error.
    """
    if joint is None:
        return []
    offset = velocity_between(joint.prism, redshift)
    cards: list[Card] = [
        ("ARMS", ",".join(arm.name for arm in joint.arms), "gratings that were joined with the prism"),
        (ARMS_HASH, arms_hash(arm.spectrum.meta.sha256 for arm in joint.arms), "of their files"),
        (LOOKED, joint.given if math.isfinite(joint.given) else None, "redshift given to look near"),
        (_PRISM, joint.prism.value, "redshift of the prism alone"),
        ("ZPRI_ERR", joint.prism.error, "one sigma"),
        ("SHIFT_PRISM", offset.value, "[km/s] redwards of Z"),
        ("SHIFT_PRISM_ERR", offset.error, "one sigma"),
        ("LINESIG", joint.width.value, "[km/s] velocity width of the lines, one sigma"),
        ("LINESIGE", joint.width.error, "one sigma"),
    ]
    for arm in joint.arms:
        for name, (attribute, meaning) in _ARM_CARDS.items():
            number = getattr(arm, attribute)
            cards.append((f"{name}_{arm.name}", number.value, meaning))
            cards.append((f"{name}_{arm.name}_ERR", number.error, "one sigma"))
        for name, (attribute, meaning) in _ARM_NUMBERS.items():
            cards.append((f"{name}_{arm.name}", getattr(arm, attribute), meaning))
        cards.append((f"INPUT_{arm.name}", Path(arm.spectrum.meta.path).name, "its file"))
        cards.append((f"INPUTSHA_{arm.name}", arm.spectrum.meta.sha256, "SHA-256 of it"))
    cards += [(f"DISAGREE{n}", text, "") for n, text in enumerate(joint.disagreements, start=1)]
    return [(name, x if name in (LOOKED, _PRISM) else _shortened(x), text) for name, x, text in cards]


def arm_numbers(joint: JointArms | None) -> dict[str, float]:
    """The columns `ARM_ROW` of a result; NaN for what was not joined."""
    found = dict.fromkeys(ARM_ROW, math.nan)
    for arm in joint.arms if joint else ():
        for quantity in _QUANTITIES:
            number, name = getattr(arm, quantity), f"{quantity}_{arm.name.lower()}"
            found |= {name: number.value, f"{name}_error": number.error}
    return found


def _shortened(value: str | float | bool | None) -> str | float | bool | None:
    """Numbers to ten digits: FITS has 20 characters for one, beside a long keyword fewer."""
    return float(f"{value:.10g}") if isinstance(value, float) else value


def arm_columns(arm: ArmFit) -> dict[str, np.ndarray]:
    """Columns of an arm's HDU."""
    columns = {"WAVELENGTH": arm.spectrum.wavelength}
    for name, (path, _) in ARM_COLUMNS.items():
        owner, _, attribute = path.rpartition(".")
        columns[name] = getattr(getattr(arm, owner) if owner else arm, attribute)
    return columns


def read_arms(
    cards: Mapping[str, Any], tables: Mapping[str, Mapping[str, np.ndarray]], source: np.ndarray | None
) -> JointArms | None:
    """What `arm_cards` and `arm_columns` wrote; without pixels where there are no tables.

    Args:
        cards: of the primary header.
        tables: disperser to columns.
        source: (N,) column ``SOURCE`` of the spectrum.
    """
    if not cards.get("ARMS"):
        return None
    names = cards["ARMS"].split(",")
    looked = cards.get(LOOKED)
    return JointArms(
        arms=tuple(_arm(name, cards, tables.get(name)) for name in names),
        prism=Measured(cards[_PRISM], cards["ZPRI_ERR"]),
        width=Measured(cards["LINESIG"], cards["LINESIGE"]),
        source=np.asarray(source, np.int16),
        disagreements=tuple(cards[f"DISAGREE{n}"] for n in range(1, len(cards)) if f"DISAGREE{n}" in cards),
        given=float(looked) if isinstance(looked, int | float) else math.nan,
    )


def _arm(name: str, cards: Mapping[str, Any], table: Mapping[str, np.ndarray] | None) -> ArmFit:
    numbers = {
        attribute: Measured(cards[f"{card}_{name}"], cards[f"{card}_{name}_ERR"])
        for card, (attribute, _) in _ARM_CARDS.items()
    }
    numbers |= {attribute: cards[f"{card}_{name}"] for card, (attribute, _) in _ARM_NUMBERS.items()}
    meta = SpectrumMeta(
        disperser=name, path=cards[f"INPUT_{name}"], sha256=cards.get(f"INPUTSHA_{name}") or ""
    )
    nothing = np.zeros(0)
    table = table or {column: nothing for column in ("WAVELENGTH", *ARM_COLUMNS)}
    spectrum = ObservedSpectrum(
        table["WAVELENGTH"], table["FLUX"], table["FLUX_ERR"], table["MASK"].astype(bool), meta
    )
    return ArmFit(
        spectrum=spectrum,
        lines=table["LINES"],
        continuum=table["CONTINUUM"],
        good=table["FITTED"].astype(bool),
        **numbers,
    )
