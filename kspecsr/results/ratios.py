"""Line ratios that diagnose gas, sums of lines that blend, and the reddening, with their errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.lines import load_lines
from data_pipeline.simulation.attenuation import cardelli
from kspecsr.results.joint_lines import QUANTILES, JointLines
from kspecsr.results.lines import LIMIT_SIGMA, LINE_FLUX_UNIT

if TYPE_CHECKING:
    from astropy.table import QTable

_OII, _SII, _OIII = (
    ("[OII]_3727", "[OII]_3730"),
    ("[SII]_6718", "[SII]_6733"),
    ("[OIII]_4960", "[OIII]_5008"),
)
_DECREMENT = "Halpha/Hbeta"
# name -> what is added up, over what
RATIOS = {
    "[OIII]/Hbeta": (("[OIII]_5008",), ("Hbeta",)),
    "[NII]/Halpha": (("[NII]_6585",), ("Halpha",)),
    "[SII]/Halpha": (_SII, ("Halpha",)),
    "[OI]/Halpha": (("[OI]_6302",), ("Halpha",)),
    "O32": (("[OIII]_5008",), _OII),
    "R23": ((*_OII, *_OIII), ("Hbeta",)),
    "[SII]_6718/6733": (("[SII]_6718",), ("[SII]_6733",)),
    "[OII]_3730/3727": (("[OII]_3730",), ("[OII]_3727",)),
    _DECREMENT: (("Halpha",), ("Hbeta",)),
}
SUMS = {
    "Halpha+[NII]": ("Halpha", "[NII]_6585", "[NII]_6550"),
    "[OII]": _OII,
    "[SII]": _SII,
    "Hbeta+[OIII]": ("Hbeta", *_OIII),
}
_DRAWS = 2500  # a survey takes them, too: 4 ms of a processor per spectrum
COLUMNS = {
    "NAME": "ratio, sum of fluxes, or E(B-V)",
    "UNIT": "of the numbers in this row",
    "KIND": "measured, upper or lower (limits), none",
    **{f"P{100 * share:g}": "quantile" for share in QUANTILES},
    "PRIOR_WEIGHT": "the prior's share of its precision",
}


def ratio_columns(joint: JointLines, prior_weight: np.ndarray) -> dict[str, np.ndarray]:
    """`COLUMNS` with a row for each of `RATIOS` and `SUMS`, and the reddening.

    Quantiles are NaN where a line is not reported.

    ``KIND`` says what the quantiles are worth: only an upper or a lower limit where what is above or below is
    not detected at 3 sigma; nothing where both are not. E(B-V) follows from Halpha over Hbeta, Case B
    and the law of Cardelli et al. (1989).

    Args:
        joint: fluxes with their covariance.
        prior_weight: (K,) of the lines.
    """
    wanted = {**RATIOS, **{name: (names,) for name, names in SUMS.items()}}
    # drawn together: a line that stands in several rows is drawn once
    drawn = iter(joint.sums(*(group for groups in wanted.values() for group in groups), n=_DRAWS))
    rows = []
    for name, groups in wanted.items():
        samples = [next(drawn) for _ in groups]
        rows.append((name, *_summary(samples), _prior_weight(joint, prior_weight, groups)))
        if name == _DECREMENT:
            rows.append(_reddening(rows[-1]))
    return dict(zip(COLUMNS, map(np.array, zip(*rows, strict=True)), strict=True))


def ratio_table(joint: JointLines, prior_weight: np.ndarray) -> QTable:
    """`ratio_columns` as a table with descriptions."""
    from astropy.table import QTable  # slow to import: only where a table is asked for

    return QTable(ratio_columns(joint, prior_weight), descriptions=COLUMNS)


def _summary(drawn: Sequence[np.ndarray]) -> tuple:
    """Unit, kind and quantiles of a sum, or of a ratio of two."""
    ratio = len(drawn) > 1
    seen = [bool(np.mean(one) > LIMIT_SIGMA * np.std(one)) for one in drawn]
    value = drawn[0] / np.maximum(drawn[1], 1e-300) if ratio else drawn[0]
    kind = "measured" if all(seen) else "upper" if seen[-1] or not ratio else "lower"
    if (ratio and not any(seen)) or np.isnan(value).any():
        kind = "none"
    return "" if ratio else LINE_FLUX_UNIT, kind, *np.quantile(value, QUANTILES)


def _prior_weight(joint: JointLines, weight: np.ndarray, groups: Sequence[Sequence[str]]) -> float:
    """Posterior over prior variance of a sum, or of the logarithm of a ratio, to first order.

    The prior of each line is independent of the others, with the line's own weight times its precision.
    """
    gradient = np.zeros(joint.flux.size)
    with np.errstate(divide="ignore", invalid="ignore"):  # a flux of 0: not known
        for sign, names in zip((1.0, -1.0), groups, strict=False):
            rows = [load_lines().index(name) for name in names]
            gradient[rows] += sign / (joint.flux[rows].sum() if len(groups) > 1 else 1.0)
        rows = np.flatnonzero(gradient)
        gradient, covariance = gradient[rows], joint.covariance[np.ix_(rows, rows)]
        prior = np.sum(gradient**2 * np.diagonal(covariance) / weight[rows])
        return float(np.clip(gradient @ covariance @ gradient / prior, 0.0, 1.0))


@cache
def _extinction() -> tuple[float, float]:
    """Halpha over Hbeta without dust, and magnitudes by which it grows per magnitude of E(B-V)."""
    lines = load_lines()
    halpha, hbeta = (lines.index(name) for name in ("Halpha", "Hbeta"))
    curve = cardelli(lines.wavelength[[hbeta, halpha]])
    return float(lines.case_b[halpha] / lines.case_b[hbeta]), float(curve[0] - curve[1])


def _reddening(decrement: tuple) -> tuple:
    """Row of E(B-V) from that of the Balmer decrement; what is below Case B is negative."""
    intrinsic, growth = _extinction()
    _, _, kind, *quantiles, weight = decrement
    with np.errstate(divide="ignore"):
        return "E(B-V)", "mag", kind, *(2.5 / growth * np.log10(np.array(quantiles) / intrinsic)), weight
