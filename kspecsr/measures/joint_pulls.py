"""Pulls of lines, of sums of lines and of ratios, from the covariance of their errors."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from data_pipeline.lines import list_of, load_lines
from kspecsr.measures.estimate import WHOLE, Block, median, robust_scatter, share, statistic
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.line_recovery import flux_pull, signal_to_noise
from kspecsr.measures.lines import judged_lines
from kspecsr.measures.splits import line_parts
from kspecsr.results.joint_lines import JointLines
from kspecsr.results.ratios import RATIOS, SUMS

Arrays = Mapping[str, np.ndarray]
JUDGED = (3.0, 300.0)  # stated S/N
_DRAWS = 400  # samples of the fluxes of a galaxy: a pull to a twentieth
_INSIDE = 1.96  # pulls within 95 %


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Where the true sums and ratios lie among samples of a method's fluxes, as a result draws them.

    Args:
        held_out: galaxies; lines whose true flux has an error are left out.
        reconstruction: with line fluxes, errors and their correlation; nothing is measured without one.

    Returns:
        float32: ``sum_pull`` (B, 4) and ``ratio_pull`` (B, 9), normal numbers of the truth's rank in the
        order of `SUMS` and `RATIOS`; NaN unless every side has a stated S/N of 3-300.
    """
    groups = [((*names,),) for names in SUMS.values()] + list(RATIOS.values())
    pulls = np.full((len(held_out), len(groups)), np.nan, np.float32)
    flux, error = reconstruction.line_flux, reconstruction.line_flux_error
    correlation = reconstruction.line_correlation
    if flux is not None and error is not None and correlation is not None:
        known = held_out.line_known & (held_out.line_error == 0) & np.isfinite(flux) & np.isfinite(error)
        if reconstruction.line_in_range is not None:
            known &= reconstruction.line_in_range
        true = np.where(known, held_out.line_flux, np.nan).astype(float)
        covariance = correlation * error[:, :, None] * error[:, None, :]
        for row in np.flatnonzero(known.any(axis=1)):
            joint = JointLines(np.where(known[row], flux[row], np.nan), covariance[row], correlated=True)
            drawn = joint.samples(_DRAWS, seed=int(held_out.galaxy[row]))
            pulls[row] = [_pull(drawn, true[row], group) for group in groups]
    return {"sum_pull": pulls[:, : len(SUMS)], "ratio_pull": pulls[:, len(SUMS) :]}


def _pull(drawn: np.ndarray, true: np.ndarray, group: Sequence[Sequence[str]]) -> float:
    """Of a sum, or of the ratio of two; NaN where it is not judged."""
    sides = []
    for names in group:
        rows = [load_lines().index(name) for name in names]
        samples, value = drawn[:, rows].sum(axis=1), true[rows].sum()
        signal = samples.mean() / np.maximum(samples.std(), 1e-300)
        if not (np.isfinite(value) and value > 0 and JUDGED[0] <= signal < JUDGED[1]):
            return np.nan
        sides.append((samples, value))
    samples, value = sides[0]
    if len(sides) > 1:
        samples, value = samples / np.maximum(sides[1][0], 1e-300), value / sides[1][1]
    below = np.sum(samples < value) + 0.5 * np.sum(samples == value)
    if below in (0, _DRAWS):  # beyond all samples: how far they cannot say
        # a denominator of nearly nothing makes samples whose standard deviation is no number
        low, middle, high = np.percentile(samples, [16.0, 50.0, 84.0])
        return float((value - middle) / max(0.5 * (high - low), 1e-300))
    return float(ndtri((below + 0.5) / (_DRAWS + 1.0)))


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Pulls at stated S/N 3-300 of ``/lines``, ``/sums`` and ``/ratios``, also ``/sums/[OII]`` and so on.

    ``pull_width``: robust scatter, 1 where errors are right; ``pull_95``: share within 95 %; ``pull_middle``:
    median, of (truth - flux) / error and its like. Single lines have these of every method with errors.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `measure` and `kspecsr.measures.lines.measured_lines`.
    """
    signal = signal_to_noise(measured)
    stated = judged_lines(columns) & (signal >= JUDGED[0]) & (signal < JUDGED[1])
    kinds = {
        "lines": (np.where(stated, -flux_pull(columns, measured), np.nan), list_of(stated.shape[1]).names),
        "sums": (measured["sum_pull"], tuple(SUMS)),
        "ratios": (measured["ratio_pull"], tuple(RATIOS)),
    }
    for kind, (pull, names) in kinds.items():
        yield (
            [
                statistic(f"pull_width/{kind}", robust_scatter, pull),
                share(f"pull_95/{kind}", np.abs(pull) < _INSIDE, np.isfinite(pull)),
                median(f"pull_middle/{kind}", pull),
            ],
            [WHOLE, *line_parts(names, of=names)],
        )
