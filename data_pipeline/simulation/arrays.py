"""Simulated galaxies as arrays, batch by batch. NumPy and SciPy only."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import ON_JADES_PIXELS, released_pixels
from data_pipeline.lines import LineList, list_of, load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import to_prism_pixels
from data_pipeline.simulation.config import KINDS, TROUBLES, Nuisances, SimulationConfig
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.extent import mean_relative_resolution
from data_pipeline.simulation.galaxies import Galaxies
from data_pipeline.simulation.noise import ObservingConditions, draw_conditions, latent_noise_level
from data_pipeline.simulation.observation import (
    Spectra,
    in_trouble,
    noise_free_prism,
    observe_grating,
    observe_prism,
    truth_spectra,
)
from data_pipeline.simulation.releases import RELEASES, drawn_releases, quoted_errors
from data_pipeline.simulation.slit import draw_slits
from data_pipeline.simulation.survey import draw_targets, load_tiers
from data_pipeline.simulation.trouble import draw_trouble

_OF_TARGETS = ("index", "galaxy", "nirspec_id", "ra", "dec")
_OF_CONDITIONS = ("zero_point_shift", "arm_scale", "flux_ratio", "error_scale")
_OF_GALAXIES = (
    *("line_flux", "broad_line_flux", "velocity_sigma", "broad_velocity_sigma"),
    *("wing_line_flux", "wing_velocity_sigma", "wing_velocity", "absorbed_line_flux"),
    "size",
)


@dataclass(frozen=True)
class SimulatedBatch:
    """b simulated observations with their truth.

    Fluxes are in erg/s/cm2/A, line fluxes in erg/s/cm2, wavelengths in um (vacuum). Mask True = bad; bad
    pixels hold NaN in the error and most of them in the flux. The truth is on the prism's flux scale:
    grating flux = truth x ``arm_scale`` / ``flux_ratio``.

    Attributes:
        index: (b,) number of the observation in the simulation.
        galaxy: (b,) number of the observation that first saw this galaxy.
        tier: b tier names.
        nirspec_id: (b,) id within the tier; (tier, id) is unique, ids repeat across tiers.
        ra: (b,) [deg].
        dec: (b,) [deg].
        exposure: (b,) prism exposure [s].
        kind: b names out of `KINDS`.
        redshift: (b,); NaN where none is to be had: nothing, stars, no features, breaks beyond z 15.
        trouble: b names out of `TROUBLES`; "" for none. In the observed prism alone, but a second source is
            in all spectra.
        second_redshift: (b,) of the second source in the slit; NaN where it has none or is not there.
        line_names: L names of the list that the configuration asks for.
        line_flux: (b, L) true total fluxes.
        broad_line_flux: (b, L) the part of them in broad components.
        velocity_sigma: (b,) width of narrow lines [km/s].
        broad_velocity_sigma: (b,) width of broad lines [km/s]; 0 for none.
        wing_line_flux: (b, L) the part of the fluxes in wings of outflows.
        wing_velocity_sigma: (b,) width of the wings [km/s].
        wing_velocity: (b,) by which they are offset [km/s].
        absorbed_line_flux: (b, L) what absorbers took from broad lines; the fluxes are what is left.
        release: b names of releases.
        released: b times the spectrum on the release's own pixels: wavelength, flux, error and mask (n,).
        prism_wavelength: (706,).
        prism_flux: (b, 706) observed; other releases as a file of theirs would reach these pixels.
        prism_error: (b, 706) quoted.
        prism_mask: (b, 706).
        noise_free_prism: (b, 706) expectation of ``prism_flux``: with resolution scale and zero-point shift;
            NaN where the release has no pixels.
        wavelength: (6074,) the unified grid.
        noise_free: (b, 6074) truth as the reference instrument sees it.
        continuum: (b, 6074) the same without emission lines.
        grating_wavelength: arm name to (n,); empty without gratings.
        gratings: arm name to spectra; empty without gratings.
        size: (b,) half-light radius [arcsec].
        resolution_scale: (b,) factor on the prism resolving power tabulated for filled slits, geometric mean
            over 1-5 um; with the size it changes by some per cent along the spectrum.
        zero_point_shift: (b,) prism features lie redward by this many pixels.
        arm_scale: (b, 3) each grating's own constant, in the order of ``data_pipeline.instrument.GRATINGS``.
        flux_ratio: (b, 3) coefficients of log(prism / grating), see `ObservingConditions`.
        error_scale: (b,) quoted prism error over noise per detector pixel.
        grating_taken: (b, 3) bool.
    """

    index: np.ndarray
    galaxy: np.ndarray
    tier: tuple[str, ...]
    nirspec_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    exposure: np.ndarray
    kind: tuple[str, ...]
    redshift: np.ndarray
    trouble: tuple[str, ...]
    second_redshift: np.ndarray
    line_names: tuple[str, ...]
    line_flux: np.ndarray
    broad_line_flux: np.ndarray
    velocity_sigma: np.ndarray
    broad_velocity_sigma: np.ndarray
    wing_line_flux: np.ndarray
    wing_velocity_sigma: np.ndarray
    wing_velocity: np.ndarray
    absorbed_line_flux: np.ndarray
    release: tuple[str, ...]
    released: tuple[tuple[np.ndarray, ...], ...]
    prism_wavelength: np.ndarray
    prism_flux: np.ndarray
    prism_error: np.ndarray
    prism_mask: np.ndarray
    noise_free_prism: np.ndarray
    wavelength: np.ndarray
    noise_free: np.ndarray
    continuum: np.ndarray
    grating_wavelength: dict[str, np.ndarray]
    gratings: dict[str, Spectra]
    size: np.ndarray
    resolution_scale: np.ndarray
    zero_point_shift: np.ndarray
    arm_scale: np.ndarray
    flux_ratio: np.ndarray
    error_scale: np.ndarray
    grating_taken: np.ndarray

    def __len__(self) -> int:
        return self.index.size

    @property
    def lines(self) -> LineList:
        """The list of the lines."""
        return list_of(len(self.line_names))

    @property
    def has_redshift(self) -> np.ndarray:
        """(b,) bool: whether there is a redshift to be had."""
        return np.isfinite(self.redshift)

    @property
    def unique_id(self) -> tuple[str, ...]:
        """Ids as in the JADES catalogue: ``<tier>_<NIRSpec id>``."""
        return tuple(f"{tier}_{number}" for tier, number in zip(self.tier, self.nirspec_id, strict=True))

    @property
    def observed(self) -> dict[str, tuple[np.ndarray, Spectra]]:
        """Instrument to its wavelengths [um] and the observed spectra; the prism first."""
        prism = Spectra(self.prism_flux, self.prism_error, self.prism_mask)
        arms = {arm: (self.grating_wavelength[arm], spectra) for arm, spectra in self.gratings.items()}
        return {PRISM: (self.prism_wavelength, prism), **arms}


def simulate_batch(
    index: np.ndarray, seed: int, config: SimulationConfig | None = None, gratings: bool = True
) -> SimulatedBatch:
    """Simulate the observations ``index`` (b,) of a simulation; the survey's without a configuration."""
    config = SimulationConfig() if config is None else config
    population, nuisances = config.population, config.nuisances
    lines, tiers = load_lines(config.lines), load_tiers()
    targets = draw_targets(population, seed, np.asarray(index))
    # Each quantity has a stream of its own, named where it is drawn: what a population adds changes nothing
    # that others draw, and shipped models are judged on the galaxies that they always were.
    draws = Draws(seed, targets.index, population.stream)
    galaxies, intrinsic, trouble = draw_slits(
        population, seed, targets, lines, draw_trouble(population, draws)
    )
    level = latent_noise_level(targets.tier, draws.normal("noise level"))
    ultradeep = np.array([tiers.names[t].endswith("ultradeep") for t in targets.tier], dtype=bool)
    conditions = draw_conditions(nuisances, draws, level, ultradeep)
    releases = drawn_releases(population, seed, targets.index)
    if errors := quoted_errors(releases, population, nuisances, draws):
        conditions = replace(conditions, error_scale=errors[0], error_drift=errors[1])

    noise_free, continuum = truth_spectra(galaxies, lines, intrinsic)
    arms = {
        arm: observe_grating(arm, galaxies, lines, intrinsic, conditions, nuisances, draws, targets.tier)
        # A training on noise-free targets needs no gratings, and is spared their time.
        for arm in (GRATINGS if gratings else ())
    }
    return SimulatedBatch(
        tier=tuple(tiers.names[t] for t in targets.tier),
        exposure=tiers.exposure[targets.tier] * np.exp(-0.4 * (level - tiers.depth[targets.tier])),
        trouble=tuple(("", *TROUBLES)[t + 1] for t in trouble),
        line_names=lines.names,
        wavelength=UnifiedGrid().wavelength,
        noise_free=noise_free,
        continuum=continuum,
        grating_wavelength={arm: load_instrument(arm).wavelength for arm in arms},
        gratings=arms,
        resolution_scale=conditions.resolution_scale * mean_relative_resolution(galaxies.size),
        grating_taken=conditions.taken,
        **{name: getattr(targets, name) for name in _OF_TARGETS},
        **{name: getattr(galaxies, name) for name in _OF_GALAXIES},
        **{name: getattr(conditions, name) for name in _OF_CONDITIONS},
        **_kinds(galaxies),
        **_prisms(releases, galaxies, lines, intrinsic, conditions, nuisances, trouble, draws),
    )


def _kinds(galaxies: Galaxies) -> dict[str, np.ndarray | tuple[str, ...]]:
    """What the sources are, as the fields of `SimulatedBatch`."""
    second = np.full(galaxies.kind.size, np.nan)
    if galaxies.companion is not None:
        rows, others = galaxies.companion
        second[rows] = np.where(others.has_redshift, others.redshift, np.nan)
    return {
        "kind": tuple(KINDS[k] for k in galaxies.kind),
        "redshift": np.where(galaxies.has_redshift, galaxies.redshift, np.nan),
        "second_redshift": second,
    }


def _prisms(
    releases: np.ndarray,
    galaxies: Galaxies,
    lines: LineList,
    intrinsic: np.ndarray,
    conditions: ObservingConditions,
    nuisances: Nuisances,
    trouble: np.ndarray,
    draws: Draws,
) -> dict[str, np.ndarray | tuple]:
    """What each release (b,) makes of the prism, as the fields of `SimulatedBatch`."""
    wavelength = load_instrument(PRISM).wavelength
    flux, error, truth = np.empty((3, releases.size, wavelength.size))
    mask, released = np.empty(flux.shape, bool), [()] * releases.size
    # those on the same pixels together: much of the time does not depend on their number
    pixels = np.array(["jades" if name in ON_JADES_PIXELS else name for name in releases])
    for name in np.unique(pixels):
        rows = np.flatnonzero(pixels == name)
        release, some, streams = RELEASES[name], galaxies.rows(rows), draws.rows(rows)
        here, x = conditions.rows(rows), release.instrument().wavelength
        expected = noise_free_prism(some, lines, intrinsic[rows], here, release)
        own = observe_prism(expected, here, nuisances, streams, release)
        own = in_trouble(x, own, some, lines, trouble[rows], streams)
        size = np.array([released_pixels(one).size for one in releases[rows]])
        lost = np.arange(x.size) >= size[:, None]
        spectra = np.where(lost, np.nan, own.flux), np.where(lost, np.nan, own.error), own.mask | lost
        for row, n, *one in zip(rows, size, *spectra, strict=True):
            released[row] = tuple(array[:n] for array in (x, *one))
        if x.size != wavelength.size:  # the way that spectra from files take
            spectra = to_prism_pixels(x, *spectra)
            expected = to_prism_pixels(x, expected, expected, np.zeros(expected.shape, bool))[0]
        flux[rows], error[rows], mask[rows] = spectra
        truth[rows] = expected
    return {
        "release": tuple(releases.tolist()),
        "released": tuple(released),
        "prism_wavelength": wavelength,
        "prism_flux": flux,
        "prism_error": error,
        "prism_mask": mask,
        "noise_free_prism": truth,
    }


def simulate_batches(
    n: int, seed: int, batch_size: int = 64, config: SimulationConfig | None = None
) -> Iterator[SimulatedBatch]:
    """Simulate ``n`` observations, ``batch_size`` at a time; memory does not grow with ``n``.

    An observation depends on ``seed``, the configuration and its number alone, so batch size and
    workers change nothing.
    """
    if n < 0 or batch_size < 1:
        raise ValueError(f"expected n >= 0 and batch_size >= 1, got n={n}, batch_size={batch_size}")
    for start in range(0, n, batch_size):
        yield simulate_batch(np.arange(start, min(start + batch_size, n)), seed, config)
