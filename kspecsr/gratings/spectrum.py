"""The spectrum that prism and gratings make together, on the unified grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import legendre
from scipy.ndimage import median_filter

from data_pipeline.instrument import SPEED_OF_LIGHT, Instrument, reference_instrument
from data_pipeline.resampling import to_pixels
from kspecsr.gratings.joint_fit import JointFit
from kspecsr.gratings.priors import FLUX_UNIT, LinePrior, free_lines
from kspecsr.results.arms import SOURCES, ArmFit, place_in
from kspecsr.results.data import SpectrumResult

_DEGREE = 2  # of what an arm's continuum may differ by from the prism's, beside the scale
_CLIP = 4.0  # sigma of pixels that do not count for it
_COVERED = 0.5  # share of a pixel that good pixels of an arm must cover
_BETWEEN_LINES = 61  # pixels over which the error between lines is taken


def join_spectra(
    alone: SpectrumResult, fit: JointFit, prior: LinePrior
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux, error [erg/s/cm2/A] and source of each pixel (N,) of prism and gratings.

    Where a grating covers, the average of its pixels, brought to the prism's scale and the common redshift,
    and of the prism's super-resolution, by inverse variances. Elsewhere the prism's super-resolution with the
    lines as all arms together have them.

    Args:
        alone: result of the prism alone, at the common redshift.
        fit: the joint fit.
        prior: line fluxes of the prism, as they went into the fit.
    """
    reference = reference_instrument(alone.model.grid)
    known, share, width = prior.known, fit.broad_share, fit.broad.width.value if fit.broad else np.nan
    if fit.broad is None:  # nobody looked
        share, width = prior.broad_share, prior.broad_width

    def drawn(share: np.ndarray | None, width: float) -> np.ndarray:
        """Lines of unit flux (f, N), with a share (F,) of each in a broad component of a width [km/s]."""
        unit = free_lines().profiles(reference, fit.redshift.value, fit.width.value)
        if share is not None:
            unit += share[:, None] * (free_lines().profiles(reference, fit.redshift.value, width) - unit)
        return unit[known]

    lines = drawn(share, width)
    before = (prior.mean[known] * FLUX_UNIT) @ drawn(prior.broad_share, prior.broad_width)
    after = fit.flux[known]
    seen = np.flatnonzero(lines.any(axis=0))
    covariances = prior.covariance[np.ix_(known, known)] * FLUX_UNIT**2, fit.covariance[np.ix_(known, known)]
    lost = np.zeros(alone.wavelength.size)
    lost[seen] = np.einsum(
        "fn,fg,gn->n", lines[:, seen], covariances[0] - covariances[1], lines[:, seen], optimize=True
    )
    good = ~alone.mask
    quoted = np.where(good, alone.flux_error, np.nan)
    between = np.minimum(quoted, median_filter(np.where(good, quoted, np.nanmax(quoted)), _BETWEEN_LINES))
    error = np.sqrt(np.maximum(quoted**2 - np.maximum(lost, 0.0), between**2))
    flux = alone.continuum + after @ lines
    source = np.where(good, SOURCES["PRISM"], 0)

    arms = [_on_grid(arm, alone, reference) for arm in fit.arms]
    weight = np.zeros(flux.size)
    total = np.zeros(flux.size)
    for arm, (density, sigma, bad) in zip(fit.arms, arms, strict=True):
        share = np.where(bad | ~good, 0.0, 1.0 / np.where(bad, 1.0, sigma) ** 2)
        total += share * np.where(bad, 0.0, density)
        weight += share
        source = np.where(share > 0, source + SOURCES[arm.name], source)
    covered = weight > 0
    own = np.where(covered, quoted, 1.0) ** -2.0
    # the prism's lines without the gratings', whose pixels stand beside them
    sharp = alone.continuum + before
    joined = (total + own * np.where(covered, sharp, 0.0)) / (weight + own)
    return (
        np.where(covered, joined, flux),
        np.where(covered, (weight + own) ** -0.5, error),
        source.astype(np.int16),
    )


def _on_grid(arm: ArmFit, alone: SpectrumResult, reference: Instrument):
    """An arm's flux, error and mask (N,) on the prism's scale, at the common redshift."""
    stretch = 1.0 + arm.shift.value / SPEED_OF_LIGHT
    wavelength = arm.spectrum.wavelength / stretch
    place = place_in(arm.spectrum.wavelength, arm.span)
    scale = arm.scale.value * np.exp(arm.drift * place)
    flux = np.where(arm.good, arm.spectrum.flux, 0.0) * scale
    error = np.where(arm.good, arm.noise * arm.spectrum.error, 1.0) * scale
    there = ~alone.mask & np.isfinite(alone.continuum)
    if there.any():
        continuum = np.interp(wavelength, alone.wavelength[there], alone.continuum[there])
        spread = np.interp(wavelength, alone.wavelength[there], alone.flux_error[there])
        flux = flux + _offset(
            continuum - (flux - arm.lines * scale), np.hypot(error, spread), place, arm.good
        )
    return to_pixels(wavelength, flux, error, ~arm.good, reference.wavelength, _COVERED)


def _offset(difference: np.ndarray, error: np.ndarray, place: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Low-order polynomial (n,) through differences of continua, wild pixels left out."""
    use = good.copy()
    columns = legendre.legvander(place, _DEGREE)
    fitted = np.zeros(difference.size)
    for _ in range(3):
        if use.sum() <= 10 * (_DEGREE + 1):
            return np.zeros(difference.size)
        rows = columns[use] / error[use, None]
        coefficient = np.linalg.lstsq(rows, difference[use] / error[use], rcond=None)[0]
        fitted = columns @ coefficient
        use = good & (np.abs(difference - fitted) < _CLIP * error)
    return fitted


def posterior_bins(
    bins: np.ndarray, probability: np.ndarray, scans: Sequence, masses: Sequence[float], velocity: np.ndarray
) -> np.ndarray:
    """(Z,) probability of each bin of ln(1 + z), of the prism's and what the gratings say around its modes.

    Args:
        bins: (Z,) ln(1 + z), evenly spaced.
        probability: (Z,) of the prism.
        scans: modes that were looked at, with ``prior.redshift`` and ``density`` (G,) at ``velocity``.
        masses: (S + 1,) probability of each, and of everything else.
        velocity: (G,) [km/s].
    """
    edges = np.append(bins - 0.5 * (bins[1] - bins[0]), bins[-1] + 0.5 * (bins[1] - bins[0]))
    rest, joint = probability.copy(), np.zeros(bins.size)
    for one, mass in zip(scans, masses, strict=False):
        place = np.log1p(one.prior.redshift) + np.log1p(velocity / SPEED_OF_LIGHT)
        rest[(bins > place[0]) & (bins < place[-1])] = 0.0
        joint += mass * np.histogram(place, edges, weights=one.density / one.density.sum())[0]
    if rest.sum() > 0:
        joint += masses[-1] * rest / rest.sum()
    return joint / max(joint.sum(), 1e-300)
