"""Emission lines marked in a picture: dashed lines at the observed wavelength, labels that do not collide."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import isotonic_regression

from data_pipeline.lines import load_lines
from data_pipeline.pictures.style import FAINT_COLOUR, FAINT_LINE_COLOUR, LINE_COLOUR, WAVELENGTH_SHORT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_MARK = "line mark"  # artists' group id, by which marks are found again

# Label to names in the shipped list, most important first: where labels do not fit, the last go.
KEY_LINES = (
    ("Hα", ("Halpha",)),
    ("[O III]", ("[OIII]_5008", "[OIII]_4960")),
    ("Hβ", ("Hbeta",)),
    ("[O II]", ("[OII]_3727", "[OII]_3730")),
    ("[S II]", ("[SII]_6718", "[SII]_6733")),
    ("[S III]", ("[SIII]_9533",)),
    ("Lyα", ("Lya",)),
    ("He I 10833", ("HeI_10833",)),
    ("Paα", ("Paalpha",)),
    ("Hγ", ("Hgamma",)),
    ("[Ne III]", ("[NeIII]_3870",)),
    ("Paβ", ("Pabeta",)),
    ("C III]", ("CIII]_1907", "CIII]_1909")),
    ("C IV", ("CIV_1548", "CIV_1551")),
    ("Mg II", ("MgII_2796", "MgII_2803")),
    ("[S III]", ("[SIII]_9071",)),
    ("He I 5878", ("HeI_5878",)),
    ("Hδ", ("Hdelta",)),
)
# In a magnified window there is room for what blends at the prism's resolution.
CLOSE_LINES = (
    *KEY_LINES,
    ("[N II]", ("[NII]_6585",)),
    ("[N II]", ("[NII]_6550",)),
    ("[O I]", ("[OI]_6302",)),
    ("Hε", ("Heps_3971",)),
    ("H8", ("H8_3890",)),
    ("Paγ", ("Pagamma",)),
)
# Rest wavelengths [um] around groups of lines that the prism blends, by their brightest line.
LINE_GROUPS = {
    "C III]": (0.1860, 0.1960),
    "[O II]": (0.3660, 0.3910),
    "Hγ": (0.4280, 0.4450),
    "[O III]": (0.4800, 0.5070),
    "Hα": (0.6460, 0.6810),
    "[S III]": (0.8960, 0.9630),
    "He I": (1.0700, 1.1060),
    "Paβ": (1.2650, 1.3000),
    "Paα": (1.8550, 1.8960),
}
_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "a": "α"}


def line_title(name: str) -> str:
    """Name of the shipped list as an astronomer writes it: ``[OIII]_5008`` is [O III] 5008, ``Hbeta`` Hβ."""
    ion, _, wavelength = name.partition("_")
    series = re.fullmatch(r"(H|Pa|Br|Ly)(alpha|beta|gamma|delta|eps|a)", ion)
    if series:
        return series[1] + _GREEK[series[2]]
    return re.sub(r"([A-Z][a-z]?)([IV]+)", r"\1 \2", ion) + (f" {wavelength}" if wavelength else "")


def observed_wavelengths(names: Sequence[str], redshift: float) -> np.ndarray:
    """Wavelengths [um, vacuum] at which lines are seen."""
    lines = load_lines("second")  # has those of the first
    return np.array([lines.wavelength[lines.index(name)] for name in names]) * (1.0 + redshift)


def mark_lines(
    axes: Axes,
    redshift: float,
    covered: tuple[float, float],
    lines: Sequence[tuple[str, Sequence[str]]] = KEY_LINES,
    label_gap: float = 0.021,
    label: bool = True,
    detected: Collection[str] | None = None,
) -> None:
    """Dashed vertical lines at rest wavelength x (1 + z), labels above the axes.

    The limits of the horizontal axis must be set already. Lines between the wavelengths ``covered`` [um] are
    marked, most important first; labels lie ``label_gap`` of the axis apart. With names ``detected`` all
    others are drawn pale and dotted.
    """
    low, high = axes.get_xlim()
    low, high = max(low, covered[0]), min(high, covered[1])
    labels: list[tuple[float, str, str]] = []
    for text, names in lines:
        at = observed_wavelengths(names, redshift)
        at = at[(at > low) & (at < high)]
        seen = detected is None or not set(names).isdisjoint(detected)
        colour, dashes = (LINE_COLOUR, (4, 3)) if seen else (FAINT_LINE_COLOUR, (1, 3))
        for wavelength in at:
            axes.axvline(
                wavelength, color=colour, linestyle=(0, dashes), linewidth=0.6, zorder=0.5, gid=LINE_MARK
            )
        if at.size:
            labels.append((float(at.mean()), text, colour))
    if label and labels:
        _write_labels(axes, labels[: int(0.95 / label_gap)], label_gap)


def add_rest_axis(axes: Axes, redshift: float, place: float = -0.2) -> None:
    """A second wavelength axis, of the rest frame, at a height below the axes [share of their height]."""
    factor = 1.0 + redshift
    rest = axes.secondary_xaxis(place, functions=(lambda x: x / factor, lambda x: x * factor))
    rest.set_xlabel("Rest-frame wavelength [µm]", color=FAINT_COLOUR)
    rest.tick_params(colors=FAINT_COLOUR, which="both")
    rest.spines["bottom"].set_edgecolor(FAINT_COLOUR)


def magnify(
    axes: Axes,
    window: tuple[float, float],
    drawn: Sequence[float] | np.ndarray,
    redshift: float,
    detected: Collection[str] | None = None,
) -> None:
    """Limits, line marks and ticks of a panel that magnifies a group of lines.

    Values ``drawn`` must lie in the panel; NaN is passed over, zero is always shown. The window is in um.
    """
    low, high = np.nanmin([*drawn, 0.0]), np.nanmax([*drawn, 0.0])
    margin = 0.07 * max(high - low, 1e-9)
    axes.set_xlim(*window)
    axes.set_ylim(low - margin, high + margin)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(WAVELENGTH_SHORT)
    mark_lines(axes, redshift, window, CLOSE_LINES, 0.088, detected=detected)


def _write_labels(axes: Axes, labels: list[tuple[float, str, str]], gap: float) -> None:
    """Upright labels above the axes, pushed apart, each with a leader to its line."""
    low, high = axes.get_xlim()
    labels = sorted(labels)
    wanted = np.array([(at - low) / (high - low) for at, _, _ in labels])
    for (at, text, colour), place in zip(labels, spread(wanted, gap), strict=True):
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
            color="black" if colour == LINE_COLOUR else "0.6",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """(n,) places at least ``gap`` apart, nearest to the sorted wanted ones (least squares)."""
    # Without the gaps this is an isotonic regression: neighbours that collide share their mean.
    gaps = gap * np.arange(wanted.size)
    return isotonic_regression(wanted - gaps).x + gaps
