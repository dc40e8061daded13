"""A super-resolved spectrum with its redshift and lines, as the user gets it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np

from data_pipeline.pictures.style import save_picture
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.spectrum import FLUX_UNIT, WAVELENGTH_UNIT, ObservedSpectrum, parse_unit
from kspecsr.results.files import write_ecsv, write_fits
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.picture import draw_enhanced_spectrum
from kspecsr.results.redshift import RedshiftSummary

if TYPE_CHECKING:
    from astropy.table import QTable
    from matplotlib.figure import Figure
    from specutils import Spectrum

FORMATS = ("fits", "ecsv")


@dataclass(frozen=True)
class ModelIdentity:
    """Which model made a result.

    Attributes:
        name: as its folder states it.
        sha256: of its weights.
        grid: of the output.
        software: package to version, of the run that made the result.
    """

    name: str
    sha256: str
    grid: UnifiedGrid
    software: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Result:
    """One super-resolved spectrum.

    Arrays are in um and erg/s/cm2/A; `spectrum` and the files are in the input's own flux unit.

    Attributes:
        observed: the spectrum as read.
        model: which model made this.
        wavelength: (N,) pixel centres [um, vacuum].
        flux: (N,) the super-resolved spectrum; where flagged, the first stage's. NaN where masked.
        flux_error: (N,) one sigma.
        mask: (N,) bool, True = no input to rest on.
        continuum: (N,) without lines; NaN where flagged.
        sr1_flux: (N,) of the first stage.
        sr1_error: (N,) one sigma.
        redshift: P(z), its modes and quantiles, and the redshift at which lines are placed.
        measurements: lines as arrays; `lines` is the table.
        chi_square: prism consistency per good pixel that sees nothing beyond the output, with 2/3 of the
            quoted variance (`kspecsr.results.prism_input.prism_chi_square`).
        flags: names out of `kspecsr.results.flags.FLAG_MEANINGS`; with any of them no line is reported.
        prism_wavelength: (P,) pixels on which the networks saw the spectrum [um].
        prism_flux: (P,) what they saw.
        prism_error: (P,) one sigma.
        prism_mask: (P,) bool, True = bad.
        prism_model: (P,) ``flux`` degraded to the prism.
        input_sha256: of the file that was read; empty if none was.
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
    input_sha256: str = ""

    @property
    def flux_unit(self) -> u.UnitBase:
        """Unit of the input's flux."""
        return _flux_unit(self.observed.meta.flux_unit)

    def in_flux_unit(self, values: np.ndarray, wavelength: np.ndarray | None = None) -> np.ndarray:
        """Flux density [erg/s/cm2/A] in the input's unit.

        Args:
            values: (n,) [erg/s/cm2/A].
            wavelength: (n,) [um]; None for the output's pixels.
        """
        wavelength = self.wavelength if wavelength is None else wavelength
        unit = self.flux_unit
        values = np.asarray(values, dtype=np.float64)
        if unit.is_equivalent(FLUX_UNIT):
            return values * FLUX_UNIT.to(unit)
        return (values * FLUX_UNIT).to_value(unit, u.spectral_density(wavelength * WAVELENGTH_UNIT))

    @property
    def spectrum(self) -> Spectrum:
        """The super-resolved spectrum for specutils, in the input's flux unit."""
        from astropy.nddata import StdDevUncertainty
        from specutils import Spectrum  # seconds to import: only where it is asked for

        unit = self.flux_unit
        return Spectrum(
            spectral_axis=self.wavelength * WAVELENGTH_UNIT,
            flux=self.in_flux_unit(self.flux) * unit,
            uncertainty=StdDevUncertainty(self.in_flux_unit(self.flux_error) * unit),
            mask=self.mask,
            meta={
                "redshift": self.redshift.value,
                "flags": self.flags,
                "model": self.model.name,
                "model_sha256": self.model.sha256,
                "input": self.observed.meta.path,
            },
        )

    @property
    def lines(self) -> QTable:
        """One row per line of the shipped list, with units (`kspecsr.results.lines.LINE_COLUMNS`)."""
        table = self.measurements.to_table()
        table.meta["redshift"] = self.redshift.value
        table.meta["flags"] = list(self.flags)
        return table

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """Draws the result; also writes a PNG where a path is given."""
        figure = draw_enhanced_spectrum(self)
        if path is not None:
            save_picture(figure, path)
        return figure

    def write(self, path: str | os.PathLike, format: str = "fits") -> list[Path]:
        """Writes the result, complete or not at all.

        Args:
            path: of the file; replaced if it exists.
            format: ``fits`` (everything in one file), or ``ecsv``: the spectrum, and beside it the lines in
                ``NAME_lines.ecsv``.

        Returns:
            Files written.

        Raises:
            ValueError: for an unknown format.
        """
        if format not in FORMATS:
            raise ValueError(f"format={format!r} is unknown; expected one of {', '.join(FORMATS)}")
        return write_fits(self, path) if format == "fits" else write_ecsv(self, path)


@lru_cache(maxsize=64)
def _flux_unit(text: str) -> u.UnitBase:
    """The unit that a file states; erg/s/cm2/A where FITS has no word for it."""
    try:
        unit = parse_unit(text)
        unit.to_string("fits")
    except (ValueError, u.UnitsError):
        return FLUX_UNIT
    usable = unit.is_equivalent(FLUX_UNIT, u.spectral_density(1.0 * WAVELENGTH_UNIT))
    return unit if usable else FLUX_UNIT
