"""What is measured on each method, and what is made of it: all groups of metrics in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kspecsr.evaluation.store import Chunk
from kspecsr.measures import (
    false_detections,
    line_calibration,
    line_ratios,
    line_recovery,
    line_signal_to_noise,
    pixel_calibration,
    presence,
    prior_response,
    prism_consistency,
    redshift,
    spectrum_shape,
)
from kspecsr.measures.estimate import RESAMPLES, Estimate
from kspecsr.measures.held_out import HeldOut, Reconstruction

Arrays = dict[str, np.ndarray]
Summarise = Callable[..., dict[str, Estimate]]
Metrics = dict[str, dict[str, Estimate]]  # method, metric


@dataclass(frozen=True)
class Group:
    """Metrics that share their measurements.

    Attributes:
        name: of the group in a store.
        measure: galaxies and reconstruction to arrays per galaxy.
        summaries: columns and arrays to metrics; their names do not repeat over groups.
    """

    name: str
    measure: Callable[[HeldOut, Reconstruction], Arrays]
    summaries: tuple[Summarise, ...]


def _lines(held_out: HeldOut, made: Reconstruction) -> Arrays:
    return {**false_detections.measure(held_out, made), **line_ratios.measure(held_out, made)}


GROUPS = (
    Group("spectrum", spectrum_shape.measure, (spectrum_shape.summarise,)),
    Group(
        "lines",
        _lines,
        (line_recovery.summarise, line_ratios.summarise, false_detections.summarise, presence.summarise),
    ),
    Group("signal_to_noise", line_signal_to_noise.measure, (line_signal_to_noise.summarise,)),
    Group("pixel_errors", pixel_calibration.measure, (pixel_calibration.summarise,)),
    Group("line_errors", line_calibration.measure, (line_calibration.summarise,)),
    Group("redshift", redshift.measure, (redshift.summarise,)),
    Group("consistency", prism_consistency.measure, (prism_consistency.summarise,)),
)
PRIOR = "prior_response"


def measure_methods(held_out: HeldOut, made: Mapping[str, Reconstruction]) -> dict[str, dict[str, Arrays]]:
    """Method to group to arrays."""
    return {
        method: {group.name: group.measure(held_out, one) for group in GROUPS} for method, one in made.items()
    }


def summarise_methods(
    galaxies: Chunk,
    resamples: int = RESAMPLES,
    advance: Callable[[str], None] = lambda method: None,
) -> Metrics:
    """Metrics of every method, those against a baseline among them.

    Beside the groups' own: ``scale_free/core over cubic``, ``over direct_fit`` and ``over
    direct_fit_found_z``, ``scale_free/continuum over cubic``, ``blended_error over direct_fit``: ratios on
    the same galaxies, below 1 is better.

    Args:
        galaxies: measurements.
        resamples: of every bootstrap.
        advance: called with each method that is done.
    """
    metrics: Metrics = {}
    for method, groups in galaxies.measured.items():
        metrics[method] = _own(galaxies.columns, groups, resamples) | _against(galaxies, method, resamples)
        advance(method)
    return metrics


def summarise_prior(galaxies: Chunk, resamples: int = RESAMPLES) -> Metrics:
    """Metrics of the prior-response test."""
    return {
        method: prior_response.summarise(galaxies.columns, groups[PRIOR], resamples)
        for method, groups in galaxies.measured.items()
    }


def _own(columns: Arrays, groups: Mapping[str, Arrays], resamples: int) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for group in GROUPS:
        for summarise in group.summaries:
            found |= summarise(columns, groups[group.name], resamples=resamples)
    return {name: estimate for name, estimate in found.items() if estimate.n}


def _against(galaxies: Chunk, method: str, resamples: int) -> dict[str, Estimate]:
    columns, found = galaxies.columns, {}
    own = galaxies.measured[method]
    for baseline in ("cubic", "direct_fit", "direct_fit_found_z"):
        if baseline == method or baseline not in galaxies.measured:
            continue
        other = galaxies.measured[baseline]
        ratios = spectrum_shape.ratio_to(columns, own["spectrum"], other["spectrum"], resamples)
        found |= {f"{name} over {baseline}": estimate for name, estimate in ratios.items()}
        if baseline == "direct_fit":
            found[f"blended_error over {baseline}"] = line_ratios.blended_error_ratio(
                own["lines"], other["lines"], columns, resamples
            )
    return found
