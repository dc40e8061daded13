"""The data of a result: spectrum, redshift and lines of one galaxy, with their units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.spectrum import FLUX_UNIT, WAVELENGTH_UNIT, ObservedSpectrum, parse_unit
from kspecsr.results.arms import JointArms
from kspecsr.results.broad import on_continuum
from kspecsr.results.flags import poor_fit
from kspecsr.results.joint_lines import Estimate, JointLines
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.prism_input import display_name
from kspecsr.results.ratios import ratio_table
from kspecsr.results.redshift import RedshiftSummary

if TYPE_CHECKING:
    from astropy.table import QTable
    from specutils import Spectrum


@dataclass(frozen=True)
class ModelIdentity:
    """The model that made a result.

    Attributes:
        name: name of the model, as its folder states it.
        sha256: SHA-256 of its weights.
        grid: pixels of its output.
        software: package name to version, of the run that made the result.
        lines: list of lines that it measures.
    """

    name: str
    sha256: str
    grid: UnifiedGrid
    software: Mapping[str, str] = field(default_factory=dict)
    lines: str = "first"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumResult:
    """One super-resolved spectrum; `kspecsr.results.result.Result` adds pictures and files.

    Arrays are in um and erg/s/cm2/A; `spectrum` and the files are in the input's own flux unit.

    Attributes:
        observed: the spectrum as read.
        model: the model that made this.
        wavelength: (N,) pixel centres [um, vacuum].
        flux: (N,) the super-resolved spectrum; where flagged, the first stage's. NaN where masked.
        flux_error: (N,) one sigma.
        mask: (N,) bool, True = no input data here.
        continuum: (N,) spectrum without lines; NaN where flagged.
        sr1_flux: (N,) spectrum of the first stage.
        sr1_error: (N,) one sigma.
        redshift: P(z), its modes and quantiles, and the redshift at which lines are placed.
        measurements: lines as arrays; `lines` is the table.
        chi_square: prism consistency per good pixel that sees nothing beyond the output, with 2/3 of the
            quoted variance (`kspecsr.results.prism_input.prism_chi_square`).
        flags: names out of `kspecsr.results.flags.FLAG_MEANINGS` or ``ARM_FLAGS``; with any of them no line
            is reported, unless ``lines_kept``.
        prism_wavelength: (P,) pixels on which the networks saw the spectrum [um].
        prism_flux: (P,) what they saw.
        prism_error: (P,) one sigma.
        prism_mask: (P,) bool, True = bad.
        prism_model: (P,) ``flux`` degraded to the prism; NaN where unknown.
        lines_kept: flagged, but with its lines and its super-resolved spectrum, as the caller asked, or as
            arms that disagree leave them.
        fit_probability: share of simulated spectra of this S/N that their output with lines describes worse;
            NaN of a model whose calibration does not say.
        class_probability: name out of `OBJECT_CLASSES` to its probability; empty of a model that knows
            galaxies alone.
        arms: gratings that were joined with the prism; None for none.
        date: UTC at which the result was made, ``YYYY-MM-DDThh:mm:ss``.
        stated: header cards that follow from no other field, of the file that the result was read from.
    """

    observed: ObservedSpectrum
    model: ModelIdentity
    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray
    mask: np.ndarray
    continuum: np.ndarray
    sr1_flux: np.ndarray
    sr1_error: np.ndarray
    redshift: RedshiftSummary
    measurements: LineMeasurements
    chi_square: float
    flags: tuple[str, ...]
    prism_wavelength: np.ndarray
    prism_flux: np.ndarray
    prism_error: np.ndarray
    prism_mask: np.ndarray
    prism_model: np.ndarray
    lines_kept: bool = False
    fit_probability: float = math.nan
    class_probability: Mapping[str, float] = field(default_factory=dict)
    arms: JointArms | None = None
    date: str = field(default_factory=_now)
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def object_class(self) -> str:
        """The most probable class; empty of a model that knows galaxies alone."""
        return max(self.class_probability, key=self.class_probability.get, default="")

    def __repr__(self) -> str:
        redshift = self.redshift
        if not np.isfinite(redshift.value):
            place = "no redshift"
        else:
            error = "given" if redshift.given else f"+- {redshift.error:.4f}"
            place = f"z = {redshift.value:.4f} ({error})"
        end = f"{self.measurements.detected.sum()} lines"
        if self.flags:
            end = f"{end}, " * self.lines_kept + f"flags {', '.join(self.flags)}"
        elif self.poor_fit:
            end += f", poor fit (chi-square {self.chi_square:.1f} per pixel)"
        return f"<{type(self).__name__} of {display_name(self.observed)}: {place}, {end}>"

    @property
    def input_sha256(self) -> str:
        """SHA-256 of the file that was read; empty where the spectrum came from no file of its own."""
        return self.observed.meta.sha256

    @property
    def poor_fit(self) -> bool:
        """Whether the degraded spectrum is far from the prism: neither it nor its lines are to be trusted."""
        return bool(poor_fit(self.chi_square, self.fit_probability))

    @property
    def broad_spectrum(self) -> np.ndarray | None:
        """(N,) continuum with broad components, NaN beside them; None where there probably are none."""
        broad = self.measurements.broad
        if broad is None or not broad.likely:
            return None
        centre = self.measurements.wavelength
        return on_continuum(self.wavelength, self.continuum, centre, broad.broad_flux, broad.fwhm)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was masked, assumed or ignored in the input, one sentence each."""
        return self.observed.meta.notes

    @property
    def flux_unit(self) -> u.UnitBase:
        """Unit of the input's flux."""
        return usable_unit(self.observed.meta.flux_unit)

    def in_flux_unit(self, values: np.ndarray, wavelength: np.ndarray | None = None) -> np.ndarray:
        """Flux density [erg/s/cm2/A] in the input's unit.

        Args:
            values: (n,) [erg/s/cm2/A].
            wavelength: (n,) [um]; None for the output's pixels.
        """
        wavelength = self.wavelength if wavelength is None else wavelength
        return converted(values, FLUX_UNIT, self.flux_unit, wavelength)

    @property
    def spectrum(self) -> Spectrum:
        """The super-resolved spectrum for specutils, in the input's flux unit, at the result's redshift."""
        from astropy.nddata import StdDevUncertainty
        from specutils import Spectrum  # seconds to import: only where it is asked for

        unit, value = self.flux_unit, self.redshift.value
        return Spectrum(
            spectral_axis=self.wavelength * WAVELENGTH_UNIT,
            flux=self.in_flux_unit(self.flux) * unit,
            uncertainty=StdDevUncertainty(self.in_flux_unit(self.flux_error) * unit),
            mask=self.mask,
            redshift=value if np.isfinite(value) else None,
            meta={
                "redshift": value,
                "flags": self.flags,
                "model": self.model.name,
                "model_sha256": self.model.sha256,
                "input": self.observed.meta.path,
            },
        )

    @cached_property
    def lines(self) -> QTable:
        """One row per line of the shipped list, with units (`kspecsr.results.lines.LINE_COLUMNS`).

        The same table at each access: columns that are added to it stay. Files hold the columns of the list.
        """
        return self.line_table()

    @cached_property
    def joint_lines(self) -> JointLines:
        """Fluxes of all lines with the covariance of their errors, where the model states one."""
        return JointLines.of(self.measurements)

    @cached_property
    def ratios(self) -> QTable:
        """Diagnostic ratios, sums of blended lines and E(B-V) (`kspecsr.results.ratios.COLUMNS`)."""
        return ratio_table(self.joint_lines, self.measurements.prior_weight)

    def line_samples(self, n: int, seed: int = 0) -> np.ndarray:
        """(n, K) fluxes [erg/s/cm2] of all lines of the list together; see `JointLines.samples`."""
        return self.joint_lines.samples(n, seed)

    def flux_of(self, *names: str) -> Estimate:
        """Sum of lines [erg/s/cm2], such as ``flux_of("[OII]_3727", "[OII]_3730")``; see `JointLines`."""
        return self.joint_lines.flux_of(*names)

    def ratio(self, over: str | tuple[str, ...], under: str | tuple[str, ...]) -> Estimate:
        """Ratio of lines or of sums, such as ``ratio("[NII]_6585", "Halpha")``; see `JointLines`."""
        return self.joint_lines.ratio(over, under)

    def line_table(self) -> QTable:
        """A new table of the lines."""
        table = self.measurements.to_table()
        table.meta["redshift"] = self.redshift.value
        table.meta["flags"] = list(self.flags)
        return table


def converted(values: np.ndarray, unit: u.UnitBase, wanted: u.UnitBase, wavelength: np.ndarray) -> np.ndarray:
    """Flux density in another unit, float64.

    Args:
        values: (n,) flux density.
        unit: unit of ``values``.
        wanted: unit of the result.
        wavelength: (n,) [um].
    """
    values = np.asarray(values, dtype=np.float64)
    if unit.is_equivalent(wanted):
        return values * unit.to(wanted)
    return values * _factors(unit, wanted, np.asarray(wavelength, dtype=np.float64).tobytes())


@lru_cache(maxsize=8)  # building the equivalency takes longer than the rest of reading a file
def _factors(unit: u.UnitBase, wanted: u.UnitBase, wavelength: bytes) -> np.ndarray:
    wavelength = np.frombuffer(wavelength)
    return unit.to(wanted, np.ones(wavelength.size), u.spectral_density(wavelength * WAVELENGTH_UNIT))


@lru_cache(maxsize=64)
def usable_unit(text: str) -> u.UnitBase:
    """The unit that a file states; erg/s/cm2/A where FITS has no word for it."""
    try:
        unit = parse_unit(text)
        unit.to_string("fits")
    except (ValueError, u.UnitsError):
        return FLUX_UNIT
    usable = unit.is_equivalent(FLUX_UNIT, u.spectral_density(1.0 * WAVELENGTH_UNIT))
    return unit if usable else FLUX_UNIT
