"""Galaxies that are held out, with their truth: what every method is judged on."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid


@dataclass(frozen=True)
class HeldOut:
    """Held-out galaxies; spectra in 1e-20 erg/s/cm2/A, line fluxes in 1e-20 erg/s/cm2.

    Masked pixels have flux 0 and error 1 (prism) or 0 (target); mask True = bad.

    Attributes:
        grid: unified grid of the targets.
        galaxy: (B,) int64, the unit of resampling: rows of one galaxy share it.
        prism_flux, prism_error: (B, P).
        prism_mask: (B, P) bool.
        target_flux: (B, N) truth, or the gratings.
        target_error: (B, N) one sigma of the target; 0 for noise-free truth.
        target_mask: (B, N) bool.
        target_continuum: (B, N) truth without emission lines; 0 where unknown.
        continuum_known: (B,) bool.
        line_flux: (B, K) true or fitted, in the order of `data_pipeline.lines.load_lines`; 0 if unknown.
        line_error: (B, K) one sigma; 0 for the truth.
        line_known: (B, K) bool: covered, and known.
        line_snr: (B, K) true flux over the error that the prism allows an isolated line; 0 if unknown.
        redshift: (B,) true redshift; NaN without one.
        continuum_snr: (B,) median prism S/N per good pixel.
        line_detectable: (B, K) bool: the gratings would show the line at 3 sigma; None where that is unknown.
        kind: (B,) names of what was simulated, out of the simulator's `KINDS`; None where that is unknown.
        trouble: (B,) names out of its `TROUBLES`, "" for none; None where that is unknown.
        second_redshift: (B,) of a second source in the slit, NaN for none; None where that is unknown.
        object_class: (B,) number of one of `OBJECT_CLASSES`, -1 where unknown; None where none is known.
        broad_flux: (B, K) the part of ``line_flux`` in broad components; None where that is unknown.
        broad_fwhm: (B,) true width of these [km/s], 0 for none; None where that is unknown.
    """

    grid: UnifiedGrid
    galaxy: np.ndarray
    prism_flux: np.ndarray
    prism_error: np.ndarray
    prism_mask: np.ndarray
    target_flux: np.ndarray
    target_error: np.ndarray
    target_mask: np.ndarray
    target_continuum: np.ndarray
    continuum_known: np.ndarray
    line_flux: np.ndarray
    line_error: np.ndarray
    line_known: np.ndarray
    line_snr: np.ndarray
    redshift: np.ndarray
    continuum_snr: np.ndarray
    line_detectable: np.ndarray | None = None
    kind: np.ndarray | None = None
    trouble: np.ndarray | None = None
    second_redshift: np.ndarray | None = None
    object_class: np.ndarray | None = None
    broad_flux: np.ndarray | None = None
    broad_fwhm: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.galaxy)

    def rows(self, which: np.ndarray | slice) -> HeldOut:
        """Some of the galaxies.

        Args:
            which: indices, a slice or a (B,) bool mask.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "grid"}
        arrays = {name: array if array is None else array[which] for name, array in given.items()}
        return HeldOut(self.grid, **arrays)


@dataclass(frozen=True)
class Reconstruction:
    """Output of one method for B galaxies; units as in `HeldOut`. What a method does not give is None.

    Attributes:
        flux: (B, N) on the unified grid; NaN where the method has nothing to say.
        error: (B, N) one sigma.
        continuum: (B, N).
        line_flux, line_flux_error: (B, K).
        line_presence: (B, K) probability that there is a line.
        line_in_range: (B, K) bool: the method measured this line.
        redshift: (B,) best estimate.
        redshift_bins: (Z,) ln(1 + z) of the bins.
        redshift_probability: (B, Z), adds up to 1 over the bins.
        confidence: (B,) mass of P(z) within 0.01 (1 + z) of ``redshift``, less the chance that there is
            none: Z_CONF.
        prism_model: (B, P) the output degraded to the prism.
        class_probability: (B, C) of `OBJECT_CLASSES`.
        line_correlation: (B, K, K) of the errors of ``line_flux``.
        broad_probability: (B,) that there are broad components.
        broad_fwhm, broad_fwhm_error: (B,) [km/s] of the broad components.
        line_broad_flux, line_broad_flux_error: (B, K) the part of the lines in broad components.
    """

    flux: np.ndarray
    error: np.ndarray | None = None
    continuum: np.ndarray | None = None
    line_flux: np.ndarray | None = None
    line_flux_error: np.ndarray | None = None
    line_presence: np.ndarray | None = None
    line_in_range: np.ndarray | None = None
    redshift: np.ndarray | None = None
    redshift_bins: np.ndarray | None = None
    redshift_probability: np.ndarray | None = None
    confidence: np.ndarray | None = None
    prism_model: np.ndarray | None = None
    class_probability: np.ndarray | None = None
    line_correlation: np.ndarray | None = None
    broad_probability: np.ndarray | None = None
    broad_fwhm: np.ndarray | None = None
    broad_fwhm_error: np.ndarray | None = None
    line_broad_flux: np.ndarray | None = None
    line_broad_flux_error: np.ndarray | None = None

    def rows(self, which: np.ndarray | slice) -> Reconstruction:
        """Some of the galaxies."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return Reconstruction(
            **{
                name: array if array is None or name == "redshift_bins" else array[which]
                for name, array in given.items()
            }
        )
