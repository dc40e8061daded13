"""Prism against gratings: the brightest line in each, and the gratings seen at the prism's resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.instrument import PRISM, LineSpreadOperator, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.line_profile import LineProfile, fit_profile
from data_pipeline.pairs.preprocessing import Pair
from data_pipeline.pixel_grid import UnifiedGrid


@dataclass(frozen=True)
class ArmComparison:
    """The brightest line that prism and gratings share.

    Attributes:
        line: its name.
        signal_to_noise: in the gratings.
        grating: as the gratings resolve it.
        degraded: gratings through the prism's line-spread function, on its pixels.
        prism: as the prism observed it, fitted in the same way on the same pixels.
    """

    line: str
    signal_to_noise: float
    grating: LineProfile
    degraded: LineProfile
    prism: LineProfile


@lru_cache(maxsize=4)
def degrading_operator(grid: UnifiedGrid) -> LineSpreadOperator:
    """From the stitched gratings on a unified grid to the prism's pixels."""
    reference = reference_instrument(grid)
    return load_instrument(PRISM).line_spread_operator(grid.bounds, seen_by=reference)


def degrade(pair: Pair, grid: UnifiedGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stitched gratings at the prism's resolution: flux, error, mask on its pixels.

    Errors are those of independent grating pixels.
    """
    operator, stitched = degrading_operator(grid), pair.stitched
    # Pixels beside a gap are masked below; what stands in for the gap only has to be finite.
    bridged = np.interp(
        stitched.wavelength, stitched.wavelength[~stitched.mask], stitched.flux[~stitched.mask]
    )
    error = np.where(stitched.mask, 0.0, stitched.error)
    return operator.apply(bridged), operator.propagate_error(error), operator.propagate_mask(stitched.mask)


def compare_arms(pair: Pair, redshift: float, grid: UnifiedGrid) -> ArmComparison:
    """Fits the brightest common line in the gratings, in the prism, and in the degraded gratings.

    At the prism's resolution neighbours blend, in both members alike: compare ``degraded`` with ``prism``.

    Raises:
        ValueError: where no line is covered by both.
    """
    prism, reference, lines = load_instrument(PRISM), reference_instrument(grid), load_lines()
    degraded = degrade(pair, grid)
    snr = np.nan_to_num(pair.lines.flux / pair.lines.error, nan=-np.inf)
    # Tied lines have the same S/N: of those the strongest.
    for i in np.lexsort((-np.nan_to_num(pair.lines.flux), -np.round(snr, 6))):
        if not np.isfinite(snr[i]):
            break
        centre = lines.wavelength[i] * (1.0 + redshift)
        width = prism.fwhm(centre)
        near = np.abs(prism.wavelength - centre) < 2.0 * width
        if near.sum() < 6 or (pair.prism[2] | degraded[2])[near].any():
            continue
        both = pair.prism[2] | degraded[2]
        stitched = pair.stitched
        sharp = max(reference.fwhm(centre), 2.36 * centre * pair.lines.velocity_width / 2.998e5)
        return ArmComparison(
            lines.names[i],
            float(snr[i]),
            fit_profile(
                stitched.wavelength, grid.bounds, stitched.flux, stitched.error, stitched.mask, centre, sharp
            ),
            fit_profile(prism.wavelength, prism.bounds, degraded[0], pair.prism[1], both, centre, width),
            fit_profile(prism.wavelength, prism.bounds, pair.prism[0], pair.prism[1], both, centre, width),
        )
    raise ValueError("no line lies on good pixels of both prism and gratings")
