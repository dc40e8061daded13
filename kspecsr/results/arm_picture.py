"""Panels of the gratings of a result: each arm with its fit, and what the fit leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import SPEED_OF_LIGHT
from data_pipeline.pictures.line_marks import KEY_LINES, mark_lines
from data_pipeline.pictures.style import (
    POOR_COLOUR,
    WAVELENGTH_SHORT,
    arm_colour,
    compress_above,
    draw_steps,
    draw_zero,
    flux_unit,
    leave_headroom,
    mark_beyond,
    note,
    overview_limits,
)
from kspecsr.results.arms import ArmFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kspecsr.results.data import SpectrumResult

ARM_HEIGHTS = (0.75, 0.4)  # of an arm's panels over those of the whole picture
FIT_COLOUR = "#d98200"
_RESIDUAL_LIMIT = 6.0  # sigma


def drawn_arms(result: SpectrumResult) -> tuple[ArmFit, ...]:
    """Gratings of a result whose pixels are known; ECSV files do not hold them."""
    return tuple(arm for arm in result.arms.arms if len(arm.spectrum)) if result.arms else ()


def draw_arm(axes: Axes, below: Axes, result: SpectrumResult, arm: ArmFit) -> None:
    """One grating on the prism's flux scale with its fit, and below its residuals in sigma."""
    wave, bad, scale = arm.spectrum.wavelength, ~arm.good, arm.scale.value
    flux, error = arm.spectrum.flux * scale, arm.noise * arm.spectrum.error * scale
    limits = overview_limits((flux, error, bad), (arm.lines + arm.continuum) * scale, tallest=np.inf)
    unit, _ = flux_unit(limits)
    draw_zero(axes)
    draw_steps(axes, wave, flux / unit, None, bad, arm_colour(arm.name), arm.name, width=0.6)
    fitted = (arm.lines + arm.continuum) * scale / unit
    draw_steps(axes, wave, fitted, None, bad, FIT_COLOUR, "fit", width=0.9)
    axes.set_ylim(limits[0] / unit, limits[1] / unit)
    level = float(np.percentile(np.abs(flux[arm.good]), 75)) if arm.good.any() else 0.0
    compress_above(axes, level / unit, apart=0.16)  # a low panel
    leave_headroom(axes, 0.25)
    span = arm.span
    axes.set_xlim(*span)
    axes.set_ylabel(f"Flux density\n[10$^{{{round(np.log10(unit))}}}$ cgs]", fontsize=7.5)
    redshift = (1.0 + result.redshift.value) * (1.0 + arm.shift.value / SPEED_OF_LIGHT) - 1.0
    detected = set(result.measurements.line[result.measurements.detected])
    mark_lines(axes, redshift, span, KEY_LINES, detected=detected)
    named = any(f"{arm.name}" in text for text in result.arms.disagreements)
    note(axes, arm_text(arm), colour=POOR_COLOUR if named else "black")
    axes.tick_params(labelbottom=False)
    below.axhspan(-1.0, 1.0, color="0.88", zorder=0.1, linewidth=0)
    draw_zero(below)
    draw_steps(below, wave, arm.residual, None, bad, "0.15", width=0.5)
    below.set_ylim(-_RESIDUAL_LIMIT, _RESIDUAL_LIMIT)
    below.set_xlim(*span)
    mark_beyond(below, wave, arm.residual, bad, "0.15")
    below.set_ylabel("[σ]", fontsize=7.5)
    below.set_xlabel(WAVELENGTH_SHORT)


def arm_text(arm: ArmFit) -> str:
    """What was found of an arm, in a line."""
    return (
        f"{arm.name} × {arm.scale.value:.2f} ± {arm.scale.error:.2f} · zero point {arm.shift.value:+.0f} ± "
        f"{arm.shift.error:.0f} km/s · "
        rf"$\chi^2$ per pixel {arm.chi_square:.2f}"
    )
