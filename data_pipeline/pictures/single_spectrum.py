"""One spectrum of one file: flux with its error, masked pixels, S/N, and a line of facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.flux_axis import flux_limits, flux_unit, mark_beyond
from data_pipeline.pictures.line_marks import mark_lines
from data_pipeline.pictures.style import (
    MASK_COLOUR,
    WAVELENGTH_LABEL,
    arm_colour,
    draw_steps,
    gapped,
    new_figure,
    styled,
)
from data_pipeline.spectrum import ObservedSpectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASKED = "masked pixels"  # group id of the ticks


def facts(spectrum: ObservedSpectrum) -> str:
    """Pixels, masked share, median S/N, wavelength range and the reader's notes, in one line."""
    meta, good = spectrum.meta, spectrum.wavelength[~spectrum.mask]
    parts = [
        f"{Path(meta.path).name or meta.target or 'spectrum'}:",
        f"{meta.disperser or 'disperser not stated'},",
        f"{len(spectrum)} pixels, {spectrum.mask.mean():.1%} masked,",
        f"median S/N {np.nanmedian(spectrum.signal_to_noise):.2f},",
        f"{good[0]:.3f}-{good[-1]:.3f} um, format {meta.format or 'not stated'}",
    ]
    text = " ".join(parts)
    return f"{text} ({'; '.join(meta.notes)})" if meta.notes else text


@styled
def draw_single_spectrum(spectrum: ObservedSpectrum, redshift: float | None = None) -> Figure:
    """Flux density with its one-sigma band above, S/N per pixel below.

    Masked pixels are gaps, ticked along the bottom.

    Args:
        spectrum: what to draw.
        redshift: marks lines; None marks none.
    """
    figure = new_figure(4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    wave, mask = spectrum.wavelength, spectrum.mask
    colour = arm_colour(spectrum.meta.disperser)
    limits = flux_limits((spectrum.flux, spectrum.error, mask))
    unit, label = flux_unit(limits)
    flux, error = spectrum.flux / unit, spectrum.error / unit
    good = wave[~mask]
    margin = 0.01 * (good[-1] - good[0])
    draw_steps(top, wave, flux, error, mask, colour)
    top.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
    top.set_xlim(max(wave[0], good[0] - margin), min(wave[-1], good[-1] + margin))
    top.set_ylim(limits[0] / unit, limits[1] / unit)
    top.set_ylabel(label)
    beyond = mark_beyond(top, wave, flux, mask, colour)
    _tick_masked(top, wave, mask)
    if redshift is not None:
        mark_lines(top, redshift, (good[0], good[-1]))
        mark_lines(bottom, redshift, (good[0], good[-1]), label=False)
    figure.suptitle(_title(spectrum, redshift, beyond), fontsize=9)

    ratio = spectrum.signal_to_noise
    bottom.step(wave, gapped(ratio, mask), where="mid", color=colour, linewidth=0.7)
    bottom.axhline(0.0, color="0.6", linewidth=0.6, zorder=0.4)
    bottom.set_ylim(*flux_limits((ratio, np.ones_like(ratio), mask)))
    bottom.set_ylabel("S/N")
    bottom.set_xlabel(WAVELENGTH_LABEL)
    figure.align_ylabels()
    return figure


def _tick_masked(axes: Axes, wave: np.ndarray, mask: np.ndarray) -> None:
    axes.plot(
        wave[mask],
        np.full(int(mask.sum()), 0.012),
        "|",
        color=MASK_COLOUR,
        markersize=5,
        markeredgewidth=0.6,
        transform=axes.get_xaxis_transform(),
        gid=MASKED,
    )


def _title(spectrum: ObservedSpectrum, redshift: float | None, beyond: int) -> str:
    """Target, disperser and format; below, what ticks and triangles mean."""
    meta, masked = spectrum.meta, int(spectrum.mask.sum())
    parts = [
        meta.target or meta.source_id or Path(meta.path).name or "spectrum",
        meta.tier,
        "/".join(filter(None, (meta.disperser, meta.filter))) or "disperser not stated",
        f"{meta.format} {meta.extraction}".strip(),
        "" if redshift is None else f"z = {redshift:.4f}",
    ]
    below = [f"{masked} of {len(spectrum)} pixels masked" + (" (ticks at the bottom)" if masked else "")]
    if beyond:
        below.append(f"good pixels beyond the axis: {beyond} (triangles)")
    return " · ".join(filter(None, parts)) + "\n" + "; ".join(below)
