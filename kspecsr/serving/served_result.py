"""The result of one spectrum from what a served model answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kspecsr.results.flags import flags_of
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.prism_input import PrismInput, output_mask, prism_wavelength
from kspecsr.results.redshift import summarise_redshift
from kspecsr.results.result import ModelIdentity, Result

_SPECTRA = ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error", "prism_model")
_LINES = ("flux", "flux_error", "wavelength", "fwhm", "equivalent_width", "presence", "prior_weight")


def served_result(
    outputs: Mapping[str, np.ndarray],
    given: PrismInput,
    redshift: float,
    identity: ModelIdentity,
    bins: np.ndarray,
) -> Result:
    """The same result as `kspecsr.results.interpretation.Interpreter` makes.

    Args:
        outputs: of the signature, without batch axis.
        given: what was sent.
        redshift: that the caller gave; NaN for none.
        identity: of the model that answered.
        bins: (Z,) ln(1 + z) of P(z).
    """
    wavelength = identity.grid.wavelength
    known = bool(np.isfinite(redshift))
    value = float(redshift if known else outputs["redshift"])
    return Result(
        observed=given.observed,
        model=identity,
        wavelength=wavelength,
        **{name: np.asarray(outputs[name], dtype=np.float64) for name in _SPECTRA},
        mask=output_mask(given.mask, wavelength),
        redshift=summarise_redshift(np.asarray(outputs["redshift_probability"]), bins, value, known),
        measurements=LineMeasurements(
            **{name: np.asarray(outputs[f"line_{name}"], dtype=np.float64) for name in _LINES},
            in_range=np.asarray(outputs["line_in_range"], dtype=bool),
        ),
        chi_square=float(outputs["chi_square"]),
        flags=flags_of(int(outputs["status"])),
        prism_wavelength=prism_wavelength(),
        prism_flux=given.flux,
        prism_error=given.error,
        prism_mask=given.mask,
    )
