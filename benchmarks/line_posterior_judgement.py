"""What joint distributions of line fluxes are worth: errors, likelihood, pulls of lines, sums and ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from scipy.special import gammainc, ndtr, ndtri

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.profile import render_lines
from kspecsr import losses
from kspecsr.layers.line_posterior import free_fluxes
from kspecsr.measures.estimate import robust_scatter
from kspecsr.measures.lines import tied_columns
from kspecsr.results.joint_lines import draw_fluxes

_LINES = len(load_lines())
_SAMPLES = 400
_BATCH = 64
_STRONG = 5.0  # isolated S/N of lines whose scatter is judged
# What is judged beside single lines: names of what is added up, over what.
SUMS = {
    "Halpha + [N II]": ("Halpha", "[NII]_6585", "[NII]_6550"),
    "[O II]": ("[OII]_3727", "[OII]_3730"),
    "[S II]": ("[SII]_6718", "[SII]_6733"),
    "[O III] + Hbeta": ("[OIII]_5008", "[OIII]_4960", "Hbeta"),
}
RATIOS = {
    "[N II] / Halpha": (("[NII]_6585",), ("Halpha",)),
    "[O III] / Hbeta": (("[OIII]_5008",), ("Hbeta",)),
    "Halpha / Hbeta": (("Halpha",), ("Hbeta",)),
    "O32": (("[OIII]_5008",), SUMS["[O II]"]),
}
LINES = ("[OIII]_5008", "Halpha", "Hbeta", "[NII]_6585", "[SII]_6718", "[NeIII]_3870", "[OII]_3730")


@dataclass(frozen=True, eq=False)
class Judged:
    """What one way says of n galaxies, in isolated errors of each free flux.

    Attributes:
        mean, sigma: (n, F) of each flux by itself.
        samples: (n, S, K) float32 of all lines, in 1e-20 erg/s/cm2.
        nll, marginal_nll: mean negative log density per free flux, together and each by itself.
        milliseconds: per spectrum of inference.
    """

    mean: np.ndarray
    sigma: np.ndarray
    samples: np.ndarray
    nll: float
    marginal_nll: float
    milliseconds: float


@dataclass(frozen=True, eq=False)
class Truth:
    """Held-out galaxies as the judge needs them.

    Attributes:
        flux: (n, K) true fluxes, 1e-20 erg/s/cm2.
        known: (n, K) in range of the network.
        free: (n, F) true free fluxes in isolated errors, that is, the isolated S/N.
        use: (n, F) in range.
        fit: (n, K) fluxes of plain least squares.
    """

    flux: np.ndarray
    known: np.ndarray
    free: np.ndarray
    use: np.ndarray
    fit: np.ndarray


def outputs_of(network: keras.Model, x: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    """Outputs for all galaxies, and milliseconds per spectrum, the first batch left out."""
    parts, times, n = [], [], len(x["redshift"])
    for start in range(0, n - n % _BATCH, _BATCH):
        begun = time.perf_counter()
        parts.append(network.predict_on_batch({k: v[start : start + _BATCH] for k, v in x.items()}))
        times.append(time.perf_counter() - begun)
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return found, 1e3 * float(np.median(times[1:])) / _BATCH


def truth_of(found: Mapping[str, np.ndarray], data: Mapping[str, np.ndarray]) -> Truth:
    """Truth in the units of a network's outputs."""
    tie, _ = free_fluxes(_LINES)
    n = len(found["unit"])
    known = data["line_known"][:n].astype(float)
    free = (data["line_flux"][:n] * known) @ tie / np.maximum(known @ tie**2, 1e-12) / found["unit"]
    use = (found["in_range"] > 0) & (known @ tie > 0)
    fit = (found["start"] * found["unit"]) @ tie.T
    return Truth(data["line_flux"][:n], (known > 0) & (use @ tie.T > 0), free, use, fit)


def judge(found: Mapping[str, np.ndarray], truth: Truth, linear: bool, milliseconds: float) -> Judged:
    """Densities and samples of one way; ``linear`` where it is normal in the flux, else in its arcsinh."""
    tie, _ = free_fluxes(_LINES)
    n, free_count = truth.free.shape
    mean, covariance = found["mean"].astype(float), found["covariance"].astype(float)
    sigma = np.sqrt(np.einsum("bii->bi", covariance))
    target = truth.free if linear else np.arcsinh(truth.free)
    # density of the flux, whatever the number that is normal
    jacobian = 0.0 if linear else np.mean(0.5 * np.log1p(truth.free[truth.use] ** 2))
    arrays = (target, 0.0 * target, truth.use, mean)
    use = truth.use.astype("float32")
    together = [
        float(losses.joint_nll(*(a[b : b + _BATCH].astype("float32") for a in (*arrays, covariance))))
        * use[b : b + _BATCH].sum()
        for b in range(0, n, _BATCH)
    ]
    off = ((target - mean) / sigma)[truth.use]
    alone = np.mean(0.5 * off**2 + np.log(sigma[truth.use])) + losses.HALF_LOG_TWO_PI
    samples = np.empty((n, _SAMPLES, tie.shape[0]), np.float32)
    rng = np.random.default_rng(1)
    for row in range(n):
        normal = rng.normal(size=(_SAMPLES, free_count))
        if linear:
            drawn = draw_fluxes(mean[row], covariance[row], normal)
        else:
            factor = np.linalg.cholesky(covariance[row])
            drawn = np.maximum(np.sinh(mean[row] + normal @ factor.T), 0.0)
        samples[row] = (drawn * found["unit"][row]) @ tie.T
    if not linear:  # moments of the flux by the delta method
        mean, sigma = np.sinh(mean), np.cosh(mean) * sigma
    nll = sum(together) / use.sum() + jacobian
    return Judged(mean, sigma, samples, float(nll), float(alone + jacobian), milliseconds)


def _rank_pull(samples: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Normal number of the truth's rank among samples (n, S)."""
    below = (samples < true[:, None]).sum(axis=1) + 0.5 * (samples == true[:, None]).sum(axis=1)
    return ndtri((below + 0.5) / (samples.shape[1] + 1.0))


def _row(values: Sequence[float], form: str = "{:.3f}") -> str:
    return "  ".join(f"{form.format(value):>12}" for value in values)


def table(arms: Mapping[str, Judged], truth: Truth) -> Iterator[str]:
    """Lines of the table: one column per way."""
    yield f"{'':<64}" + "  ".join(f"{name:>12}" for name in ("least sq.", *arms))
    yield f"{'negative log-likelihood per line':<64}" + _row([np.nan, *(a.nll for a in arms.values())])
    yield f"{'the same, each line by itself':<64}" + _row([np.nan, *(a.marginal_nll for a in arms.values())])
    yield f"{'inference, ms per spectrum':<64}" + _row([np.nan, *(a.milliseconds for a in arms.values())])
    index = load_lines().index
    snr = truth.free @ free_fluxes(_LINES)[0].T
    yield "scatter of flux over truth, isolated S/N > 5"
    for name, names in {**{n: (n,) for n in LINES}, **SUMS}.items():
        rows = [index(one) for one in names]
        good = truth.known[:, rows].all(axis=1) & (snr[:, rows].max(axis=1) > _STRONG)
        true = truth.flux[:, rows].sum(axis=1)[good]
        values = [truth.fit[:, rows].sum(axis=1)[good]]
        values += [np.median(a.samples[good][:, :, rows].sum(axis=2), axis=1) for a in arms.values()]
        yield f"  {name + f' (n {good.sum()})':<62}" + _row([robust_scatter(v / true) for v in values])
    yield "pull: median, scatter; at stated S/N 3-300, ratios where what they are over has it"
    for low, high in ((3, 10), (10, 30), (30, 300)):
        chosen = [truth.use & (a.mean >= low * a.sigma) & (a.mean < high * a.sigma) for a in arms.values()]
        yield _pulls(
            f"lines of S/N {low}-{high}",
            [((truth.free - a.mean) / a.sigma)[c] for a, c in zip(arms.values(), chosen, strict=True)],
        )
    for name, over, under in (
        *((n, s, None) for n, s in SUMS.items()),
        *((n, *r) for n, r in RATIOS.items()),
    ):
        yield _pulls(name, [_ranks(a, truth, over, under) for a in arms.values()])
    yield from _faint(arms, truth)


def _ranks(arm: Judged, truth: Truth, over: Sequence[str], under: Sequence[str] | None) -> np.ndarray:
    """Pulls of a sum or a ratio of sums by the ranks of the truth among samples."""
    parts = []
    for names in (over, under):
        if names is not None:
            rows = [load_lines().index(one) for one in names]
            seen = truth.known[:, rows].all(axis=1)
            parts.append((arm.samples[:, :, rows].sum(axis=2), truth.flux[:, rows].sum(axis=1), seen))
    drawn, true, seen = parts[-1]
    low, value, high = np.quantile(drawn, (0.16, 0.5, 0.84), axis=1)
    signal = value / np.maximum(0.5 * (high - low), 1e-12)
    good = np.logical_and.reduce([part[2] for part in parts]) & (signal > 3.0) & (signal < 300.0) & (true > 0)
    if under is not None:
        drawn, true = parts[0][0] / np.maximum(drawn, 1e-12), parts[0][1] / np.where(true > 0, true, 1.0)
    return _rank_pull(drawn[good], true[good])


def _pulls(name: str, pulls: Sequence[np.ndarray]) -> str:
    text = [f"{np.median(p):+.2f} {robust_scatter(p):.2f}" if p.size else "-" for p in pulls]
    what = f"{name} (n {', '.join(str(p.size) for p in pulls)})"
    return f"  {what:<62}{'':>12}  " + "  ".join(f"{t:>12}" for t in text)


def _faint(arms: Mapping[str, Judged], truth: Truth) -> Iterator[str]:
    """Share of true fluxes within central 68 and 95 % intervals, by the stated S/N of faint lines."""
    yield "faint lines: share within 68 %, 95 %, below the 95 % limit; by stated S/N"
    for low, high in ((-10.0, 0.3), (0.3, 1.0), (1.0, 3.0), (3.0, 10.0)):
        for kind in ("normal", "non-negative"):
            text, count = [], []
            for arm in arms.values():
                signal = arm.mean / arm.sigma
                chosen = truth.use & (signal >= low) & (signal < high)
                place = (truth.free / arm.sigma)[chosen]
                m = signal[chosen]
                if kind == "normal":
                    rank = ndtr(place - m)
                else:
                    m = np.maximum(m, 0.3)
                    rank = gammainc(m**2, np.maximum(place, 0.0) * m)
                if not m.size:
                    text.append("-")
                    continue
                inside = [np.mean(np.abs(rank - 0.5) < half) for half in (0.34, 0.475)]
                count.append(m.size)
                text.append("{:.2f} {:.2f} {:.2f}".format(*inside, np.mean(rank < 0.95)))
            what = f"S/N {low:g} to {high:g}, {kind} (n {', '.join(map(str, count))})"
            yield f"  {what:<62}{'':>12}  " + "  ".join(f"{t:>12}" for t in text)


def responses(
    predict: Callable, x: Mapping[str, np.ndarray], truth: Truth
) -> Iterator[tuple[str, int, float]]:
    """Share of a doubled line's flux that the answer follows, by the S/N of the change.

    The prism gets what doubling the line (and its tied partner) adds, the noise stays.
    """
    instrument, index = load_instrument(PRISM), load_lines().index
    n, snr = len(truth.flux), truth.free @ free_fluxes(_LINES)[0].T
    before = predict(x)
    for name in ("[NII]_6585", "Hbeta", "[SII]_6718"):
        rows = tied_columns(name) if name != "[SII]_6718" else [index(name)]
        k = index(name)
        centre = load_lines().wavelength[rows] * (1.0 + x["redshift"][:, None])
        added = render_lines(
            instrument,
            centre.ravel(),
            (truth.flux[:, rows] * truth.known[:, rows]).ravel(),
            np.zeros(centre.size),
            row=np.repeat(np.arange(n), len(rows)),
            rows=n,
        )
        flux = x["prism_flux"] + np.where(x["prism_mask"], 0.0, added).astype(np.float32)
        after = predict({**x, "prism_flux": flux})
        share = (after[:, k] - before[:, k]) / np.maximum(truth.flux[:, k], 1e-12)
        for low, high in ((5, 15), (15, 50), (50, 1e9)):
            good = truth.known[:, k] & (snr[:, k] >= low) & (snr[:, k] < high)
            if good.sum() >= 10:
                yield f"{name} x 2, S/N {low}-{high:g}", int(good.sum()), float(np.median(share[good]))
