"""Look shared by all pictures: sizes, colours, step plots, flux axes, saving."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import median_filter

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
TRUTH_COLOUR, OUTPUT_COLOUR = "#111111", "#2347c5"  # of simulated truth, and of super-resolved spectra
MASK_COLOUR = "#b3541e"
BROAD_COLOUR = "#2e9e5b"  # of broad components of lines
POOR_COLOUR = "#b00020"  # of what is said about a result that does not fit
# of marks of detected lines, of others, and of second axes
LINE_COLOUR, FAINT_LINE_COLOUR, FAINT_COLOUR = "#666666", "#bbbbbb", "#666666"
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
    """An empty figure of the page's width and a height [inch].

    Built without pyplot: nothing is shown, and figures are freed with their last reference.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def png_bytes(figure: Figure, dpi: float = DPI) -> bytes:
    """A figure as PNG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = BytesIO()
    with matplotlib.rc_context(_PARAMETERS):
        FigureCanvasAgg(figure).print_figure(stream, format="png", dpi=dpi)
    return stream.getvalue()


def save_picture(figure: Figure, path: str | os.PathLike) -> Path:
    """Writes a PNG under a temporary name and renames it.

    Raises:
        ValueError: for another suffix than ``.png``.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"picture {path}: expected a name that ends in .png")
    with replacing(path) as temporary:
        temporary.write_bytes(png_bytes(figure))
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

    Arrays are (n,) in the unit of the axis, the mask True where bad; an error of None draws no band, an empty
    label makes no entry in the legend. The width is that of the line [point].
    """
    shown = gapped(flux, mask)
    if error is not None:
        sigma = gapped(error, mask)
        axes.fill_between(
            wavelength, shown - sigma, shown + sigma, step="mid", color=colour, alpha=BAND_ALPHA, linewidth=0
        )
    axes.step(wavelength, shown, where="mid", color=colour, linewidth=width, label=label or None)


def draw_zero(axes: Axes) -> None:
    """Thin line at zero flux, below the data."""
    axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)


def note(axes: Axes, text: str, right: bool = False, colour: str = "black") -> None:
    """Text in the upper left (or right) corner, readable on top of data."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    x, side = (0.99, "right") if right else (0.01, "left")
    place = {"transform": axes.transAxes, "ha": side, "va": "top"}
    axes.text(x, 0.96, text, fontsize=8.5, color=colour, bbox=box, **place)


def legend_below(figure: Figure, panels: Iterable[Axes], **options: Any) -> None:
    """One legend below the panels, an entry per label, in as many columns as fit the page's width."""
    drawn = [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]]
    handles = {handle.get_label(): handle for handle in drawn}
    if handles:
        # a character of 8 points is 0.065 inch wide on average, the line and gap beside it 0.4 inch
        widest = 0.4 + 0.065 * max(map(len, handles)) * options.get("fontsize", 8) / 8
        columns = max(1, min(len(handles), int(WIDTH / widest)))
        options = {"loc": "outside lower center", "ncols": columns, "columnspacing": 1.2, **options}
        figure.legend(handles=list(handles.values()), **options)


def arm_colour(disperser: str) -> str:
    """Colour of a disperser; high-resolution gratings share that of the medium one."""
    name = disperser.upper()
    return ARM_COLOURS.get(name.replace("H", "M") if name.endswith("H") else name, OTHER_COLOUR)


# -- the flux axis: its unit, and limits that wild pixels do not set and lines do

FLUX_UNIT_TEXT = r"erg s$^{-1}$ cm$^{-2}$ $\mathrm{\AA}^{-1}$"
_LINE_SN = 5.0  # a line's peak above its surroundings, in sigma of its pixel
_NEIGHBOUR = 0.25  # ... and the brighter neighbour has at least this share of it: a line is no single pixel
_SURROUNDINGS = 51  # pixels of the running median
_EDGE = 4  # good pixels at each end, and beside each gap, that alone do not set a limit
_OUTLIER = 8.0  # sigma
_QUIET_ERROR = 6.0  # pixels with errors beyond this many medians do not set a limit ...
_CONTINUUM_SN = 3.0  # ... unless the continuum there has this S/N per pixel


def flux_unit(limits: tuple[float, float]) -> tuple[float, str]:
    """Power of ten that makes a flux axis of these limits readable [erg/s/cm2/A], and the axis label."""
    exponent = int(np.floor(np.log10(max(map(abs, limits)))))
    return 10.0**exponent, flux_label(exponent)


def flux_label(exponent: int) -> str:
    """Axis label of flux density in units of a power of ten [erg/s/cm2/A]."""
    return rf"Flux density [$10^{{{exponent}}}$ {FLUX_UNIT_TEXT}]"


def line_significance(flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Significance of pixels of emission lines above their surroundings.

    Returns:
        (n,) excess over the running median in sigma where it is above 5, no single pixel, and beside no end
        or gap; 0 elsewhere.
    """
    good = ~mask & np.isfinite(flux) & np.isfinite(error)
    significance = np.zeros(flux.size)
    if not good.any():
        return significance
    height = np.full(flux.size, -np.inf)
    height[good] = flux[good] - median_filter(flux[good], _SURROUNDINGS, mode="nearest")
    beside = np.maximum(np.append(height[1:], -np.inf), np.append(-np.inf, height[:-1]))
    significance[good] = height[good] / error[good]
    line = (significance > _LINE_SN) & (beside >= _NEIGHBOUR * height) & ~_beside_bad(~good)
    return np.where(line, significance, 0.0)


def _trusted(flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Good pixels that are no outliers, with errors as usual or on a continuum that is detected."""
    outlier = np.abs(flux - median_filter(flux, 3, mode="nearest")) > _OUTLIER * error
    detected = median_filter(flux / error, 9, mode="nearest") > _CONTINUUM_SN
    return ~outlier & ((error < _QUIET_ERROR * np.median(error)) | detected)


def _beside_bad(bad: np.ndarray) -> np.ndarray:
    """Pixels within a few of an end or of a run of three or more bad ones: extraction is wild there."""
    run = np.concatenate([np.ones(_EDGE, bool), bad, np.ones(_EDGE, bool)])
    long = run[:-2] & run[1:-1] & run[2:]
    long = np.convolve(long, np.ones(3, bool))[: run.size] > 0
    near = np.convolve(long, np.ones(2 * _EDGE + 1), mode="same") > 0
    return near[_EDGE:-_EDGE]


def flux_limits(*spectra: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Limits that show every emission line in full, and the continuum with its noise.

    Single outliers, edges of a spectrum, and pixels of outsize error may lie outside. Spectra are (flux,
    error, mask) in one unit.
    """
    low, high = [0.0], [0.0]
    for flux, error, mask in spectra:
        good = ~mask & np.isfinite(flux) & np.isfinite(error)
        if not good.any():
            continue
        quiet = good & ~_beside_bad(~good)
        quiet[good] &= _trusted(flux[good], error[good])
        if quiet.any():
            lowest, highest = np.percentile(flux[quiet], (0.3, 99.7))
            low.append(float(lowest))
            high.append(float(highest))
        lines = line_significance(flux, error, mask) > 0
        if lines.any():
            high.append(float(flux[lines].max()))
    bottom, top = min(low), max(high)
    span = top - bottom or 1.0
    return bottom - 0.06 * span, top + 0.08 * span


def overview_limits(
    prism: tuple[np.ndarray, np.ndarray, np.ndarray], sharp: np.ndarray, tallest: float = 2.0
) -> tuple[float, float]:
    """Limits of a panel with a spectrum at two resolutions: all of the prism, sharp lines up to a limit.

    A line at ten times the prism's resolution is up to ten times as high: if all of it were shown, nothing
    could be seen of the continuum. The prism is (flux, error, mask), the sharp flux NaN where unknown;
    ``tallest`` is in units of the prism's limit.
    """
    low, high = flux_limits(prism)
    if not np.isfinite(sharp).any():
        return low, high
    bottom, top = 1.06 * min(float(np.nanmin(sharp)), 0.0), 1.08 * float(np.nanmax(sharp))
    return max(min(low, bottom), low - 0.2 * (high - low)), max(high, min(top, tallest * high))


def compress_above(axes: Axes, level: float, most: float = 6.0, apart: float = 0.1) -> bool:
    """Makes the flux axis asinh where it reaches beyond ``most`` times a level, which stays readable so.

    The axis is linear up to about the level and logarithmic far above it; its ticks are ``apart`` by that
    share of it or more. Returns whether it was changed.
    """
    low, high = axes.get_ylim()
    if not 0.0 < most * level < high:
        return False
    axes.set_yscale("asinh", linear_width=level)
    axes.set_ylim(low, high)
    decades = 10.0 ** np.arange(np.floor(np.log10(level)), np.ceil(np.log10(high)) + 1)
    ticks, kept = np.outer(decades, (1.0, 2.0, 5.0)).ravel(), [0.0]
    least = apart * (np.arcsinh(high / level) - np.arcsinh(min(low, 0.0) / level))
    for at in np.arcsinh(ticks[(ticks < high) & (ticks > 0.4 * level)] / level):
        if at - kept[-1] > least:
            kept.append(at)
    axes.set_yticks(level * np.sinh(kept), [f"{level * np.sinh(at):.3g}" for at in kept])
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    return True


def leave_headroom(axes: Axes, share: float = 0.13) -> None:
    """Raises the upper limit by a share of the axis, so that what is written at the top is clear of data."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_ylim()))
    top = scale.inverted().transform(np.array([high + share * (high - low)]))[0]
    axes.set_ylim(axes.get_ylim()[0], top)


def mark_beyond(axes: Axes, wavelength: np.ndarray, flux: np.ndarray, mask: np.ndarray, colour: str) -> int:
    """Small triangles at the axis' ends for good pixels outside its limits; returns how many."""
    low, high = axes.get_ylim()
    good = ~mask & np.isfinite(flux)
    count = 0
    for rows, marker, place in ((good & (flux > high), "^", 0.985), (good & (flux < low), "v", 0.015)):
        if rows.any():
            count += int(rows.sum())
            at, across = np.full(int(rows.sum()), place), axes.get_xaxis_transform()
            axes.plot(wavelength[rows], at, marker, color=colour, ms=2.5, transform=across, ls="none")
    return count
