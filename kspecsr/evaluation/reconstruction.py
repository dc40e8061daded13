"""What a method makes of prism spectra, in the form in which every method is judged."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


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
        confidence: (B,) mass of P(z) within 0.01 (1 + z) of ``redshift``: Z_CONF.
        prism_model: (B, P) the output degraded to the prism.
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

    def rows(self, which: np.ndarray | slice) -> Reconstruction:
        """Some of the galaxies."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return Reconstruction(
            **{
                name: array if array is None or name == "redshift_bins" else array[which]
                for name, array in given.items()
            }
        )
