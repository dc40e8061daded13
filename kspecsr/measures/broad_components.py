"""Broad components of lines: their flux, their width, and how sure a method is that there are some."""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.instrument import FWHM_PER_SIGMA, PRISM, SPEED_OF_LIGHT, load_instrument
from kspecsr.measures.estimate import WHOLE, Block, median, robust_scatter, share, statistic
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.line_recovery import log_ratio
from kspecsr.measures.lines import line_wavelengths
from kspecsr.measures.splits import interval_labels

Arrays = Mapping[str, np.ndarray]
STRONG = 10.0  # S/N in the prism of broad components that are judged
PROBABILITY = (0.0, 0.05, 0.3, 0.7, 0.95, 1.0)  # edges of the bins of the stated probability
_SAID = 0.5


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """What a method says of broad components, compact.

    Args:
        held_out: galaxies.
        reconstruction: with broad components, or without: then all is NaN.

    Returns:
        float32, NaN where not given: ``broad_probability``, ``broad_width``, ``broad_width_error`` (B,)
        [km/s]; ``broad_line``, ``broad_line_error`` (B, K) [1e-20 erg/s/cm2].
    """
    count, lines = held_out.line_flux.shape
    given = {
        "broad_probability": ((count,), reconstruction.broad_probability),
        "broad_width": ((count,), reconstruction.broad_fwhm),
        "broad_width_error": ((count,), reconstruction.broad_fwhm_error),
        "broad_line": ((count, lines), reconstruction.line_broad_flux),
        "broad_line_error": ((count, lines), reconstruction.line_broad_flux_error),
    }
    found = {
        name: np.full(shape, np.nan if values is None else values, np.float32)
        for name, (shape, values) in given.items()
    }
    if reconstruction.line_in_range is not None:
        out = ~np.asarray(reconstruction.line_in_range, bool)
        for name in ("broad_line", "broad_line_error"):
            found[name][out] = np.nan
    return found


def broad_signal_to_noise(columns: Arrays) -> np.ndarray:
    """(B, K) true broad flux over the error that the prism allows an isolated line of that width; 0 for none.

    Args:
        columns: with ``broad_flux``, ``broad_fwhm``, and those of every line.
    """
    prism, count = load_instrument(PRISM), columns["line_flux"].shape[1]
    centre = line_wavelengths(columns["redshift"], count)
    seen = np.isfinite(centre) & (columns["line_snr"] != 0) & (columns["broad_flux"] > 0)
    centre = np.where(seen, centre, 1.0)
    sharp = prism.sigma(np.clip(centre, *prism.wavelength[[0, -1]]))
    wide = columns["broad_fwhm"][:, None] / FWHM_PER_SIGMA / SPEED_OF_LIGHT * centre
    part = columns["broad_flux"] / np.where(seen, columns["line_flux"], 1.0)
    # a matched filter's noise grows with the square root of the width
    return np.where(seen, columns["line_snr"] * part * np.sqrt(sharp / np.hypot(sharp, wide)), 0.0)


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Broad components of S/N > 10 in the prism, and the stated probability of there being some.

    ``broad_recovery``: median of recovered over true broad flux, ``broad_scatter``: robust, natural log;
    ``broad_pull_width``: scatter of (flux - true) / error; ``broad_fwhm_ratio``, ``broad_fwhm_scatter`` and
    ``broad_fwhm_pull_width``: the same of the width, of galaxies with such a line; ``broad_found``: share of
    these with a probability above one half. ``broad_stated[0.3-0.7]`` and ``broad_true[0.3-0.7]``: mean
    stated probability and share that has broad components; ``broad_gap``: the mean difference.

    Args:
        columns: small columns of the held-out galaxies; nothing is made without ``broad_flux``.
        measured: of `measure`.
    """
    if columns.get("broad_flux") is None:
        return
    snr = broad_signal_to_noise(columns)
    strong = snr > STRONG
    galaxy = strong.any(axis=1)
    true = np.where(strong, columns["broad_flux"], np.nan)
    width = np.where(galaxy, columns["broad_fwhm"], np.nan)
    for name, value, error, truth in (
        ("broad_{}", measured["broad_line"], measured["broad_line_error"], true),
        ("broad_fwhm_{}", measured["broad_width"], measured["broad_width_error"], width),
    ):
        ratio = value.astype(float) / truth
        pull = (value - truth) / np.where(error > 0, error, np.nan)
        middle = name.format("recovery" if name == "broad_{}" else "ratio")
        yield (
            [
                median(middle, ratio),
                statistic(name.format("scatter"), _scatter_of_logs, ratio),
                statistic(name.format("pull_width"), robust_scatter, pull),
            ],
            [WHOLE],
        )
    probability = measured["broad_probability"].astype(float)
    stated = np.isfinite(probability) & np.isfinite(columns["redshift"])
    has = columns["broad_fwhm"] > 0
    place = np.where(stated, np.searchsorted(PROBABILITY[1:-1], probability, side="right"), -1)
    for i, label in enumerate(interval_labels(PROBABILITY)):
        of_bin = [("broad_stated", probability), ("broad_true", has)]
        yield [share(name + label, values, place == i) for name, values in of_bin], [WHOLE]
    yield (
        [
            share("broad_found", probability > _SAID, galaxy & stated),
            statistic("broad_gap", _gap, place, has, probability, use=stated),
        ],
        [WHOLE],
    )


def _scatter_of_logs(ratio: np.ndarray) -> float:
    return robust_scatter(log_ratio(ratio))


def _gap(place: np.ndarray, has: np.ndarray, probability: np.ndarray) -> float:
    """Mean over galaxies of |share that has - mean stated| of their bin."""
    excess = np.bincount(place.astype(np.int64), has - probability)
    return float(np.abs(excess).sum() / place.size)
