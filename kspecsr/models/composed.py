"""The three stages as one model in physical units."""

from dataclasses import asdict

import keras

from kspecsr.configuration.calibration import Calibration
from kspecsr.layers.broad_lines import BroadWidths
from kspecsr.layers.calibration import (
    ErrorCalibration,
    FitProbability,
    PixelErrorCalibration,
    RedshiftCalibration,
    SameShare,
)
from kspecsr.layers.prism_channels import UnitConversion
from kspecsr.models.sr1 import RECORD_UNIT, number_input, prism_inputs

# outputs of the third stage with a flux unit, and those without
_FLUXES = (
    "flux",
    "flux_error",
    "continuum",
    "continuum_error",
    "prism_model",
    "line_flux",
    "line_flux_error",
)
_PARTS = tuple(f"line_{part}_flux{error}" for part in ("narrow", "broad") for error in ("", "_error"))
_OTHERS = (
    "chi_square",
    "line_presence",
    "line_prior_weight",
    "line_wavelength",
    "line_fwhm",
    "line_equivalent_width",
    "line_in_range",
)


def compose(
    sr1: keras.Model, zhead: keras.Model, sr2: keras.Model, calibration: Calibration | None = None
) -> keras.Model:
    """Compose the three stages to one model.

    Args:
        sr1: of `build_sr1`.
        zhead: of `build_zhead`.
        sr2: of `build_sr2`.
        calibration: of the output errors and P(z); what passes between the stages is not calibrated.

    Returns:
        Functional model from ``prism_flux``, ``prism_error`` (B, P) [erg/s/cm2/A], ``prism_mask`` (B, P) bool
        and ``redshift`` (B,), NaN where it is to be inferred, to ``sr1_flux``, ``sr1_error``, ``flux``,
        ``flux_error``, ``continuum``, ``continuum_error`` (B, N) [erg/s/cm2/A], ``redshift``,
        ``redshift_error`` (B,),
        ``redshift_probability`` (B, Z), the line table's columns (B, K), ``chi_square`` (B,) and
        ``prism_model`` (B, P); with joint line errors ``line_correlation`` (B, K, K) too; of an open world
        ``redshift_none`` (B,), the probability that there is no redshift, and ``class_probability`` (B, C);
        ``fit_probability`` (B,) where the calibration says what chi-square is usual.
    """
    inputs = {**prism_inputs(), "redshift": number_input("redshift")}
    # In float32 from here on: 1e-20 times 1e20 is exact enough, but 1e-20 squared, anywhere before it, would
    # be 0.
    to_records = UnitConversion(1.0 / RECORD_UNIT, name="to_records", dtype="float32")
    prism = {
        "prism_flux": to_records(inputs["prism_flux"]),
        "prism_error": to_records(inputs["prism_error"]),
        "prism_mask": inputs["prism_mask"],
    }
    first = sr1(prism)
    second = zhead({**prism, **first, "redshift": inputs["redshift"]})
    # SR2 takes the redshift as ZHead gives it, not the calibrated P(z): it was trained on that one, and an
    # exponent moves no mode.
    place = {name: second[name] for name in ("redshift", "redshift_error")}
    third = sr2({**prism, **first, **place})
    log_probability = second["redshift_log_probability"]
    if calibration is not None:
        log_probability = RedshiftCalibration(
            calibration.redshift_exponent, name="redshift_calibration", dtype="float32"
        )(log_probability)
        first, third = _calibrated(calibration, first, third)
    to_physical = UnitConversion(RECORD_UNIT, name="to_physical", dtype="float32")
    outputs = {name: to_physical(first[name]) for name in ("sr1_flux", "sr1_error")}
    outputs |= {name: to_physical(third[name]) for name in (*_FLUXES, *_PARTS) if name in third}
    outputs |= {name: third[name] for name in (*_OTHERS, "line_correlation") if name in third}
    # Probabilities only at the very end: stages exchange logarithms, which do not underflow far from the
    # mode.
    probability = keras.layers.Activation("exponential", dtype="float32", name="redshift_probability")
    outputs |= {"redshift_probability": probability(log_probability), **place}
    if "broad_logit" in third:
        there = keras.layers.Activation("sigmoid", dtype="float32", name="broad_probability")
        outputs["broad_probability"] = there(third["broad_logit"])
        outputs |= BroadWidths(name="broad_widths", dtype="float32")(
            third["broad_log_velocity"], third["broad_log_sigma"]
        )
    if "none_logit" in second:
        chance = keras.layers.Activation("sigmoid", dtype="float32", name="redshift_none")
        classes = keras.layers.Activation("exponential", dtype="float32", name="class_probability")
        outputs["redshift_none"] = chance(second["none_logit"])
        outputs["class_probability"] = classes(second["class_log_probability"])
    if calibration is not None and calibration.fit is not None:
        table = FitProbability(**asdict(calibration.fit), name="fit_probability", dtype="float32")
        outputs["fit_probability"] = table(third["chi_square"], *prism.values())
    return keras.Model(inputs, outputs, name="kspecsr")


def _calibrated(calibration: Calibration, first: dict, third: dict) -> tuple[dict, dict]:
    """Outputs of the first and the third stage with calibrated errors."""
    pixels = PixelErrorCalibration(
        asdict(calibration.continuum),
        asdict(calibration.line_pixels),
        name="pixel_calibration",
        dtype="float32",
    )
    error, continuum_error = pixels(
        *(third[name] for name in ("flux", "flux_error", "continuum", "continuum_error"))
    )
    line_flux_error, sr1_error = (
        ErrorCalibration(**asdict(scale), name=f"{name}_calibration", dtype="float32")(value, error)
        for name, scale, value, error in (
            ("line_flux", calibration.line_flux, third["line_flux"], third["line_flux_error"]),
            ("sr1", calibration.sr1, first["sr1_flux"], first["sr1_error"]),
        )
    )
    changed = {"flux_error": error, "continuum_error": continuum_error, "line_flux_error": line_flux_error}
    parts = [name for name in _PARTS if name.endswith("error") and name in third]
    if parts:
        share = SameShare(name="parts_calibration", dtype="float32")
        before = third["line_flux_error"]
        changed |= {name: share(third[name], line_flux_error, before) for name in parts}
    return {**first, "sr1_error": sr1_error}, {**third, **changed}
