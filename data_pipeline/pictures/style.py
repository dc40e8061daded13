"""Look shared by all pictures: sizes, colours, step plots, and saving."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.writers.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inch: two columns of a journal page
DPI = 200
# The paper's Figure 1: prism red, gratings green, blue and black; in shades of different lightness, for
# readers who confuse red and green.
ARM_COLOURS = {"PRISM": "#e2231a", "G140M": "#2e9e5b", "G235M": "#2347c5", "G395M": "#111111"}
OTHER_COLOUR = "#5b3a8c"
MASK_COLOUR = "#b3541e"
WAVELENGTH_LABEL = "Observed wavelength [µm, vacuum]"
WAVELENGTH_SHORT = "Wavelength [µm]"  # panels beside or below one with the full label
BAND_ALPHA = 0.22  # of one-sigma bands
_PARAMETERS = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.linewidth": 0.7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "legend.fancybox": False,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.borderpad": 0.2,
    "legend.handlelength": 1.5,
    "savefig.dpi": DPI,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draws with this module's sizes, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def inside(*args: Any, **options: Any) -> Figure:
        # matplotlib takes a third of a second to import: only once something is drawn
        import matplotlib

        with matplotlib.rc_context(_PARAMETERS):
            return draw(*args, **options)

    return inside


def new_figure(height: float) -> Figure:
    """An empty figure of the page's width.

    Built without pyplot: nothing is shown, and figures are freed with their last reference.

    Args:
        height: [inch].
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def save_picture(figure: Figure, path: str | os.PathLike) -> Path:
    """Writes a PNG under a temporary name and renames it.

    Raises:
        ValueError: for another suffix than ``.png``.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"picture {path}: expected a name that ends in .png")
    with replacing(path) as temporary, matplotlib.rc_context(_PARAMETERS):
        FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=DPI)
    return path


def gapped(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values with NaN where masked: matplotlib leaves a gap there."""
    return np.where(mask, np.nan, values)


def draw_steps(
    axes: Axes,
    wavelength: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray | None,
    mask: np.ndarray,
    colour: str,
    label: str = "",
    width: float = 0.8,
) -> None:
    """Spectrum as steps centred on the pixels, gaps where masked, one-sigma band.

    Args:
        axes: where.
        wavelength: (n,) pixel centres.
        flux: (n,) in the unit of the axis.
        error: (n,) one sigma, drawn as a band; None for no band.
        mask: (n,) bool, True = bad.
        colour: of line and band.
        label: for the legend; empty for none.
        width: of the line [point].
    """
    shown = gapped(flux, mask)
    if error is not None:
        sigma = gapped(error, mask)
        axes.fill_between(
            wavelength, shown - sigma, shown + sigma, step="mid", color=colour, alpha=BAND_ALPHA, linewidth=0
        )
    axes.step(wavelength, shown, where="mid", color=colour, linewidth=width, label=label or None)


def note(axes: Axes, text: str) -> None:
    """A word in the upper left corner, readable on top of data."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axes.text(0.01, 0.96, text, transform=axes.transAxes, va="top", fontsize=8.5, bbox=box)


def arm_colour(disperser: str) -> str:
    """Colour of a disperser; high-resolution gratings share that of the medium one."""
    name = disperser.upper()
    return ARM_COLOURS.get(name.replace("H", "M") if name.endswith("H") else name, OTHER_COLOUR)
