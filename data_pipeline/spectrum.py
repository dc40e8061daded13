"""The container of a measured spectrum, where units are checked once; unit strings of archives."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import astropy.units as u
import numpy as np

from data_pipeline.instrument import SPEED_OF_LIGHT

WAVELENGTH_UNIT = u.um
FLUX_UNIT = u.Unit("erg / (s cm2 Angstrom)")
_PER_FREQUENCY = (u.Jy, u.photon / (u.s * u.cm**2 * u.AA), u.photon / (u.s * u.cm**2 * u.Hz))


class SpectrumError(ValueError):
    """Input that cannot be read as a spectrum; the text names file, HDU and cure."""


@dataclass(frozen=True)
class SpectrumMeta:
    """Provenance of a spectrum.

    Attributes:
        target: name of the source as the archive writes it.
        source_id: the archive's identifier, leading zeros stripped.
        ra: right ascension [deg, ICRS]; NaN where the file has none.
        dec: declination [deg, ICRS]; NaN where the file has none.
        disperser: upper case, e.g. ``PRISM``, ``G140M``, ``G235M``, ``G395M``, ``RGS``.
        filter: upper case, e.g. ``CLEAR``, ``F070LP``.
        tier: survey tier as in the file name, e.g. ``goods-s-deephst``.
        field: sky field, e.g. ``goods-s``.
        program: observing programme.
        exposure_time: effective exposure time [s]; NaN where unknown.
        format: name of the reader, e.g. ``jades-dr4``.
        extraction: which extraction was read, e.g. ``3pix``; empty if there is only one.
        flux_unit: unit of the flux as the file gives it (astropy string).
        redshift: redshift that the file states for the spectrum; NaN where it states none.
        zero_point: velocity [km/s] that was taken off the file's wavelengths; NaN for none.
        path: file that was read.
        sha256: SHA-256 of that file; empty where the spectrum came from no file of its own.
        hdu: extension that was read.
        notes: what the reader repaired or masked, one sentence each.
    """

    target: str = ""
    source_id: str = ""
    ra: float = float("nan")
    dec: float = float("nan")
    disperser: str = ""
    filter: str = ""
    tier: str = ""
    field: str = ""
    program: str = ""
    exposure_time: float = float("nan")
    format: str = ""
    extraction: str = ""
    flux_unit: str = ""
    redshift: float = float("nan")
    zero_point: float = float("nan")
    path: str = ""
    sha256: str = ""
    hdu: str = ""
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """File and HDU in the form that error texts use."""
        where = self.path or "spectrum"
        return f"{where}[{self.hdu}]" if self.hdu else where


@dataclass(frozen=True)
class ObservedSpectrum:
    """A measured spectrum as plain arrays.

    Unmasked pixels have a finite flux and a finite, positive error; masked pixels keep whatever the
    file holds.

    Attributes:
        wavelength: (n,) pixel centres [um, vacuum], strictly increasing, float64.
        flux: (n,) flux density [erg/s/cm2/A], float64.
        error: (n,) one-sigma error of ``flux`` [erg/s/cm2/A], float64.
        mask: (n,) bool, True = bad.
        meta: provenance.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray
    meta: SpectrumMeta = field(default_factory=SpectrumMeta)

    def __len__(self) -> int:
        return self.wavelength.size

    @property
    def signal_to_noise(self) -> np.ndarray:
        """Flux over error per pixel, (n,); NaN where masked."""
        ratio = np.full(self.wavelength.shape, np.nan)
        good = ~self.mask
        ratio[good] = self.flux[good] / self.error[good]
        return ratio

    def replace(self, **changes) -> ObservedSpectrum:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def without_zero_point(self, velocity: float) -> ObservedSpectrum:
        """The same, of a release whose lines lie ``velocity`` [km/s] too far to the red; with a note."""
        if not -3000.0 < velocity < 3000.0:
            raise SpectrumError(
                f"{self.meta.origin}: zero point {velocity:g} km/s; expected one between -3000 and 3000 km/s"
            )
        if np.isfinite(self.meta.zero_point):
            raise SpectrumError(
                f"{self.meta.origin}: a zero point of {self.meta.zero_point:g} km/s was taken off before, "
                f"and {velocity:g} km/s asked for; leave it out, or give the spectrum as released"
            )
        stretch = 1.0 + velocity / SPEED_OF_LIGHT
        notes = (*self.meta.notes, f"wavelengths moved by a zero point of {velocity:g} km/s, as asked for")
        meta = replace(self.meta, zero_point=float(velocity), notes=notes)
        return self.replace(
            wavelength=self.wavelength / stretch,
            flux=self.flux * stretch,
            error=self.error * stretch,
            meta=meta,
        )

    def noted(self, note: str) -> ObservedSpectrum:
        """A copy with one more note, unless it is there already."""
        if note in self.meta.notes:
            return self
        return replace(self, meta=replace(self.meta, notes=(*self.meta.notes, note)))

    @classmethod
    def from_quantities(
        cls,
        wavelength: u.Quantity,
        flux: u.Quantity,
        error: u.Quantity,
        mask: np.ndarray | None = None,
        meta: SpectrumMeta | None = None,
    ) -> ObservedSpectrum:
        """Check units, order and sanity once, and convert to float64.

        A descending grid is reversed. Pixels without a (positive) wavelength are dropped. Pixels whose flux
        or error is not finite, or whose error is not positive, are masked. Each repair leaves a note.

        Args:
            wavelength: (n,) vacuum wavelengths, any length unit.
            flux: (n,) flux density, anything convertible to f_lambda.
            error: (n,) one-sigma errors, convertible likewise.
            mask: (n,) bool, True = bad; None masks nothing beforehand. Masked quantities and columns of
                astropy tables are taken, too: what they mask is bad.
            meta: provenance.

        Raises:
            SpectrumError: for units that are not wavelength or flux density, lengths that differ, fewer
                than two pixels, unsorted or duplicate wavelengths, or no good pixel at all.
        """
        meta = meta or SpectrumMeta()
        _check_lengths(meta, wavelength=wavelength, flux=flux, error=error, mask=mask)
        notes = list(meta.notes)
        (wavelength, nowhere), (flux, no_flux), (error, no_error) = map(split_mask, (wavelength, flux, error))
        wave = np.where(nowhere, np.nan, wavelength_in_um(wavelength, meta))
        bad = _given_mask(np.zeros(wave.shape, bool) if mask is None else mask, meta)
        if (blank := (no_flux | no_error) & ~bad).any():
            notes.append(f"{blank.sum()} pixels masked: flux or error is masked where it comes from")
            bad |= blank
        for name, values in (("flux", flux), ("error", error)):
            filled = _fill_values(values, bad)
            if filled.any():
                value = np.asarray(getattr(values, "value", values))[filled][0]
                notes.append(f"{filled.sum()} pixels masked: {name} is {value:g}, which stands for no value")
                bad |= filled
        placed = np.isfinite(wave) & (wave > 0)
        if not placed.all():
            notes.append(f"{np.sum(~placed)} pixels without a wavelength dropped")
            wave, flux, error, bad = (a[placed] for a in (wave, flux, error, bad))
        value = _flux_density(flux, wave, "flux", meta)
        sigma = _flux_density(error, wave, "error", meta)
        if wave.size < 2:
            raise SpectrumError(
                f"{meta.origin}: {wave.size} pixels have a wavelength; a spectrum needs two or more. "
                "Check that the right HDU and column were chosen."
            )
        if np.all(np.diff(wave) < 0):
            wave, value, sigma, bad = (a[::-1].copy() for a in (wave, value, sigma, bad))
            notes.append("wavelengths descend; reversed")
        _check_order(wave, meta)

        notes += _mask_unusable(value, sigma, bad)
        if bad.all():
            raise SpectrumError(
                f"{meta.origin}: all {wave.size} pixels are bad ({'; '.join(notes) or 'mask given'}). "
                "The file holds no usable data; check the extraction or leave the object out."
            )
        unit = meta.flux_unit or flux.unit.to_string()
        meta = replace(meta, notes=tuple(notes), flux_unit=unit)
        return cls(wave, value, sigma, bad, meta)

    def to_specutils(self, unit: u.UnitBase = FLUX_UNIT):
        """The same as a `specutils.Spectrum` in a flux unit: `StdDevUncertainty`, mask, redshift and meta."""
        from astropy.nddata import StdDevUncertainty
        from specutils import Spectrum  # seconds to import: only where it is asked for

        wavelength = self.wavelength * WAVELENGTH_UNIT
        flux, error = (
            (values * FLUX_UNIT).to(unit, u.spectral_density(wavelength))
            for values in (self.flux, self.error)
        )
        return Spectrum(
            spectral_axis=wavelength,
            flux=flux,
            uncertainty=StdDevUncertainty(error),
            mask=self.mask,
            redshift=self.meta.redshift if np.isfinite(self.meta.redshift) else None,
            meta={"kspecsr": self.meta, **{k: v for k, v in vars(self.meta).items() if k != "notes"}},
        )


def _check_lengths(meta: SpectrumMeta, **columns) -> None:
    shapes = {name: np.shape(value) for name, value in columns.items() if value is not None}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise SpectrumError(
            f"{meta.origin}: expected one-dimensional columns of equal length, got {shapes}. "
            "Choose the table HDU with one row per pixel."
        )


def split_mask(values) -> tuple[Any, np.ndarray]:
    """Values without their mask, and where that is set.

    Args:
        values: (n,) array, quantity or column of an astropy table, masked (`numpy.ma`, `MaskedColumn`,
            `astropy.utils.masked.Masked`) or not.

    Returns:
        The values, as a quantity where they have a unit; and (n,) bool, True = masked.
    """
    null = np.zeros(np.shape(values), bool)
    if getattr(values, "mask", None) is not None:
        null = null | np.asarray(values.mask)
    unit = getattr(values, "unit", None)
    if isinstance(values, np.ma.MaskedArray):
        values = np.asarray(values.data)
    values = getattr(values, "unmasked", values)
    return (values if unit is None or isinstance(values, u.Quantity) else u.Quantity(values, unit)), null


# Numbers that programs write for no value: nines, and the largest of netCDF, IRAF and IDL.
_FILLS = np.array(
    [10.0**n - less for n in range(2, 7) for less in (1.0, 0.1)]
    + [10.0**n for n in range(20, 39)]
    + [32767.0, 2147483647.0, 9.96921e36, 1.7014118e38, 3.4028235e38, 1.7976931e308]
)


def _fill_values(values, bad: np.ndarray) -> np.ndarray:
    """Where (n,) numbers stand for no value: -99, 9999, 1e30 ..., far beyond all others of the column."""
    try:
        size = np.abs(np.asarray(getattr(values, "value", values), np.float64))
    except (TypeError, ValueError):  # no numbers: refused where they are converted
        return np.zeros(bad.shape, bool)
    good = np.isfinite(size) & ~bad
    found = good & (size > 0.99 * _FILLS.min())
    if not found.any():
        return found
    found[found] = np.any(np.isclose(size[found, None], _FILLS, rtol=1e-6, atol=0.0), axis=1)
    others = size[good & ~found]
    return found & (others.max() < 0.1 * size) if others.size else np.zeros(bad.shape, bool)


def _given_mask(mask, meta: SpectrumMeta) -> np.ndarray:
    given, unknown = split_mask(mask)
    if np.asarray(given).dtype.kind not in "biuf":  # any word would be true
        raise SpectrumError(f"{meta.origin}: mask should hold numbers or truth values, got {given[:1]}.")
    return np.array(given, dtype=bool) | unknown


def wavelength_in_um(wavelength: u.Quantity, meta: SpectrumMeta) -> np.ndarray:
    """Wavelengths (n,) [um] of a quantity with a unit of length, frequency or energy.

    Raises:
        SpectrumError: for another unit, or none.
    """
    try:
        with np.errstate(all="ignore"):  # what is not finite is dropped later
            return np.asarray(wavelength.to_value(WAVELENGTH_UNIT, u.spectral()), dtype=np.float64)
    # an unrecognised unit raises ValueError, a number without unit AttributeError
    except (u.UnitConversionError, ValueError, AttributeError) as error:
        raise SpectrumError(
            f"{meta.origin}: wavelengths come in {getattr(wavelength, 'unit', 'no unit')!s}; expected a "
            "length, such as um or Angstrom. State the unit in TUNIT or pass an astropy Quantity."
        ) from error


def _flux_density(values: u.Quantity, wave_um: np.ndarray, name: str, meta: SpectrumMeta) -> np.ndarray:
    try:
        quantity = values.astype(np.float64)
        # building the equivalency takes longer than the rest of a read; f_lambda does not need it
        same_kind = quantity.unit.is_equivalent(FLUX_UNIT)
        # astropy would take erg/s/cm2 for nu f_nu: it is that, or the flux in a pixel, or that of a line
        if not (same_kind or any(quantity.unit.is_equivalent(unit) for unit in _PER_FREQUENCY)):
            raise u.UnitConversionError
        equivalency = [] if same_kind else u.spectral_density(wave_um * WAVELENGTH_UNIT)
        with np.errstate(all="ignore"):  # what is not finite is masked later
            return np.asarray(quantity.to_value(FLUX_UNIT, equivalency), dtype=np.float64)
    # an unrecognised unit raises ValueError, a number without unit AttributeError
    except (u.UnitConversionError, ValueError, AttributeError) as error:
        raise SpectrumError(
            f"{meta.origin}: {name} comes in {getattr(values, 'unit', 'no unit')!s}; expected a flux "
            "density, such as erg/(s cm2 Angstrom), W/m3, uJy or Jy. State the unit in TUNIT or pass an "
            "astropy Quantity."
        ) from error


def _mask_unusable(value: np.ndarray, sigma: np.ndarray, bad: np.ndarray) -> list[str]:
    """Set `bad` where flux or error cannot be used; notes on how many pixels that concerns."""
    notes = []
    with np.errstate(invalid="ignore"):
        for text, rows in (
            ("flux is not finite", ~np.isfinite(value)),
            ("error is not finite", np.isfinite(value) & ~np.isfinite(sigma)),
            ("error is zero or negative", np.isfinite(sigma) & (sigma <= 0)),
        ):
            if np.any(rows & ~bad):
                notes.append(f"{np.sum(rows & ~bad)} pixels masked: {text}")
            bad |= rows
    return notes


def _check_order(wave: np.ndarray, meta: SpectrumMeta) -> None:
    step = np.diff(wave)
    if np.all(step > 0):
        return
    row = int(np.argmax(step <= 0))
    kind = "duplicate" if step[row] == 0 else "unsorted"
    raise SpectrumError(
        f"{meta.origin}: {kind} wavelengths at rows {row} and {row + 1} ({wave[row]:.6f} and "
        f"{wave[row + 1]:.6f} um); expected a strictly increasing grid. Sort the rows, and merge or drop "
        "repeated ones (several orders in one table must be split first)."
    )


# Spellings that astropy refuses or, for a lone "A" (ampere), reads as something that no spectrum holds.
_SPELLINGS = {
    "A": "Angstrom",
    "AA": "Angstrom",
    "Ang": "Angstrom",
    "ang": "Angstrom",
    "Angstroms": "Angstrom",
    "angstroms": "Angstrom",
    "angstrom": "Angstrom",
    "microns": "um",
    "Microns": "um",
    "Micron": "um",
    "micrometer": "um",
    "micrometers": "um",
    "meters": "m",
    "microJansky": "uJy",
    "microJy": "uJy",
    "muJy": "uJy",
    "Jansky": "Jy",
    "JY": "Jy",
    "ergs": "erg",
    "sec": "s",
    "flam": "erg s-1 cm-2 Angstrom-1",
    "fnu": "erg s-1 cm-2 Hz-1",
}
_WORD = re.compile(r"[A-Za-z]+")


@lru_cache(maxsize=512)
def parse_unit(text: str) -> u.UnitBase:
    """The unit that `text` means; non-standard spellings such as ``AA-1`` are understood.

    Raises:
        ValueError: for text that is no unit, or several, or a logarithmic one.
    """
    text = text.strip()
    # of archives that write in capitals
    if re.search(r"\b(ERGS?|FLAM|FNU)\b", text) and not re.search("[a-z]", re.sub(r"\de", "", text)):
        text = re.sub(r"\ba\b", "Angstrom", text.lower())
    standard = _WORD.sub(lambda word: _SPELLINGS.get(word[0], word[0]), text)
    with warnings.catch_warnings():
        # several slashes and deprecated spellings are unambiguous in these files
        warnings.simplefilter("ignore", u.UnitsWarning)
        unit = u.Unit(standard)
    if not isinstance(unit, u.UnitBase):  # "um, Jy" or "mag(AB)": no linear unit of one column
        raise ValueError(f"{text!r} is no single linear unit")
    return unit
