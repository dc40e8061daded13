"""Prior response: whether a method reads a line ratio off the spectrum or recites what it was taught.

In simulation a line is made brighter or fainter, the prism is given the difference that this makes, with the
same noise, and what comes out is compared. The exponent of the response, d log(recovered ratio) over
d log(true ratio), is 1 for a method that reads and 0 for one that recites. Of faint lines only those
that noise made bright have a logarithm: there the share of the flux change that is followed says more.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, PRISM, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.gaussian_fit import window_indices
from data_pipeline.lines.profile import render_lines
from kspecsr.measures.estimate import Block, median, share
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import (
    judged_lines,
    line_wavelengths,
    measured_lines,
    tied_columns,
)
from kspecsr.measures.splits import line_snr_parts, parts
from kspecsr.results.prism_input import degraded_to_prism


@dataclass(frozen=True)
class Change:
    """A line (and the doublet partner tied to it) times a factor, measured against another line."""

    line: str
    against: str
    factor: float


CHANGES = tuple(
    Change(line, against, factor)
    for line, against in (("[NII]_6585", "Halpha"), ("Hbeta", "[OIII]_5008"))
    for factor in (0.5, 2.0)
)
_HALF_WINDOW = 20  # pixels of the grid in which the truth shows a line's profile
_ISOLATED = 0.01  # of the line's flux: what others may have in the window
_SHOWN = (0.5, 1.5)  # window's flux over the true one, beyond which it shows something else
_VELOCITY = 80.0  # km/s, one sigma, of lines whose profile is not seen alone
APART = (5.0, 10.0, np.inf)  # S/N of lines that stand apart from brighter ones
_WORTH_SUMMING = 3.0  # S/N in the prism of lines in the figures over all


def measure(
    held_out: HeldOut, reconstruction: Reconstruction, method: Callable[[HeldOut], Reconstruction]
) -> dict[str, np.ndarray]:
    """Responses to all `CHANGES`.

    Args:
        held_out: simulated galaxies.
        reconstruction: output of the method for them.
        method: the method.

    Returns:
        (B, 4) float32 in the order of `CHANGES`: see `response`.
    """
    found = []
    for change in CHANGES:
        changed = perturbed(held_out, change.line, change.factor)
        found.append(
            response(held_out, changed, reconstruction, method(changed), change.line, change.against)
        )
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]}


def perturbed(held_out: HeldOut, line_name: str, factor: float) -> HeldOut:
    """The same galaxies and noise with a line, and its doublet partner, times a factor.

    The change goes through the line-spread operator of the tabulated prism; source noise is not redrawn.
    Galaxies of which the line is not known stay as they are.

    Args:
        held_out: galaxies with known line fluxes.
        line_name: e.g. ``[NII]_6585``.
        factor: on the flux.

    Raises:
        ValueError: for a factor that is not positive.
    """
    if not factor > 0:
        raise ValueError(f"factor on {line_name}: expected a positive number, got {factor}")
    scale = np.ones(held_out.line_flux.shape[1])
    scale[tied_columns(line_name)] = factor
    added = np.zeros((len(held_out), held_out.grid.size))
    for column in tied_columns(line_name):
        flux = np.where(held_out.line_known[:, column], held_out.line_flux[:, column], 0.0)
        added += (factor - 1.0) * flux[:, None] * line_profile(held_out, column)
    seen = np.nan_to_num(degraded_to_prism(added, held_out.grid), nan=0.0)
    kind = held_out.prism_flux.dtype
    return replace(
        held_out,
        prism_flux=np.where(held_out.prism_mask, held_out.prism_flux, held_out.prism_flux + seen).astype(
            kind
        ),
        target_flux=np.where(held_out.target_mask, held_out.target_flux, held_out.target_flux + added).astype(
            held_out.target_flux.dtype
        ),
        line_flux=(held_out.line_flux * scale).astype(held_out.line_flux.dtype),
        line_snr=(held_out.line_snr * scale).astype(held_out.line_snr.dtype),
    )


def line_profile(held_out: HeldOut, column: int) -> np.ndarray:
    """(B, N) flux density [per Angstrom] of unit flux on the grid.

    Taken from the truth less its continuum within 20 pixels where no other line shows there; a Gaussian of
    80 km/s at the reference's resolution for blends and where the continuum is not known.
    """
    grid, redshift = held_out.grid, held_out.redshift
    centre = line_wavelengths(redshift, held_out.line_flux.shape[1])
    known = held_out.line_known[:, column] & np.isfinite(redshift)
    place = np.where(known, centre[:, column], np.nan)
    gaussian = render_lines(
        reference_instrument(grid),
        np.where(known, place, 1.0),
        known.astype(float),
        np.full(len(held_out), _VELOCITY),
        row=np.arange(len(held_out)),
        rows=len(held_out),
    )
    index, inside = window_indices(grid.wavelength, place, _HALF_WINDOW)
    row = np.arange(len(held_out))[:, None]
    excess = np.where(held_out.target_mask, 0.0, held_out.target_flux - held_out.target_continuum)
    shown = np.where(inside, np.maximum(excess[row, index], 0.0), 0.0)
    width = np.diff(grid.bounds, axis=0)[0] * ANGSTROM_PER_UM
    total = (shown * width[index]).sum(axis=1)
    expected = np.where(known, held_out.line_flux[:, column], 0.0)
    alone = known & held_out.continuum_known & inside.all(axis=1) & _isolated(held_out, centre, column)
    alone &= (expected > 0) & (total > _SHOWN[0] * expected) & (total < _SHOWN[1] * expected)
    seen = np.zeros_like(gaussian)
    rows = np.flatnonzero(alone)
    seen[rows[:, None], index[rows]] = shown[rows] / total[rows, None]
    return np.where(alone[:, None], seen, gaussian)


def response(
    held_out: HeldOut,
    changed: HeldOut,
    reconstruction: Reconstruction,
    of_changed: Reconstruction,
    line: str,
    against: str,
) -> dict[str, np.ndarray]:
    """Part of the change of a line that the output follows.

    Args:
        held_out: galaxies.
        changed: the same with another flux of the line.
        reconstruction: output of a method for the galaxies.
        of_changed: output for the changed ones.
        line: that was changed.
        against: line that the ratio is taken with.

    Returns:
        (B,) float32: ``response`` exponent, NaN where a flux is not known, not measured, or not positive;
        ``followed``: change of the line's recovered flux over that of the true one, which needs no
        logarithm; ``measured``: 1 where both lines were measured in both, so that ``response`` NaN there
        says that the ratio was lost.
    """
    columns = [load_lines().index(name) for name in (line, against)]
    known = held_out.line_known[:, columns].all(axis=1) & (held_out.line_flux[:, columns] > 0).all(axis=1)
    true = [
        np.where(known[:, None], h.line_flux[:, columns], np.nan).astype(float) for h in (held_out, changed)
    ]
    flux = [
        np.where(known[:, None], measured_lines(h, m)["line_flux"][:, columns], np.nan).astype(float)
        for h, m in ((held_out, reconstruction), (changed, of_changed))
    ]
    measured = np.isfinite(flux).all(axis=(0, 2)) & known
    logs = [_log_ratio(pair) for pair in (*flux, *true)]
    with np.errstate(invalid="ignore", divide="ignore"):
        exponent = (logs[1] - logs[0]) / (logs[3] - logs[2])
        followed = (flux[1] - flux[0])[:, 0] / (true[1] - true[0])[:, 0]
    found = {"response": exponent, "followed": followed, "measured": measured}
    return {name: np.where(np.isfinite(v), v, np.nan).astype(np.float32) for name, v in found.items()}


def blocks(columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray]) -> Iterator[Block]:
    """Medians over galaxies, over both factors.

    ``response``, ``followed`` and ``response_lost`` (share of ratios with a side at zero or less) over lines
    with S/N > 3 in the prism, ``/LINE`` for each changed line, and both by S/N. ``response[apart snr >10]``
    and ``[apart snr 5-10]`` are of lines further from every brighter one than the prism's FWHM,
    ``response[blended]`` of the others.

    Args:
        columns: small columns of the held-out galaxies, before the change.
        measured: of `measure`.
    """
    snr = changed_line_snr(columns)
    statistics = []
    for name in ("", *dict.fromkeys(change.line for change in CHANGES)):
        use = np.array([not name or change.line == name for change in CHANGES]) & (snr > 0)
        of = f"/{name}" if name else ""
        lost = np.isnan(measured["response"])
        statistics += [median(f"{figure}{of}", measured[figure], use) for figure in ("response", "followed")]
        statistics.append(share(f"response_lost{of}", lost, use & (measured["measured"] > 0)))
    blended = near_brighter(columns)
    strong = snr > _WORTH_SUMMING
    apart = parts("apart snr", np.where(blended, np.nan, snr), APART)
    yield statistics, [("", strong), ("[blended]", blended & strong), *apart, *line_snr_parts(snr)]


def near_brighter(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, 4) bool: a brighter line lies within one FWHM of the prism of the lines of `CHANGES`."""
    prism, count = load_instrument(PRISM), columns["line_flux"].shape[1]
    observed = line_wavelengths(columns["redshift"], count)
    flux = np.where(columns["line_known"], columns["line_flux"], 0.0)
    found = []
    for change in CHANGES:
        own = tied_columns(change.line)
        place = observed[:, [own[0]]]
        fwhm = prism.fwhm(np.clip(np.nan_to_num(place, nan=1.0), *prism.wavelength[[0, -1]]))
        near = (np.abs(observed - place) < fwhm) & (flux > flux[:, [own[0]]])
        near[:, own] = False
        found.append(near.any(axis=1))
    return np.stack(found, axis=1)


def changed_line_snr(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, 4) S/N in the prism, before the change, of the lines of `CHANGES`; NaN where not known."""
    lines = load_lines()
    place = [lines.index(change.line) for change in CHANGES]
    return np.where(judged_lines(columns), columns["line_snr"], np.nan).astype(float)[:, place]


def _isolated(held_out: HeldOut, centre: np.ndarray, column: int) -> np.ndarray:
    """(B,) bool: no other line shows within the window."""
    flux = np.where(held_out.line_known, held_out.line_flux, 0.0)
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.log(centre / centre[:, [column]])) * held_out.grid.sampling
        # a neighbour just outside reaches in with its wing
        near = (apart < 1.5 * _HALF_WINDOW) & (flux > _ISOLATED * flux[:, [column]])
    near[:, column] = False
    return ~near.any(axis=1)


def _log_ratio(pair: np.ndarray) -> np.ndarray:
    """Log of column 0 over column 1; NaN unless both are positive."""
    positive = np.isfinite(pair).all(axis=1) & (pair > 0).all(axis=1)
    return np.where(positive, np.log(np.where(positive[:, None], pair, 1.0)) @ np.array([1.0, -1.0]), np.nan)
