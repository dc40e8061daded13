"""Goal of each training stage: what the best epoch is chosen by, measured on fixed galaxies.

Lower is better. Each goal joins terms that are blind to different faults: an error norm alone rewards
smoothing, a flux ratio alone says nothing of scatter, and neither of the uncertainties. Limits of the
evaluation's own gate come on top: an epoch that breaks one is not the best. The measures are those of the
evaluation (`kspecsr.measures`), of all pixels and without intervals, as they run after every epoch.
Needs no Keras.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_pipeline.resampling import upsample_rows
from kspecsr.measures import line_recovery as lines
from kspecsr.measures import redshift as redshifts
from kspecsr.measures.calibration import gaussian_pit, inside_levels
from kspecsr.measures.estimate import median_of_rows, robust_scatter
from kspecsr.measures.gate import shipped_gate
from kspecsr.measures.lines import STRONG, detected_lines, judged_lines, line_signal_to_noise
from kspecsr.measures.spectrum_shape import relative_error
from kspecsr.results.redshift import redshift_cdf, summarise_redshift

ONE_SIGMA = 0.6827  # probability within one standard deviation
# Weight of coverage: one factor on all errors mends it afterwards, so that it must not outweigh the rest.
_COVERAGE = 0.2
_ABSENT = 0.5  # S/N of lines that are not there: above the evaluation's, as fixed galaxies are few
_FEWEST = 11  # pixels
_BROKEN_GUARD = 10.0  # weight of the excess over a limit of the gate: no error norm buys it
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class GoalReference:
    """Reference of the fixed galaxies, computed once.

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
    cubic, _ = upsample_rows(prism, x["prism_flux"], x["prism_error"], x["prism_mask"], grid)
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
            # As heavy as the failures: 0.001 in NMAD for 1 % of outliers. Capped, or an epoch of nothing but
            # failures would be judged by them twice.
            "nmad": 10.0 * min(metrics["nmad"], 0.1),
            "coverage": _off(metrics["coverage"]),
        }
    else:
        pixels = spectrum_metrics(outputs["flux"], outputs["flux_error"], y, reference)
        metrics = {
            **line_metrics(outputs, y, reference),
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
    # Infinite and not NaN: comparisons with NaN are false, and the first epoch would be the best for ever.
    return {**metrics, "goal": goal if np.isfinite(goal) else float("inf")}


def _broken_guards(stage: str, metrics: Mapping[str, float]) -> float:
    """Excess over the limits of the gate that ships; what was not measured breaks none."""
    excess = [
        limit.excess(metrics[name])
        for name, limit in shipped_gate("default").training.get(stage, {}).items()
        if np.isfinite(metrics[name])
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
        judged = judged_lines(_line_columns(y, reference))
        if not (judged & (reference.line_snr > STRONG)).any():
            missing += ["recovery", "scatter"]
        if not judged.any():
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
    lost, none = np.isnan(metrics["recovery"]), np.isnan(metrics["coverage"])
    worst = abs(float(lines.log_ratio(0.0)))
    return {
        "recovery": worst if lost else abs(float(lines.log_ratio(metrics["recovery"]))),
        "scatter": worst if lost else metrics["scatter"],
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
    flux, error = np.asarray(flux, float), np.asarray(error, float)
    used = ~np.asarray(y["target_mask"]).astype(bool) & np.isfinite(reference.cubic)
    ratio, _ = relative_error(
        flux, target, used, reference.cubic, noise**2, _FEWEST, detected=0.0, free_scale=False
    )
    own, cubic = (
        median_of_rows(np.abs(np.where(used, spectrum - target, 0.0)), used)
        for spectrum in (flux, reference.cubic)
    )
    measured = np.isfinite(ratio) & (cubic > 0)
    pit = gaussian_pit(target[used], flux[used], np.hypot(error[used], noise[used]))
    metrics = {
        "error_ratio": _median(ratio[measured]),
        "typical_ratio": _median(own[measured] / cubic[measured]),
        "coverage": _mean(inside_levels(pit, (ONE_SIGMA,))),
    }
    return _if_finite(metrics, flux[used], error[used])


def redshift_metrics(
    redshift: np.ndarray, log_probability: np.ndarray, y: Arrays, bins: np.ndarray
) -> dict[str, float]:
    """NMAD of dz / (1 + z), shares of failures, and the share of true redshifts in the central 68 % of P(z).

    ``confident`` is the share of galaxies with a confidence, as results state it, above 0.9, and
    ``confident_outliers`` the share of these that are off by more than 0.01.
    """
    true = np.asarray(y["true_redshift"], float)
    known = np.isfinite(true)
    true, redshift = true[known], np.asarray(redshift, float)[known]
    log_probability = np.asarray(log_probability, float)[known]
    probability = np.exp(log_probability - log_probability.max(axis=1, keepdims=True, initial=-np.inf))
    probability /= probability.sum(axis=1, keepdims=True)
    offset = (redshift - true) / (1.0 + true)
    inferred = np.zeros(redshift.shape, bool)
    confident = summarise_redshift(probability, bins, redshift, inferred)[1] > redshifts.CONFIDENT
    far = redshifts.outliers(offset, redshifts.RIGHT)
    pit = redshift_cdf(probability, bins, true)
    metrics = {
        "nmad": redshifts.nmad(offset),
        "outliers_0.15": _mean(redshifts.outliers(offset, redshifts.CATASTROPHIC)),
        "outliers_0.01": _mean(far),
        "confident": _mean(confident),
        "confident_outliers": float(np.mean(far[confident])) if confident.any() else 0.0,
        "coverage": _mean(inside_levels(pit, (ONE_SIGMA,))),
    }
    return _if_finite(metrics, redshift) if known.any() else dict.fromkeys(metrics, float("nan"))


def line_metrics(outputs: Arrays, y: Arrays, reference: GoalReference) -> dict[str, float]:
    """Recovered over true flux of lines with S/N > 5 in the prism, its scatter [natural log], and more.

    ``completeness`` is the share of these lines that come out at 3 sigma or more; ``false_detections`` the
    share of lines with true S/N < 0.5 that do, at more than twice the true flux; ``coverage`` the share of
    all known lines in range within one sigma.
    """
    columns, in_range = _line_columns(y, reference), np.asarray(outputs["line_in_range"]).astype(bool)
    measured = {
        name: np.where(in_range, np.asarray(outputs[name], float), np.nan)
        for name in ("line_flux", "line_flux_error")
    }
    strong = lines.measurable_lines(columns, measured) & (columns["line_snr"] > STRONG)
    ratio, detected = lines.flux_ratio(columns, measured), detected_lines(measured)
    ratio = ratio[strong & np.isfinite(ratio)]
    absent = lines.absent_lines(columns, _ABSENT) & in_range
    known = judged_lines(columns) & in_range
    flux, error = (measured[name][known] for name in ("line_flux", "line_flux_error"))
    pit = gaussian_pit(columns["line_flux"][known], flux, np.hypot(error, columns["line_error"][known]))
    metrics = {
        "recovery": _median(ratio),
        "scatter": robust_scatter(lines.log_ratio(ratio)),
        "completeness": _mean(detected[strong]),
        "false_detections": (
            float(np.mean(lines.invented_lines(columns, measured, detected)[absent])) if absent.any() else 0.0
        ),
        "coverage": _mean(inside_levels(pit, (ONE_SIGMA,))),
    }
    return _if_finite(metrics, flux, error)


def _line_columns(y: Arrays, reference: GoalReference) -> dict[str, np.ndarray]:
    """Columns of the lines as the evaluation has them."""
    columns = {name: np.asarray(y[name], float) for name in ("line_flux", "line_error")}
    for name in ("line_known", "line_detectable"):
        columns[name] = np.asarray(y[name]).astype(bool)
    return columns | {"line_snr": reference.line_snr}


def _if_finite(metrics: dict[str, float], *arrays: np.ndarray) -> dict[str, float]:
    """The metrics; all NaN where outputs are not finite: such an epoch is never the best."""
    if all(np.isfinite(array).all() for array in arrays):
        return metrics
    return dict.fromkeys(metrics, float("nan"))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if np.size(values) else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if np.size(values) else float("nan")
