"""Real grating spectra as truth: seen through the prism, with the noise of the release added."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, binary_opening, median_filter

from data_pipeline.instrument import (
    FWHM_PER_SIGMA,
    GRATINGS,
    PRISM,
    Instrument,
    arm_shares,
    load_instrument,
    reference_instrument,
)
from data_pipeline.instrument.prism_pixels import quadratic_form
from data_pipeline.lines import load_lines
from data_pipeline.lines.grating_fit import FittedArm, LineFluxes, fit_lines
from data_pipeline.lines.profile import render_lines
from data_pipeline.pixel_grid import UnifiedGrid, pixel_bounds
from data_pipeline.resampling import resampler
from data_pipeline.simulation import Nuisances
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import draw_conditions, latent_noise_level
from data_pipeline.simulation.observation import observe_prism
from data_pipeline.simulation.survey import load_tiers
from kspecsr.evaluation.sources import SHIPPED_SEED, held_out_of
from kspecsr.feeds.simulated import DETECTABLE, in_record_units
from kspecsr.measures.held_out import HeldOut

PATTERN = "*_gratings_*.fits"
_STRAIGHT = 1e-3  # errors off the straight line between its neighbours, below which a pixel is interpolated
_RUN = 4  # such pixels in a row; noise makes no two
_SAMPLED = 3.0  # um, below which pixels of 16 Angstrom undersample the gratings
_LAGS = (1, 2)  # pixels over which the gratings' rebinned noise is correlated
_WINDOW = 41  # pixels of the running median under which residuals are noise
_CLIPPED = 4.0  # sigma of residuals that are lines, or outliers


@dataclass(frozen=True, eq=False)
class GratingSpectra:
    """g stitched grating spectra on n common pixels; mask True = bad.

    Attributes:
        path: file that they come from.
        wavelength: (n,) [um].
        name: g names, ``tier_id``.
        redshift: (g,).
        flux, error: (g, n) [erg/s/cm2/A].
        mask: (g, n) bool: no data, or interpolated over a gap.
    """

    path: Path
    wavelength: np.ndarray
    name: tuple[str, ...]
    redshift: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray

    @classmethod
    def read(cls, folder: str | Path) -> GratingSpectra:
        """Reads the file of grating spectra in a folder, or a file.

        HDU ``WAVELENGTH`` [um], table ``GRATINGS`` with ``UNIQUE_ID``, ``Z``, ``FLUX``, ``FLUX_ERR``
        [erg/s/cm2/A].

        Raises:
            FileNotFoundError: where there is none.
            ValueError: for another layout, naming file and HDU.
        """
        folder = Path(folder)
        found = sorted(folder.glob(PATTERN)) if folder.is_dir() else [folder]
        if not found or not found[0].is_file():
            raise FileNotFoundError(f"{folder}: no file {PATTERN} there; give the folder of the gratings")
        with fits.open(found[0]) as hdus:
            try:
                wavelength, table = np.asarray(hdus["WAVELENGTH"].data, float), hdus["GRATINGS"].data
                flux, error = (np.asarray(table[name], float) for name in ("FLUX", "FLUX_ERR"))
                redshift, names = np.asarray(table["Z"], float), tuple(map(str, table["UNIQUE_ID"]))
            except (KeyError, TypeError) as problem:
                raise ValueError(
                    f"{found[0]}: {problem}; expected HDU WAVELENGTH [um] and table HDU GRATINGS with "
                    "UNIQUE_ID, Z, FLUX and FLUX_ERR"
                ) from problem
        if flux.shape[1:] != wavelength.shape or not (np.diff(wavelength) > 0).all():
            raise ValueError(
                f"{found[0]}: FLUX of HDU GRATINGS has shape {flux.shape}, WAVELENGTH {wavelength.shape}; "
                "expected one flux per wavelength, which increase"
            )
        bad = ~np.isfinite(flux) | ~np.isfinite(error) | ~(error > 0)
        flux, error = np.where(bad, 0.0, flux), np.where(bad, np.nanmedian(error), error)
        return cls(found[0], wavelength, names, redshift, flux, error, bad | interpolated(flux, error))

    @cached_property
    def arm(self) -> np.ndarray:
        """(n,) number of the grating that most of a pixel comes from."""
        shares = arm_shares(self.wavelength)
        return np.argmax([shares[load_instrument(name).disperser] for name in GRATINGS], axis=0)

    @cached_property
    def instrument(self) -> Instrument:
        """The gratings after their pixels were averaged over these: wider where these are wider."""
        shares, sharp = arm_shares(self.wavelength), reference_instrument()
        arms = [load_instrument(name) for name in GRATINGS]
        native = sum(shares[arm.disperser] * arm.pixel_width(self.wavelength) ** 2 for arm in arms)
        width = np.diff(pixel_bounds(self.wavelength), axis=0)[0]
        variance = sharp.sigma(self.wavelength) ** 2 + (width**2 - native) / 12.0
        return replace(
            sharp.with_pixels(self.wavelength),
            table_wavelength=self.wavelength,
            table_resolving_power=self.wavelength / (FWHM_PER_SIGMA * np.sqrt(variance)),
        )

    @cached_property
    def noise(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) scatter over quoted error, and (lags, n) correlation of neighbours, per grating."""
        ratio = self.flux / self.error
        residual = ratio - median_filter(ratio, (1, _WINDOW))
        used = ~self.mask & (np.abs(residual) < _CLIPPED)
        residual = np.where(used, residual, 0.0)
        scale, correlation = np.ones(len(self.wavelength)), np.zeros((len(_LAGS), len(self.wavelength)))
        for arm in range(len(GRATINGS)):
            here = self.arm == arm
            part, good = residual[:, here], used[:, here]
            variance = (part**2).sum() / max(good.sum(), 1)
            scale[here] = np.sqrt(variance) if variance > 0 else 1.0
            for k, lag in enumerate(_LAGS):
                both = (good[:, lag:] & good[:, :-lag]).sum()
                product = (part[:, lag:] * part[:, :-lag]).sum() / max(both, 1)
                correlation[k, here] = np.clip(product / max(variance, 1e-30), 0.0, 0.7)
        return scale, correlation

    def fit(self, row: int) -> LineFluxes:
        """Lines of a galaxy fitted on its grating spectrum, with errors that its residuals have."""
        error = self.noise[0] * self.error[row]
        arm = FittedArm(self.instrument, self.flux[row], error, self.mask[row])
        return fit_lines([arm], float(self.redshift[row]))


def interpolated(flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(g, n) bool: pixels filled by interpolation over a gap, where flux and error run straight."""
    straight = np.ones(flux.shape, bool)
    for values in (flux, error):
        straight[:, 1:-1] &= np.abs(np.diff(values, 2, axis=1)) < _STRAIGHT * error[:, 1:-1]
    straight[:, 0], straight[:, -1] = straight[:, 1], straight[:, -2]
    runs = binary_opening(straight, np.ones((1, _RUN)))
    return binary_dilation(runs, np.ones((1, 3)))


class GratingHeldOut:
    """Real galaxies whose grating spectra are seen through the prism.

    The line-spread operator adds what width the gratings lack, noise of the release is drawn for the galaxy's
    tier, and line fluxes are judged against fits to the grating itself. The gratings' own noise comes along,
    smoothed by the prism: it is quoted as the error that prism noise would have if it gave an unresolved
    line the same error. Fluxes stay on the gratings' scale.

    The grating's noise is thus in the prism *and* in the reference: where the errors are right, (flux -
    reference) over both errors in quadrature scatters by less than one: see
    `kspecsr.measures.line_by_line.shared_pull_scatter`.

    Args:
        folder: of the file with the gratings, or the file.
        grid: of the model.
        seed: of the noise.
        chunk_size: galaxies at a time.
        lines: list of the model; what the fits to gratings lack of it counts as not known.

    Raises:
        FileNotFoundError, ValueError: as `GratingSpectra.read`.
    """

    def __init__(
        self,
        folder: str | Path,
        grid: UnifiedGrid,
        seed: int = SHIPPED_SEED,
        chunk_size: int = 128,
        lines: str = "first",
    ):
        self.lines = load_lines(lines)
        self.grid, self.seed, self.chunk_size = grid, seed, chunk_size
        self.spectra = GratingSpectra.read(folder)
        self._chunks: dict[int, HeldOut] = {}

    @property
    def title(self) -> str:
        """What the galaxies are."""
        return "real galaxies whose gratings were seen through the prism, judged by line fits to the gratings"

    @property
    def description(self) -> dict:
        """Description of the galaxies, plain JSON values."""
        return {
            "data": "gratings",
            "file": self.spectra.path.name,
            "sha256": hashlib.sha256(self.spectra.path.read_bytes()).hexdigest(),
            "seed": self.seed,
            "grid": asdict(self.grid),
            "chunk_size": self.chunk_size,
            **({"lines": len(self.lines)} if len(self.lines) != len(load_lines()) else {}),
        }

    def chunk(self, number: int) -> HeldOut | None:
        """See `HeldOutSource`."""
        rows = np.arange(number * self.chunk_size, (number + 1) * self.chunk_size)
        rows = rows[rows < len(self.spectra.name)]
        if rows.size == 0:
            return None
        if number not in self._chunks:  # fits take seconds, and the report asks again
            examples = {**self._prism(rows), **self._target(rows), **self._lines(rows)}
            examples["true_redshift"] = self.spectra.redshift[rows].astype(np.float32)
            self._chunks[number] = held_out_of(examples, rows, self.grid)
        return self._chunks[number]

    @cached_property
    def _operator(self):
        return load_instrument(PRISM).line_spread_operator(
            pixel_bounds(self.spectra.wavelength), seen_by=self.spectra.instrument
        )

    def _prism(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        spectra, nuisances = self.spectra, Nuisances()
        draws = Draws(self.seed, rows)
        names = load_tiers().names
        tier = [spectra.name[row].rsplit("_", 1)[0] for row in rows]
        depth = np.array([latent_noise_level(names.index(t), 0.0) if t in names else 0.0 for t in tier])
        scatter = latent_noise_level(0, draws.normal("noise level")) - latent_noise_level(0, 0.0)
        conditions = draw_conditions(nuisances, draws, depth + scatter, np.zeros(rows.size, bool))
        seen = self._operator.apply(np.where(spectra.mask[rows], self._filled[rows], spectra.flux[rows]))
        observed = observe_prism(seen, conditions, nuisances, draws)
        error = np.hypot(observed.error, self._carried_error(rows))
        dark = np.array([self._operator.propagate_mask(spectra.mask[row]) for row in rows])
        mask = observed.mask | dark | ~np.isfinite(observed.flux) | ~np.isfinite(error)
        return {
            "prism_flux": np.where(mask, np.float32(0.0), in_record_units(observed.flux)),
            "prism_error": np.where(mask, np.float32(1.0), in_record_units(error)),
            "prism_mask": mask,
        }

    @cached_property
    def _filled(self) -> np.ndarray:
        """(g, n) flux with masked pixels interpolated: up to a tenth of a prism pixel's light is such."""
        spectra, out = self.spectra, self.spectra.flux.copy()
        for row, bad in enumerate(spectra.mask):
            if bad.any() and not bad.all():
                out[row, bad] = np.interp(
                    spectra.wavelength[bad], spectra.wavelength[~bad], spectra.flux[row, ~bad]
                )
        return out

    def _carried_error(self, rows: np.ndarray) -> np.ndarray:
        """(b, P) prism error [erg/s/cm2/A] as which the gratings' noise counts; see the class."""
        prism = load_instrument(PRISM)
        pixels = prism.wavelength.size
        width = np.zeros(pixels)
        line = render_lines(prism, prism.wavelength, np.ones(pixels), width, row=np.arange(pixels))
        line /= np.sqrt((line**2).sum(axis=1, keepdims=True))
        through = (self._operator.matrix.T @ line.T).T  # (P, n): what a matched filter takes of each pixel
        scale, correlation = self.spectra.noise
        sigma = scale * self.spectra.error[rows]
        variance = sigma**2 @ (through**2).T
        for k, lag in enumerate(_LAGS):
            shared = sigma[:, lag:] * sigma[:, :-lag] * correlation[k, lag:]
            variance += 2.0 * shared @ (through[:, lag:] * through[:, :-lag]).T
        return np.sqrt(np.maximum(variance, 0.0) / quadratic_form(line))

    def _target(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The gratings on the model's grid where they are sampled well enough to compare shapes."""
        spectra, shape = self.spectra, (rows.size, self.grid.size)
        rebin = resampler(pixel_bounds(spectra.wavelength), self.grid.bounds)
        parts = [rebin.resample(spectra.flux[row], spectra.error[row], spectra.mask[row]) for row in rows]
        flux, error, mask = (np.array(part) for part in zip(*parts, strict=True))
        mask = mask | (self.grid.wavelength < _SAMPLED)
        return {
            "target_flux": in_record_units(np.where(mask, 0.0, flux)),
            "target_error": in_record_units(np.where(mask, 0.0, error)),
            "target_mask": mask,
            "target_continuum": np.zeros(shape, np.float32),
            "continuum_known": np.zeros(rows.size, bool),
        }

    def _lines(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        fits_ = [self.spectra.fit(row) for row in rows]
        flux, error = (np.array([getattr(one, name) for one in fits_]) for name in ("flux", "error"))
        observed = load_lines().wavelength * (1.0 + self.spectra.redshift[rows, None])
        known = np.array([one.covered for one in fits_]) & np.isfinite(flux) & np.isfinite(error)
        known &= (observed >= self.grid.start) & (observed <= self.grid.stop)
        found = {
            "line_flux": in_record_units(np.where(known, flux, 0.0)),
            "line_error": in_record_units(np.where(known, error, 0.0)),
            "line_known": known,
            "line_detectable": known & (np.nan_to_num(flux) > DETECTABLE * np.nan_to_num(error)),
        }
        lacking = len(self.lines) - known.shape[1]
        return {name: np.pad(values, ((0, 0), (0, lacking))) for name, values in found.items()}
