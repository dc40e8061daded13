"""Named inputs that the stages share."""

from __future__ import annotations

import keras

from data_pipeline.lines import load_lines
from kspecsr.configuration import ModelConfig
from kspecsr.layers.geometry import prism_wavelength

RECORD_UNIT = 1e-20  # erg/s/cm2/A: flux density inside stages and in records is in this unit


def prism_inputs() -> dict[str, keras.KerasTensor]:
    """Flux, error and mask on the prism's pixels, (B, P)."""
    pixels = prism_wavelength().size
    return {
        "prism_flux": keras.Input((pixels,), name="prism_flux", dtype="float32"),
        "prism_error": keras.Input((pixels,), name="prism_error", dtype="float32"),
        "prism_mask": keras.Input((pixels,), name="prism_mask", dtype="bool"),
    }


def sr1_inputs(config: ModelConfig) -> dict[str, keras.KerasTensor]:
    """The first stage's outputs as inputs, (B, N)."""
    return {
        name: keras.Input((config.grid.size,), name=name, dtype="float32")
        for name in ("sr1_flux", "sr1_error")
    }


def number_input(name: str) -> keras.KerasTensor:
    """One number per spectrum, (B,)."""
    return keras.Input((), name=name, dtype="float32")


def line_count() -> int:
    """K, lines of the shipped list."""
    return len(load_lines())
