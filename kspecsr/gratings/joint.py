"""From prism spectra with their gratings to results: which redshift, the fit, the spectrum."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import FWHM_PER_SIGMA, SPEED_OF_LIGHT, reference_instrument
from data_pipeline.lines import list_of
from data_pipeline.pairs.preprocessing import separation
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.gratings.arm import Arm
from kspecsr.gratings.fit import fit_arms
from kspecsr.gratings.joint_fit import POOR_ARM, BroadFit, JointFit, disagreements
from kspecsr.gratings.priors import LINES, ArmPriors, LinePrior, free_lines
from kspecsr.gratings.redshift import REACH, VELOCITY, RedshiftScan, scan
from kspecsr.gratings.spectrum import join_spectra, posterior_bins
from kspecsr.results.arms import JointArms, Measured, velocity_between
from kspecsr.results.broad import BroadLines
from kspecsr.results.flags import (
    ARMS_DISAGREE,
    LEAST_CONFIDENCE,
    LOW_SN,
    NO_CLEAR_REDSHIFT,
    NO_COVERAGE,
    POOR_FIT,
)
from kspecsr.results.joint_lines import LEAST_SIGNAL
from kspecsr.results.lines import LIMIT_SIGMA, LineMeasurements
from kspecsr.results.prism_input import (
    PrismInput,
    display_name,
    model_of_prism,
    observed_spectrum,
    prism_chi_square,
    prism_input,
    stacked,
)
from kspecsr.results.redshift import RedshiftSummary
from kspecsr.results.resolver import Resolver, redshifts_of
from kspecsr.results.result import Result

MOST_MODES = 4  # of P(z) that the model is asked about
_LEAST_MASS = 0.01  # of a mode that is looked at
_FARTHEST = 1.0  # arcsec between positions in the headers of one source
_GIVEN = 300.0  # km/s, one sigma: of a redshift that the caller gave


@dataclass(frozen=True, eq=False)
class JointInput:
    """A prism spectrum with its gratings.

    Attributes:
        prism: on the pixels that the networks take.
        gratings: one or more medium gratings of the same source, one per disperser.
        redshift: near which lines are looked for; NaN to find it.
    """

    prism: PrismInput
    gratings: tuple[ObservedSpectrum, ...]
    redshift: float = float("nan")

    def __post_init__(self) -> None:
        names = [one.meta.disperser for one in self.gratings]
        if len(set(names)) != len(names) or not names:
            raise SpectrumError(
                f"{self.prism.observed.meta.origin}: expected one grating spectrum per disperser, got "
                f"{', '.join(names) or 'none'}; leave out all but one of each"
            )
        for one in self.gratings:
            if (apart := separation(self.prism.observed, one)) > _FARTHEST:
                raise SpectrumError(
                    f"{one.meta.origin}: lies {apart:.1f} arcsec from {self.prism.observed.meta.origin}; "
                    f"expected the same source, within {_FARTHEST:g} arcsec. Give the gratings of this prism."
                )


def join(
    resolver: Resolver,
    inputs: Sequence[JointInput],
    keep_flagged: bool = False,
    priors: ArmPriors | None = None,
) -> list[Result]:
    """Results of prism spectra with their gratings.

    The model is asked once for P(z), once at its other modes where there are any, and once at the redshift
    that prism and gratings agree on.

    Args:
        resolver: a model with joint line errors.
        inputs: prism spectra with gratings.
        keep_flagged: report lines of flagged spectra, too.
        priors: of the arms; None for the default.

    Raises:
        ValueError: for a model without joint line errors.
    """
    priors = priors or ArmPriors()
    prisms = [one.prism for one in inputs]
    first = resolver.resolve(prisms, [one.redshift for one in inputs], keep_flagged=True)
    arms = [[Arm(one) for one in _in_order(item.gratings)] for item in inputs]
    scans = _scanned(resolver, inputs, first, arms, priors)
    chosen = [max(some, key=lambda one: one.log_evidence) if some else None for some in scans]
    places = [
        _redshift_of(one) if one else result.redshift.value for one, result in zip(chosen, first, strict=True)
    ]
    second = resolver.resolve(prisms, places, keep_flagged=True)
    results: list[Result | _Without] = []
    for item, alone, at, some, best, own in zip(inputs, first, second, scans, chosen, arms, strict=True):
        if best is None:
            results.append(_Without("the prism gives neither redshift nor lines to start from"))
        else:
            results.append(_joined(item, alone, at, some, best, own, priors, keep_flagged))
    left = [number for number, one in enumerate(results) if isinstance(one, _Without)]
    if left:  # together: a batch of the networks costs the same for one
        own = resolver.resolve([prisms[number] for number in left], [inputs[n].redshift for n in left])
        for number, result in zip(left, own, strict=True):
            results[number] = results[number].noted(result, inputs[number])
    return results


def join_given(
    resolver: Resolver,
    spectra: Any,
    gratings: Sequence[Any],
    redshift: float | Sequence[float | None] | None = None,
    keep_flagged: bool = False,
    **reading: Any,
) -> Result | list[Result]:
    """One result, or a list, of what a caller may have.

    Args:
        resolver: a model with joint line errors.
        spectra: prism spectrum, or a list of them, as `kspecsr.results.resolver.Resolver` takes them.
        gratings: those of the spectrum; or a list of gratings for each of the list.
        redshift: near which lines are looked for, one for all or one for each; None or NaN to find it.
        keep_flagged: report lines of flagged spectra, too.
        **reading: of `kspecsr.results.prism_input.observed_spectrum`, for files.

    Raises:
        SpectrumError: for what cannot be read, or does not belong together, naming it.
        ValueError: for lists that do not match, or a model without joint line errors.
    """
    several = isinstance(spectra, list)
    prisms, beside = (spectra, list(gratings)) if several else ([spectra], [gratings])
    if len(prisms) != len(beside) or isinstance(gratings, str | os.PathLike):
        raise ValueError(
            f"gratings: expected a list of gratings, for each of {len(prisms)} spectra one where there are "
            f"several, got {len(beside)}; such as sr(prism, gratings=[g235m, g395m])"
        )
    places = redshifts_of(redshift, len(prisms))
    inputs = [
        JointInput(
            prism_input(observed_spectrum(prism, **reading)),
            tuple(observed_spectrum(one, reading.get("extraction", "3pix")) for one in some),
            float(place),
        )
        for prism, some, place in zip(prisms, beside, places, strict=True)
    ]
    results = join(resolver, inputs, keep_flagged)
    return results if several else results[0]


def _in_order(gratings: Sequence[ObservedSpectrum]) -> list[ObservedSpectrum]:
    return sorted(gratings, key=lambda one: one.wavelength[0])


def _redshift_of(found: RedshiftScan) -> float:
    return float((1.0 + found.prior.redshift) * (1.0 + found.velocity[0] / SPEED_OF_LIGHT) - 1.0)


def _scanned(resolver, inputs, first, arms, priors) -> list[list[RedshiftScan]]:
    """For each input the modes of P(z), or the given redshift, with the gratings' likelihood."""
    asked: list[tuple[int, float, float]] = []  # input, redshift, mass
    known: list[list[tuple[LinePrior, float]]] = [[] for _ in inputs]
    for number, (item, result) in enumerate(zip(inputs, first, strict=True)):
        place = result.redshift.value
        if NO_COVERAGE in result.flags or not np.isfinite(place):
            continue
        if np.isfinite(item.redshift):
            known[number].append((LinePrior.of(result.measurements, place), 1.0))
            continue
        modes = [mode for mode in result.redshift.modes if mode.mass > _LEAST_MASS][:MOST_MODES]
        for mode in modes:
            if mode.low <= place <= mode.high:
                known[number].append((LinePrior.of(result.measurements, place), mode.mass))
            else:
                asked.append((number, mode.redshift, mode.mass))
    answers = (
        resolver.resolve(
            [inputs[number].prism for number, _, _ in asked], [z for _, z, _ in asked], keep_flagged=True
        )
        if asked
        else []
    )
    for (number, place, mass), answer in zip(asked, answers, strict=True):
        known[number].append((LinePrior.of(answer.measurements, place), mass))
    return [
        [scan(own, prior, _density(item, result), mass, priors) for prior, mass in some if prior.known.any()]
        for item, result, own, some in zip(inputs, first, arms, known, strict=True)
    ]


def _density(item: JointInput, result: Result):
    """P(z) per unit of z of redshifts (G,)."""
    if np.isfinite(item.redshift):
        spread = _GIVEN / SPEED_OF_LIGHT * (1.0 + item.redshift)
        return lambda z: np.exp(-0.5 * ((z - item.redshift) / spread) ** 2)
    grid, density = result.redshift.grid, result.redshift.density
    return lambda z: np.interp(z, grid, density, left=0.0, right=0.0)


@dataclass(frozen=True)
class _Without:
    """A result that is the prism's own.

    Attributes:
        why: gratings are not in it.
        sentences: on what disagrees; none where that was not looked at.
    """

    why: str
    sentences: tuple[str, ...] = ()

    def noted(self, result: Result, item: JointInput) -> Result:
        """The prism's result with this in its notes."""
        names = ", ".join(one.meta.disperser for one in item.gratings)
        observed = result.observed.noted(f"{names} not used: {self.why}")
        for sentence in self.sentences:
            observed = observed.noted(f"arms disagree: {sentence}")
        if not self.sentences:
            return replace(result, observed=observed)
        kept = result.lines_kept or not result.flags
        return replace(result, observed=observed, flags=(*result.flags, ARMS_DISAGREE), lines_kept=kept)


_OTHER_SHAPES = (
    "they want another redshift than the prism, and are badly fitted there: their lines have other shapes"
)


def _joined(item, first, alone, scans, best, arms, priors, keep_flagged) -> Result | _Without:
    """The result of one spectrum.

    Args:
        item: prism and gratings.
        first: the prism's result by itself.
        alone: the same at the common redshift.
        scans: all modes that were looked at.
        best: of them, the one that holds.
        arms: the gratings.
        priors: of the arms.
        keep_flagged: report lines of flagged spectra, too.
    """
    masses = _masses(scans, first.redshift, np.isfinite(item.redshift))
    sure = any(curve.sure for curve in best.curves)
    confidence = float(masses[scans.index(best)])
    if not sure and np.isfinite(first.redshift.none):
        confidence *= 1.0 - first.redshift.none
    flags = list(alone.flags)  # but for those that a given redshift does not raise
    # at the prism's own redshift, if that is the same but for its zero point, its fit is judged
    fit_probability = alone.fit_probability
    shift = velocity_between(Measured(first.redshift.value, 0.0), Measured(alone.redshift.value, 0.0))
    if abs(shift.value) < REACH:
        fit_probability = float(np.fmax(fit_probability, first.fit_probability))
        flags = [flag for flag in flags if flag != POOR_FIT or flag in first.flags]
    if not np.isfinite(item.redshift) and not sure:
        flags += [LOW_SN] * (LOW_SN in first.flags)
    if not np.isfinite(item.redshift) and confidence < LEAST_CONFIDENCE:
        flags.append(NO_CLEAR_REDSHIFT)
    if flags and not keep_flagged:
        return _Without(f"with them, too, the spectrum is flagged {', '.join(flags)}")
    prior = LinePrior.of(alone.measurements, alone.redshift.value)
    if not prior.known.any():
        return _Without("the model reports no line there")
    fit = fit_arms(arms, prior, best, priors)
    sentences = tuple(disagreements(fit, priors))
    poor = any(arm.chi_square > POOR_ARM for arm in fit.arms)
    if poor and fit.refutes:
        return _Without(_OTHER_SHAPES, sentences)
    flags += [ARMS_DISAGREE] * bool(sentences)
    flux, error, source = join_spectra(alone, fit, prior)
    model = model_of_prism(flux, alone.mask, alone.model.grid)
    redshift = RedshiftSummary(
        value=fit.redshift.value,
        error=float(f"{fit.redshift.error:.10g}"),  # as files have room for
        confidence=confidence,
        given=False,
        bins=first.redshift.bins,
        probability=posterior_bins(first.redshift.bins, first.redshift.probability, scans, masses, VELOCITY),
        none=first.redshift.none,
    )
    return replace(
        alone,
        observed=_noted(alone.observed, fit, sentences),
        flux=flux,
        flux_error=error,
        redshift=redshift,
        measurements=joint_lines(alone, fit),
        chi_square=float(prism_chi_square(*stacked([item.prism]), model)[0]),
        prism_model=model,
        fit_probability=fit_probability,
        flags=tuple(flags),
        lines_kept=bool(flags),
        class_probability=first.class_probability,
        arms=JointArms(fit.arms, fit.prism, fit.width, source, sentences, item.redshift),
    )


def _masses(scans: Sequence[RedshiftScan], prism: RedshiftSummary, given: bool) -> np.ndarray:
    """(S + 1,) probabilities of the modes, and of all other redshifts, at which no line was looked for."""
    looked_at = (
        0.0 if given else sum(mode.mass for mode in prism.modes[:MOST_MODES] if mode.mass > _LEAST_MASS)
    )
    rest = 0.0 if given else max(1.0 - looked_at, 0.0)
    log = np.array([*(one.log_evidence for one in scans), np.log(max(rest, 1e-12))])
    weight = np.exp(log - log.max())
    return weight / weight.sum()


def joint_lines(alone: Result, fit: JointFit) -> LineMeasurements:
    """Lines of the joint fit in the list's order.

    What no grating changes keeps the model's presence; a line that one sees has the chance that its flux
    exceeds three of its errors.
    """
    before = alone.measurements
    lines = list_of(before.flux.size)
    tie = free_lines().matrix(len(LINES))[: len(lines)]  # (K, F)
    known = np.isfinite(fit.flux)
    mean = np.where(known, fit.flux, 0.0) @ tie.T
    covariance = tie @ np.where(np.isfinite(fit.covariance), fit.covariance, 0.0) @ tie.T
    reported = np.isfinite(before.flux) & (np.abs(tie) @ known > 0)
    own = np.sqrt(np.where(reported, np.diagonal(covariance), np.nan))
    worst = max(arm.chi_square for arm in fit.arms)
    # what a badly fitted arm says is known no better than it is described, and what the prism says as before
    stretched = np.sqrt(worst if worst > POOR_ARM else 1.0) * own
    error = np.minimum(stretched, np.maximum(own, before.flux_error))
    flux = np.maximum(mean, LEAST_SIGNAL * error)
    seen = reported & (np.abs(tie) @ fit.seen > 0)
    centre = lines.wavelength * (1.0 + fit.redshift.value)
    reference = reference_instrument(alone.model.grid)
    velocity = FWHM_PER_SIGMA * fit.width.value / SPEED_OF_LIGHT * centre
    with np.errstate(invalid="ignore", divide="ignore"):
        presence = np.where(seen, ndtr(np.nan_to_num(mean / error) - LIMIT_SIGMA), before.presence)
        width = before.equivalent_width * np.where(before.flux > 0, flux / before.flux, np.nan)
        correlation = covariance / own[:, None] / own
        share = before.prior_weight * (error / before.flux_error) ** 2
    # to float32, as networks and files have them
    flux, error, share = (np.float64(np.float32(values)) for values in (flux, error, share))
    return LineMeasurements(
        flux=flux,
        flux_error=error,
        wavelength=np.where(reported, centre, np.nan),
        fwhm=np.where(reported, np.hypot(reference.fwhm(centre), velocity), np.nan),
        equivalent_width=np.where(reported, width, np.nan),
        presence=np.where(reported, presence, 0.0),
        in_range=before.in_range & reported,
        prior_weight=np.where(reported, np.clip(share, 0.0, 1.0), np.nan),
        correlation=np.where(np.isfinite(correlation), np.clip(correlation, -1.0, 1.0), np.nan),
        broad=_divided(before, flux, fit.broad),
    )


def _divided(before: LineMeasurements, flux: np.ndarray, fit: BroadFit | None) -> BroadLines | None:
    """Narrow and broad components of fluxes (K,).

    As the gratings divide those that they see, averaged over there being none; others as the prism's model
    divides them.
    """
    if before.broad is None:
        return None
    factor = np.divide(flux, before.flux, out=np.ones_like(flux), where=before.flux > 0)
    names = ("narrow_flux", "narrow_flux_error", "broad_flux", "broad_flux_error")
    parts = {name: factor * getattr(before.broad, name) for name in names}
    parts["narrow_flux"] = flux - parts["broad_flux"]
    if fit is None:
        return replace(before.broad, **parts)
    free, chance = free_lines(), fit.probability
    number = np.full(free.columns, -1)
    number[fit.column] = np.arange(fit.column.size)
    own = (number[free.column] >= 0) & (free.line < flux.size)
    row, at, share = free.line[own], number[free.column[own]], free.share[own]
    own = np.isfinite(flux[row])
    row, at, share = row[own], at[own], share[own]
    mean = chance * fit.flux[at]
    spread = np.sqrt(chance * (fit.error[at] ** 2 + fit.flux[at] ** 2) - mean**2)
    parts["broad_flux"][row] = np.minimum(share * mean, flux[row])
    parts["broad_flux_error"][row] = share * spread
    parts["narrow_flux"][row] = flux[row] - parts["broad_flux"][row]
    parts["narrow_flux_error"][row] = share * np.hypot(
        fit.narrow_error[at], np.sqrt(chance * (1 - chance)) * fit.flux[at]
    )
    parts = {name: np.float64(np.float32(values)) for name, values in parts.items()}  # as above
    width = [float(np.float32(FWHM_PER_SIGMA * one)) for one in (fit.width.value, fit.width.error)]
    return replace(
        before.broad, probability=float(np.float32(chance)), fwhm=width[0], fwhm_error=width[1], **parts
    )


def _noted(observed: ObservedSpectrum, fit: JointFit, sentences: Sequence[str]) -> ObservedSpectrum:
    """The spectrum with notes on its gratings."""
    for arm in fit.arms:
        scale, shift = arm.scale, arm.shift
        text = (
            f"joined with {arm.name} ({display_name(arm.spectrum)}): prism over grating {scale.value:.2f} +- "
            f"{scale.error:.2f}, zero point {shift.value:+.0f} +- {shift.error:.0f} km/s"
        )
        text += f", {arm.left_out} wild pixels left out" if arm.left_out else ""
        observed = observed.noted("; ".join([text, *arm.spectrum.meta.notes]))
    offset = velocity_between(fit.prism, fit.redshift)
    observed = observed.noted(
        f"redshift of the prism alone {fit.prism.value:.5f} +- {fit.prism.error:.5f}: "
        f"{offset.value:+.0f} +- {offset.error:.0f} km/s from that of all arms"
    )
    for sentence in sentences:
        observed = observed.noted(f"arms disagree: {sentence}")
    return observed
