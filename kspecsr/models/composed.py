"""The three stages as one model in physical units."""

from __future__ import annotations

import keras

from kspecsr.layers.scaling import UnitConversion
from kspecsr.models.inputs import RECORD_UNIT, number_input, prism_inputs

# outputs of the third stage in flux units, and those that have none
_FLUXES = ("flux", "flux_error", "continuum", "prism_model", "line_flux", "line_flux_error")
_OTHERS = (
    "chi_square",
    "line_presence",
    "line_prior_weight",
    "line_wavelength",
    "line_fwhm",
    "line_equivalent_width",
    "line_in_range",
)


def compose(sr1: keras.Model, zhead: keras.Model, sr2: keras.Model) -> keras.Model:
    """One model from the three stages.

    Args:
        sr1: of `build_sr1`.
        zhead: of `build_zhead`.
        sr2: of `build_sr2`.

    Returns:
        Functional model from ``prism_flux``, ``prism_error`` (B, P) [erg/s/cm2/A], ``prism_mask`` (B, P) bool
        and ``redshift`` (B,), NaN where it is to be inferred, to ``sr1_flux``, ``sr1_error``, ``flux``,
        ``flux_error``, ``continuum`` (B, N) [erg/s/cm2/A], ``redshift``, ``redshift_error`` (B,),
        ``redshift_probability`` (B, Z), the line table's columns (B, K), ``chi_square`` (B,) and
        ``prism_model`` (B, P).
    """
    inputs = {**prism_inputs(), "redshift": number_input("redshift")}
    to_records = UnitConversion(1.0 / RECORD_UNIT, name="to_records", dtype="float32")
    prism = {
        "prism_flux": to_records(inputs["prism_flux"]),
        "prism_error": to_records(inputs["prism_error"]),
        "prism_mask": inputs["prism_mask"],
    }
    first = sr1(prism)
    second = zhead({**prism, **first, "redshift": inputs["redshift"]})
    place = {name: second[name] for name in ("redshift", "redshift_error")}
    third = sr2({**prism, **first, **place})
    to_physical = UnitConversion(RECORD_UNIT, name="to_physical", dtype="float32")
    outputs = {name: to_physical(first[name]) for name in ("sr1_flux", "sr1_error")}
    outputs |= {name: to_physical(third[name]) for name in _FLUXES}
    outputs |= {name: third[name] for name in _OTHERS}
    probability = keras.layers.Activation("exponential", dtype="float32", name="redshift_probability")
    outputs |= {"redshift_probability": probability(second["redshift_log_probability"]), **place}
    return keras.Model(inputs, outputs, name="kspecsr")
