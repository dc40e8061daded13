"""The goal metric of each stage: what the best epoch is chosen by, measured on fixed galaxies.

Lower is better. Each goal joins terms that are blind to different faults: an error norm alone rewards
smoothing, a flux ratio alone says nothing of scatter, and neither of the uncertainties (DESIGN section 5).
Limits of the evaluation's own gate come on top: an epoch that breaks one is not the best.
Needs no Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_pipeline.resampling import upsample
from kspecsr.measures.gate import default_gate
from kspecsr.measures.line_noise import line_signal_to_noise

ONE_SIGMA = 0.6827  # probability within one standard deviation
# Weight of coverage: one factor on all errors mends it afterwards, so that it must not outweigh the rest.
_COVERAGE = 0.2
_FLUX_RANGE = 100.0  # recovered over true flux is taken to lie within this factor of 1
_STRONG = 5.0  # S/N of the lines that are to be recovered
_BROKEN_GUARD = 10.0  # weight of the excess over a limit of the gate: no error norm buys it
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class GoalReference:
    """What the fixed galaxies are measured against, computed once.

    Attributes:
        cubic: (B, N) prism interpolated to the grid, record units; NaN where it has no data.
        line_snr: (B, K) true line flux over the error that the prism's noise allows it; 0 where unknown.
    """

    cubic: np.ndarray
    line_snr: np.ndarray


def goal_reference(x: Arrays, y: Arrays, prism: np.ndarray, grid: np.ndarray) -> GoalReference:
    """Prepares the measurement on validation galaxies.

    Args:
        x: inputs, (B, P) each, record units.
        y: targets.
        prism: (P,) wavelength [um].
        grid: (N,) wavelength [um].
    """
    cubic = np.full(np.shape(y["target_flux"]), np.nan)
    for row in range(len(cubic)):
        flux, error, mask = (np.asarray(x[f"prism_{name}"][row]) for name in ("flux", "error", "mask"))
        if (~mask).sum() >= 4:
            cubic[row] = upsample(prism, flux.astype(float), error.astype(float), mask.astype(bool), grid)[0]
    line_snr = line_signal_to_noise(
        x["prism_error"], x["prism_mask"], y["line_flux"], y["line_known"], y["true_redshift"]
    )
    return GoalReference(cubic, line_snr)


def goal_metrics(
    stage: str, outputs: Arrays, y: Arrays, reference: GoalReference, bins: np.ndarray
) -> dict[str, float]:
    """Physical metrics of a stage, and ``goal``, the one that chooses the best epoch.

    Args:
        stage: ``sr1``, ``zhead`` or ``sr2``.
        outputs: of the stage model, record units.
        y: targets.
        reference: of the same galaxies.
        bins: (Z,) ln(1 + z) of the redshift distribution.
    """
    if stage == "sr1":
        metrics = spectrum_metrics(outputs["sr1_flux"], outputs["sr1_error"], y, reference)
        terms = {**_spectrum_terms(metrics), "coverage": _off(metrics["coverage"])}
    elif stage == "zhead":
        metrics = redshift_metrics(outputs["redshift"], outputs["redshift_log_probability"], y, bins)
        terms = {
            "outliers_0.15": metrics["outliers_0.15"],
            "outliers_0.01": metrics["outliers_0.01"],
            "nmad": 10.0 * min(metrics["nmad"], 0.1),
            "coverage": _off(metrics["coverage"]),
        }
    else:
        lines = line_metrics(outputs, y, reference)
        pixels = spectrum_metrics(outputs["flux"], outputs["flux_error"], y, reference)
        metrics = {
            **lines,
            "error_ratio": pixels["error_ratio"],
            "typical_ratio": pixels["typical_ratio"],
            "pixel_coverage": pixels["coverage"],
            "chi_square": float(np.median(outputs["chi_square"])),
        }
        terms = {
            **_line_terms(metrics),
            **_spectrum_terms(metrics),
            "pixel_coverage": _off(metrics["pixel_coverage"]),
        }
    missing = unmeasurable_terms(stage, y, reference)
    measured = [value for name, value in terms.items() if name not in missing]
    goal = float(sum(measured)) + _broken_guards(stage, metrics) if measured else np.nan
    return {**metrics, "goal": goal if np.isfinite(goal) else float("inf")}


def _broken_guards(stage: str, metrics: Mapping[str, float]) -> float:
    """Excess over the limits of the gate that ships; what was not measured breaks none."""
    excess = [
        limit.excess(metrics[limit.name])
        for limit in default_gate().training.get(stage, ())
        if np.isfinite(metrics[limit.name])
    ]
    return _BROKEN_GUARD * float(sum(excess))


def unmeasurable_terms(stage: str, y: Arrays, reference: GoalReference) -> tuple[str, ...]:
    """Terms that the galaxies do not measure, whatever the outputs: they are left out of every epoch's goal.

    Args:
        stage: ``sr1``, ``zhead`` or ``sr2``.
        y: targets.
        reference: of the same galaxies.
    """
    if stage == "zhead":
        known = np.isfinite(np.asarray(y["true_redshift"], float)).any()
        return () if known else ("outliers_0.15", "outliers_0.01", "nmad", "coverage")
    missing = []
    # the truth as its own prediction: what is unknown then is unknown for any prediction
    target = np.asarray(y["target_flux"], float)
    with_truth = spectrum_metrics(target, np.ones_like(target), y, reference)
    if stage == "sr2":
        known = np.asarray(y["line_known"]).astype(bool)
        if not (known & (reference.line_snr > _STRONG)).any():
            missing += ["recovery", "scatter"]
        if not known.any():
            missing.append("coverage")
    names = {"coverage": "coverage" if stage == "sr1" else "pixel_coverage"}
    missing += [names.get(name, name) for name, value in with_truth.items() if np.isnan(value)]
    return tuple(missing)


def _off(coverage: float) -> float:
    return _COVERAGE * abs(coverage - ONE_SIGMA)


def _spectrum_terms(metrics: Mapping[str, float]) -> dict[str, float]:
    """Lines and continuum with the same weight: either alone picks an epoch that is poor in the other."""
    return {name: 0.5 * metrics[name] for name in ("error_ratio", "typical_ratio")}


def _line_terms(metrics: Mapping[str, float]) -> dict[str, float]:
    """Lines that wrong redshifts put out of range, all of them, count as lost: as bad as can be."""
    lost, none = np.isnan(metrics["completeness"]), np.isnan(metrics["coverage"])
    return {
        "recovery": np.log(_FLUX_RANGE) if lost else abs(np.log(metrics["recovery"])),
        "scatter": np.log(_FLUX_RANGE) if lost else metrics["scatter"],
        "false_detections": metrics["false_detections"],
        "coverage": _off(0.0) if none else _off(metrics["coverage"]),
    }


def spectrum_metrics(
    flux: np.ndarray, error: np.ndarray, y: Arrays, reference: GoalReference
) -> dict[str, float]:
    """Errors of a spectrum relative to cubic interpolation, and the share of pixels within one sigma.

    ``error_ratio`` is of the root mean square over a galaxy's pixels, less the target's own noise, which the
    lines decide; ``typical_ratio`` of the median absolute error, which the continuum decides. Both are
    medians over galaxies. A flux scale that is off counts.
    """
    target, noise = np.asarray(y["target_flux"], float), np.asarray(y["target_error"], float)
    flux, sigma = np.asarray(flux, float), np.hypot(np.asarray(error, float), noise)
    used = ~np.asarray(y["target_mask"]).astype(bool) & np.isfinite(reference.cubic)
    squares, typical = [], []
    for row in np.flatnonzero(used.sum(axis=1) > 10):
        pixels = used[row]
        own, cubic = (np.abs(model[row, pixels] - target[row, pixels]) for model in (flux, reference.cubic))
        variance = np.mean(noise[row, pixels] ** 2)
        own_excess, cubic_excess = np.mean(own**2) - variance, np.mean(cubic**2) - variance
        if cubic_excess > 0 and np.median(cubic) > 0:
            squares.append(np.sqrt(max(own_excess, 0.0) / cubic_excess))
            typical.append(np.median(own) / np.median(cubic))
    inside = np.abs(flux - target)[used] < sigma[used]
    return {
        "error_ratio": _median(np.array(squares)),
        "typical_ratio": _median(np.array(typical)),
        "coverage": float(np.mean(inside)) if inside.size else float("nan"),
    }


def redshift_metrics(
    redshift: np.ndarray, log_probability: np.ndarray, y: Arrays, bins: np.ndarray
) -> dict[str, float]:
    """NMAD of dz / (1 + z), shares of failures, and the share of true redshifts in the central 68 % of P(z).

    ``confident`` is the share of galaxies with 0.9 of P(z) within 0.01 (1 + z) of the estimate, and
    ``confident_outliers`` the share of these that are off by more than that.
    """
    true = np.asarray(y["true_redshift"], float)
    known = np.isfinite(true)
    if not known.any():
        names = ("nmad", "outliers_0.15", "outliers_0.01", "confident", "confident_outliers", "coverage")
        return dict.fromkeys(names, float("nan"))
    true, redshift = true[known], np.asarray(redshift, float)[known]
    log_probability = np.asarray(log_probability, float)[known]
    probability = np.exp(log_probability - log_probability.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    offset = (redshift - true) / (1.0 + true)
    within = np.abs(bins - np.log1p(redshift)[:, None]) < 0.01
    confident = (probability * within).sum(axis=1) > 0.9
    far = np.abs(offset) > 0.01
    # The distribution function at the truth: what lies in lower bins, and a part of the bin itself.
    position = (np.log1p(true)[:, None] - bins) / (bins[1] - bins[0]) + 0.5
    below = (probability * np.clip(position, 0.0, 1.0)).sum(axis=1)
    return {
        "nmad": 1.4826 * _median(np.abs(offset - _median(offset))),
        "outliers_0.15": float(np.mean(np.abs(offset) > 0.15)),
        "outliers_0.01": float(np.mean(far)),
        "confident": float(np.mean(confident)),
        "confident_outliers": float(np.mean(far[confident])) if confident.any() else 0.0,
        "coverage": float(np.mean(np.abs(below - 0.5) < 0.5 * ONE_SIGMA)),
    }


def line_metrics(outputs: Arrays, y: Arrays, reference: GoalReference) -> dict[str, float]:
    """Recovered over true flux of lines with S/N > 5 in the prism, its scatter [natural log], and more.

    ``completeness`` is the share of these lines that come out at 3 sigma or more; ``false_detections`` the
    share of lines with true S/N < 0.5 that do, at more than twice the true flux; ``coverage`` the share of
    all known lines in range within one sigma.
    """
    true, own_error = np.asarray(y["line_flux"], float), np.asarray(y["line_error"], float)
    flux, error = np.asarray(outputs["line_flux"], float), np.asarray(outputs["line_flux_error"], float)
    known = np.asarray(y["line_known"]).astype(bool) & np.asarray(outputs["line_in_range"]).astype(bool)
    strong = known & (reference.line_snr > _STRONG)
    absent = known & (reference.line_snr < 0.5) & ~np.asarray(y["line_detectable"]).astype(bool)
    detected = flux > 3.0 * error
    invented = detected & (flux > 2.0 * true)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(strong, flux / np.where(strong, true, 1.0), 1.0)[strong]
    log_ratio = np.log(np.clip(ratio, 1.0 / _FLUX_RANGE, _FLUX_RANGE))
    inside = np.abs(flux - true)[known] < np.hypot(error, own_error)[known]
    return {
        "recovery": float(np.exp(_median(log_ratio))),
        "scatter": 1.4826 * _median(np.abs(log_ratio - _median(log_ratio))),
        "completeness": float(np.mean(detected[strong])) if strong.any() else float("nan"),
        "false_detections": float(np.mean(invented[absent])) if absent.any() else 0.0,
        "coverage": float(np.mean(inside)) if inside.size else float("nan"),
    }


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if np.size(values) else float("nan")
