"""Topics of the evaluation: what is measured on each method and which figures are made of it, listed once."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np

from kspecsr.evaluation.store import Chunk
from kspecsr.measures import (
    broad_components,
    calibration,
    joint_pulls,
    line_by_line,
    line_ratios,
    line_recovery,
    line_signal_to_noise,
    prior_response,
    prism_consistency,
    redshift,
    spectrum_shape,
)
from kspecsr.measures.estimate import (
    RESAMPLES,
    WHOLE,
    Block,
    Estimate,
    robust_rms,
    statistic,
    summarise,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import measured_lines

Arrays = dict[str, np.ndarray]
Topics = Mapping[str, Arrays]
Metrics = dict[str, dict[str, Estimate]]  # method, metric
# Baselines that others are compared with, and in which topics.
_BASELINES = {
    "cubic": ("spectrum",),
    "direct_fit": ("spectrum", "lines"),
    "direct_fit_found_z": ("spectrum",),
}


@dataclass(frozen=True)
class Topic:
    """Figures that share their measurements.

    Attributes:
        measure: galaxies and reconstruction to arrays per galaxy.
        blocks: columns of the galaxies and those arrays to statistics and the parts that they are made of.
    """

    measure: Callable[..., Arrays]
    blocks: tuple[Callable[[Arrays, Arrays], Iterable[Block]], ...]

    def summarise(
        self,
        columns: Arrays,
        measured: Arrays,
        names: Collection[str] | None = None,
        resamples: int = RESAMPLES,
    ) -> dict[str, Estimate]:
        """Figures of one method; arguments as in `kspecsr.measures.estimate.summarise`."""
        every = chain.from_iterable(blocks(columns, measured) for blocks in self.blocks)
        return summarise(every, columns["galaxy"], names, resamples)


def _lines(held_out: HeldOut, reconstruction: Reconstruction) -> Arrays:
    found = measured_lines(held_out, reconstruction) | line_ratios.measure(held_out, reconstruction)
    found |= joint_pulls.measure(held_out, reconstruction)
    return found | line_by_line.measure(held_out)


_OF_LINES = (line_recovery, line_ratios, line_by_line, joint_pulls)
# Name in a store of measurements to what is measured there. Names of figures do not repeat over topics.
TOPICS = {
    "spectrum": Topic(spectrum_shape.measure, (spectrum_shape.blocks,)),
    "lines": Topic(_lines, tuple(of.blocks for of in _OF_LINES)),
    "broad": Topic(broad_components.measure, (broad_components.blocks,)),
    "signal_to_noise": Topic(line_signal_to_noise.measure, (line_signal_to_noise.blocks,)),
    "pixel_errors": Topic(calibration.measure_pixels, (calibration.pixel_blocks,)),
    "line_errors": Topic(calibration.measure_lines, (calibration.line_blocks,)),
    "redshift": Topic(redshift.measure, (redshift.blocks,)),
    "consistency": Topic(prism_consistency.measure, (prism_consistency.blocks,)),
}
PRIOR = "prior_response"  # needs the method itself, and galaxies whose truth can be changed
PRIOR_TOPIC = Topic(prior_response.measure, (prior_response.blocks,))


def measure_methods(
    held_out: HeldOut, reconstructions: Mapping[str, Reconstruction]
) -> dict[str, dict[str, Arrays]]:
    """Method to topic to arrays."""
    return {
        method: {name: topic.measure(held_out, reconstruction) for name, topic in TOPICS.items()}
        for method, reconstruction in reconstructions.items()
    }


def summarise_methods(
    galaxies: Chunk,
    names: Collection[str] | None = (),
    resamples: int = RESAMPLES,
    advance: Callable[[str], None] = lambda method: None,
) -> Metrics:
    """Metrics of every method, those against a baseline among them.

    Beside the topics' own: ``scale_free/core over cubic`` and so on, see `ratios_to`.

    Args:
        galaxies: measurements.
        names: figures of parts (``recovery[snr 5-10]``) that are wanted beside those of all galaxies; None
            for those of all parts.
        resamples: number of draws of every bootstrap.
        advance: called with each method that is done.
    """
    metrics: Metrics = {}
    for method, measured in galaxies.measured.items():
        metrics[method] = {}
        for name, topic in TOPICS.items():
            metrics[method] |= topic.summarise(galaxies.columns, measured[name], names, resamples)
        for baseline, topics in _BASELINES.items():
            if baseline != method and baseline in galaxies.measured:
                own = {topic: measured[topic] for topic in topics}
                ratios = ratios_to(galaxies.columns, own, galaxies.measured[baseline], resamples)
                metrics[method] |= {f"{name} over {baseline}": ratio for name, ratio in ratios.items()}
        advance(method)
    return metrics


def summarise_prior(
    galaxies: Chunk, names: Collection[str] | None = (), resamples: int = RESAMPLES
) -> Metrics:
    """Metrics of the prior-response test; arguments as in `summarise_methods`."""
    return {
        method: PRIOR_TOPIC.summarise(galaxies.columns, measured[PRIOR], names, resamples)
        for method, measured in galaxies.measured.items()
    }


def ratios_to(
    columns: Arrays, measured: Topics, baseline: Topics, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Figures of a method over those of a baseline, of galaxies and lines that both measured.

    Args:
        columns: small columns of the held-out galaxies.
        measured: topic to arrays of the method.
        baseline: topic to arrays of the baseline; below 1 the method is better.
        resamples: number of draws of every bootstrap.
    """
    statistics = [
        statistic(name, partial(_quotient, of), *(one[topic][array] for one in (measured, baseline)))
        for name, (topic, array, of) in _RATIOS.items()
        if topic in measured
    ]
    return summarise([(statistics, [WHOLE])], columns["galaxy"], resamples=resamples)


_RATIOS = {
    "scale_free/core": ("spectrum", "scale_free_core", np.median),
    "scale_free/continuum": ("spectrum", "scale_free_continuum", np.median),
    "blended_error": ("lines", "blended_error", robust_rms),
}


def _quotient(of: Callable[[np.ndarray], float], values: np.ndarray, baseline: np.ndarray) -> float:
    below = of(baseline)
    return float(of(values) / below) if below > 0 else float("nan")
