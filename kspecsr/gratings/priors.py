"""What is known before the gratings are looked at: line fluxes, flux scales, zero points, widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from data_pipeline.configuration import check_numbers
from data_pipeline.instrument import FWHM_PER_SIGMA
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import DENSITY_DOUBLETS, SharedFluxes, tied_lines
from kspecsr.results.broad import BroadLines
from kspecsr.results.lines import LineMeasurements

FLUX_UNIT = 1e-20  # of line fluxes [erg/s/cm2] and densities [erg/s/cm2/A] in fits: numbers of order one
_CHANCE = (1e-3, 0.999)  # of broad components: no model is surer
_SHARE, _SHARE_SCATTER = (0.1, 0.9), 0.3  # of a line that is in its broad component, if there is one
_LEAST_BROAD = 1e-2  # scatter of a broad flux [FLUX_UNIT]
_WIDTH_SPREAD = 0.4  # natural logarithm: widths of the prism's scatter by this much (design)
_SMALLEST = 1e-5  # eigenvalue of a correlation matrix that was stored as float32


@dataclass(frozen=True)
class ArmPriors:
    """Priors of what an arm does to the lines, one sigma each.

    Scales are prism over grating: JADES has 1.13 (16-84 %: 1.01-1.34), most of it common to the gratings of
    a source. Gratings share a zero point (against catalogues they scatter by less than 1.5e-4); the prism's
    own, 6.6e-4, is in the width of its P(z).

    Attributes:
        scale: median flux scale, prism over grating.
        common_scale: scatter of what all gratings of a source share [natural log].
        arm_scale: further scatter of each [natural log].
        scale_drift: change of the scale from an arm's middle to its ends [natural log].
        shift: zero point of an arm against the others' [km/s].
        width: median velocity width of the lines, one sigma [km/s].
        width_scatter: its scatter [natural log].
        sharpness: factor on the tabulated resolving power of the gratings [natural log].
        outliers: chance that an arm's scale or zero point is another than these say.
        outlier_scale: scatter of such a scale [natural log].
        outlier_shift: scatter of such a zero point [km/s].
        model_error: error of a line's profile as a share of its flux density.

    Raises:
        ValueError: for a number that is not positive, naming it.
    """

    scale: float = 1.13
    common_scale: float = 0.12
    arm_scale: float = 0.08
    scale_drift: float = 0.03
    shift: float = 20.0
    width: float = 70.0
    width_scatter: float = 0.6
    sharpness: float = 0.05
    outliers: float = 0.02
    outlier_scale: float = 0.7
    outlier_shift: float = 400.0
    model_error: float = 0.02

    def __post_init__(self) -> None:
        check_numbers(self, tuple(vars(self)))

    @property
    def scale_scatter(self) -> float:
        """Scatter of one arm's scale [natural log]."""
        return float(np.hypot(self.common_scale, self.arm_scale))


class NoJointLinesError(ValueError):
    """The model states no joint line errors, which gratings are joined with."""

    def __init__(self, text: str = ""):
        super().__init__(
            text
            or "gratings: this model states each line's error by itself; expected one with joint line "
            "errors, whose posterior of all fluxes gratings can add to. Give one that was trained with "
            'sr2.line_errors = "joint", as `kspecsr train` makes it'
        )


LINES = load_lines("second")


@cache
def free_lines() -> SharedFluxes:
    """The free fluxes of joint line errors: doublets that atomic physics fixes are one, others are two.

    Of the longest list: shorter ones begin it, and what a model lacks is not known.
    """
    return tied_lines(LINES, DENSITY_DOUBLETS)


@dataclass(frozen=True, eq=False)
class BroadPrior:
    """Broad components of permitted lines as the prism has them, if there are any: all of one width.

    Attributes:
        probability: chance that there are any.
        velocity: one-sigma width of all of them [km/s].
        spread: of its natural logarithm.
        share: (F,) of each flux that is expected in them; 0 of lines that can have none.
        scatter: (F,) one sigma of a broad flux about that [FLUX_UNIT]; 0 of lines that can have none.
    """

    probability: float
    velocity: float
    spread: float
    share: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, broad: BroadLines, flux: np.ndarray, known: np.ndarray, rows: np.ndarray) -> BroadPrior:
        """From a model's, of the free fluxes (F,) [FLUX_UNIT] that ``rows`` (f,) of its list tell."""
        able = np.nan_to_num(broad.broad_flux_error[rows]) > 0
        chance = float(np.clip(broad.probability, *_CHANCE))
        with np.errstate(invalid="ignore", divide="ignore"):
            stated = broad.broad_flux[rows] / (broad.broad_flux[rows] + broad.narrow_flux[rows])
            error = broad.broad_flux_error[rows] / broad.broad_flux[rows] * stated
        share, scatter = np.zeros(flux.size), np.zeros(flux.size)
        # the model's are averages over there being none
        share[known] = able * np.clip(np.nan_to_num(stated) / chance, *_SHARE)
        spread = np.hypot(np.minimum(np.nan_to_num(error, posinf=1.0), 1.0), _SHARE_SCATTER)
        scatter[known] = able * spread * np.maximum(flux[known], 0.0)
        able = np.flatnonzero(known)[able]
        scatter[able] = np.maximum(scatter[able], _LEAST_BROAD)
        spread = max(float(broad.fwhm_error / broad.fwhm), _WIDTH_SPREAD)
        return cls(chance, float(broad.fwhm) / FWHM_PER_SIGMA, spread, share, scatter)


@dataclass(frozen=True, eq=False)
class LinePrior:
    """Normal distribution of the F free line fluxes at a redshift, from the prism.

    Attributes:
        redshift: at which it holds.
        known: (F,) bool, whether the prism says anything of the flux; the others are not fitted.
        mean: (F,) [FLUX_UNIT]; 0 where unknown.
        covariance: (F, F) [FLUX_UNIT^2]; a unit diagonal where unknown.
        broad_share: (F,) of each flux in a broad component, where there probably are any; None for none.
        broad_width: one-sigma width of all of these [km/s].
        broad: what is known of such components before gratings are looked at; None of models without them.
    """

    redshift: float
    known: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    broad_share: np.ndarray | None = None
    broad_width: float = math.nan
    broad: BroadPrior | None = None

    @classmethod
    def of(cls, lines: LineMeasurements, redshift: float) -> LinePrior:
        """From the lines of a result with joint errors.

        Raises:
            NoJointLinesError: for a model that states each line's error by itself.
        """
        if lines.correlation is None:
            raise NoJointLinesError()
        free, flux, error = free_lines(), lines.flux, lines.flux_error
        reported = np.isfinite(flux) & np.isfinite(np.diagonal(lines.correlation)) & (error > 0)
        reported = np.pad(reported, (0, len(LINES) - reported.size))
        known, member = np.zeros(free.columns, bool), np.zeros(free.columns, int)
        share = np.ones(free.columns)
        for column, line, part in zip(free.column, free.line, free.share, strict=True):
            # any reported member tells the free flux: the stronger one, where it is there
            if reported[line] and (not known[column] or part > share[column]):
                known[column], member[column], share[column] = True, line, part
        rows = member[known]
        sigma = error[rows] / share[known] / FLUX_UNIT
        value, vector = np.linalg.eigh(lines.correlation[np.ix_(rows, rows)])
        correlation = (vector * np.maximum(value, _SMALLEST)) @ vector.T
        mean, covariance = np.zeros(free.columns), np.eye(free.columns)
        mean[known] = flux[rows] / share[known] / FLUX_UNIT
        covariance[np.ix_(known, known)] = correlation * sigma[:, None] * sigma
        broad, stated = lines.broad, None
        if broad is not None and np.isfinite([broad.probability, broad.fwhm, broad.fwhm_error]).all():
            stated = BroadPrior.of(broad, mean, known, rows)
        if broad is None or not broad.likely:
            return cls(float(redshift), known, mean, covariance, broad=stated)
        part = np.zeros(free.columns)
        part[known] = np.clip(np.nan_to_num(broad.broad_flux[rows] / flux[rows]), 0.0, 1.0)
        return cls(float(redshift), known, mean, covariance, part, broad.fwhm / FWHM_PER_SIGMA, stated)
