"""A result at a glance: spectrum over prism, magnified lines, P(z), and what the prism makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.lines import load_lines
from data_pipeline.pictures.line_marks import (
    KEY_LINES,
    LINE_GROUPS,
    add_rest_axis,
    line_title,
    magnify,
    mark_lines,
)
from data_pipeline.pictures.style import (
    ARM_COLOURS,
    BROAD_COLOUR,
    OUTPUT_COLOUR,
    POOR_COLOUR,
    WAVELENGTH_LABEL,
    WAVELENGTH_SHORT,
    compress_above,
    draw_steps,
    draw_zero,
    flux_unit,
    leave_headroom,
    mark_beyond,
    new_figure,
    note,
    overview_limits,
    styled,
)
from kspecsr.results.arm_picture import ARM_HEIGHTS, draw_arm, drawn_arms
from kspecsr.results.lines import LIMIT_SIGMA
from kspecsr.results.prism_input import display_name, seen_on_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kspecsr.results.data import SpectrumResult


PRISM_COLOUR = ARM_COLOURS["PRISM"]
ZOOMS = tuple(LINE_GROUPS[name] for name in ("[O II]", "[O III]", "Hα"))
_RESIDUAL_LIMIT = 5.0  # sigma


@styled
def draw_enhanced_spectrum(result: SpectrumResult) -> Figure:
    """Picture of a result.

    Above, the super-resolved spectrum with its one-sigma band over the prism spectrum, lines marked; then the
    same around [O II], Hbeta with [O III], and Halpha with [N II], as far as they are in range; below, P(z),
    and prism minus degraded output in sigma; beneath, each grating that was joined with its residuals.

    Args:
        result: what is drawn.
    """
    zooms, arms = zoom_windows(result), drawn_arms(result)
    heights = ((1.35, 1.0, 0.7) if zooms else (1.5, 0.7)) + ARM_HEIGHTS * len(arms)
    figure = new_figure((7.0 if zooms else 5.0) + 2.3 * sum(ARM_HEIGHTS) * len(arms))
    grid = figure.add_gridspec(len(heights), 6, height_ratios=heights)
    main = figure.add_subplot(grid[0, :])
    beyond = _draw_main(main, result)
    columns = 6 // max(1, len(zooms))
    for number, window in enumerate(zooms):
        panel = figure.add_subplot(grid[1, number * columns : (number + 1) * columns])
        _draw_zoom(panel, result, window)
        if number == 0:
            panel.set_ylabel("Flux density\n(unit as above)")
    last = len(heights) - 2 * len(arms) - 1
    _draw_probability(figure.add_subplot(grid[last, :2]), result)
    _draw_residual(figure.add_subplot(grid[last, 2:]), result)
    for row, arm in zip(range(last + 1, len(heights), 2), arms, strict=True):
        draw_arm(figure.add_subplot(grid[row, :]), figure.add_subplot(grid[row + 1, :]), result, arm)
    title = figure.suptitle(_title(result, beyond), fontsize=9)
    if result.poor_fit:
        title.set_color(POOR_COLOUR)
    return figure


def zoom_windows(result: SpectrumResult) -> list[tuple[float, float]]:
    """Observed windows [um] of the line groups that lie on data; none without a redshift or lines."""
    if not _lines_reported(result):
        return []
    windows = []
    for low, high in np.array(ZOOMS) * (1.0 + result.redshift.value):
        inside = (result.wavelength > low) & (result.wavelength < high)
        if inside.any() and np.mean(~result.mask[inside]) > 0.7 and high < result.wavelength[-1]:
            windows.append((float(low), float(high)))
    return windows


def main_limits(result: SpectrumResult) -> tuple[float, float]:
    """Flux limits of the upper panel [erg/s/cm2/A], which hold all lines."""
    rows = _shown_prism(result)
    prism = tuple(a[rows] for a in (result.prism_flux, result.prism_error, result.prism_mask))
    return overview_limits(prism, np.where(result.mask, np.nan, result.flux), tallest=np.inf)


def continuum_level(result: SpectrumResult) -> float:
    """Height of the continuum of the prism [erg/s/cm2/A], or of its noise where that is more; 0 for none."""
    good = _shown_prism(result) & ~result.prism_mask
    if not good.any():
        return 0.0
    return float(max(np.percentile(result.prism_flux[good], 75), 2 * np.median(result.prism_error[good])))


def _shown_prism(result: SpectrumResult) -> np.ndarray:
    wave, grid = result.prism_wavelength, result.model.grid
    return (wave >= grid.start) & (wave <= grid.stop)


def _detected(result: SpectrumResult) -> set[str]:
    """Names of the detected lines."""
    return set(result.measurements.line[result.measurements.detected])


def _lines_reported(result: SpectrumResult) -> bool:
    return bool(np.isfinite(result.redshift.value)) and (result.lines_kept or not result.flags)


def _draw_spectra(axes: Axes, result: SpectrumResult, unit: float, width: float) -> None:
    draw_zero(axes)
    prism = (result.prism_wavelength, result.prism_flux / unit, None, result.prism_mask)
    draw_steps(axes, *prism, PRISM_COLOUR, "prism", width=1.1)
    sharp = (result.wavelength, result.flux / unit, result.flux_error / unit, result.mask)
    joined = "super-resolved, with gratings" if result.arms else "super-resolved"
    label = "first stage" if result.flags and not result.lines_kept else f"{joined} ± 1 σ"
    draw_steps(axes, *sharp, OUTPUT_COLOUR, label, width=width)
    if (broad := result.broad_spectrum) is not None:
        text = f"broad lines, {result.measurements.broad.fwhm:.0f} km/s"
        axes.plot(result.wavelength, broad / unit, color=BROAD_COLOUR, linewidth=1.0, label=text)


def _draw_main(axes: Axes, result: SpectrumResult) -> int:
    """Whole range; returns how many pixels lie beyond the axis."""
    limits = main_limits(result)
    unit, label = flux_unit(limits)
    seen = result.wavelength[~result.mask]
    covered = (seen if seen.size else result.wavelength)[[0, -1]]
    axes.set_xlim(*covered)
    _draw_spectra(axes, result, unit, 0.6)
    axes.set_ylim(limits[0] / unit, limits[1] / unit)
    if compress_above(axes, continuum_level(result) / unit):
        label += "\n(compressed: asinh)"
    leave_headroom(axes)
    if _lines_reported(result):
        mark_lines(axes, result.redshift.value, covered, KEY_LINES, detected=_detected(result))
        add_rest_axis(axes, result.redshift.value)
    axes.legend(loc="upper right", ncols=2, columnspacing=1.2)
    axes.set_xlabel(WAVELENGTH_LABEL, labelpad=0.5)
    axes.set_ylabel(label)
    rows = _shown_prism(result)
    prism = (result.prism_wavelength[rows], result.prism_flux[rows] / unit, result.prism_mask[rows])
    beyond = mark_beyond(axes, result.wavelength, result.flux / unit, result.mask, OUTPUT_COLOUR)
    return beyond + mark_beyond(axes, *prism, PRISM_COLOUR)


def _draw_zoom(axes: Axes, result: SpectrumResult, window: tuple[float, float]) -> None:
    unit, _ = flux_unit(main_limits(result))
    _draw_spectra(axes, result, unit, 0.9)
    rows = (result.wavelength > window[0]) & (result.wavelength < window[1]) & ~result.mask
    prism = (result.prism_wavelength > window[0]) & (result.prism_wavelength < window[1]) & ~result.prism_mask
    # the lower end of the band may leave the panel where single pixels are uncertain
    lowest = np.percentile((result.flux - result.flux_error)[rows], 2)
    drawn = [*(result.flux + result.flux_error)[rows], lowest, *result.prism_flux[prism]]
    lines = result.measurements
    magnify(axes, window, np.array(drawn) / unit, result.redshift.value, lines.line[lines.detected])


def _draw_probability(axes: Axes, result: SpectrumResult) -> None:
    redshift = result.redshift
    axes.set_xlabel("Redshift z")
    axes.set_ylabel("P(z)")
    axes.set_yticks([])
    axes.minorticks_on()
    axes.yaxis.set_tick_params(which="both", left=False, right=False)
    if not redshift.modes:
        note(axes, "no P(z)")
        return
    low, high = probability_range(result)
    rows = (redshift.grid >= low) & (redshift.grid <= high)
    density = redshift.density / max(redshift.density[rows].max(), 1e-30)
    fill = {"color": OUTPUT_COLOUR, "edgecolor": OUTPUT_COLOUR, "alpha": 0.35, "linewidth": 0.8}
    axes.fill_between(redshift.grid, density, step="mid", **fill)
    axes.set_xlim(low, high)
    axes.set_ylim(0.0, 1.45)
    axes.locator_params(axis="x", nbins=4)
    if np.isfinite(redshift.value) and low <= redshift.value <= high:
        axes.axvline(redshift.value, color="0.25", linestyle=(0, (4, 3)), linewidth=0.7)
    if redshift.given:
        note(axes, f"given; P(z) agrees: {redshift.confidence:.2f}")
    else:
        note(axes, f"mass of this mode: {redshift.confidence:.2f}")


def probability_range(result: SpectrumResult) -> tuple[float, float]:
    """Redshifts between which P(z) is drawn: the main mode, or all modes where there is more than one."""
    redshift = result.redshift
    heavy = [mode for mode in redshift.modes if mode.mass > 0.02] or list(redshift.modes[:1])
    places = [mode.redshift for mode in heavy]
    if np.isfinite(redshift.value):
        places.append(redshift.value)
    reach = max(8.0 * max(mode.error for mode in heavy[:1]), 0.006 * (1.0 + places[0]))
    low, high = min(places), max(places)
    margin = max(reach, 0.08 * (high - low))
    return max(low - margin, 0.0), high + margin


def _residual(result: SpectrumResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength [um], prism minus degraded output [sigma], and where that says nothing."""
    rows = _shown_prism(result)
    interior = seen_on_grid(result.model.grid)[rows]
    bad = result.prism_mask[rows] | ~np.isfinite(result.prism_model[rows]) | ~interior
    with np.errstate(invalid="ignore"):
        sigma = (result.prism_flux - result.prism_model)[rows] / result.prism_error[rows]
    return result.prism_wavelength[rows], sigma, bad


def _draw_residual(axes: Axes, result: SpectrumResult) -> None:
    wave, sigma, bad = _residual(result)
    axes.axhspan(-1.0, 1.0, color="0.88", zorder=0.1, linewidth=0)
    draw_zero(axes)
    draw_steps(axes, wave, sigma, None, bad, "0.15", width=0.6)
    good = sigma[~bad]
    reach = min(max(_RESIDUAL_LIMIT, float(np.abs(good).max(initial=0.0)) * 1.1), 4 * _RESIDUAL_LIMIT)
    axes.set_ylim(-reach, reach)
    axes.set_xlim(wave[0], wave[-1])
    mark_beyond(axes, wave, sigma, bad, "0.15")
    axes.set_xlabel(WAVELENGTH_SHORT)
    axes.set_ylabel("Residual [σ]")
    leave_headroom(axes, 0.2)
    text = "prism - degraded output"
    if np.isfinite(result.chi_square):
        text += rf" · $\chi^2$ per pixel {result.chi_square:.2f}" + (": poor fit" if result.poor_fit else "")
    note(axes, text, colour=POOR_COLOUR if result.poor_fit else "black")


def unlisted_lines(result: SpectrumResult) -> dict[str, float]:
    """Lines that the model's list lacks where the residual is above 3 sigma: name -> place [um].

    None for a poor fit, whose residuals have other reasons, and without reported lines.
    """
    if result.poor_fit or not _lines_reported(result):
        return {}
    wave, sigma, bad = _residual(result)
    sigma = np.where(bad, -np.inf, sigma)
    more, known = load_lines("second"), set(result.measurements.line)
    peaks: dict[str, tuple[float, float]] = {}
    for name, rest in zip(more.names, more.wavelength, strict=True):
        at = rest * (1.0 + result.redshift.value)
        if name in known or not wave[0] < at < wave[-1]:
            continue
        near = np.abs(wave - at) <= 1.5 * np.interp(at, wave, np.gradient(wave))
        label, height = line_title(name).rpartition(" ")[0] or line_title(name), sigma[near].max()
        if height > max(LIMIT_SIGMA, peaks.get(label, (LIMIT_SIGMA,))[0]):
            peaks[label] = (height, wave[near][sigma[near].argmax()])
    return {label: float(at) for label, (_, at) in peaks.items()}


def _title(result: SpectrumResult, beyond: int) -> str:
    redshift, meta = result.redshift, result.observed.meta
    parts = [display_name(result.observed)]
    if meta.target and meta.target not in parts[0]:
        parts.append(meta.target)
    if not np.isfinite(redshift.value):
        parts.append("no redshift")
    elif redshift.given:
        parts.append(f"z = {redshift.value:.4f} (given)")
    else:
        parts.append(f"z = {redshift.value:.4f} ± {redshift.error:.4f}")
    below = [f"model: {result.model.name}" if result.model.name else ""]
    if result.flags:
        below.append(f"{'flagged' if result.lines_kept else 'no lines reported'}: {', '.join(result.flags)}")
    elif result.poor_fit:
        below.append("poor fit: the prism disagrees with this spectrum and its lines")
    else:
        row = result.measurements.brightest()
        if row is not None:
            lines = result.measurements
            flux = _power(lines.flux[row], lines.flux_error[row])
            name = line_title(lines.line[row])
            below.append(f"brightest line {name}: {flux} erg s$^{{-1}}$ cm$^{{-2}}$")
    broad = result.measurements.broad
    wide = broad.text if broad is not None and broad.likely else ""
    marks = ["pale and dotted: not detected"] if _lines_reported(result) else []
    if beyond:
        marks.append("triangles: beyond the axis")
    if peaks := unlisted_lines(result):
        places = ", ".join(f"{name} at {at:.2f} µm" for name, at in peaks.items())
        marks.append(f"residuals where unlisted lines may be: {places}")
    rows = (" · ".join(parts), "; ".join(filter(None, below)), wide, "; ".join(marks))
    return "\n".join(filter(None, rows))


def _power(value: float, error: float) -> str:
    exponent = int(np.floor(np.log10(abs(value))))
    scale = 10.0**exponent
    return rf"({value / scale:.2f} ± {error / scale:.2f}) $\times$ 10$^{{{exponent}}}$"
