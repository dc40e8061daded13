"""Emission lines marked in a picture: dashed lines at the observed wavelength, labels that do not collide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.lines import load_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_MARK = "line mark"  # artists' group id, by which marks are found again


@dataclass(frozen=True)
class MarkedLine:
    """Lines that share a label.

    Attributes:
        label: as printed.
        names: in the shipped list.
    """

    label: str
    names: tuple[str, ...]


# Lines of nebular and galaxy-evolution studies, most important first: where labels do not fit, the last go.
KEY_LINES = (
    MarkedLine("Hα", ("Halpha",)),
    MarkedLine("[O III]", ("[OIII]_5008", "[OIII]_4960")),
    MarkedLine("Hβ", ("Hbeta",)),
    MarkedLine("[O II]", ("[OII]_3727", "[OII]_3730")),
    MarkedLine("[S II]", ("[SII]_6718", "[SII]_6733")),
    MarkedLine("[S III]", ("[SIII]_9533",)),
    MarkedLine("Lyα", ("Lya",)),
    MarkedLine("He I 10833", ("HeI_10833",)),
    MarkedLine("Paα", ("Paalpha",)),
    MarkedLine("Hγ", ("Hgamma",)),
    MarkedLine("[Ne III]", ("[NeIII]_3870",)),
    MarkedLine("Paβ", ("Pabeta",)),
    MarkedLine("C III]", ("CIII]_1907", "CIII]_1909")),
    MarkedLine("C IV", ("CIV_1548", "CIV_1551")),
    MarkedLine("Mg II", ("MgII_2796", "MgII_2803")),
    MarkedLine("[S III]", ("[SIII]_9071",)),
    MarkedLine("He I 5878", ("HeI_5878",)),
    MarkedLine("Hδ", ("Hdelta",)),
)
# In a magnified window there is room for what blends at the prism's resolution.
CLOSE_LINES = (
    *KEY_LINES,
    MarkedLine("[N II]", ("[NII]_6585",)),
    MarkedLine("[N II]", ("[NII]_6550",)),
    MarkedLine("[O I]", ("[OI]_6302",)),
    MarkedLine("Hε", ("Heps_3971",)),
    MarkedLine("H8", ("H8_3890",)),
    MarkedLine("Paγ", ("Pagamma",)),
)


def observed_wavelengths(names: Sequence[str], redshift: float) -> np.ndarray:
    """Wavelengths [um, vacuum] at which lines are seen."""
    lines = load_lines()
    return np.array([lines.wavelength[lines.index(name)] for name in names]) * (1.0 + redshift)


def mark_lines(
    axes: Axes,
    redshift: float,
    covered: tuple[float, float],
    lines: Sequence[MarkedLine] = KEY_LINES,
    label_gap: float = 0.021,
    label: bool = True,
) -> None:
    """Dashed vertical lines at rest wavelength x (1 + z), labels above the axes.

    The limits of the horizontal axis must be set already.

    Args:
        axes: where.
        redshift: of the galaxy.
        covered: lines are marked between these wavelengths [um].
        lines: what to mark, most important first.
        label_gap: least distance of two labels as a fraction of the axis.
        label: False for the dashed lines alone.
    """
    low, high = axes.get_xlim()
    low, high = max(low, covered[0]), min(high, covered[1])
    labels: list[tuple[float, str]] = []
    for line in lines:
        at = observed_wavelengths(line.names, redshift)
        at = at[(at > low) & (at < high)]
        for wavelength in at:
            axes.axvline(
                wavelength, color="0.45", linestyle=(0, (4, 3)), linewidth=0.6, zorder=0.5, gid=LINE_MARK
            )
        if at.size:
            labels.append((float(at.mean()), line.label))
    if label and labels:
        _write_labels(axes, labels[: int(0.95 / label_gap)], label_gap)


def _write_labels(axes: Axes, labels: list[tuple[float, str]], gap: float) -> None:
    """Upright labels above the axes, pushed apart, each with a leader to its line."""
    low, high = axes.get_xlim()
    labels = sorted(labels)
    wanted = np.array([(at - low) / (high - low) for at, _ in labels])
    for (at, text), place in zip(labels, spread(wanted, gap), strict=True):
        axes.annotate(
            text,
            xy=(at, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(place, 1.035),
            textcoords="axes fraction",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.45", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places at least ``gap`` apart, in the same order, nearest to the wanted ones (least squares).

    Args:
        wanted: (n,) sorted.
        gap: least distance.

    Returns:
        (n,) places.
    """
    # Without the gaps this is an isotonic regression: neighbours that collide share their mean.
    blocks: list[list[float]] = []
    for value in wanted - gap * np.arange(wanted.size):
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, count = blocks.pop()
            before, number = blocks[-1]
            blocks[-1] = [(before * number + mean * count) / (number + count), number + count]
    flat = np.concatenate([np.full(int(count), mean) for mean, count in blocks])
    return flat + gap * np.arange(wanted.size)
