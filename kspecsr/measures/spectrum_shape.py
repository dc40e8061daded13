"""Spectra against the truth: shape whatever the scale, amplitude, width, close pairs, residuals, power.

No norm of the error alone tells a good spectrum from one that is smoothed, shrunk, blurred or merged. Each of
the four ways has its number here: scale-free error in cores, amplitude ratio, FWHM ratio, pairs kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipeline.lines import load_lines
from kspecsr.measures.amplitude_ratio import measure_amplitude_ratio
from kspecsr.measures.estimate import RESAMPLES, Estimate, bootstrap, median_estimate
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.line_pairs import KEPT, PAIRS, measure_line_pairs
from kspecsr.measures.line_width import measure_line_width
from kspecsr.measures.power_spectrum import band_power, measure_power_spectrum
from kspecsr.measures.residual_noise import measure_residual_noise
from kspecsr.measures.scale_free_error import measure_scale_free_error, ratio_of_medians
from kspecsr.measures.spectrum import compare
from kspecsr.measures.splits import WAVELENGTH, bin_of, galaxy_splits, labels, line_snr_splits

_OIII = PAIRS.index(("[OIII]_4960", "[OIII]_5008"))


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """Measurements of each galaxy; NaN where not measured.

    Args:
        held_out: galaxies with their truth.
        made: what a method makes of them; its flux alone is used.

    Returns:
        Arrays with leading axis B, as the ``measure_...`` functions of this package's modules describe them.
    """
    comparison = compare(held_out, made)
    return {
        **measure_scale_free_error(comparison),
        **measure_amplitude_ratio(comparison),
        **measure_line_width(comparison),
        **measure_line_pairs(comparison),
        **measure_residual_noise(held_out, comparison),
        **measure_power_spectrum(comparison),
    }


def summarise(
    held_out_columns: dict[str, np.ndarray], measured: dict[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Figures over all galaxies, and by S/N, redshift and wavelength.

    Args:
        held_out_columns: ``galaxy``, ``redshift``, ``continuum_snr`` (B,), ``line_snr`` (B, K).
        measured: of `measure`, for the same galaxies.
        resamples: of each bootstrap.
    """
    found: dict[str, Estimate] = {}
    for part in (_galaxies, _lines, _pairs, _residuals, _power):
        found.update(part(held_out_columns, measured, resamples))
    return found


def ratio_to(
    held_out_columns: dict[str, np.ndarray],
    measured: dict[str, np.ndarray],
    baseline: dict[str, np.ndarray],
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Median scale-free errors of a method over those of another: below 1 it is better.

    Args:
        held_out_columns: ``galaxy`` (B,).
        measured: of the method.
        baseline: of the other, for the same galaxies.
        resamples: of each bootstrap.
    """
    return {
        f"scale_free/{region}": ratio_of_medians(
            held_out_columns["galaxy"],
            measured[f"scale_free_{region}"],
            baseline[f"scale_free_{region}"],
            resamples=resamples,
        )
        for region in ("core", "continuum")
    }


def _galaxies(columns: dict, measured: dict, resamples: int) -> Iterator[tuple[str, Estimate]]:
    galaxy = columns["galaxy"]
    for name, array in (
        ("scale_free/core", "scale_free_core"),
        ("scale_free/continuum", "scale_free_continuum"),
        ("scale/core", "scale_core"),
        ("scale/continuum", "scale_continuum"),
        ("amplitude_ratio", "amplitude_ratio"),
    ):
        values = measured[array]
        splits = () if name.startswith("scale/") else _galaxy_parts(columns, "continuum" in name)
        for label, inside in [("", np.ones(galaxy.size, bool)), *splits]:
            if label and not np.isfinite(values[inside]).any():
                continue
            yield name + label, median_estimate(galaxy[inside], values[inside], resamples=resamples)


def _galaxy_parts(columns: dict, continuum: bool) -> Iterator[tuple[str, np.ndarray]]:
    """By redshift and continuum S/N; what is measured on lines by the S/N of the best line, too."""
    yield from galaxy_splits(columns)
    if not continuum:
        best = np.max(columns["line_snr"], axis=1, initial=0.0)
        yield from ((f"[best line {label[1:]}", inside) for label, inside in line_snr_splits(best))


def _lines(columns: dict, measured: dict, resamples: int) -> Iterator[tuple[str, Estimate]]:
    row, line = np.nonzero(np.isfinite(measured["line_area_ratio"]))
    galaxy = columns["galaxy"][row]
    observed = load_lines().wavelength[line] * (1.0 + columns["redshift"][row])
    place = bin_of(observed, WAVELENGTH)
    width, area = (measured[name][row, line] for name in ("line_width_ratio", "line_area_ratio"))
    parts = [("", np.ones(row.size, bool)), *line_snr_splits(columns["line_snr"][row, line])]
    parts += [(f"[{label}]", place == i) for i, label in enumerate(labels("wave", WAVELENGTH))]
    for label, inside in parts:
        chosen = galaxy[inside]
        if label and chosen.size == 0:
            continue
        yield f"fwhm_ratio{label}", median_estimate(chosen, width[inside], resamples=resamples)
        yield f"line_area_ratio{label}", median_estimate(chosen, area[inside], resamples=resamples)
        yield f"lines_lost{label}", bootstrap(np.mean, chosen, area[inside] == 0, resamples=resamples)


def _pairs(columns: dict, measured: dict, resamples: int) -> Iterator[tuple[str, Estimate]]:
    row, pair = np.nonzero(np.isfinite(measured["pair_dip"]))
    kept = measured["pair_dip"][row, pair] > KEPT
    blended = measured["pair_in_prism_elements"][row, pair] < 1.0
    galaxy = columns["galaxy"][row]
    for name, inside in (
        ("pairs_kept", np.ones(row.size, bool)),
        ("pairs_kept/unresolved_by_prism", blended),
        ("pairs_kept/oiii", pair == _OIII),
        ("pairs_kept/oiii_unresolved_by_prism", (pair == _OIII) & blended),
    ):
        yield name, bootstrap(np.mean, galaxy[inside], kept[inside], resamples=resamples)


def _residuals(columns: dict, measured: dict, resamples: int) -> Iterator[tuple[str, Estimate]]:
    values = measured["residual_over_noise_core"]
    yield "residual_over_noise/core", median_estimate(columns["galaxy"], values, resamples=resamples)
    parts = ["", *(f"[{label}]" for label in labels("wave", WAVELENGTH))]
    for number, label in enumerate(parts):
        values = measured["residual_over_noise"][:, number]
        yield f"residual_over_noise{label}", median_estimate(columns["galaxy"], values, resamples=resamples)


def _power(columns: dict, measured: dict, resamples: int) -> Iterator[tuple[str, Estimate]]:
    for band in ("low", "high"):
        true = band_power(measured["power_truth"], band)
        true = np.where(true > 0, true, np.nan)
        for name in ("output", "residual"):
            ratio = band_power(measured[f"power_{name}"], band) / true
            title = f"power_ratio/{band}" if name == "output" else f"residual_power/{band}"
            yield title, median_estimate(columns["galaxy"], ratio, resamples=resamples)
