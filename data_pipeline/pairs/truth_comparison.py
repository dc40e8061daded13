"""How well stitching and alignment give back what a simulated archive holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.preprocessing import Pair
from data_pipeline.pairs.stitching import StitchedSpectrum, boundary_step
from data_pipeline.pixel_grid import UnifiedGrid, pixel_bounds
from data_pipeline.resampling import Resampler
from data_pipeline.spectrum import ObservedSpectrum

REFERENCE_ARM = "G235M"


@dataclass(frozen=True)
class ScaleRecovery:
    """One arm's scale.

    Attributes:
        arm: disperser.
        recovered: factor applied by stitching.
        injected: factor that undoes the simulation's arm-to-arm difference.
        error: one-sigma error that stitching quotes; inf where nothing was measured.
    """

    arm: str
    recovered: float
    injected: float
    error: float


def scale_recoveries(stitched: StitchedSpectrum, arm_scale: dict[str, float]) -> list[ScaleRecovery]:
    """Scales of the arms that overlap the reference arm, beside the injected ones.

    Args:
        stitched: result of stitching.
        arm_scale: disperser to the simulation's factor on that grating.
    """
    found = []
    for (blue, red), overlap in stitched.overlaps.items():
        if REFERENCE_ARM in (blue, red) and np.isfinite(overlap.scale_error):
            arm = red if blue == REFERENCE_ARM else blue
            injected = arm_scale[REFERENCE_ARM] / arm_scale[arm]
            found.append(ScaleRecovery(arm, stitched.scales[arm], injected, overlap.scale_error))
    return found


def seam_steps(stitched: StitchedSpectrum, window: int) -> list[float]:
    """Residual step at each seam in units of the error of a pixel there."""
    steps = (
        boundary_step(stitched.wavelength, stitched.flux, stitched.error, stitched.mask, seam, window)
        for seam in stitched.seams
    )
    return [step for step in steps if np.isfinite(step)]


def line_flux_ratio(
    pair: Pair, gratings: Sequence[ObservedSpectrum], redshift: float, grid: UnifiedGrid
) -> float:
    """Flux of the brightest line after stitching and alignment over that on the native pixels.

    Both are integrals over the same window less the same straight continuum, so nothing is fitted and
    nothing but stitch and align lies between them. NaN where no line lies wholly in one arm.
    """
    lines, reference = load_lines(), reference_instrument(grid)
    stitched = pair.stitched
    for i in np.argsort(-np.nan_to_num(pair.lines.flux, nan=-np.inf)):
        if not pair.lines.covered[i]:
            return float("nan")
        centre = lines.wavelength[i] * (1.0 + redshift)
        half = 2.5 * reference.fwhm(centre)
        windows = np.array([[centre - 2 * half, centre - half, centre + half]] * 2)
        windows[1] += np.array([half, 2 * half, half])
        sharp = _line_integral(grid.bounds, stitched.flux, stitched.mask, windows)
        native = [
            stitched.scales[g.meta.disperser]
            * _line_integral(pixel_bounds(g.wavelength), g.flux, g.mask, windows)
            for g in gratings
        ]
        native = [value for value in native if np.isfinite(value)]
        if np.isfinite(sharp) and len(native) == 1:
            return float(sharp / native[0])
    return float("nan")


def _line_integral(bounds: np.ndarray, flux: np.ndarray, mask: np.ndarray, windows: np.ndarray) -> float:
    """Integral over the middle window less the mean of the outer two; NaN unless all pixels are good."""
    resample = Resampler.between(bounds, windows, 1.0).resample
    mean, _, bad = resample(np.nan_to_num(flux), np.ones(flux.size), mask)
    if bad.any():
        return float("nan")
    return float((mean[1] - 0.5 * (mean[0] + mean[2])) * (windows[1, 1] - windows[0, 1]))
