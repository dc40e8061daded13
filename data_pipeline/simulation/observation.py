"""Simulated observations: noise-free truth, prism and grating spectra."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.instrument import (
    GRATINGS,
    SPEED_OF_LIGHT,
    Instrument,
    load_instrument,
    reference_instrument,
)
from data_pipeline.instrument.line_spread import LineSpreadOperator
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL, JADES_SAMPLING
from data_pipeline.lines import LineList
from data_pipeline.lines.profile import render_lines
from data_pipeline.pixel_grid import cubic_weights
from data_pipeline.simulation.continua import INTRINSIC_GRID
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.extent import relative_resolution
from data_pipeline.simulation.galaxies import Galaxies
from data_pipeline.simulation.noise import (
    ObservingConditions,
    bad_grating_pixels,
    bad_prism_pixels,
    grating_error,
    grating_noise,
    outliers,
    prism_error,
    released_noise,
)
from data_pipeline.simulation.nuisances import Nuisances
from data_pipeline.simulation.releases import RELEASES, Release
from data_pipeline.simulation.trouble import cause_trouble

NOMINAL_LIMIT = {"nirspec-g140m": 1.89, "nirspec-g235m": 3.17, "nirspec-g395m": 5.27}  # um
_NODE = 0.06  # steps of log(resolution scale) between which continua are interpolated


@dataclass(frozen=True)
class Spectra:
    """Spectra of one instrument. Mask True = bad; bad pixels hold NaN in the error, most in the flux too.

    Attributes:
        flux: (b, n) flux density [erg/s/cm2/A].
        error: (b, n) quoted one-sigma error [erg/s/cm2/A].
        mask: (b, n) bool.
    """

    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray


@lru_cache(maxsize=128)
def _operator(name: str, scale: float = 1.0) -> tuple[slice, LineSpreadOperator]:
    """The part of the intrinsic grid that an instrument sees, and the operator from there to its pixels."""
    if name in RELEASES:
        instrument = RELEASES[name].instrument(scale)
    else:
        instrument = reference_instrument() if name == "reference" else load_instrument(name)
    bounds = INTRINSIC_GRID.bounds
    margin = 10.0 * instrument.sigma(instrument.wavelength[[0, -1]])
    first = np.searchsorted(bounds[1], instrument.bounds[0, 0] - margin[0])
    last = np.searchsorted(bounds[0], instrument.bounds[1, -1] + margin[1])
    seen = slice(int(first), int(last))
    return seen, instrument.line_spread_operator(bounds[:, seen])


def _through(intrinsic: np.ndarray, name: str, scale: float = 1.0) -> np.ndarray:
    """(b, n) intrinsic spectra as the pixels of a grating, the reference or a release of the prism see them.

    ``scale`` is the factor on the tabulated resolving power of the prism.
    """
    seen, operator = _operator(name, scale)
    return operator.apply(intrinsic[:, seen])


def render_galaxy_lines(
    instrument: Instrument,
    galaxies: Galaxies,
    lines: LineList,
    resolution_scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
) -> np.ndarray:
    """(b, n) emission lines on an instrument's pixels [erg/s/cm2/A].

    ``resolution_scale`` (b,) is a factor on the resolving power beside that of the galaxies' sizes, ``shift``
    (b,) moves all lines [pixels].
    """
    centre = lines.wavelength * (1.0 + galaxies.redshift[:, None])  # (b, L)
    if shift is not None:
        centre = centre + shift[:, None] * instrument.pixel_width(centre)
    row = np.broadcast_to(np.arange(centre.shape[0])[:, None], centre.shape)
    common = np.ones(centre.shape[0]) if resolution_scale is None else resolution_scale
    scale = common[:, None] * relative_resolution(instrument, centre, galaxies.size)
    narrow = galaxies.line_flux - galaxies.broad_line_flux - galaxies.wing_line_flux
    absorbed, still = galaxies.absorbed_line_flux, np.zeros(centre.shape[0])
    parts = (
        (narrow, galaxies.velocity_sigma, still),
        (galaxies.broad_line_flux + absorbed, galaxies.broad_velocity_sigma, still),
        (galaxies.wing_line_flux, galaxies.wing_velocity_sigma, galaxies.wing_velocity),
        (-absorbed, galaxies.absorber_velocity_sigma, galaxies.absorber_velocity),
    )
    total = np.zeros((centre.shape[0], instrument.wavelength.size))
    for flux, sigma, velocity in parts:
        place = centre + centre * (velocity / SPEED_OF_LIGHT)[:, None]
        # Far out lines reach no instrument, and R(lambda) is an extrapolation there.
        seen = (flux != 0) & (centre > 0.4) & (centre < 6.0)
        if seen.any():
            total += render_lines(
                instrument,
                place[seen],
                flux[seen],
                sigma[row[seen]],
                scale[seen],
                row[seen],
                centre.shape[0],
            )
    if galaxies.companion is not None:
        rows, others = galaxies.companion
        there = None if shift is None else shift[rows]
        total[rows] += render_galaxy_lines(instrument, others, lines, common[rows], there)
    return total


def truth_spectra(
    galaxies: Galaxies, lines: LineList, intrinsic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free spectrum and its continuum on the unified grid, both (b, 6074) [erg/s/cm2/A].

    Seen by the reference instrument, on the prism's flux scale.
    """
    continuum = _through(intrinsic, "reference")
    return continuum + render_galaxy_lines(reference_instrument(), galaxies, lines), continuum


def noise_free_prism(
    galaxies: Galaxies,
    lines: LineList,
    intrinsic: np.ndarray,
    conditions: ObservingConditions,
    release: Release = RELEASES["jades"],
) -> np.ndarray:
    """(b, n) the prism spectrum without noise, with its resolution scale and zero-point shift."""
    scale = conditions.resolution_scale
    prism = release.instrument()
    shift = conditions.zero_point_shift * (DETECTOR_PIXELS_PER_PIXEL / release.sampling.step)
    # Lines have their exact width; continua are interpolated between operators of neighbouring scales.
    place = np.log(scale[:, None] * relative_resolution(prism, prism.wavelength, galaxies.size)) / _NODE
    continuum = np.zeros(place.shape)
    for step in range(int(np.floor(place.min())), int(np.floor(place.max())) + 2):
        weight = np.clip(1.0 - np.abs(place - step), 0.0, None)
        rows = np.flatnonzero(weight.any(axis=1))
        if rows.size:
            through = _through(intrinsic[rows], release.name, float(np.exp(_NODE * step)))
            continuum[rows] += weight[rows] * through
    return _shifted(continuum, shift) + render_galaxy_lines(prism, galaxies, lines, scale, shift)


def _shifted(flux: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Moves spectra redward by ``shift`` pixels (below one), by four-point cubic interpolation."""
    shift = np.clip(shift, -0.9, 0.9)
    t = np.where(shift > 0, 1.0 - shift, -shift)[:, None]
    padded = np.pad(flux, ((0, 0), (2, 2)), mode="edge")
    start = np.where(shift > 0, 0, 1)
    index = start[:, None] + np.arange(flux.shape[1])
    row = np.arange(flux.shape[0])[:, None]
    cubic = sum(weight * padded[row, index + k] for k, weight in enumerate(cubic_weights(t)))
    return np.where(shift[:, None] == 0, flux, cubic)


def observe_prism(
    truth: np.ndarray,
    conditions: ObservingConditions,
    nuisances: Nuisances,
    draws: Draws,
    release: Release = RELEASES["jades"],
) -> Spectra:
    """Adds noise, outliers and bad pixels to the noise-free prism spectra (b, n) of a release."""
    wavelength, sampling = release.instrument().wavelength, release.sampling
    pixels = wavelength.size
    quoted = prism_error(wavelength, conditions.noise_level)
    # Source noise adds a variance proportional to the flux. It is part of the quoted error, as in the
    # pipeline.
    quoted = quoted * np.sqrt(1.0 + nuisances.photon_noise * np.maximum(truth, 0.0) / quoted)
    noise = released_noise(draws, "prism noise", sampling, pixels, nuisances)
    flux = truth + nuisances.noise_scale * quoted / conditions.quoted_over_noise(wavelength) * noise
    no_flux, no_error = bad_prism_pixels(nuisances, draws, pixels, pairs=sampling == JADES_SAMPLING)
    return Spectra(np.where(no_flux, np.nan, flux), np.where(no_error, np.nan, quoted), no_flux | no_error)


def in_trouble(
    x: np.ndarray, prism: Spectra, galaxies: Galaxies, lines: LineList, trouble: np.ndarray, draws: Draws
) -> Spectra:
    """Prism spectra with the trouble (b,) that each is in, an index into `TROUBLES`; see `cause_trouble`.

    ``x`` (n,) are the centres of their pixels [um].
    """
    if not (trouble >= 0).any():
        return prism
    place = np.searchsorted(x, lines.wavelength * (1.0 + galaxies.redshift[:, None]))
    seen = (place > 0) & (place < x.size) & galaxies.has_redshift[:, None]
    place = np.where(seen, place, 0)
    # by flux over the error of a pixel, which is as good as any order of lines of one width in pixels
    error = np.nan_to_num(np.take_along_axis(prism.error, place, axis=1), nan=np.inf)
    signal = np.where(seen, galaxies.line_flux / error, 0.0)
    best = signal.argmax(axis=1)[:, None]
    place = np.where(np.take_along_axis(signal, best, 1) > 0, np.take_along_axis(place, best, 1), -1)[:, 0]
    return Spectra(*cause_trouble((prism.flux, prism.error, prism.mask), trouble, place, draws))


def observe_grating(
    arm: str,
    galaxies: Galaxies,
    lines: LineList,
    intrinsic: np.ndarray,
    conditions: ObservingConditions,
    nuisances: Nuisances,
    draws: Draws,
    tier: np.ndarray,
) -> Spectra:
    """One grating's spectra on its own pixels; all masked where it was not taken."""
    instrument = load_instrument(arm)
    number = GRATINGS.index(arm)
    x = instrument.wavelength
    true = _through(intrinsic, arm) + render_galaxy_lines(instrument, galaxies, lines)
    # The truth is on the prism's scale: what differs is put on the gratings.
    true = true * conditions.arm_scale[:, number, None] / conditions.prism_over_grating(x)
    sigma = grating_error(tier, x, instrument.bounds, NOMINAL_LIMIT[arm])
    sigma = sigma * conditions.grating_noise[:, number, None]
    sigma = sigma * np.sqrt(1.0 + nuisances.grating_photon_noise * np.maximum(true, 0.0) / sigma)
    noise = grating_noise(draws.normal(f"noise {arm}", x.size + 1), nuisances.grating_correlation)
    noise = noise + outliers(nuisances, draws, arm, x.size)
    flux = true + nuisances.noise_scale * sigma * noise
    mask = bad_grating_pixels(nuisances, draws, arm, x, conditions.gap_start[:, number])
    mask |= ~conditions.taken[:, number, None]
    error = nuisances.grating_quoted_error * sigma
    return Spectra(np.where(mask, np.nan, flux), np.where(mask, np.nan, error), mask)
