"""Simulated galaxies with their gratings, and what a prism might know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.instrument import GRATINGS, PRISM, SPEED_OF_LIGHT, load_instrument
from data_pipeline.lines.profile import line_sigma
from data_pipeline.simulation import SimulatedBatch
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.gratings.arm import Arm
from kspecsr.gratings.fit import fit_arms
from kspecsr.gratings.joint_fit import JointFit
from kspecsr.gratings.priors import FLUX_UNIT, LINES, ArmPriors, BroadPrior, LinePrior, free_lines
from kspecsr.gratings.redshift import scan

_PRISM_REDSHIFT = 5e-4  # error of the prism's 1 + z, over it, in a prior about the truth
_EXPECTED = 0.35  # scatter [natural log] of a flux about what galaxies of a kind have
_BROAD_CHANCE = 0.2
_BROAD_SHARE = (0.5, 0.3)  # of a permitted flux in its broad part, and scatter
_BROAD_WIDTH = (850.0, 0.4)  # km/s, one sigma, and how well the prism knows it [natural log]


@dataclass(frozen=True, eq=False)
class Case:
    """One simulated galaxy with its gratings.

    Attributes:
        redshift: true.
        flux: (F,) true free fluxes [erg/s/cm2].
        arms: the gratings.
        scale: (A,) true flux scale of each, prism over grating at its middle.
        shift: (A,) true zero point of each [km/s].
        row: of the batch.
        broad: (F,) true broad parts of the fluxes [erg/s/cm2].
        broad_width: their true velocity width, one sigma [km/s]; 0 without any.
    """

    redshift: float
    flux: np.ndarray
    arms: list[ObservedSpectrum]
    scale: np.ndarray
    shift: np.ndarray
    row: int
    broad: np.ndarray
    broad_width: float


def free_fluxes(line_flux: np.ndarray) -> np.ndarray:
    """(F,) free fluxes of true line fluxes (K,): those of the stronger lines."""
    free = free_lines()
    flux = np.zeros(free.columns)
    strongest = free.share == 1.0
    longest = np.pad(line_flux, (0, len(LINES) - len(line_flux)))
    flux[free.column[strongest]] = longest[free.line[strongest]]
    return flux


def narrow_galaxies(batch: SimulatedBatch) -> np.ndarray:
    """Rows of star-forming galaxies without broad lines or wings, which one width per line describes."""
    plain = batch.wing_line_flux.sum(axis=1) == 0
    return np.array([i for i, kind in enumerate(batch.kind) if kind == "star-forming" and plain[i]], int)


def broad_galaxies(batch: SimulatedBatch) -> np.ndarray:
    """Rows of galaxies with broad permitted lines, without wings."""
    plain = batch.wing_line_flux.sum(axis=1) == 0
    return np.flatnonzero(plain & (batch.broad_line_flux.sum(axis=1) > 0))


def cases(
    batch: SimulatedBatch, rows: Sequence[int], names: Sequence[str], rng: np.random.Generator, shift: float
) -> Iterator[Case]:
    """Galaxies with the named arms, each with a zero point of its own of scatter ``shift`` [km/s]."""
    for row in rows:
        arms, scales, shifts = [], [], []
        for name in names:
            spectra, wavelength = batch.gratings[name], batch.grating_wavelength[name]
            flux, error, mask = (getattr(spectra, key)[row] for key in ("flux", "error", "mask"))
            if mask.all():
                continue
            seen = wavelength[~mask]
            middle = 0.5 * (seen[0] + seen[-1])
            x = 2.0 * np.log(middle / 0.7) / np.log(5.3 / 0.7) - 1.0
            ratio = np.exp(batch.flux_ratio[row] @ np.array([1.0, x, x**2]))
            scales.append(ratio / batch.arm_scale[row, GRATINGS.index(name)])
            shifts.append(shift * rng.normal())
            stretch = 1.0 + shifts[-1] / SPEED_OF_LIGHT
            meta = SpectrumMeta(disperser=load_instrument(name).disperser, path=f"{name}.fits")
            arms.append(ObservedSpectrum(wavelength * stretch, flux / stretch, error / stretch, mask, meta))
        if arms:
            flux, broad = (free_fluxes(values[row]) for values in (batch.line_flux, batch.broad_line_flux))
            width = float(batch.broad_velocity_sigma[row])
            truth = flux, arms, np.array(scales), np.array(shifts), int(row), broad, width
            yield Case(float(batch.redshift[row]), *truth)


def prior_of_truth(case: Case, batch: SimulatedBatch, rng: np.random.Generator) -> tuple[LinePrior, Callable]:
    """Fluxes and P(z) of a prism that knows lines by its noise and by what galaxies are like, one by one."""
    redshift = case.redshift + _PRISM_REDSHIFT * (1.0 + case.redshift) * rng.normal()
    prism, free = load_instrument(PRISM), free_lines()
    centre = LINES.wavelength[free.line] * (1.0 + case.redshift)
    good = ~batch.prism_mask[case.row]
    error = np.interp(centre, prism.wavelength[good], batch.prism_error[case.row][good])
    width = np.sqrt(4.0 * np.pi) * line_sigma(prism, centre, 50.0) * 1e4  # Angstrom, of the matched filter
    isolated = error * np.sqrt(width * prism.pixel_width(centre) * 1e4) / FLUX_UNIT
    sigma = np.full(free.columns, np.inf)
    np.minimum.at(sigma, free.column, isolated / free.share)
    known = np.zeros(free.columns, bool)
    listed = free.line < batch.line_flux.shape[1]  # of the simulated galaxies
    known[free.column[listed & (centre > 0.75) & (centre < 5.25)]] = True
    drawn = free.column[listed].max() + 1
    normal = np.zeros((2, free.columns))
    normal[:, :drawn] = rng.normal(size=(2, drawn))
    truth = case.flux / FLUX_UNIT
    # as a network has it: what galaxies are like, lognormal about the truth, times what the prism measures
    guess = truth * np.exp(_EXPECTED * normal[0])
    variance = np.exp(_EXPECTED**2) * np.expm1(_EXPECTED**2) * guess**2 + (0.01 * sigma) ** 2
    precision = 1.0 / variance + sigma**-2.0
    measured = truth + sigma * normal[1]
    mean = (np.exp(0.5 * _EXPECTED**2) * guess / variance + measured / sigma**2) / precision
    covariance = np.diag(np.where(known, 1.0 / precision, 1.0))
    spread = _PRISM_REDSHIFT * (1.0 + case.redshift)

    def density(z: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((z - redshift) / spread) ** 2)

    mean, broad = np.where(known, mean, 0.0), prior_of_broad(case, batch, mean)
    return LinePrior(redshift, known, mean, covariance, broad=broad), density


def prior_of_broad(case: Case, batch: SimulatedBatch, mean: np.ndarray) -> BroadPrior:
    """What a prism might know of broad components: nothing of whether there are any, little of the rest."""
    rng = np.random.default_rng([case.row, 71])  # by itself, so that all else is drawn as without it
    middle, spread = _BROAD_WIDTH
    velocity = case.broad_width or float(np.exp(rng.normal(np.log(middle), spread)))
    able = free_fluxes((batch.broad_line_flux > 0).any(axis=0)) > 0
    share, scatter = _BROAD_SHARE
    return BroadPrior(
        _BROAD_CHANCE,
        velocity * float(np.exp(spread * rng.normal())) if case.broad_width else velocity,
        spread,
        share * able,
        able * np.maximum(scatter * mean, 0.01),
    )


def joined(case: Case, prior: LinePrior, density: Callable, priors: ArmPriors) -> JointFit:
    """The fit to a case."""
    arms = [Arm(one) for one in case.arms]
    return fit_arms(arms, prior, scan(arms, prior, density, 1.0, priors), priors)


def changed(case: Case, number: int, velocity: float = 0.0, factor: float = 1.0) -> Case:
    """The case with an arm moved in velocity [km/s] and multiplied."""
    arms, arm, stretch = list(case.arms), case.arms[number], 1.0 + velocity / SPEED_OF_LIGHT
    arms[number] = arm.replace(
        wavelength=arm.wavelength * stretch, flux=arm.flux * factor, error=arm.error * factor
    )
    scale, shift = case.scale.copy(), case.shift.copy()
    scale[number], shift[number] = scale[number] / factor, shift[number] + velocity
    return replace(case, arms=arms, scale=scale, shift=shift)
