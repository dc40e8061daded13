"""First stage: coarse super-resolution (paper section 3.3; docs/design.md, networks)."""

import keras

from kspecsr.configuration import ModelConfig, SR1Config
from kspecsr.layers.geometry import plain_grid, prism_wavelength
from kspecsr.layers.operators import Upsampling
from kspecsr.layers.prism_channels import PrismChannels, PrismNormalisation, SubPixelPhase, ToGridChannels
from kspecsr.layers.refinement import SpectrumOutput

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


def normalised(inputs) -> dict[str, keras.KerasTensor]:
    """The inputs in units of the spectrum's own scale: output of `PrismNormalisation`."""
    layer = PrismNormalisation(name="normalisation", dtype="float32")
    return layer(inputs["prism_flux"], inputs["prism_error"], inputs["prism_mask"])


def observed(prism) -> list[keras.KerasTensor]:
    """Flux, error, good pixels and amplitude (B, P) of a normalised spectrum, in this order."""
    return [prism[name] for name in ("flux", "error", "good", "amplitude")]


def number_input(name: str) -> keras.KerasTensor:
    """One number per spectrum, (B,)."""
    return keras.Input((), name=name, dtype="float32")


def build_sr1(config: ModelConfig) -> keras.Model:
    """Build the first stage.

    Args:
        config: grid and first stage.

    Returns:
        Functional model from ``prism_flux``, ``prism_error`` (B, P) [1e-20 erg/s/cm2/A] and ``prism_mask``
        (B, P) bool to ``sr1_flux`` and ``sr1_error`` (B, N) in the same unit.
    """
    sr1, grid = config.sr1, plain_grid(config.grid)
    inputs = prism_inputs()
    prism = normalised(inputs)
    channels = PrismChannels(name="channels", dtype="float32")(*observed(prism))
    upsampling = Upsampling(grid, name="upsampling")
    maps = ToGridChannels(name="maps", dtype="float32")(prism["flux"], prism["amplitude"])
    # Always float32, as the flux itself passes through: bfloat16 would round it to 0.4 %.
    maps = Upsampling(grid, name="upsampling_flux", dtype="float32")(maps)  # (B, N, 2)
    if sr1.trunk == "detector":
        x = _trunk(channels, sr1)  # (B, P, channels)
        x = keras.layers.Dense(sr1.head_channels, name="to_head")(x)
        x = upsampling(x)  # (B, N, head)
    else:
        x = _trunk(upsampling(channels), sr1)  # (B, N, channels)
        x = keras.layers.Dense(sr1.head_channels, name="to_head")(x)
    x = SubPixelPhase(grid, name="phase")(x)
    x = keras.layers.Activation(sr1.activation, name="head_activation")(x)
    x = keras.layers.Dense(sr1.head_channels, activation=sr1.activation, name="head_dense")(x)
    small = keras.initializers.VarianceScaling(0.05)
    # Starts as plain interpolation, and learns what to add.
    raw = keras.layers.Dense(2, kernel_initializer=small, dtype="float32", name="head_output")(x)
    flux, error = SpectrumOutput(name="output", dtype="float32")(
        raw, maps[..., 0], maps[..., 1], prism["scale"]
    )
    return keras.Model(inputs, {"sr1_flux": flux, "sr1_error": error}, name="sr1")


def _trunk(x, sr1: SR1Config):
    """Shallow projection and residual blocks."""
    x = keras.layers.Conv1D(sr1.channels, sr1.kernel, padding="same", name="projection")(x)
    for block in range(sr1.blocks):
        dilation = sr1.dilations[block % len(sr1.dilations)]
        x = residual_block(x, sr1.kernel, sr1.activation, sr1.dropout, f"block{block}", dilation)
    return keras.layers.Activation(sr1.activation, name="trunk_activation")(x)


def residual_block(
    x, kernel: int, activation: str, dropout: float, name: str, dilation: int = 1, scale: float = 1.0
):
    """Normalisation, convolution, activation, dropout, convolution, and the skip; (B, pixels, channels).

    The normalisation is over the channels of each pixel: it depends neither on the batch nor on other pixels,
    so that a shifted spectrum gives shifted features. ``scale`` multiplies what is added to ``x``.
    """
    channels = x.shape[-1]
    options = {"padding": "same", "dilation_rate": dilation}
    y = keras.layers.RMSNormalization(name=f"{name}_norm")(x)
    y = keras.layers.Conv1D(channels, kernel, activation=activation, name=f"{name}_conv1", **options)(y)
    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    # small at first: the block begins close to the identity
    start = keras.initializers.VarianceScaling(0.2, "fan_in", "truncated_normal")
    y = keras.layers.Conv1D(channels, kernel, kernel_initializer=start, name=f"{name}_conv2", **options)(y)
    if scale != 1.0:
        y = keras.layers.Rescaling(scale, name=f"{name}_scale")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])
