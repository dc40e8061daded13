"""A galaxy and its augmented realisations at both resolutions (paper Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.pictures.flux_axis import flux_label, flux_limits, leave_headroom
from data_pipeline.pictures.style import WAVELENGTH_LABEL, draw_steps, gapped, new_figure, note, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ORIGINAL = "#000000"


@styled
def draw_augmentation_family(
    original: Mapping[str, Any],
    copies: Sequence[Mapping[str, Any]],
    prism_wavelength: np.ndarray,
    grid_wavelength: np.ndarray,
    title: str,
) -> Figure:
    """Low resolution above, high resolution below: original in solid black, copies coloured and dashed.

    Args:
        original: record row of the observation (flux in 1e-20 erg/s/cm2/A).
        copies: record rows of its realisations.
        prism_wavelength: (706,) [um].
        grid_wavelength: (n,) [um], of the grating arrays.
        title: of the picture.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    redshifts = np.array([float(row["redshift"]) for row in (original, *copies)])
    known = redshifts[np.isfinite(redshifts)]
    # The darkest and the palest part of the map are left out: one looks like the original, one like paper.
    colours = LinearSegmentedColormap.from_list("redshift", colormaps["plasma"](np.linspace(0.08, 0.88, 256)))
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    scale = Normalize(low, high if high > low else low + 1e-3)
    figure = new_figure(5.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    arms = (
        ("prism", prism_wavelength, "low resolution (prism)"),
        ("grating", grid_wavelength, "high resolution (gratings)"),
    )
    # Copies are trimmed to the common range; what the original has beyond it is left out of the picture.
    limits = _common_range(arms, copies or [original])
    top.set_xlim(*limits)
    for axes, (prefix, wavelength, text) in zip((top, bottom), arms, strict=True):
        _draw_family(axes, prefix, wavelength, original, copies, lambda z: colours(scale(z)), limits)
        note(axes, text)
        axes.set_ylabel(flux_label(-20))
    top.legend(loc="upper right", ncols=2)
    bottom.set_xlabel(WAVELENGTH_LABEL)
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=(top, bottom), pad=0.01, aspect=40)
    bar.set_label("Redshift of the realisation")
    if np.isfinite(original["redshift"]):
        bar.ax.axhline(float(original["redshift"]), color=_ORIGINAL, linewidth=1.5)
    figure.suptitle(title, fontsize=9.5)
    return figure


def _common_range(arms, rows) -> tuple[float, float]:
    """Wavelengths [um] between which any of some rows has data at either resolution."""
    ends = []
    for prefix, wavelength, _ in arms:
        seen = wavelength[np.any([~_spectrum(row, prefix)[2] for row in rows], axis=0)]
        ends += [*seen[:1], *seen[-1:]]
    return float(min(ends)), float(max(ends))


def _draw_family(axes: Axes, prefix: str, wavelength, original, copies, colour, limits) -> None:
    own = _spectrum(original, prefix)
    spectra = [_spectrum(row, prefix) for row in copies]
    for number, (row, (flux, _, mask)) in enumerate(zip(copies, spectra, strict=True)):
        axes.plot(
            wavelength,
            gapped(flux, mask),
            linestyle=(0, (3, 1.2)),
            linewidth=0.6,
            color=colour(float(row["redshift"])) if np.isfinite(row["redshift"]) else "0.6",
            label=f"{len(copies)} realisations" if number == 0 else None,
        )
    draw_steps(axes, wavelength, own[0], None, own[2], _ORIGINAL, "original", 0.9)
    axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
    inside = (wavelength >= limits[0]) & (wavelength <= limits[1])
    axes.set_ylim(*flux_limits(*((f[inside], e[inside], m[inside]) for f, e, m in (own, *spectra))))
    leave_headroom(axes)


def _spectrum(row: Mapping[str, Any], prefix: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return row[f"{prefix}_flux"], row[f"{prefix}_error"], np.asarray(row[f"{prefix}_mask"], bool)
