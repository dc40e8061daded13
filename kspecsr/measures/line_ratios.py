"""Errors of line ratios, apart for pairs that the prism blends; flux errors of blended lines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from kspecsr.measures.estimate import (
    WHOLE,
    Block,
    median,
    robust_rms,
    robust_scatter,
    share,
    statistic,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import (
    judged_lines,
    line_wavelengths,
    measured_lines,
    prism_line_noise,
    tied_columns,
)
from kspecsr.measures.splits import galaxy_parts, line_parts, line_snr_parts

Arrays = Mapping[str, np.ndarray]


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


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Ratios, and errors of blended lines.

    Args:
        held_out: galaxies.
        reconstruction: with line fluxes (see `fitted_lines`).

    Returns:
        float32, NaN where not measured: ``ratio_error`` (B, 5) recovered over true ratio [dex] in the order
        of `RATIOS`, infinite where only one side came out above zero, NaN where neither did;
        ``ratio_measured`` (B, 5) 1 where all lines have a flux; ``blended_error`` (B, 7) flux less true
        flux in units of the error that the prism allows an isolated line, in the order of `BLENDED`.
    """
    flux = measured_lines(held_out, reconstruction)["line_flux"].astype(float)
    true = np.where(held_out.line_known, held_out.line_flux, np.nan).astype(float)
    errors, measured = [], []
    for ratio in RATIOS.values():
        sides = [_sum(values, side) for values in (flux, true) for side in (ratio.above, ratio.below)]
        # In dex, in which too large and too small by one factor weigh alike.
        errors.append(_dex(sides[0], sides[1]) - _dex(sides[2], sides[3]))
        measured.append(np.isfinite(sides).all(axis=0))
    columns = [load_lines().index(name) for name in BLENDED]
    blended = ((flux - true) / prism_line_noise(held_out))[:, columns]
    hbeta = BLENDED.index("Hbeta")
    blended[~(held_out.redshift < _HBETA_BLENDED), hbeta] = np.nan
    found = {"ratio_error": np.stack(errors, 1), "ratio_measured": np.stack(measured, 1)}
    return {k: v.astype(np.float32) for k, v in (found | {"blended_error": blended}).items()}


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Errors of ratios whose fainter side has true S/N > 3 in the prism, and of blended lines.

    ``ratio_bias/RATIO`` median error [dex], ``ratio_scatter/RATIO`` robust [dex], ``ratio_lost/RATIO`` share
    that came out without a ratio, a side being zero or less; without RATIO over all five. Each also by S/N of
    the fainter side, redshift, and ``[blended]`` or ``[resolved]``: closer than one FWHM of the prism or not.
    ``blended_error`` as `robust_rms` of ``blended_error``, also ``/LINE``: in units of the error that the
    prism allows an isolated line, so that deep and shallow spectra count alike. A method that says zero does
    well on lines that are not there: see ``completeness``.
    """
    error = measured["ratio_error"].astype(float)
    statistics = []
    for number, name in enumerate(("", *(f"/{name}" for name in RATIOS))):
        of_ratio = np.isin(np.arange(len(RATIOS)), np.arange(len(RATIOS)) if number == 0 else number - 1)
        use = (measured["ratio_measured"] > 0) & of_ratio
        statistics += [
            median(f"ratio_bias{name}", error, use),
            statistic(f"ratio_scatter{name}", robust_scatter, error, use=use),
            share(f"ratio_lost{name}", ~np.isfinite(error), use),
        ]
    yield statistics, ratio_parts(columns)
    yield (
        [statistic("blended_error", robust_rms, measured["blended_error"])],
        [WHOLE, *line_parts(BLENDED, of=BLENDED)],
    )


def ratio_parts(columns: Arrays) -> list[tuple[str, np.ndarray]]:
    """Labels of parts, and (B, 5) bool of the ratios that belong there."""
    snr = fainter_snr(columns)
    enough, near = snr > WORTH_A_RATIO, closer_than_prism(columns["redshift"])
    by_redshift = ((label, chosen) for label, chosen in galaxy_parts(columns) if "[z" in label)
    parts = [("", enough), ("[blended]", near), ("[resolved]", ~near), *line_snr_parts(snr), *by_redshift]
    return [(label, chosen & enough) for label, chosen in parts]


def fainter_snr(columns: Arrays) -> np.ndarray:
    """(B, 5) true S/N of the fainter side of each ratio; NaN where a line is not known."""
    snr = np.where(judged_lines(columns), columns["line_snr"], np.nan).astype(float)
    found = []
    for ratio in RATIOS.values():
        # As if errors were alike and independent: a rough S/N of the sum, which only selects.
        sides = [_sum(snr, side) / np.sqrt(len(side)) for side in (ratio.above, ratio.below)]
        found.append(np.minimum(*sides))
    return np.stack(found, axis=1)


def closer_than_prism(redshift: np.ndarray) -> np.ndarray:
    """(B, 5) bool: the two sides, or the other halves of their doublets, are within one FWHM of the prism."""
    prism, observed = load_instrument(PRISM), line_wavelengths(redshift, len(load_lines()))
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


def _sum(values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return values[:, [load_lines().index(name) for name in names]].sum(axis=1)


def _dex(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """log10 of a ratio; plus or minus infinity where one side is zero or less, NaN where both are."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log10(np.maximum(above, 0.0)) - np.log10(np.maximum(below, 0.0))
