"""Width, centre and flux of bright lines fitted on observed prism spectra."""

from __future__ import annotations

import numpy as np

from data_pipeline.instrument import PRISM, SPEED_OF_LIGHT, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES
from data_pipeline.lines.design import SharedFluxes, doublet
from data_pipeline.lines.least_squares import linear_fit
from data_pipeline.simulation.arrays import SimulatedBatch

_HALF_WINDOW = 16  # prism pixels on either side of a line
_BRIGHT = 8.0  # S/N in the gratings of a line that is fitted
_CLEAN = 15.0  # S/N in the prism of a fit that counts
_MOST_NITROGEN = 0.12  # [N II] over Halpha, with its error: more would broaden the blend
_OFFSET_UNIT = 1e-3  # of the wavelength: makes both fitted parameters of order one
_LIMITS = [-0.4, -10.0], [0.9, 10.0]  # of ln(scale of the resolving power) and the offset


def fit_prism_lines(batch: SimulatedBatch, row: int, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Fits [O III] and Halpha of one prism spectrum where they are bright and clean.

    Args:
        batch: observations.
        row: which of them.
        flux: (m,) line fluxes from the gratings, in the order of `CATALOGUE_LINES` [erg/s/cm2].
        error: (m,) their errors.

    Returns:
        (k, 3) factor on the tabulated resolving power, prism minus grating centre [km/s], prism over
        grating flux; one row per line.
    """
    names, lines = list(CATALOGUE_LINES), load_lines()
    out = []
    for name, main in (("O3_5007", "[OIII]_5008"), ("HBaA_6563", "Halpha")):
        column = names.index(name)
        centre = lines.wavelength[lines.index(main)] * (1 + batch.redshift[row])
        if not (flux[column] > _BRIGHT * error[column] and 1.3 < centre < 5.1):
            continue
        line = doublet(main)
        if main == "Halpha":
            nitrogen = names.index("N2_6584")
            share = max(flux[nitrogen], 0.0) / flux[column] if np.isfinite(flux[nitrogen]) else np.inf
            if not share + error[nitrogen] / flux[column] <= _MOST_NITROGEN:
                continue
            line |= {member: part * share for member, part in doublet("[NII]_6585").items()}
        groups = [line, doublet("Hbeta")] if main == "[OIII]_5008" else [line]
        fit = _fit_blend(batch, row, centre, groups)
        if fit is not None and fit[3] > _CLEAN:
            out.append((fit[0], fit[1], fit[2] / flux[column]))
    return np.array(out).reshape(-1, 3)


def _fit_blend(batch: SimulatedBatch, row: int, centre: float, groups: list[dict]) -> tuple | None:
    """Resolution scale, offset [km/s], flux and S/N of a line in the prism; None where it cannot be fitted.

    Width and centre are fitted; the fluxes of the line and of a neighbour in the window and a quadratic
    continuum follow linearly at each step.
    """
    from scipy.optimize import least_squares  # slow to import; --help has no use for it

    prism = load_instrument(PRISM, scale=1.0)
    middle = int(np.searchsorted(prism.wavelength, centre))
    window = slice(max(middle - _HALF_WINDOW, 0), middle + _HALF_WINDOW + 1)
    mask = batch.prism_mask[row, window]
    density, error = batch.prism_flux[row, window], batch.prism_error[row, window]
    if mask.size < 2 * _HALF_WINDOW + 1 or mask.any():
        return None
    local = prism.with_pixels(prism.wavelength[window], prism.bounds[:, window])
    redshift = float(batch.redshift[row])
    shared = SharedFluxes.of([group for group in groups if _lies_in(local, group, redshift)])
    t = np.linspace(-1.0, 1.0, mask.size)
    continuum = np.stack([np.ones_like(t), t, t**2])

    def solve(parameters: np.ndarray):
        moved = (1.0 + redshift) * (1.0 + parameters[1] * _OFFSET_UNIT) - 1.0
        profiles = shared.profiles(local, moved, 0.0, np.exp(parameters[0]))
        columns = np.concatenate([profiles, continuum])
        fit = linear_fit(columns, error**-2.0, density)
        return fit, (density - fit.value @ columns) / error

    found = least_squares(lambda p: solve(p)[1], [np.log(1.2), 0.0], bounds=_LIMITS, max_nfev=60)
    if not found.success or np.any(found.active_mask):
        return None
    fit, _ = solve(found.x)
    offset = float(found.x[1] * _OFFSET_UNIT * SPEED_OF_LIGHT)
    return float(np.exp(found.x[0])), offset, float(fit.value[0]), float(fit.value[0] / fit.error[0])


def _lies_in(instrument, group: dict[int, float], redshift: float) -> bool:
    """Whether the first line of a group lies on an instrument's pixels."""
    return bool(instrument.pixel_of(load_lines().wavelength[next(iter(group))] * (1.0 + redshift))[1])
