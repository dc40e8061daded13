"""Between aligned pairs in physical units and record rows in the schema's units."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from data_pipeline.building.chunks import ChunkStore
from data_pipeline.lines import list_of
from data_pipeline.lines.grating_fit import LineFluxes
from data_pipeline.pairs.augmentation import AlignedSpectra, AugmentationConfig, augment
from data_pipeline.pairs.matching import Match
from data_pipeline.pairs.preprocessing import Pair
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from data_pipeline.records import FLUX_UNIT_IN_RECORDS, ExampleCodec, Schema
from data_pipeline.resampling import to_pixels

SPECTRA = ("prism", "prism_unified", "grating")
QUANTITIES = ("flux", "error", "mask")


@dataclass(frozen=True)
class Truth:
    """Truth of a simulated galaxy.

    Attributes:
        kind: class of object.
        redshift: true redshift; NaN for pure noise.
        noise_free: (n,) noise-free reference spectrum on the unified grid [erg/s/cm2/A].
        line_flux: (lines,) true fluxes [erg/s/cm2] in the order of the shipped list.
        line_known: (lines,) bool: the simulation has this line.
    """

    kind: str
    redshift: float
    noise_free: np.ndarray
    line_flux: np.ndarray
    line_known: np.ndarray


def _names(spectrum: str) -> tuple[str, str, str]:
    """Record fields of a spectrum: flux, error and mask; e.g. ``prism_flux_unified`` of ``prism_unified``."""
    stem, _, suffix = spectrum.partition("_")
    return tuple(f"{stem}_{quantity}" + (f"_{suffix}" if suffix else "") for quantity in QUANTITIES)


def _spectrum_fields(spectrum: str, flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    values = (flux.astype(np.float32), error.astype(np.float32), np.asarray(mask, bool))
    return dict(zip(_names(spectrum), values, strict=True))


def _scaled(values: np.ndarray) -> np.ndarray:
    """To record units in float64, then float32."""
    return (np.asarray(values, np.float64) / FLUX_UNIT_IN_RECORDS).astype(np.float32)


def original_row(match: Match, pair: Pair, group: int, truth: Truth | None) -> dict[str, Any]:
    """Row of an observation itself (realisation 0).

    The ``truth`` of a simulated galaxy replaces the catalogue's redshift and the fitted line fluxes.
    """
    stitched = pair.stitched
    spectra = {
        "prism": pair.prism,
        "prism_unified": pair.prism_unified,
        "grating": (stitched.flux, stitched.error, stitched.mask),
    }
    # Every row has all fields, since records of one schema have one shape; `has_noise_free` tells the kinds
    # apart.
    unknown = np.full(stitched.wavelength.size, np.nan)
    row: dict[str, Any] = {
        "noise_free": _scaled(unknown if truth is None else truth.noise_free),
        "has_noise_free": truth is not None and bool(np.isfinite(truth.noise_free).any()),
        "redshift": float(match.redshift if truth is None else truth.redshift),
        "redshift_shift": 0.0,
        "redshift_flag": match.redshift_flag,
        "realisation": 0,
        "unique_id": match.unique_id,
        "tier": match.tier,
        "field": match.field,
        "kind": "observed" if truth is None else truth.kind,
        "group": int(group),
        "ra": float(match.ra),
        "dec": float(match.dec),
        **_line_fields(pair.lines, truth, stitched.wavelength),
    }
    for name, (flux, error, mask) in spectra.items():
        # Masked pixels become NaN, whatever the file had there: a reader that forgets the mask notices.
        scaled = (_scaled(np.where(mask, np.nan, values)) for values in (flux, error))
        row |= _spectrum_fields(name, *scaled, mask)
    return row


def lines_between(count: int, redshift: float, low: float, high: float) -> np.ndarray:
    """(count,) bool: lines of the list that has so many that are observed within [low, high] um."""
    with np.errstate(invalid="ignore"):
        observed = list_of(count).wavelength * (1.0 + redshift)
        return (observed >= low) & (observed <= high)


def _line_fields(lines: LineFluxes, truth: Truth | None, wavelength: np.ndarray) -> dict[str, np.ndarray]:
    if truth is None:
        flux, error, known = lines.flux, lines.error, lines.covered & np.isfinite(lines.flux)
    else:
        # Error 0 says "true"; the feeds take a grating's typical error where they need one.
        flux, error = truth.line_flux, np.zeros(len(truth.line_flux))
        # A line out of the grid has a true flux as well, but no pixel that could show it.
        known = truth.line_known & lines_between(len(flux), truth.redshift, wavelength[0], wavelength[-1])
    return {
        "line_flux": _scaled(np.where(known, flux, np.nan)),
        "line_flux_error": _scaled(np.where(known, error, np.nan)),
        "line_flux_known": np.asarray(known, bool),
    }


def truth_on_grid(noise_free: np.ndarray, grid: UnifiedGrid) -> np.ndarray:
    """The simulator's truth, which is on the default unified grid, on another one (flux conserved)."""
    noise_free = np.asarray(noise_free, np.float64)
    if grid == UNIFIED_GRID:
        return noise_free
    fine = UNIFIED_GRID.wavelength
    unknown = ~np.isfinite(noise_free)
    return to_pixels(fine, noise_free, np.ones(fine.size), unknown, grid.wavelength)[0]


def aligned_spectra(row: Mapping[str, Any]) -> AlignedSpectra:
    """The arrays of a row that augmentation changes, as float64 in record units."""
    spectra = []
    for flux, error, mask in ([row[field] for field in _names(name)] for name in SPECTRA):
        spectra.append((flux.astype(np.float64), error.astype(np.float64), np.asarray(mask, bool)))
    return AlignedSpectra(*spectra, row["noise_free"].astype(np.float64), float(row["redshift"]))


def augmented_row(
    row: Mapping[str, Any], spectra: AlignedSpectra, realisation: int, limits: tuple[float, float]
) -> dict[str, Any]:
    """The row of a perturbed copy.

    Line fluxes stay, since the stretch keeps them; lines that it moves out of ``limits`` [um] are unknown.
    """
    new = dict(row)
    known = row["line_flux_known"] & lines_between(len(row["line_flux"]), spectra.redshift, *limits)
    new["line_flux_known"] = known
    for name in ("line_flux", "line_flux_error"):
        new[name] = np.where(known, row[name], np.float32(np.nan))
    for name in SPECTRA:
        new |= _spectrum_fields(name, *getattr(spectra, name))
    new["noise_free"] = spectra.noise_free.astype(np.float32)
    new["redshift"] = float(spectra.redshift)
    new["redshift_shift"] = float(np.nan_to_num(spectra.redshift - row["redshift"]))  # 0 where unknown
    new["realisation"] = int(realisation)
    return new


@dataclass(frozen=True)
class Expansion:
    """Serialised rows of one realisation of one chunk; the chunks lie in the folder ``output``."""

    output: str
    schema: Schema
    grid: UnifiedGrid
    augmentation: AugmentationConfig
    seed: int

    def copies(self, split: str) -> int:
        """Perturbed copies of each galaxy: only the training part has any."""
        return self.augmentation.realisations if split == "train" else 0

    def tasks(self, split: str, n_chunks: int) -> Iterator[tuple[str, int, int]]:
        """(split, realisation, chunk): all originals first, then copy by copy, so neighbours differ."""
        return product([split], range(self.copies(split) + 1), range(n_chunks))

    def rows(self, task: tuple[str, int, int]) -> list[bytes]:
        """Serialised rows of a task."""
        split, realisation, chunk = task
        codec = ExampleCodec(self.schema)
        wavelength, (low, high) = self.grid.wavelength, self.augmentation.trim
        limits = max(low, wavelength[0]), min(high, wavelength[-1])  # what trimming leaves of the grid
        payloads = []
        # Read again for every realisation: to hold copies would make the memory grow with their number.
        for row in ChunkStore(self.output, self.schema).rows(chunk, split):
            if realisation:
                rng = row_generator(self.seed, str(row["unique_id"]), realisation)
                copy = augment(aligned_spectra(row), self.grid, self.augmentation, rng)
                row = augmented_row(row, copy, realisation, limits)
            payloads.append(codec.serialise(row))
        return payloads


def row_generator(seed: int, unique_id: str, realisation: int) -> np.random.Generator:
    """Random numbers of one copy of one galaxy, the same whatever else is built and in which order."""
    # Not `hash`, which Python salts anew in every process.
    digest = hashlib.sha256(unique_id.encode()).digest()
    return np.random.default_rng([seed, realisation, int.from_bytes(digest[:8], "big")])
