"""An instrument: its pixels, resolving power and line-spread function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from data_pipeline.instrument.line_spread import FWHM_PER_SIGMA, LineSpreadOperator, line_spread_operator
from data_pipeline.pixel_grid import pixel_bounds
from data_pipeline.tables import read_table


@dataclass(frozen=True, eq=False)
class Instrument:
    """A disperser with its pixels and its line-spread function.

    Attributes:
        name: e.g. ``nirspec-prism``.
        disperser: as in FITS headers, e.g. ``PRISM``.
        filter: as in FITS headers, e.g. ``CLEAR``.
        wavelength: (n,) pixel centres [um, vacuum].
        bounds: (2, n) lower and upper bounds of the pixels [um].
        table_wavelength: (m,) where the resolving power is tabulated [um].
        table_resolving_power: (m,) lambda / FWHM there, as tabulated.
        illumination: illumination of the slit, ``uniform`` or ``point``.
        scale: factor on the tabulated resolving power.
    """

    name: str
    disperser: str
    filter: str
    wavelength: np.ndarray
    bounds: np.ndarray
    table_wavelength: np.ndarray
    table_resolving_power: np.ndarray
    illumination: str
    scale: float

    def resolving_power(self, wavelength: np.ndarray) -> np.ndarray:
        """Lambda / FWHM at ``wavelength`` [um]; beyond the table the FWHM stays that of its end."""
        wavelength = np.asarray(wavelength, dtype=np.float64)
        table = self.table_wavelength
        tabulated = np.interp(wavelength, table, self.table_resolving_power)
        return self.scale * tabulated * wavelength / np.clip(wavelength, table[0], table[-1])

    def fwhm(self, wavelength: np.ndarray) -> np.ndarray:
        """Full width at half maximum [um] of an unresolved line, pixel included."""
        return np.asarray(wavelength, dtype=np.float64) / self.resolving_power(wavelength)

    def sigma(self, wavelength: np.ndarray) -> np.ndarray:
        """One-sigma width [um] of an unresolved line, pixel included."""
        return self.fwhm(wavelength) / FWHM_PER_SIGMA

    def pixel_width(self, wavelength: np.ndarray) -> np.ndarray:
        """Width [um] of a pixel at ``wavelength`` [um], interpolated between pixel centres."""
        return np.interp(wavelength, self.wavelength, np.diff(self.bounds, axis=0)[0])

    def position(self, wavelength: np.ndarray) -> np.ndarray:
        """Place of ``wavelength`` [um] in pixels: 0 at the first centre, linear beyond the ends."""
        centre, last = self.wavelength, self.wavelength.size - 1
        inside = np.interp(wavelength, centre, np.arange(centre.size))
        # Beyond the ends the step of the last pixels goes on, so that a line that leaves the range does so
        # smoothly.
        below = np.minimum((wavelength - centre[0]) / (centre[1] - centre[0]), 0.0)
        above = np.maximum((wavelength - centre[last]) / (centre[last] - centre[last - 1]), 0.0)
        return inside + below + above

    def pixel_of(self, wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel that holds ``wavelength`` [um], or the nearest one, and whether one holds it."""
        lower, upper = self.bounds
        pixel = np.clip(np.searchsorted(lower, wavelength, "right") - 1, 0, lower.size - 1)
        return pixel, (wavelength >= lower[pixel]) & (wavelength <= upper[pixel])

    def line_spread_operator(
        self, bounds_in: np.ndarray, seen_by: Instrument | None = None
    ) -> LineSpreadOperator:
        """Operator from pixels, of bounds (2, n_in) [um], to this instrument's.

        Of an input ``seen_by`` another instrument only the missing width is added.
        """
        sigma_in = None if seen_by is None else seen_by.sigma
        return line_spread_operator(bounds_in, self.bounds, self.sigma, sigma_in)

    def with_pixels(self, wavelength: np.ndarray, bounds: np.ndarray | None = None) -> Instrument:
        """The same optics sampled on other pixels (centres [um])."""
        wavelength = np.asarray(wavelength, dtype=np.float64)
        return replace(
            self, wavelength=wavelength, bounds=pixel_bounds(wavelength) if bounds is None else bounds
        )

    def with_scale(self, scale: float) -> Instrument:
        """The same pixels with another factor on the tabulated resolving power."""
        if not scale > 0:
            raise ValueError(f"{self.name}: expected a positive resolving power scale, got {scale}")
        return replace(self, scale=float(scale))


@dataclass(frozen=True)
class InstrumentEntry:
    """Registry entry of an instrument.

    Attributes:
        name: e.g. ``nirspec-g395m``.
        disperser: as in FITS headers.
        filter: as in FITS headers.
        wavelength_range: first and last pixel of a released spectrum [um].
        curves: illumination to table file with columns ``wavelength_um``, ``resolving_power``; a file
            with ``dispersion_um_per_pixel`` too defines the pixels where ``pixels`` names no table.
        scales: illumination to the default factor on the curve; 1 where absent.
        pixels: table with the pixel centres in ``wavelength_um``; empty to build them from the dispersion.
        detector_pixels_per_pixel: size of an extracted pixel in detector pixels.
        source: where the numbers come from.
    """

    name: str
    disperser: str
    filter: str
    wavelength_range: tuple[float, float]
    curves: Mapping[str, str]
    scales: Mapping[str, float] = field(default_factory=dict)
    pixels: str = ""
    detector_pixels_per_pixel: float = 1.0
    source: str = ""


_ENTRIES: dict[str, InstrumentEntry] = {}


def register_instrument(entry: InstrumentEntry) -> None:
    """Register an instrument for `load_instrument`.

    Raises:
        ValueError: if another entry has the name, or the entry has no curve.
    """
    if entry.name in _ENTRIES and _ENTRIES[entry.name] != entry:
        raise ValueError(f"instrument {entry.name!r} is registered already; choose another name")
    if not entry.curves:
        raise ValueError(f"instrument {entry.name!r}: expected at least one resolving power curve, got none")
    _ENTRIES[entry.name] = entry


def instrument_names() -> tuple[str, ...]:
    """Names that `load_instrument` takes."""
    return tuple(sorted(_ENTRIES))


def instrument_for(disperser: str) -> str:
    """Name of the instrument with this disperser keyword, e.g. ``G395M``.

    Raises:
        KeyError: listing the known dispersers.
    """
    for entry in _ENTRIES.values():
        if entry.disperser == disperser.upper():
            return entry.name
    known = ", ".join(sorted(entry.disperser for entry in _ENTRIES.values()))
    raise KeyError(f"no instrument with disperser {disperser!r}; known dispersers: {known}")


@lru_cache(maxsize=64)
def load_instrument(name: str, illumination: str = "uniform", scale: float | None = None) -> Instrument:
    """Load an instrument by name.

    Args:
        name: one of `instrument_names`.
        illumination: ``uniform`` (slit filled) or ``point`` (point source in a shutter).
        scale: factor on the tabulated resolving power; None for what reduced spectra show.

    Raises:
        KeyError: for an unknown name or illumination, listing the known ones.
        ValueError: for a table without dispersion where the pixels must be built from it.
    """
    if name not in _ENTRIES:
        raise KeyError(f"unknown instrument {name!r}; known instruments: {', '.join(instrument_names())}")
    entry = _ENTRIES[name]
    if illumination not in entry.curves:
        raise KeyError(
            f"{name} has no curve for illumination {illumination!r}; known: {', '.join(sorted(entry.curves))}"
        )
    curve = read_table(entry.curves[illumination])
    wavelength = _pixels(entry)
    instrument = Instrument(
        name=name,
        disperser=entry.disperser,
        filter=entry.filter,
        wavelength=wavelength,
        bounds=pixel_bounds(wavelength),
        table_wavelength=curve["wavelength_um"],
        table_resolving_power=curve["resolving_power"],
        illumination=illumination,
        scale=1.0,
    )
    return instrument.with_scale(entry.scales.get(illumination, 1.0) if scale is None else scale)


def _pixels(entry: InstrumentEntry) -> np.ndarray:
    low, high = entry.wavelength_range
    if entry.pixels:
        wavelength = read_table(entry.pixels)["wavelength_um"]
        return wavelength[(wavelength >= low - 1e-9) & (wavelength <= high + 1e-9)]
    for file in entry.curves.values():
        table = read_table(file)
        if "dispersion_um_per_pixel" in table:
            break
    else:
        raise ValueError(
            f"{entry.name}: no curve has a column 'dispersion_um_per_pixel' and no pixel table is named; "
            "add the column or a table of pixel centres"
        )
    # Integrate pixels per um, then read off the wavelengths of whole pixels.
    fine = np.linspace(low, high, 20001)
    density = 1.0 / np.interp(fine, table["wavelength_um"], table["dispersion_um_per_pixel"])
    pixel = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine))])
    steps = np.arange(0.0, pixel[-1], entry.detector_pixels_per_pixel)
    return np.interp(steps, pixel, fine)
