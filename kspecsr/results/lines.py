"""Lines of one spectrum: fluxes, widths, presence, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import list_of
from kspecsr.results.broad import BroadLines

if TYPE_CHECKING:
    from astropy.table import QTable

LINE_FLUX_UNIT = "erg / (s cm2)"
LIMIT_SIGMA = 3.0
LIKELY = 0.5  # presence above which a line is probably there


class LineColumn(NamedTuple):
    """One column of line tables.

    Attributes:
        attribute: of `LineMeasurements`.
        unit: as astropy writes it; empty for none.
        meaning: in words.
        format: how tables show its numbers; files hold them in full.
    """

    attribute: str
    unit: str
    meaning: str
    format: str = ""


# FITS and ECSV have these names; surveys and the served model use the attributes' names.
LINE_COLUMNS = {
    "NAME": LineColumn("line", "", "line"),
    "WAVE_REST": LineColumn("wave_rest", "Angstrom", "rest wavelength in vacuum", ".3f"),
    "WAVE_OBS": LineColumn("wavelength", "um", "fitted centre, vacuum", ".5f"),
    "FLUX": LineColumn("flux", LINE_FLUX_UNIT, "flux", ".3e"),
    "FLUX_ERR": LineColumn("flux_error", LINE_FLUX_UNIT, "one sigma", ".1e"),
    "FWHM": LineColumn("fwhm", "um", "observed width, instrument included", ".5f"),
    "EW_REST": LineColumn(
        "equivalent_width", "Angstrom", "rest equivalent width, positive in emission", ".1f"
    ),
    "PRESENCE": LineColumn("presence", "", "chance of more than 3 sigma at grating depth", ".2f"),
    "SNR": LineColumn("signal_to_noise", "", "FLUX / FLUX_ERR", ".1f"),
    "UPPER_LIMIT": LineColumn("upper_limit", LINE_FLUX_UNIT, "3 FLUX_ERR", ".1e"),
    "IN_RANGE": LineColumn("in_range", "", "centre lies on data"),
    "PRIOR_WEIGHT": LineColumn("prior_weight", "", "share of the value owed to the learned prior", ".2f"),
}
# of models whose permitted lines have broad components; attributes of `BroadLines`
BROAD_COLUMNS = {
    "FLUX_NARROW": LineColumn("narrow_flux", LINE_FLUX_UNIT, "flux of the narrow component", ".3e"),
    "FLUX_NARROW_ERR": LineColumn("narrow_flux_error", LINE_FLUX_UNIT, "one sigma", ".1e"),
    "FLUX_BROAD": LineColumn("broad_flux", LINE_FLUX_UNIT, "flux of the broad component", ".3e"),
    "FLUX_BROAD_ERR": LineColumn(
        "broad_flux_error", LINE_FLUX_UNIT, "one sigma; 0: this line can have none", ".1e"
    ),
    "FWHM_BROAD": LineColumn("broad_fwhm", "km / s", "width of all broad components", ".0f"),
    "P_BROAD": LineColumn("broad_probability", "", "chance that there are broad components", ".2f"),
}


@dataclass(frozen=True, eq=False)
class LineMeasurements:
    """K lines, in the order of the list that has so many; NaN where out of range or not reported.

    Attributes:
        flux: (K,) [erg/s/cm2].
        flux_error: (K,) one sigma [erg/s/cm2].
        wavelength: (K,) observed centre [um, vacuum].
        fwhm: (K,) observed [um], instrument included.
        equivalent_width: (K,) rest frame [Angstrom].
        presence: (K,) 0-1; 0 where out of range or not reported.
        in_range: (K,) bool, the centre lies on data.
        prior_weight: (K,) 0 (this spectrum alone) to 1 (learned prior alone).
        correlation: (K, K) of the errors, NaN in rows and columns of lines that are not reported; None for a
            model that states each line's error by itself.
        broad: narrow and broad components, which add up to ``flux``; None of a model without.
    """

    flux: np.ndarray
    flux_error: np.ndarray
    wavelength: np.ndarray
    fwhm: np.ndarray
    equivalent_width: np.ndarray
    presence: np.ndarray
    in_range: np.ndarray
    prior_weight: np.ndarray
    correlation: np.ndarray | None = None
    broad: BroadLines | None = None

    @property
    def line(self) -> np.ndarray:
        """(K,) names."""
        return np.array(list_of(self.flux.size).names)

    @property
    def wave_rest(self) -> np.ndarray:
        """(K,) rest wavelengths [Angstrom, vacuum]."""
        return list_of(self.flux.size).wavelength * ANGSTROM_PER_UM

    @property
    def signal_to_noise(self) -> np.ndarray:
        """(K,) flux over error; NaN where not reported."""
        return self.flux / self.flux_error

    @property
    def upper_limit(self) -> np.ndarray:
        """(K,) three sigma [erg/s/cm2]; NaN where not reported."""
        return LIMIT_SIGMA * self.flux_error

    @property
    def reported(self) -> np.ndarray:
        """(K,) bool, lines with a flux whose centre lies on data."""
        return self.in_range & np.isfinite(self.flux)

    @property
    def detected(self) -> np.ndarray:
        """(K,) bool, lines above 3 sigma that are probably there."""
        with np.errstate(invalid="ignore"):
            return (self.signal_to_noise > LIMIT_SIGMA) & (self.presence > LIKELY)

    def brightest(self) -> int | None:
        """Row of the detected line with the most flux; None without one."""
        detected = self.detected
        return int(np.argmax(np.where(detected, self.flux, -np.inf))) if detected.any() else None

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of `LINE_COLUMNS` in their units, and of `BROAD_COLUMNS` where there are any."""
        found = {name: getattr(self, column.attribute) for name, column in LINE_COLUMNS.items()}
        parts = BROAD_COLUMNS.items() if self.broad is not None else ()
        return found | {name: getattr(self.broad, column.attribute) for name, column in parts}

    def to_table(self) -> QTable:
        """As an astropy table with units, descriptions and formats."""
        return line_qtable(self.columns())


def line_qtable(columns: Mapping[str, np.ndarray]) -> QTable:
    """A table with units, descriptions and formats of the columns that are known; others may be there too."""
    from astropy.table import QTable  # slow to import: only where a table is asked for

    known = {name: column for name, column in (LINE_COLUMNS | BROAD_COLUMNS).items() if name in columns}
    table = QTable(
        dict(columns),
        units={name: column.unit for name, column in known.items() if column.unit},
        descriptions={name: column.meaning for name, column in known.items()},
    )
    for name, column in known.items():
        table[name].info.format = column.format or None
    return table
