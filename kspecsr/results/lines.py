"""Lines of one spectrum: fluxes, widths, presence, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM
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
            "WAVE_REST": lines.wavelength * ANGSTROM_PER_UM,
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
