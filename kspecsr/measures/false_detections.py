"""Lines that are not there and were found all the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_pipeline.lines import load_lines
from kspecsr.measures.estimate import RESAMPLES, Estimate, rate_estimate
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import PRESENT, detected_lines, judged_lines, measured_lines
from kspecsr.measures.splits import galaxy_splits

ABSENT = 0.2  # true S/N in the prism below which a line is not there for it
_INVENTED = 2.0  # times the true flux
_FAINT = ((0.2, 1.0), (1.0, 3.0))  # true S/N of lines that are there and not to be seen


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """(B, K) ``line_flux``, ``line_flux_error`` and ``line_presence`` of the method, NaN out of range."""
    return measured_lines(held_out, made)


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Rates on lines whose true flux is below 0.2 sigma of the prism.

    A line that the gratings would show (column ``line_detectable``, where there is one) is there.

    Args:
        columns: of the held-out galaxies.
        measured: see `measure`.
        resamples: of the bootstrap.

    Returns:
        ``false_3sigma``: flux over error above 3; ``false_presence``: presence above one half;
        ``false_detection``: either; ``invented``: either, at more than twice the true flux. The last two
        also by line and redshift, and ``invented[snr 0.2-1]``, ``[snr 1-3]`` for lines that are faint.
    """
    galaxy, absent = np.asarray(columns["galaxy"]), absent_lines(columns)
    measurable = np.isfinite(measured["line_flux"])
    significant, present = detected_lines(measured), said_present(measured)
    either = significant | present
    invented = either & (measured["line_flux"] > _INVENTED * np.asarray(columns["line_flux"]))
    among = absent & measurable
    found = {"false_3sigma": rate_estimate(galaxy, significant, among, resamples)}
    with_presence = among & np.isfinite(measured["line_presence"])
    found["false_presence"] = rate_estimate(galaxy, present, with_presence, resamples)
    snr = np.asarray(columns["line_snr"])
    for name, hit in (("false_detection", either), ("invented", invented)):
        found[name] = rate_estimate(galaxy, hit, among, resamples)
        for part, chosen in galaxy_splits(columns):
            found[f"{name}{part}"] = rate_estimate(galaxy, hit, among & chosen[:, None], resamples)
        for column, line in enumerate(load_lines().names):
            found[f"{name}/{line}"] = rate_estimate(galaxy, hit[:, column], among[:, column], resamples)
    for low, high in _FAINT:
        faint = judged_lines(columns) & measurable & (snr >= low) & (snr < high)
        found[f"invented[snr {low:g}-{high:g}]"] = rate_estimate(galaxy, invented, faint, resamples)
    return {name: value for name, value in found.items() if value is not None}


def absent_lines(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: known lines that are too faint for the prism, and for the gratings where that is known."""
    absent = judged_lines(columns) & (np.asarray(columns["line_snr"]) < ABSENT)
    if "line_detectable" in columns:
        absent &= ~np.asarray(columns["line_detectable"], bool)
    return absent


def said_present(measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: presence above one half; False where not given."""
    with np.errstate(invalid="ignore"):
        return measured["line_presence"] > PRESENT
