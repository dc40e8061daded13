"""Third stage: lines and a smooth continuum correction (paper section 3.3; docs/design.md, networks)."""

from __future__ import annotations

import keras

from kspecsr.configuration import ModelConfig, SR2Config
from kspecsr.layers import (
    DirectLineFit,
    EquivalentWidth,
    LineDecoder,
    LineIdentity,
    LineMask,
    LinePositions,
    LineRendering,
    LineScalars,
    LineWindows,
    MultiScalePooling,
    PrismConsistency,
    PrismDegradation,
    Refinement,
    Upsampling,
    plain_grid,
)
from kspecsr.layers.line_tokens import HEADS, CommonShift, LinesAttend, WindowChannels
from kspecsr.layers.lines import Fwhm
from kspecsr.layers.prism_channels import BrightestPixel, Divide, Multiply
from kspecsr.layers.refinement import ContinuumChannels, SmoothContinuum
from kspecsr.models.sr1 import normalised, number_input, observed, prism_inputs, residual_block, sr1_inputs

_PRISM_SPACING = 0.5  # prism pixels between samples of a window
_GRID_SPACING = 1.0  # pixels of the unified grid


def line_branch(sr2: SR2Config, prism, sr1_flux, sr1_error, places, fit, redshift, redshift_error):
    """Build the branch from line tokens to line parameters.

    Args:
        sr2: third stage.
        prism: output of `PrismNormalisation`.
        sr1_flux: (B, N) in units of the scale.
        sr1_error: (B, N) the same.
        places: output of `LinePositions`.
        fit: output of `DirectLineFit`.
        redshift: (B,).
        redshift_error: (B,).

    Returns:
        Output of `LineDecoder`.
    """
    tokens = _tokens(sr2, prism, sr1_flux, sr1_error, places, fit, redshift)
    attends = LinesAttend(name="attends", dtype="float32")(places["in_range"])
    for layer in range(sr2.layers):
        tokens = attention_block(tokens, attends, sr2.heads, sr2.dropout, f"attention{layer}")
    tokens = keras.layers.RMSNormalization(name="token_norm")(tokens)
    small = keras.initializers.VarianceScaling(0.05)
    raw = keras.layers.Dense(HEADS, kernel_initializer=small, dtype="float32", name="line_heads")(tokens)
    votes = keras.layers.Dense(2, kernel_initializer=small, dtype="float32", name="shift_votes")(tokens)
    shift = CommonShift(name="common_shift", dtype="float32")(votes, places["in_range"])
    return LineDecoder(
        sr2.direct_fit,
        sr2.velocity_shift,
        sr2.line_shift,
        sr2.max_velocity_sigma,
        name="decoder",
        dtype="float32",
    )(
        raw,
        shift,
        fit["flux"],
        fit["error"],
        fit["isolated_error"],
        places["wavelength"],
        places["reference_sigma"],
        places["in_range"],
        redshift_error / (1.0 + redshift),
    )


def _tokens(sr2: SR2Config, prism, sr1_flux, sr1_error, places, fit, redshift):
    """(B, K, D) windows through a small network, numbers through a dense layer, and the line's identity."""
    base = fit["continuum"] if sr2.direct_fit else prism["flux"]
    model = fit["model"] if sr2.direct_fit else prism["flux"]
    on_prism, on_grid = WindowChannels(name="window_channels", dtype="float32")(
        *observed(prism), base, model, sr1_flux, sr1_error
    )
    windows = keras.layers.Concatenate(name="windows", dtype="float32")(
        [
            LineWindows(sr2.half_width, _PRISM_SPACING, name="prism_windows", dtype="float32")(
                on_prism, places["prism_pixel"]
            ),
            LineWindows(sr2.half_width, _GRID_SPACING, name="grid_windows", dtype="float32")(
                on_grid, places["grid_pixel"]
            ),
        ]
    )  # (B, K, window, channels)
    lines, window, channels = windows.shape[1:]
    x = keras.layers.Reshape((lines * window, channels), name="window_rows")(windows)
    x = keras.layers.Dense(sr2.window_channels, name="window_projection")(x)
    x = keras.ops.reshape(x, (-1, window, sr2.window_channels))  # (B K, window, channels)
    for layer in range(2):
        x = keras.layers.Conv1D(
            sr2.window_channels, 3, padding="same", activation=sr2.activation, name=f"window_conv{layer}"
        )(x)
    x = MultiScalePooling(name="window_pooling")(x)
    x = keras.layers.Dense(sr2.token_dim, activation=sr2.activation, name="window_dense")(x)
    x = keras.ops.reshape(x, (-1, lines, sr2.token_dim))  # (B, K, D)
    scalars = LineScalars(sr2.direct_fit, name="scalars", dtype="float32")(
        fit["flux"],
        fit["error"],
        fit["isolated_error"],
        places["prism_pixel"],
        places["wavelength"],
        places["in_range"],
        redshift,
    )
    y = keras.layers.Dense(sr2.token_dim, activation=sr2.activation, name="scalar_dense")(scalars)
    tokens = keras.layers.Add(name="tokens")([x, keras.layers.Dense(sr2.token_dim, name="scalar_token")(y)])
    return LineIdentity(name="identity")(tokens)


_AS_DECODED = ("mean", "sigma", "logit", "presence", "prior_weight", "wavelength")  # of `LineDecoder`


def build_sr2(config: ModelConfig) -> keras.Model:
    """Build the third stage.

    Args:
        config: grid and third stage.

    Returns:
        Functional model from the prism, ``sr1_flux``, ``sr1_error``, ``redshift`` and ``redshift_error`` to a
        dictionary, flux densities in 1e-20 erg/s/cm2/A and line fluxes in 1e-20 erg/s/cm2: ``flux``,
        ``flux_error``, ``continuum``, ``continuum_error`` (``flux_error``
        without the part of the lines) (B, N); ``line_flux``, ``line_flux_error``, ``line_presence``,
        ``line_wavelength``, ``line_fwhm`` [um], ``line_equivalent_width`` [Angstrom], ``line_in_range``,
        ``line_prior_weight`` (B, K); ``chi_square`` (B,), ``prism_model`` (B, P). Losses need besides:
        ``line_mean`` and ``line_sigma`` of arcsinh(line flux / ``line_unit``), ``line_logit`` (B, K),
        ``line_mask`` and ``amplitude`` (B, N), ``prism_seen`` (B, P), ``common_shift`` (B,), of all lines as
        a fraction of the wavelength.
    """
    sr2, grid = config.sr2, plain_grid(config.grid)
    inputs = {
        **prism_inputs(),
        **sr1_inputs(config),
        "redshift": number_input("redshift"),
        "redshift_error": number_input("redshift_error"),
    }
    multiply = Multiply(name="multiply", dtype="float32")
    prism, sr1_flux, sr1_error = _scaled(inputs)
    places, fit = _direct_fit(sr2, grid, prism, inputs["redshift"], multiply)
    lines = line_branch(
        sr2, prism, sr1_flux, sr1_error, places, fit, inputs["redshift"], inputs["redshift_error"]
    )
    line_mask = LineMask(grid, name="line_mask", dtype="float32")(
        *(places[name] for name in ("grid_pixel", "wavelength", "reference_sigma", "in_range")),
        inputs["redshift"],
        inputs["redshift_error"],
    )
    drawn, line_variance = LineRendering(grid, name="rendering", dtype="float32")(
        *(lines[name] for name in ("flux", "spread", "place_error", "wavelength", "width")),
        places["in_range"],
    )
    degradation = PrismDegradation(grid, name="degradation", dtype="float32")
    smooth, amplitude = _continuum_branch(sr2, grid, prism, fit, degradation, sr1_flux, sr1_error)
    brightest = BrightestPixel(name="brightest", dtype="float32")(*observed(prism)[:3])
    flux, error, continuum, continuum_error = Refinement(
        sr2.residual_cap, name="refinement", dtype="float32"
    )(sr1_flux, smooth, amplitude, drawn, line_variance, brightest)
    model = degradation(flux)
    chi_square, seen = PrismConsistency(grid, name="consistency", dtype="float32")(
        *observed(prism)[:3], model
    )
    width = EquivalentWidth(name="equivalent_width", dtype="float32")(
        lines["flux"], continuum, error, places["grid_pixel"], places["in_range"], inputs["redshift"]
    )
    in_units = {
        "flux": flux,
        "flux_error": error,
        "continuum": continuum,
        "continuum_error": continuum_error,
        "prism_model": model,
        "amplitude": amplitude,
        "line_flux": lines["flux"],
        "line_flux_error": lines["flux_error"],
        "line_unit": fit["isolated_error"],
    }
    outputs = {
        **{name: multiply(value, prism["scale"]) for name, value in in_units.items()},
        "chi_square": chi_square,
        "common_shift": lines["shift"],
        "prism_seen": seen,
        "line_mask": line_mask,
        "line_fwhm": Fwhm(grid, name="fwhm", dtype="float32")(lines["width"], lines["wavelength"]),
        "line_equivalent_width": width,
        "line_in_range": places["in_range"],
        **{f"line_{name}": lines[name] for name in _AS_DECODED},
    }
    return keras.Model(inputs, outputs, name="sr2")


def _scaled(inputs):
    """Normalised prism, and the first stage's flux and error in units of its scale."""
    prism = normalised(inputs)
    divide = Divide(name="divide", dtype="float32")
    return prism, *(divide(inputs[name], prism["scale"]) for name in ("sr1_flux", "sr1_error"))


def _direct_fit(sr2: SR2Config, grid, prism, redshift, multiply):
    """Positions of the lines, and the least-squares fit to them.

    Lines in a gap, or beyond the end of the data, count as out of range.
    """
    places = LinePositions(grid, name="positions", dtype="float32")(redshift)
    fit = DirectLineFit(sr2.knots, name="direct_fit", dtype="float32")(
        *observed(prism), places["wavelength"], places["prism_sigma"], places["in_range"], redshift
    )
    return {**places, "in_range": multiply(places["in_range"], fit["constrained"])}, fit


def _continuum_branch(sr2: SR2Config, grid, prism, fit, degradation, sr1_flux, sr1_error):
    """Shallow residual convolutions on the prism's pixels; skips scaled by 0.5 (paper section 3.3).

    Returns:
        Proposed continuum, logit of the share that it takes, log sigma (B, N, 3); amplitude (B, N).
    """
    base = fit["continuum"] if sr2.direct_fit else prism["flux"]
    x = ContinuumChannels(name="continuum_channels", dtype="float32")(
        *observed(prism),
        base,
        fit["model"] if sr2.direct_fit else base,
        fit["line_mask"],
        degradation(sr1_flux),
        degradation(sr1_error),
    )
    x = keras.layers.Conv1D(
        sr2.continuum_channels, sr2.continuum_kernel, padding="same", name="continuum_projection"
    )(x)
    for block in range(sr2.continuum_blocks):
        x = residual_block(
            x,
            sr2.continuum_kernel,
            sr2.activation,
            sr2.dropout,
            f"continuum{block}",
            dilation=2 ** (block % 3),
            scale=0.5,
        )
    x = keras.layers.Activation(sr2.activation, name="continuum_activation")(x)
    small = keras.initializers.VarianceScaling(0.05)
    raw = keras.layers.Dense(3, kernel_initializer=small, dtype="float32", name="continuum_output")(x)
    x = SmoothContinuum(name="smooth_continuum", dtype="float32")(
        raw, base, prism["amplitude"], fit["line_mask"]
    )
    x = Upsampling(grid, name="continuum_upsampling", dtype="float32")(x)  # (B, N, 4)
    return x[..., :3], keras.ops.maximum(x[..., 3], 1e-4)


def attention_block(tokens, attends, heads: int, dropout: float, name: str):
    """Self-attention and a pointwise network, normalised before each, with skips.

    Args:
        tokens: (B, K, D).
        attends: (B, 1, K) bool: lines that may be looked at.
        heads: attention heads.
        dropout: probability.
        name: prefix of the layers' names.

    Returns:
        (B, K, D).
    """
    dim = tokens.shape[-1]
    y = keras.layers.RMSNormalization(name=f"{name}_norm1")(tokens)
    y = keras.layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, name=f"{name}_attention")(
        y, y, attention_mask=attends
    )
    tokens = keras.layers.Add(name=f"{name}_add1")([tokens, y])
    y = keras.layers.RMSNormalization(name=f"{name}_norm2")(tokens)
    y = keras.layers.Dense(3 * dim, activation="gelu", name=f"{name}_dense1")(y)
    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = keras.layers.Dense(dim, name=f"{name}_dense2")(y)
    return keras.layers.Add(name=f"{name}_add2")([tokens, y])
