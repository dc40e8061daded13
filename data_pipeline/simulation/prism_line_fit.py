"""Width, centre and flux of bright lines fitted on observed prism spectra."""

from __future__ import annotations

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES
from data_pipeline.lines.profile import SPEED_OF_LIGHT, render_lines
from data_pipeline.simulation.arrays import SimulatedBatch

# Lines whose prism profile is clean enough to be fitted: the blend that is fitted together, and the line
# whose S/N decides.
_BLENDS = (
    ("O3_5007", {"[OIII]_5008": 1.0, "[OIII]_4960": 1.0 / 2.9842}, {"Hbeta": 1.0}),
    ("HBaA_6563", {"Halpha": 1.0}, {}),
)


def fit_prism_lines(batch: SimulatedBatch, row: int, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Fits [OIII] and Halpha of one prism spectrum where they are bright and clean.

    Args:
        batch: observations.
        row: which of them.
        flux: (m,) line fluxes from the gratings, in the order of `CATALOGUE_LINES` [erg/s/cm2].
        error: (m,) their errors.

    Returns:
        (k, 3) factor on the tabulated resolving power, prism minus grating centre [km/s], prism over
        grating flux; one row per line.
    """
    names = list(CATALOGUE_LINES)
    out = []
    for name, line, beside in _BLENDS:
        column = names.index(name)
        centre = load_lines().wavelength[load_lines().index(next(iter(line)))] * (1 + batch.redshift[row])
        if not (flux[column] > 8.0 * error[column] and 1.3 < centre < 5.1):
            continue
        if name == "HBaA_6563":
            nitrogen = names.index("N2_6584")
            share = max(flux[nitrogen], 0.0) / flux[column] if np.isfinite(flux[nitrogen]) else np.inf
            if not share + error[nitrogen] / flux[column] <= 0.12:
                continue  # [NII] would broaden the blend
            line = {"Halpha": 1.0, "[NII]_6585": share, "[NII]_6550": share / 2.942}
        fit = _fit_blend(batch, row, centre, line, beside)
        if fit is not None and fit[3] > 15.0:
            out.append((fit[0], fit[1], fit[2] / flux[column]))
    return np.array(out).reshape(-1, 3)


def _fit_blend(batch, row: int, centre: float, line: dict, beside: dict) -> tuple | None:
    """Resolution scale, offset [km/s], flux and S/N of a line in the prism; None where it cannot be fitted.

    Width and centre are fitted; fluxes and a quadratic continuum follow linearly at each step.
    """
    from scipy.optimize import least_squares  # slow to import; --help has no use for it

    prism = load_instrument(PRISM, scale=1.0)
    lines = load_lines()
    middle = int(np.searchsorted(prism.wavelength, centre))
    window = slice(max(middle - 16, 0), middle + 17)
    good = ~batch.prism_mask[row, window]
    density, error = batch.prism_flux[row, window], batch.prism_error[row, window]
    if good.size < 33 or not good.all():
        return None
    z = 1.0 + batch.redshift[row]
    local = prism.with_pixels(prism.wavelength[window], prism.bounds[:, window])
    t = np.linspace(-1.0, 1.0, good.size)
    edges = local.bounds[0, 0], local.bounds[1, -1]
    beside = {n: f for n, f in beside.items() if edges[0] < lines.wavelength[lines.index(n)] * z < edges[1]}
    groups = enumerate((line, beside))
    members = [(index, lines.index(n), share) for index, g in groups for n, share in g.items()]
    group, at, share = (np.array(column) for column in zip(*members, strict=True))

    def design(parameters: np.ndarray) -> np.ndarray:
        scale, offset = np.exp(parameters[0]), parameters[1] * 1e-3
        place = lines.wavelength[at] * z * (1.0 + offset)
        profile = render_lines(local, place, share, np.zeros(at.size), scale, group, 1 + bool(beside))
        return np.concatenate([profile / profile[0].max(), [np.ones_like(t), t, t**2]]) / error

    def solve(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = design(parameters)
        solution, *_ = np.linalg.lstsq(rows.T, density / error, rcond=None)
        return solution, density / error - solution @ rows

    limits = [-0.4, -10.0], [0.9, 10.0]
    found = least_squares(lambda p: solve(p)[1], [np.log(1.2), 0.0], bounds=limits, max_nfev=60)
    if not found.success or np.any(found.active_mask):
        return None
    solution, _ = solve(found.x)
    rows = design(found.x)
    covariance = np.linalg.inv(rows @ rows.T)
    profile = render_lines(
        local, lines.wavelength[at] * z, share, np.zeros(at.size), np.exp(found.x[0]), group, 1 + bool(beside)
    )
    flux = solution[0] / (profile[0].max())
    sn = solution[0] / np.sqrt(covariance[0, 0])
    return float(np.exp(found.x[0])), float(found.x[1] * 1e-3 * SPEED_OF_LIGHT), float(flux), float(sn)
