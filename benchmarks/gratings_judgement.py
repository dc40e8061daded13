"""What gratings add to the prism, on simulated galaxies: pulls, errors, arms that disagree, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gratings import (
    Case,
    broad_galaxies,
    cases,
    changed,
    joined,
    narrow_galaxies,
    prior_of_truth,
)
from data_pipeline.instrument import GRATINGS, SPEED_OF_LIGHT, load_instrument
from data_pipeline.lines.least_squares import inverse
from data_pipeline.simulation import SimulatedBatch, SimulationConfig, simulate_batch
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.gratings.arm import Arm
from kspecsr.gratings.joint import JointInput, join
from kspecsr.gratings.joint_fit import BroadFit, JointFit, disagreements
from kspecsr.gratings.priors import FLUX_UNIT, LINES, ArmPriors, LinePrior, free_lines
from kspecsr.results.arms import ArmFit, Measured
from kspecsr.results.prism_input import prism_input
from kspecsr.results.resolver import Resolver

_TELLING, _SCALE_TOLD = 15.0, 0.1  # S/N of all lines of an arm that tell its zero point; error of a scale
_SURE = 3.0  # S/N of lines whose errors are compared
_RATIOS = {
    "[N II]/Halpha": (("[NII]_6585",), ("Halpha",)),
    "[S II]/Halpha": (("[SII]_6718", "[SII]_6733"), ("Halpha",)),
    "[S II] 6718/6733": (("[SII]_6718",), ("[SII]_6733",)),
}


@dataclass(frozen=True, eq=False)
class Judged:
    """A case as it was fitted, with the prism alone.

    Attributes:
        case: the truth.
        redshift: of all arms.
        flux, covariance: (F,) and (F, F) of all arms; NaN where not reported.
        before, before_covariance: the same of the prism alone.
        seen: (F,) bool, on good pixels of an arm.
        arms: the gratings.
        disagreements: sentences.
        seconds: that it took.
        broad: components of lines; None where they were not looked for.
    """

    case: Case
    redshift: Measured
    flux: np.ndarray
    covariance: np.ndarray
    before: np.ndarray
    before_covariance: np.ndarray
    seen: np.ndarray
    arms: tuple[ArmFit, ...]
    disagreements: tuple[str, ...]
    seconds: float
    broad: BroadFit | None = None


def judged_with_truth(case: Case, batch: SimulatedBatch, rng: np.random.Generator) -> Judged:
    """A case with a prior about its truth."""
    prior, density = prior_of_truth(case, batch, rng)
    started, priors = time.perf_counter(), ArmPriors()
    fit = joined(case, prior, density, priors)
    seconds = time.perf_counter() - started
    return _of_fit(case, fit, prior, tuple(disagreements(fit, priors)), seconds)


def _of_fit(
    case: Case, fit: JointFit, prior: LinePrior, sentences: tuple[str, ...], seconds: float
) -> Judged:
    unknown = np.where(prior.known, 1.0, np.nan)
    before = prior.mean * FLUX_UNIT * unknown, prior.covariance * FLUX_UNIT**2 * np.outer(unknown, unknown)
    found = fit.redshift, fit.flux, fit.covariance
    return Judged(case, *found, *before, fit.seen, fit.arms, sentences, seconds, fit.broad)


def judge_with_model(resolver: Resolver, batch: SimulatedBatch, some: Sequence[Case]) -> Iterator[Judged]:
    """Cases as a model with joint line errors and the gratings have them; flagged ones are left out."""
    priors = ArmPriors()
    for case in some:
        wavelength, flux, error, mask = batch.released[case.row]
        prism = prism_input(ObservedSpectrum(wavelength, flux, error, mask, SpectrumMeta(disperser="PRISM")))
        started = time.perf_counter()
        (result,) = join(resolver, [JointInput(prism, tuple(case.arms))], priors=priors)
        seconds = time.perf_counter() - started
        if result.arms is None:
            continue
        (alone,) = resolver.resolve([prism], [result.redshift.value], keep_flagged=True)
        prior = LinePrior.of(alone.measurements, result.redshift.value)
        after = LinePrior.of(result.measurements, result.redshift.value)
        redshift = Measured(result.redshift.value, result.redshift.error)
        seen = prior.known & after.known
        covered = np.any([Arm(one).covered(redshift.value, 100.0) for one in case.arms], axis=0)
        fit = JointFit(
            redshift,
            result.arms.prism,
            np.where(after.known, after.mean * FLUX_UNIT, np.nan),
            np.where(np.outer(after.known, after.known), after.covariance * FLUX_UNIT**2, np.nan),
            seen & covered,
            result.arms.width,
            0.0,
            result.arms.arms,
        )
        yield _of_fit(case, fit, prior, result.arms.disagreements, seconds)


def report(judged: Sequence[Judged], label: str) -> Iterator[str]:
    """Pulls, errors and ratios of some cases, in lines of text."""
    stretch = np.array([SPEED_OF_LIGHT / (1.0 + one.case.redshift) for one in judged])
    error = np.array([one.redshift.error for one in judged])
    away = np.array([one.redshift.value - one.case.redshift for one in judged])
    right = np.abs(away * stretch) < 3000.0
    yield (
        f"{label}: {len(judged)} galaxies, redshift right to 0.01 in {right.mean():.1%}; z "
        f"{_pull(away / error)}, error {np.median(error * stretch):.0f} km/s (median)"
    )
    sigma = [np.sqrt(np.diagonal(one.covariance)) for one in judged]
    pulls = [((one.flux - one.case.flux) / s)[one.seen] for one, s in zip(judged, sigma, strict=True)]
    signal = [(one.flux / s)[one.seen] for one, s in zip(judged, sigma, strict=True)]
    pulls, signal = np.concatenate(pulls), np.concatenate(signal)
    for low, high in ((-np.inf, 3.0), (3.0, 10.0), (10.0, np.inf)):
        inside = (signal > low) & (signal <= high)
        yield f"{label}: fluxes at S/N {low:g} to {high:g}: {_pull(pulls[inside])}"
    for what in ("scale", "shift"):
        parts = [
            (getattr(arm, what).value - truth) / getattr(arm, what).error
            for one in judged
            for arm, truth in zip(one.arms, getattr(one.case, what), strict=True)
        ]
        own = _truths(judged, what)
        yield f"{label}: {what}s {_pull(np.array(parts))}; truths scatter by {_width(own):.2f} of the prior"
    yield from _gain(judged, sigma, label)
    for name, (over, under) in _RATIOS.items():
        if (text := _ratio(judged, over, under)) is not None:
            yield f"{label}: {name}: {text}"
    rate = len(judged) / sum(one.seconds for one in judged)
    yield f"{label}: {rate:.1f} galaxies/s, one process"


def _truths(judged: Sequence[Judged], what: str) -> np.ndarray:
    """True scales or zero points in prior sigmas: what an arm does not tell has pulls as wide as these."""
    priors, truths = ArmPriors(), np.concatenate([getattr(one.case, what) for one in judged])
    if what == "scale":
        return np.log(truths / priors.scale) / priors.scale_scatter
    return truths / priors.shift


def _gain(judged: Sequence[Judged], sigma: Sequence[np.ndarray], label: str) -> Iterator[str]:
    """Errors of all arms against those of the prism, and of the gratings alone on the prism's scale."""
    prism, grating = [], []
    for one, own in zip(judged, sigma, strict=True):
        before = np.sqrt(np.diagonal(one.before_covariance))
        rows = np.flatnonzero(one.seen & (one.flux > _SURE * own))
        prism += list(own[rows] / before[rows])
        alone = _gratings_alone(one)
        rows = rows[np.isfinite(alone[rows])]
        grating += list(own[rows] / alone[rows])
    prism, grating = np.array(prism), np.array(grating)
    yield (
        f"{label}: errors of {prism.size} lines of S/N > {_SURE:g} over the prism's {np.median(prism):.2f}, "
        f"largest {prism.max(initial=0.0):.2f}; over the "
        f"gratings' on the prism's scale {np.median(grating):.2f}, larger in {np.mean(grating > 1.02):.1%}"
    )


def _gratings_alone(one: Judged) -> np.ndarray:
    """(F,) errors of the gratings by themselves at the true redshift, the scale's prior scatter in them."""
    fitted = []
    for spectrum in one.case.arms:
        arm = Arm(spectrum)
        at = arm.profiles(one.case.redshift, 60.0, 0.0, np.arange(free_lines().line.size))
        row, count = at.column, one.seen.size
        columns = arm.drawn(row, at.index, at.density * at.share[:, None], count)
        normal, left, _ = arm.normal_equations(columns, np.zeros(columns.shape[1]))
        fitted.append((normal, left))
    normal, left = (sum(parts) for parts in zip(*fitted, strict=True))
    own = np.diagonal(normal) > 1e-12
    error = np.full(own.size, np.nan)
    fit = inverse(normal[np.ix_(own, own)])
    flux = fit @ left[own]
    priors = ArmPriors()
    error[own] = np.hypot(np.sqrt(np.diagonal(fit)), priors.scale_scatter * flux) * priors.scale * FLUX_UNIT
    return error


def _line_signal(arm: ArmFit) -> float:
    """S/N of all lines of an arm together."""
    signal = arm.lines / (arm.noise * arm.spectrum.error)
    return float(np.sqrt(np.sum(signal[arm.good] ** 2)))


def _ratio(judged: Sequence[Judged], over: Sequence[str], under: Sequence[str]) -> str | None:
    """Scatter of the logarithm of a ratio about the truth, and its pulls, of all arms and of the prism."""
    top, bottom = (_rows(names) for names in (over, under))
    parts = {"all arms": [], "prism": []}
    for one in judged:
        if not one.seen[[*top, *bottom]].all():
            continue
        pairs = {"all arms": (one.flux, one.covariance), "prism": (one.before, one.before_covariance)}
        truth = one.case.flux[top].sum() / one.case.flux[bottom].sum()
        if not 0 < truth < np.inf or one.flux[bottom].sum() < 5 * np.sqrt(_variance(one.covariance, bottom)):
            continue
        for name, (flux, covariance) in pairs.items():
            a, b = flux[top].sum(), flux[bottom].sum()
            gradient = np.zeros(flux.size)
            gradient[top], gradient[bottom] = 1.0 / b, -a / b**2
            rows = [*top, *bottom]
            part = covariance[np.ix_(rows, rows)]
            error = np.sqrt(gradient[rows] @ part @ gradient[rows])
            parts[name].append((a / b - truth, error))
    if len(parts["prism"]) < 5:
        return None
    texts = []
    for name, values in parts.items():
        away, error = np.array(values).T
        texts.append(
            f"{name} off by {_width(away):.4f}, stated {np.median(error):.4f}, {_pull(away / error)}"
        )
    return f"{len(parts['prism'])} galaxies; " + "; ".join(texts)


def broad_report(judged: Sequence[Judged], label: str) -> Iterator[str]:
    """Chances of broad components, their width and flux in Halpha beside the truth."""
    asked = [one for one in judged if one.broad is not None]
    (halpha,) = _rows(["Halpha"])
    for what, some in (
        ("with broad lines", [one for one in asked if one.case.broad_width]),
        ("without", [one for one in asked if not one.case.broad_width]),
    ):
        if not some:
            continue
        chance = np.array([one.broad.probability for one in some])
        yield (
            f"{label}: {len(some)} galaxies {what}: chance of them above 0.5 in {np.mean(chance > 0.5):.0%}, "
            f"above 0.9 in {np.mean(chance > 0.9):.0%}, median {np.median(chance):.3f}"
        )
        found = [one for one in some if one.broad.likely and one.case.broad_width]
        if not found:
            continue
        ratio = np.array([np.log(one.broad.width.value / one.case.broad_width) for one in found])
        error = np.array([one.broad.width.error / one.broad.width.value for one in found])
        yield (
            f"{label}: width of {len(found)} that were found over the truth {np.exp(np.median(ratio)):.2f} "
            f"+- {_width(ratio):.2f}, {_pull(ratio / error)}"
        )
        at = [np.flatnonzero(one.broad.column == halpha) for one in found]
        pairs = [(one.broad, int(i[0]), one.case) for one, i in zip(found, at, strict=True) if i.size]
        if pairs:
            true = np.array([case.broad[halpha] for _, _, case in pairs])
            flux, error = (np.array([getattr(b, n)[i] for b, i, _ in pairs]) for n in ("flux", "error"))
            off = (flux - true) / np.array([case.flux[halpha] for _, _, case in pairs])
            yield (
                f"{label}: broad Halpha of {true.size} off by {np.median(off):+.3f} +- {_width(off):.3f} of "
                f"the line, {_pull((flux - true) / error)}"
            )


def _variance(covariance: np.ndarray, rows: Sequence[int]) -> float:
    return float(covariance[np.ix_(rows, rows)].sum())


def _rows(names: Sequence[str]) -> list[int]:
    free, lines = free_lines(), LINES
    return [int(free.column[np.flatnonzero(free.line == lines.index(name))[0]]) for name in names]


def _width(values: np.ndarray) -> float:
    """Half of the central 68 %."""
    low, high = np.percentile(values, [16, 84])
    return float(0.5 * (high - low))


def _pull(values: np.ndarray) -> str:
    if not values.size:
        return "none"
    return (
        f"pull {np.median(values):+.2f} +- {_width(values):.2f}, known to {values.size**-0.5:.2f} "
        f"(beyond 4 sigma {np.mean(np.abs(values) > 4):.1%}, n {values.size})"
    )


def disagreement_report(
    some: Sequence[Case], judge: Callable[[Sequence[Case]], Iterator[Judged]]
) -> Iterator[str]:
    """Arms that were shifted by 300 km/s or doubled: found, reported, not averaged in."""
    plain = list(judge(some))
    for what, velocity, factor in (("shifted by 300 km/s", 300.0, 1.0), ("doubled", 0.0, 2.0)):
        # where lines are good enough to tell: in all arms for zero points, in the prism for scales
        able = [
            one.case
            for one in plain
            if min(map(_line_signal, one.arms)) > _TELLING
            and one.arms[-1].scale.error < _SCALE_TOLD * one.arms[-1].scale.value
        ]
        after = list(judge([changed(case, len(case.arms) - 1, velocity, factor) for case in able]))
        if not after:
            continue
        named = [any(one.arms[-1].name in text for text in one.disagreements) for one in after]
        shift = np.array([one.arms[-1].shift.value - one.case.shift[-1] for one in after])
        scale = np.array([one.arms[-1].scale.value / one.case.scale[-1] for one in after])
        away = np.array([(one.redshift.value - one.case.redshift) / one.redshift.error for one in after])
        yield (
            f"reddest of {len(after[0].arms)} arms {what}: {len(after)} galaxies, named in "
            f"{np.mean(named):.0%}; its zero point off by {np.median(shift):+.0f} +- {_width(shift):.0f} "
            f"km/s, its scale by {np.median(scale) - 1:+.1%} +- {_width(scale):.1%}; z {_pull(away)}"
        )
    named = np.mean([bool(one.disagreements) for one in plain])
    yield f"unchanged: {len(plain)} galaxies, something named in {named:.1%}"


def compare(n: int, seed: int, population: str, resolver: Resolver | None) -> Iterator[str]:
    """The whole report, of galaxies with one, two and three arms.

    Args:
        n: galaxies that are simulated; of them narrow-lined star-forming ones count.
        seed: of the simulation.
        population: name of it.
        resolver: model whose line posterior is the prior; None for one about the truth.
    """
    batch = simulate_batch(np.arange(n), seed, SimulationConfig(population))
    rows, shift = narrow_galaxies(batch), ArmPriors().shift

    nuclei = simulate_batch(np.arange(n // 2), seed, SimulationConfig("wide-sky"))  # many have broad lines

    def judge(some: Sequence[Case], batch: SimulatedBatch = batch) -> Iterator[Judged]:
        if resolver is not None:
            return judge_with_model(resolver, batch, some)
        rng = np.random.default_rng(seed)
        return (judged_with_truth(case, batch, rng) for case in some)

    for names in (GRATINGS[2:], GRATINGS[1:], GRATINGS):
        some = list(cases(batch, rows, names, np.random.default_rng(seed), shift))
        label = "+".join(load_instrument(name).disperser for name in names)
        judged = list(judge(some))
        yield from report(judged, label)
        yield from broad_report(judged, label)
        wide = cases(nuclei, broad_galaxies(nuclei), names, np.random.default_rng(seed), shift)
        yield from broad_report(list(judge(list(wide), nuclei)), label)
        if len(names) > 1:
            full = [case for case in some if len(case.arms) == len(names)]
            yield from disagreement_report(full, judge)
