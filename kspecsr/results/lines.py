"""Lines of one spectrum: fluxes, widths, presence, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.lines import load_lines

if TYPE_CHECKING:
    from astropy.table import QTable

LINE_FLUX_UNIT = "erg / (s cm2)"
LIMIT_SIGMA = 3.0
LIKELY = 0.5  # presence above which a line is probably there

# column -> unit as astropy writes it, and what it holds
LINE_COLUMNS = {
    "NAME": ("", "line"),
    "WAVE_REST": ("Angstrom", "rest wavelength in vacuum"),
    "WAVE_OBS": ("um", "fitted centre, vacuum"),
    "FLUX": (LINE_FLUX_UNIT, "flux"),
    "FLUX_ERR": (LINE_FLUX_UNIT, "one sigma"),
    "FWHM": ("um", "observed width, instrument included"),
    "EW_REST": ("Angstrom", "rest equivalent width, positive in emission"),
    "PRESENCE": ("", "chance of more than 3 sigma at grating depth"),
    "SNR": ("", "FLUX / FLUX_ERR"),
    "UPPER_LIMIT": (LINE_FLUX_UNIT, "3 FLUX_ERR"),
    "IN_RANGE": ("", "centre lies on data"),
    "PRIOR_WEIGHT": ("", "share of the value owed to the learned prior"),
}


@dataclass(frozen=True, eq=False)
class LineMeasurements:
    """K lines of the shipped list, in its order; NaN where out of range or not reported.

    Attributes:
        flux: (K,) [erg/s/cm2].
        flux_error: (K,) one sigma [erg/s/cm2].
        wavelength: (K,) observed centre [um, vacuum].
        fwhm: (K,) observed [um], instrument included.
        equivalent_width: (K,) rest frame [Angstrom].
        presence: (K,) 0-1; 0 where out of range or not reported.
        in_range: (K,) bool, the centre lies on data.
        prior_weight: (K,) 0 (this spectrum alone) to 1 (learned prior alone).
    """

    flux: np.ndarray
    flux_error: np.ndarray
    wavelength: np.ndarray
    fwhm: np.ndarray
    equivalent_width: np.ndarray
    presence: np.ndarray
    in_range: np.ndarray
    prior_weight: np.ndarray

    @classmethod
    def from_outputs(
        cls, outputs: Mapping[str, np.ndarray], grid: np.ndarray, mask: np.ndarray
    ) -> LineMeasurements:
        """Lines of one spectrum, blank where their centre does not lie on data.

        Args:
            outputs: (K,) arrays ``line_*`` of the composed model.
            grid: (N,) wavelengths of the output [um].
            mask: (N,) bool, True = no data there.
        """
        centre = np.asarray(outputs["line_wavelength"], dtype=np.float64)
        column = np.clip(np.searchsorted(grid, centre), 1, grid.size - 1)
        column -= (centre - grid[column - 1]) < (grid[column] - centre)
        flux = np.asarray(outputs["line_flux"], dtype=np.float64)
        sigma = np.asarray(outputs["line_flux_error"], dtype=np.float64)
        in_range = np.asarray(outputs["line_in_range"], dtype=bool) & ~mask[column]
        in_range &= np.isfinite(flux) & np.isfinite(sigma) & (sigma > 0)
        return cls(
            flux=flux,
            flux_error=sigma,
            wavelength=centre,
            fwhm=np.asarray(outputs["line_fwhm"], dtype=np.float64),
            equivalent_width=np.asarray(outputs["line_equivalent_width"], dtype=np.float64),
            presence=np.asarray(outputs["line_presence"], dtype=np.float64),
            in_range=in_range,
            prior_weight=np.asarray(outputs["line_prior_weight"], dtype=np.float64),
        ).blanked(~in_range)

    def blanked(self, rows: np.ndarray | None = None) -> LineMeasurements:
        """A copy without values in some rows (all by default): NaN, presence 0."""
        rows = np.ones(self.flux.size, bool) if rows is None else rows

        def blank(values: np.ndarray) -> np.ndarray:
            return np.where(rows, np.nan, values)

        return replace(
            self,
            flux=blank(self.flux),
            flux_error=blank(self.flux_error),
            wavelength=blank(self.wavelength),
            fwhm=blank(self.fwhm),
            equivalent_width=blank(self.equivalent_width),
            presence=np.where(rows, 0.0, self.presence),
            prior_weight=blank(self.prior_weight),
        )

    @property
    def signal_to_noise(self) -> np.ndarray:
        """(K,) flux over error; NaN where not reported."""
        return self.flux / self.flux_error

    @property
    def upper_limit(self) -> np.ndarray:
        """(K,) three sigma [erg/s/cm2]; NaN where not reported."""
        return LIMIT_SIGMA * self.flux_error

    def brightest(self) -> int | None:
        """Row of the brightest line above 3 sigma that is probably there; None without one."""
        sure = (self.signal_to_noise > LIMIT_SIGMA) & (self.presence > LIKELY)
        return int(np.argmax(np.where(sure, self.flux, -np.inf))) if sure.any() else None

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of `LINE_COLUMNS` in their units."""
        lines = load_lines()
        return {
            "NAME": np.array(lines.names),
            "WAVE_REST": lines.wavelength * 1e4,
            "WAVE_OBS": self.wavelength,
            "FLUX": self.flux,
            "FLUX_ERR": self.flux_error,
            "FWHM": self.fwhm,
            "EW_REST": self.equivalent_width,
            "PRESENCE": self.presence,
            "SNR": self.signal_to_noise,
            "UPPER_LIMIT": self.upper_limit,
            "IN_RANGE": self.in_range,
            "PRIOR_WEIGHT": self.prior_weight,
        }

    def to_table(self) -> QTable:
        """As an astropy table with units and descriptions."""
        from astropy.table import QTable  # slow to import: only where a table is asked for

        table = QTable(self.columns(), units={k: unit for k, (unit, _) in LINE_COLUMNS.items() if unit})
        for name, (_, description) in LINE_COLUMNS.items():
            table[name].info.description = description
        return table
