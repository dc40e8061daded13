"""The line branch of the third stage: tokens, attention, and what they say of each line."""

from __future__ import annotations

import keras

from kspecsr.configuration import SR2Config
from kspecsr.layers import (
    LineDecoder,
    LineIdentity,
    LineScalars,
    LineWindows,
    MultiScalePooling,
    attention_block,
)
from kspecsr.layers.line_tokens import HEADS, CommonShift, LinesAttend, WindowChannels

_PRISM_SPACING = 0.5  # prism pixels between samples of a window
_GRID_SPACING = 1.0  # pixels of the unified grid


def line_branch(sr2: SR2Config, prism, sr1_flux, sr1_error, places, fit, redshift, redshift_error):
    """Line tokens to line parameters.

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
        prism["flux"], prism["error"], prism["good"], prism["amplitude"], base, model, sr1_flux, sr1_error
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
