"""Pictures of spectra: one alone, prism and gratings of a galaxy, a galaxy and its augmented realisations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.pictures import style
from data_pipeline.pictures.line_marks import (
    KEY_LINES,
    LINE_GROUPS,
    magnify,
    mark_lines,
    observed_wavelengths,
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


@style.styled
def draw_single_spectrum(spectrum: ObservedSpectrum, redshift: float | None = None) -> Figure:
    """Flux density with its one-sigma band above, S/N per pixel below.

    Masked pixels are gaps, ticked along the bottom. A redshift marks lines.
    """
    figure = style.new_figure(4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    wave, mask = spectrum.wavelength, spectrum.mask
    colour = style.arm_colour(spectrum.meta.disperser)
    limits = style.flux_limits((spectrum.flux, spectrum.error, mask))
    unit, label = style.flux_unit(limits)
    flux, error = spectrum.flux / unit, spectrum.error / unit
    good = wave[~mask]
    margin = 0.01 * (good[-1] - good[0])
    style.draw_steps(top, wave, flux, error, mask, colour)
    style.draw_zero(top)
    top.set_xlim(max(wave[0], good[0] - margin), min(wave[-1], good[-1] + margin))
    top.set_ylim(limits[0] / unit, limits[1] / unit)
    top.set_ylabel(label)
    beyond = style.mark_beyond(top, wave, flux, mask, colour)
    across, low = top.get_xaxis_transform(), np.full(int(mask.sum()), 0.012)
    top.plot(wave[mask], low, "|", color=style.MASK_COLOUR, ms=5, mew=0.6, transform=across, gid=MASKED)
    if redshift is not None:
        mark_lines(top, redshift, (good[0], good[-1]))
        mark_lines(bottom, redshift, (good[0], good[-1]), label=False)
    figure.suptitle(_title(spectrum, redshift, beyond), fontsize=9)

    ratio = spectrum.signal_to_noise
    bottom.step(wave, style.gapped(ratio, mask), where="mid", color=colour, linewidth=0.7)
    style.draw_zero(bottom)
    bottom.set_ylim(*style.flux_limits((ratio, np.ones_like(ratio), mask)))
    bottom.set_ylabel("S/N")
    bottom.set_xlabel(style.WAVELENGTH_LABEL)
    figure.align_ylabels()
    return figure


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


# -- prism and gratings of one galaxy (paper Figure 1), with the brightest line groups magnified

_MOST_WINDOWS = 3
_NEAR = 0.006  # of the wavelength: redshift errors and the prism's wavelength zero point


@style.styled
def draw_galaxy_pair(
    prism: ObservedSpectrum, gratings: Sequence[ObservedSpectrum], redshift: float, name: str
) -> Figure:
    """Prism in red, G140M in green, G235M in blue, G395M in black; key lines dashed.

    The prism is divided by its peak in one line, the gratings together by theirs in the same line:
    resolution, not flux scale, is what the picture compares. Pixels are those of the files.
    """
    arms = sorted(gratings, key=lambda s: s.wavelength[0])
    scale, text = normalisation(prism, arms, redshift)
    spectra = [(prism, scale[0]), *((arm, scale[1]) for arm in arms)]
    windows = line_windows(prism, arms, redshift)
    figure = style.new_figure(5.7 if windows else 3.5)
    if windows:
        grid = figure.add_gridspec(2, len(windows), height_ratios=(1.25, 1))
        main = figure.add_subplot(grid[0, :])
    else:
        main = figure.add_subplot()
    good = np.concatenate([s.wavelength[~s.mask] for s, _ in spectra])
    main.set_xlim(good.min(), good.max())
    _draw_arms(main, spectra)
    main.set_ylim(*style.flux_limits(*((s.flux / by, s.error / by, s.mask) for s, by in spectra)))
    style.leave_headroom(main)
    mark_lines(main, redshift, (float(good.min()), float(good.max())))
    main.legend(loc="upper right", ncols=len(spectra), columnspacing=1.2)
    main.set_xlabel(style.WAVELENGTH_LABEL)
    main.set_ylabel(f"Flux density / own {text}")
    beyond = sum(
        style.mark_beyond(main, s.wavelength, s.flux / by, s.mask, style.arm_colour(s.meta.disperser))
        for s, by in spectra
    )
    figure.suptitle(_pair_title(name, redshift, text, beyond), fontsize=9)
    panels = [figure.add_subplot(grid[1, column]) for column in range(len(windows))]
    for panel, window in zip(panels, windows, strict=True):
        _draw_window(panel, spectra, window, redshift)
    if panels:
        panels[0].set_ylabel(f"Flux density\n/ own {text}")
        _explain_bands(figure)
    return figure


def _pair_title(name: str, redshift: float, text: str, beyond: int) -> str:
    """Galaxy; below, what the flux axis is and what triangles mean."""
    below = [f"prism and gratings each divided by their own {text}"]
    if beyond:
        below.append(f"good pixels beyond the axis: {beyond} (triangles)")
    return f"{name} · z = {redshift:.4f}\n" + "; ".join(below)


def _explain_bands(figure: Figure) -> None:
    """Legend entry, below the magnified panels, for the shading that is drawn in them."""
    from matplotlib.patches import Patch  # as all of matplotlib: only once something is drawn

    figure.legend(
        handles=[Patch(color="0.5", alpha=style.BAND_ALPHA, linewidth=0)],
        labels=["shading in the magnified panels: ± 1 σ of each spectrum"],
        loc="outside lower center",
    )


def normalisation(
    prism: ObservedSpectrum, gratings: Sequence[ObservedSpectrum], redshift: float
) -> tuple[tuple[float, float], str]:
    """Divisors of prism and gratings [erg/s/cm2/A], and their name.

    The peak in the key line of highest S/N in the gratings that the prism detects, too; without one, the
    median absolute flux of each.
    """
    best: tuple[float, float, float, str] | None = None
    for label, names in KEY_LINES:
        at = float(observed_wavelengths(names[:1], redshift)[0])
        low = _peak([prism], at)
        high = _peak(gratings, at)
        if low[1] > 0 and high[1] > 0 and (best is None or high[1] > best[0]):
            best = (high[1], low[0], high[0], label)
    if best is not None:
        return (best[1], best[2]), f"peak of {best[3]}"
    medians = [
        float(np.median(np.concatenate([np.abs(s.flux[~s.mask]) for s in group]))) or 1.0
        for group in ([prism], gratings)
    ]
    return (medians[0], medians[1]), "median"


def _peak(spectra: Sequence[ObservedSpectrum], at: float) -> tuple[float, float]:
    """Flux and S/N of the most significant line pixel near a wavelength; 0 for none."""
    best = (0.0, 0.0)
    for s in spectra:
        near = np.abs(s.wavelength - at) < _NEAR * at
        excess = np.where(near, style.line_significance(s.flux, s.error, s.mask), 0.0)
        row = int(np.argmax(excess))
        if excess[row] > best[1]:
            best = (float(s.flux[row]), float(excess[row]))
    return best


def line_windows(
    prism: ObservedSpectrum, gratings: Sequence[ObservedSpectrum], redshift: float
) -> list[tuple[float, float]]:
    """Observed windows [um] of the groups with the brightest pixels in the gratings, blue to red."""
    ranked = []
    for low, high in np.array(list(LINE_GROUPS.values())) * (1.0 + redshift):
        if not np.any(~prism.mask & (prism.wavelength > low) & (prism.wavelength < high)):
            continue
        peak = 0.0
        for arm in gratings:
            inside = (arm.wavelength > low) & (arm.wavelength < high)
            excess = style.line_significance(arm.flux, arm.error, arm.mask)
            peak = max(peak, float(np.max(excess[inside], initial=0.0)))
        if peak > 0:
            ranked.append((peak, float(low), float(high)))
    return sorted((low, high) for _, low, high in sorted(ranked, reverse=True)[:_MOST_WINDOWS])


def _draw_arms(axes: Axes, spectra: Sequence[tuple[ObservedSpectrum, float]], band: bool = False) -> None:
    style.draw_zero(axes)
    # The prism last: it is the smoother one, and stays visible on top.
    for s, by in [*spectra[1:], spectra[0]]:
        style.draw_steps(
            axes,
            s.wavelength,
            s.flux / by,
            s.error / by if band else None,
            s.mask,
            style.arm_colour(s.meta.disperser),
            s.meta.disperser.replace("PRISM", "prism"),
            width=1.1 if s is spectra[0][0] else 0.7,
        )


def _draw_window(
    axes: Axes,
    spectra: Sequence[tuple[ObservedSpectrum, float]],
    window: tuple[float, float],
    redshift: float,
) -> None:
    _draw_arms(axes, spectra, band=True)
    drawn: list[float] = []
    for s, by in spectra:
        good = (s.wavelength > window[0]) & (s.wavelength < window[1]) & ~s.mask
        if good.any():
            value, sigma = s.flux[good] / by, s.error[good] / by
            lines = style.line_significance(s.flux, s.error, s.mask)[good] > 0
            drawn += [*np.percentile(value, (1, 98)), *(value + sigma)[lines]]
    magnify(axes, window, drawn, redshift)


# -- a galaxy and its augmented realisations (paper Figure 2)

_ORIGINAL = "#000000"


@style.styled
def draw_augmentation_family(
    original: Mapping[str, Any],
    copies: Sequence[Mapping[str, Any]],
    prism_wavelength: np.ndarray,
    grid_wavelength: np.ndarray,
    title: str,
) -> Figure:
    """Low resolution above, high resolution below: original in solid black, copies coloured and dashed.

    Rows are those of records (flux in 1e-20 erg/s/cm2/A); wavelengths (706,) and (n,) in um.
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
    figure = style.new_figure(5.6)
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
        style.note(axes, text)
        axes.set_ylabel(style.flux_label(-20))
    top.legend(loc="upper right", ncols=2)
    bottom.set_xlabel(style.WAVELENGTH_LABEL)
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
            style.gapped(flux, mask),
            linestyle=(0, (3, 1.2)),
            linewidth=0.6,
            color=colour(float(row["redshift"])) if np.isfinite(row["redshift"]) else "0.6",
            label=f"{len(copies)} realisations" if number == 0 else None,
        )
    style.draw_steps(axes, wavelength, own[0], None, own[2], _ORIGINAL, "original", 0.9)
    style.draw_zero(axes)
    inside = (wavelength >= limits[0]) & (wavelength <= limits[1])
    axes.set_ylim(*style.flux_limits(*((f[inside], e[inside], m[inside]) for f, e, m in (own, *spectra))))
    style.leave_headroom(axes)


def _spectrum(row: Mapping[str, Any], prefix: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return row[f"{prefix}_flux"], row[f"{prefix}_error"], np.asarray(row[f"{prefix}_mask"], bool)
