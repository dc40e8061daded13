"""Stitching and alignment against the truth of a simulated archive."""

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
# Half-widths of windows [FWHM] that hold a whole line or blend and have a clean neighbour to the red.
ISOLATED = {"Halpha": 4.0, "[OIII]_5008": 2.5, "[OII]_3730": 3.0}


@dataclass(frozen=True)
class ScaleRecovery:
    """Recovered and injected flux scale of one arm.

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
    """Recovered and injected scales of the arms that overlap the reference arm.

    Args:
        stitched: result of stitching.
        arm_scale: disperser to the simulation's factor on that grating.
    """
    recoveries = []
    for (blue, red), overlap in stitched.overlaps.items():
        if REFERENCE_ARM in (blue, red) and np.isfinite(overlap.scale_error):
            arm = red if blue == REFERENCE_ARM else blue
            injected = arm_scale[REFERENCE_ARM] / arm_scale[arm]
            recoveries.append(ScaleRecovery(arm, stitched.scales[arm], injected, overlap.scale_error))
    return recoveries


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
    """Flux of the brightest of Halpha, [O III] and [O II] after stitching and alignment over that before.

    Both are integrals over the same window less the same continuum, so nothing is fitted and nothing but
    stitch and align lies between them. NaN where none is detected at 10 sigma wholly within one arm.
    """
    lines, reference, stitched = load_lines(), reference_instrument(grid), pair.stitched
    snr = {name: pair.lines.signal_to_noise(name) for name in ISOLATED}
    for name in sorted(ISOLATED, key=lambda line: -np.nan_to_num(snr[line])):
        if not snr[name] > 10:
            continue
        centre = lines.wavelength[lines.index(name)] * (1.0 + redshift)
        half = ISOLATED[name] * reference.fwhm(centre)
        windows = np.array([[centre - half, centre + half], [centre + half, centre + 2 * half]])
        after = _line_integral(grid.bounds, stitched.flux, stitched.mask, windows)
        alone = [g for g in gratings if _sees(g, windows)]
        if len(alone) == 1 and np.isfinite(after):
            native = _line_integral(pixel_bounds(alone[0].wavelength), alone[0].flux, alone[0].mask, windows)
            if np.isfinite(native):
                return float(after / (native * stitched.scales[alone[0].meta.disperser]))
    return float("nan")


def _sees(grating: ObservedSpectrum, windows: np.ndarray) -> bool:
    """Whether an arm has a good pixel there; where two arms have one, the average follows both scales."""
    wavelength = grating.wavelength[~grating.mask]
    return bool(np.any((wavelength > windows.min()) & (wavelength < windows.max())))


def _line_integral(bounds: np.ndarray, flux: np.ndarray, mask: np.ndarray, windows: np.ndarray) -> float:
    """Integral over the first window less the mean of the second; NaN unless all pixels are good."""
    mean, _, bad = Resampler.between(bounds, windows.T, 1.0).resample(
        np.nan_to_num(flux), np.ones(flux.size), mask
    )
    if bad.any():
        return float("nan")
    return float((mean[0] - mean[1]) * (windows[0, 1] - windows[0, 0]))
