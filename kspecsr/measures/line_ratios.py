"""Errors of line ratios, apart for pairs that the prism blends; flux errors of blended lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from kspecsr.measures.estimate import (
    RESAMPLES,
    Estimate,
    bootstrap,
    median_estimate,
    rate_estimate,
    robust_rms,
    robust_scatter,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import (
    judged_lines,
    line_wavelengths,
    measured_lines,
    prism_line_noise,
    tied_columns,
)
from kspecsr.measures.splits import galaxy_splits, line_snr_splits


@dataclass(frozen=True)
class LineRatio:
    """Sums of lines over sums of lines; ``title`` as printed."""

    title: str
    above: tuple[str, ...]
    below: tuple[str, ...]


RATIOS = {
    "o3_hbeta": LineRatio("[O III] / Hβ", ("[OIII]_5008",), ("Hbeta",)),
    "halpha_hbeta": LineRatio("Hα / Hβ", ("Halpha",), ("Hbeta",)),
    "n2_halpha": LineRatio("[N II] / Hα", ("[NII]_6585",), ("Halpha",)),
    "o3_o2": LineRatio("[O III] / [O II]", ("[OIII]_5008",), ("[OII]_3727", "[OII]_3730")),
    "s2_s2": LineRatio("[S II] 6718 / 6733", ("[SII]_6718",), ("[SII]_6733",)),
}
# Lines that the prism never sees alone; Hbeta where its resolving power is at its lowest.
BLENDED = ("[OII]_3727", "[OII]_3730", "Hbeta", "[NII]_6550", "[NII]_6585", "[SII]_6718", "[SII]_6733")
_HBETA_BLENDED = 2.0  # redshift below which Hbeta and [O III] blend
WORTH_A_RATIO = 3.0  # true S/N of the fainter side


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """Ratios, and errors of blended lines.

    Args:
        held_out: galaxies.
        made: with line fluxes (see `fitted_lines`).

    Returns:
        float32, NaN where not measured: ``ratio_error`` (B, 5) recovered over true ratio [dex] in the order
        of `RATIOS`, infinite where only one side came out above zero, NaN where neither did;
        ``ratio_measured`` (B, 5) 1 where all lines have a flux; ``blended_error`` (B, 7) flux less true
        flux in units of the error that the prism allows an isolated line, in the order of `BLENDED`.
    """
    flux = measured_lines(held_out, made)["line_flux"].astype(float)
    true = np.where(held_out.line_known, held_out.line_flux, np.nan).astype(float)
    errors, measured = [], []
    for ratio in RATIOS.values():
        sides = [_sum(values, side) for values in (flux, true) for side in (ratio.above, ratio.below)]
        errors.append(_dex(sides[0], sides[1]) - _dex(sides[2], sides[3]))
        measured.append(np.isfinite(sides).all(axis=0))
    columns = [load_lines().index(name) for name in BLENDED]
    blended = ((flux - true) / prism_line_noise(held_out))[:, columns]
    hbeta = BLENDED.index("Hbeta")
    blended[~(held_out.redshift < _HBETA_BLENDED), hbeta] = np.nan
    found = {"ratio_error": np.stack(errors, 1), "ratio_measured": np.stack(measured, 1)}
    return {k: v.astype(np.float32) for k, v in (found | {"blended_error": blended}).items()}


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Errors of ratios whose fainter side has true S/N > 3 in the prism.

    Args:
        columns: of the held-out galaxies.
        measured: see `measure`.
        resamples: of the bootstrap.

    Returns:
        ``ratio_bias/RATIO`` median error [dex], ``ratio_scatter/RATIO`` robust [dex], ``ratio_lost/RATIO``
        share that came out without a ratio, a side being zero or less; each also by S/N of the fainter
        side, redshift, and ``[blended]`` or ``[resolved]``: closer than one FWHM of the prism or not; without
        RATIO over all five. ``blended_error`` as `robust_rms` of ``blended_error``, also ``/LINE``.
    """
    parts = ratio_parts(columns)
    found: dict[str, Estimate | None] = {}
    for number, name in enumerate(("", *RATIOS)):
        which = slice(None) if number == 0 else slice(number - 1, number)
        for part, chosen in parts:
            use = np.zeros_like(chosen)
            use[:, which] = chosen[:, which]
            found |= _ratio_figures(f"/{name}" if name else "", part, columns, measured, use, resamples)
    for number, name in enumerate(("", *BLENDED)):
        error = measured["blended_error"][:, slice(None) if number == 0 else [number - 1]].astype(float)
        error = np.where(np.isfinite(error), error, np.nan)
        row, column = np.nonzero(np.isfinite(error))
        galaxy = np.asarray(columns["galaxy"])[row]
        found[f"blended_error/{name}" if name else "blended_error"] = bootstrap(
            robust_rms, galaxy, error[row, column], resamples=resamples
        )
    return {name: value for name, value in found.items() if value is not None and value.n}


def blended_error_ratio(
    measured_a: Mapping[str, np.ndarray],
    measured_b: Mapping[str, np.ndarray],
    columns: Mapping[str, np.ndarray],
    resamples: int = RESAMPLES,
) -> Estimate:
    """`robust_rms` of the flux errors of blended lines of one method over that of another, same lines.

    Fluxes are in units of the error that the prism allows an isolated line, so that deep and shallow spectra
    count alike. A method that says zero does well on lines that are not there: see ``completeness``.

    Args:
        measured_a: see `measure`.
        measured_b: of the method to divide by.
        columns: of the held-out galaxies.
        resamples: of the bootstrap.
    """
    a, b = (m["blended_error"].astype(float) for m in (measured_a, measured_b))
    use = np.isfinite(a) & np.isfinite(b)
    galaxy = np.broadcast_to(np.asarray(columns["galaxy"])[:, None], a.shape)[use]

    def quotient(one: np.ndarray, other: np.ndarray) -> float:
        below = robust_rms(other)
        return robust_rms(one) / below if below > 0 else float("nan")

    return bootstrap(quotient, galaxy, a[use], b[use], resamples=resamples)


def ratio_parts(columns: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Parts of names and (B, 5) bool of the ratios that belong there."""
    snr = fainter_snr(columns)
    enough, near = snr > WORTH_A_RATIO, closer_than_prism(columns["redshift"])
    parts = [("", enough), ("[blended]", enough & near), ("[resolved]", enough & ~near)]
    parts += [(part, chosen & enough) for part, chosen in line_snr_splits(snr)]
    parts += [(part, chosen[:, None] & enough) for part, chosen in galaxy_splits(columns) if "[z" in part]
    return [(part, chosen) for part, chosen in parts if chosen.any()]


def fainter_snr(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, 5) true S/N of the fainter side of each ratio; NaN where a line is not known."""
    snr = np.where(judged_lines(columns), columns["line_snr"], np.nan).astype(float)
    found = []
    for ratio in RATIOS.values():
        sides = [_sum(snr, side) / np.sqrt(len(side)) for side in (ratio.above, ratio.below)]
        found.append(np.minimum(*sides))
    return np.stack(found, axis=1)


def closer_than_prism(redshift: np.ndarray) -> np.ndarray:
    """(B, 5) bool: the two sides, or the other halves of their doublets, are within one FWHM of the prism."""
    prism, observed = load_instrument(PRISM), line_wavelengths(redshift)
    found = []
    for ratio in RATIOS.values():
        above, below = (
            observed[:, sorted({column for name in side for column in tied_columns(name)})]
            for side in (ratio.above, ratio.below)
        )
        apart = np.abs(above[:, :, None] - below[:, None, :]).min(axis=(1, 2))
        middle = 0.5 * (above.mean(axis=1) + below.mean(axis=1))
        known = np.isfinite(middle)
        found.append(known & (np.where(known, apart, 0.0) < prism.fwhm(np.where(known, middle, 1.0))))
    return np.stack(found, axis=1)


def _ratio_figures(name, part, columns, measured, use, resamples) -> dict[str, Estimate | None]:
    """Bias, scatter and lost share of the ratios chosen, (B, 5)."""
    use = use & (measured["ratio_measured"] > 0)
    error = measured["ratio_error"].astype(float)
    row, column = np.nonzero(use & np.isfinite(error))
    galaxy, values = np.asarray(columns["galaxy"])[row], error[row, column]
    return {
        f"ratio_bias{name}{part}": median_estimate(galaxy, values, resamples=resamples),
        f"ratio_scatter{name}{part}": bootstrap(robust_scatter, galaxy, values, resamples=resamples),
        f"ratio_lost{name}{part}": rate_estimate(columns["galaxy"], ~np.isfinite(error), use, resamples),
    }


def _sum(values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return values[:, [load_lines().index(name) for name in names]].sum(axis=1)


def _dex(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """log10 of a ratio; plus or minus infinity where one side is zero or less, NaN where both are."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log10(np.maximum(above, 0.0)) - np.log10(np.maximum(below, 0.0))
