"""Error of a spectrum's shape whatever its scale, in line cores and in the continuum.

A global scale neither helps nor hurts: neither a flux calibration nor a shrinking towards zero is seen
here. What a shrinking of lines alone costs is for the amplitude ratio to tell.
"""

from __future__ import annotations

import numpy as np

from kspecsr.measures.estimate import Estimate, bootstrap
from kspecsr.measures.spectrum import Comparison

_FEWEST = {"core": 5, "continuum": 100}  # pixels
_DETECTED = 3.0  # sigma by which the target must vary more than its noise


def measure_scale_free_error(comparison: Comparison) -> dict[str, np.ndarray]:
    """Least rms of ``a * output - truth`` over one scale a >= 0, as a part of what is there to be drawn.

    That part is what the same freedom of scale leaves of a spectrum without structure: in cores, of the
    truth's own continuum, so that 1 is the error of who draws no line; in the continuum, of a constant. The
    target's noise variance is taken off both.

    Returns:
        ``scale_free_core``, ``scale_free_continuum``, ``scale_core``, ``scale_continuum`` (B,): error and a.
    """
    plain = {"core": comparison.level, "continuum": np.ones_like(comparison.truth)}
    found = {}
    for region in ("core", "continuum"):
        chosen = getattr(comparison, region)
        count = np.maximum(chosen.sum(axis=1), 1)
        noise = _mean(comparison.variance, chosen)
        residual, scale = _fit_scale(comparison.output, comparison.truth, chosen)
        variation, _ = _fit_scale(plain[region], comparison.truth, chosen)
        known = (count >= _FEWEST[region]) & (variation - noise > _DETECTED * np.sqrt(2.0 / count) * noise)
        error = np.maximum(residual - noise, 0.0) / np.where(known, variation - noise, 1.0)
        found[f"scale_free_{region}"] = np.where(known, np.sqrt(error), np.nan).astype(np.float32)
        found[f"scale_{region}"] = np.where(known, scale, np.nan).astype(np.float32)
    return found


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.einsum("bn,bn->b", values, chosen) / np.maximum(chosen.sum(axis=1), 1)


def _fit_scale(spectrum: np.ndarray, truth: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) least mean square of ``a * spectrum - truth`` over the chosen pixels, and a."""
    part = np.where(chosen, spectrum, 0.0)
    power = np.einsum("bn,bn->b", part, part)
    product = np.einsum("bn,bn->b", part, truth)
    scale = np.where(power > 0, np.maximum(product, 0.0) / np.where(power > 0, power, 1.0), 0.0)
    return _mean((scale[:, None] * part - truth) ** 2, chosen), scale


def ratio_of_medians(galaxy: np.ndarray, values: np.ndarray, baseline: np.ndarray, **options) -> Estimate:
    """Median of a method over that of another, on galaxies that both measured.

    Args:
        galaxy: (B,) unit of the bootstrap.
        values: (B,) per-galaxy figures of a method.
        baseline: (B,) the same of the other.
        options: of `bootstrap`.
    """
    both = np.isfinite(values) & np.isfinite(baseline)
    return bootstrap(
        _quotient_of_medians,
        np.asarray(galaxy)[both],
        np.asarray(values, np.float64)[both],
        np.asarray(baseline, np.float64)[both],
        **options,
    )


def _quotient_of_medians(values: np.ndarray, baseline: np.ndarray) -> float:
    below = np.median(baseline)
    return float(np.median(values) / below) if below > 0 else float("nan")
